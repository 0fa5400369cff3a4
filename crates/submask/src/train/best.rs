//! Which validation of a run is the best, and when a run ends early.

use super::settings::TrainSettings;
use crate::likelihood::{Figure, Kind};
use crate::model::BestValidation;

impl TrainSettings {
    /// Whether validations are compared with each other.
    pub(super) fn compares_validations(&self) -> bool {
        self.keep_best || self.patience > 0
    }

    /// Whether a run ends before its last step: after `train.patience` validations that were not better than the best.
    pub fn ends_early(&self, best: Option<BestValidation>) -> bool {
        self.patience > 0 && best.is_some_and(|best| best.since >= self.patience)
    }

    /// The step of the checkpoint that is kept however old it is.
    pub(super) fn kept(&self, best: Option<BestValidation>) -> Option<u64> {
        best.filter(|_| self.keep_best).map(|best| best.step)
    }

    /// The key by which validations of these settings and of `other` cannot be compared, where both compare them.
    pub(super) fn incomparable(&self, other: &Self) -> Option<&'static str> {
        if !(self.compares_validations() && other.compares_validations()) {
            return None;
        }
        let keys = [
            ("train.validate_sequences", self.validate_sequences == other.validate_sequences),
            ("train.validate_draws", self.validate_draws == other.validate_draws),
        ];
        keys.into_iter().find(|(_, same)| !same).map(|(key, _)| key)
    }
}

/// The best validation after one with `figures` at `step`. Smaller values are better; the first of equal ones stays.
pub(super) fn best_after(
    best: Option<BestValidation>,
    step: u64,
    figures: &[Figure],
) -> Option<BestValidation> {
    let likelihood = figures.iter().find(|figure| figure.kind != Kind::Surrogate);
    let value = likelihood.map(|figure| figure.value).filter(|value| value.is_finite());
    match (best, value) {
        (None, value) => value.map(|value| BestValidation { step, value, since: 0 }),
        (Some(best), Some(value)) if value < best.value => Some(BestValidation { step, value, since: 0 }),
        (Some(best), _) => Some(BestValidation { since: best.since + 1, ..best }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(kind: Kind, value: f64) -> Figure {
        Figure {
            name: String::new(),
            value,
            unit: String::new(),
            kind,
            standard_error: None,
            sequence_error: None,
            draw_error: None,
            evaluations: 1,
        }
    }

    #[test]
    fn the_smallest_bound_is_the_best_and_the_surrogate_is_not_looked_at() {
        let mut best = None;
        let mut since = Vec::new();
        for (n, value) in [3.0, 2.5, 2.5, f64::NAN, 2.0, 2.1].into_iter().enumerate() {
            let figures = [figure(Kind::Surrogate, -(n as f64)), figure(Kind::UpperBound, value)];
            best = best_after(best, n as u64 + 1, &figures);
            since.push(best.map(|best| (best.step, best.since)).unwrap());
        }
        assert_eq!(since, [(1, 0), (2, 0), (2, 1), (2, 2), (5, 0), (5, 1)]);
        assert_eq!(best_after(None, 1, &[figure(Kind::Exact, f64::INFINITY)]), None);
    }

    #[test]
    fn a_value_is_read_as_it_was_written() {
        let best = BestValidation { step: 7, value: 0.1 + 0.2, since: 3 };
        let text = serde_json::to_string(&best).unwrap();
        assert_eq!(text, r#"{"step":7,"value":"0.30000000000000004","since":3}"#);
        assert_eq!(serde_json::from_str::<BestValidation>(&text).unwrap(), best);
    }
}
