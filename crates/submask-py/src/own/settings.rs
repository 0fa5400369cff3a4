//! Settings as the package's Python code gives them: in dicts whose keys are all there.

use pyo3::prelude::*;
use submask::order::Order;
use submask::predictive::Nucleus;
use submask::sampler::{Draw, SampleSettings, Sampling, Steps, Temperature};
use submask::schedule::{RevealSteps, RevealUnit, TimeWarp};
use submask::{Error, Result};

use super::schedule::NoiseSchedule;

/// One of the values that have a name.
fn named<T: Copy>(field: &str, given: &str, choices: &[(&str, T)]) -> Result<T> {
    let found = choices.iter().find(|(name, _)| *name == given).map(|(_, value)| *value);
    let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
    found.ok_or_else(|| Error::invalid(field, given, format!("one of {}", names.join(", "))))
}

/// What is revealed together.
pub fn unit(name: &str) -> Result<RevealUnit> {
    named("unit", name, &[("digits", RevealUnit::Digits), ("tokens", RevealUnit::Tokens)])
}

/// Whether the nucleus keeps the token that crosses p.
pub fn nucleus(name: &str) -> Result<Nucleus> {
    named("nucleus", name, &[("inclusive", Nucleus::Inclusive), ("exclusive", Nucleus::Exclusive)])
}

/// The steps of a grid: their number, or the times between them.
#[derive(FromPyObject)]
pub enum Grid {
    Even(usize),
    Times(Vec<f64>),
}

impl Grid {
    /// What they reveal under a schedule.
    pub fn reveal_steps(&self, schedule: &NoiseSchedule) -> Result<RevealSteps> {
        match self {
            Self::Even(steps) => RevealSteps::even(&schedule.inner, *steps),
            Self::Times(times) => RevealSteps::new(&schedule.inner, times),
        }
    }
}

/// A temperature, constant or `(a, n, c)`.
#[derive(FromPyObject)]
enum TemperatureGiven {
    Constant(f64),
    Schedule([f64; 3]),
}

/// How sequences are sampled.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub struct SamplingGiven {
    /// 0: first-hitting.
    steps: Grid,
    unit: String,
    order: String,
    per_step: usize,
    draw: String,
    temperature: TemperatureGiven,
    top_p: f64,
    top_k: usize,
    nucleus: String,
    warp: Option<[f64; 3]>,
    corrector: Option<[f64; 3]>,
    schedule: Py<NoiseSchedule>,
    seed: u64,
    log_probs: Option<usize>,
    /// The token that ends a sequence.
    pub end_of_text: Option<u32>,
}

impl SamplingGiven {
    /// The library's settings.
    pub fn settings(&self) -> Result<SampleSettings> {
        let draw = named("draw", &self.draw, &[("joint", Draw::Joint), ("marginal", Draw::Marginal)])?;
        let (steps, times) = match &self.steps {
            Grid::Even(steps) => (*steps, None),
            Grid::Times(times) => (0, Some(Steps::Times(times.clone()))),
        };
        if times.is_some() && self.warp.is_some() {
            return Err(Error::invalid("warp", "given", "none beside given times: the steps are at these"));
        }
        let sampling = Sampling {
            steps,
            draw,
            temperature: match self.temperature {
                TemperatureGiven::Constant(temperature) => Temperature::Constant(temperature),
                TemperatureGiven::Schedule(schedule) => Temperature::Schedule(schedule.into()),
            },
            top_p: self.top_p,
            top_k: self.top_k,
            nucleus: nucleus(&self.nucleus)?,
            warp: self.warp.map_or_else(TimeWarp::default, TimeWarp::from),
            // With given times it is looked at below.
            corrector: self.corrector.filter(|_| times.is_none()).map(Into::into),
            ..Sampling::default()
        };
        let settings = sampling.settings(self.schedule.get().inner)?;
        let settings = SampleSettings {
            steps: times.unwrap_or(settings.steps),
            corrector: self.corrector.map(Into::into),
            unit: unit(&self.unit)?,
            order: self.order.parse::<Order>()?,
            per_step: self.per_step,
            seed: self.seed,
            log_probs: self.log_probs,
            ..settings
        };
        settings.validate()?;
        Ok(settings)
    }
}
