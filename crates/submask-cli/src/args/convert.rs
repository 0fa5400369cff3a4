//! Arguments of `submask import` and `submask export`.

#![allow(
    rustdoc::broken_intra_doc_links,
    reason = "these comments are help texts: [/path] may be left out, no link"
)]

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use submask::import::WeightSet;
use submask::model::{CheckpointChoice, ExportFormat};

/// Make a model of a checkpoint of another program
///
/// Reads checkpoints of the reference's text models (Lightning) and image models, its toy model, folders as MDLM
/// and BD3-LM stand on the Hub, checkpoints of MDM-Prime-v2's encoder and of other training loops, pickled state dicts, and
/// safetensors files, also in several files with an index. Nothing in a file is executed. A report says what was taken
/// and what was not; a checkpoint with missing weights is refused.
///
/// Weights are found under the usual keys (state_dict, model_state_dict, model, …), averaged ones under theirs (ema,
/// model_ema, …), and names without what torch.compile, data parallelism and other wrappers put around them.
///
/// What the network is, the shapes of the weights say; what they do not say stands in the checkpoint's
/// configuration, or has to be given by a flag. `submask info FILE` shows what is known of a file.
///
/// A name hub://owner/repo[@revision][/path] stands for a file, folder or repository on the Hub. It is downloaded into
/// the cache that the Hub's tools share (HF_HOME, HF_HUB_CACHE), and taken from there when the Hub cannot be reached
/// (HF_HUB_OFFLINE=1 does not try). HF_ENDPOINT names another hub, HF_TOKEN gives access to private repositories.
/// This needs a build with the feature `hub`.
#[derive(Args, Debug)]
#[command(after_help = IMPORT_EXAMPLES)]
pub struct ImportArgs {
    /// Checkpoint file, index of several, folder with weights and config.json, or hub://owner/repo[@revision][/path]
    #[arg(value_name = "FILE|FOLDER|HUB")]
    pub source: PathBuf,
    /// Folder for the model; it must not exist
    #[arg(long, value_name = "MODEL")]
    pub to: PathBuf,
    #[command(flatten)]
    pub network: NetworkArgs,
    /// How text becomes tokens: gpt2, text8, bytes, numbers, a tokenizer.json or its folder [default: gpt2 for 50,257
    /// tokens, otherwise numbers]
    #[arg(long, value_name = "NAME|FILE")]
    pub tokenizer: Option<String>,
    /// Token with which a tokenizer.json ends texts [default: what the file and those beside it say]
    #[arg(long, value_name = "TOKEN", requires = "tokenizer")]
    pub end_of_text: Option<String>,
    /// Permutation of the codes: a tensor saved by PyTorch, or safetensors with `permutation`
    #[arg(long, value_name = "FILE")]
    pub permutation: Option<PathBuf>,
    /// Print the report as JSON
    #[arg(long)]
    pub json: bool,
}

const IMPORT_EXAMPLES: &str = "\
Examples:
  submask import prime.ckpt --to models/prime
  submask import mdlm-owt/ --to models/mdlm
  submask import hub://kuleshov-group/mdlm-owt --to models/mdlm
  submask import encoder.pth --to models/v2 --heads 12 --seq-len 1024 --carry-over true --tokenizer gpt2";

/// What the file may not say of its network.
#[derive(Args, Debug, Default)]
pub struct NetworkArgs {
    /// Which weights [default: the averaged ones (ema) where there are any]
    #[arg(long, value_name = "SET")]
    pub weights: Option<WeightsArg>,
    /// Sub-tokens per token ℓ
    #[arg(long, value_name = "ℓ")]
    pub subtokens: Option<usize>,
    /// Tokens of the vocabulary C, without the mask: fewer than its tables have rows for, if they are padded
    #[arg(long, value_name = "C")]
    pub vocab_size: Option<usize>,
    /// Attention heads
    #[arg(long, value_name = "N")]
    pub heads: Option<usize>,
    /// Tokens per sequence L
    #[arg(long, value_name = "L")]
    pub seq_len: Option<usize>,
    /// Tokens per block of block diffusion; 0: none
    #[arg(long, value_name = "N")]
    pub block_len: Option<usize>,
    /// Height of images in pixels
    #[arg(long, value_name = "H")]
    pub height: Option<usize>,
    /// Width of images in pixels
    #[arg(long, value_name = "W")]
    pub width: Option<usize>,
    /// Channels of an attention head of an image network
    #[arg(long, value_name = "N")]
    pub head_channels: Option<usize>,
    /// Whether tokens that contradict a visible digit are excluded
    #[arg(long, value_name = "true|false")]
    pub carry_over: Option<bool>,
    /// Whether the network reads the time
    #[arg(long, value_name = "true|false")]
    pub time_conditioning: Option<bool>,
}

/// A set of weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum WeightsArg {
    /// Those that the optimiser changed
    Raw,
    /// Their moving average
    Ema,
}

impl From<WeightsArg> for WeightSet {
    fn from(set: WeightsArg) -> Self {
        match set {
            WeightsArg::Raw => Self::Raw,
            WeightsArg::Ema => Self::Ema,
        }
    }
}

/// Write a model for other programs
///
/// Writes model.safetensors with the averaged weights under the names of the reference's networks, config.json with
/// the settings, and the tokenizer and table of codes where the model has one.
#[derive(Args, Debug)]
pub struct ExportArgs {
    /// Model folder, run folder or checkpoint
    pub model: PathBuf,
    /// Which checkpoint of a run: newest, best (of a run with train.keep_best), or its number of steps
    #[arg(long, value_name = "WHICH", default_value_t)]
    pub checkpoint: CheckpointChoice,
    /// What the weights are written for
    #[arg(long, value_enum, default_value_t = FormatArg::Safetensors)]
    pub format: FormatArg,
    /// Folder to write; it must not exist [default: MODEL-FORMAT beside the model]
    #[arg(long, value_name = "DIR")]
    pub to: Option<PathBuf>,
}

/// What an exported file is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FormatArg {
    /// The parameters, and nothing else
    Safetensors,
    /// With the buffers of the reference's network besides: its load_state_dict(strict=True) takes it. Of a model with
    /// blocks a folder as BD3-LM is published, with its config.json
    Reference,
}

impl FormatArg {
    /// As it is written on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Safetensors => "safetensors",
            Self::Reference => "reference",
        }
    }
}

impl From<FormatArg> for ExportFormat {
    fn from(format: FormatArg) -> Self {
        match format {
            FormatArg::Safetensors => Self::Safetensors,
            FormatArg::Reference => Self::Reference,
        }
    }
}
