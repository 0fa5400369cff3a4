//! Matrix products of factors that are rounded to bfloat16, added up in single precision.
//!
//! Factors are packed into pairs of neighbours along the inner dimension, which one instruction of AVX-512 multiplies
//! and adds. A processor without it computes the same in plain Rust, much slower: for tests.

use super::gemm::Matrix;
use crate::ops::lanes;

/// Rows and columns of a micro-tile: 24 vectors of sums, two of columns and one of a row fit the 32 registers.
const MR: usize = 12;
const NR: usize = 32;

/// Inner elements that are added up in registers.
const INNER: usize = 256;

/// Two neighbouring factors, the first in the lower half.
type Pair = u32;

/// Whether this processor multiplies pairs of bfloat16 numbers.
pub fn is_native() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bf16")
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        false
    }
}

/// The nearest bfloat16, the even one of two that are equally near; what is not a number stays so.
#[inline(always)]
fn round(x: f32) -> u32 {
    let bits = x.to_bits();
    let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16;
    if x.is_nan() { bits >> 16 | 0x40 } else { rounded }
}

#[inline(always)]
fn pair(low: f32, high: f32) -> Pair {
    round(low) | round(high) << 16
}

/// Packs lanes (rows of the first factor or columns of the second) of an inner block into panels of `WIDTH` lanes:
/// [panel][pair][lane], zero beyond the last.
///
/// Element (lane, k) stands at `values[lane·lane_stride + k·inner_stride]`.
fn pack<const WIDTH: usize>(out: &mut Vec<Pair>, values: &[f32], sizes: [usize; 2], strides: [usize; 2]) {
    let [lanes, inner] = sizes;
    out.clear();
    out.resize(lanes.div_ceil(WIDTH) * inner.div_ceil(2) * WIDTH, 0);
    lanes::vectorized(
        #[inline(always)]
        || fill::<WIDTH>(out, values, sizes, strides),
    );
}

/// See [`pack`]; `out` is zero before.
#[inline(always)]
fn fill<const WIDTH: usize>(
    out: &mut [Pair],
    values: &[f32],
    [lanes, inner]: [usize; 2],
    [lane_stride, inner_stride]: [usize; 2],
) {
    let pairs = inner.div_ceil(2);
    for (panel, out) in out.chunks_exact_mut(pairs * WIDTH).enumerate() {
        let first = panel * WIDTH;
        let count = WIDTH.min(lanes - first);
        if inner_stride == 1 {
            for lane in 0..count {
                let row = &values[(first + lane) * lane_stride..][..inner];
                for (out, two) in out.chunks_exact_mut(WIDTH).zip(row.chunks(2)) {
                    out[lane] = pair(two[0], two.get(1).copied().unwrap_or(0.0));
                }
            }
            continue;
        }
        for (index, out) in out.chunks_exact_mut(WIDTH).enumerate() {
            let at = |lane: usize, k: usize| match k < inner {
                true => values[(first + lane) * lane_stride + k * inner_stride],
                false => 0.0,
            };
            for (lane, out) in out[..count].iter_mut().enumerate() {
                *out = pair(at(lane, 2 * index), at(lane, 2 * index + 1));
            }
        }
    }
}

/// Vectors of sixteen sums, and of sixteen pairs.
trait Lanes: Copy {
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

impl Lanes for Portable {
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

    use super::{Lanes, MR, NR, Pair, sums};

    /// AVX-512.
    #[derive(Clone, Copy)]
    struct Avx512;

    impl Lanes for Avx512 {
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

    #[target_feature(enable = "avx512f,avx512bf16")]
    pub fn sums_native(rows: &[Pair], columns: &[Pair], out: &mut [[f32; NR]; MR]) {
        // SAFETY: this function is compiled for the instructions, so its caller has checked them.
        unsafe { sums::<Avx512>(rows, columns, out) }
    }
}

/// The sums of the products of a panel of rows and one of columns, of as many pairs.
///
/// # Safety
/// The processor has the instructions of `L`.
#[inline(always)]
unsafe fn sums<L: Lanes>(rows: &[Pair], columns: &[Pair], out: &mut [[f32; NR]; MR]) {
    // SAFETY: the caller's.
    unsafe {
        let mut sums = [[L::zero(); 2]; MR];
        for (row, column) in rows.as_chunks::<MR>().0.iter().zip(columns.as_chunks::<NR>().0) {
            let halves = column.as_chunks::<16>().0;
            let (left, right) = (L::load(&halves[0]), L::load(&halves[1]));
            for (sums, pair) in sums.iter_mut().zip(row) {
                let pair = L::splat(*pair);
                sums[0] = L::add_products(sums[0], pair, left);
                sums[1] = L::add_products(sums[1], pair, right);
            }
        }
        for (sums, out) in sums.into_iter().zip(out) {
            for (sums, out) in sums.into_iter().zip(out.as_chunks_mut::<16>().0) {
                L::store(sums, out);
            }
        }
    }
}

/// Packed factors of one thread, used again.
#[derive(Default)]
struct Packed {
    rows: Vec<Pair>,
    columns: Vec<Pair>,
}

thread_local! {
    static PACKED: std::cell::RefCell<Packed> = std::cell::RefCell::default();
}

/// Writes factor·a·b, or adds it if `accumulate`, to rows that start `stride` elements apart. The order of the sums
/// depends on the inner dimension alone.
///
/// # Safety
/// `out` is valid for a.rows rows of b.columns elements; without `accumulate` they need not be initialised.
pub unsafe fn product(out: *mut f32, stride: usize, a: Matrix, b: Matrix, factor: f32, accumulate: bool) {
    let native = is_native();
    let run = |rows: &[Pair], columns: &[Pair], tile: &mut [[f32; NR]; MR]| match native {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the instructions are there.
        true => unsafe { native::sums_native(rows, columns, tile) },
        // SAFETY: no special instructions are needed.
        _ => unsafe { sums::<Portable>(rows, columns, tile) },
    };
    let mut tile = [[0.0; NR]; MR];
    PACKED.with_borrow_mut(|packed| {
        for start in (0..a.columns).step_by(INNER) {
            let inner = INNER.min(a.columns - start);
            let accumulate = accumulate || start > 0;
            let rows = &a.values[start * a.column_stride..];
            pack::<MR>(&mut packed.rows, rows, [a.rows, inner], [a.row_stride, a.column_stride]);
            let columns = &b.values[start * b.row_stride..];
            pack::<NR>(&mut packed.columns, columns, [b.columns, inner], [b.column_stride, b.row_stride]);
            let pairs = inner.div_ceil(2);
            for (j, columns) in packed.columns.chunks_exact(pairs * NR).enumerate() {
                for (i, rows) in packed.rows.chunks_exact(pairs * MR).enumerate() {
                    run(rows, columns, &mut tile);
                    let width = NR.min(b.columns - j * NR);
                    for (r, sums) in tile[..MR.min(a.rows - i * MR)].iter().enumerate() {
                        // SAFETY: the row and its first `width` elements from here on are inside the result, says the
                        // caller.
                        let out = unsafe { out.add((i * MR + r) * stride + j * NR) };
                        for (c, sum) in sums[..width].iter().enumerate() {
                            // SAFETY: as above; what is added to is initialised: by the caller or by the first block.
                            unsafe {
                                let out = out.add(c);
                                *out = if accumulate { *out + factor * sum } else { factor * sum };
                            }
                        }
                    }
                }
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Draws, Purpose};

    fn drawn(id: u64, len: usize) -> Vec<f32> {
        let draws = Draws::new(id, Purpose::Init);
        (0..len).map(|i| draws.normal(0, i as u32, 0) as f32).collect()
    }

    fn rounded(x: f32) -> f32 {
        f32::from_bits(round(x) << 16)
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
        for (m, k, n) in [(1, 1, 1), (12, 2, 32), (13, 7, 33), (5, 300, 70), (40, 256, 3), (1, 513, 1)] {
            for (transposed_a, transposed_b) in [(false, false), (true, false), (false, true), (true, true)] {
                let (x, y) = (drawn(2, m * k), drawn(3, k * n));
                let a = if transposed_a { Matrix::new(&x, k, m).t() } else { Matrix::new(&x, m, k) };
                let b = if transposed_b { Matrix::new(&y, n, k).t() } else { Matrix::new(&y, k, n) };
                let before = drawn(4, m * n);
                for accumulate in [false, true] {
                    let mut out = before.clone();
                    // SAFETY: there are m rows of n.
                    unsafe { product(out.as_mut_ptr(), n, a, b, 0.5, accumulate) };
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
        let (mut ours, mut plain) = ([[0.0; NR]; MR], [[0.0; NR]; MR]);
        // SAFETY: the instructions are there; plain Rust needs none.
        unsafe {
            native::sums_native(&rows, &columns, &mut ours);
            sums::<Portable>(&rows, &columns, &mut plain);
        }
        for (ours, plain) in ours.as_flattened().iter().zip(plain.as_flattened()) {
            assert!((ours - plain).abs() < 1e-4, "{ours} against {plain}");
        }
    }
}
