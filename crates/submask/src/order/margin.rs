//! The clearest choice between two values first.

use super::Ranking;
use crate::ops::Score;

/// The largest less the second largest probability, p₁ − p₂.
pub(super) struct Margin;

impl Ranking for Margin {
    fn on_device(&self) -> Option<Score> {
        Some(Score::Margin)
    }

    fn score(&self, _: usize, probabilities: &[f64]) -> f64 {
        let (mut first, mut second) = (0.0, 0.0);
        for &p in probabilities {
            (first, second) = if p > first { (p, first) } else { (first, f64::max(second, p)) };
        }
        first - second
    }
}
