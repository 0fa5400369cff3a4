//! Arguments of `submask logits`.

#![allow(rustdoc::broken_intra_doc_links, reason = "these comments are help texts: [[5]] is a hole, no link")]

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::Args;
use submask::model::CheckpointChoice;

/// Write what the network says of partly masked sequences
///
/// These are the numbers that everything else is computed from, for comparison with another program: logits without
/// temperature and before tokens that contradict a visible digit are excluded. Of sequence i, from 0, the file holds
/// `logits.i`, one row per token and one column per class of tokens, and `digits.i`, the sub-tokens that the network
/// read, b where one is masked; for a network that reads the time also `time.i`. An autoregressive model has one row
/// per sub-token that is given and one more, and one column per class of sub-tokens. The rows of a model with blocks end
/// with the first block that has a masked sub-token.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct LogitsArgs {
    /// Model folder, run (its newest checkpoint) or checkpoint folder
    pub model: PathBuf,
    /// Which checkpoint of a run: newest, best (of a run with train.keep_best), or its number of steps
    #[arg(long, value_name = "WHICH", default_value_t)]
    pub checkpoint: CheckpointChoice,
    /// JSON lines with a sequence each, or - for standard input: "digits" or "tokens", lists of numbers with null where
    /// masked, or "prompt", a text with holes, and "length"; and for networks that read them "time", from 0 to 1, and
    /// "label"
    #[arg(long, value_name = "FILE.jsonl", required_unless_present = "prompt", conflicts_with = "prompt")]
    pub sequences: Option<PathBuf>,
    /// One text with holes: [[5]] is a hole of five tokens, [[*]] one up to the end of the sequence
    #[arg(long, value_name = "TEXT")]
    pub prompt: Option<String>,
    /// File to write, in the format safetensors
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// Sequences per network call (affects speed only)
    #[arg(long, value_name = "B", default_value = "8")]
    pub batch: NonZeroUsize,
}

const EXAMPLES: &str = "\
Examples:
  submask logits runs/dictionary --prompt 'lantern: [[12]] light.' --out lantern.safetensors
  submask logits runs/dictionary --sequences states.jsonl --out states.safetensors";
