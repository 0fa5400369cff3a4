//! The settings of an image sampler in one place, as published triples give them (math.md §8).

use super::corrector::Corrector;
use super::draw::Draw;
use super::settings::{SampleSettings, Steps, check_steps};
use crate::Result;
use crate::schedule::{Schedule, TemperatureSchedule, TimeWarp};

/// How images are sampled.
#[derive(Clone, Debug, PartialEq)]
pub struct ImageSampling {
    /// T ≥ 1. With a corrector a sequence takes T network evaluations, without one at most T.
    pub steps: usize,
    /// How the digits that a token reveals are drawn.
    pub draw: Draw,
    /// τ(u) = a·uⁿ + c at the warped image time u; `[1, 0, 0]` is the constant 1.
    pub temperature: TemperatureSchedule,
    /// u ↦ 1 − a(1 − u)ⁿ + c; n = 0 is off.
    pub warp: TimeWarp,
    /// κ(u) = k·uᵖ(1 − u)ᵖ; `None` is off, which k = 0 is not.
    pub corrector: Option<Corrector>,
}

impl Default for ImageSampling {
    /// 256 joint steps at temperature 1, without warp and corrector.
    fn default() -> Self {
        Self {
            steps: 256,
            draw: Draw::Joint,
            temperature: TemperatureSchedule::default(),
            warp: TimeWarp::default(),
            corrector: None,
        }
    }
}

impl ImageSampling {
    /// Checks everything that does not depend on a model: that the warped grid decreases, that the temperature is
    /// above 0 on it, and the corrector's range.
    ///
    /// # Errors
    /// [`Error::Invalid`](crate::Error::Invalid) naming the field.
    pub fn validate(&self) -> Result<()> {
        self.settings(Schedule::Linear).map(drop)
    }

    /// The settings of a [`Sampler`](super::Sampler) for a model's noise schedule; what this struct does not say
    /// (seed, batch, …) has its default.
    ///
    /// # Errors
    /// As [`Self::validate`], and for a schedule out of range.
    pub fn settings(&self, schedule: Schedule) -> Result<SampleSettings> {
        check_steps(self.steps)?;
        let steps = match self.warp.is_off() {
            true => Steps::Grid(self.steps),
            false => Steps::Times(self.warp.times(self.steps)?),
        };
        let settings = SampleSettings {
            steps,
            draw: self.draw,
            temperature_schedule: Some(self.temperature),
            corrector: self.corrector,
            schedule,
            ..SampleSettings::default()
        };
        settings.validate()?;
        Ok(settings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_out_of_range_are_refused_by_name() {
        let refused = |sampling: ImageSampling, field: &str| {
            let error = sampling.validate().unwrap_err().to_string();
            assert!(error.starts_with(field), "{error}");
        };
        let default = ImageSampling::default;
        default().validate().unwrap();
        refused(ImageSampling { steps: 0, ..default() }, "steps");
        refused(ImageSampling { steps: usize::MAX, warp: [1.0, 2.0, 0.0].into(), ..default() }, "steps");
        refused(ImageSampling { temperature: [-1.2, 1.0, 1.0].into(), ..default() }, "temperature");
        refused(ImageSampling { warp: [1.0, 1.0, 0.1].into(), ..default() }, "warp");
        refused(ImageSampling { corrector: Some([-1.0, 1.0, 0.0].into()), ..default() }, "corrector");
        // The last step begins at u = 3/4: τ = 0.0625 there, and at u = 1 it is not used.
        let reaching_zero = [-1.25, 1.0, 1.0].into();
        ImageSampling { steps: 4, temperature: reaching_zero, ..default() }.validate().unwrap();
        refused(ImageSampling { steps: 5, temperature: reaching_zero, ..default() }, "temperature");
    }
}
