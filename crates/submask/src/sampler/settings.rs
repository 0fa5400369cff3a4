//! How sequences are sampled.

use serde::{Deserialize, Serialize};

use super::corrector::Corrector;
use super::draw::Draw;
use super::stopping::EntropyRule;
use crate::denoiser::Spec;
use crate::order::Order;
use crate::predictive::Sharpening;
use crate::schedule::{MAX_STEPS, RevealSteps, RevealUnit, Schedule, TemperatureSchedule};
use crate::{Error, Result};

/// The time steps of a sampler.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Steps {
    /// T even steps from t = 1 to t = 0.
    Grid(usize),
    /// The steps between given times t_0 > … > t_T in [0, 1].
    Times(Vec<f64>),
    /// No grid: the first-hitting sampler, T → ∞, which reveals one unit per evaluation in random order (or, with another
    /// order, N units).
    #[serde(alias = "exact")]
    FirstHitting,
}

/// What a network with blocks reads of a text that is longer than its length L. Up to L tokens both are the same; beyond, they
/// are two generators.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Window {
    /// What is kept of the last tokens, as it was made when they were written: its deeper layers have read tokens that are now
    /// out of sight. A block costs the same wherever it stands.
    #[default]
    Cached,
    /// The last tokens, read anew for every block: what is out of sight has no influence.
    Recomputed,
}

/// Everything that a sampler is told, besides the prompts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SampleSettings {
    /// The time steps.
    pub steps: Steps,
    /// What is revealed together: single sub-tokens, or whole tokens.
    pub unit: RevealUnit,
    /// Which units come first. Orders other than random rank all masked units at every evaluation, by what the network
    /// predicts before temperature, top-k and nucleus; they have no grid, no corrector and no marginal draws. A network
    /// that reads the time gets α_t = 1 − k/n with k of the n units masked at the start still masked.
    pub order: Order,
    /// Units revealed per evaluation N ≥ 1, the first N in the order; 1 with the order random. Tokens are drawn
    /// independently of each other, the digits of a token together.
    pub per_step: usize,
    /// How the digits that a token reveals are drawn.
    pub draw: Draw,
    /// Temperature, top-k and nucleus of every token draw.
    pub sharpening: Sharpening,
    /// τ(u), which multiplies the constant temperature of `sharpening`; `None` is 1.
    pub temperature_schedule: Option<TemperatureSchedule>,
    /// Corrector jumps after every step but the last; `None` is off. It needs a grid and single sub-tokens as `unit`.
    pub corrector: Option<Corrector>,
    /// When a text that is written block by block stops before its length; `None`: at its end alone. Networks without blocks
    /// have no such rule: [`Self::check_network`].
    pub entropy_rule: Option<EntropyRule>,
    /// α_t, which says how many sub-tokens a step reveals.
    pub schedule: Schedule,
    /// What blocks read of a text that is longer than the network's length.
    pub window: Window,
    /// Seed of all draws.
    pub seed: u64,
    /// Number of the first sequence: sequence s of a call draws the numbers of `first_sequence` + s.
    pub first_sequence: u64,
    /// Sequences evaluated together; the samples do not depend on it.
    pub batch: usize,
    /// Whether trajectories are kept.
    pub trajectories: bool,
    /// Whether it is told with what probabilities sub-tokens were drawn ([`TokenLogProb`](super::TokenLogProb)), and of how many
    /// most probable tokens beside; `None`: not at all. It asks for an order other than random, at temperature 1 without
    /// truncation, so that the terms are those of an exact chain rule, and for whole tokens where others are told beside.
    pub log_probs: Option<usize>,
}

impl Default for SampleSettings {
    fn default() -> Self {
        Self {
            steps: Steps::FirstHitting,
            unit: RevealUnit::Digits,
            order: Order::Random,
            per_step: 1,
            draw: Draw::Joint,
            sharpening: Sharpening::default(),
            temperature_schedule: None,
            corrector: None,
            entropy_rule: None,
            schedule: Schedule::Linear,
            window: Window::Cached,
            seed: 0,
            first_sequence: 0,
            batch: 16,
            trajectories: false,
            log_probs: None,
        }
    }
}

impl SampleSettings {
    /// Checks the ranges.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming the field.
    pub fn validate(&self) -> Result<()> {
        if self.batch == 0 {
            return Err(Error::invalid("batch", self.batch, "at least 1"));
        }
        self.sharpening.validate()?;
        self.entropy_rule.map_or(Ok(()), |rule| rule.validate())?;
        self.schedule.validate()?;
        let grid = self.reveal_steps()?;
        if let Some(temperature) = &self.temperature_schedule {
            // Without a grid: τ is monotone in u, so both ends decide.
            temperature.validate(grid.as_ref().map_or(&[1.0, 0.0], RevealSteps::times))?;
        }
        self.validate_order()?;
        self.validate_log_probs()?;
        match (&self.corrector, grid, self.unit) {
            (None, ..) => Ok(()),
            (Some(_), None, _) => {
                Err(Error::invalid("corrector", "given", "a grid of steps: without one there are no jumps"))
            }
            (Some(_), _, RevealUnit::Tokens) => Err(Error::invalid(
                "corrector",
                "given",
                "single sub-tokens as the unit: they jump one by one",
            )),
            (Some(corrector), Some(_), RevealUnit::Digits) => corrector.validate(),
        }
    }

    /// Checks what asks for a network with blocks, before anything is sampled; a [`Stream`](super::Stream) refuses it, too.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming the setting.
    pub fn check_network(&self, spec: &Spec) -> Result<()> {
        match self.entropy_rule {
            Some(rule) if spec.block_len == 0 => Err(EntropyRule::without_blocks(rule.least)),
            _ => Ok(()),
        }
    }

    /// Checks what the order excludes.
    fn validate_order(&self) -> Result<()> {
        let order = self.order;
        if self.per_step == 0 {
            return Err(Error::invalid("per_step", 0, "at least 1 unit per evaluation"));
        }
        if order == Order::Random {
            let allowed = "1 with the order random: a grid of steps reveals several at once";
            return if self.per_step == 1 {
                Ok(())
            } else {
                Err(Error::invalid("per_step", self.per_step, allowed))
            };
        }
        let excluded = |field: &str, given: String, allowed: &str| {
            Err(Error::invalid(field, given, format!("{allowed} with the order {order}")))
        };
        match (&self.steps, self.draw, &self.corrector) {
            (Steps::Grid(steps), ..) => excluded("steps", format!("grid of {steps}"), "first-hitting only"),
            (Steps::Times(times), ..) => {
                excluded("steps", format!("{} given times", times.len()), "first-hitting only")
            }
            (_, Draw::Marginal, _) => excluded("draw", "marginal".to_owned(), "joint only"),
            (.., Some(_)) => excluded("corrector", "given".to_owned(), "none"),
            (Steps::FirstHitting, Draw::Joint, None) => Ok(()),
        }
    }

    /// Checks that draws have probabilities that can be told.
    fn validate_log_probs(&self) -> Result<()> {
        let Some(top) = self.log_probs else { return Ok(()) };
        if self.order == Order::Random {
            let allowed = "off with the order random: a text then has no exact chain rule";
            return Err(Error::invalid("log_probs", top, allowed));
        }
        if top > 0 && self.unit != RevealUnit::Tokens {
            let allowed =
                "0 with sub-tokens as the unit: whole tokens alone have most probable tokens beside them";
            return Err(Error::invalid("log_probs", top, allowed));
        }
        let schedule = self.temperature_schedule.map(<[f64; 3]>::from);
        let constant = schedule.is_none_or(|[a, n, c]| (a == 0.0 || n == 0.0) && a + c == 1.0);
        check_plain(top, &self.sharpening, constant)
    }

    /// The reveal-step distribution of the grid; `None` where there is no grid.
    pub(super) fn reveal_steps(&self) -> Result<Option<RevealSteps>> {
        match &self.steps {
            Steps::Grid(steps) => {
                check_steps(*steps)?;
                RevealSteps::even(&self.schedule, *steps).map(Some)
            }
            Steps::Times(times) => RevealSteps::new(&self.schedule, times).map(Some),
            Steps::FirstHitting => Ok(None),
        }
    }
}

/// Checks that probabilities are those that the network says: of draws of which `top` most probable tokens are told beside.
pub(super) fn check_plain(top: usize, sharpening: &Sharpening, constant: bool) -> Result<()> {
    let Sharpening { temperature, top_p, top_k, .. } = *sharpening;
    if temperature == 1.0 && constant && top_p == 1.0 && top_k.is_none() {
        return Ok(());
    }
    let allowed =
        "off at another temperature than 1, and with top_p or top_k: the draws are then not the network's";
    Err(Error::invalid("log_probs", top, allowed))
}

/// Checks T.
pub(super) fn check_steps(steps: usize) -> Result<()> {
    if (1..=MAX_STEPS).contains(&steps) {
        return Ok(());
    }
    Err(Error::invalid("steps", steps, format!("1 to {MAX_STEPS}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_out_of_range_are_refused_by_name() {
        let refused = |settings: SampleSettings, field: &str| {
            let error = settings.validate().unwrap_err().to_string();
            assert!(error.starts_with(field), "{error}");
        };
        let default = SampleSettings::default;
        default().validate().unwrap();
        refused(SampleSettings { batch: 0, ..default() }, "batch = 0");
        refused(SampleSettings { steps: Steps::Grid(0), ..default() }, "steps = 0");
        refused(SampleSettings { steps: Steps::Times(vec![0.5, 0.9]), ..default() }, "time grid");
        let sharpening = Sharpening { temperature: -0.5, ..Sharpening::default() };
        refused(SampleSettings { sharpening, ..default() }, "temperature = -0.5");
        refused(
            SampleSettings { schedule: Schedule::LogLinear { epsilon: 1.0 }, ..default() },
            "schedule.epsilon",
        );
    }

    #[test]
    fn settings_survive_a_file() {
        let settings =
            SampleSettings { steps: Steps::Grid(64), unit: RevealUnit::Tokens, ..Default::default() };
        let json = serde_json::to_string(&settings).unwrap();
        assert!(json.contains(r#""steps":{"grid":64}"#), "{json}");
        assert_eq!(serde_json::from_str::<SampleSettings>(&json).unwrap(), settings);
        assert!(serde_json::from_str::<SampleSettings>(r#"{"stepz": "first-hitting"}"#).is_err());
        // The name that it had before.
        for (name, written) in [("exact", "first-hitting"), ("first-hitting", "first-hitting")] {
            let settings: SampleSettings =
                serde_json::from_str(&format!(r#"{{"steps": "{name}"}}"#)).unwrap();
            assert_eq!(settings.steps, Steps::FirstHitting);
            assert!(serde_json::to_string(&settings).unwrap().contains(&format!(r#""steps":"{written}""#)));
        }
        let ordered: SampleSettings =
            serde_json::from_str(r#"{"order": "left-to-right", "per_step": 3}"#).unwrap();
        assert_eq!((ordered.order, ordered.per_step), (Order::LeftToRight, 3));
    }
}
