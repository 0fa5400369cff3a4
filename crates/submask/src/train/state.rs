//! What changes while a run trains.

use super::optimizer::{AdamW, AdamWConfig};
use crate::backbone::weights::Parameter;
use crate::data::Cursor;
use crate::forward::ClipInterval;
use crate::model::BestValidation;

/// The weights of a run and what belongs to them. There is no generator among it: draws are functions of the seed and
/// the step.
#[derive(Clone, Debug, PartialEq)]
pub struct TrainState {
    /// Weights, in definition order.
    pub raw: Vec<Vec<f32>>,
    /// Their moving average.
    pub average: Vec<Vec<f32>>,
    /// The optimiser's moments of the gradients.
    pub optimizer: AdamW,
}

impl TrainState {
    /// The state before the first step: the average is the weights themselves, and the moments are zero.
    pub fn new(raw: Vec<Vec<f32>>, config: AdamWConfig, parameters: &[Parameter]) -> Self {
        Self { average: raw.clone(), raw, optimizer: AdamW::new(config, parameters) }
    }

    /// The state before the first step, with weights drawn under `seed`.
    pub fn drawn(seed: u64, config: AdamWConfig, parameters: &[Parameter]) -> Self {
        let all = parameters.iter().enumerate();
        Self::new(all.map(|(i, parameter)| parameter.initial(seed, i)).collect(), config, parameters)
    }
}

/// How far a run has come.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Reached {
    /// Steps done.
    pub step: u64,
    /// Where the data continue.
    pub cursor: Cursor,
    /// The best validation so far; none where validations are not compared.
    pub best: Option<BestValidation>,
    /// The interval of times from here on, where it is searched for.
    pub clip_interval: Option<ClipInterval>,
}
