//! Arguments of `submask sample`.

#![allow(rustdoc::broken_intra_doc_links, reason = "these comments are help texts: [[5]] is a hole, no link")]

use std::num::{NonZeroU64, NonZeroUsize};
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, ValueEnum};
use submask::model::CheckpointChoice;
use submask::order::Order;
use submask::sampler::{Nucleus, RevealUnit, Window};

use super::ShardArgs;

/// Write text, or draw images, with a model
///
/// A prompt may have holes that the model fills, looking at both sides (a model with blocks: at what stands
/// before and in the hole's block): [[5]] is a hole of five tokens, [[*]] one up to the end of the sequence. A
/// prompt without holes is continued. \[[ stands for two brackets.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct SampleArgs {
    /// Model folder, run (its newest checkpoint) or checkpoint folder
    pub model: PathBuf,
    /// Which checkpoint of a run: newest, best (of a run with train.keep_best), or its number of steps
    #[arg(long, value_name = "WHICH", default_value_t)]
    pub checkpoint: CheckpointChoice,
    /// How many samples
    #[arg(long, value_name = "N", default_value = "1")]
    pub num: NonZeroU64,
    /// Steps T of the time grid, per block of models with blocks; or first-hitting: no grid, sub-tokens one by one
    /// [default: the model's]
    #[arg(long, value_name = "T|first-hitting")]
    pub steps: Option<StepsArg>,
    /// What is revealed at once
    #[arg(long, value_enum, default_value_t = UnitArg::Subtoken)]
    pub unit: UnitArg,
    /// Order in which masked units are revealed: random, left-to-right, or where the network is surest first
    /// (confidence, margin, entropy)
    #[arg(long, value_name = "ORDER", default_value_t = Order::Random)]
    pub order: Order,
    /// Units revealed per network evaluation, per block of models with blocks, with an order other than random
    /// [default: 1]
    #[arg(long, value_name = "N")]
    pub per_step: Option<NonZeroUsize>,
    /// Text with holes: see above
    #[arg(long, value_name = "TEXT")]
    pub prompt: Option<String>,
    /// JSON lines with a prompt each, or - for standard input: {"prompt": TEXT}, and with it, if wanted, "length" and
    /// "id". --num texts of each; text n of line i, both from 0, is number i·num + n under the seed
    #[arg(long, value_name = "FILE.jsonl", conflicts_with = "prompt")]
    pub prompts: Option<PathBuf>,
    /// Tokens of a text; a model that writes block by block writes texts of up to 1,048,576 tokens, and stops at the end of text
    /// [default: the model's sequence length]
    #[arg(long, value_name = "L")]
    pub length: Option<NonZeroUsize>,
    /// What blocks read of a text beyond the model's length: what was kept when the last tokens were written, or these tokens
    /// read anew for every block. Up to that length both are the same [default: the model's]
    #[arg(long, value_enum)]
    pub window: Option<WindowArg>,
    /// Seed; text n of a seed is the same whatever --num and --batch are
    #[arg(long, value_name = "S", default_value_t = 0)]
    pub seed: u64,
    /// Number of the first sample under the seed
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub first_sequence: u64,
    /// Temperature τ of at least 0, which divides the logits; or a,n,c for τ(u) = a·uⁿ + c, u from 0 to 1 while a
    /// sample resolves [default: the model's]
    #[arg(long, value_name = "τ|a,n,c", allow_hyphen_values = true)]
    pub temperature: Option<TemperatureArg>,
    /// Nucleus: only the smallest set of most probable tokens whose probabilities add up to p, in (0, 1] [default: the
    /// model's]
    #[arg(long, value_name = "p")]
    pub top_p: Option<f64>,
    /// Whether the nucleus keeps the token with which the sum crosses p [default: the model's]
    #[arg(long, value_enum)]
    pub nucleus: Option<NucleusArg>,
    /// Only the k most probable tokens; 0 keeps all [default: the model's]
    #[arg(long, value_name = "k")]
    pub top_k: Option<usize>,
    /// Of a model that writes block by block, the least entropy in nats of the last tokens, below which a text stops; 0 is
    /// off [default: the model's]
    #[arg(long, value_name = "H", allow_negative_numbers = true)]
    pub min_entropy: Option<f64>,
    /// Number of last tokens whose entropy --min-entropy bounds [default: the model's]
    #[arg(long, value_name = "W")]
    pub entropy_window: Option<usize>,
    /// How the digits of a token are drawn [default: the model's]
    #[arg(long)]
    pub draw: Option<DrawArg>,
    /// Time warp a,n,c of the grid: u becomes 1 − a(1 − u)ⁿ + c; n = 0 is off [default: the model's]
    #[arg(long, value_name = "a,n,c", allow_hyphen_values = true)]
    pub warp: Option<TripleArg>,
    /// Corrector k,p,unused of strength k·uᵖ(1 − u)ᵖ, or off [default: the model's]
    #[arg(long, value_name = "k,p,_|off")]
    pub corrector: Option<CorrectorArg>,
    /// Whether tokens that contradict a visible digit are excluded [default: the model's]
    #[arg(long, value_name = "true|false")]
    pub carry_over: Option<bool>,
    /// Sequences sampled together; it does not change the samples
    #[arg(long, value_name = "B", default_value = "8")]
    pub batch: NonZeroUsize,
    /// Show the text while it resolves: ▁▁▁ is a masked token, ░1/2░ one of whose 2 digits 1 is known. Of
    /// images, write a second picture, in which half-known pixels are the mean of what is left
    #[arg(long, conflicts_with = "json")]
    pub trace: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub images: ImageSampleArgs,
    #[command(flatten)]
    pub shard: ShardArgs,
}

/// What blocks read beyond the model's length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum WindowArg {
    /// What was kept when the last tokens were written
    Cached,
    /// The last tokens, read anew for every block
    Recomputed,
}

impl From<WindowArg> for Window {
    fn from(window: WindowArg) -> Self {
        match window {
            WindowArg::Cached => Self::Cached,
            WindowArg::Recomputed => Self::Recomputed,
        }
    }
}

/// What only images and points read.
#[derive(Args, Debug, Default, PartialEq)]
#[command(next_help_heading = "Images and points")]
pub struct ImageSampleArgs {
    /// Picture to write, PNG [default: samples.png]
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Published sampler settings, which flags may change; `submask help samplers` lists them
    #[arg(long, value_name = "NAME")]
    pub sampler: Option<String>,
    /// What earlier versions called --sampler.
    #[arg(long, value_name = "NAME", hide = true, conflicts_with = "sampler")]
    pub preset: Option<String>,
    /// Class, by name or number, or mixture: predictions averaged over all classes
    #[arg(long, value_name = "CLASS|mixture")]
    pub label: Option<String>,
    /// Picture of which a part is given: see --mask, --keep-digits and --keep-channels
    #[arg(long, value_name = "FILE")]
    pub given: Option<PathBuf>,
    /// Picture of the size of an image: what is white in it is drawn anew, the rest of --given is kept
    #[arg(long, value_name = "FILE", requires = "given")]
    pub mask: Option<PathBuf>,
    /// Of --given, keep this many digits of every token, the most significant ones
    #[arg(long, value_name = "N", requires = "given")]
    pub keep_digits: Option<usize>,
    /// Of --given, keep these channels, such as 0 or 0,2 (red and blue)
    #[arg(long, value_name = "N,…", requires = "given", value_delimiter = ',')]
    pub keep_channels: Vec<usize>,
}

/// Three numbers with commas between.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TripleArg(pub [f64; 3]);

impl FromStr for TripleArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let numbers: Result<Vec<f64>, _> = text.split(',').map(|number| number.trim().parse()).collect();
        let triple = numbers.ok().and_then(|numbers| numbers.try_into().ok());
        triple
            .map(Self)
            .ok_or_else(|| "expected three numbers with commas between, such as -0.2,0.75,1".to_owned())
    }
}

/// `--temperature τ|a,n,c`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum TemperatureArg {
    /// The same at all times.
    Constant(f64),
    /// τ(u) = a·uⁿ + c.
    Schedule([f64; 3]),
}

impl FromStr for TemperatureArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(number) = text.parse() {
            return Ok(Self::Constant(number));
        }
        let triple = text.parse::<TripleArg>().map(|TripleArg(triple)| Self::Schedule(triple));
        triple.map_err(|_| "expected a number, or three with commas between".to_owned())
    }
}

/// `--corrector k,p,unused|off`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum CorrectorArg {
    /// None.
    Off,
    /// κ(u) = k·uᵖ(1 − u)ᵖ.
    On([f64; 3]),
}

impl FromStr for CorrectorArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "off" {
            return Ok(Self::Off);
        }
        let triple = text.parse::<TripleArg>().map(|TripleArg(triple)| Self::On(triple));
        triple.map_err(|_| "expected off, or three numbers with commas between".to_owned())
    }
}

/// `--draw`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DrawArg {
    /// One draw of the whole token
    Joint,
    /// Every digit from its own marginal
    Marginal,
}

/// `--nucleus`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum NucleusArg {
    /// The crossing token is kept
    Inclusive,
    /// The crossing token is left out, unless it is the most probable one
    Exclusive,
}

impl From<NucleusArg> for Nucleus {
    fn from(nucleus: NucleusArg) -> Self {
        match nucleus {
            NucleusArg::Inclusive => Self::Inclusive,
            NucleusArg::Exclusive => Self::Exclusive,
        }
    }
}

const EXAMPLES: &str = "\
Examples:
  submask sample runs/dictionary --num 3
  submask sample runs/dictionary --prompt 'lantern: [[12]] light.' --trace
  submask sample runs/dictionary --prompt 'harbour: [[*]]' --order confidence --per-step 2
  submask sample runs/emoji --num 64 --out emoji.png --trace";

/// `--steps T|first-hitting`; earlier versions called the latter `exact`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepsArg {
    /// A time grid of T steps.
    Grid(NonZeroUsize),
    /// First-hitting, without a time grid.
    FirstHitting,
}

impl FromStr for StepsArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "first-hitting" => Ok(Self::FirstHitting),
            "exact" => {
                eprintln!("note: `--steps exact` is called `--steps first-hitting` now");
                Ok(Self::FirstHitting)
            }
            _ => text
                .parse()
                .map(Self::Grid)
                .map_err(|_| "expected a number of at least 1, or first-hitting".to_owned()),
        }
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

impl From<UnitArg> for RevealUnit {
    fn from(unit: UnitArg) -> Self {
        match unit {
            UnitArg::Subtoken => Self::Digits,
            UnitArg::Token => Self::Tokens,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_a_number_or_first_hitting() {
        assert_eq!("first-hitting".parse(), Ok(StepsArg::FirstHitting));
        assert_eq!("exact".parse(), Ok(StepsArg::FirstHitting));
        assert_eq!("64".parse(), Ok(StepsArg::Grid(NonZeroUsize::new(64).unwrap())));
        assert!(["0", "-1", "many", ""].iter().all(|text| text.parse::<StepsArg>().is_err()));
    }

    #[test]
    fn numbers_of_image_samplers_are_triples() {
        assert_eq!("0.5".parse(), Ok(TemperatureArg::Constant(0.5)));
        assert_eq!("-0.2, 0.75,1".parse(), Ok(TemperatureArg::Schedule([-0.2, 0.75, 1.0])));
        assert_eq!(
            ("off".parse(), "4,0.5,1".parse()),
            (Ok(CorrectorArg::Off), Ok(CorrectorArg::On([4.0, 0.5, 1.0])))
        );
        assert!("1,2".parse::<TripleArg>().is_err() && "1,2,x".parse::<TemperatureArg>().is_err());
    }
}
