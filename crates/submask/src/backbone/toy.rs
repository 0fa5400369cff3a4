//! The toy network (networks.md): a multilayer perceptron on a few tokens, which reads the time.

use burn::tensor::{Tensor, TensorData, activation};
use serde::{Deserialize, Serialize};

use super::declaration::{Declaration, Definition, Handle};
use super::layers::{LayerNorm, Linear, LinearConfig};
use super::weights::{Init, Weights};
use super::{Backbone, Head, Inputs, TrainingDropout};
use crate::denoiser::Spec;
use crate::ops::Kernels;
use crate::subtoken::SubTokenizer;
use crate::{Error, Result};

/// Sizes of a toy network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ToyConfig {
    /// Tokens of every sequence L.
    pub tokens: usize,
    /// Width w of a digit's embedding and of the hidden layers.
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
    definition: Definition,
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
            config,
            definition: Definition { spec, kernels, parameters },
        })
    }

    /// The sizes.
    pub fn config(&self) -> &ToyConfig {
        &self.config
    }

    /// Hidden states of sequences, [B, w], from which the last linear layer makes the logits of all tokens.
    fn trunk(&self, weights: &Weights, inputs: &Inputs, dropout: Option<TrainingDropout>) -> Tensor<2> {
        let x = self.input_swish.forward(weights, self.embed(weights, inputs));
        let mut x = self.middle_swish.forward(weights, self.input.forward(weights, x));
        for (index, HiddenLayer { linear, norm, swish }) in self.layers.iter().enumerate() {
            x = swish.forward(weights, norm.forward(weights, linear.forward(weights, x)));
            if let Some(mask) = dropout.and_then(|dropout| dropout.layer(index)) {
                x = self.definition.kernels.dropout(x, mask);
            }
        }
        x
    }

    /// The digits' embeddings, then the embedded time: [B, L·ℓ·w + 1].
    fn embed(&self, weights: &Weights, inputs: &Inputs) -> Tensor<2> {
        let (batch, device) = (inputs.t.len(), weights.device());
        let width = self.config.tokens * self.definition.spec.subtoken_len * self.config.hidden;
        let rows = inputs.y_t.rows_of(weights.get(self.digit_embedding));
        let times: Vec<f32> = inputs.t.iter().map(|t| *t as f32).collect();
        let times = Tensor::<2>::from_data(TensorData::new(times, [batch, 1]), &device);
        let times = self.time_embedding.forward(weights, times);
        Tensor::cat(vec![rows.reshape([batch, width]), times], 1)
    }
}

impl Backbone for Toy {
    fn definition(&self) -> &Definition {
        &self.definition
    }

    /// One head per token, whose output layer is rows of the network's.
    fn heads(
        &self,
        weights: &Weights,
        inputs: &Inputs,
        positions: &[usize],
        dropout: Option<TrainingDropout>,
    ) -> Result<Vec<Head>> {
        inputs.check(&self.definition.spec, positions)?;
        let (tokens, classes) = (self.config.tokens, self.definition.spec.vocab_size);
        let states = self.trunk(weights, inputs, dropout);
        let (weight, bias) = (self.output.weight(weights).into_tensor(), self.output.bias(weights));
        Ok(Head::by_place(positions, tokens, states, |token| {
            let start = token * classes;
            let rows = weight.clone().narrow(0, start, classes);
            (rows.into(), bias.clone().narrow(0, start, classes))
        }))
    }
}

#[cfg(test)]
mod tests {
    use crate::ops::Precision;
    use std::sync::Arc;

    use burn::tensor::Device;

    use super::*;
    use crate::backbone::{LoadedBackbone, logits, loss};
    use crate::denoiser::{Denoiser, States};
    use crate::objective::{LossRows, Objective};
    use crate::predictive::Predictive;
    use crate::random::{Draws, Purpose};

    fn toy() -> Toy {
        let codes = SubTokenizer::new(12, 2).unwrap();
        Toy::new(ToyConfig { tokens: 3, hidden: 16 }, &codes, Kernels::FUSED).unwrap()
    }

    fn values(network: &Toy) -> Vec<Vec<f32>> {
        network.parameters().iter().enumerate().map(|(i, p)| p.initial(4, i)).collect()
    }

    fn loaded() -> LoadedBackbone {
        let network = toy();
        let weights = Weights::new(network.parameters(), &values(&network), &Device::flex());
        LoadedBackbone { network: Arc::new(network), weights }
    }

    fn evaluate(network: &LoadedBackbone, y_t: &[u32], t: &[f64], positions: &[usize]) -> Result<Vec<f32>> {
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

    /// A token's rows of the output layer give the bits that the whole layer gives.
    #[test]
    fn logits_are_those_of_the_whole_output_layer() {
        for (tokens, classes, hidden) in [(2, 2, 3), (3, 12, 16), (2, 7, 100), (2, 128, 512), (5, 33, 600)] {
            for kernels in [Kernels::FUSED, Kernels::FUSED.with_precision(Precision::Bf16).unwrap()] {
                let codes = SubTokenizer::new(classes, 2).unwrap();
                let network = Toy::new(ToyConfig { tokens, hidden }, &codes, kernels).unwrap();
                let weights = Weights::new(network.parameters(), &values(&network), &Device::flex());
                for batch in [1, 2, 70] {
                    let draws = Draws::new(2, Purpose::Mask);
                    let digit = |i| draws.below(u64::from(codes.base()) + 1, 0, i, 0) as u32;
                    let y_t: Vec<u32> = (0..(batch * tokens * 2) as u32).map(digit).collect();
                    let t: Vec<f64> = (0..batch).map(|b| b as f64 / batch as f64).collect();
                    let inputs = States { y_t: &y_t, t: &t, labels: None }.into();
                    let positions: Vec<usize> = (0..batch * tokens).rev().collect();
                    let logits = logits(&network, &weights, &inputs, &positions).unwrap();
                    let whole = network.output.forward(&weights, network.trunk(&weights, &inputs, None));
                    let whole = whole.reshape([batch * tokens, classes]).flip([0]);
                    logits.into_data().assert_eq(&whole.into_data(), true);
                }
            }
        }
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
        let LoadedBackbone { network, weights } = loaded();
        let inputs = States { y_t: &Y_T[..6], t: &[0.5, 0.5], labels: None }.into();
        let error = logits(&*network, &weights, &inputs, &[0]).unwrap_err().to_string();
        assert!(error.contains("digits = 6"), "{error}");
    }

    #[test]
    fn sizes_of_zero_are_refused_by_name() {
        let codes = SubTokenizer::new(12, 2).unwrap();
        for (config, field) in [
            (ToyConfig { tokens: 0, hidden: 16 }, "model.tokens"),
            (ToyConfig { tokens: 3, hidden: 0 }, "model.hidden"),
        ] {
            let error = Toy::new(config, &codes, Kernels::FUSED).unwrap_err().to_string();
            assert!(error.starts_with(field), "{error}");
        }
    }

    #[test]
    fn every_weight_gets_a_gradient() {
        let network = toy();
        let weights = Weights::new(network.parameters(), &values(&network), &Device::flex().autodiff());
        let dropout = TrainingDropout { rate: 0.1, draws: Draws::new(1, Purpose::Dropout), step: 1 };
        let predictive = Arc::new(Predictive::new(SubTokenizer::new(12, 2).unwrap(), false));
        let rows = LossRows::new(predictive, Objective::Joint, (0..9).collect(), Y_T.to_vec(), vec![1.0; 9]);
        let positions: Vec<usize> = (0..9).collect();
        let inputs = States { y_t: &Y_T, t: &[0.1, 0.6, 1.0], labels: None }.into();
        let loss = loss(&network, &weights, &inputs, &positions, rows, Some(dropout)).unwrap();
        let gradients = loss.unwrap().backward();
        for (parameter, tensor) in network.parameters().iter().zip(weights.tensors()) {
            let gradient =
                tensor.grad(&gradients).expect("every weight is used").abs().max().into_scalar::<f32>();
            assert!(gradient > 0.0, "{}", parameter.name);
        }
    }
}
