//! Vectors of single-precision numbers, of every length that a processor may have.

use super::pack::NR;

/// Vectors of single-precision numbers.
pub trait Vector {
    /// Elements of a vector, a divisor of [`NR`].
    const LANES: usize;
    type Vector: Copy;
    /// # Safety
    /// The processor has the instructions, and pointers are valid for what is read or written; so for all.
    unsafe fn splat(x: *const f32) -> Self::Vector;
    unsafe fn load(x: *const f32) -> Self::Vector;
    unsafe fn store(x: *mut f32, vector: Self::Vector);
    /// a·b + c, rounded once.
    unsafe fn fused(a: Self::Vector, b: Self::Vector, c: Self::Vector) -> Self::Vector;
    unsafe fn product(a: Self::Vector, b: Self::Vector) -> Self::Vector;
    /// Asks for a cache line that is written soon.
    #[inline(always)]
    fn prefetch(_: *const f32) {}
}

/// Plain Rust, for processors whose vectors have no fused multiply-add.
pub struct Portable;

impl Vector for Portable {
    const LANES: usize = NR;
    type Vector = [f32; NR];

    #[inline(always)]
    unsafe fn splat(x: *const f32) -> [f32; NR] {
        // SAFETY: the caller's; so for all.
        [unsafe { *x }; NR]
    }

    #[inline(always)]
    unsafe fn load(x: *const f32) -> [f32; NR] {
        unsafe { x.cast::<[f32; NR]>().read() }
    }

    #[inline(always)]
    unsafe fn store(x: *mut f32, vector: [f32; NR]) {
        unsafe { x.cast::<[f32; NR]>().write(vector) }
    }

    #[inline(always)]
    unsafe fn fused(a: [f32; NR], b: [f32; NR], c: [f32; NR]) -> [f32; NR] {
        std::array::from_fn(|lane| fused(a[lane], b[lane], c[lane]))
    }

    #[inline(always)]
    unsafe fn product(a: [f32; NR], b: [f32; NR]) -> [f32; NR] {
        std::array::from_fn(|lane| a[lane] * b[lane])
    }
}

/// a·b + c, rounded once, without an instruction for it: the product is exact in double precision, the sum is rounded to
/// an odd last bit unless it is exact, too, and then to single precision. (Boldo and Melquiond, Emulation of a FMA and
/// correctly rounded sums: proved algorithms using rounding to odd, 2008.)
#[inline(always)]
fn fused(a: f32, b: f32, c: f32) -> f32 {
    let (product, c) = (f64::from(a) * f64::from(b), f64::from(c));
    let sum = product + c;
    // What the sum lost, by Knuth's two-sum; not a number where the sum is not finite.
    let part = sum - product;
    let lost = (product - (sum - part)) + (c - part);
    let bits = sum.to_bits();
    let away = (lost > 0.0) == (sum > 0.0);
    let odd = if away { bits | 1 } else { bits.wrapping_sub(1 - (bits & 1)) };
    // False for what is not a number.
    let is_inexact = lost.abs() > 0.0;
    f64::from_bits(if is_inexact { odd } else { bits }) as f32
}

/// Vectors of x86 processors with FMA3.
#[cfg(target_arch = "x86_64")]
pub mod x86 {
    use std::arch::x86_64::*;

    use super::Vector;

    macro_rules! vectors {
        ($name:ident, $vector:ident, $lanes:literal, $splat:ident, $load:ident, $store:ident, $fused:ident, $product:ident) => {
            pub struct $name;

            impl Vector for $name {
                const LANES: usize = $lanes;
                type Vector = $vector;

                #[inline(always)]
                unsafe fn splat(x: *const f32) -> $vector {
                    // SAFETY: the caller's; so for all.
                    unsafe { $splat(*x) }
                }

                #[inline(always)]
                unsafe fn load(x: *const f32) -> $vector {
                    unsafe { $load(x) }
                }

                #[inline(always)]
                unsafe fn store(x: *mut f32, vector: $vector) {
                    unsafe { $store(x, vector) }
                }

                #[inline(always)]
                unsafe fn fused(a: $vector, b: $vector, c: $vector) -> $vector {
                    unsafe { $fused(a, b, c) }
                }

                #[inline(always)]
                unsafe fn product(a: $vector, b: $vector) -> $vector {
                    unsafe { $product(a, b) }
                }

                #[inline(always)]
                fn prefetch(x: *const f32) {
                    // SAFETY: nothing is read, so any address will do.
                    unsafe { _mm_prefetch::<_MM_HINT_T0>(x.cast()) }
                }
            }
        };
    }

    vectors!(Xmm, __m128, 4, _mm_set1_ps, _mm_loadu_ps, _mm_storeu_ps, _mm_fmadd_ps, _mm_mul_ps);
    vectors!(
        Ymm,
        __m256,
        8,
        _mm256_set1_ps,
        _mm256_loadu_ps,
        _mm256_storeu_ps,
        _mm256_fmadd_ps,
        _mm256_mul_ps
    );
    vectors!(
        Zmm,
        __m512,
        16,
        _mm512_set1_ps,
        _mm512_loadu_ps,
        _mm512_storeu_ps,
        _mm512_fmadd_ps,
        _mm512_mul_ps
    );
}

#[cfg(target_arch = "aarch64")]
pub mod neon {
    use std::arch::aarch64::*;

    use super::Vector;

    /// NEON, which every processor of this architecture has.
    pub struct Neon;

    impl Vector for Neon {
        const LANES: usize = 4;
        type Vector = float32x4_t;

        #[inline(always)]
        unsafe fn splat(x: *const f32) -> float32x4_t {
            // SAFETY: the caller's; so for all.
            unsafe { vld1q_dup_f32(x) }
        }

        #[inline(always)]
        unsafe fn load(x: *const f32) -> float32x4_t {
            unsafe { vld1q_f32(x) }
        }

        #[inline(always)]
        unsafe fn store(x: *mut f32, vector: float32x4_t) {
            unsafe { vst1q_f32(x, vector) }
        }

        #[inline(always)]
        unsafe fn fused(a: float32x4_t, b: float32x4_t, c: float32x4_t) -> float32x4_t {
            unsafe { vfmaq_f32(c, a, b) }
        }

        #[inline(always)]
        unsafe fn product(a: float32x4_t, b: float32x4_t) -> float32x4_t {
            unsafe { vmulq_f32(a, b) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::fused;
    use crate::random::{Draws, Purpose};

    /// Numbers of all magnitudes, near cancellation, subnormal and not finite.
    #[test]
    fn plain_rust_rounds_once() {
        let draws = Draws::new(1, Purpose::Init);
        let bits = |event: u32, i: u32| (draws.uniform(0, i, event) * f64::from(u32::MAX)) as u32;
        let special = [0.0, -0.0, 1.0, f32::MIN_POSITIVE, 1e-45, f32::MAX, f32::INFINITY, f32::NAN];
        let check = |a: f32, b: f32, c: f32| {
            let (ours, exact) = (fused(a, b, c), a.mul_add(b, c));
            assert!(
                ours.to_bits() == exact.to_bits() || ours.is_nan() && exact.is_nan(),
                "{a:e} · {b:e} + {c:e} = {exact:e}, not {ours:e}"
            );
        };
        for i in 0..200_000 {
            let [a, b, c] = [0, 1, 2].map(|event| f32::from_bits(bits(event, i)));
            check(a, b, c);
            // Where nearly everything cancels, and where a last bit decides.
            let near = f32::from_bits((-(a * b)).to_bits() ^ (i & 3));
            check(a, b, near);
            check(a, b, near * 2f32.powi(24 - (i % 48) as i32));
            check(a * 1e-30, b * 1e-30, c);
        }
        for a in special {
            for b in special {
                special.iter().for_each(|c| check(a, b, *c));
            }
        }
    }
}
