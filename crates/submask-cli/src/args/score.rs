//! Arguments of `submask score`.

use std::path::PathBuf;

use clap::{ArgGroup, Args};
use submask::model::CheckpointChoice;

use super::{EstimateArgs, LayoutArgs, ShardArgs};

/// Tell how probable a model finds given texts
///
/// Prints one line of JSON per text: −log p of the text in nats, or a bound of it, which `kind` says; its standard
/// error over draws, and the tokens and characters of the text. Before a text stands one end of text, given and not
/// charged, where the tokenizer has one.
#[derive(Args, Debug)]
#[command(
    after_help = EXAMPLES,
    group = ArgGroup::new("texts").required(true).args(["text", "completion", "data"])
)]
pub struct ScoreArgs {
    /// Model folder, run (its newest checkpoint) or checkpoint folder
    pub model: PathBuf,
    /// Which checkpoint of a run: newest, best (of a run with train.keep_best), or its number of steps
    #[arg(long, value_name = "WHICH", default_value_t)]
    pub checkpoint: CheckpointChoice,
    /// Text to score; may be given several times
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub text: Vec<String>,
    /// Text that stands before --completion, given and not charged
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true, requires = "completion")]
    pub prompt: Option<String>,
    /// Text to score, given --prompt
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true, requires = "prompt")]
    pub completion: Option<String>,
    /// File of JSON, one object per line or one array, compressed or not, each with either text, or prompt and
    /// completion, and with an id if you like; - is standard input
    #[arg(long, value_name = "FILE")]
    pub data: Option<PathBuf>,
    /// Tell what every token adds, of the estimator exact
    #[arg(long)]
    pub by_token: bool,
    #[command(flatten)]
    pub layout: LayoutArgs,
    #[command(flatten)]
    pub estimate: EstimateArgs,
    #[command(flatten)]
    pub shard: ShardArgs,
}

const EXAMPLES: &str = "\
Examples:
  submask score runs/mine --text 'lantern: A case for a light.'
  submask score runs/mine --prompt 'lantern: ' --completion 'A case for a light.' --end
  submask score runs/mine --data questions.jsonl --draws 128 > scores.jsonl
  submask score runs/baseline --text 'The sea is wide.' --by-token";
