//! Arguments of `submask train`, and the settings flags that `data prepare` shares with it.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// Train a model
///
/// Without arguments: trains on the built-in dictionary of English, in a new folder under runs/.
///
/// Settings are merged in this order, later ones win: preset, --config, flags, --set. All of them are
/// written to RUN/settings.toml. With --resume the settings saved in the run take the preset's place.
///
/// Ctrl-C stops after the current step and writes a checkpoint; --resume goes on from there. A second
/// Ctrl-C quits at once.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct TrainArgs {
    #[command(flatten)]
    pub settings: SettingsArgs,
    /// Run folder; it must not exist, but for --resume [default: runs/NAME, or runs/NAME-2, …, where
    /// NAME is the settings file's or the preset's]
    #[arg(long, value_name = "RUN")]
    pub out: Option<PathBuf>,
    /// Optimiser steps (train.steps)
    #[arg(long, value_name = "N")]
    pub steps: Option<u64>,
    /// Seed of everything random (train.seed)
    #[arg(long, value_name = "S")]
    pub seed: Option<u64>,
    /// Go on with a stopped run, from its newest checkpoint; without --out the newest runs/NAME-…
    #[arg(long, conflicts_with = "init")]
    pub resume: bool,
    /// Begin with the weights of this model, run or checkpoint; its network, codes, schedule and
    /// tokenizer take the preset's place
    #[arg(long, value_name = "MODEL")]
    pub init: Option<PathBuf>,
    /// Sub-tokens per token ℓ; 1 is the ordinary masked diffusion model (codes.subtokens)
    #[arg(long, value_name = "ℓ")]
    pub subtokens: Option<u64>,
    /// Training loss (train.objective)
    #[arg(long)]
    pub objective: Option<ObjectiveArg>,
    /// Picture whose darkness is the density of the points of --preset toy (data.image)
    #[arg(long, value_name = "FILE")]
    pub image: Option<PathBuf>,
    /// Seconds after which a rank that is not heard of ends a run under MPI, at least 1
    #[cfg(feature = "mpi")]
    #[arg(long, value_name = "S", default_value_t = submask_mpi::TIMEOUT,
        value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub mpi_timeout: u64,
    /// Full-screen dashboard; q or Ctrl-C stops with a checkpoint
    #[arg(long)]
    pub tui: bool,
}

const EXAMPLES: &str = "\
Examples:
  submask train
  submask train --data corpus/ --subtokens 4 --out runs/mine
  submask train --preset emoji
  submask train --preset owt-tiny --data openwebtext/ --set train.batch_size=32 train.accumulate=16
  submask train --out runs/mine --resume";

/// Where settings come from.
#[derive(Args, Debug, Default)]
pub struct SettingsArgs {
    /// Settings to begin with: dictionary, text8, owt-small and owt-tiny for text, dictionary-block, text8-block
    /// and owt-block for text by blocks, emoji, fashion and cifar10 for images, toy for points of the plane
    /// [default: dictionary]
    #[arg(long, value_name = "P")]
    pub preset: Option<String>,
    /// Settings file; keys it does not name keep the preset's values
    #[arg(long, value_name = "F.toml")]
    pub config: Option<PathBuf>,
    /// Files of text, JSON, tables or parquet, or of images, and folders of them; - for standard input (data.paths)
    #[arg(long, value_name = "PATH", num_args = 1..)]
    pub data: Vec<PathBuf>,
    /// Text or images for validation, in files of their own: nothing of --data is held out then
    /// (data.valid_paths)
    #[arg(long, value_name = "PATH", num_args = 1..)]
    pub valid: Vec<PathBuf>,
    /// Any setting by its key, such as train.steps=100 or model.hidden=256
    #[arg(long = "set", value_name = "KEY=VALUE", num_args = 1..)]
    pub set: Vec<String>,
}

/// `train.objective` as a flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ObjectiveArg {
    /// The paper's objective; its value is no likelihood
    Joint,
    /// The integrand of the valid likelihood bound
    Marginal,
    /// The paper's for images: joint without its weight
    CrossEntropy,
}

impl ObjectiveArg {
    /// As it stands in a settings file.
    pub fn as_setting(self) -> &'static str {
        match self {
            Self::Joint => "joint",
            Self::Marginal => "marginal",
            Self::CrossEntropy => "cross-entropy",
        }
    }
}
