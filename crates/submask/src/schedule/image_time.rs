//! Functions of the image time u = 1 − t (math.md §8): a temperature schedule and a warp of the time grid.

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// τ(u) = a·uⁿ + c at the image time u = 1 − t ∈ [0, 1]; logits are divided by τ. Written `[a, n, c]`.
///
/// 0⁰ is 1, so `[1, 0, 0]` is the constant 1.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(from = "[f64; 3]", into = "[f64; 3]")]
pub struct TemperatureSchedule {
    /// Factor of the power of u, a.
    pub scale: f64,
    /// Exponent of u, n.
    pub exponent: f64,
    /// What is added, c.
    pub offset: f64,
}

/// The warp u ↦ 1 − a(1 − u)ⁿ + c of the image time u = 1 − t ∈ [0, 1]; in t it is t ↦ a·tⁿ − c. Written
/// `[a, n, c]`; n = 0 is off.
///
/// With a = 1 and c = 0 the warp keeps both ends, and n > 1 takes larger steps at the masked end.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(from = "[f64; 3]", into = "[f64; 3]")]
pub struct TimeWarp {
    /// Factor of the power of 1 − u, a.
    pub scale: f64,
    /// Exponent of 1 − u, n; 0 is off.
    pub exponent: f64,
    /// What is added, c.
    pub offset: f64,
}

impl Default for TemperatureSchedule {
    /// The constant 1, `[1, 0, 0]`.
    fn default() -> Self {
        Self::from([1.0, 0.0, 0.0])
    }
}

impl Default for TimeWarp {
    /// Off, `[1, 0, 0]`.
    fn default() -> Self {
        Self::from([1.0, 0.0, 0.0])
    }
}

impl From<[f64; 3]> for TemperatureSchedule {
    fn from([scale, exponent, offset]: [f64; 3]) -> Self {
        Self { scale, exponent, offset }
    }
}

impl From<TemperatureSchedule> for [f64; 3] {
    fn from(schedule: TemperatureSchedule) -> Self {
        [schedule.scale, schedule.exponent, schedule.offset]
    }
}

impl From<[f64; 3]> for TimeWarp {
    fn from([scale, exponent, offset]: [f64; 3]) -> Self {
        Self { scale, exponent, offset }
    }
}

impl From<TimeWarp> for [f64; 3] {
    fn from(warp: TimeWarp) -> Self {
        [warp.scale, warp.exponent, warp.offset]
    }
}

impl TemperatureSchedule {
    /// τ at the time t, that is at u = 1 − t.
    pub fn at(&self, t: f64) -> f64 {
        self.scale * (1.0 - t).powf(self.exponent) + self.offset
    }

    /// Checks that τ is finite and above 0 at each of `times`.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming `temperature`, its three numbers and where it fails.
    pub fn validate(&self, times: &[f64]) -> Result<()> {
        let fails = |t: &&f64| !(self.at(**t) > 0.0 && self.at(**t).is_finite());
        match times.iter().find(fails) {
            None => Ok(()),
            Some(&t) => Err(Error::invalid(
                "temperature",
                format!("{:?}", <[f64; 3]>::from(*self)),
                format!(
                    "[a, n, c] with a·uⁿ + c finite and above 0 at every step; at u = {} it is {}",
                    1.0 - t,
                    self.at(t)
                ),
            )),
        }
    }
}

impl TimeWarp {
    /// Whether times are warped at all.
    pub fn is_off(&self) -> bool {
        self.exponent == 0.0
    }

    /// The warped time t for the time t before the warp; both count from 1 (masked) to 0 (clean).
    pub fn time(&self, t: f64) -> f64 {
        if self.is_off() { t } else { self.scale * t.powf(self.exponent) - self.offset }
    }

    /// The warped grid t_0 > … > t_T of `steps` = T steps: u = k/T before the warp.
    ///
    /// # Errors
    /// [`Error::Invalid`] when the warped times do not decrease strictly or leave [0, 1], and when T is 0.
    pub fn times(&self, steps: usize) -> Result<Vec<f64>> {
        if steps == 0 {
            return Err(Error::invalid("steps", steps, "at least 1"));
        }
        let times: Vec<f64> = super::even_grid(steps).into_iter().map(|t| self.time(t)).collect();
        let inside = times.iter().all(|t| (0.0..=1.0).contains(t));
        if inside && times.windows(2).all(|pair| pair[0] > pair[1]) {
            return Ok(times);
        }
        Err(Error::invalid(
            "warp",
            format!("{:?}", <[f64; 3]>::from(*self)),
            format!(
                "[a, n, c] with which 1 − a(1 − u)ⁿ + c increases within [0, 1] over {steps} steps (n = 0: off)"
            ),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_temperature_is_that_of_the_formula_in_u() {
        let schedule = TemperatureSchedule::from([-0.2, 2.0, 1.0]);
        for u in [0.0, 0.3, 1.0] {
            assert!((schedule.at(1.0 - u) - (1.0 - 0.2 * u * u)).abs() < 1e-15);
            assert_eq!(TemperatureSchedule::default().at(1.0 - u), 1.0);
        }
    }

    #[test]
    fn a_temperature_that_reaches_zero_on_the_grid_is_refused_with_its_place() {
        let falling = TemperatureSchedule::from([-1.0, 1.0, 1.0]);
        falling.validate(&[1.0, 0.5, 0.1]).unwrap();
        let error = falling.validate(&[1.0, 0.5, 0.0]).unwrap_err().to_string();
        assert!(error.contains("[-1.0, 1.0, 1.0]") && error.contains("at u = 1 it is 0"), "{error}");
        assert!(TemperatureSchedule::from([1.0, -1.0, 0.0]).validate(&[1.0]).is_err());
        assert!(TemperatureSchedule::from([f64::NAN, 1.0, 1.0]).validate(&[0.5]).is_err());
    }

    #[test]
    fn the_warped_grid_is_that_of_the_formula_in_u() {
        for [a, n, c] in [[1.0, 1.7, 0.0], [1.0, 0.6, 0.0], [0.8, 2.0, -0.1], [0.9, 1.0, 0.0]] {
            let times = TimeWarp::from([a, n, c]).times(8).unwrap();
            for (k, t) in times.iter().enumerate() {
                let u = k as f64 / 8.0;
                assert!((1.0 - t - (1.0 - a * (1.0 - u).powf(n) + c)).abs() < 1e-12);
            }
        }
        assert_eq!(TimeWarp::default().times(5).unwrap(), crate::schedule::even_grid(5));
    }

    #[test]
    fn warps_that_leave_the_time_axis_or_stand_still_are_refused() {
        for warp in [[1.0, 1.0, 0.5], [1.5, 1.0, 0.0], [-1.0, 1.0, 0.0], [0.0, 1.0, 0.0], [1.0, -1.0, 0.0]] {
            let error = TimeWarp::from(warp).times(4).unwrap_err().to_string();
            assert!(error.starts_with("warp"), "{error}");
        }
        assert!(TimeWarp::from([f64::NAN, 1.0, 0.0]).times(4).is_err());
        assert!(TimeWarp::default().times(0).is_err());
    }
}
