//! The least uncertain value first.

use super::Ranking;
use crate::ops::Score;

/// The negative entropy Σ p log p.
pub(super) struct Entropy;

impl Ranking for Entropy {
    fn on_device(&self) -> Option<Score> {
        Some(Score::Entropy)
    }

    fn score(&self, _: usize, probabilities: &[f64]) -> f64 {
        probabilities.iter().filter(|p| **p > 0.0).fold(0.0, |sum, p| sum + p * p.ln())
    }
}
