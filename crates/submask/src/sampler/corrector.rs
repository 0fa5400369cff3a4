//! Corrector jumps after an ancestral step (math.md §8): rates, and one jump as a function of uniforms.

use serde::{Deserialize, Serialize};

use crate::schedule::Schedule;
use crate::{Error, Result};

/// The corrector of strength κ(u) = k·uᵖ(1 − u)ᵖ at the image time u = 1 − t. Written `[k, p, _]`.
///
/// k = 0 is not "off": sub-tokens then still jump to ŷ_0 at the rate α′/(1 − α).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(from = "[f64; 3]", into = "[f64; 3]")]
pub struct Corrector {
    /// k ≥ 0.
    pub strength: f64,
    /// p ≥ 0.
    pub exponent: f64,
    /// The third number of the published triples, which no formula reads; kept as it was given.
    pub unused: f64,
}

impl From<[f64; 3]> for Corrector {
    fn from([strength, exponent, unused]: [f64; 3]) -> Self {
        Self { strength, exponent, unused }
    }
}

impl From<Corrector> for [f64; 3] {
    fn from(corrector: Corrector) -> Self {
        [corrector.strength, corrector.exponent, corrector.unused]
    }
}

impl Corrector {
    /// Checks the ranges.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming `corrector` and its three numbers.
    pub fn validate(&self) -> Result<()> {
        let proper = |x: f64| x >= 0.0 && x.is_finite();
        if proper(self.strength) && proper(self.exponent) && self.unused.is_finite() {
            return Ok(());
        }
        Err(Error::invalid(
            "corrector",
            format!("{:?}", <[f64; 3]>::from(*self)),
            "[k, p, unused], finite, with k and p at least 0",
        ))
    }

    /// κ at the time t, that is at u = 1 − t.
    pub fn kappa(&self, t: f64) -> f64 {
        self.strength * (t * (1.0 - t)).powf(self.exponent)
    }

    /// The jumps of a step from t down to `s`, with α and α′ = dα/du at t; `None` where α is 0 or 1.
    pub(super) fn jumps(&self, schedule: &Schedule, t: f64, s: f64) -> Option<Jumps> {
        let alpha = schedule.alpha(t);
        if !(alpha > 0.0 && alpha < 1.0) {
            return None;
        }
        let (kappa, slope) = (self.kappa(t), -schedule.alpha_prime(t) * (t - s));
        Some(Jumps { to_value: (1.0 + kappa) * slope / (1.0 - alpha), to_mask: kappa * slope / alpha })
    }
}

/// Rates of a step, times its length h: r·h = `to_value`·δ_{ŷ_0} + `to_mask`·δ_m.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Jumps {
    /// Of jumps to the drawn digit, h·(1 + κ)·α′/(1 − α).
    to_value: f64,
    /// Of jumps to the mask, h·κ·α′/α.
    to_mask: f64,
}

impl Jumps {
    /// Rates of jumps to the drawn digit and to the mask, times the length of the step.
    pub fn rates(self) -> [f64; 2] {
        [self.to_value, self.to_mask]
    }

    /// The state to which a sub-token in the state `present` jumps, if it does; `value` is its ŷ_0, `uniforms` say
    /// whether and where to. The rate to the present state counts as zero.
    pub fn jump(&self, present: u32, value: u32, mask_id: u32, uniforms: [f64; 2]) -> Option<u32> {
        let to_value = if present == value { 0.0 } else { self.to_value };
        let to_mask = if present == mask_id { 0.0 } else { self.to_mask };
        let total = to_value + to_mask;
        if uniforms[0] >= -(-total).exp_m1() {
            return None;
        }
        Some(if uniforms[1] * total < to_value { value } else { mask_id })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_those_of_the_formula() {
        let corrector = Corrector::from([6.0, 0.5, 0.75]);
        let (schedule, u, h) = (Schedule::Polynomial { exponent: 3.0 }, 0.4f64, 0.1);
        let jumps = corrector.jumps(&schedule, 1.0 - u, 1.0 - u - h).unwrap();
        let kappa = 6.0 * u.powf(0.5) * (1.0 - u).powf(0.5);
        let (alpha, slope) = (u.powi(3), 3.0 * u * u);
        let to_value = slope / (1.0 - alpha) + kappa * slope / (alpha * (1.0 - alpha)) * alpha;
        let to_mask = kappa * slope / (alpha * (1.0 - alpha)) * (1.0 - alpha);
        assert!((jumps.to_value - h * to_value).abs() < 1e-12);
        assert!((jumps.to_mask - h * to_mask).abs() < 1e-12);
        assert_eq!(corrector.jumps(&schedule, 1.0, 0.9), None);
    }

    #[test]
    fn nothing_jumps_to_where_it_is() {
        let jumps = Jumps { to_value: 2.0, to_mask: 1.0 };
        let mask = 9;
        assert_eq!(jumps.jump(mask, 4, mask, [0.0, 0.999]), Some(4));
        assert_eq!(jumps.jump(4, 4, mask, [0.0, 0.0]), Some(mask));
        assert_eq!(jumps.jump(5, 4, mask, [0.0, 0.6]), Some(4));
        assert_eq!(jumps.jump(5, 4, mask, [0.0, 0.7]), Some(mask));
        let share = 1.0 - (-3.0f64).exp();
        assert!(jumps.jump(5, 4, mask, [share - 1e-9, 0.0]).is_some());
        assert!(jumps.jump(5, 4, mask, [share + 1e-9, 0.0]).is_none());
        assert_eq!(Jumps { to_value: 2.0, to_mask: 0.0 }.jump(4, 4, mask, [0.0, 0.0]), None);
    }

    #[test]
    fn a_corrector_out_of_range_is_refused() {
        Corrector::from([0.0, 0.0, 0.0]).validate().unwrap();
        for numbers in [[-1.0, 1.0, 0.0], [1.0, -1.0, 0.0], [f64::INFINITY, 1.0, 0.0], [1.0, 1.0, f64::NAN]] {
            assert!(Corrector::from(numbers).validate().unwrap_err().to_string().starts_with("corrector"));
        }
    }
}
