//! Orders of revealing: which of the masked units of a state come next (math.md §6.4, §7).
//!
//! A deterministic order gives every masked unit (token or sub-token) a score and reveals those with the largest. The
//! score reads the network's prediction before temperature, top-k and nucleus: how sure the network is does not depend
//! on how a value is drawn afterwards. Samplers and likelihoods take the same scores, the same choice and the same time
//! from here, so that an exact likelihood is that of the sampler.
//!
//! A new order is a file with its [`Ranking`], and its name in [`Order`].

mod confidence;
mod entropy;
mod left_to_right;
mod margin;

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::one_of;
use crate::ops::Score;
use crate::predictive::TokenDistribution;
use crate::schedule::{RevealUnit, Schedule};
use crate::{Error, Result};

/// In which order masked units are revealed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// Uniformly at random, whatever the network predicts: the process of the diffusion model.
    #[default]
    Random,
    /// By position: tokens from left to right, the sub-tokens of a token from the most significant.
    LeftToRight,
    /// First where the largest probability is largest: max p.
    Confidence,
    /// First where the largest probability is furthest above the second largest: p₁ − p₂.
    Margin,
    /// First where the entropy is smallest: the largest Σ p log p.
    Entropy,
}

impl Order {
    /// All orders, in the order in which messages list them.
    pub const ALL: [Self; 5] =
        [Self::Random, Self::LeftToRight, Self::Confidence, Self::Margin, Self::Entropy];

    /// Those that a state decides, in the same order.
    pub fn deterministic() -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(|order| order.ranking().is_some())
    }

    /// The names of those, as a choice between them.
    pub fn deterministic_names() -> String {
        one_of(&Self::deterministic().map(Self::name).collect::<Vec<_>>())
    }

    /// Its name in settings and messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Random => "random",
            Self::LeftToRight => "left-to-right",
            Self::Confidence => "confidence",
            Self::Margin => "margin",
            Self::Entropy => "entropy",
        }
    }

    /// How it ranks the masked units of a state; `None` for [`Order::Random`], which does not.
    pub fn ranking(self) -> Option<&'static dyn Ranking> {
        match self {
            Self::Random => None,
            Self::LeftToRight => Some(&left_to_right::LeftToRight),
            Self::Confidence => Some(&confidence::Confidence),
            Self::Margin => Some(&margin::Margin),
            Self::Entropy => Some(&entropy::Entropy),
        }
    }
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Order {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let names = Self::ALL.map(Self::name).join(", ");
        let order = Self::ALL.into_iter().find(|order| order.name() == text);
        order.ok_or_else(|| Error::invalid("order", text, format!("one of {names}")))
    }
}

/// A deterministic order: scores of masked units, the largest of which is revealed next.
pub trait Ranking: Sync {
    /// Whether scores depend on the network's prediction. If not, the whole order is known before the first
    /// evaluation.
    fn reads_prediction(&self) -> bool {
        true
    }

    /// The score as a device's kernel computes it; `None` where no prediction is read, or no kernel computes it.
    fn on_device(&self) -> Option<Score> {
        None
    }

    /// The score of the unit with index `index` in the sequence, whose values have `probabilities`: zeros for impossible
    /// values, and none at all unless the prediction is read.
    fn score(&self, index: usize, probabilities: &[f64]) -> f64;
}

impl dyn Ranking + '_ {
    /// The score of a masked unit, given the prediction `p` at its token.
    ///
    /// `index` is i for token i, i·ℓ + j for digit j of token i. A token is scored by `p` itself: with carry-over the
    /// distribution over the tokens that agree with the visible digits, without it the one over all tokens. A digit is
    /// scored by its marginal of `p`, over its b values.
    ///
    /// `p` must be the prediction before temperature, top-k and nucleus.
    pub fn score_unit(&self, p: &TokenDistribution, unit: RevealUnit, index: usize) -> f64 {
        match unit {
            _ if !self.reads_prediction() => self.score(index, &[]),
            RevealUnit::Tokens => self.score(index, &p.probabilities()),
            RevealUnit::Digits => self.score(index, &p.marginals(index % p.subtoken_len())),
        }
    }
}

/// Places in `scores`, the largest score first; of equal scores the lowest place first.
pub fn rank(scores: &[f64]) -> Vec<usize> {
    let mut places: Vec<usize> = (0..scores.len()).collect();
    places.sort_unstable_by(|&a, &b| compare(scores, a, b));
    places
}

/// Places of the `n` largest scores (of all, if there are fewer), of equal scores the lowest places.
///
/// They come in ascending order of place, not of score: what is revealed at once is a set. So the sub-tokens of a token
/// stand together, and sums over the set do not depend on which of it was surest.
pub fn choose(scores: &[f64], n: usize) -> Vec<usize> {
    let mut places: Vec<usize> = (0..scores.len()).collect();
    if (1..places.len()).contains(&n) {
        places.select_nth_unstable_by(n - 1, |&a, &b| compare(scores, a, b));
    }
    places.truncate(n);
    places.sort_unstable();
    places
}

/// The place to be revealed first is less. Zeros of either sign are equal.
fn compare(scores: &[f64], a: usize, b: usize) -> Ordering {
    (scores[b] + 0.0).total_cmp(&(scores[a] + 0.0)).then(a.cmp(&b))
}

/// The time of a state in which `masked` of the `units` to generate are masked, for a network that reads it: an order
/// has no times of its own, so it is the time at which this share is masked in expectation, α_t = 1 − masked/units.
pub fn time(schedule: &Schedule, masked: usize, units: usize) -> f64 {
    schedule.inverse_alpha((units - masked) as f64 / units as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::predictive::Predictive;
    use crate::subtoken::SubTokenizer;

    #[test]
    fn names_are_read_back_and_unknown_ones_are_told_the_list() {
        for order in Order::ALL {
            assert_eq!(order.to_string().parse::<Order>().unwrap(), order);
            assert_eq!(serde_json::to_string(&order).unwrap(), format!("\"{order}\""));
        }
        assert_eq!(
            "surest".parse::<Order>().unwrap_err().to_string(),
            "order = surest is not allowed: one of random, left-to-right, confidence, margin, entropy"
        );
    }

    #[test]
    fn the_largest_scores_are_chosen_and_of_equals_the_lowest_places() {
        let scores = [0.5, 0.9, 0.5, 0.9, 0.5];
        assert_eq!(rank(&scores), [1, 3, 0, 2, 4]);
        let chosen = [0, 1, 2, 3, 4, 5, 9].map(|n| choose(&scores, n));
        let expected: [&[usize]; 7] =
            [&[], &[1], &[1, 3], &[0, 1, 3], &[0, 1, 2, 3], &[0, 1, 2, 3, 4], &[0, 1, 2, 3, 4]];
        assert_eq!(chosen, expected);
        assert_eq!(choose(&[-0.0, 0.0], 1), [0]);
        assert!(choose(&[], 3).is_empty());
    }

    #[test]
    fn choosing_takes_the_head_of_the_ranking() {
        let scores: Vec<f64> = (0..50).map(|k| f64::from(k * k % 17)).collect();
        for n in 0..=50 {
            let mut head = rank(&scores)[..n].to_vec();
            head.sort_unstable();
            assert_eq!(choose(&scores, n), head);
        }
    }

    /// p = (0.5, 0.3, 0.2) by hand, over tokens and as the marginal of a digit.
    #[test]
    fn scores_are_those_of_the_distribution() {
        let expected = |order| match order {
            Order::Random => None,
            Order::LeftToRight => Some(-7.0),
            Order::Confidence => Some(0.5),
            Order::Margin => Some(0.2),
            Order::Entropy => Some(0.5 * 0.5f64.ln() + 0.3 * 0.3f64.ln() + 0.2 * 0.2f64.ln()),
        };
        let whole = Predictive::new(SubTokenizer::new(3, 1).unwrap(), true);
        // Digit 1 of the tokens 0..=4 is 0, 1, 2, 0, 1.
        let digits = Predictive::new(SubTokenizer::new(5, 2).unwrap(), true);
        let log = |p: &[f64]| p.iter().map(|p| p.ln() as f32).collect::<Vec<f32>>();
        let cases = [
            (&whole, log(&[0.3, 0.5, 0.2]), vec![3], RevealUnit::Tokens),
            (&whole, log(&[0.3, 0.5, 0.2]), vec![3], RevealUnit::Digits),
            (&digits, log(&[0.2, 0.3, 0.2, 0.1, 0.2]), vec![3, 3], RevealUnit::Digits),
            (&digits, log(&[0.3, 0.5, 0.2, 0.7, 0.9]), vec![0, 3], RevealUnit::Tokens),
        ];
        for (predictive, logits, y, unit) in cases {
            let p = predictive.distribution(&logits, &y);
            for order in Order::ALL {
                let found = order.ranking().map(|ranking| ranking.score_unit(&p, unit, 7));
                let difference = found.zip(expected(order)).map(|(a, b)| (a - b).abs());
                assert!(found.is_some() == expected(order).is_some() && difference < Some(1e-6), "{order}");
            }
        }
    }

    #[test]
    fn a_value_that_is_known_is_surest_of_all() {
        let certain = [(Order::Confidence, 1.0), (Order::Margin, 1.0), (Order::Entropy, 0.0)];
        for (order, score) in certain {
            let ranking = order.ranking().unwrap();
            // Of the tokens 00, 01, 02, 10 and 11 only one has the low digit 2.
            let one = Predictive::new(SubTokenizer::new(5, 2).unwrap(), true);
            let p = one.distribution(&[0.3; 5], &[3, 2]);
            assert_eq!(ranking.score_unit(&p, RevealUnit::Tokens, 0), score);
            assert_eq!(ranking.score_unit(&p, RevealUnit::Digits, 0), score);
            // Of the tokens 000 to 101 two have the high digit 1, both with 0 as the middle digit.
            let two = Predictive::new(SubTokenizer::new(6, 3).unwrap(), true);
            for logit in 0..1000 {
                let p = two.distribution(&[0.0, 0.0, 0.0, 0.0, 0.0, logit as f32 / 99.0], &[1, 2, 2]);
                assert_eq!(ranking.score_unit(&p, RevealUnit::Digits, 1), score);
                assert_ne!(ranking.score_unit(&p, RevealUnit::Digits, 2), score);
            }
        }
    }

    #[test]
    fn the_time_goes_from_masked_to_visible() {
        assert_eq!([4, 3, 1].map(|masked| time(&Schedule::Linear, masked, 4)), [1.0, 0.75, 0.25]);
    }
}
