//! What a run tells whoever watches it; the library itself prints nothing.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::data::image::{ImageCounts, LeftOut};
use crate::data::{CorpusInfo, Fidelity, HeldOutReport, PairCounts, Progress};
use crate::forward::ClipInterval;
use crate::likelihood::{Figure, null_is_not_a_number};
use crate::model::BestValidation;

/// Something that happened in a run.
#[derive(Clone, Debug)]
pub enum Event {
    /// The corpus is being read, the tokenizer trained, or shards written.
    Preparing(Progress),
    /// Something about the data that whoever trains should know.
    Data(DataNote),
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
    /// The interval of times from here on was searched for.
    Clip(ClipRecord),
    /// A checkpoint is on disk.
    Checkpoint(PathBuf),
    /// The run ends before its last step: no validation since the best was better, for as many as it waits for
    /// (`train.patience`).
    EndsEarly {
        /// Steps done.
        step: u64,
        /// The best validation.
        best: BestValidation,
    },
}

/// What there is to know of the data of a run.
#[derive(Clone, Debug)]
pub enum DataNote {
    /// Which images are used.
    Images(ImagesRead),
    /// What was left out of the corpus, and what stands out in it, where there is anything.
    Corpus {
        /// Both.
        info: CorpusInfo,
        /// Whether it is a corpus of pairs.
        pairs: bool,
    },
    /// The tokenizer has no end of text: documents run into each other, and samples never end.
    NoEndOfText,
    /// What of a text is held out for validation.
    HeldOut(HeldOutReport),
    /// How many pairs there are, and how many were left out.
    Pairs {
        /// Of training and validation together.
        counts: PairCounts,
        /// Tokens per sequence, into which a pair must fit.
        seq_len: usize,
    },
}

/// Which images a run uses, and what it leaves out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImagesRead {
    /// Those to train on.
    pub train: ImageCounts,
    /// Those held out.
    pub valid: ImageCounts,
    /// How they were chosen.
    pub held_out: HeldOutBy,
    /// What of the files is not read.
    pub left_out: Vec<LeftOut>,
}

/// How images that are held out were chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeldOutBy {
    /// A share of all.
    Share,
    /// Other files, named by `data.valid_paths`.
    Paths,
    /// The files themselves say it: a folder `val`, or parquet files of that name.
    Files,
}

/// A line of `metrics.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Record {
    /// Training steps.
    Step(StepRecord),
    /// A validation.
    Validation(ValidationRecord),
    /// An interval of times, chosen after a validation (`train.clip_interval = "search"`).
    Clip(ClipRecord),
}

impl Record {
    /// The step after which it was written.
    pub fn step(&self) -> u64 {
        match self {
            Self::Step(record) => record.step,
            Self::Validation(record) => record.step,
            Self::Clip(record) => record.step,
        }
    }
}

/// Training since the last record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepRecord {
    /// Step, counted from 1.
    pub step: u64,
    /// Training loss in nats per token, the mean since the last record.
    #[serde(deserialize_with = "null_is_not_a_number")]
    pub loss_nats_per_token: f64,
    /// Which loss that is: `joint` (a surrogate), `marginal`, `cross-entropy` or `next-token`.
    pub objective: String,
    /// Global norm of the gradients of this step, before clipping.
    #[serde(deserialize_with = "null_is_not_a_number")]
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

/// The interval of times in which the losses of blocks vary least, of those that are compared.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClipRecord {
    /// Step, counted from 1, after which times are drawn from it.
    pub step: u64,
    /// The interval, `a..b`.
    pub interval: ClipInterval,
    /// The variance of losses per token over the blocks of 16 held-out sequences, summed over all of these.
    #[serde(deserialize_with = "null_is_not_a_number")]
    pub variance: f64,
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
