//! What determines a model: network, sub-tokens, schedule, and how it is sampled by default.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::backbone::Embedding;
use crate::ops::Kernels;
use crate::predictive::Sharpening;
use crate::schedule::Schedule;
use crate::subtoken::SubTokenizer;
use crate::{Error, Result};

use super::{Network, files};

/// Which network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NetworkChoice {
    /// The diffusion transformer.
    Diffusion,
    /// The LLaMA-style encoder, a diffusion network too.
    Encoder,
    /// The autoregressive baseline.
    Autoregressive,
}

/// Which code a token gets before it is cut into digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CodeChoice {
    /// Its own number.
    Plain,
    /// A random permutation of all codes, drawn from `codes_seed`.
    Shuffled,
    /// The permutation of all codes in the file `codes_path`.
    Table,
}

/// The network and the sub-tokens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelSettings {
    /// Which network.
    pub network: NetworkChoice,
    /// ℓ, sub-tokens a token.
    pub subtokens: usize,
    /// Which codes tokens get.
    pub codes: CodeChoice,
    /// Seed of shuffled codes.
    pub codes_seed: u64,
    /// The file of a table of codes: safetensors with `permutation` \[b^ℓ\], 64-bit integers. In a model folder it
    /// is not recorded: there it is [`CODES_FILE`](super::CODES_FILE).
    #[serde(default)]
    pub codes_path: PathBuf,
    /// Whether tokens that contradict a visible digit are excluded (math.md §3).
    pub carry_over: bool,
    /// d.
    pub hidden: usize,
    /// h.
    pub heads: usize,
    /// Number of blocks.
    pub blocks: usize,
    /// c; only the diffusion transformer reads it.
    pub cond_dim: usize,
    /// L, tokens a sequence.
    pub seq_len: usize,
    /// Dropout in [0, 1).
    pub dropout: f64,
    /// How digits are embedded; the encoder has one table a digit, the autoregressive network does not read it.
    pub embedding: Embedding,
    /// Whether the network reads the time; only the diffusion transformer reads this.
    pub time_conditioning: bool,
    /// g of the encoder, 0: h; no other network reads it.
    #[serde(default)]
    pub query_groups: usize,
    /// Width inside the encoder's SwiGLU, 0: 8/3·d, rounded up to a multiple of 64; no other network reads it.
    #[serde(default)]
    pub intermediate: usize,
}

/// Which schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ScheduleChoice {
    /// α = 1 − t.
    Linear,
    /// α = 1 − (1 − ε)t.
    LogLinear,
    /// α = (1 − t)ⁿ.
    Polynomial,
    /// α = 1 − cos(π/2·(1 − t)).
    Cosine,
}

/// The noise schedule.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScheduleSettings {
    /// Which.
    pub kind: ScheduleChoice,
    /// ε of `log-linear`; no other kind reads it.
    pub epsilon: f64,
    /// n of `polynomial`; no other kind reads it.
    pub exponent: f64,
}

/// How samples are drawn by default.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SampleDefaults {
    /// Steps T of the sampler; 0: first-hitting, no grid.
    pub steps: usize,
    /// τ > 0.
    pub temperature: f64,
    /// Nucleus p in (0, 1].
    pub top_p: f64,
    /// Most probable tokens kept; 0: all.
    pub top_k: usize,
}

impl ScheduleSettings {
    /// The schedule.
    pub fn schedule(&self) -> Schedule {
        match self.kind {
            ScheduleChoice::Linear => Schedule::Linear,
            ScheduleChoice::LogLinear => Schedule::LogLinear { epsilon: self.epsilon },
            ScheduleChoice::Polynomial => Schedule::Polynomial { exponent: self.exponent },
            ScheduleChoice::Cosine => Schedule::Cosine,
        }
    }
}

impl ModelSettings {
    /// Checks the sizes, for a vocabulary if it is known already.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming the key, the value and what is allowed.
    pub fn validate(&self, vocab_size: Option<usize>) -> Result<()> {
        if self.subtokens == 0 {
            return Err(Error::invalid("model.subtokens", 0, "at least 1"));
        }
        // Widths do not depend on the vocabulary; two classes stand for an unknown one.
        let codes = SubTokenizer::new(vocab_size.unwrap_or(2), self.subtokens)?;
        Network::new(self, &codes, Kernels::Plain).map(|_| ())
    }

    /// The sub-tokenizer for a vocabulary.
    ///
    /// # Errors
    /// As [`SubTokenizer::new`] and [`SubTokenizer::with_permutation`], and of the file of a table.
    pub fn codes(&self, vocab_size: usize) -> Result<SubTokenizer> {
        let codes = SubTokenizer::new(vocab_size, self.subtokens)?;
        match self.codes {
            CodeChoice::Plain => Ok(codes),
            CodeChoice::Shuffled => codes.with_seeded_permutation(self.codes_seed),
            CodeChoice::Table => codes.with_permutation(&files::read_codes(&self.codes_path)?),
        }
    }
}

impl SampleDefaults {
    /// Checks the ranges.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming the key.
    pub fn validate(&self) -> Result<()> {
        self.sharpening().validate()
    }

    /// Temperature, nucleus and top-k.
    pub fn sharpening(&self) -> Sharpening {
        Sharpening {
            temperature: self.temperature,
            top_p: self.top_p,
            top_k: (self.top_k > 0).then_some(self.top_k),
        }
    }
}
