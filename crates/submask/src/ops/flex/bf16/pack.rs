//! Factors rounded to bfloat16 and brought into the order in which micro-tiles read them.

use std::mem::MaybeUninit;

#[cfg(target_arch = "x86_64")]
use super::native;
use super::{BLOCK, INNER, MR, Pair, is_native};
use crate::ops::flex::gemm::{Matrix, for_each_chunk};
use crate::ops::flex::{filled, room};
use crate::ops::lanes;

/// Panels that a task packs, of lanes whose elements stand beside each other.
const GROUP: usize = 4;

/// [`round`] as a number.
pub fn rounded(x: f32) -> f32 {
    f32::from_bits(round(x) << 16)
}

/// The nearest bfloat16, the even one of two that are equally near; what is not a number stays so.
#[inline(always)]
pub(super) fn round(x: f32) -> u32 {
    let bits = x.to_bits();
    let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16;
    if x.is_nan() { bits >> 16 | 0x40 } else { rounded }
}

#[inline(always)]
pub(super) fn pair(low: f32, high: f32) -> Pair {
    round(low) | round(high) << 16
}

/// Of two elements, or of the last one.
#[inline(always)]
fn pair_of(elements: &[f32]) -> Pair {
    pair(elements[0], elements.get(1).copied().unwrap_or(0.0))
}

/// The rows of a matrix as lanes: blocks of [`INNER`] elements of the inner dimension, each of panels of `WIDTH` lanes,
/// [block][panel][pair][lane], zero beyond the last lane and the last element.
#[derive(Clone, Debug)]
pub struct Lanes<const WIDTH: usize> {
    pairs: Vec<Pair>,
    panels: usize,
    /// Pairs of a lane in all blocks.
    inner: usize,
}

impl<const WIDTH: usize> Lanes<WIDTH> {
    pub fn new(matrix: Matrix, shared: bool) -> Self {
        let (panels, inner) = (matrix.rows.div_ceil(WIDTH), matrix.columns.div_ceil(2));
        let mut pairs = room(panels * inner * WIDTH);
        // Lanes that stand beside each other are read together.
        let group = match matrix.column_stride {
            1 => GROUP,
            _ => panels.div_ceil(rayon::current_num_threads()),
        };
        for_each_chunk(&mut pairs, panels * BLOCK * WIDTH, shared, |block, out| {
            let matrix = block_of(matrix, block);
            for_each_chunk(out, group * matrix.columns.div_ceil(2) * WIDTH, shared, |index, out| {
                lanes::vectorized(
                    #[inline(always)]
                    || match matrix.column_stride {
                        1 => pack_rows::<WIDTH>(out, matrix, index * group * WIDTH),
                        _ => pack_columns::<WIDTH>(out, matrix, index * group * WIDTH),
                    },
                );
            });
        });
        // SAFETY: both ways write whole panels.
        Self { pairs: unsafe { filled(pairs) }, panels, inner }
    }

    /// [pair][lane] of a panel in a block.
    pub fn panel(&self, block: usize, panel: usize) -> &[Pair] {
        let start = block * BLOCK;
        let pairs = (self.inner - start).min(BLOCK);
        &self.pairs[(start * self.panels + panel * pairs) * WIDTH..][..pairs * WIDTH]
    }

    pub fn blocks(&self) -> usize {
        self.inner.div_ceil(BLOCK)
    }

    /// The element of a lane and a place of the inner dimension.
    pub fn get(&self, lane: usize, inner: usize) -> f32 {
        let panel = self.panel(inner / INNER, lane / WIDTH);
        let pair = panel[inner % INNER / 2 * WIDTH + lane % WIDTH];
        f32::from_bits(if inner.is_multiple_of(2) { pair << 16 } else { pair & 0xffff_0000 })
    }
}

/// A row of a block, rounded; pairs beyond the last element of a matrix are missing.
pub(super) type RoundedRow = [MaybeUninit<Pair>; BLOCK];

/// The first factor: rows whose elements do not stand beside each other as [`Lanes`], others as they are, rounded:
/// [block][row], the last row again up to a whole panel.
pub(super) enum Rows {
    ByPair(Lanes<MR>),
    ByRow { rows: Vec<RoundedRow>, count: usize },
}

/// A panel of a block of [`Rows`].
#[derive(Clone, Copy)]
pub(super) enum RowPanel<'a> {
    ByPair(&'a [[Pair; MR]]),
    ByRow(&'a [RoundedRow; MR]),
}

impl Rows {
    pub fn new(matrix: Matrix, shared: bool) -> Self {
        if matrix.column_stride != 1 {
            return Self::ByPair(Lanes::new(matrix, shared));
        }
        let count = matrix.rows.next_multiple_of(MR);
        let mut rows = vec![[MaybeUninit::uninit(); BLOCK]; count * matrix.columns.div_ceil(INNER)];
        for_each_chunk(&mut rows, count, shared, |block, out| {
            let matrix = block_of(matrix, block);
            for_each_chunk(out, GROUP * MR, shared, |group, out| {
                for (index, out) in out.iter_mut().enumerate() {
                    round_row(matrix.row((group * GROUP * MR + index).min(matrix.rows - 1)), out);
                }
            });
        });
        Self::ByRow { rows, count }
    }

    pub fn panel(&self, block: usize, panel: usize) -> RowPanel<'_> {
        match self {
            Self::ByPair(lanes) => RowPanel::ByPair(lanes.panel(block, panel).as_chunks().0),
            Self::ByRow { rows, count } => {
                RowPanel::ByRow(rows[block * count + panel * MR..].first_chunk().expect("panels are whole"))
            }
        }
    }
}

/// Writes as many pairs as a row of at most [`INNER`] elements has.
fn round_row(row: &[f32], out: &mut RoundedRow) {
    #[cfg(target_arch = "x86_64")]
    if is_native() {
        // SAFETY: the instructions are there.
        return unsafe { native::round_row(row, out) };
    }
    round_pairs(row, out);
}

/// [`round_row`] in plain Rust.
#[inline(always)]
pub(super) fn round_pairs(row: &[f32], out: &mut [MaybeUninit<Pair>]) {
    for (out, two) in out.iter_mut().zip(row.chunks(2)) {
        out.write(pair_of(two));
    }
}

/// The `block`-th [`INNER`] columns of a matrix.
fn block_of(matrix: Matrix<'_>, block: usize) -> Matrix<'_> {
    matrix.some_columns(block * INNER..matrix.columns.min((block + 1) * INNER))
}

/// Packs panels from lane `first` on, whose elements stand beside each other.
#[inline(always)]
fn pack_rows<const WIDTH: usize>(out: &mut [MaybeUninit<Pair>], matrix: Matrix, first: usize) {
    let inner = matrix.columns;
    for (panel, out) in out.chunks_exact_mut(inner.div_ceil(2) * WIDTH).enumerate() {
        let first = first + panel * WIDTH;
        let count = WIDTH.min(matrix.rows - first);
        for (part, out) in out.chunks_mut(16 * WIDTH).enumerate() {
            let start = 32 * part;
            let mut pairs = [[0; 16]; WIDTH];
            for (lane, pairs) in pairs[..count].iter_mut().enumerate() {
                let row = &matrix.values[(first + lane) * matrix.row_stride..][..inner][start..];
                match row.first_chunk::<32>() {
                    Some(row) => *pairs = std::array::from_fn(|i| pair(row[2 * i], row[2 * i + 1])),
                    None => {
                        for (out, two) in pairs.iter_mut().zip(row.chunks(2)) {
                            *out = pair_of(two);
                        }
                    }
                }
            }
            for (i, out) in out.chunks_exact_mut(WIDTH).enumerate() {
                for (out, pairs) in out.iter_mut().zip(&pairs) {
                    out.write(pairs[i]);
                }
            }
        }
    }
}

/// Packs panels from lane `first` on, where lanes stand beside each other.
#[inline(always)]
fn pack_columns<const WIDTH: usize>(out: &mut [MaybeUninit<Pair>], matrix: Matrix, first: usize) {
    let (inner, pairs) = (matrix.columns, matrix.columns.div_ceil(2));
    let lanes = |k: usize, first: usize, count: usize| {
        &matrix.values[k * matrix.column_stride + first * matrix.row_stride..][..count]
    };
    for index in 0..pairs {
        for (panel, out) in out.chunks_exact_mut(pairs * WIDTH).enumerate() {
            let out = &mut out[index * WIDTH..][..WIDTH];
            let first = first + panel * WIDTH;
            let count = WIDTH.min(matrix.rows - first);
            let low = lanes(2 * index, first, count);
            if count == WIDTH && 2 * index + 1 < inner {
                let high = lanes(2 * index + 1, first, count);
                for (out, (low, high)) in out.iter_mut().zip(low.iter().zip(high)) {
                    out.write(pair(*low, *high));
                }
                continue;
            }
            for (lane, out) in out.iter_mut().enumerate() {
                let at = |k: usize| match lane < count && k < inner {
                    true => lanes(k, first + lane, 1)[0],
                    false => 0.0,
                };
                out.write(pair(at(2 * index), at(2 * index + 1)));
            }
        }
    }
}
