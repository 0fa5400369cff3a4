//! Everything that determines a training run, as it stands in `settings.toml`.
//!
//! Every key is always present, so that a resolved file says all that was used.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use toml::Table;

use super::optimizer::AdamWConfig;
use crate::data::{
    BlockLayout, PrepareSettings, Source, Split, TOKENIZER_FILE, TokenizerKind, TokenizerSpec,
};
use crate::model::{ModelSettings, SampleDefaults, ScheduleSettings};
use crate::objective::Objective;
use crate::{Error, Result};

use super::visual_settings::VisualRunSettings;

/// Settings of a run, whatever it trains on.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum RunSettings {
    /// On text.
    Text(Box<Settings>),
    /// On images or points.
    Visual(Box<VisualRunSettings>),
}

impl RunSettings {
    /// Reads `settings.toml`.
    ///
    /// # Errors
    /// [`Error::Io`] and [`Error::Format`] naming the file and what is wrong.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(Error::io(path))?;
        let table: Table =
            text.parse().map_err(|error: toml::de::Error| Error::format(path, error.to_string()))?;
        Self::from_table(table).map_err(|error| Error::format(path, error.to_string()))
    }

    /// From all keys; `model.network` says what kind they are of.
    ///
    /// # Errors
    /// What is missing, unknown, or of the wrong type.
    pub fn from_table(table: Table) -> std::result::Result<Self, toml::de::Error> {
        let network = table.get("model").and_then(|model| model.get("network")?.as_str());
        match network {
            Some("unet" | "toy") => table.try_into().map(|settings| Self::Visual(Box::new(settings))),
            _ => table.try_into().map(|settings| Self::Text(Box::new(settings))),
        }
    }

    /// As it is written to `settings.toml`.
    ///
    /// # Errors
    /// What cannot be written as TOML.
    pub fn to_toml(&self) -> std::result::Result<String, String> {
        match self {
            Self::Text(settings) => toml::to_string(settings),
            Self::Visual(settings) => toml::to_string(settings),
        }
        .map_err(|error| error.to_string())
    }

    /// The training loop.
    pub fn train(&self) -> &TrainSettings {
        match self {
            Self::Text(settings) => &settings.train,
            Self::Visual(settings) => &settings.train,
        }
    }

    /// Checks everything that can be checked without the data.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming the key, the value and what is allowed.
    pub fn validate(&self) -> Result<()> {
        match self {
            Self::Text(settings) => settings.validate(),
            Self::Visual(settings) => settings.validate(),
        }
    }

    /// The first section or key that differs, of those that a run must not change when it is resumed.
    pub(super) fn first_difference(&self, other: &Self) -> Option<&'static str> {
        let (Ok(ours), Ok(theirs)) = (self.to_toml(), other.to_toml()) else { return Some("settings") };
        let (Ok(ours), Ok(theirs)) = (ours.parse::<Table>(), theirs.parse::<Table>()) else {
            return Some("settings");
        };
        let sections = ["data", "tokenizer", "model", "schedule"];
        if let Some(section) = sections.into_iter().find(|section| ours.get(*section) != theirs.get(*section))
        {
            return Some(section);
        }
        let (ours, theirs) = (self.train(), other.train());
        let keys = [
            ("train.seed", ours.seed == theirs.seed),
            ("train.batch_size", ours.batch_size == theirs.batch_size),
            ("train.accumulate", ours.accumulate == theirs.accumulate),
        ];
        keys.into_iter().find(|(_, same)| !same).map(|(key, _)| key)
    }
}

/// Settings of a run on text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The corpus.
    pub data: DataSettings,
    /// How text becomes tokens.
    pub tokenizer: TokenizerSettings,
    /// The network and how tokens become sub-tokens.
    pub model: ModelSettings,
    /// The noise schedule.
    pub schedule: ScheduleSettings,
    /// The training loop.
    pub train: TrainSettings,
    /// How samples are drawn while training and by default afterwards.
    pub sample: SampleDefaults,
}

/// The corpus and how sequences are cut out of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataSettings {
    /// Files and folders; empty: the built-in dictionary.
    pub paths: Vec<PathBuf>,
    /// What in a text file is one document.
    pub split: Split,
    /// The field of JSON lines, or column of parquet files, that holds the text.
    pub field: String,
    /// Share of the documents that is held out for validation, in (0, 1).
    pub valid_fraction: f64,
    /// Whether a sequence has end of text at both ends (the published packing of OpenWebText).
    pub block_ends: bool,
    /// Where prepared token shards are kept; empty: inside the run folder.
    pub cache: PathBuf,
}

/// Which kind of tokenizer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TokenizerChoice {
    /// The 256 bytes.
    Bytes,
    /// The characters of the corpus.
    Characters,
    /// Space and a to z.
    Text8,
    /// GPT-2's vocabulary.
    Gpt2,
    /// Numbers below `vocab_size`, with white space between them.
    Numbers,
    /// A byte-level BPE of `vocab_size` tokens trained on the corpus.
    Bpe,
    /// The Hugging Face file at `path`.
    TokenizerJson,
}

/// The tokenizer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenizerSettings {
    /// Which kind.
    pub kind: TokenizerChoice,
    /// Vocabulary size of a trained BPE, or of `numbers`; no other kind reads it.
    pub vocab_size: usize,
    /// The file of `tokenizer-json`; no other kind reads it.
    pub path: PathBuf,
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
    /// Which loss; the autoregressive network has its own and does not read it.
    pub objective: Objective,
    /// Smallest time that is drawn, in [0, 1).
    pub time_epsilon: f64,
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
    /// AdamW.
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
}

impl Settings {
    /// Checks everything that can be checked without the corpus.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming the key, the value and what is allowed.
    pub fn validate(&self) -> Result<()> {
        in_open_unit("data.valid_fraction", self.data.valid_fraction)?;
        self.schedule.schedule().validate()?;
        at_least_one("model.subtokens", self.model.subtokens as u64)?;
        at_least_one("model.seq_len", self.model.seq_len as u64)?;
        self.train.validate()?;
        self.sample.validate()?;
        self.model.validate(self.tokenizer.vocab_size())
    }
}

impl DataSettings {
    /// How sequences of `seq_len` tokens are cut.
    pub fn layout(&self, seq_len: usize) -> BlockLayout {
        BlockLayout { seq_len, block_ends: self.block_ends }
    }

    /// Where documents come from.
    pub fn source(&self) -> Source {
        if self.paths.is_empty() {
            return Source::Dictionary;
        }
        Source::Files { paths: self.paths.clone(), split: self.split, field: self.field.clone() }
    }
}

impl Settings {
    /// How the corpus is prepared.
    pub fn prepare(&self) -> PrepareSettings {
        PrepareSettings {
            valid_fraction: self.data.valid_fraction,
            seed: self.train.seed,
            ..PrepareSettings::new(self.data.source(), self.tokenizer.spec())
        }
    }
}

impl TokenizerSettings {
    /// The settings that ask for the tokenizer of the model in `folder`. The alphabet of `characters` comes from the
    /// corpus, not from settings.
    pub fn of(kind: &TokenizerKind, folder: &Path) -> Self {
        let nothing = |kind| Self { kind, vocab_size: 0, path: PathBuf::new() };
        match kind {
            TokenizerKind::Bytes => nothing(TokenizerChoice::Bytes),
            TokenizerKind::Characters { .. } => nothing(TokenizerChoice::Characters),
            TokenizerKind::Text8 => nothing(TokenizerChoice::Text8),
            TokenizerKind::Gpt2 => nothing(TokenizerChoice::Gpt2),
            TokenizerKind::Numbers { vocab_size } => {
                Self { vocab_size: *vocab_size, ..nothing(TokenizerChoice::Numbers) }
            }
            TokenizerKind::TokenizerJson { .. } => {
                Self { path: folder.join(TOKENIZER_FILE), ..nothing(TokenizerChoice::TokenizerJson) }
            }
        }
    }

    /// Vocabulary size C, where it is known before the corpus, or the file, is read.
    pub fn vocab_size(&self) -> Option<usize> {
        match self.kind {
            TokenizerChoice::Bytes => Some(257),
            TokenizerChoice::Text8 => Some(27),
            TokenizerChoice::Gpt2 => Some(50_257),
            TokenizerChoice::Bpe | TokenizerChoice::Numbers => Some(self.vocab_size),
            TokenizerChoice::Characters | TokenizerChoice::TokenizerJson => None,
        }
    }

    /// Which tokenizer the corpus is prepared with.
    pub fn spec(&self) -> TokenizerSpec {
        match self.kind {
            TokenizerChoice::Bytes => TokenizerSpec::Bytes,
            TokenizerChoice::Characters => TokenizerSpec::Characters,
            TokenizerChoice::Text8 => TokenizerSpec::Text8,
            TokenizerChoice::Gpt2 => TokenizerSpec::Gpt2,
            TokenizerChoice::Numbers => TokenizerSpec::Numbers { vocab_size: self.vocab_size },
            TokenizerChoice::Bpe => TokenizerSpec::Bpe { vocab_size: self.vocab_size },
            TokenizerChoice::TokenizerJson => {
                TokenizerSpec::TokenizerJson { path: self.path.clone(), end_of_text: None }
            }
        }
    }
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

fn at_least_one(key: &str, value: u64) -> Result<()> {
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

    fn dictionary() -> Settings {
        toml::from_str(include_str!("../../../submask-cli/presets/dictionary.toml"))
            .expect("the preset is whole")
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
    fn settings_that_were_saved_before_the_encoders_keys_existed_still_load() {
        let text = toml::to_string(&dictionary()).unwrap();
        let new = ["query_groups", "intermediate"];
        let old: Vec<&str> =
            text.lines().filter(|line| !new.iter().any(|key| line.starts_with(key))).collect();
        assert_eq!(old.len() + new.len(), text.lines().count());
        assert_eq!(toml::from_str::<Settings>(&old.join("\n")).unwrap(), dictionary());
        let mut model = serde_json::to_value(dictionary().model).unwrap();
        for key in new {
            model.as_object_mut().unwrap().remove(key).unwrap();
        }
        assert_eq!(serde_json::from_value::<ModelSettings>(model).unwrap(), dictionary().model);
    }

    #[test]
    fn values_out_of_range_are_refused_by_key() {
        let refused = |change: fn(&mut Settings), key: &str| {
            let mut settings = dictionary();
            change(&mut settings);
            let error = settings.validate().unwrap_err().to_string();
            assert!(error.starts_with(key), "{error}");
        };
        dictionary().validate().unwrap();
        refused(|s| s.train.steps = 1 << 24, "train.steps");
        refused(|s| s.train.batch_size = 0, "train.batch_size");
        refused(|s| s.train.ema_decay = 1.0, "train.ema_decay");
        refused(|s| s.data.valid_fraction = 0.0, "data.valid_fraction");
        refused(|s| s.model.hidden = 190, "model.hidden");
    }
}
