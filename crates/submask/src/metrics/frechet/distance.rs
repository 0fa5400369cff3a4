//! The Fréchet distance of two Gaussians.

use faer::diag::Diag;
use faer::dyn_stack::{MemBuffer, MemStack, StackReq};
use faer::linalg::evd::{ComputeEigenvectors, self_adjoint_evd, self_adjoint_evd_scratch};
use faer::linalg::matmul::matmul;
use faer::linalg::svd::{ComputeSvdVectors, svd, svd_scratch};
use faer::{Accum, Mat, MatRef, Par};

use super::statistics::FeatureStatistics;
use crate::{Error, Result};

/// How far below zero an eigenvalue of a covariance may be, relative to the largest: rounding.
const TOLERANCE: f64 = 1e-6;

/// d² = |μ₁ − μ₂|² + Tr(Σ₁ + Σ₂ − 2·(Σ₁Σ₂)^½) ≥ 0 (Dowson, Landau, *The Fréchet distance between multivariate normal
/// distributions*, 1982).
///
/// With Σ = AAᵀ from the eigenvalues and eigenvectors of each, A = U·Λ^½, the trace of (Σ₁Σ₂)^½ is the sum of the
/// singular values of A₁ᵀA₂. Singular covariances need no special care: no root is taken of what rounding leaves of a
/// zero of the product. For d = 2048 this takes two eigenproblems and one singular value problem of that size, on one
/// thread, so that the result does not depend on their number.
///
/// # Errors
/// [`Error::Invalid`] for statistics of different dimensions, or a matrix that is no covariance.
pub fn frechet_distance(a: &FeatureStatistics, b: &FeatureStatistics) -> Result<f64> {
    if a.dimension() != b.dimension() {
        let allowed = format!("{}, as the statistics to compare with have", b.dimension());
        return Err(Error::invalid("number of features", a.dimension(), allowed));
    }
    let d = a.dimension();
    let offset: f64 = a.mean.iter().zip(&b.mean).map(|(a, b)| (a - b) * (a - b)).sum();
    let trace = |s: &FeatureStatistics| -> f64 { (0..d).map(|i| s.covariance[i * d + i]).sum() };
    let (root_a, root_b) = (root(a)?, root(b)?);
    let mut product = Mat::<f64>::zeros(d, d);
    matmul(product.as_mut(), Accum::Replace, root_a.transpose(), root_b.as_ref(), 1.0, Par::Seq);
    let singular: f64 = singular_values(&product)?.iter().sum();
    Ok((offset + trace(a) + trace(b) - 2.0 * singular).max(0.0))
}

/// A with AAᵀ = Σ.
fn root(statistics: &FeatureStatistics) -> Result<Mat<f64>> {
    let d = statistics.dimension();
    let covariance = &statistics.covariance;
    if covariance.len() != d * d || !covariance.iter().chain(&statistics.mean).all(|value| value.is_finite())
    {
        let allowed = format!("{d} × {d} finite numbers, like the mean");
        return Err(Error::invalid("covariance", format!("{} numbers", covariance.len()), allowed));
    }
    let covariance = MatRef::from_row_major_slice(covariance, d, d);
    let (mut values, mut vectors) = (Diag::<f64>::zeros(d), Mat::<f64>::zeros(d, d));
    let scratch = self_adjoint_evd_scratch::<f64>(d, ComputeEigenvectors::Yes, Par::Seq, Default::default());
    let mut buffer = buffer(scratch)?;
    self_adjoint_evd(
        covariance,
        values.as_mut(),
        Some(vectors.as_mut()),
        Par::Seq,
        MemStack::new(&mut buffer),
        Default::default(),
    )
    .map_err(|_| unsolved("eigenvalues"))?;
    let values: Vec<f64> = (0..d).map(|i| values[i]).collect();
    let largest = values.iter().fold(0.0f64, |largest, value| largest.max(value.abs()));
    if let Some(negative) = values.iter().find(|value| **value < -TOLERANCE * largest) {
        let given = format!("a matrix with eigenvalue {negative}");
        return Err(Error::invalid("covariance", given, "eigenvalues of 0 or more"));
    }
    for (i, value) in values.iter().enumerate() {
        let scale = value.max(0.0).sqrt();
        vectors.col_mut(i).iter_mut().for_each(|element| *element *= scale);
    }
    Ok(vectors)
}

fn singular_values(matrix: &Mat<f64>) -> Result<Vec<f64>> {
    let d = matrix.nrows();
    let mut values = Diag::<f64>::zeros(d);
    let none = ComputeSvdVectors::No;
    let mut buffer = buffer(svd_scratch::<f64>(d, d, none, none, Par::Seq, Default::default()))?;
    let stack = MemStack::new(&mut buffer);
    svd(matrix.as_ref(), values.as_mut(), None, None, Par::Seq, stack, Default::default())
        .map_err(|_| unsolved("singular values"))?;
    Ok((0..d).map(|i| values[i]).collect())
}

fn buffer(request: StackReq) -> Result<MemBuffer> {
    let bytes = request.unaligned_bytes_required();
    MemBuffer::try_new(request)
        .map_err(|_| Error::invalid("number of features", format!("one that needs {bytes} bytes"), "fewer"))
}

fn unsolved(what: &str) -> Error {
    Error::invalid("covariance", format!("a matrix whose {what} are not found"), "a covariance of features")
}

#[cfg(test)]
pub(in crate::metrics) mod tests {
    use super::*;

    /// Features [n, d] that scripts/frechet_fixture.py makes too: numbers u of a linear congruential generator, neighbours
    /// mixed, x_j = scale·(u_j + u_{j−1}/2) + j/4, rounded to f32.
    pub fn features(n: usize, d: usize, seed: u64, scale: f64) -> Vec<f32> {
        let mut state = seed;
        let mut features = Vec::new();
        for _ in 0..n {
            let mut last = 0.0;
            for j in 0..d {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                let u = (state >> 33) as f64 / 2f64.powi(31) - 0.5;
                features.push((scale * (u + last / 2.0) + j as f64 / 4.0) as f32);
                last = u;
            }
        }
        features
    }

    fn gaussian(mean: &[f64], covariance: &[f64]) -> FeatureStatistics {
        FeatureStatistics { mean: mean.to_vec(), covariance: covariance.to_vec(), count: None }
    }

    fn diagonal(mean: &[f64], variances: &[f64]) -> FeatureStatistics {
        let d = mean.len();
        let covariance: Vec<f64> =
            (0..d * d).map(|i| if i / d == i % d { variances[i / d] } else { 0.0 }).collect();
        gaussian(mean, &covariance)
    }

    #[test]
    fn in_one_dimension_it_is_the_difference_of_means_and_deviations() {
        for (m1, s1, m2, s2) in
            [(0.0, 1.0, 0.0, 1.0), (1.5, 2.0, -1.0, 0.5), (3.0, 0.0, 3.0, 4.0), (0.0, 0.0, 1.0, 0.0)]
        {
            let distance =
                frechet_distance(&gaussian(&[m1], &[s1 * s1]), &gaussian(&[m2], &[s2 * s2])).unwrap();
            let expected: f64 = (m1 - m2) * (m1 - m2) + (s1 - s2) * (s1 - s2);
            assert!((distance - expected).abs() < 1e-12, "{distance} {expected}");
        }
    }

    #[test]
    fn with_diagonal_covariances_it_is_the_sum_over_dimensions() {
        let a = diagonal(&[0.0, 1.0, 2.0, 3.0], &[1.0, 4.0, 0.0, 9.0]);
        let b = diagonal(&[1.0, 1.0, 0.0, 3.5], &[4.0, 4.0, 2.25, 0.0]);
        let expected = (1.0 + 1.0) + 0.0 + (4.0 + 2.25) + (0.25 + 9.0);
        assert!((frechet_distance(&a, &b).unwrap() - expected).abs() < 1e-12);
    }

    #[test]
    fn commuting_covariances_give_the_distance_of_their_roots() {
        // Both have the eigenvectors (3, 4)/5 and (−4, 3)/5: Σ₁ has 4 and 9, Σ₂ has 16 and 1, so that
        // Tr(Σ₁^½ − Σ₂^½)² = (2 − 4)² + (3 − 1)².
        let rotated = |x: f64, y: f64| {
            let off = 12.0 * (x - y) / 25.0;
            gaussian(&[0.0, 0.0], &[(9.0 * x + 16.0 * y) / 25.0, off, off, (16.0 * x + 9.0 * y) / 25.0])
        };
        let distance = frechet_distance(&rotated(4.0, 9.0), &rotated(16.0, 1.0)).unwrap();
        assert!((distance - 8.0).abs() < 1e-12, "{distance}");
    }

    #[test]
    fn it_is_scipys_to_a_millionth() {
        for (d, n1, n2, expected) in SCIPY {
            let a = FeatureStatistics::of(&features(n1, d, 1, 1.0), d).unwrap();
            let b = FeatureStatistics::of(&features(n2, d, 2, 1.5), d).unwrap();
            let distance = frechet_distance(&a, &b).unwrap();
            assert!((distance - expected).abs() < 1e-6 * expected, "{d}: {distance} {expected}");
            let reverse = frechet_distance(&b, &a).unwrap();
            assert!((reverse - distance).abs() < 1e-9 * expected, "{d}: {reverse} {distance}");
        }
    }

    /// (d, N₁, N₂, distance) as scripts/frechet_fixture.py prints; the last is of singular covariances.
    const SCIPY: [(usize, usize, usize, f64); 4] = [
        (4, 50, 60, 0.24024368449261813),
        (16, 200, 100, 0.5332056114466814),
        (48, 300, 400, 1.6738225563371554),
        (24, 12, 15, 3.5385919384489046),
    ];

    #[test]
    fn identical_sets_have_distance_zero() {
        // Of full rank, and with fewer vectors than features; features of the size of Inception's and larger.
        for (n, d, scale) in [(500, 32, 1.0), (40, 200, 1.0), (40, 200, 30.0)] {
            let statistics = FeatureStatistics::of(&features(n, d, 5, scale), d).unwrap();
            let distance = frechet_distance(&statistics, &statistics).unwrap();
            assert!(distance < 1e-6, "{n} × {d}: {distance}");
        }
    }

    #[test]
    fn what_is_no_pair_of_gaussians_is_refused() {
        let problem = |a, b| frechet_distance(&a, &b).unwrap_err().to_string();
        let unit = || diagonal(&[0.0, 0.0], &[1.0, 1.0]);
        assert!(
            problem(diagonal(&[0.0], &[1.0]), unit()).contains("number of features = 1 is not allowed: 2")
        );
        assert!(problem(diagonal(&[0.0, 0.0], &[1.0, -0.1]), unit()).contains("eigenvalue -0.1"));
        assert!(problem(unit(), gaussian(&[0.0, 0.0], &[1.0])).contains("1 numbers is not allowed: 2 × 2"));
        assert!(problem(unit(), gaussian(&[0.0, f64::NAN], &[1.0; 4])).contains("finite numbers"));
    }
}
