//! What a micro-batch costs, and the gradients of that.

use std::sync::Arc;

use burn::tensor::{Device, Tensor};

use super::masking::Masking;
use super::settings::TrainSettings;
use super::slot::Slot;
use crate::backbone::autoregressive::Autoregressive;
use crate::backbone::weights::{Parameter, Weights};
use crate::backbone::{self, Backbone, Digits, Inputs, TrainingDropout};
use crate::compute::Compute;
use crate::data::Batch;
use crate::model::{Architecture, Network};
use crate::objective::{LossRows, Objective};
use crate::predictive::Predictive;
use crate::random::{Draws, Purpose};
use crate::schedule::Schedule;
use crate::subtoken::SubTokenizer;
use crate::{Error, Result};

/// What turns a batch of tokens into a loss.
pub struct LossFunction {
    network: Box<dyn NetworkLoss>,
    settings: TrainSettings,
    dropout: f64,
}

impl LossFunction {
    /// The loss of a network that `settings` ask for, with `dropout` in [0, 1).
    ///
    /// # Errors
    /// [`Error::Invalid`] for sizes that do not go together.
    #[doc(hidden)]
    pub fn new(
        network: Network,
        predictive: Arc<Predictive>,
        schedule: Schedule,
        settings: TrainSettings,
        dropout: f64,
    ) -> Result<Self> {
        let network: Box<dyn NetworkLoss> = match network {
            Network::Autoregressive(network) => {
                let digits = SubTokenizer::new(network.base(), 1)?;
                Box::new(NextToken {
                    network,
                    codes: predictive.codes().clone(),
                    digits: Arc::new(Predictive::new(digits, true)),
                    batch_size: settings.batch_size,
                })
            }
            Network::Diffusion(network) => {
                let masking = Masking { predictive, schedule, settings: settings.clone() };
                Box::new(Denoising { network, masking })
            }
        };
        Ok(Self { network, settings, dropout })
    }

    /// The loss of an architecture's network that `settings` ask for.
    ///
    /// # Errors
    /// [`Error::Invalid`] for sizes that do not go together.
    pub fn of(architecture: &Architecture, settings: &TrainSettings, compute: &Compute) -> Result<Self> {
        Self::new(
            architecture.network(compute.kernels())?,
            architecture.predictive().clone(),
            architecture.schedule(),
            settings.clone(),
            architecture.config().network.dropout(),
        )
    }

    /// Name of the loss in records.
    pub fn name(&self) -> &'static str {
        self.network.name()
    }

    /// The training loop's settings.
    pub fn settings(&self) -> &TrainSettings {
        &self.settings
    }

    /// The mean loss per token of a micro-batch in nats, \[1\]; `None` where nothing can cost anything.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a batch of another size than `train.batch_size`, [`Error::InvalidCode`] for tokens
    /// outside the vocabulary.
    #[doc(hidden)]
    pub fn loss(&self, weights: &Weights, batch: &Batch, slot: Slot) -> Result<Option<Tensor<1>>> {
        let (tokens, size) = (batch.x_0.len(), self.settings.batch_size);
        if tokens == 0 || !tokens.is_multiple_of(size) {
            let allowed = format!("{size} sequences of equal length");
            return Err(Error::invalid("batch", format!("{tokens} tokens"), allowed));
        }
        self.network.loss(weights, batch, slot, self.dropout(slot))
    }

    /// The same, and its gradients in definition order.
    ///
    /// # Errors
    /// As [`Self::loss`].
    pub fn loss_and_gradients(
        &self,
        parameters: &[Parameter],
        values: &[Vec<f32>],
        device: &Device,
        batch: &Batch,
        slot: Slot,
    ) -> Result<(f64, Vec<Vec<f32>>)> {
        let weights = Weights::new(parameters, values, &device.clone().autodiff());
        gradients(self.loss(&weights, batch, slot)?, &weights, parameters)
    }

    fn dropout(&self, slot: Slot) -> TrainingDropout {
        TrainingDropout {
            rate: self.dropout,
            draws: Draws::new(self.settings.seed, Purpose::Dropout),
            step: slot.step << 16 | slot.index as u64,
        }
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
            Some(gradient) => {
                gradient.try_into_vec_as::<f32>().map_err(Error::internal("gradients are 32-bit floats"))
            }
            None => Ok(zeros(parameter)),
        }
    });
    Ok((value, collected.collect::<Result<_>>()?))
}

/// How a kind of network is charged.
trait NetworkLoss: Send + Sync {
    fn name(&self) -> &'static str;

    fn loss(
        &self,
        weights: &Weights,
        batch: &Batch,
        slot: Slot,
        dropout: TrainingDropout,
    ) -> Result<Option<Tensor<1>>>;
}

/// w(t)·objective at the positions that can cost something.
struct Denoising {
    network: Arc<dyn Backbone>,
    masking: Masking,
}

impl NetworkLoss for Denoising {
    fn name(&self) -> &'static str {
        self.masking.settings.objective.name()
    }

    fn loss(
        &self,
        weights: &Weights,
        batch: &Batch,
        slot: Slot,
        dropout: TrainingDropout,
    ) -> Result<Option<Tensor<1>>> {
        let masked = self.masking.mask(batch, slot)?;
        let reads_labels = self.network.spec().classes.is_some();
        // Data without labels are of no class.
        let labels = (reads_labels && !batch.labels.is_empty()).then_some(batch.labels.as_slice());
        let inputs = Inputs { y_t: Digits::Host(&masked.y_t), t: &masked.t, labels, context: Context::None };
        backbone::loss(&*self.network, weights, &inputs, &masked.positions, masked.rows, Some(dropout))
    }
}

/// −log p of every digit given the digits before it, per token.
struct NextToken {
    network: Arc<Autoregressive>,
    codes: SubTokenizer,
    /// Of digits, each a token of its own.
    digits: Arc<Predictive>,
    batch_size: usize,
}

impl NetworkLoss for NextToken {
    fn name(&self) -> &'static str {
        "next-token"
    }

    fn loss(
        &self,
        weights: &Weights,
        batch: &Batch,
        _slot: Slot,
        dropout: TrainingDropout,
    ) -> Result<Option<Tensor<1>>> {
        let digits = self.codes.encode(&batch.x_0)?;
        let inputs = self.network.shifted(&digits, self.batch_size);
        let count = digits.len();
        let rows = LossRows::new(
            self.digits.clone(),
            Objective::Joint,
            digits,
            vec![self.network.base() as u32; count],
            vec![1.0 / batch.x_0.len() as f32; count],
        );
        let hidden = self.network.trunk(weights, &inputs, self.batch_size, Some(dropout));
        let (weight, bias) = self.network.output_layer(weights);
        Ok(Some(self.network.kernels().head_loss(hidden, weight, bias, Arc::new(rows))))
    }
}
