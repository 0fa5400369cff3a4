//! The most probable value first.

use super::Ranking;
use crate::ops::Score;

/// Ranks by the largest probability.
pub(super) struct Confidence;

impl Ranking for Confidence {
    fn on_device(&self) -> Option<Score> {
        Some(Score::Confidence)
    }

    fn score(&self, _: usize, probabilities: &[f64]) -> f64 {
        probabilities.iter().copied().fold(0.0, f64::max)
    }
}
