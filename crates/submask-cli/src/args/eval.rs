//! Arguments of `submask eval`.

use std::num::NonZeroU64;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use submask::model::CheckpointChoice;
use submask::train::settings::ImageSetChoice;

use super::{EstimateArgs, LayoutArgs, ShardArgs};

/// Measure how well a model predicts text, images or points
///
/// Every figure says what it is: exact, an upper bound, or a surrogate, which is no likelihood. Figures
/// come with their standard error over sequences and the number of network evaluations.
#[derive(Args, Debug)]
pub struct EvalArgs {
    /// Model folder, run (its newest checkpoint) or checkpoint folder
    pub model: PathBuf,
    /// Which checkpoint of a run: newest, best (of a run with train.keep_best), or its number of steps
    #[arg(long, value_name = "WHICH", default_value_t)]
    pub checkpoint: CheckpointChoice,
    /// Text or images to evaluate on, - for standard input [default: what the model's run held out]
    #[arg(long, value_name = "PATH", num_args = 1..)]
    pub data: Vec<PathBuf>,
    /// What in a text file of --data is a document [default: as the model's run, or else file]
    #[arg(long, requires = "data")]
    pub split: Option<SplitArg>,
    /// Field of JSON, or column of tables and parquet files, with the text: NAME, a.b, a[], a[].b [default: as the
    /// model's run, or else text]
    #[arg(long, value_name = "NAME", requires = "data")]
    pub field: Option<String>,
    /// Field or column with the prompts, for a model of pairs [default: as the model's run, or else prompt]
    #[arg(long, value_name = "NAME", requires = "data")]
    pub prompt_field: Option<String>,
    /// Field or column with the completions, for a model of pairs [default: as the model's run, or else completion]
    #[arg(long, value_name = "NAME", requires = "data")]
    pub completion_field: Option<String>,
    #[command(flatten)]
    pub reading: ReadingArgs,
    /// Evaluate each document alone, as `submask score` scores it, instead of documents one behind the other in
    /// sequences of the model's length
    #[arg(long)]
    pub by_document: bool,
    #[command(flatten)]
    pub layout: LayoutArgs,
    #[command(flatten)]
    pub estimate: EstimateArgs,
    /// Sequences, or documents, to evaluate, spread over all [default: all]
    #[arg(long, value_name = "N")]
    pub sequences: Option<NonZeroU64>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub images: ImageEvalArgs,
    #[command(flatten)]
    pub shard: ShardArgs,
}

/// How files of text are read.
#[derive(Args, Debug, Default)]
pub struct ReadingArgs {
    /// Format of the files of --data [default: as the model's run, or else as their names say]
    #[arg(long, requires = "data")]
    pub format: Option<FileFormatArg>,
    /// What stands between the texts of a list [default: as the model's run, or else a line end]
    #[arg(long, value_name = "TEXT", requires = "data")]
    pub join: Option<String>,
    /// Text that divides documents wherever it stands [default: as the model's run, or else none]
    #[arg(long, value_name = "TEXT", requires = "data")]
    pub separator: Option<String>,
    /// Skip records that cannot be read [default: as the model's run, or else false]
    #[arg(long, value_name = "true|false", requires = "data", num_args = 0..=1, default_missing_value = "true")]
    pub skip_bad: Option<bool>,
}

/// How files are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FileFormatArg {
    /// As the name says
    Auto,
    /// UTF-8 text
    Text,
    /// One object per line, or one array of objects
    Json,
    /// A table with commas
    Csv,
    /// A table with tabs
    Tsv,
    /// Parquet
    Parquet,
    /// Token numbers of two bytes
    Uint16,
    /// Token numbers of four bytes
    Uint32,
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
    /// Which images of the files of --data [default: what they hold out themselves, as a folder val does, or else
    /// those to train on]
    #[arg(long, requires = "data")]
    pub part: Option<PartArg>,
}

/// Which part of a set of images.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PartArg {
    /// Those to train on
    Train,
    /// Those held out for validation
    Valid,
    /// Test images
    Test,
}

/// Which kind of image files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ImageSetArg {
    /// CIFAR-10, binary or Python version
    Cifar10,
    /// CIFAR-100 likewise
    Cifar100,
    /// IDX files (MNIST, Fashion-MNIST)
    Idx,
    /// An .npz file as Keras has them (mnist.npz)
    Npz,
    /// ImageNet-32 or -64, .npz or pickled batches
    #[value(name = "imagenet")]
    ImageNet,
    /// Picture files, or parquet files of pictures
    Pictures,
}

impl ImageSetArg {
    /// As a setting.
    pub fn choice(self) -> ImageSetChoice {
        match self {
            Self::Cifar10 => ImageSetChoice::Cifar10,
            Self::Cifar100 => ImageSetChoice::Cifar100,
            Self::Idx => ImageSetChoice::Idx,
            Self::Npz => ImageSetChoice::Npz,
            Self::ImageNet => ImageSetChoice::ImageNet,
            Self::Pictures => ImageSetChoice::Pictures,
        }
    }
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
