//! Matrix products of factors that are rounded to bfloat16, added up in single precision.
//!
//! Factors become pairs of neighbours along the inner dimension, which one instruction of AVX-512 multiplies and adds. A
//! processor without it computes nearly the same in plain Rust, much slower, for tests: sums are in another order, and
//! subnormal numbers, which the instruction takes for zero, are kept.

mod pack;

use std::borrow::Cow;
use std::ops::Range;

use self::pack::{RowPanel, Rows};
use super::gemm::{Matrix, Parts, Place};
#[cfg(target_arch = "x86_64")]
use crate::ops::vectors::Isa;

pub use self::pack::{Lanes, rounded};

/// Rows and columns of a micro-tile: 24 vectors of sums, two of columns and one of a row fit the 32 registers.
const MR: usize = 12;
const NR: usize = 32;

/// Inner elements that are added up in registers, and the pairs of these.
const INNER: usize = 256;
const BLOCK: usize = INNER / 2;

/// Two neighbouring factors, the first in the lower half.
type Pair = u32;

/// Whether this processor multiplies pairs of bfloat16 numbers, and may.
pub fn is_native() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        Isa::get() == Isa::Avx512 && is_x86_feature_detected!("avx512bf16")
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        false
    }
}

/// Vectors of sixteen sums, and of sixteen pairs.
trait Vectors: Copy {
    type Sums: Copy;
    type Pairs: Copy;
    /// # Safety
    /// The processor has the instructions; so for all.
    unsafe fn zero() -> Self::Sums;
    unsafe fn splat(pair: Pair) -> Self::Pairs;
    unsafe fn load(pairs: &[Pair; 16]) -> Self::Pairs;
    /// sums + the products of the upper halves + those of the lower halves.
    unsafe fn add_products(sums: Self::Sums, a: Self::Pairs, b: Self::Pairs) -> Self::Sums;
    unsafe fn store(sums: Self::Sums, out: &mut [f32; 16]);
}

/// Plain Rust.
#[derive(Clone, Copy)]
struct Portable;

impl Vectors for Portable {
    type Sums = [f32; 16];
    type Pairs = [Pair; 16];

    unsafe fn zero() -> [f32; 16] {
        [0.0; 16]
    }

    unsafe fn splat(pair: Pair) -> [Pair; 16] {
        [pair; 16]
    }

    unsafe fn load(pairs: &[Pair; 16]) -> [Pair; 16] {
        *pairs
    }

    unsafe fn add_products(mut sums: [f32; 16], a: [Pair; 16], b: [Pair; 16]) -> [f32; 16] {
        let (high, low) = (|x: Pair| f32::from_bits(x & 0xffff_0000), |x: Pair| f32::from_bits(x << 16));
        for i in 0..16 {
            sums[i] += high(a[i]) * high(b[i]);
            sums[i] += low(a[i]) * low(b[i]);
        }
        sums
    }

    unsafe fn store(sums: [f32; 16], out: &mut [f32; 16]) {
        *out = sums;
    }
}

#[cfg(target_arch = "x86_64")]
mod native {
    use std::arch::x86_64::*;
    use std::mem::transmute;

    use super::pack::{RoundedRow, RowPanel, round_pairs};
    use super::{MicroTile, NR, Pair, Vectors};

    /// AVX-512.
    #[derive(Clone, Copy)]
    struct Avx512;

    impl Vectors for Avx512 {
        type Sums = __m512;
        type Pairs = __m512i;

        #[inline(always)]
        unsafe fn zero() -> __m512 {
            // SAFETY: the caller's; so for all.
            unsafe { _mm512_setzero_ps() }
        }

        #[inline(always)]
        unsafe fn splat(pair: Pair) -> __m512i {
            unsafe { _mm512_set1_epi32(pair as i32) }
        }

        #[inline(always)]
        unsafe fn load(pairs: &[Pair; 16]) -> __m512i {
            unsafe { _mm512_loadu_si512(pairs.as_ptr().cast()) }
        }

        #[inline(always)]
        unsafe fn add_products(sums: __m512, a: __m512i, b: __m512i) -> __m512 {
            unsafe {
                _mm512_dpbf16_ps(sums, transmute::<__m512i, __m512bh>(a), transmute::<__m512i, __m512bh>(b))
            }
        }

        #[inline(always)]
        unsafe fn store(sums: __m512, out: &mut [f32; 16]) {
            unsafe { _mm512_storeu_ps(out.as_mut_ptr(), sums) }
        }
    }

    /// See [`super::write`].
    #[target_feature(enable = "avx512f,avx512bf16")]
    pub unsafe fn write(rows: RowPanel, columns: &[[Pair; NR]], tile: MicroTile) {
        // SAFETY: this function is compiled for the instructions, so its caller has checked them; the rest is its own.
        unsafe { super::write::<Avx512>(rows, columns, tile) }
    }

    /// As many pairs as a row of at most [`super::INNER`] elements has.
    #[target_feature(enable = "avx512f,avx512bf16")]
    pub fn round_row(row: &[f32], out: &mut RoundedRow) {
        let (whole, rest) = row.as_chunks::<32>();
        for (row, out) in whole.iter().zip(out.as_chunks_mut::<16>().0) {
            let [low, high] = [0, 16].map(|start| {
                // SAFETY: sixteen elements are read.
                unsafe { _mm512_loadu_ps(row[start..].as_ptr()) }
            });
            // SAFETY: both are 32 numbers of 16 bits; sixteen pairs are written.
            unsafe {
                let pairs = transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(high, low));
                _mm512_storeu_si512(out.as_mut_ptr().cast(), pairs);
            }
        }
        round_pairs(rest, &mut out[16 * whole.len()..]);
    }
}

/// The sums of the products of the first R rows of a panel and a panel of columns, given `pair(index, row)` of the former.
///
/// # Safety
/// The processor has the instructions of `V`; `pair` may be asked for as many pairs as there are of columns.
#[inline(always)]
unsafe fn sums<V: Vectors, const R: usize>(
    columns: &[[Pair; NR]],
    pair: impl Fn(usize, usize) -> Pair,
) -> [[f32; NR]; R] {
    let mut out = [[0.0; NR]; R];
    // SAFETY: the caller's.
    unsafe {
        let mut sums = [[V::zero(); 2]; R];
        for (index, column) in columns.iter().enumerate() {
            let halves = column.as_chunks::<16>().0;
            let (left, right) = (V::load(&halves[0]), V::load(&halves[1]));
            for (row, sums) in sums.iter_mut().enumerate() {
                let pair = V::splat(pair(index, row));
                sums[0] = V::add_products(sums[0], pair, left);
                sums[1] = V::add_products(sums[1], pair, right);
            }
        }
        for (sums, out) in sums.into_iter().zip(&mut out) {
            for (sums, out) in sums.into_iter().zip(out.as_chunks_mut::<16>().0) {
                V::store(sums, out);
            }
        }
    }
    out
}

/// Where the sums of a micro-tile go: its first `rows` and `columns` are inside the result.
#[derive(Clone, Copy)]
struct MicroTile {
    place: Place,
    rows: usize,
    columns: usize,
    factor: f32,
    accumulate: bool,
}

/// Writes the sums of a panel of rows and one of columns, or adds them.
///
/// # Safety
/// The processor has the instructions of `V`; the rows have as many pairs as the columns; the place is valid, and
/// initialised where it is added to.
#[inline(always)]
unsafe fn write<V: Vectors>(rows: RowPanel, columns: &[[Pair; NR]], tile: MicroTile) {
    // SAFETY: the caller's.
    unsafe {
        // Few rows take no longer than they must, and are enough to keep the processor busy.
        match tile.rows {
            0..=4 => write_rows::<V, 4>(rows, columns, tile),
            5..=8 => write_rows::<V, 8>(rows, columns, tile),
            _ => write_rows::<V, MR>(rows, columns, tile),
        }
    }
}

/// [`write`] for at most R rows.
///
/// # Safety
/// As of [`write`].
#[inline(always)]
unsafe fn write_rows<V: Vectors, const R: usize>(rows: RowPanel, columns: &[[Pair; NR]], tile: MicroTile) {
    // SAFETY: the caller's.
    let sums = unsafe {
        match rows {
            RowPanel::ByPair(pairs) => sums::<V, R>(columns, |index, row| pairs.get_unchecked(index)[row]),
            RowPanel::ByRow(rows) => {
                sums::<V, R>(columns, |index, row| rows[row].get_unchecked(index).assume_init())
            }
        }
    };
    for (row, sums) in sums[..tile.rows].iter().enumerate() {
        let write = |column: usize, sum: f32| {
            // SAFETY: the caller's.
            unsafe {
                let out = tile.place.from(row, column).out;
                *out = if tile.accumulate { *out + tile.factor * sum } else { tile.factor * sum };
            }
        };
        match tile.columns {
            // A known number is written by vectors.
            NR => (0..NR).for_each(|column| write(column, sums[column])),
            columns => (0..columns).for_each(|column| write(column, sums[column])),
        }
    }
}

/// Tiles of a result that are made of whole panels, and whose factors fit the inner caches.
pub fn tiles(rows: usize, columns: usize) -> (Parts, Parts) {
    let parts =
        |len: usize, unit: usize, units: usize| Parts { len, count: len.div_ceil(unit * units), unit };
    (parts(rows, MR, 40), parts(columns, NR, 4))
}

/// The rows of a weight, packed.
pub type Weight = Lanes<NR>;

/// Two packed factors of a product.
pub struct Packed<'a> {
    rows: Rows,
    columns: Cow<'a, Weight>,
}

impl<'a> Packed<'a> {
    /// Packs both, on the threads of the pool if these are to share it.
    pub fn new(a: Matrix, b: Matrix, shared: bool) -> Self {
        assert_eq!(a.columns, b.rows);
        Self { rows: Rows::new(a, shared), columns: Cow::Owned(Lanes::new(b.t(), shared)) }
    }

    /// Packs the first; the second is the transpose of a weight.
    pub fn by_weight(a: Matrix, weight: &'a Weight, shared: bool) -> Self {
        Self { rows: Rows::new(a, shared), columns: Cow::Borrowed(weight) }
    }

    /// Writes a tile of factor·a·b, or adds it if `accumulate`. The order of the sums depends on the inner dimension
    /// alone.
    ///
    /// # Safety
    /// `place` is valid for the tile, which starts where panels do; without `accumulate` it need not be initialised.
    pub unsafe fn write(
        &self,
        place: Place,
        rows: Range<usize>,
        columns: Range<usize>,
        factor: f32,
        accumulate: bool,
    ) {
        let native = is_native();
        for block in 0..self.columns.blocks() {
            for column in columns.clone().step_by(NR) {
                let column_panel = self.columns.panel(block, column / NR).as_chunks().0;
                for row in rows.clone().step_by(MR) {
                    let row_panel = self.rows.panel(block, row / MR);
                    // SAFETY: the micro-tile is inside the tile; what is added to is initialised: by the caller or by the
                    // first block. The instructions are those of this processor.
                    unsafe {
                        let tile = MicroTile {
                            place: place.from(row - rows.start, column - columns.start),
                            rows: MR.min(rows.end - row),
                            columns: NR.min(columns.end - column),
                            factor,
                            accumulate: accumulate || block > 0,
                        };
                        match native {
                            #[cfg(target_arch = "x86_64")]
                            true => native::write(row_panel, column_panel, tile),
                            _ => write::<Portable>(row_panel, column_panel, tile),
                        }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::pack::pair;
    use super::*;
    use crate::random::{Draws, Purpose};

    fn drawn(id: u64, len: usize) -> Vec<f32> {
        let draws = Draws::new(id, Purpose::Init);
        (0..len).map(|i| draws.normal(0, i as u32, 0) as f32).collect()
    }

    #[test]
    fn numbers_are_rounded_to_the_nearest() {
        for x in drawn(1, 1000) {
            assert_eq!(rounded(x), half::bf16::from_f32(x).to_f32());
        }
        for x in [0.0, -0.0, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, 1e-40] {
            assert_eq!(rounded(x).to_bits(), half::bf16::from_f32(x).to_f32().to_bits());
        }
        assert!(rounded(f32::NAN).is_nan() && rounded(f32::from_bits(0x7f80_0001)).is_nan());
    }

    /// Products of rounded factors in double precision, for odd sizes, transposes, and blocks of the inner dimension.
    #[test]
    fn products_are_those_of_rounded_factors() {
        println!(
            "instructions of this processor: {}",
            if is_native() { "used" } else { "skipped, there are none" }
        );
        for (m, k, n) in
            [(1, 1, 1), (12, 2, 32), (13, 7, 33), (5, 300, 70), (40, 256, 3), (1, 513, 1), (602, 34, 290)]
        {
            for (transposed_a, transposed_b) in [(false, false), (true, false), (false, true), (true, true)] {
                let (x, y) = (drawn(2, m * k), drawn(3, k * n));
                let a = if transposed_a { Matrix::new(&x, k, m).t() } else { Matrix::new(&x, m, k) };
                let b = if transposed_b { Matrix::new(&y, n, k).t() } else { Matrix::new(&y, k, n) };
                let before = drawn(4, m * n);
                for accumulate in [false, true] {
                    let mut out = before.clone();
                    let place = Place { out: out.as_mut_ptr(), stride: n };
                    // SAFETY: there are m rows of n.
                    unsafe { Packed::new(a, b, m % 2 == 0).write(place, 0..m, 0..n, 0.5, accumulate) };
                    for (index, out) in out.iter().enumerate() {
                        let (i, j) = (index / n, index % n);
                        let at = |x: &Matrix, row: usize, column: usize| {
                            f64::from(rounded(x.values[row * x.row_stride + column * x.column_stride]))
                        };
                        let sum: f64 = (0..k).map(|k| at(&a, i, k) * at(&b, k, j)).sum();
                        let start = if accumulate { f64::from(before[index]) } else { 0.0 };
                        let error = (f64::from(*out) - (start + 0.5 * sum)).abs();
                        assert!(
                            error < 1e-5 * (k as f64).sqrt() + 1e-6,
                            "{m}x{k}x{n} [{i}, {j}]: off by {error}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn the_instructions_give_what_plain_rust_gives() {
        if !is_native() {
            println!("skipped: this processor has no AVX-512 with bfloat16");
            return;
        }
        let pack = |id, width| {
            drawn(id, 2 * 50 * width).chunks(2).map(|two| pair(two[0], two[1])).collect::<Vec<_>>()
        };
        let (rows, columns) = (pack(1, MR), pack(2, NR));
        let (mut ours, mut plain) = ([[0.0f32; NR]; MR], [[0.0f32; NR]; MR]);
        let tile = |out: &mut [[f32; NR]; MR]| MicroTile {
            place: Place { out: out.as_mut_ptr().cast(), stride: NR },
            rows: MR,
            columns: NR,
            factor: 1.0,
            accumulate: false,
        };
        let (rows, columns) = (RowPanel::ByPair(rows.as_chunks().0), columns.as_chunks().0);
        // SAFETY: the instructions are there; plain Rust needs none; both have room for a micro-tile.
        unsafe {
            native::write(rows, columns, tile(&mut ours));
            write::<Portable>(rows, columns, tile(&mut plain));
        }
        for (ours, plain) in ours.as_flattened().iter().zip(plain.as_flattened()) {
            assert!((ours - plain).abs() < 1e-4, "{ours} against {plain}");
        }
    }
}
