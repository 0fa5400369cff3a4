//! Noise schedules: how likely a sub-token is still visible at time t (math.md §2).
//!
//! Clean is t = 0, fully masked is t = 1. A schedule is a decreasing α with α(0) = 1 and α(1) = 0
//! (log-linear: ε).

mod image_time;
mod reveal;

use serde::{Deserialize, Serialize};

pub use image_time::{TemperatureSchedule, TimeWarp};
pub(crate) use reveal::MAX_STEPS;
pub use reveal::{RevealSteps, RevealUnit};

use crate::{Error, Result};

/// α_t, the probability that a sub-token is still visible at time t ∈ [0, 1].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Schedule {
    /// α = 1 − t.
    Linear,
    /// α = 1 − (1 − ε)t, MDLM's form: α(1) = ε, a little stays visible at the end.
    LogLinear {
        /// ε ∈ [0, 1), 10⁻³ in the published settings.
        epsilon: f64,
    },
    /// α = (1 − t)ⁿ, n = 3 in the image experiments.
    Polynomial {
        /// The exponent n > 0.
        exponent: f64,
    },
    /// α = 1 − cos(π/2·(1 − t)).
    Cosine,
}

impl Schedule {
    /// Checks the parameters.
    ///
    /// # Errors
    /// [`Error::Invalid`] when ε is outside [0, 1) or the exponent is not positive.
    pub fn validate(&self) -> Result<()> {
        match *self {
            Self::LogLinear { epsilon } if !(0.0..1.0).contains(&epsilon) => {
                Err(Error::invalid("schedule.epsilon", epsilon, "a number in [0, 1)"))
            }
            Self::Polynomial { exponent } if !(exponent > 0.0 && exponent.is_finite()) => {
                Err(Error::invalid("schedule.exponent", exponent, "a number above 0"))
            }
            _ => Ok(()),
        }
    }

    /// Share of the sub-tokens that is visible at time t, α_t.
    pub fn alpha(&self, t: f64) -> f64 {
        match *self {
            Self::Linear => 1.0 - t,
            Self::LogLinear { epsilon } => 1.0 - (1.0 - epsilon) * t,
            Self::Polynomial { exponent } => (1.0 - t).powf(exponent),
            Self::Cosine => 1.0 - (std::f64::consts::FRAC_PI_2 * (1.0 - t)).cos(),
        }
    }

    /// α′_t = dα/dt ≤ 0.
    pub fn alpha_prime(&self, t: f64) -> f64 {
        match *self {
            Self::Linear => -1.0,
            Self::LogLinear { epsilon } => -(1.0 - epsilon),
            Self::Polynomial { exponent } => -exponent * (1.0 - t).powf(exponent - 1.0),
            Self::Cosine => {
                let quarter = std::f64::consts::FRAC_PI_2;
                -quarter * (quarter * (1.0 - t)).sin()
            }
        }
    }

    /// Loss weight w(t) = −α′_t / (1 − α_t) > 0, for t ∈ (0, 1]. Linear and log-linear: 1/t.
    pub fn weight(&self, t: f64) -> f64 {
        match self {
            Self::Linear | Self::LogLinear { .. } => 1.0 / t,
            _ => -self.alpha_prime(t) / (1.0 - self.alpha(t)),
        }
    }

    /// The time at which α_t = `alpha`; values of α that the schedule never takes give the nearest end.
    pub fn inverse_alpha(&self, alpha: f64) -> f64 {
        let t = match *self {
            Self::Linear => 1.0 - alpha,
            Self::LogLinear { epsilon } => (1.0 - alpha) / (1.0 - epsilon),
            Self::Polynomial { exponent } => 1.0 - alpha.max(0.0).powf(1.0 / exponent),
            Self::Cosine => 1.0 - (1.0 - alpha).clamp(-1.0, 1.0).acos() / std::f64::consts::FRAC_PI_2,
        };
        t.clamp(0.0, 1.0)
    }

    /// Probability of each of the T steps on a decreasing grid t_0 > … > t_T to be the one in which a
    /// sub-token that is masked at t_0 is revealed (math.md §7):
    /// (α_{t_{k+1}} − α_{t_k}) / (1 − α_{t_0}), the last step taking the remainder.
    ///
    /// # Errors
    /// [`Error::Invalid`] when the grid has fewer than two times, leaves [0, 1] or does not decrease.
    pub fn reveal_probabilities(&self, grid: &[f64]) -> Result<Vec<f64>> {
        let decreasing = grid.windows(2).all(|pair| pair[0] > pair[1]);
        let inside = grid.iter().all(|t| (0.0..=1.0).contains(t));
        if grid.len() < 2 || !decreasing || !inside {
            return Err(Error::invalid(
                "time grid",
                format!("{grid:?}"),
                "at least two decreasing times in [0, 1]",
            ));
        }
        let masked = 1.0 - self.alpha(grid[0]);
        let mut probabilities: Vec<f64> =
            grid.windows(2).map(|pair| (self.alpha(pair[1]) - self.alpha(pair[0])) / masked).collect();
        let before_last: f64 = probabilities[..probabilities.len() - 1].iter().sum();
        if let Some(last) = probabilities.last_mut() {
            *last = (1.0 - before_last).max(0.0);
        }
        Ok(probabilities)
    }
}

/// The even grid 1 = t_0 > … > t_T = 0 of T steps.
pub fn even_grid(steps: usize) -> Vec<f64> {
    (0..=steps).map(|k| 1.0 - k as f64 / steps as f64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Schedule; 5] = [
        Schedule::Linear,
        Schedule::LogLinear { epsilon: 1e-3 },
        Schedule::Polynomial { exponent: 3.0 },
        Schedule::Polynomial { exponent: 0.5 },
        Schedule::Cosine,
    ];

    #[test]
    fn alpha_runs_from_one_to_its_end() {
        for schedule in ALL {
            let end = if let Schedule::LogLinear { epsilon } = schedule { epsilon } else { 0.0 };
            assert!((schedule.alpha(0.0) - 1.0).abs() < 1e-12);
            assert!((schedule.alpha(1.0) - end).abs() < 1e-12);
        }
    }

    #[test]
    fn alpha_prime_is_the_derivative_and_inverse_alpha_the_inverse() {
        for schedule in ALL {
            for t in [0.01, 0.2, 0.5, 0.77, 0.99] {
                let h = 1e-6;
                let slope = (schedule.alpha(t + h) - schedule.alpha(t - h)) / (2.0 * h);
                assert!((slope - schedule.alpha_prime(t)).abs() < 1e-5 * slope.abs(), "{schedule:?} {t}");
                assert!((schedule.inverse_alpha(schedule.alpha(t)) - t).abs() < 1e-9);
                let weight = -schedule.alpha_prime(t) / (1.0 - schedule.alpha(t));
                assert!((schedule.weight(t) / weight - 1.0).abs() < 1e-12);
            }
        }
    }

    #[test]
    fn reveal_probabilities_sum_to_one_on_any_grid() {
        for schedule in ALL {
            for grid in [even_grid(1), even_grid(7), vec![0.9, 0.3, 0.2], vec![1.0, 0.0]] {
                let p = schedule.reveal_probabilities(&grid).unwrap();
                assert!((p.iter().sum::<f64>() - 1.0).abs() < 1e-12 && p.iter().all(|p| *p >= 0.0));
            }
            assert!(schedule.reveal_probabilities(&[0.5]).is_err());
            assert!(schedule.reveal_probabilities(&[0.5, 0.5]).is_err());
        }
        let linear = Schedule::Linear.reveal_probabilities(&even_grid(4)).unwrap();
        assert!(linear.iter().all(|p| (p - 0.25).abs() < 1e-12));
    }
}
