//! Scalar building blocks of the CPU kernels, written so that the compiler vectorises them: sums run in
//! sixteen fixed lanes, so they do not depend on the instruction set.

use super::vectors;

const LANES: usize = 16;

/// Calls `work`, compiled for the longest vectors that the processor has and `SUBMASK_VECTOR_BITS` allows. A closure must be
/// `#[inline(always)]`, and so must what it calls; the results are the same bits on every processor, since nothing is contracted.
pub fn vectorized<R>(work: impl FnOnce() -> R) -> R {
    vectors::arch().dispatch(work)
}

/// e^x by Cody-Waite reduction and a degree-6 polynomial (the coefficients of Cephes' `expf`); relative
/// error below 2·10⁻⁷, arguments clamped to −87..88.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    let x = x.clamp(-87.0, 88.0);
    // Adding and subtracting 1.5·2²³ rounds to the nearest integer; between, it is in the lowest bits. (A cast would not be
    // vectorised.)
    let shifted = x * std::f32::consts::LOG2_E + 12_582_912.0;
    let n = shifted - 12_582_912.0;
    let r = x - n * 0.693_359_4 + n * 2.121_944_4e-4;
    let mut p = 1.987_569_1e-4;
    for coefficient in [1.398_2e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_6e-1, 0.5] {
        p = p * r + coefficient;
    }
    let mantissa = p * r * r + r + 1.0;
    f32::from_bits(mantissa.to_bits().wrapping_add(shifted.to_bits() << 23))
}

/// 1/(1 + e^(−x)).
#[inline(always)]
pub fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// The largest element; `f32::MIN` for none.
#[inline(always)]
pub fn max(x: &[f32]) -> f32 {
    max_of([x])
}

/// The largest element of several slices.
#[inline(always)]
pub fn max_of<const N: usize>(parts: [&[f32]; N]) -> f32 {
    let (mut lanes, mut largest) = ([f32::MIN; LANES], f32::MIN);
    for x in parts {
        let chunks = x.chunks_exact(LANES);
        let rest = chunks.remainder();
        for chunk in chunks {
            for (lane, &value) in lanes.iter_mut().zip(chunk) {
                *lane = if value > *lane { value } else { *lane };
            }
        }
        largest = rest.iter().fold(largest, |a, &b| if b > a { b } else { a });
    }
    lanes.iter().fold(largest, |a, &b| if b > a { b } else { a })
}

/// Σ f(x).
#[inline(always)]
pub fn sum(x: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    let mut lanes = [0f32; LANES];
    let chunks = x.chunks_exact(LANES);
    let rest = chunks.remainder();
    for chunk in chunks {
        for (lane, &value) in lanes.iter_mut().zip(chunk) {
            *lane += f(value);
        }
    }
    lanes.iter().sum::<f32>() + rest.iter().map(|&value| f(value)).sum::<f32>()
}

/// Replaces every element by f of it, and adds these up.
#[inline(always)]
pub fn map_sum(x: &mut [f32], f: impl Fn(f32) -> f32) -> f32 {
    map_sum_of([x], f)
}

/// Replaces every element of several slices by f of it, and adds these up.
#[inline(always)]
pub fn map_sum_of<const N: usize>(parts: [&mut [f32]; N], f: impl Fn(f32) -> f32) -> f32 {
    let (mut lanes, mut beside) = ([0f32; LANES], 0.0);
    for x in parts {
        let (chunks, rest) = x.as_chunks_mut::<LANES>();
        for chunk in chunks {
            for (lane, value) in lanes.iter_mut().zip(chunk) {
                *value = f(*value);
                *lane += *value;
            }
        }
        rest.iter_mut().for_each(|value| *value = f(*value));
        beside += rest.iter().sum::<f32>();
    }
    lanes.iter().sum::<f32>() + beside
}

/// Σ x·y.
#[inline(always)]
pub fn dot(x: &[f32], y: &[f32]) -> f32 {
    dot_of([(x, y)])
}

/// Σ x·y over several pairs of slices.
#[inline(always)]
pub fn dot_of<const N: usize>(parts: [(&[f32], &[f32]); N]) -> f32 {
    let (mut lanes, mut beside) = ([0f32; LANES], 0.0);
    for (x, y) in parts {
        let (xs, ys) = (x.chunks_exact(LANES), y.chunks_exact(LANES));
        beside += xs.remainder().iter().zip(ys.remainder()).map(|(a, b)| a * b).sum::<f32>();
        for (a, b) in xs.zip(ys) {
            for i in 0..LANES {
                lanes[i] += a[i] * b[i];
            }
        }
    }
    lanes.iter().sum::<f32>() + beside
}

/// y += f·x.
#[inline(always)]
pub fn add_scaled(y: &mut [f32], x: &[f32], factor: f32) {
    for (y, &x) in y.iter_mut().zip(x) {
        *y += factor * x;
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn exp_is_accurate_over_its_range() {
        for i in -8600..=8700 {
            let x = i as f32 / 100.0;
            let exact = f64::from(x).exp();
            assert!((f64::from(super::exp(x)) / exact - 1.0).abs() < 3e-7, "{x}");
        }
    }
}
