//! What a run tells whoever watches it; the library itself prints nothing.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::data::{Fidelity, HeldOutReport, PairCounts, Progress};
use crate::likelihood::Figure;

/// Something that happened in a run.
#[derive(Clone, Debug)]
pub enum Event {
    /// The corpus is being read, the tokenizer trained, or shards written.
    Preparing(Progress),
    /// The text is open: what of it is held out for validation.
    HeldOut(HeldOutReport),
    /// Pairs are open: how many there are, and how many were left out.
    Pairs {
        /// Of training and validation together.
        counts: PairCounts,
        /// Tokens per sequence, into which a pair must fit.
        seq_len: usize,
    },
    /// Training begins, or is resumed.
    Started {
        /// Weights of the network.
        parameters: u64,
        /// Tokens to train on; `None` where there is no end of them.
        train_tokens: Option<u64>,
        /// Tokens held out; `None` likewise.
        valid_tokens: Option<u64>,
        /// What the tokenizer of text did to its documents, where it is not lossless by construction.
        fidelity: Option<Fidelity>,
        /// Steps done so far.
        step: u64,
        /// Steps at the end.
        steps: u64,
    },
    /// Some steps are done.
    Step(StepRecord),
    /// A validation is done.
    Validation(ValidationRecord),
    /// A checkpoint is on disk.
    Checkpoint(PathBuf),
}

/// A line of `metrics.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Record {
    /// Training steps.
    Step(StepRecord),
    /// A validation.
    Validation(ValidationRecord),
}

impl Record {
    /// The step after which it was written.
    pub fn step(&self) -> u64 {
        match self {
            Self::Step(record) => record.step,
            Self::Validation(record) => record.step,
        }
    }
}

/// Training since the last record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepRecord {
    /// Step, counted from 1.
    pub step: u64,
    /// Training loss in nats per token, the mean since the last record.
    pub loss_nats_per_token: f64,
    /// Which loss that is: `joint` (a surrogate), `marginal`, `cross-entropy` or `next-token`.
    pub objective: String,
    /// Global norm of the gradients of this step, before clipping.
    pub gradient_norm: f64,
    /// Learning rate of this step.
    pub learning_rate: f64,
    /// Tokens seen so far.
    pub tokens: u64,
    /// Tokens per second since the last record.
    pub tokens_per_second: f64,
}

/// A validation of the averaged weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ValidationRecord {
    /// Step, counted from 1.
    pub step: u64,
    /// Valid bound or exact value, joint objective: each figure says what it is.
    pub figures: Vec<Figure>,
    /// Text of a few samples, or the paths of pictures.
    pub samples: Vec<String>,
}

/// Watches a run.
pub trait Observer {
    /// Called in the order in which things happen.
    fn notify(&mut self, event: &Event);
}

impl<F: FnMut(&Event)> Observer for F {
    fn notify(&mut self, event: &Event) {
        self(event);
    }
}
