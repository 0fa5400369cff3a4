//! What a micro-batch costs, and the gradients of that.

use std::sync::Arc;

use burn::tensor::{Device, Tensor};

use super::masking::Masking;
use super::settings::TrainSettings;
use super::slot::Slot;
use crate::backbone::autoregressive::Autoregressive;
use crate::backbone::weights::{Parameter, Weights};
use crate::backbone::{self, Backbone, Context, Digits, Inputs, TrainingDropout};
use crate::compute::Compute;
use crate::data::Batch;
use crate::forward::ClipInterval;
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
                let block_len = network.spec().block_len;
                let masking = Masking::new(predictive, schedule, settings.clone(), block_len);
                Box::new(Denoising { network, masking })
            }
        };
        Ok(Self { network, settings, dropout })
    }

    /// The loss of an architecture's network that `settings` ask for.
    ///
    /// # Errors
    /// [`Error::Invalid`] for sizes that do not go together, and an interval of times (`train.clip_interval`) that does not go
    /// with the model.
    pub fn of(architecture: &Architecture, settings: &TrainSettings, compute: &Compute) -> Result<Self> {
        settings.clip_interval.check_model(architecture.config())?;
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

    /// Times are drawn from `interval` from now on; a network that draws none does not read it.
    pub(super) fn set_interval(&mut self, interval: ClipInterval) {
        if let Some(masking) = self.network.masking() {
            masking.interval = Some(interval);
        }
    }

    /// How sequences are masked, of networks that see them so.
    pub(super) fn masking(&mut self) -> Option<&Masking> {
        self.network.masking().map(|masking| &*masking)
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

    /// How sequences are masked, if they are.
    fn masking(&mut self) -> Option<&mut Masking> {
        None
    }

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

    fn masking(&mut self) -> Option<&mut Masking> {
        Some(&mut self.masking)
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
        // Each block reads the tokens before it as they are.
        let context = match self.network.spec().block_len {
            0 => Context::Own,
            _ => Context::Clean(Digits::Host(&masked.y_0)),
        };
        let inputs = Inputs { y_t: Digits::Host(&masked.y_t), t: &masked.t, labels, context };
        backbone::loss(&*self.network, weights, &inputs, &masked.positions, masked.rows, Some(dropout))
    }
}

/// −log p of every digit that is not given, given the digits before it, per token.
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
        let (seq_len, len) = (batch.x_0.len() / self.batch_size, self.codes.subtoken_len());
        let share = 1.0 / batch.x_0.len() as f32;
        let weight = |token: usize| {
            let is_given = token % seq_len < batch.given_tokens(token / seq_len, seq_len);
            if is_given { 0.0 } else { share }
        };
        let rows = LossRows::new(
            self.digits.clone(),
            Objective::Joint,
            digits,
            vec![self.network.base() as u32; count],
            (0..count).map(|digit| weight(digit / len)).collect(),
        );
        let hidden = self.network.trunk(weights, &inputs, self.batch_size, Some(dropout));
        let (weight, bias) = self.network.output_layer(weights);
        Ok(Some(self.network.kernels().head_loss(hidden, weight, bias, Arc::new(rows))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backbone::autoregressive::AutoregressiveConfig;
    use crate::data::Tokenizer;
    use crate::model::{
        CodeSettings, Estimator, EvaluateRequest, FORMAT_VERSION, HeldOut, ModelConfig, NetworkConfig,
        Sampling, Session, Subject, TextSubject,
    };
    use crate::train::settings::RunSettings;

    #[test]
    fn an_autoregressive_loss_is_the_likelihood_of_what_is_not_given() {
        let sizes = AutoregressiveConfig { hidden: 16, heads: 2, blocks: 1, seq_len: 8, dropout: 0.0 };
        let config = ModelConfig {
            format_version: FORMAT_VERSION,
            subject: Subject::Text(TextSubject::of(&Tokenizer::bytes())),
            network: NetworkConfig::Autoregressive(sizes),
            codes: CodeSettings::plain(1, true),
            schedule: Schedule::Linear,
            sample: Sampling::default(),
        };
        let architecture = Arc::new(Architecture::new(config, Some(Tokenizer::bytes())).unwrap());
        let mut values: Vec<Vec<f32>> =
            architecture.parameters().iter().map(|parameter| vec![0.0; parameter.len()]).collect();
        for (i, value) in values.iter_mut().flatten().enumerate() {
            *value = (i * 37 % 101) as f32 / 250.0 - 0.2;
        }
        let preset = include_str!("../../../submask-cli/presets/dictionary.toml");
        let settings = toml::from_str::<RunSettings>(preset).unwrap().train;
        let settings = TrainSettings { batch_size: 2, accumulate: 1, ..settings };
        let compute = Compute::cpu();
        let loss = LossFunction::of(&architecture, &settings, &compute).unwrap();
        let weights = Weights::new(architecture.parameters(), &values, &compute.device().clone().autodiff());
        let session = Session::new(architecture.clone(), &values, &compute).unwrap();
        let x_0: Vec<u32> = (0..16).map(|i| 97 + i * i % 7).collect();
        for given in [vec![], vec![3, 1], vec![8, 2]] {
            let batch = Batch { x_0: x_0.clone(), given: given.clone(), ..Batch::default() };
            let loss = loss.loss(&weights, &batch, Slot { step: 1, index: 0 }).unwrap().unwrap();
            let held_out =
                HeldOut { x_0: x_0.clone(), seq_len: 8, given: given.clone(), ..HeldOut::default() };
            let request = EvaluateRequest::new(Estimator::LEFT_TO_RIGHT);
            let values = session.evaluation(&request, &held_out).unwrap().sequences;
            let nats: f64 = values.iter().map(|value| value.nats).sum();
            // The mean runs over all tokens, given or not.
            let loss = 16.0 * f64::from(loss.into_scalar::<f32>());
            assert!((loss - nats).abs() < 1e-3 * (1.0 + nats), "{given:?}: {loss}, not {nats}");
            let tokens: Vec<u64> = values.iter().map(|value| value.tokens).collect();
            let open = |s: usize| 8 - given.get(s).map_or(0, |given| *given as u64);
            assert_eq!(tokens, [open(0), open(1)]);
        }
        let wrong = HeldOut { x_0, seq_len: 8, given: vec![1], ..HeldOut::default() };
        let error = session.evaluation(&EvaluateRequest::new(Estimator::LEFT_TO_RIGHT), &wrong).unwrap_err();
        assert!(error.to_string().contains("one for each of 2 sequences"), "{error}");
    }
}
