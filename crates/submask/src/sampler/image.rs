//! The settings of an image sampler in one place, as published triples give them (math.md §8).

use serde::{Deserialize, Serialize};

use super::corrector::Corrector;
use super::draw::Draw;
use super::settings::{SampleSettings, Steps, check_steps};
use crate::Result;
use crate::schedule::{Schedule, TemperatureSchedule, TimeWarp};

/// How images are sampled. The triples are written as arrays, `[a, n, c]` and `[k, p, unused]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ImageSampling {
    /// T ≥ 1. With a corrector a sequence takes T network evaluations, without one at most T.
    pub steps: usize,
    /// How the digits that a token reveals are drawn.
    pub draw: Draw,
    /// τ(u) = a·uⁿ + c at the warped image time u; `[1, 0, 0]` is the constant 1.
    pub temperature: TemperatureSchedule,
    /// u ↦ 1 − a(1 − u)ⁿ + c; n = 0 is off.
    pub warp: TimeWarp,
    /// κ(u) = k·uᵖ(1 − u)ᵖ; `None` is off, which k = 0 is not, and is written as an empty array.
    #[serde(with = "off_as_empty")]
    pub corrector: Option<Corrector>,
}

/// A corrector in a file: `[k, p, unused]`, or `[]` for none, so that the key is always there.
mod off_as_empty {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::Corrector;

    pub fn serialize<S: Serializer>(corrector: &Option<Corrector>, to: S) -> Result<S::Ok, S::Error> {
        corrector.map_or(Vec::new(), |corrector| <[f64; 3]>::from(corrector).to_vec()).serialize(to)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Corrector>, D::Error> {
        let given = Vec::<f64>::deserialize(from)?;
        if given.is_empty() {
            return Ok(None);
        }
        let triple = <[f64; 3]>::try_from(given)
            .map_err(|given| D::Error::custom(format!("{given:?} is neither [k, p, unused] nor []")))?;
        Ok(Some(triple.into()))
    }
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
    fn settings_carry_the_triples_of_a_file() {
        let text = r#"
            steps = 4
            draw = "marginal"
            temperature = [-0.2, 2.0, 1.0]
            warp = [1.0, 1.7, 0.0]
            corrector = [16.0, 2.0, 0.75]
        "#;
        let sampling: ImageSampling = toml::from_str(text).unwrap();
        let settings = sampling.settings(Schedule::Polynomial { exponent: 3.0 }).unwrap();
        let Steps::Times(times) = &settings.steps else { panic!("{settings:?}") };
        assert_eq!(*times, [1.0, 0.75f64.powf(1.7), 0.5f64.powf(1.7), 0.25f64.powf(1.7), 0.0]);
        assert_eq!(settings.corrector, Some(Corrector::from([16.0, 2.0, 0.75])));
        let again: ImageSampling = toml::from_str(&toml::to_string(&sampling).unwrap()).unwrap();
        assert_eq!(again, sampling);
        assert!(toml::from_str::<ImageSampling>("stepz = 4").is_err());
        let off: ImageSampling =
            toml::from_str(&toml::to_string(&ImageSampling::default()).unwrap()).unwrap();
        assert_eq!(off.corrector, None);
    }

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
