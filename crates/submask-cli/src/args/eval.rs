//! Arguments of `submask eval`.

use std::num::{NonZeroU64, NonZeroUsize};
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use submask::order::Order;

use super::UnitArg;

/// Measure how well a model predicts text, images or points
///
/// Every figure says what it is: exact, an upper bound, or a surrogate, which is no likelihood. Figures
/// come with their standard error over sequences and the number of network evaluations.
#[derive(Args, Debug)]
pub struct EvalArgs {
    /// Model folder, run (its newest checkpoint) or checkpoint folder
    pub model: PathBuf,
    /// Text or images to evaluate on [default: what the model's run held out]
    #[arg(long, value_name = "PATH", num_args = 1..)]
    pub data: Vec<PathBuf>,
    /// What in a text file of --data is a document [default: as the model's run, or else file]
    #[arg(long, requires = "data")]
    pub split: Option<SplitArg>,
    /// Field of JSON lines, or column of parquet files, with the text [default: as the model's run, or else
    /// text]
    #[arg(long, value_name = "NAME", requires = "data")]
    pub field: Option<String>,
    /// Field or column with the prompts, for a model of pairs [default: as the model's run, or else prompt]
    #[arg(long, value_name = "NAME", requires = "data")]
    pub prompt_field: Option<String>,
    /// Field or column with the completions, for a model of pairs [default: as the model's run, or else completion]
    #[arg(long, value_name = "NAME", requires = "data")]
    pub completion_field: Option<String>,
    /// What is estimated [default: nelbo-subtoken; exact for autoregressive models]
    #[arg(long)]
    pub estimator: Option<EstimatorArg>,
    /// Monte Carlo draws per sequence; of the estimator orders, orders per sequence [default: 1]
    #[arg(long, value_name = "K")]
    pub draws: Option<NonZeroUsize>,
    /// Steps T of the sampler, of the estimator path [default: the model's]
    #[arg(long, value_name = "T")]
    pub steps: Option<NonZeroUsize>,
    /// Order of generation, of the estimator exact: left-to-right, or where the network is surest first (confidence,
    /// margin, entropy) [default: left-to-right]
    #[arg(long, value_name = "ORDER")]
    pub order: Option<Order>,
    /// What is revealed at once, of the estimators exact and orders [default: token for exact, subtoken for orders]
    #[arg(long)]
    pub unit: Option<UnitArg>,
    /// Units revealed per network evaluation, of the estimator exact [default: 1]
    #[arg(long, value_name = "N")]
    pub per_step: Option<NonZeroUsize>,
    /// Sequences to evaluate, spread over all [default: all]
    #[arg(long, value_name = "N")]
    pub sequences: Option<NonZeroU64>,
    /// Seed of the draws
    #[arg(long, value_name = "S", default_value_t = 0)]
    pub seed: u64,
    /// Whether tokens that contradict a visible digit are excluded; with a model trained without, this
    /// gives a bound of its own [default: the model's]
    #[arg(long, value_name = "true|false")]
    pub carry_over: Option<bool>,
    /// Sequences per network call (affects speed only)
    #[arg(long, value_name = "B", default_value = "16")]
    pub batch: NonZeroUsize,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub images: ImageEvalArgs,
}

/// What only images read.
#[derive(Args, Debug, Default)]
#[command(next_help_heading = "Images")]
pub struct ImageEvalArgs {
    /// What the files of --data are [default: as the model's run]
    #[arg(long, value_name = "SET", requires = "data")]
    pub images: Option<ImageSetArg>,
    /// The file of labels of IDX images
    #[arg(long, value_name = "FILE", requires = "data")]
    pub labels: Option<PathBuf>,
}

/// Which kind of image files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ImageSetArg {
    /// CIFAR-10, binary version
    Cifar10,
    /// IDX files (MNIST, Fashion-MNIST)
    Idx,
    /// ImageNet-32 or -64, .npz or pickled batches
    #[value(name = "imagenet")]
    ImageNet,
    /// Picture files
    Pictures,
}

/// What in a text file is a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SplitArg {
    /// The whole file
    File,
    /// A line
    Line,
    /// A paragraph, up to a blank line
    Paragraph,
}

/// What is estimated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum EstimatorArg {
    /// Upper bound, sub-tokens masked one by one
    NelboSubtoken,
    /// Upper bound, whole tokens masked together
    NelboToken,
    /// Upper bound for the sampler with --steps T
    Path,
    /// Exact likelihood for generation in a deterministic order: --order
    Exact,
    /// Upper bound for generation in random order, from --draws K whole orders per sequence
    Orders,
    /// The paper's training objective: a surrogate, not a likelihood
    JointObjective,
}
