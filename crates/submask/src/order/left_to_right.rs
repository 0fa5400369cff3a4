//! The first position first.

use super::Ranking;

/// The negative position; no prediction is read.
pub(super) struct LeftToRight;

impl Ranking for LeftToRight {
    fn reads_prediction(&self) -> bool {
        false
    }

    fn score(&self, index: usize, _: &[f64]) -> f64 {
        -(index as f64)
    }
}
