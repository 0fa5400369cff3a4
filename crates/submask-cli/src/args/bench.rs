//! Arguments of `submask bench`.

use clap::Args;

use super::SettingsArgs;

/// Measure training, evaluation and sampling of a text network on this machine
///
/// Takes the sizes of the preset and of --config and --set, draws weights and tokens, and measures a training step, the
/// likelihood bound with one draw, and sampling: no data are needed and nothing is written. Times are medians of at
/// least three repetitions.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct BenchArgs {
    #[command(flatten)]
    pub settings: SettingsArgs,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

const EXAMPLES: &str = "\
Examples:
  submask bench
  submask bench --config runs/mine/settings.toml --threads 1
  submask bench --preset owt-tiny --device gpu:0 --set train.batch_size=4";
