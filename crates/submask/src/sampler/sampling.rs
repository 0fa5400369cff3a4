//! How samples are drawn, as a configuration says it and as published triples give it (math.md §7, §8).

use serde::{Deserialize, Serialize};

use super::corrector::Corrector;
use super::draw::Draw;
use super::settings::{SampleSettings, Steps, Window, check_steps};
use super::stopping::EntropyRule;
use crate::predictive::{Nucleus, Sharpening};
use crate::schedule::{Schedule, TemperatureSchedule, TimeWarp};
use crate::{Error, Result};

/// How samples are drawn. The triples are written as arrays, `[a, n, c]` and `[k, p, unused]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sampling {
    /// Steps T of the time grid; 0: first-hitting, no grid. With a corrector a sequence takes T network evaluations,
    /// without one at most T.
    pub steps: usize,
    /// How the digits that a token reveals are drawn.
    pub draw: Draw,
    /// Temperature, which divides the logits.
    pub temperature: Temperature,
    /// Nucleus p in (0, 1]: the smallest set of most probable tokens with this mass is kept.
    pub top_p: f64,
    /// Whether the token that crosses p is kept.
    pub nucleus: Nucleus,
    /// Most probable tokens kept; 0: all.
    pub top_k: usize,
    /// Warp of the time grid, u ↦ 1 − a(1 − u)ⁿ + c; n = 0 is off.
    pub warp: TimeWarp,
    /// Corrector of strength κ(u) = k·uᵖ(1 − u)ᵖ; `None` is off, which k = 0 is not, and is written as an empty array.
    #[serde(with = "off_as_empty")]
    pub corrector: Option<Corrector>,
    /// What a network with blocks reads of a text that is longer than its length; others do not read it.
    pub window: Window,
    /// Least entropy of the last tokens of a text that is written block by block, in nats; 0 is off. See [`EntropyRule`].
    pub min_entropy: f64,
    /// How many last tokens that are, at least 1.
    pub entropy_window: usize,
}

/// A temperature, constant or a function of the time.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged, expecting = "expected a number, or [a, n, c] for a·uⁿ + c")]
pub enum Temperature {
    /// The same τ at all times.
    Constant(f64),
    /// τ(u) = a·uⁿ + c at the warped image time u.
    Schedule(TemperatureSchedule),
}

impl Temperature {
    /// The temperature as a function of the time.
    pub fn schedule(self) -> TemperatureSchedule {
        match self {
            Self::Constant(temperature) => [0.0, 1.0, temperature].into(),
            Self::Schedule(schedule) => schedule,
        }
    }
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

impl Default for Sampling {
    /// First-hitting, joint draws at temperature 1, nothing left out.
    fn default() -> Self {
        Self {
            steps: 0,
            draw: Draw::Joint,
            temperature: Temperature::Constant(1.0),
            top_p: 1.0,
            nucleus: Nucleus::Inclusive,
            top_k: 0,
            warp: TimeWarp::default(),
            corrector: None,
            window: Window::Cached,
            min_entropy: 0.0,
            entropy_window: 256,
        }
    }
}

impl Sampling {
    /// Checks everything that does not depend on a model: that a warped grid decreases, that the temperature is above 0
    /// on it, the corrector's range, the nucleus, and the entropy rule.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming the key.
    pub fn validate(&self) -> Result<()> {
        let checked = self.settings(Schedule::Linear).map(drop);
        checked.map_err(|error| error.rename_field(|field| format!("sample.{field}")))
    }

    /// Temperature, nucleus and top-k.
    pub fn sharpening(&self) -> Sharpening {
        let temperature = match self.temperature {
            Temperature::Constant(temperature) => temperature,
            Temperature::Schedule(_) => 1.0,
        };
        let top_k = (self.top_k > 0).then_some(self.top_k);
        Sharpening { temperature, top_p: self.top_p, nucleus: self.nucleus, top_k }
    }

    /// When a text that is written block by block stops, besides at its end; `None`: nothing else stops it.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming the key.
    pub fn entropy_rule(&self) -> Result<Option<EntropyRule>> {
        let rule = EntropyRule { window: self.entropy_window, least: self.min_entropy };
        match self.min_entropy == 0.0 {
            // What is off has a window that could be used.
            true => EntropyRule { least: 1.0, ..rule }.validate().map(|()| None),
            false => rule.validate().map(|()| Some(rule)),
        }
    }

    /// The settings of a [`Sampler`](super::Sampler) for a noise schedule; what this struct does not say (seed,
    /// batch, …) has its default.
    ///
    /// # Errors
    /// As [`Self::validate`], and for a schedule out of range.
    pub fn settings(&self, schedule: Schedule) -> Result<SampleSettings> {
        let steps = match (self.steps, self.warp.is_off()) {
            (0, true) => Steps::FirstHitting,
            (0, false) => {
                return Err(Error::invalid(
                    "warp",
                    "given",
                    "off, or a grid of steps: first-hitting has none",
                ));
            }
            (steps, true) => Steps::Grid(steps),
            (steps, false) => {
                check_steps(steps)?;
                Steps::Times(self.warp.times(steps)?)
            }
        };
        let temperature_schedule = match self.temperature {
            Temperature::Constant(_) => None,
            Temperature::Schedule(schedule) => Some(schedule),
        };
        let settings = SampleSettings {
            steps,
            draw: self.draw,
            sharpening: self.sharpening(),
            temperature_schedule,
            corrector: self.corrector,
            window: self.window,
            entropy_rule: self.entropy_rule()?,
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
        let sampling: Sampling = toml::from_str(text).unwrap();
        let settings = sampling.settings(Schedule::Polynomial { exponent: 3.0 }).unwrap();
        let Steps::Times(times) = &settings.steps else { panic!("{settings:?}") };
        assert_eq!(*times, [1.0, 0.75f64.powf(1.7), 0.5f64.powf(1.7), 0.25f64.powf(1.7), 0.0]);
        assert_eq!(settings.corrector, Some(Corrector::from([16.0, 2.0, 0.75])));
        let again: Sampling = toml::from_str(&toml::to_string(&sampling).unwrap()).unwrap();
        assert_eq!(again, sampling);
        assert!(toml::from_str::<Sampling>("stepz = 4").is_err());
        let off: Sampling = toml::from_str(&toml::to_string(&Sampling::default()).unwrap()).unwrap();
        assert_eq!(off.corrector, None);
    }

    #[test]
    fn the_entropy_rule_is_off_unless_a_least_entropy_is_given() {
        let rule = |text: &str| {
            let sampling: Sampling = toml::from_str(text).unwrap();
            sampling.settings(Schedule::Linear).unwrap().entropy_rule
        };
        assert_eq!((rule(""), rule("min_entropy = 0.0\nentropy_window = 3")), (None, None));
        assert_eq!(rule("min_entropy = 4.0"), Some(EntropyRule { window: 256, least: 4.0 }));
        assert_eq!(
            rule("min_entropy = 1.5\nentropy_window = 9"),
            Some(EntropyRule { window: 9, least: 1.5 })
        );
    }

    #[test]
    fn the_nucleus_is_inclusive_unless_a_file_says_otherwise() {
        let nucleus =
            |text: &str| toml::from_str::<Sampling>(text).map(|sampling| sampling.sharpening().nucleus);
        assert_eq!(nucleus("top_p = 0.9").unwrap(), Nucleus::Inclusive);
        assert_eq!(nucleus("nucleus = \"exclusive\"").unwrap(), Nucleus::Exclusive);
        assert!(nucleus("nucleus = \"open\"").is_err());
    }

    #[test]
    fn a_temperature_is_a_number_or_a_function_of_the_time() {
        let read = |text: &str| toml::from_str::<Sampling>(text).map(|sampling| sampling.temperature);
        assert_eq!(read("temperature = 0.5").unwrap(), Temperature::Constant(0.5));
        let schedule = Temperature::Schedule([0.5, 2.0, 0.1].into());
        assert_eq!(read("temperature = [0.5, 2.0, 0.1]").unwrap(), schedule);
        assert!(read("temperature = [0.5]").is_err());
    }

    #[test]
    fn numbers_out_of_range_are_refused_by_key() {
        let refused = |sampling: Sampling, key: &str| {
            let error = sampling.validate().unwrap_err().to_string();
            assert!(error.starts_with(&format!("sample.{key} = ")), "{error}");
        };
        let schedule = |triple: [f64; 3]| Temperature::Schedule(triple.into());
        let default = || Sampling { steps: 256, ..Sampling::default() };
        default().validate().unwrap();
        refused(Sampling { steps: usize::MAX, warp: [1.0, 2.0, 0.0].into(), ..default() }, "steps");
        refused(Sampling { steps: 0, warp: [1.0, 2.0, 0.0].into(), ..default() }, "warp");
        refused(Sampling { warp: [1.0, 1.0, 0.1].into(), ..default() }, "warp");
        refused(Sampling { corrector: Some([-1.0, 1.0, 0.0].into()), ..default() }, "corrector");
        refused(Sampling { top_p: 0.0, ..default() }, "top_p");
        refused(Sampling { min_entropy: -4.0, ..default() }, "min_entropy");
        refused(Sampling { min_entropy: f64::NAN, ..default() }, "min_entropy");
        refused(Sampling { entropy_window: 0, ..default() }, "entropy_window");
        refused(Sampling { min_entropy: 4.0, entropy_window: 0, ..default() }, "entropy_window");
        refused(Sampling { temperature: schedule([-1.2, 1.0, 1.0]), ..default() }, "temperature");
        // The last step begins at u = 3/4: τ = 0.0625 there, and at u = 1 it is not used.
        let temperature = schedule([-1.25, 1.0, 1.0]);
        Sampling { steps: 4, temperature, ..default() }.validate().unwrap();
        refused(Sampling { steps: 5, temperature, ..default() }, "temperature");
    }
}
