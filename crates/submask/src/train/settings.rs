//! Everything that determines a training run, as it stands in `settings.toml`.
//!
//! Every key of the chosen data, network, codes and schedule is always present, so that a resolved file says all that
//! was used.

use std::path::Path;

use serde::de::Error as _;
use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use super::clip::ClipChoice;
use super::optimizer::AdamWConfig;
use crate::model::{
    Assignment, CodeSettings, FORMAT_VERSION, ModelConfig, NetworkConfig, Sampling, Subject, format_1, keys,
};
use crate::objective::Objective;
use crate::schedule::Schedule;
use crate::{Error, Result};

pub use super::subject::{
    DensityData, ImageData, ImageParts, ImageSetChoice, RunData, TextData, TokenizerChoice, TokenizerSettings,
};

/// Settings of a run, whatever it trains on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunSettings {
    /// What is learnt.
    pub data: RunData,
    /// How text becomes tokens; of text only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokenizer: Option<TokenizerSettings>,
    /// The network.
    #[serde(rename = "model")]
    pub network: NetworkConfig,
    /// How tokens become sub-tokens.
    pub codes: CodeSettings,
    /// The noise schedule.
    pub schedule: Schedule,
    /// The training loop.
    pub train: TrainSettings,
    /// How samples are drawn while training and by default afterwards.
    pub sample: Sampling,
}

impl RunSettings {
    /// Reads `settings.toml`, of this or an earlier version.
    ///
    /// # Errors
    /// [`Error::Io`] and [`Error::Format`] naming the file and what is wrong.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(Error::io(path))?;
        let table: Table =
            text.parse().map_err(|error: toml::de::Error| Error::format(path, error.to_string()))?;
        Self::from_table(table).map_err(|error| Error::format(path, error.to_string()))
    }

    /// From all keys, of this or an earlier version.
    ///
    /// # Errors
    /// What is missing, unknown, or of the wrong type.
    pub fn from_table(table: Table) -> std::result::Result<Self, toml::de::Error> {
        let table = Self::upgraded(table).map_err(toml::de::Error::custom)?;
        let given = serde_json::to_value(&table).map_err(toml::de::Error::custom)?;
        let settings: Self = table.try_into()?;
        let known = serde_json::to_value(&settings).map_err(toml::de::Error::custom)?;
        keys::refuse_unread(&given, &known).map_err(toml::de::Error::custom)?;
        Ok(settings)
    }

    /// The keys of the present version from all keys of this or an earlier one.
    ///
    /// # Errors
    /// What is missing or unknown.
    pub fn upgraded(table: Table) -> std::result::Result<Table, String> {
        let mut table = match format_1::is_of_settings(&table) {
            true => format_1::settings(table)?,
            false => table,
        };
        // A run from before there was a choice holds out what it held out then.
        if let Some(data) = table.get_mut("data").and_then(Value::as_table_mut)
            && data.get("kind").and_then(Value::as_str) == Some("text")
            && !data.contains_key("valid_rule")
        {
            data.insert("valid_rule".to_owned(), Value::String("share".to_owned()));
        }
        Ok(table)
    }

    /// The values of a key that chooses which keys its section has: `model.network`, `schedule.kind` and
    /// `codes.assignment.kind`; none for other keys.
    pub fn choices(key: &str) -> &'static [&'static str] {
        match key {
            "model.network" => &["diffusion", "encoder", "autoregressive", "unet", "toy"],
            "schedule.kind" => &["linear", "log-linear", "polynomial", "cosine"],
            "codes.assignment.kind" => &["plain", "shuffled", "table"],
            _ => &[],
        }
    }

    /// The section of such a key with one of its values, and the defaults of everything else.
    pub fn section_with(key: &str, value: &str) -> Option<Table> {
        match key {
            "model.network" => Table::try_from(NetworkConfig::named(value)?).ok(),
            "schedule.kind" => {
                let schedule = match value {
                    "linear" => Schedule::Linear,
                    "log-linear" => Schedule::LogLinear { epsilon: 1e-3 },
                    "polynomial" => Schedule::Polynomial { exponent: 3.0 },
                    "cosine" => Schedule::Cosine,
                    _ => return None,
                };
                Table::try_from(schedule).ok()
            }
            "codes.assignment.kind" => {
                let assignment = match value {
                    "plain" => Assignment::Plain,
                    "shuffled" => Assignment::Shuffled { seed: 0 },
                    "table" => Assignment::Table { path: Default::default() },
                    _ => return None,
                };
                Table::try_from(assignment).ok()
            }
            _ => None,
        }
    }

    /// As it is written to `settings.toml`.
    ///
    /// # Errors
    /// What cannot be written as TOML.
    pub fn to_toml(&self) -> std::result::Result<String, String> {
        toml::to_string(self).map_err(|error| error.to_string())
    }

    /// Checks everything that can be checked without the data.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming the key, the value and what is allowed.
    pub fn validate(&self) -> Result<()> {
        self.train.validate()?;
        let Some(subject) = self.data.learnt().check(self)? else {
            self.schedule.validate()?;
            self.codes.validate()?;
            return self.sample.validate();
        };
        if self.tokenizer.is_some() && subject.text().is_none() {
            return Err(Error::invalid("tokenizer", "given", "nothing: it is of text only"));
        }
        let config = self.config(subject);
        config.validate()?;
        self.train.clip_interval.check_model(&config)
    }

    /// The configuration of the model, once its subject is known.
    pub fn config(&self, subject: Subject) -> ModelConfig {
        ModelConfig {
            format_version: FORMAT_VERSION,
            subject,
            network: self.network.clone(),
            codes: self.codes.clone(),
            schedule: self.schedule,
            sample: self.sample.clone(),
        }
    }

    /// The first section or key that must not change when a run is resumed, and that differs.
    pub(super) fn first_difference(&self, other: &Self) -> Option<&'static str> {
        let sections = [
            ("data", self.data == other.data),
            ("tokenizer", self.tokenizer == other.tokenizer),
            ("model", self.network == other.network),
            ("codes", self.codes == other.codes),
            ("schedule", self.schedule == other.schedule),
            ("train.seed", self.train.seed == other.train.seed),
            ("train.batch_size", self.train.batch_size == other.train.batch_size),
            ("train.accumulate", self.train.accumulate == other.train.accumulate),
        ];
        let first = sections.into_iter().find(|(_, same)| !same).map(|(section, _)| section);
        first.or_else(|| self.train.incomparable(&other.train))
    }
}

/// What the learning rate does after the warm-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Decay {
    /// It stays the same.
    Constant,
    /// Half a cosine down to zero after the last step.
    Cosine,
}

/// The training loop.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainSettings {
    /// Seed of everything random.
    pub seed: u64,
    /// Optimiser steps.
    pub steps: u64,
    /// Sequences per micro-batch.
    pub batch_size: usize,
    /// Micro-batches per step; the step's gradient is the mean of theirs.
    pub accumulate: usize,
    /// Whether each rank of a run under MPI keeps its share of the optimiser's moments and of the averaged weights only; the
    /// results are the same bits. One process does not read it.
    #[serde(default)]
    pub shard_optimizer: bool,
    /// Which loss; the autoregressive network has its own and does not read it.
    pub objective: Objective,
    /// Smallest time that is drawn, in [0, 1); not read where `clip_interval` says which times are.
    pub time_epsilon: f64,
    /// Which interval of times is drawn from instead.
    #[serde(default)]
    pub clip_interval: ClipChoice,
    /// Learning rate after the warm-up.
    pub learning_rate: f64,
    /// Steps of linear warm-up.
    pub warmup_steps: u64,
    /// What the learning rate does after the warm-up.
    pub decay: Decay,
    /// Limit of the gradients' global norm.
    pub clip: f64,
    /// Decay of the averaged weights, in [0, 1).
    pub ema_decay: f64,
    /// Rates of decay, ε and weight decay of the optimiser.
    pub adamw: AdamWConfig,
    /// Steps between log records.
    pub log_every: u64,
    /// Steps between validations; the last step is always validated.
    pub validate_every: u64,
    /// Sequences that a validation evaluates; 0: all of them.
    pub validate_sequences: u64,
    /// Monte Carlo draws per sequence in a validation.
    pub validate_draws: usize,
    /// Sequences that the last validation evaluates; 0: all of them.
    pub final_sequences: u64,
    /// Monte Carlo draws per sequence in the last validation.
    pub final_draws: usize,
    /// Samples per validation.
    pub validate_samples: usize,
    /// Samples of the last validation.
    pub final_samples: usize,
    /// Steps between checkpoints; the last step always has one.
    pub checkpoint_every: u64,
    /// Newest checkpoints that are kept.
    pub keep_checkpoints: usize,
    /// Whether the checkpoint with the best validation is kept, too.
    #[serde(default)]
    pub keep_best: bool,
    /// Validations without improvement after which the run ends; 0: it never ends early.
    #[serde(default)]
    pub patience: u64,
}

impl TrainSettings {
    /// Checks the ranges.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming the key, the value and what is allowed.
    pub fn validate(&self) -> Result<()> {
        at_least_one("train.batch_size", self.batch_size as u64)?;
        at_least_one("train.accumulate", self.accumulate as u64)?;
        at_least_one("train.steps", self.steps)?;
        at_most("train.steps", self.steps, MAX_STEPS)?;
        at_most("train.accumulate", self.accumulate as u64, MAX_ACCUMULATE)?;
        at_least_one("train.log_every", self.log_every)?;
        at_least_one("train.validate_every", self.validate_every)?;
        at_least_one("train.validate_draws", self.validate_draws as u64)?;
        at_least_one("train.final_draws", self.final_draws as u64)?;
        at_least_one("train.checkpoint_every", self.checkpoint_every)?;
        at_least_one("train.keep_checkpoints", self.keep_checkpoints as u64)?;
        in_half_open_unit("train.time_epsilon", self.time_epsilon)?;
        in_half_open_unit("train.ema_decay", self.ema_decay)?;
        in_half_open_unit("train.adamw.beta_1", self.adamw.beta_1)?;
        in_half_open_unit("train.adamw.beta_2", self.adamw.beta_2)?;
        positive("train.adamw.epsilon", self.adamw.epsilon)?;
        positive("train.learning_rate", self.learning_rate)?;
        positive("train.clip", self.clip)?;
        let decay = self.adamw.weight_decay;
        if !(decay >= 0.0 && decay.is_finite()) {
            return Err(Error::invalid("train.adamw.weight_decay", decay, "a number of at least 0"));
        }
        Ok(())
    }

    /// Learning rate of step `step`, counted from 1.
    pub fn learning_rate_at(&self, step: u64) -> f64 {
        if step <= self.warmup_steps {
            return self.learning_rate * step as f64 / self.warmup_steps as f64;
        }
        match self.decay {
            Decay::Constant => self.learning_rate,
            Decay::Cosine => {
                let span = (self.steps.max(step) - self.warmup_steps) as f64;
                let done = (step - self.warmup_steps - 1) as f64 / span;
                self.learning_rate * 0.5 * (1.0 + (std::f64::consts::PI * done).cos())
            }
        }
    }
}

/// Draws are keyed by steps of 24 bits, and dropout by micro-batches of 16.
const MAX_STEPS: u64 = (1 << 24) - 1;
const MAX_ACCUMULATE: u64 = 1 << 16;

fn at_most(key: &str, value: u64, most: u64) -> Result<()> {
    if value <= most { Ok(()) } else { Err(Error::invalid(key, value, format!("at most {most}"))) }
}

pub(super) fn at_least_one(key: &str, value: u64) -> Result<()> {
    if value >= 1 { Ok(()) } else { Err(Error::invalid(key, value, "at least 1")) }
}

pub(super) fn in_open_unit(key: &str, value: f64) -> Result<()> {
    if value > 0.0 && value < 1.0 { Ok(()) } else { Err(Error::invalid(key, value, "a number in (0, 1)")) }
}

fn in_half_open_unit(key: &str, value: f64) -> Result<()> {
    if (0.0..1.0).contains(&value) { Ok(()) } else { Err(Error::invalid(key, value, "a number in [0, 1)")) }
}

fn positive(key: &str, value: f64) -> Result<()> {
    if value > 0.0 && value.is_finite() {
        Ok(())
    } else {
        Err(Error::invalid(key, value, "a number above 0"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Source, ValidRule};

    fn dictionary() -> RunSettings {
        toml::from_str(include_str!("../../../submask-cli/presets/dictionary.toml"))
            .expect("the preset is whole")
    }

    fn text(settings: &mut RunSettings) -> &mut TextData {
        match &mut settings.data {
            RunData::Text(text) => text,
            other => panic!("{other:?} is no text"),
        }
    }

    fn dit(settings: &mut RunSettings) -> &mut crate::backbone::dit::DitConfig {
        match &mut settings.network {
            NetworkConfig::Diffusion(sizes) => sizes,
            other => panic!("{other:?} is no diffusion transformer"),
        }
    }

    #[test]
    fn the_learning_rate_warms_up_and_falls_as_a_cosine() {
        let train = TrainSettings {
            steps: 10,
            warmup_steps: 4,
            learning_rate: 1.0,
            decay: Decay::Cosine,
            ..dictionary().train
        };
        let rates: Vec<f64> = (1..=10).map(|step| train.learning_rate_at(step)).collect();
        assert_eq!(rates[..5], [0.25, 0.5, 0.75, 1.0, 1.0]);
        assert!(rates[4..].windows(2).all(|pair| pair[0] > pair[1]) && rates[9] > 0.0, "{rates:?}");
        let without = TrainSettings { warmup_steps: 0, steps: 1, ..train };
        assert_eq!(without.learning_rate_at(1), 1.0);
    }

    #[test]
    fn settings_that_name_no_edition_are_of_the_first_dictionary() {
        let preset = include_str!("../../../submask-cli/presets/dictionary.toml").lines();
        let earlier: Vec<&str> = preset.filter(|line| !line.starts_with("edition")).collect();
        let mut earlier: RunSettings = toml::from_str(&earlier.join("\n")).unwrap();
        assert_eq!(text(&mut earlier).source(), Source::FirstDictionary);
        assert_eq!(text(&mut dictionary()).source(), Source::Dictionary);
        assert_eq!(earlier.first_difference(&dictionary()), Some("data"));
    }

    #[test]
    fn settings_that_name_no_rule_of_validation_keep_the_one_there_was() {
        let mut old = Table::try_from(dictionary()).unwrap();
        old["data"].as_table_mut().unwrap().remove("valid_rule");
        old["data"].as_table_mut().unwrap().remove("valid_paths");
        let settings = RunSettings::from_table(old).unwrap();
        let text = settings.data.text().unwrap();
        assert_eq!((text.valid_rule, text.valid_paths.len()), (ValidRule::Share, 0));
        assert_eq!(dictionary().data.text().unwrap().valid_rule, ValidRule::Documents);
        let tokenizer = settings.tokenizer.as_ref().unwrap();
        let asked = serde_json::to_value(text.prepare(tokenizer, 0, 128)).unwrap();
        assert!(asked.get("valid_rule").is_none() && asked.get("seq_len").is_none(), "{asked}");
    }

    #[test]
    fn values_out_of_range_are_refused_by_key() {
        let refused = |change: fn(&mut RunSettings), key: &str| {
            let mut settings = dictionary();
            change(&mut settings);
            let error = settings.validate().unwrap_err().to_string();
            assert!(error.starts_with(key), "{error}");
        };
        dictionary().validate().unwrap();
        refused(|s| s.train.steps = 1 << 24, "train.steps");
        refused(|s| s.train.batch_size = 0, "train.batch_size");
        refused(|s| s.train.ema_decay = 1.0, "train.ema_decay");
        refused(|s| text(s).valid_fraction = 0.0, "data.valid_fraction");
        refused(|s| text(s).edition = 4, "data.edition");
        refused(|s| dit(s).hidden = 190, "model.hidden");
        refused(|s| s.codes.subtokens = 0, "codes.subtokens");
        refused(|s| s.tokenizer = None, "tokenizer");
    }
}
