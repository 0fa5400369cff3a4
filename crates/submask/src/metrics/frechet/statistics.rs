//! Mean and covariance of features.

use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};
use rayon::prelude::*;

use crate::{Error, Result};

/// Vectors whose products are summed at once. Part of the definition of the sums' order.
const BLOCK: usize = 256;

/// Rows of the covariance that are computed together. Part of the definition of the sums' order.
const STRIP: usize = 128;

/// Mean and covariance of a set of feature vectors.
#[derive(Clone, Debug, PartialEq)]
pub struct FeatureStatistics {
    /// Mean of the features μ, \[d\].
    pub mean: Vec<f64>,
    /// Σ [d, d], unbiased: Σᵢⱼ = Σₙ (xₙᵢ − μᵢ)(xₙⱼ − μⱼ) / (N − 1).
    pub covariance: Vec<f64>,
    /// N; files of other programs do not tell.
    pub count: Option<u64>,
}

impl FeatureStatistics {
    /// Of `features` [N, d], in f64 and in an order that depends on neither threads nor batches.
    ///
    /// # Errors
    /// As [`StatisticsAccumulator::push`] and [`StatisticsAccumulator::finish`].
    pub fn of(features: &[f32], dimension: usize) -> Result<Self> {
        let mut accumulator = StatisticsAccumulator::new(dimension)?;
        accumulator.push(features)?;
        accumulator.finish()
    }

    /// Number of features d.
    pub fn dimension(&self) -> usize {
        self.mean.len()
    }
}

/// Sums up features as they come. The result is the same however they are divided into calls of [`Self::push`].
#[derive(Clone, Debug)]
pub struct StatisticsAccumulator {
    /// Vectors that wait until there are [`BLOCK`] of them.
    waiting: Vec<f64>,
    count: u64,
    mean: Vec<f64>,
    /// Σₙ (xₙ − μ)(xₙ − μ)ᵀ.
    scatter: Vec<f64>,
}

impl StatisticsAccumulator {
    /// For vectors of `dimension` features.
    ///
    /// # Errors
    /// [`Error::Invalid`] for 0.
    pub fn new(dimension: usize) -> Result<Self> {
        if dimension == 0 {
            return Err(Error::invalid("dimension", 0, "1 or more features"));
        }
        Ok(Self {
            waiting: Vec::with_capacity(BLOCK * dimension),
            count: 0,
            mean: vec![0.0; dimension],
            scatter: vec![0.0; dimension * dimension],
        })
    }

    /// Adds `features` [n, d].
    ///
    /// # Errors
    /// [`Error::Invalid`] for a part of a vector or a number that is not finite.
    pub fn push(&mut self, features: &[f32]) -> Result<()> {
        let dimension = self.mean.len();
        if !features.len().is_multiple_of(dimension) {
            let allowed = format!("a multiple of the dimension {dimension}");
            return Err(Error::invalid("number of features", features.len(), allowed));
        }
        if let Some(value) = features.iter().find(|value| !value.is_finite()) {
            return Err(Error::invalid("feature", value, "finite numbers"));
        }
        for vector in features.chunks_exact(dimension) {
            self.waiting.extend(vector.iter().map(|value| f64::from(*value)));
            if self.waiting.len() == BLOCK * dimension {
                self.add_waiting();
            }
        }
        Ok(())
    }

    /// The statistics.
    ///
    /// # Errors
    /// [`Error::Invalid`] for fewer than two vectors, which have no covariance.
    pub fn finish(mut self) -> Result<FeatureStatistics> {
        self.add_waiting();
        if self.count < 2 {
            return Err(Error::invalid("number of images", self.count, "2 or more, to have a covariance"));
        }
        let dimension = self.mean.len();
        let mut covariance = self.scatter;
        covariance.iter_mut().for_each(|sum| *sum /= (self.count - 1) as f64);
        for i in 0..dimension {
            for j in 0..i {
                covariance[j * dimension + i] = covariance[i * dimension + j];
            }
        }
        Ok(FeatureStatistics { mean: self.mean, covariance, count: Some(self.count) })
    }

    /// Merges the waiting vectors: with δ the difference of the two means, the scatter of both sets together is the
    /// sum of their scatters and δδᵀ·n₁n₂/(n₁ + n₂) (Chan, Golub, LeVeque, *Updating formulae and a pairwise
    /// algorithm for computing sample variances*, 1979).
    fn add_waiting(&mut self) {
        let dimension = self.mean.len();
        let count = self.waiting.len() / dimension;
        if count == 0 {
            return;
        }
        let mut block_mean = vec![0.0; dimension];
        for vector in self.waiting.chunks_exact(dimension) {
            block_mean.iter_mut().zip(vector).for_each(|(sum, value)| *sum += value);
        }
        block_mean.iter_mut().for_each(|sum| *sum /= count as f64);
        for vector in self.waiting.chunks_exact_mut(dimension) {
            vector.iter_mut().zip(&block_mean).for_each(|(value, mean)| *value -= mean);
        }
        let (old, new) = (self.count as f64, count as f64);
        let delta: Vec<f64> = block_mean.iter().zip(&self.mean).map(|(block, mean)| block - mean).collect();
        let weight = old * new / (old + new);
        let centred = MatRef::from_row_major_slice(&self.waiting, count, dimension);
        self.scatter.par_chunks_mut(STRIP * dimension).enumerate().for_each(|(strip, sums)| {
            let (first, rows) = (strip * STRIP, sums.len() / dimension);
            for (row, sums) in sums.chunks_exact_mut(dimension).enumerate() {
                let factor = weight * delta[first + row];
                sums.iter_mut().zip(&delta).for_each(|(sum, delta)| *sum += factor * delta);
            }
            let sums = MatMut::from_row_major_slice_mut(sums, rows, dimension);
            let part = centred.subcols(first, rows);
            matmul(sums, Accum::Add, part.transpose(), centred, 1.0, Par::Seq);
        });
        self.mean.iter_mut().zip(&delta).for_each(|(mean, delta)| *mean += delta * new / (old + new));
        self.count += count as u64;
        self.waiting.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::frechet::distance::tests::features;

    #[test]
    fn covariance_is_numpys() {
        // numpy.mean and numpy.cov(rowvar=False) of the features of scripts/frechet_fixture.py, see there.
        let statistics = FeatureStatistics::of(&features(7, 3, 1, 2.0), 3).unwrap();
        let close = |values: &[f64], expected: &[f64]| {
            values.iter().zip(expected).for_each(|(a, b)| assert!((a - b).abs() < 1e-14, "{a} {b}"));
        };
        close(&statistics.mean, &MEAN);
        close(&statistics.covariance, &COVARIANCE);
        assert_eq!(statistics.count, Some(7));
    }

    const MEAN: [f64; 3] = [0.06133881104843957, 0.15519924674715316, 0.6389684102364949];
    const COVARIANCE: [f64; 9] = [
        0.17657129106271552,
        -0.06275982664498,
        -0.09912675024078163,
        -0.06275982664498,
        0.1839829848419721,
        -0.010874464812158483,
        -0.09912675024078163,
        -0.010874464812158483,
        0.1475213057941035,
    ];

    #[test]
    fn statistics_are_the_same_however_the_features_come() {
        let features = features(600, 130, 3, 1.0);
        let whole = FeatureStatistics::of(&features, 130).unwrap();
        for pieces in [1, 7, 256, 300] {
            let mut accumulator = StatisticsAccumulator::new(130).unwrap();
            features.chunks(pieces * 130).for_each(|piece| accumulator.push(piece).unwrap());
            assert_eq!(accumulator.finish().unwrap(), whole);
        }
        let threads = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        assert_eq!(threads.install(|| FeatureStatistics::of(&features, 130)).unwrap(), whole);
    }

    #[test]
    fn a_large_common_offset_costs_no_digits() {
        // The offset and the features are sums of powers of two, so the inputs are exact.
        let raw: Vec<f32> = (0..1000).map(|i| ((i * 37) % 64) as f32 / 64.0).collect();
        let moved: Vec<f32> = raw.iter().map(|value| value + 65536.0).collect();
        let (a, b) = (FeatureStatistics::of(&raw, 2).unwrap(), FeatureStatistics::of(&moved, 2).unwrap());
        a.covariance.iter().zip(&b.covariance).for_each(|(a, b)| assert!((a - b).abs() < 1e-12, "{a} {b}"));
    }

    #[test]
    fn bad_features_are_refused() {
        let problem = |features: &[f32]| FeatureStatistics::of(features, 2).unwrap_err().to_string();
        assert!(problem(&[1.0; 3]).contains("number of features = 3"));
        assert!(problem(&[1.0; 2]).contains("number of images = 1"));
        assert!(problem(&[1.0, f32::NAN]).contains("feature = NaN"));
        assert!(FeatureStatistics::of(&[], 0).unwrap_err().to_string().contains("dimension = 0"));
    }
}
