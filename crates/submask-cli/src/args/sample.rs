//! Arguments of `submask sample`.

#![allow(rustdoc::broken_intra_doc_links, reason = "these comments are help texts: [[5]] is a hole, no link")]

use std::num::{NonZeroU64, NonZeroUsize};
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, ValueEnum};

/// Write text with a model
///
/// A prompt may have holes that the model fills, looking at both sides: [[5]] is a hole of five tokens,
/// [[*]] one up to the end of the sequence. A prompt without holes is continued. \[[ stands for two
/// brackets.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct SampleArgs {
    /// Model folder, run (its newest checkpoint) or checkpoint folder
    pub model: PathBuf,
    /// How many texts
    #[arg(long, value_name = "N", default_value = "1")]
    pub num: NonZeroU64,
    /// Steps T of the time grid, or exact: no grid, sub-tokens one by one [default: the model's]
    #[arg(long, value_name = "T|exact")]
    pub steps: Option<StepsArg>,
    /// What is revealed at once
    #[arg(long, value_enum, default_value_t = UnitArg::Subtoken)]
    pub unit: UnitArg,
    /// Text with holes
    #[arg(long, value_name = "TEXT")]
    pub prompt: Option<String>,
    /// Tokens of a text [default: the model's sequence length]
    #[arg(long, value_name = "L")]
    pub length: Option<NonZeroUsize>,
    /// Seed; text n of a seed is the same whatever --num and --batch are
    #[arg(long, value_name = "S", default_value_t = 0)]
    pub seed: u64,
    /// Temperature τ above 0, dividing the logits [default: the model's]
    #[arg(long, value_name = "τ")]
    pub temperature: Option<f64>,
    /// Smallest set of most probable tokens with this mass, in (0, 1] [default: the model's]
    #[arg(long, value_name = "p")]
    pub top_p: Option<f64>,
    /// Most probable tokens kept; 0 keeps all [default: the model's]
    #[arg(long, value_name = "k")]
    pub top_k: Option<usize>,
    /// Texts sampled together; it does not change them
    #[arg(long, value_name = "B", default_value = "8")]
    pub batch: NonZeroUsize,
    /// Show the text while it resolves: ▁▁▁ is a masked token, ░1/2░ one of whose 2 digits 1 is known
    #[arg(long, conflicts_with = "json")]
    pub trace: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

const EXAMPLES: &str = "\
Examples:
  submask sample runs/dictionary --num 3
  submask sample runs/dictionary --prompt 'lantern: [[12]] light.' --trace
  submask sample runs/dictionary --prompt 'harbour: [[*]]' --steps exact --temperature 0.8";

/// `--steps T|exact`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepsArg {
    /// A time grid of T steps.
    Grid(NonZeroUsize),
    /// First-hitting, without a time grid.
    Exact,
}

impl FromStr for StepsArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "exact" {
            return Ok(Self::Exact);
        }
        text.parse().map(Self::Grid).map_err(|_| "expected a number of at least 1, or exact".to_owned())
    }
}

/// `--unit`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum UnitArg {
    /// One digit of a token at a time
    Subtoken,
    /// Whole tokens
    Token,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_a_number_or_exact() {
        assert_eq!("exact".parse(), Ok(StepsArg::Exact));
        assert_eq!("64".parse(), Ok(StepsArg::Grid(NonZeroUsize::new(64).unwrap())));
        assert!(["0", "-1", "many", ""].iter().all(|text| text.parse::<StepsArg>().is_err()));
    }
}
