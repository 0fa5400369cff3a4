//! Arguments of Python as arguments of the program.

use std::num::{NonZeroU64, NonZeroUsize};
use std::path::PathBuf;

use pyo3::prelude::*;
use submask::Result;
use submask::model::CheckpointChoice;
use submask_cli::args::{
    CorrectorArg, EstimateArgs, EvalArgs, ImageEvalArgs, ImageSampleArgs, LayoutArgs, ReadingArgs,
    SampleArgs, ShardArgs, StepsArg, TemperatureArg, TripleArg, UnitArg, choice,
};

/// What is revealed at once, which the library calls digits and tokens.
fn unit(name: &str) -> Result<UnitArg> {
    choice(
        "unit",
        name.strip_suffix('s').map_or(name, |name| if name == "digit" { "subtoken" } else { name }),
    )
}

/// How samples are drawn.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub struct SampleOptions {
    num: NonZeroU64,
    pub prompt: Option<String>,
    pub length: Option<NonZeroUsize>,
    /// 0: first-hitting.
    steps: Option<usize>,
    unit: String,
    order: String,
    per_step: Option<NonZeroUsize>,
    window: Option<String>,
    seed: u64,
    first_sequence: u64,
    temperature: Option<Temperature>,
    top_p: Option<f64>,
    nucleus: Option<String>,
    top_k: Option<usize>,
    min_entropy: Option<f64>,
    entropy_window: Option<usize>,
    draw: Option<String>,
    warp: Option<[f64; 3]>,
    /// Empty: off.
    corrector: Option<Vec<f64>>,
    carry_over: Option<bool>,
    batch: NonZeroUsize,
    trace: bool,
    pub log_probs: Option<usize>,
    sampler: Option<String>,
    label: Option<String>,
    keep_digits: Option<usize>,
    keep_channels: Vec<usize>,
}

/// A temperature.
#[derive(Clone, Copy, FromPyObject)]
enum Temperature {
    Constant(f64),
    Schedule([f64; 3]),
}

impl SampleOptions {
    /// As the program takes them. `is_given`: whether a part of an image is given.
    pub fn args(&self, is_given: bool) -> Result<SampleArgs> {
        let Self { num, length, per_step, seed, first_sequence, top_p, top_k, .. } = *self;
        let Self { min_entropy, entropy_window, carry_over, batch, trace, keep_digits, .. } = *self;
        let steps = |steps| NonZeroUsize::new(steps).map_or(StepsArg::FirstHitting, StepsArg::Grid);
        Ok(SampleArgs {
            model: PathBuf::new(),
            checkpoint: CheckpointChoice::Newest,
            num,
            steps: self.steps.map(steps),
            unit: unit(&self.unit)?,
            order: self.order.parse()?,
            per_step,
            prompt: self.prompt.clone(),
            prompts: None,
            length,
            window: self.window.as_deref().map(|name| choice("window", name)).transpose()?,
            seed,
            first_sequence,
            temperature: self.temperature.map(|temperature| match temperature {
                Temperature::Constant(temperature) => TemperatureArg::Constant(temperature),
                Temperature::Schedule(triple) => TemperatureArg::Schedule(triple),
            }),
            top_p,
            nucleus: self.nucleus.as_deref().map(|name| choice("nucleus", name)).transpose()?,
            top_k,
            min_entropy,
            entropy_window,
            draw: self.draw.as_deref().map(|name| choice("draw", name)).transpose()?,
            warp: self.warp.map(TripleArg),
            corrector: self.corrector.as_ref().map(|numbers| match numbers[..] {
                [k, p, unused] => CorrectorArg::On([k, p, unused]),
                _ => CorrectorArg::Off,
            }),
            carry_over,
            batch,
            trace,
            json: true,
            images: ImageSampleArgs {
                out: None,
                sampler: self.sampler.clone(),
                preset: None,
                label: self.label.clone(),
                given: is_given.then(PathBuf::new),
                mask: None,
                keep_digits,
                keep_channels: self.keep_channels.clone(),
            },
            shard: ShardArgs::default(),
        })
    }
}

/// How a likelihood is estimated.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub struct EstimateOptions {
    estimator: Option<String>,
    draws: Option<NonZeroUsize>,
    steps: Option<NonZeroUsize>,
    order: Option<String>,
    unit: Option<String>,
    per_step: Option<NonZeroUsize>,
    seed: u64,
    carry_over: Option<bool>,
    batch: NonZeroUsize,
}

impl EstimateOptions {
    /// As the program takes them.
    pub fn args(&self) -> Result<EstimateArgs> {
        let Self { draws, steps, per_step, seed, carry_over, batch, .. } = *self;
        Ok(EstimateArgs {
            estimator: self.estimator.as_deref().map(|name| choice("estimator", name)).transpose()?,
            draws,
            steps,
            order: self.order.as_deref().map(str::parse).transpose()?,
            unit: self.unit.as_deref().map(unit).transpose()?,
            per_step,
            seed,
            carry_over,
            batch,
        })
    }
}

/// How texts stand in sequences.
#[derive(Clone, Copy, FromPyObject)]
#[pyo3(from_item_all)]
pub struct LayoutOptions {
    end: bool,
    stride: Option<NonZeroUsize>,
}

impl From<LayoutOptions> for LayoutArgs {
    fn from(LayoutOptions { end, stride }: LayoutOptions) -> Self {
        Self { end, stride }
    }
}

/// What is evaluated.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub struct DataOptions {
    /// Empty: what the run held out.
    paths: Vec<PathBuf>,
    sequences: Option<NonZeroU64>,
    by_document: bool,
    split: Option<String>,
    field: Option<String>,
    prompt_field: Option<String>,
    completion_field: Option<String>,
    format: Option<String>,
    join: Option<String>,
    separator: Option<String>,
    skip_bad: Option<bool>,
    images: Option<String>,
    labels: Option<PathBuf>,
    part: Option<String>,
}

impl DataOptions {
    /// As the program takes them.
    pub fn args(self, layout: LayoutOptions, estimate: &EstimateOptions) -> Result<EvalArgs> {
        Ok(EvalArgs {
            model: PathBuf::new(),
            checkpoint: CheckpointChoice::Newest,
            data: self.paths,
            split: self.split.as_deref().map(|name| choice("split", name)).transpose()?,
            field: self.field,
            prompt_field: self.prompt_field,
            completion_field: self.completion_field,
            reading: ReadingArgs {
                format: self.format.as_deref().map(|name| choice("format", name)).transpose()?,
                join: self.join,
                separator: self.separator,
                skip_bad: self.skip_bad,
            },
            by_document: self.by_document,
            layout: layout.into(),
            estimate: estimate.args()?,
            sequences: self.sequences,
            json: true,
            images: ImageEvalArgs {
                images: self.images.as_deref().map(|name| choice("images", name)).transpose()?,
                labels: self.labels,
                part: self.part.as_deref().map(|name| choice("part", name)).transpose()?,
            },
            shard: ShardArgs::default(),
        })
    }
}
