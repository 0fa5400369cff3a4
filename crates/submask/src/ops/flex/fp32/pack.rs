//! Factors in the order in which micro-tiles read them.

use std::mem::MaybeUninit;

use rayon::prelude::*;

use super::kernel::RowBlock;
use crate::ops::flex::gemm::{Matrix, for_each_chunk};
use crate::ops::flex::{filled, room};

/// Columns of a panel.
pub const NR: usize = 16;

/// Elements of the inner dimension that are added while sums stay in registers: a panel of so many fills half of a small
/// first cache.
pub const DEPTH: usize = 256;

/// Columns that are packed at once where they do not stand beside each other: as many numbers as a vector has without AVX.
const FOUR: usize = 4;

/// Panels of rows that are packed together where rows stand beside each other, so that cache lines are used up.
const TOGETHER: usize = 8;

/// Elements beside each other, on a cache line of their own.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[repr(C, align(64))]
pub struct Line(pub [f32; NR]);

/// The columns of a matrix: blocks of [`DEPTH`] rows, each of panels of [`NR`] columns, [block][panel][row][column], zero
/// beyond the last column.
#[derive(Clone, Debug)]
pub struct Columns {
    lines: Vec<Line>,
    panels: usize,
    /// Rows of the matrix.
    inner: usize,
}

impl Columns {
    /// Packs a matrix, on the threads of the pool if these are to share it.
    pub fn new(matrix: Matrix, shared: bool) -> Self {
        let (inner, panels) = (matrix.rows, matrix.columns.div_ceil(NR));
        let mut lines = room(panels * inner);
        for_each_chunk(&mut lines, (panels * DEPTH).max(1), shared, |block, lines| {
            for_each_chunk(lines, lines.len() / panels, shared, |panel, lines| {
                pack_panel(matrix, block * DEPTH, panel * NR, lines);
            });
        });
        // SAFETY: every panel is written whole.
        Self { lines: unsafe { filled(lines) }, panels, inner }
    }

    /// Panels from `panel` on in the block that starts at row `start`.
    pub fn from(&self, start: usize, panel: usize) -> &[Line] {
        let depth = DEPTH.min(self.inner - start);
        &self.lines[start * self.panels + panel * depth..(start + depth) * self.panels]
    }

    /// The element of a row and a column.
    pub fn get(&self, row: usize, column: usize) -> f32 {
        self.from(row - row % DEPTH, column / NR)[row % DEPTH].0[column % NR]
    }
}

/// Writes a panel: columns from `first` on of as many rows from `start` on as there are lines.
pub fn pack_panel(matrix: Matrix, start: usize, first: usize, lines: &mut [MaybeUninit<Line>]) {
    let count = NR.min(matrix.columns - first);
    if matrix.column_stride == 1 {
        for (row, line) in (start..).zip(lines) {
            let row = &matrix.values[row * matrix.row_stride + first..];
            line.write(match row.first_chunk() {
                Some(row) if count == NR => Line(*row),
                _ => {
                    let mut line = Line::default();
                    line.0[..count].copy_from_slice(&row[..count]);
                    line
                }
            });
        }
        return;
    }
    let depth = lines.len();
    let column = |index: usize| &matrix.values[(first + index) * matrix.column_stride + start..][..depth];
    pack_columns(count, column, lines);
}

/// Writes a panel of `count` columns, the elements of each of which stand beside each other.
pub fn pack_columns<'a>(count: usize, column: impl Fn(usize) -> &'a [f32], lines: &mut [MaybeUninit<Line>]) {
    // Columns beyond the last are read as the last, and then are zero.
    let columns: [&[f32]; NR] = std::array::from_fn(|index| column(index.min(count - 1)));
    let whole = transpose(columns, lines);
    for (row, line) in lines.iter_mut().enumerate().skip(whole) {
        line.write(Line(columns.map(|column| column[row])));
    }
    if count < NR {
        for line in lines {
            // SAFETY: all have been written.
            unsafe { line.assume_init_mut() }.0[count..].fill(0.0);
        }
    }
}

/// Writes the first lines, whose elements come from a column each, as many as go into blocks of four; returns their number.
#[cfg(target_arch = "x86_64")]
fn transpose(columns: [&[f32]; NR], lines: &mut [MaybeUninit<Line>]) -> usize {
    use std::arch::x86_64::*;
    assert!(columns.iter().all(|column| column.len() == lines.len()));
    let whole = lines.len() / FOUR * FOUR;
    let out: *mut f32 = lines.as_mut_ptr().cast();
    for row in (0..whole).step_by(FOUR) {
        for first in (0..NR).step_by(FOUR) {
            // SAFETY: the instructions are those of every processor of this architecture; elements row..row + 4 are inside
            // the columns, as are these lines.
            unsafe {
                let load = |index: usize| _mm_loadu_ps(columns[first + index].as_ptr().add(row));
                let [mut a, mut b, mut c, mut d] = [load(0), load(1), load(2), load(3)];
                _MM_TRANSPOSE4_PS(&mut a, &mut b, &mut c, &mut d);
                for (index, part) in [a, b, c, d].into_iter().enumerate() {
                    _mm_storeu_ps(out.add((row + index) * NR + first), part);
                }
            }
        }
    }
    whole
}

#[cfg(not(target_arch = "x86_64"))]
fn transpose(_: [&[f32]; NR], _: &mut [MaybeUninit<Line>]) -> usize {
    0
}

/// Packs a block of a matrix, the products of which are made next, for micro-tiles of M rows.
pub fn pack_rows<'a, const M: usize>(matrix: Matrix, start: usize, lines: &'a mut [Line]) -> RowBlock<'a> {
    let depth = DEPTH.min(matrix.columns - start);
    if matrix.column_stride == 1 {
        pack_by_rows(matrix, start, lines);
        return RowBlock::ByRows(lines);
    }
    let elements = elements(lines);
    for (group, out) in elements.chunks_mut(TOGETHER * depth * M).enumerate() {
        let first = group * TOGETHER * M;
        if first >= matrix.rows {
            break;
        }
        let count = (TOGETHER * M).min(matrix.rows - first);
        for k in 0..depth {
            let column = &matrix.values[(start + k) * matrix.column_stride + first..][..count];
            let (whole, rest) = column.as_chunks::<M>();
            for (panel, rows) in whole.iter().enumerate() {
                let place = (panel * depth + k) * M;
                out[place..place + M].copy_from_slice(rows);
            }
            if !rest.is_empty() {
                let place = (whole.len() * depth + k) * M;
                out[place..][..rest.len()].copy_from_slice(rest);
            }
        }
    }
    RowBlock::ByColumns(lines)
}

/// Rows of a matrix, packed for many tiles: [block][row][[`DEPTH`]].
pub struct Rows {
    lines: Vec<Line>,
    rows: usize,
    inner: usize,
}

impl Rows {
    /// Packs the rows of a matrix, whose elements stand beside each other.
    pub fn new(matrix: Matrix) -> Self {
        let mut lines = vec![Line::default(); row_lines(matrix.rows * matrix.columns.div_ceil(DEPTH))];
        for (block, lines) in lines.chunks_exact_mut(row_lines(matrix.rows).max(1)).enumerate() {
            pack_by_rows(matrix, block * DEPTH, lines);
        }
        Self { lines, rows: matrix.rows, inner: matrix.columns }
    }

    /// Rows in the order [member][group], made a group at a time: `make` writes all members of one, [member][inner].
    pub fn in_groups(
        groups: usize,
        members: usize,
        inner: usize,
        make: impl Fn(usize, &mut [f32]) + Sync + Send,
    ) -> Self {
        let rows = groups * members;
        let mut lines = room(row_lines(rows * inner.div_ceil(DEPTH)));
        let mut places: Vec<Vec<&mut [MaybeUninit<Line>]>> = (0..groups).map(|_| Vec::new()).collect();
        for (row, lines) in lines.chunks_exact_mut(DEPTH / NR).enumerate() {
            places[row % groups].push(lines);
        }
        places.into_par_iter().enumerate().for_each_init(
            || vec![0.0; members * inner],
            |made, (group, places)| {
                make(group, made);
                for (place, lines) in places.into_iter().enumerate() {
                    let (block, member) = (place / members, place % members);
                    let row = &made[member * inner..(member + 1) * inner][block * DEPTH..];
                    let (whole, rest) = row[..row.len().min(DEPTH)].as_chunks();
                    for (index, line) in lines.iter_mut().enumerate() {
                        line.write(whole.get(index).map_or_else(Line::default, |row| Line(*row)));
                    }
                    if !rest.is_empty() {
                        let mut line = Line::default();
                        line.0[..rest.len()].copy_from_slice(rest);
                        lines[whole.len()].write(line);
                    }
                }
            },
        );
        // SAFETY: the rows of all groups are all rows, and all their lines are written.
        Self { lines: unsafe { filled(lines) }, rows, inner }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Length of a row.
    pub fn inner(&self) -> usize {
        self.inner
    }

    /// Rows from `row` on of the block that starts at `start`.
    pub fn from(&self, start: usize, row: usize) -> RowBlock<'_> {
        RowBlock::ByRows(&self.lines[row_lines(start / DEPTH * self.rows + row)..])
    }
}

/// Packs a block of rows whose elements stand beside each other.
fn pack_by_rows(matrix: Matrix, start: usize, lines: &mut [Line]) {
    let depth = DEPTH.min(matrix.columns - start);
    for (row, lines) in lines.chunks_exact_mut(DEPTH / NR).take(matrix.rows).enumerate() {
        let (whole, rest) = matrix.row(row)[start..start + depth].as_chunks();
        lines.iter_mut().zip(whole).for_each(|(line, row)| line.0 = *row);
        if !rest.is_empty() {
            lines[whole.len()].0[..rest.len()].copy_from_slice(rest);
        }
    }
}

/// The elements of lines.
fn elements(lines: &mut [Line]) -> &mut [f32] {
    let len = lines.len() * NR;
    // SAFETY: a line is as many elements and nothing else.
    unsafe { std::slice::from_raw_parts_mut(lines.as_mut_ptr().cast(), len) }
}

/// Lines that [`pack_rows`] needs for so many rows.
pub fn row_lines(rows: usize) -> usize {
    rows * DEPTH / NR
}
