//! Matrix products in single precision.
//!
//! An element of a result is one chain: from 0, or from what is added to, the products a·b of the inner dimension are
//! added in order, each by a fused multiply-add, which rounds once. Blocks of the inner dimension continue the chain, and
//! a factor is multiplied with its end. So the bits depend on no block, no number of rows and threads, and no length of
//! vectors.
//!
//! The second factor is packed in panels of columns (by the weights of inference once and for all), the first one in
//! blocks of rows that stay in the second cache while the panels go by.

mod kernel;
mod pack;
mod vector;

use std::borrow::Cow;
use std::cell::RefCell;
use std::mem::MaybeUninit;
use std::ops::Range;

use self::kernel::{Panels, RowBlock, Tile, multiply, tile_columns, tile_rows};
use self::pack::{pack_panel, pack_rows, row_lines};
use super::gemm::{Matrix, Parts, Place};
use crate::ops::vectors::Isa;

pub use self::pack::{Columns, DEPTH, Line, NR, Rows, pack_columns};

/// Most rows of a tile: with a block of the inner dimension they take a quarter of a megabyte, half of a second cache.
const ROWS: usize = 264;

/// Rows and columns of a tile that are worth packing what it reads.
const FEWEST: [usize; 2] = [48, 64];

/// Columns that are enough for a tile where there are many.
const ENOUGH: usize = 256;

/// Columns whose products are finished while they are in a cache.
const FINISHED: usize = 128;

/// Elements of the second factor that are packed at once for tiles that share them, for every thread.
const PACKED: usize = 1 << 20;

thread_local! {
    /// A block of rows, and panels that are used once.
    static SCRATCH: RefCell<Vec<Line>> = const { RefCell::new(Vec::new()) };
}

/// Tiles of a result, whose rows and columns are packed by whoever multiplies them.
pub fn tiles(rows: usize, columns: usize, shared: bool) -> (Parts, Parts) {
    let threads = if shared { rayon::current_num_threads() } else { 1 };
    let mut row_parts = rows.div_ceil(ROWS);
    let mut column_parts = 1;
    if threads > 1 {
        if row_parts > 1 {
            // Rather of fewer rows than of fewer columns: rows are packed for each tile, columns once for all.
            let most = rows / FEWEST[0] / threads * threads;
            row_parts = row_parts.max(most.min(4 * threads));
        }
        let most = (columns / ENOUGH).max(1);
        column_parts = (4 * threads).div_ceil(row_parts).min(most);
        if row_parts * column_parts < threads {
            column_parts = threads.div_ceil(row_parts).min((columns / FEWEST[1]).max(1));
            row_parts = threads.div_ceil(column_parts).min(rows / FEWEST[0]).max(row_parts);
        }
        // No thread waits while another has the last tile, unless there are many tiles.
        if row_parts > 1 && row_parts * column_parts < 8 * threads {
            let is_even = |parts: &usize| (parts * column_parts).is_multiple_of(threads);
            let even = (row_parts..2 * row_parts).find(|parts| is_even(parts) && rows / parts >= FEWEST[0]);
            row_parts = even.unwrap_or(row_parts);
        }
    }
    let isa = Isa::get();
    (
        Parts { len: rows, count: row_parts, unit: tile_rows(isa) },
        Parts { len: columns, count: column_parts, unit: tile_columns(isa) },
    )
}

/// Columns of the second factor that are packed at once, for tiles of several rows of tiles.
pub fn columns_at_once(inner: usize) -> usize {
    let elements = PACKED * rayon::current_num_threads().clamp(2, 16);
    (elements / inner.max(1)).max(1).next_multiple_of(ENOUGH)
}

/// The second factor.
pub enum Second<'a> {
    /// A matrix that every tile packs for itself.
    Matrix(Matrix<'a>),
    /// Panels.
    Packed(Cow<'a, Columns>),
    /// Panels that are written when they are needed.
    Written(WritePanel<'a>),
}

/// What writes a panel, given its first row and its first column, with as many rows as there are lines.
pub type WritePanel<'a> = &'a (dyn Fn(usize, usize, &mut [MaybeUninit<Line>]) + Sync);

/// The first factor.
#[derive(Clone, Copy)]
pub enum First<'a> {
    /// A matrix that every tile packs for itself.
    Matrix(Matrix<'a>),
    /// Packed rows.
    Packed(&'a Rows),
}

impl First<'_> {
    /// Length of a row.
    fn inner(&self) -> usize {
        match self {
            Self::Matrix(matrix) => matrix.columns,
            Self::Packed(rows) => rows.inner(),
        }
    }

    /// Some rows in the block that starts at `start`, packed to `lines` unless they are.
    fn block<'x>(
        &'x self,
        isa: Isa,
        start: usize,
        rows: Range<usize>,
        lines: &'x mut [Line],
    ) -> RowBlock<'x> {
        match self {
            Self::Matrix(matrix) => match tile_rows(isa) {
                kernel::MR => pack_rows::<{ kernel::MR }>(matrix.some_rows(rows), start, lines),
                _ => pack_rows::<{ kernel::MR_512 }>(matrix.some_rows(rows), start, lines),
            },
            Self::Packed(packed) => packed.from(start, rows.start),
        }
    }
}

/// The factors of a product.
pub struct Factors<'a> {
    pub a: First<'a>,
    pub b: Second<'a>,
    pub isa: Isa,
}

impl Factors<'_> {
    /// Writes a tile of factor·a·b, or adds a·b to it if `accumulate`, where the factor is 1; calls `finish` with columns of
    /// it that are ready.
    ///
    /// # Safety
    /// `place` is valid for the tile, whose columns start where panels do, and used by nobody else; without `accumulate` it
    /// need not be initialised.
    pub unsafe fn write(
        &self,
        place: Place,
        rows: Range<usize>,
        columns: Range<usize>,
        (factor, accumulate): (f32, bool),
        finish: impl Fn(Range<usize>),
    ) {
        assert!(columns.start.is_multiple_of(NR) && (factor == 1.0 || !accumulate));
        let step = tile_columns(self.isa);
        let packed = row_lines(rows.len().next_multiple_of(tile_rows(self.isa)));
        SCRATCH.with_borrow_mut(|scratch| {
            scratch.resize(scratch.len().max(packed + step / NR * DEPTH), Line::default());
            let (block, panels) = scratch.split_at_mut(packed);
            let inner = self.a.inner();
            for start in (0..inner).step_by(DEPTH) {
                let depth = DEPTH.min(inner - start);
                let block = self.a.block(self.isa, start, rows.clone(), block);
                let is_last = start + depth == inner;
                for column in columns.clone().step_by(step) {
                    let end = columns.end.min(column + step);
                    let lines = self.panels(start, column..end, depth, panels);
                    // SAFETY: the caller's; what was written for an earlier block is initialised.
                    unsafe {
                        let tile = Tile {
                            out: place.from(0, column - columns.start).out,
                            stride: place.stride,
                            rows: rows.len(),
                            columns: end - column,
                            go_on: accumulate || start > 0,
                            factor: (is_last && factor != 1.0).then_some(factor),
                        };
                        multiply(self.isa, block, Panels { lines, depth }, tile);
                    }
                    let done = end - columns.start;
                    if is_last && (done.is_multiple_of(FINISHED) || end == columns.end) {
                        finish(columns.start + (done - 1) / FINISHED * FINISHED..end);
                    }
                }
            }
        });
    }

    /// Panels of some columns in the block of `depth` elements from `start` on.
    fn panels<'x>(
        &'x self,
        start: usize,
        columns: Range<usize>,
        depth: usize,
        scratch: &'x mut [Line],
    ) -> &'x [Line] {
        if let Second::Packed(packed) = &self.b {
            return packed.from(start, columns.start / NR);
        }
        let places = scratch.chunks_exact_mut(depth).zip(columns.step_by(NR));
        match &self.b {
            Second::Packed(_) => {}
            Second::Matrix(matrix) => {
                places.for_each(|(lines, column)| pack_panel(*matrix, start, column, as_room(lines)));
            }
            Second::Written(write) => {
                places.for_each(|(lines, column)| write(start, column, as_room(lines)));
            }
        }
        scratch
    }
}

/// Lines as room for others.
fn as_room(lines: &mut [Line]) -> &mut [MaybeUninit<Line>] {
    // SAFETY: what holds a line has room for one, and nothing takes a value away.
    unsafe { &mut *(std::ptr::from_mut(lines) as *mut [MaybeUninit<Line>]) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Draws, Purpose};

    fn drawn(id: u64, len: usize) -> Vec<f32> {
        let draws = Draws::new(id, Purpose::Init);
        (0..len).map(|i| draws.normal(0, i as u32, 0) as f32).collect()
    }

    /// The chain that is promised.
    fn chain(a: Matrix, b: Matrix, [i, j]: [usize; 2], start: f32) -> f32 {
        let at =
            |x: &Matrix, row: usize, column: usize| x.values[row * x.row_stride + column * x.column_stride];
        (0..a.columns).fold(start, |sum, k| at(&a, i, k).mul_add(at(&b, k, j), sum))
    }

    const SHAPES: [(usize, usize, usize); 12] = [
        (1, 1, 1),
        (1, 300, 17),
        (2, 5, 33),
        (5, 256, 16),
        (6, 257, 15),
        (7, 3, 48),
        (12, 64, 32),
        (13, 513, 31),
        (25, 4, 130),
        (70, 66, 64),
        (270, 7, 5),
        (601, 19, 290),
    ];

    /// For every length of vectors that this processor has, and in plain Rust.
    #[test]
    fn elements_are_chains_of_fused_multiply_adds() {
        for (m, k, n) in SHAPES {
            for (transposed_a, transposed_b) in [(false, false), (true, false), (false, true), (true, true)] {
                let (x, y) = (drawn(2, m * (k + 3)), drawn(3, k * n));
                let a = match transposed_a {
                    true => Matrix::new(&x[..m * k], k, m).t(),
                    false => Matrix::strided(&x, m, k, k + 3),
                };
                let b = if transposed_b { Matrix::new(&y, n, k).t() } else { Matrix::new(&y, k, n) };
                let before = drawn(4, m * n);
                for isa in Isa::all() {
                    for (factor, accumulate, packed) in
                        [(1.0, false, false), (0.7, false, true), (1.0, true, false), (1.0, true, true)]
                    {
                        let mut out = before.clone();
                        let place = Place { out: out.as_mut_ptr(), stride: n };
                        let second = match packed {
                            true => Second::Packed(Cow::Owned(Columns::new(b, m % 2 == 0))),
                            false => Second::Matrix(b),
                        };
                        // SAFETY: there are m rows of n.
                        unsafe {
                            let factors = Factors { a: First::Matrix(a), b: second, isa };
                            factors.write(place, 0..m, 0..n, (factor, accumulate), |_| ());
                        }
                        for (index, out) in out.iter().enumerate() {
                            let start = if accumulate { before[index] } else { 0.0 };
                            let expected = factor * chain(a, b, [index / n, index % n], start);
                            assert_eq!(
                                out.to_bits(),
                                expected.to_bits(),
                                "{isa:?}, {m}x{k}x{n}, transposed: {transposed_a}, {transposed_b}, packed: {packed}"
                            );
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn tiles_are_enough_and_not_too_small() {
        for threads in [1, 2, 3, 16] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            for rows in [1, 5, 48, 100, 256, 300, 1024, 4096, 100_001] {
                for columns in [1, 64, 257, 1024, 50_257] {
                    let (row_parts, column_parts) = pool.install(|| tiles(rows, columns, true));
                    assert!(row_parts.count >= rows.div_ceil(ROWS) && column_parts.count >= 1);
                    assert!(row_parts.count == 1 || rows / row_parts.count >= FEWEST[0]);
                    assert!(column_parts.count == 1 || columns / column_parts.count >= FEWEST[1]);
                    let (most_rows, most_columns) = (rows / FEWEST[0], columns / FEWEST[1]);
                    let count = row_parts.count * column_parts.count;
                    assert!(
                        count >= threads || count >= most_rows.max(1) * most_columns.max(1) / 4,
                        "{rows}, {columns}"
                    );
                }
            }
        }
    }
}
