//! The diffusion transformer (networks.md): digits in, logits over tokens out. ℓ = 1 is MDLM's network.

use std::ops::Range;
use std::sync::Arc;

use burn::tensor::{Device, Int, Tensor, TensorData, activation};
use serde::{Deserialize, Serialize};

use super::block::{self, BlockShape, Modulation, TrainingDropout};
use super::weights::{Init, Parameter, Weights};
use super::{Denoiser, floats, for_each_chunk};
use crate::ops::{Kernels, Rotary};
use crate::subtoken::SubTokenizer;
use crate::{Error, Result};

/// Width of the sinusoidal features of σ.
const FEATURES: usize = 256;

/// How digits are embedded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Embedding {
    /// One table for all digits, width d/ℓ each, concatenated (the published network).
    #[default]
    Concatenated,
    /// One table a digit, concatenated.
    PerDigitConcatenated,
    /// One table a digit, of width d each, summed.
    PerDigitSummed,
}

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
    vocab_size: usize,
    subtoken_len: usize,
    base: usize,
    shape: BlockShape,
}

/// Hidden states of a batch, from which logits are made where they are asked for.
pub struct Hidden {
    /// [B·L, d].
    states: Tensor<2>,
    /// Conditioning, [B, c], or [1, c] for all.
    cond: Tensor<2>,
    length: usize,
}

impl Dit {
    /// The network of `config` over the codes of `codes`.
    ///
    /// # Errors
    /// As [`DitConfig::validate`].
    pub fn new(config: DitConfig, codes: &SubTokenizer, kernels: Kernels) -> Result<Self> {
        config.validate(codes)?;
        let shape = BlockShape {
            hidden: config.hidden,
            heads: config.heads,
            causal: false,
            rotary: Arc::new(Rotary::new(config.seq_len, config.hidden / config.heads)),
            kernels,
        };
        Ok(Self {
            vocab_size: codes.vocab_size(),
            subtoken_len: codes.subtoken_len(),
            base: codes.base() as usize,
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
        self.vocab_size + usize::from(self.subtoken_len == 1)
    }

    fn embedding_name(&self) -> &'static str {
        match self.config.embedding {
            Embedding::Concatenated => "vocab_embed.embedding",
            _ => "vocab_embed.weight.weight",
        }
    }

    /// All weights in definition order.
    pub fn parameters(&self) -> Vec<Parameter> {
        let DitConfig { hidden, cond_dim, .. } = self.config;
        let (rows, width) = match self.config.embedding {
            Embedding::Concatenated => (self.base + 1, hidden / self.subtoken_len),
            Embedding::PerDigitConcatenated => {
                ((self.base + 1) * self.subtoken_len, hidden / self.subtoken_len)
            }
            Embedding::PerDigitSummed => ((self.base + 1) * self.subtoken_len, hidden),
        };
        let embedding = Init::Uniform(1.0 / (width as f64).sqrt());
        let mut all = vec![Parameter::new(self.embedding_name(), &[rows, width], embedding)];
        all.extend(Parameter::linear("sigma_map.mlp.0", cond_dim, FEATURES, true));
        all.extend(Parameter::linear("sigma_map.mlp.2", cond_dim, cond_dim, true));
        for index in 0..self.config.blocks {
            all.extend(block::parameters(index, hidden, Some(cond_dim)));
        }
        all.push(Parameter::new("output_layer.norm_final.weight", &[hidden], Init::Ones));
        all.extend(Parameter::linear_with(
            "output_layer.linear",
            self.output_classes(),
            hidden,
            true,
            Init::Zeros,
        ));
        all.extend(Parameter::linear_with(
            "output_layer.adaLN_modulation",
            2 * hidden,
            cond_dim,
            true,
            Init::Zeros,
        ));
        all
    }

    /// The trunk: digits to hidden states.
    ///
    /// # Shapes
    /// - `y_t`: [B, L·ℓ] digits 0..=b; `t`: \[B\] times
    pub fn trunk(
        &self,
        weights: &Weights,
        y_t: &[u32],
        t: &[f64],
        dropout: Option<TrainingDropout>,
    ) -> Hidden {
        let device = weights.device();
        let batch = t.len();
        let length = y_t.len() / (batch * self.subtoken_len);
        let mut x = self.embed(weights, y_t, &device).reshape([batch, length, self.config.hidden]);
        let cond = self.conditioning(weights, t, &device);
        for index in 0..self.config.blocks {
            let modulation =
                self.shape.linear(weights, &format!("blocks.{index}.adaLN_modulation"), cond.clone());
            let mut parts = modulation.chunk(6, 1).into_iter();
            let mut half = || match (parts.next(), parts.next(), parts.next()) {
                (Some(shift), Some(scale), Some(gate)) => Modulation { shift, scale, gate },
                _ => unreachable!("six parts were cut"),
            };
            x = self.shape.forward(weights, index, x, [half(), half()], dropout);
        }
        Hidden { states: x.reshape([batch * length, self.config.hidden]), cond, length }
    }

    fn embed(&self, weights: &Weights, y_t: &[u32], device: &Device) -> Tensor<2> {
        let len = self.subtoken_len;
        let offset = match self.config.embedding {
            Embedding::Concatenated => 0,
            _ => self.base + 1,
        };
        let indices: Vec<i32> =
            y_t.iter().enumerate().map(|(i, digit)| *digit as i32 + (i % len * offset) as i32).collect();
        let count = indices.len();
        let indices = Tensor::<1, Int>::from_data(TensorData::new(indices, [count]), device);
        let rows = weights.get::<2>(self.embedding_name()).select(0, indices);
        let hidden = self.config.hidden;
        match self.config.embedding {
            Embedding::PerDigitSummed => {
                rows.reshape([count / len, len, hidden]).sum_dim(1).reshape([count / len, hidden])
            }
            _ => rows.reshape([count / len, hidden]),
        }
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

    /// Hidden states at the flat positions b·L + i, ready for the output layer: [n, d].
    pub fn head_input(&self, weights: &Weights, hidden: &Hidden, positions: &[usize]) -> Tensor<2> {
        let (n, width, device) = (positions.len(), self.config.hidden, weights.device());
        let select = |source: Tensor<2>, rows: Vec<i32>| {
            source.select(0, Tensor::<1, Int>::from_data(TensorData::new(rows, [n]), &device))
        };
        let x = select(hidden.states.clone(), positions.iter().map(|p| *p as i32).collect());
        let mut modulation = self.shape.linear(weights, "output_layer.adaLN_modulation", hidden.cond.clone());
        let shared = modulation.dims()[0] == 1;
        if !shared {
            modulation = select(modulation, positions.iter().map(|p| (p / hidden.length) as i32).collect());
        }
        let x = if shared { x.reshape([1, n, width]) } else { x.reshape([n, 1, width]) };
        let (shift, scale) = (modulation.clone().narrow(1, 0, width), modulation.narrow(1, width, width));
        let norm = weights.get("output_layer.norm_final.weight");
        self.shape.kernels.modulated_norm(x, norm, shift, scale).reshape([n, width])
    }

    /// Weight [C, d] and bias \[C\] of the output layer, without the row of the mask class.
    pub fn output_layer(&self, weights: &Weights) -> (Tensor<2>, Tensor<1>) {
        let (weight, bias) =
            (weights.get::<2>("output_layer.linear.weight"), weights.get::<1>("output_layer.linear.bias"));
        if self.output_classes() == self.vocab_size {
            return (weight, bias);
        }
        (weight.narrow(0, 0, self.vocab_size), bias.narrow(0, 0, self.vocab_size))
    }

    /// The published network's logits at all positions [B·L, classes]; for ℓ = 1 with the mask class.
    pub fn all_logits(&self, weights: &Weights, y_t: &[u32], t: &[f64]) -> Tensor<2> {
        let hidden = self.trunk(weights, y_t, t, None);
        let positions: Vec<usize> = (0..y_t.len() / self.subtoken_len).collect();
        self.shape.linear(weights, "output_layer.linear", self.head_input(weights, &hidden, &positions))
    }

    /// Which operations run.
    pub fn kernels(&self) -> Kernels {
        self.shape.kernels
    }
}

/// A diffusion transformer with its weights, ready to be evaluated.
pub struct LoadedDit {
    /// The network.
    pub network: Dit,
    /// Its weights, not on an autodiff device.
    pub weights: Weights,
}

impl Denoiser for LoadedDit {
    fn vocab_size(&self) -> usize {
        self.network.vocab_size
    }

    fn subtoken_len(&self) -> usize {
        self.network.subtoken_len
    }

    fn max_seq_len(&self) -> usize {
        self.network.config.seq_len
    }

    fn reads_time(&self) -> bool {
        self.network.config.time_conditioning
    }

    fn evaluate(
        &self,
        y_t: &[u32],
        t: &[f64],
        positions: &[usize],
        rows: &mut dyn FnMut(Range<usize>, &[f32]) -> Result<()>,
    ) -> Result<()> {
        if positions.is_empty() {
            return Ok(());
        }
        super::check_seq_len(self, y_t.len() / (t.len() * self.network.subtoken_len))?;
        let hidden = self.network.trunk(&self.weights, y_t, t, None);
        let (weight, bias) = self.network.output_layer(&self.weights);
        for_each_chunk(positions.len(), self.network.vocab_size, |range| {
            let input = self.network.head_input(&self.weights, &hidden, &positions[range.clone()]);
            let logits = self.network.shape.kernels.linear(input, weight.clone(), Some(bias.clone()));
            rows(range, &floats(logits)?)
        })
    }
}
