//! The diffusion transformer (networks.md): digits in, logits over tokens out. ℓ = 1 is MDLM's network.

use std::sync::Arc;

use burn::tensor::{Device, Tensor, TensorData, activation};
use serde::{Deserialize, Serialize};

use super::block::{self, Asked, BlockShape, Modulation, TrainingDropout};
use super::embedding::{DigitEmbedding, Embedding};
use super::weights::{Init, Parameter, Weights};
use super::{Backbone, Digits};
use crate::denoiser::Spec;
use crate::ops::{Factor, Kernels, Rotary};
use crate::subtoken::SubTokenizer;
use crate::{Error, Result};

/// Width of the sinusoidal features of σ.
const FEATURES: usize = 256;

/// Sizes of a diffusion transformer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DitConfig {
    /// d, divisible by the heads, and by ℓ where digits are concatenated.
    pub hidden: usize,
    /// h; d/h is even.
    pub heads: usize,
    /// Number of blocks.
    pub blocks: usize,
    /// c, width of the conditioning.
    pub cond_dim: usize,
    /// L, the longest sequence in tokens.
    pub seq_len: usize,
    /// Dropout while training, in [0, 1).
    pub dropout: f64,
    /// How digits are embedded.
    #[serde(default)]
    pub embedding: Embedding,
    /// Whether the network reads the time (σ = −log(1 − (1 − 10⁻³)t)); otherwise σ = 0 always.
    #[serde(default)]
    pub time_conditioning: bool,
}

impl DitConfig {
    /// Checks the sizes against a sub-tokenizer.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming the field, the value and what is allowed.
    pub fn validate(&self, codes: &SubTokenizer) -> Result<()> {
        check_transformer(self.hidden, self.heads, self.blocks, self.seq_len, self.dropout)?;
        let len = codes.subtoken_len();
        if self.embedding != Embedding::PerDigitSummed && !self.hidden.is_multiple_of(len) {
            return Err(Error::invalid(
                "model.hidden",
                self.hidden,
                format!("a multiple of subtoken_len = {len}"),
            ));
        }
        if self.cond_dim == 0 {
            return Err(Error::invalid("model.cond_dim", 0, "at least 1"));
        }
        Ok(())
    }
}

/// What every transformer's sizes must satisfy.
pub(super) fn check_transformer(
    hidden: usize,
    heads: usize,
    blocks: usize,
    seq_len: usize,
    dropout: f64,
) -> Result<()> {
    if heads == 0 || hidden == 0 || !hidden.is_multiple_of(2 * heads) {
        return Err(Error::invalid(
            "model.hidden",
            hidden,
            format!("a positive multiple of twice the heads ({heads}): every head has an even width"),
        ));
    }
    if blocks == 0 {
        return Err(Error::invalid("model.blocks", 0, "at least 1"));
    }
    if seq_len == 0 {
        return Err(Error::invalid("model.seq_len", 0, "at least 1"));
    }
    if !(0.0..1.0).contains(&dropout) {
        return Err(Error::invalid("model.dropout", dropout, "a number in [0, 1)"));
    }
    Ok(())
}

/// A diffusion transformer without its weights.
#[derive(Clone, Debug)]
pub struct Dit {
    config: DitConfig,
    spec: Spec,
    embedding: DigitEmbedding,
    shape: BlockShape,
}

impl Dit {
    /// The network of `config` over the codes of `codes`.
    ///
    /// # Errors
    /// As [`DitConfig::validate`].
    pub fn new(config: DitConfig, codes: &SubTokenizer, kernels: Kernels) -> Result<Self> {
        config.validate(codes)?;
        let table = match config.embedding {
            Embedding::Concatenated => "vocab_embed.embedding",
            Embedding::PerDigitConcatenated | Embedding::PerDigitSummed => "vocab_embed.weight.weight",
        };
        let shape = BlockShape {
            hidden: config.hidden,
            heads: config.heads,
            causal: false,
            rotary: Arc::new(Rotary::new(config.seq_len, config.hidden / config.heads)),
            kernels,
        };
        Ok(Self {
            spec: Spec { reads_time: config.time_conditioning, ..Spec::new(codes, config.seq_len) },
            embedding: DigitEmbedding::new(table, config.embedding, codes, config.hidden),
            config,
            shape,
        })
    }

    /// The sizes.
    pub fn config(&self) -> &DitConfig {
        &self.config
    }

    /// Classes of the output layer: C, for ℓ = 1 also the mask, which is never predicted.
    fn output_classes(&self) -> usize {
        self.spec.vocab_size + usize::from(self.spec.subtoken_len == 1)
    }

    /// SiLU(MLP([cos σω | sin σω])): [B, c], or [1, c] where the network does not read the time.
    fn conditioning(&self, weights: &Weights, t: &[f64], device: &Device) -> Tensor<2> {
        let sigmas: Vec<f64> = if self.config.time_conditioning {
            t.iter().map(|t| -(1.0 - (1.0 - 1e-3) * t).ln()).collect()
        } else {
            vec![0.0]
        };
        let half = FEATURES / 2;
        let mut features = Vec::with_capacity(sigmas.len() * FEATURES);
        for sigma in &sigmas {
            let angle = |k: usize| (*sigma as f32) * (-(10_000f32.ln()) * k as f32 / half as f32).exp();
            features.extend((0..half).map(|k| angle(k).cos()));
            features.extend((0..half).map(|k| angle(k).sin()));
        }
        let features = Tensor::<2>::from_data(TensorData::new(features, [sigmas.len(), FEATURES]), device);
        let cond = activation::silu(self.shape.linear(weights, "sigma_map.mlp.0", features));
        activation::silu(self.shape.linear(weights, "sigma_map.mlp.2", cond))
    }

    /// The modulations of the blocks, each [B, 6d], then that of the output layer, [B, 2d]; with [1, …] where the network
    /// does not read the time: then these are constants.
    fn modulations(&self, weights: &Weights, t: &[f64], device: &Device) -> Vec<Tensor<2>> {
        let make = || {
            let cond = self.conditioning(weights, t, device);
            let blocks = (0..self.config.blocks).map(|index| format!("blocks.{index}"));
            let prefixes = blocks.chain(["output_layer".into()]);
            let modulation = |prefix: String| {
                self.shape.linear(weights, &format!("{prefix}.adaLN_modulation"), cond.clone())
            };
            prefixes.map(modulation).collect()
        };
        if self.config.time_conditioning { make() } else { weights.constants(make) }
    }

    /// The published network's logits at all positions [B·L, classes]; for ℓ = 1 with the mask class.
    pub fn all_logits(&self, weights: &Weights, y_t: &[u32], t: &[f64]) -> Tensor<2> {
        let all: Vec<usize> = (0..y_t.len() / self.spec.subtoken_len).collect();
        self.shape.linear(weights, "output_layer.linear", self.trunk(weights, y_t, t, &all, None))
    }
}

impl Backbone for Dit {
    fn spec(&self) -> &Spec {
        &self.spec
    }

    fn kernels(&self) -> Kernels {
        self.shape.kernels
    }

    fn parameters(&self) -> Vec<Parameter> {
        let DitConfig { hidden, cond_dim, .. } = self.config;
        let init = Init::Uniform(1.0 / (self.embedding.width() as f64).sqrt());
        let mut all = vec![self.embedding.parameter(init)];
        all.extend(Parameter::linear("sigma_map.mlp.0", cond_dim, FEATURES, true));
        all.extend(Parameter::linear("sigma_map.mlp.2", cond_dim, cond_dim, true));
        let kernels = self.shape.kernels;
        for index in 0..self.config.blocks {
            all.extend(block::parameters(index, hidden, Some(cond_dim), kernels));
        }
        let zero_linear = |name, outer, inner| {
            let layer = Parameter::linear_with(name, outer, inner, true, Init::Zeros);
            layer.into_iter().map(move |parameter| parameter.of_linear(kernels))
        };
        all.push(Parameter::new("output_layer.norm_final.weight", &[hidden], Init::Ones));
        all.extend(zero_linear("output_layer.linear", self.output_classes(), hidden));
        all.extend(zero_linear("output_layer.adaLN_modulation", 2 * hidden, cond_dim));
        all
    }

    fn embed(&self, weights: &Weights, y_t: Digits) -> Tensor<2> {
        self.embedding.forward(self.shape.kernels, weights, y_t)
    }

    fn hidden_states(
        &self,
        weights: &Weights,
        embedded: Tensor<2>,
        t: &[f64],
        positions: &[usize],
        dropout: Option<TrainingDropout>,
    ) -> Tensor<2> {
        let (batch, hidden, device) = (t.len(), self.config.hidden, weights.device());
        let rows = embedded.dims()[0];
        let length = rows / batch;
        let asked = Asked::new(positions, length, rows, &device);
        let mut x = embedded.reshape([batch, length, hidden]);
        let mut modulations = self.modulations(weights, t, &device).into_iter();
        for (index, modulation) in modulations.by_ref().take(self.config.blocks).enumerate() {
            let mut parts = modulation.chunk(6, 1).into_iter();
            let mut half = || match (parts.next(), parts.next(), parts.next()) {
                (Some(shift), Some(scale), Some(gate)) => Modulation { shift, scale, gate },
                _ => unreachable!("six parts were cut"),
            };
            let asked = asked.as_ref().filter(|_| index + 1 == self.config.blocks);
            x = self.shape.forward(weights, index, x, [half(), half()], asked, dropout);
        }
        let modulation = modulations.next().expect("the output layer's is the last");
        let modulation = match &asked {
            Some(asked) => asked.modulation(modulation),
            None => modulation,
        };
        let (shift, scale) = (modulation.clone().narrow(1, 0, hidden), modulation.narrow(1, hidden, hidden));
        let norm = weights.get("output_layer.norm_final.weight");
        self.shape.kernels.modulated_norm(x, norm, shift, scale).reshape([positions.len(), hidden])
    }

    fn output_layer(&self, weights: &Weights) -> (Factor, Tensor<1>) {
        let weight = weights.factor("output_layer.linear.weight");
        let bias = weights.get::<1>("output_layer.linear.bias");
        if self.output_classes() == self.spec.vocab_size {
            return (weight, bias);
        }
        (weight.first(self.spec.vocab_size), bias.narrow(0, 0, self.spec.vocab_size))
    }
}
