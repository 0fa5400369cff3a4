//! The toy network (networks.md): a multilayer perceptron on a few tokens, which reads the time.

use std::ops::Range;

use burn::tensor::{Tensor, TensorData, activation};
use serde::{Deserialize, Serialize};

use super::declaration::{Declaration, Handle};
use super::layers::{LayerNorm, Linear, LinearConfig};
use super::weights::{Init, Parameter, Weights};
use super::{TrainingDropout, at, check_unlabelled, chunks, floats, loss_of_layers};
use crate::denoiser::{Denoiser, Spec, States};
use crate::objective::LossRows;
use crate::ops::{Kernels, integers};
use crate::subtoken::SubTokenizer;
use crate::{Error, Result};

/// Sizes of a toy network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ToyConfig {
    /// L, the tokens of every sequence.
    pub tokens: usize,
    /// w, width of a digit's embedding and of the hidden layers.
    pub hidden: usize,
}

impl ToyConfig {
    /// Checks the sizes.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming the field.
    pub fn validate(&self) -> Result<()> {
        for (field, value) in [("model.tokens", self.tokens), ("model.hidden", self.hidden)] {
            if value == 0 {
                return Err(Error::invalid(field, 0, "at least 1"));
            }
        }
        Ok(())
    }
}

/// A toy network without its weights.
#[derive(Clone, Debug)]
pub struct Toy {
    config: ToyConfig,
    spec: Spec,
    kernels: Kernels,
    parameters: Vec<Parameter>,
    time_embedding: Linear,
    digit_embedding: Handle<2>,
    input_swish: Swish,
    input: Linear,
    middle_swish: Swish,
    layers: [HiddenLayer; 2],
    /// To the logits of all tokens, L·C.
    output: Linear,
}

/// A linear layer, LayerNorm, Swish and dropout.
#[derive(Clone, Debug)]
struct HiddenLayer {
    linear: Linear,
    norm: LayerNorm,
    swish: Swish,
}

/// x·sigmoid(βx) with a slope β per column.
#[derive(Clone, Debug)]
struct Swish {
    beta: Handle<1>,
}

impl Swish {
    fn declare(declaration: &mut Declaration, name: &str, width: usize) -> Self {
        Self { beta: declaration.within(name).weight("beta", [width], Init::Ones) }
    }

    fn forward(&self, weights: &Weights, x: Tensor<2>) -> Tensor<2> {
        let beta = weights.get(self.beta);
        activation::sigmoid(x.clone() * beta.unsqueeze()) * x
    }
}

impl Toy {
    /// The network of `config` over the codes of `codes`.
    ///
    /// # Errors
    /// As [`ToyConfig::validate`].
    pub fn new(config: ToyConfig, codes: &SubTokenizer, kernels: Kernels) -> Result<Self> {
        config.validate()?;
        let ToyConfig { tokens, hidden } = config;
        let spec = Spec { reads_time: true, seq_lens: tokens..=tokens, ..Spec::new(codes, tokens) };
        let input = tokens * spec.subtoken_len * hidden + 1;
        let mut parameters = Vec::new();
        let mut all = Declaration::new(&mut parameters, kernels);
        let time_embedding = LinearConfig::new(1, 1).declare(&mut all, "time_embedding");
        let table = [codes.base() as usize + 1, hidden];
        let digit_embedding = all.weight("token_embedding.weight", table, Init::Normal(1.0));
        let mut main = all.within("main");
        Ok(Self {
            time_embedding,
            digit_embedding,
            input_swish: Swish::declare(&mut main, "0", input),
            input: LinearConfig::new(hidden, input).declare(&mut main, "1"),
            middle_swish: Swish::declare(&mut main, "2", hidden),
            layers: [["3", "4", "5"], ["7", "8", "9"]].map(|[linear, norm, swish]| HiddenLayer {
                linear: LinearConfig::new(hidden, hidden).declare(&mut main, linear),
                norm: LayerNorm::declare(&mut main, norm, hidden),
                swish: Swish::declare(&mut main, swish, hidden),
            }),
            output: LinearConfig::new(tokens * spec.vocab_size, hidden).declare(&mut main, "11"),
            spec,
            config,
            kernels,
            parameters,
        })
    }

    /// The sizes.
    pub fn config(&self) -> &ToyConfig {
        &self.config
    }

    /// Which operations run.
    pub fn kernels(&self) -> Kernels {
        self.kernels
    }

    /// L·ℓ.
    fn digits(&self) -> usize {
        self.config.tokens * self.spec.subtoken_len
    }

    /// All weights in definition order.
    pub fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    /// Hidden states of sequences, [B, w], from which the last linear layer makes the logits of all tokens.
    ///
    /// # Shapes
    /// - `y_t`: [B, L·ℓ] digits 0..=b; `t`: \[B\] times
    ///
    /// # Errors
    /// [`Error::Invalid`] where there are not L·ℓ digits for every time.
    pub fn trunk(
        &self,
        weights: &Weights,
        y_t: &[u32],
        t: &[f64],
        dropout: Option<TrainingDropout>,
    ) -> Result<Tensor<2>> {
        if t.is_empty() || y_t.len() != t.len() * self.digits() {
            let allowed = format!("{} for each of {} times", self.digits(), t.len());
            return Err(Error::invalid("digits", y_t.len(), allowed));
        }
        let x = self.input_swish.forward(weights, self.embed(weights, y_t, t));
        let mut x = self.middle_swish.forward(weights, self.input.forward(weights, x));
        for (index, HiddenLayer { linear, norm, swish }) in self.layers.iter().enumerate() {
            x = swish.forward(weights, norm.forward(weights, linear.forward(weights, x)));
            if let Some(mask) = dropout.and_then(|dropout| dropout.layer(index)) {
                x = mask.apply(x);
            }
        }
        Ok(x)
    }

    /// Logits at all tokens, [B·L, C]; shapes and errors as of [`Self::trunk`].
    ///
    /// # Errors
    /// As [`Self::trunk`].
    pub fn all_logits(&self, weights: &Weights, y_t: &[u32], t: &[f64]) -> Result<Tensor<2>> {
        let hidden = self.trunk(weights, y_t, t, None)?;
        let logits = self.output.forward(weights, hidden);
        Ok(logits.reshape([t.len() * self.config.tokens, self.spec.vocab_size]))
    }

    /// Σ of the rows' weighted losses, \[1\], for `rows` of the flat positions b·L + i; `None` where there are none.
    pub fn loss(
        &self,
        weights: &Weights,
        hidden: &Tensor<2>,
        positions: &[usize],
        rows: &LossRows,
    ) -> Option<Tensor<1>> {
        let (tokens, classes) = (self.config.tokens, self.spec.vocab_size);
        let (weight, bias) = (self.output.weight(weights).into_tensor(), self.output.bias(weights));
        loss_of_layers(
            self.kernels,
            rows,
            tokens,
            |row| positions[row] % tokens,
            |token, own| {
                let sequences: Vec<usize> = own.iter().map(|row| positions[*row] / tokens).collect();
                let start = token * classes;
                (
                    at(hidden, &sequences),
                    weight.clone().narrow(0, start, classes),
                    bias.clone().narrow(0, start, classes),
                )
            },
        )
    }

    /// The digits' embeddings, then the embedded time: [B, L·ℓ·w + 1].
    fn embed(&self, weights: &Weights, y_t: &[u32], t: &[f64]) -> Tensor<2> {
        let (batch, device) = (t.len(), weights.device());
        let digits = integers(y_t.iter().copied(), [y_t.len()], &device);
        let rows = weights.get(self.digit_embedding).select(0, digits);
        let times: Vec<f32> = t.iter().map(|t| *t as f32).collect();
        let times = Tensor::<2>::from_data(TensorData::new(times, [batch, 1]), &device);
        let times = self.time_embedding.forward(weights, times);
        Tensor::cat(vec![rows.reshape([batch, self.digits() * self.config.hidden]), times], 1)
    }
}

/// A toy network with its weights, ready to be evaluated.
pub struct LoadedToy {
    /// The network.
    pub network: Toy,
    /// Its weights, not on an autodiff device.
    pub weights: Weights,
}

impl Denoiser for LoadedToy {
    fn spec(&self) -> &Spec {
        &self.network.spec
    }

    fn evaluate(
        &self,
        states: &States,
        positions: &[usize],
        rows: &mut dyn FnMut(Range<usize>, &[f32]) -> Result<()>,
    ) -> Result<()> {
        if positions.is_empty() {
            return Ok(());
        }
        self.spec().check_seq_len(states.seq_len(self.network.spec.subtoken_len))?;
        check_unlabelled(states.labels)?;
        let classes = self.network.spec.vocab_size;
        let logits = floats(self.network.all_logits(&self.weights, states.y_t, states.t)?)?;
        chunks(positions.len(), classes).try_for_each(|range| {
            let asked: Vec<f32> = positions[range.clone()]
                .iter()
                .flat_map(|p| &logits[p * classes..][..classes])
                .copied()
                .collect();
            rows(range, &asked)
        })
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use std::sync::Arc;

    use super::*;
    use crate::objective::Objective;
    use crate::predictive::Predictive;
    use crate::random::{Draws, Purpose};

    fn loaded() -> LoadedToy {
        let codes = SubTokenizer::new(12, 2).unwrap();
        let network = Toy::new(ToyConfig { tokens: 3, hidden: 16 }, &codes, Kernels::Fused).unwrap();
        let parameters = network.parameters();
        let values: Vec<_> = parameters.iter().enumerate().map(|(i, p)| p.initial(4, i)).collect();
        let weights = Weights::new(parameters, &values, &Device::flex());
        LoadedToy { network, weights }
    }

    fn evaluate(network: &LoadedToy, y_t: &[u32], t: &[f64], positions: &[usize]) -> Result<Vec<f32>> {
        let mut all = Vec::new();
        let states = States { y_t, t, labels: None };
        network.evaluate(&states, positions, &mut |_, logits| {
            all.extend_from_slice(logits);
            Ok(())
        })?;
        Ok(all)
    }

    const Y_T: [u32; 18] = [0, 4, 2, 3, 4, 4, 1, 1, 4, 0, 3, 2, 4, 4, 4, 4, 4, 4];

    #[test]
    fn asked_positions_get_the_same_bits_in_every_batch() {
        let network = loaded();
        let times = [0.1, 0.6, 1.0];
        let asked = evaluate(&network, &Y_T, &times, &[7, 3, 0, 8]).unwrap();
        let alone =
            |b: usize, position| evaluate(&network, &Y_T[b * 6..][..6], &times[b..=b], &[position]).unwrap();
        assert_eq!(asked, [alone(2, 1), alone(1, 0), alone(0, 0), alone(2, 2)].concat());
    }

    #[test]
    fn the_time_is_read() {
        let network = loaded();
        let at = |t| evaluate(&network, &Y_T[..6], &[t], &[1]).unwrap();
        assert_ne!(at(0.2), at(0.8));
    }

    #[test]
    fn another_length_is_refused() {
        let error = evaluate(&loaded(), &Y_T[..4], &[0.5], &[1]).unwrap_err().to_string();
        assert!(error.contains("sequence length = 2") && error.contains("3 tokens"), "{error}");
        let LoadedToy { network, weights } = loaded();
        let error = network.all_logits(&weights, &Y_T[..6], &[0.5, 0.5]).unwrap_err().to_string();
        assert!(error.contains("digits = 6"), "{error}");
    }

    #[test]
    fn sizes_of_zero_are_refused_by_name() {
        let codes = SubTokenizer::new(12, 2).unwrap();
        for (config, field) in [
            (ToyConfig { tokens: 0, hidden: 16 }, "model.tokens"),
            (ToyConfig { tokens: 3, hidden: 0 }, "model.hidden"),
        ] {
            let error = Toy::new(config, &codes, Kernels::Fused).unwrap_err().to_string();
            assert!(error.starts_with(field), "{error}");
        }
    }

    #[test]
    fn every_weight_gets_a_gradient() {
        let LoadedToy { network, .. } = loaded();
        let parameters = network.parameters();
        let values: Vec<_> = parameters.iter().enumerate().map(|(i, p)| p.initial(4, i)).collect();
        let weights = Weights::new(parameters, &values, &Device::flex().autodiff());
        let dropout = TrainingDropout { rate: 0.1, draws: Draws::new(1, Purpose::Dropout), step: 1 };
        let hidden = network.trunk(&weights, &Y_T, &[0.1, 0.6, 1.0], Some(dropout)).unwrap();
        let predictive = Arc::new(Predictive::new(SubTokenizer::new(12, 2).unwrap(), false));
        let rows = LossRows::new(predictive, Objective::Joint, (0..9).collect(), Y_T.to_vec(), vec![1.0; 9]);
        let positions: Vec<usize> = (0..9).collect();
        let gradients = network.loss(&weights, &hidden, &positions, &rows).unwrap().backward();
        for (parameter, tensor) in parameters.iter().zip(weights.tensors()) {
            let gradient =
                tensor.grad(&gradients).expect("every weight is used").abs().max().into_scalar::<f32>();
            assert!(gradient > 0.0, "{}", parameter.name);
        }
    }
}
