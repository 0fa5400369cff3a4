//! The loss of one micro-batch, and its gradients.

use std::sync::Arc;

use burn::tensor::{Device, Tensor};

use super::settings::TrainSettings;
use crate::backbone::autoregressive::Autoregressive;
use crate::backbone::weights::{Parameter, Weights};
use crate::backbone::{self, Backbone, Digits, Inputs, TrainingDropout};
use crate::forward::{draw_mask, stratified_times};
use crate::model::Network;
use crate::objective::{LossRows, Objective};
use crate::predictive::Predictive;
use crate::random::{Draws, Purpose};
use crate::schedule::Schedule;
use crate::subtoken::SubTokenizer;
use crate::{Error, Result};

/// What turns a batch of tokens into a loss.
pub struct LossFunction {
    network: Network,
    /// Over tokens for a diffusion network, over digits for the autoregressive one.
    predictive: Arc<Predictive>,
    codes: SubTokenizer,
    schedule: Schedule,
    settings: TrainSettings,
    dropout: f64,
}

/// A micro-batch and its place in the run, on which everything random depends.
pub struct MicroBatch<'a> {
    /// Tokens, [B, L].
    pub x_0: &'a [u32],
    /// Training step, counted from 1.
    pub step: u64,
    /// Which of the step's micro-batches.
    pub index: usize,
}

/// What masks a micro-batch.
pub(super) struct Masking<'a> {
    pub predictive: &'a Arc<Predictive>,
    pub schedule: &'a Schedule,
    pub settings: &'a TrainSettings,
}

/// A masked micro-batch.
pub(super) struct Masked {
    /// Digits [B, L·ℓ].
    pub y_t: Vec<u32>,
    /// \[B\].
    pub times: Vec<f64>,
    /// Flat positions b·L + i that can cost something, in increasing order.
    pub positions: Vec<usize>,
    /// What they cost.
    pub rows: LossRows,
}

impl Masking<'_> {
    /// Draws times and masks; the objective is charged at the positions that can cost something.
    ///
    /// # Errors
    /// [`Error::InvalidCode`] for tokens outside the vocabulary.
    pub fn mask(&self, batch: &MicroBatch) -> Result<Masked> {
        let codes = self.predictive.codes();
        let (len, mask, objective) = (codes.subtoken_len(), codes.mask_id(), self.settings.objective);
        let seq_len = batch.x_0.len() / self.settings.batch_size;
        let times = self.times(batch);
        let y_0 = codes.encode(batch.x_0)?;
        let draws = Draws::new(self.settings.seed, Purpose::Mask);
        let mut y_t = Vec::with_capacity(y_0.len());
        for (b, (y_0, t)) in y_0.chunks_exact(seq_len * len).zip(&times).enumerate() {
            let sequence = self.sequence(batch, b);
            y_t.extend(draw_mask(y_0, self.schedule.alpha(*t), mask, &draws, sequence));
        }
        let charged = |position: &usize| {
            !self.predictive.carry_over() || y_t[position * len..(position + 1) * len].contains(&mask)
        };
        let positions: Vec<usize> = (0..batch.x_0.len()).filter(charged).collect();
        let share = 1.0 / batch.x_0.len() as f64;
        let weights: Vec<f64> = times.iter().map(|t| share * objective.weight(self.schedule, *t)).collect();
        let rows = LossRows::new(
            self.predictive.clone(),
            objective,
            positions.iter().map(|&p| batch.x_0[p]).collect(),
            positions.iter().flat_map(|&p| y_t[p * len..(p + 1) * len].iter().copied()).collect(),
            positions.iter().map(|&p| weights[p / seq_len] as f32).collect(),
        );
        Ok(Masked { y_t, times, positions, rows })
    }

    /// Stratified over the whole step, so that micro-batches share one even spread.
    fn times(&self, batch: &MicroBatch) -> Vec<f64> {
        let TrainSettings { batch_size, accumulate, time_epsilon, seed, .. } = *self.settings;
        let draws = Draws::new(seed, Purpose::Time);
        let all = stratified_times(
            batch_size * accumulate,
            time_epsilon,
            (0..).map(|i| draws.uniform(batch.step, i, 0)),
        );
        // Every micro-batch takes each `accumulate`-th stratum.
        all.into_iter().skip(batch.index).step_by(accumulate).collect()
    }

    /// Number of a sequence in the whole run, the key of its mask.
    fn sequence(&self, batch: &MicroBatch, b: usize) -> u64 {
        batch.step << 32 | (batch.index * self.settings.batch_size + b) as u64
    }
}

/// The dropout of a micro-batch.
pub(super) fn dropout_of(batch: &MicroBatch, rate: f64, seed: u64) -> TrainingDropout {
    TrainingDropout {
        rate,
        draws: Draws::new(seed, Purpose::Dropout),
        step: batch.step << 16 | batch.index as u64,
    }
}

/// The value of a loss and its gradients in definition order; zero where there is no loss.
///
/// # Errors
/// [`Error::Invalid`] for gradients that are no 32-bit floats.
pub(super) fn gradients(
    loss: Option<Tensor<1>>,
    weights: &Weights,
    parameters: &[Parameter],
) -> Result<(f64, Vec<Vec<f32>>)> {
    let zeros = |parameter: &Parameter| vec![0.0; parameter.len()];
    let Some(loss) = loss else {
        return Ok((0.0, parameters.iter().map(zeros).collect()));
    };
    let value = f64::from(loss.clone().into_scalar::<f32>());
    let mut gradients = loss.backward();
    let collected = weights.tensors().zip(parameters).map(|(tensor, parameter)| {
        match tensor.grad_remove(&mut gradients) {
            Some(gradient) => gradient.try_into_vec_as::<f32>().map_err(|error| {
                let name = parameter.name.as_str();
                Error::invalid(name, format!("{error:?}"), "a gradient of 32-bit floats")
            }),
            None => Ok(zeros(parameter)),
        }
    });
    Ok((value, collected.collect::<Result<_>>()?))
}

impl LossFunction {
    /// The loss that `settings` ask for.
    ///
    /// # Errors
    /// [`Error::Invalid`] for sizes that do not go together.
    pub fn new(
        network: Network,
        predictive: Arc<Predictive>,
        schedule: Schedule,
        settings: TrainSettings,
        dropout: f64,
    ) -> Result<Self> {
        let codes = predictive.codes().clone();
        let predictive = match &network {
            Network::Diffusion(_) => predictive,
            Network::Autoregressive(network) => {
                Arc::new(Predictive::new(SubTokenizer::new(network.base(), 1)?, true))
            }
        };
        Ok(Self { network, predictive, codes, schedule, settings, dropout })
    }

    /// Name of the loss in records.
    pub fn name(&self) -> &'static str {
        match self.network {
            Network::Autoregressive(_) => "next-token",
            Network::Diffusion(_) => self.settings.objective.name(),
        }
    }

    /// The mean loss per token of a micro-batch in nats, and its gradients in definition order.
    ///
    /// # Errors
    /// [`Error::InvalidCode`] for tokens outside the vocabulary.
    pub fn loss_and_gradients(
        &self,
        parameters: &[Parameter],
        values: &[Vec<f32>],
        device: &Device,
        batch: &MicroBatch,
    ) -> Result<(f64, Vec<Vec<f32>>)> {
        let weights = Weights::new(parameters, values, &device.clone().autodiff());
        gradients(self.loss(&weights, batch)?, &weights, parameters)
    }

    /// The mean loss per token of a micro-batch in nats, \[1\]; `None` where nothing can cost anything.
    ///
    /// # Errors
    /// [`Error::InvalidCode`] for tokens outside the vocabulary.
    pub fn loss(&self, weights: &Weights, batch: &MicroBatch) -> Result<Option<Tensor<1>>> {
        let dropout = dropout_of(batch, self.dropout, self.settings.seed);
        match &self.network {
            Network::Diffusion(network) => self.diffusion_loss(&**network, weights, batch, dropout),
            Network::Autoregressive(network) => self.next_token_loss(network, weights, batch, dropout),
        }
    }

    /// w(t)·objective at the positions that can cost something; `None` when there are none.
    fn diffusion_loss(
        &self,
        network: &dyn Backbone,
        weights: &Weights,
        batch: &MicroBatch,
        dropout: TrainingDropout,
    ) -> Result<Option<Tensor<1>>> {
        let masked =
            Masking { predictive: &self.predictive, schedule: &self.schedule, settings: &self.settings }
                .mask(batch)?;
        let inputs = Inputs { y_t: Digits::Host(&masked.y_t), t: &masked.times, labels: None };
        backbone::loss(network, weights, &inputs, &masked.positions, masked.rows, Some(dropout))
    }

    /// −log p of every digit given those before it, per token.
    fn next_token_loss(
        &self,
        network: &Autoregressive,
        weights: &Weights,
        batch: &MicroBatch,
        dropout: TrainingDropout,
    ) -> Result<Option<Tensor<1>>> {
        let size = self.settings.batch_size;
        let digits = self.codes.encode(batch.x_0)?;
        let inputs = network.shifted(&digits, size);
        let count = digits.len();
        let rows = LossRows::new(
            self.predictive.clone(),
            Objective::Joint,
            digits,
            vec![network.base() as u32; count],
            vec![1.0 / batch.x_0.len() as f32; count],
        );
        let hidden = network.trunk(weights, &inputs, size, Some(dropout));
        let (weight, bias) = network.output_layer(weights);
        Ok(Some(network.kernels().head_loss(hidden, weight, bias, Arc::new(rows))))
    }
}
