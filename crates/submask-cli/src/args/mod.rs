//! What the user may type, and the help that explains it.

#![allow(
    rustdoc::broken_intra_doc_links,
    reason = "these comments are help texts: [/path] may be left out, no link"
)]

mod bench;
mod convert;
mod data;
mod estimate;
mod eval;
pub mod fits;
mod logits;
mod metrics;
mod sample;
mod score;
#[cfg(feature = "serve")]
mod serve;
mod shard;
mod shell;
mod train;

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use submask::DeviceChoice;
use submask::ops::Precision;

pub use bench::BenchArgs;
pub use convert::{ExportArgs, FormatArg, ImportArgs, NetworkArgs};
pub use data::{DataArgs, DataCommand, DataInfoArgs, PrepareArgs};
pub use estimate::{EstimateArgs, EstimatorArg, LayoutArgs};
pub use eval::{EvalArgs, FileFormatArg, ImageEvalArgs, ImageSetArg, PartArg, ReadingArgs, SplitArg};
pub use logits::LogitsArgs;
pub use metrics::{MetricsArgs, PreprocessingArg};
pub use sample::{
    CorrectorArg, DrawArg, ImageSampleArgs, NucleusArg, SampleArgs, StepsArg, TemperatureArg, TripleArg,
    UnitArg, WindowArg,
};
pub use score::ScoreArgs;
#[cfg(feature = "serve")]
pub use serve::{ModelArg, ServeArgs};
pub use shard::{MergeArgs, ShardArgs};
pub use shell::{CompletionsArgs, ManArgs};
pub use train::{SettingsArgs, TrainArgs};

/// The command line.
#[derive(Debug, Parser)]
#[command(
    name = "submask",
    version,
    about = "Train, evaluate and sample discrete diffusion models with partial masking (MDM-Prime)",
    after_help = notes(),
    arg_required_else_help = true,
    subcommand_required = true,
    max_term_width = 100
)]
pub struct Cli {
    /// Threads to compute with [default: one per core]
    #[arg(long, global = true, value_name = "N", help_heading = "Global options")]
    pub threads: Option<NonZeroUsize>,
    /// Where to compute: auto (a GPU that answers, otherwise the CPU), cpu, or gpu:N; GPUs need a build with the cargo
    /// feature cuda, vulkan or wgpu
    #[arg(long, global = true, value_name = "DEVICE", default_value_t, help_heading = "Global options")]
    pub device: DeviceChoice,
    /// In which precision matrices are multiplied: fp32, tf32 (NVIDIA's GPUs through CUDA), or bf16 (CPUs with AVX-512 for
    /// it, some GPUs), where norms, softmax and the weights in training stay fp32
    #[arg(long, global = true, value_name = "PRECISION", default_value_t, help_heading = "Global options")]
    pub precision: Precision,
    #[command(subcommand)]
    pub command: Command,
}

/// What stands below the list of verbs: where to begin, and what a call gives back.
fn notes() -> String {
    let serve = match cfg!(feature = "serve") {
        true => "  submask serve runs/dictionary    shows in a browser how they resolve\n",
        false => "",
    };
    format!(
        "Begin with:\n  \
         submask train                    learns from a dictionary that is built in, in a few minutes\n  \
         submask sample runs/dictionary   writes entries\n\
         {serve}\n\
         Results are written to standard output; progress, messages and errors to standard error.\n\n\
         Exit codes: 0 done, 1 failed, 2 wrong usage or settings, 130 stopped by the user with a checkpoint."
    )
}

/// The value of a flag by its name.
///
/// # Errors
/// Of another name, with those that there are.
pub fn choice<T: ValueEnum>(field: &str, name: &str) -> submask::Result<T> {
    T::from_str(name, false).map_err(|_| {
        let names = T::value_variants().iter().filter_map(ValueEnum::to_possible_value);
        let names: Vec<String> = names.map(|value| value.get_name().to_owned()).collect();
        submask::Error::invalid(field, name, names.join(", "))
    })
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Command {
    Train(TrainArgs),
    Eval(EvalArgs),
    Score(ScoreArgs),
    Sample(Box<SampleArgs>),
    #[cfg(feature = "serve")]
    Serve(Box<ServeArgs>),
    Metrics(MetricsArgs),
    Logits(LogitsArgs),
    Merge(MergeArgs),
    Data(DataArgs),
    Import(ImportArgs),
    Export(ExportArgs),
    Info(InfoArgs),
    Plot(PlotArgs),
    Bench(BenchArgs),
    /// List the published sampler settings of image models, with their published FID
    #[command(alias = "presets")]
    Samplers,
    Completions(CompletionsArgs),
    Man(ManArgs),
}

/// Describe a model, a run, a token shard, a settings file or a checkpoint of another program
#[derive(Args, Debug)]
pub struct InfoArgs {
    /// Model folder, run folder, checkpoint folder, .tokens file, .toml settings, tokenizer.json or what import may be
    /// given, also what it refuses, also by a name hub://owner/repo[@revision][/path]
    #[arg(value_name = "MODEL|RUN|FILE")]
    pub path: PathBuf,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Draw the training loss and the validation figures of a run as PNG and SVG
///
/// Reads metrics.jsonl and writes one chart per quantity; charts of an earlier call are replaced. The
/// paths written are printed, one per line.
#[derive(Args, Debug)]
pub struct PlotArgs {
    /// Run folder
    pub run: PathBuf,
    /// Folder for the charts [default: RUN/plots]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
