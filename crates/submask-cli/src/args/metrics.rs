//! Arguments of `submask metrics`.

use std::num::{NonZeroU64, NonZeroUsize};
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use submask::model::CheckpointChoice;

use super::{ImageSetArg, PartArg, ShardArgs};

/// Measure images that a model generates against real ones
///
/// Fréchet distance, Inception Score, precision and recall. Without weights of a feature network the features are
/// means of pixels, and the distance is called frechet_pixels: it compares with itself only. FID is what the
/// published Inception-v3 weights give, and nothing else.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct MetricsArgs {
    /// Model folder, run (its newest checkpoint) or checkpoint folder, whose samples are measured
    pub model: PathBuf,
    /// Which checkpoint of a run: newest, best (of a run with train.keep_best), or its number of steps
    #[arg(long, value_name = "WHICH", default_value_t)]
    pub checkpoint: CheckpointChoice,
    /// Samples to draw
    #[arg(long, value_name = "N", default_value = "256")]
    pub num: NonZeroUsize,
    /// Sampler steps T [default: the model's]
    #[arg(long, value_name = "T")]
    pub steps: Option<NonZeroUsize>,
    /// Seed of the samples
    #[arg(long, value_name = "S", default_value_t = 0)]
    pub seed: u64,
    /// Images sampled together; it does not change the result
    #[arg(long, value_name = "B", default_value = "8")]
    pub batch: NonZeroUsize,
    /// Real images [default: what the model's run held out]
    #[arg(long, value_name = "PATH", num_args = 1..)]
    pub data: Vec<PathBuf>,
    /// What the files of --data are [default: as the model's run]
    #[arg(long, value_name = "SET", requires = "data")]
    pub images: Option<ImageSetArg>,
    /// Which images of the files of --data [default: what they hold out themselves, as a folder val does, or else
    /// those to train on]
    #[arg(long, requires = "data")]
    pub part: Option<PartArg>,
    /// Real images to take, spread over the set [default: all]
    #[arg(long, value_name = "N")]
    pub sequences: Option<NonZeroU64>,
    /// Statistics of real images, .npz as pytorch-fid writes them, in the place of images
    #[arg(long, value_name = "FILE", conflicts_with_all = ["data", "sequences", "save_statistics"])]
    pub statistics: Option<PathBuf>,
    /// Write the statistics of the real images, .npz
    #[arg(long, value_name = "FILE")]
    pub save_statistics: Option<PathBuf>,
    /// Inception-v3 weights, safetensors; the guide says which
    #[arg(long, value_name = "FILE")]
    pub weights: Option<PathBuf>,
    /// How images are resized for Inception-v3
    #[arg(long, value_enum, default_value_t = PreprocessingArg::PytorchFid, requires = "weights")]
    pub preprocessing: PreprocessingArg,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub shard: ShardArgs,
}

const EXAMPLES: &str = "\
Examples:
  submask metrics runs/emoji
  submask metrics runs/cifar --num 50000 --weights inception-fid.safetensors --statistics cifar10.npz";

/// As which program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PreprocessingArg {
    /// As pytorch-fid
    PytorchFid,
    /// As torch-fidelity
    TorchFidelity,
}

impl PreprocessingArg {
    /// As it is written on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::PytorchFid => "pytorch-fid",
            Self::TorchFidelity => "torch-fidelity",
        }
    }
}
