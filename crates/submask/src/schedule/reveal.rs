//! When sub-tokens are revealed: the step distribution of a time grid, by the inverse of its cumulative
//! function (math.md §7).
//!
//! Give every masked sub-token one uniform *level* U. Going down from t_0 it is masked while
//! U ≤ r(t) = (1 − α_t) / (1 − α_{t_0}), so it is revealed in the step in which r falls below U. One set of
//! levels thus serves every grid, and the sampler without a grid, at once.

use serde::{Deserialize, Serialize};

use super::{Schedule, even_grid};
use crate::{Error, Result};

/// Most steps of a grid; a sampler without a grid has no limit.
pub const MAX_STEPS: usize = 1 << 24;

/// What is revealed together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RevealUnit {
    /// Every sub-token on its own: partial masking.
    #[default]
    Digits,
    /// The masked sub-tokens of a token together: the ordinary masked diffusion model's process.
    Tokens,
}

/// The reveal-step distribution of a grid t_0 > … > t_T.
#[derive(Clone, Debug, PartialEq)]
pub struct RevealSteps {
    /// The T times at which steps begin.
    times: Vec<f64>,
    /// r at the T + 1 times: 1 = r_0 > … ≥ r_T = 0 (the last step reveals the rest).
    masked: Vec<f64>,
}

impl RevealSteps {
    /// The steps between the times of `grid`.
    ///
    /// # Errors
    /// [`Error::Invalid`] when the grid has fewer than two times, leaves [0, 1] or does not decrease, or the
    /// schedule's parameters are out of range.
    pub fn new(schedule: &Schedule, grid: &[f64]) -> Result<Self> {
        schedule.validate()?;
        let probabilities = schedule.reveal_probabilities(grid)?;
        let steps = probabilities.len();
        let start = 1.0 - schedule.alpha(grid[0]);
        let mut masked: Vec<f64> = grid.iter().map(|&t| (1.0 - schedule.alpha(t)) / start).collect();
        (masked[0], masked[steps]) = (1.0, 0.0);
        Ok(Self { times: grid[..steps].to_vec(), masked })
    }

    /// `steps` = T even steps from t = 1 to t = 0.
    ///
    /// # Errors
    /// As [`Self::new`], and when T is not in 1 to 2²⁴.
    pub fn even(schedule: &Schedule, steps: usize) -> Result<Self> {
        if !(1..=MAX_STEPS).contains(&steps) {
            return Err(Error::invalid("steps", steps, format!("1 to {MAX_STEPS}")));
        }
        Self::new(schedule, &even_grid(steps))
    }

    /// Number of steps T.
    pub fn count(&self) -> usize {
        self.times.len()
    }

    /// t_k, the time at which step k begins and at which the network is evaluated.
    pub fn time(&self, step: usize) -> f64 {
        self.times[step]
    }

    /// t_0 > … > t_{T−1}, the times of all steps.
    pub fn times(&self) -> &[f64] {
        &self.times
    }

    /// r_k = (1 − α_{t_k}) / (1 − α_{t_0}): probability to be still masked when step k begins.
    pub fn masked_before(&self, step: usize) -> f64 {
        self.masked[step]
    }

    /// Probability that a sub-token still masked when step k begins is revealed in it; 1 in the last step.
    pub fn conditional(&self, step: usize) -> f64 {
        match self.masked[step] {
            before if before > 0.0 => (before - self.masked[step + 1]) / before,
            _ => 1.0,
        }
    }

    /// The step k with r_{k+1} < `level` ≤ r_k, for a level in (0, 1].
    pub fn step_of(&self, level: f64) -> usize {
        self.masked[1..self.count()].partition_point(|&masked| masked >= level)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_fall_into_steps_with_the_reveal_probabilities() {
        let schedules = [
            Schedule::Linear,
            Schedule::LogLinear { epsilon: 0.1 },
            Schedule::Polynomial { exponent: 3.0 },
            Schedule::Cosine,
        ];
        for schedule in schedules {
            for grid in [even_grid(5), vec![1.0, 0.9, 0.3, 0.0], vec![0.8, 0.3, 0.2]] {
                let steps = RevealSteps::new(&schedule, &grid).unwrap();
                let expected = schedule.reveal_probabilities(&grid).unwrap();
                let levels = 100_000;
                let mut counts = vec![0usize; steps.count()];
                (0..levels).for_each(|k| counts[steps.step_of((k as f64 + 0.5) / f64::from(levels))] += 1);
                for (step, (&count, p)) in counts.iter().zip(&expected).enumerate() {
                    assert!((count as f64 / f64::from(levels) - p).abs() < 2e-5);
                    let both = steps.masked_before(step) * steps.conditional(step);
                    assert!((both - p).abs() < 1e-12, "{schedule:?} {grid:?} {both} {p}");
                }
            }
        }
    }

    #[test]
    fn ends_belong_to_the_first_and_the_last_step() {
        let steps = RevealSteps::even(&Schedule::Linear, 4).unwrap();
        assert_eq!((steps.step_of(1.0), steps.step_of(f64::MIN_POSITIVE)), (0, 3));
        assert_eq!((steps.step_of(0.75), steps.step_of(0.75 + 1e-12)), (1, 0));
        assert_eq!(steps.conditional(3), 1.0);
        assert!(RevealSteps::even(&Schedule::Linear, 0).is_err());
    }
}
