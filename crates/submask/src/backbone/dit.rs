//! The diffusion transformer (networks.md): digits in, logits over tokens out. ℓ = 1 is MDLM's network.

use std::sync::Arc;

use burn::tensor::{Device, Tensor, TensorData};
use serde::{Deserialize, Serialize};

use super::block::{Block, BlockShape, Modulation};
use super::declaration::{Declaration, Definition};
use super::embedding::{DigitEmbedding, Embedding};
use super::layers::{Linear, LinearConfig, ModulatedNorm};
use super::stream::Stream;
use super::transformer::{self, Asked, Layers, Pass, Sizes};
use super::weights::{Init, Weights};
use super::{Backbone, Context, Digits, Head, Inputs, TrainingDropout};
use crate::denoiser::{Kept, Spec};
use crate::ops::{AttentionMask, Kernels, Rotary};
use crate::subtoken::SubTokenizer;
use crate::{Error, Result};

/// Width of the sinusoidal features of σ.
const FEATURES: usize = 256;

/// Sizes of a diffusion transformer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DitConfig {
    /// Model width d, divisible by the heads, and by ℓ where digits are concatenated.
    pub hidden: usize,
    /// Attention heads h; d/h is even.
    pub heads: usize,
    /// Number of blocks.
    pub blocks: usize,
    /// Width of the conditioning c.
    pub cond_dim: usize,
    /// Longest sequence L, in tokens.
    pub seq_len: usize,
    /// Dropout while training, in [0, 1).
    pub dropout: f64,
    /// How digits are embedded.
    #[serde(default)]
    pub embedding: Embedding,
    /// Whether the network reads the time (σ = −log(1 − (1 − 10⁻³)t)); otherwise σ = 0 always.
    #[serde(default)]
    pub time_conditioning: bool,
    /// Tokens per block of block diffusion, a divisor of L; 0: none. Then the network does not read the time.
    #[serde(default)]
    pub block_len: usize,
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
        if self.block_len > 0 && self.time_conditioning {
            let allowed = "false with blocks, each of which has a time of its own";
            return Err(Error::invalid("model.time_conditioning", true, allowed));
        }
        check_block_len(self.block_len, self.seq_len)
    }
}

/// The mask of a network with blocks of tokens, or without.
pub(super) fn block_mask(block_len: usize) -> AttentionMask {
    if block_len == 0 { AttentionMask::FULL } else { AttentionMask::blocks(block_len) }
}

/// Checks the length of blocks against that of sequences.
pub(super) fn check_block_len(block_len: usize, seq_len: usize) -> Result<()> {
    if block_len == 0 || seq_len.is_multiple_of(block_len) {
        return Ok(());
    }
    let allowed = format!("0 for none, or a divisor of model.seq_len = {seq_len}");
    Err(Error::invalid("model.block_len", block_len, allowed))
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
    definition: Definition,
    embedding: DigitEmbedding,
    /// From the features of σ to the conditioning.
    sigma_map: [Linear; 2],
    blocks: Vec<ModulatedBlock>,
    rotary: Arc<Rotary>,
    output: OutputLayer,
}

/// A block, and the layer that makes its modulation of the conditioning.
#[derive(Clone, Debug)]
struct ModulatedBlock {
    block: Block,
    modulation: Linear,
}

/// The output layer: a norm that is modulated, too, then a linear layer.
#[derive(Clone, Debug)]
struct OutputLayer {
    norm: ModulatedNorm,
    linear: Linear,
    modulation: Linear,
}

impl Dit {
    /// The network of `config` over the codes of `codes`.
    ///
    /// # Errors
    /// As [`DitConfig::validate`].
    pub fn new(config: DitConfig, codes: &SubTokenizer, kernels: Kernels) -> Result<Self> {
        config.validate(codes)?;
        let spec = Spec {
            reads_time: config.time_conditioning,
            block_len: config.block_len,
            ..Spec::new(codes, config.seq_len)
        };
        let DitConfig { hidden, heads, cond_dim, .. } = config;
        let shape = BlockShape {
            hidden,
            heads,
            mask: block_mask(config.block_len),
            rotary: Arc::new(Rotary::new(config.seq_len, hidden / heads)),
            kernels,
        };
        let mut parameters = Vec::new();
        let mut declaration = Declaration::new(&mut parameters, kernels);
        Ok(Self {
            embedding: declare_embedding(&mut declaration, &config, codes),
            sigma_map: {
                let mut map = declaration.within("sigma_map");
                [("mlp.0", FEATURES), ("mlp.2", cond_dim)]
                    .map(|(name, inner)| LinearConfig::new(cond_dim, inner).declare(&mut map, name))
            },
            blocks: (0..config.blocks)
                .map(|index| {
                    let mut block = declaration.within(format!("blocks.{index}"));
                    ModulatedBlock {
                        block: Block::declare(&mut block, &shape),
                        modulation: modulation(&mut block, 6 * hidden, cond_dim),
                    }
                })
                .collect(),
            output: OutputLayer::declare(&mut declaration, &spec, &config),
            rotary: shape.rotary,
            config,
            definition: Definition { spec, kernels, parameters },
        })
    }

    /// The sizes.
    pub fn config(&self) -> &DitConfig {
        &self.config
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
        let [first, second] = &self.sigma_map;
        let kernels = self.definition.kernels;
        let cond = kernels.silu(first.forward(weights, features));
        kernels.silu(second.forward(weights, cond))
    }

    /// The modulations of the blocks, each [B, 6d], then that of the output layer, [B, 2d]; with [1, …] where the network
    /// does not read the time: then these are constants.
    fn modulations(&self, weights: &Weights, t: &[f64], device: &Device) -> Vec<Tensor<2>> {
        let make = || {
            let cond = self.conditioning(weights, t, device);
            let blocks = self.blocks.iter().map(|block| &block.modulation);
            let layers = blocks.chain([&self.output.modulation]);
            layers.map(|layer| layer.forward(weights, cond.clone())).collect()
        };
        if self.config.time_conditioning { make() } else { weights.constants(make) }
    }

    /// The published network's logits at all positions [B·L, classes], given digits `y_t` [B, L·ℓ] and times `t` \[B\];
    /// for ℓ = 1 with the mask class.
    ///
    /// # Errors
    /// [`Error::Invalid`] for digits that are not those of B sequences that fit the network.
    pub fn all_logits(&self, weights: &Weights, y_t: &[u32], t: &[f64]) -> Result<Tensor<2>> {
        let all: Vec<usize> = (0..y_t.len() / self.definition.spec.subtoken_len).collect();
        let inputs = Inputs { y_t: Digits::Host(y_t), t, labels: None, context: Context::Own };
        let hidden = transformer::hidden_states(self, weights, &inputs, &all, None)?;
        Ok(self.output.linear.forward(weights, hidden))
    }
}

fn declare_embedding(
    declaration: &mut Declaration,
    config: &DitConfig,
    codes: &SubTokenizer,
) -> DigitEmbedding {
    let DitConfig { hidden, embedding: kind, .. } = *config;
    let name = match kind {
        Embedding::Concatenated => "vocab_embed.embedding",
        Embedding::PerDigitConcatenated | Embedding::PerDigitSummed => "vocab_embed.weight.weight",
    };
    let width = kind.width(hidden, codes.subtoken_len()) as f64;
    DigitEmbedding::declare(declaration, name, kind, codes, hidden, Init::Uniform(1.0 / width.sqrt()))
}

/// The layer that makes a modulation of `width` of the conditioning: none at first.
fn modulation(declaration: &mut Declaration, width: usize, cond_dim: usize) -> Linear {
    let layer = LinearConfig::new(width, cond_dim).with_init(Init::Zeros).prepared();
    layer.declare(declaration, "adaLN_modulation")
}

impl OutputLayer {
    fn declare(declaration: &mut Declaration, spec: &Spec, config: &DitConfig) -> Self {
        let hidden = config.hidden;
        // For ℓ = 1 there is a class of the mask, which is never predicted.
        let classes = spec.vocab_size + usize::from(spec.subtoken_len == 1);
        let mut layer = declaration.within("output_layer");
        let linear = LinearConfig::new(classes, hidden).with_init(Init::Zeros).prepared();
        Self {
            norm: ModulatedNorm::declare(&mut layer, "norm_final", hidden),
            linear: linear.declare(&mut layer, "linear"),
            modulation: modulation(&mut layer, 2 * hidden, config.cond_dim),
        }
    }
}

/// What modulates the layers in a pass.
#[derive(Clone)]
pub(super) struct Modulations {
    /// Of attention and of the linear layers of every block.
    blocks: Vec<[Modulation; 2]>,
    /// Shift and scale of the output layer side by side, [B, 2d] or [1, 2d].
    output: Tensor<2>,
}

impl Layers for Dit {
    type Conditioning = Modulations;

    fn sizes(&self) -> Sizes<'_> {
        let DitConfig { hidden, heads, blocks: depth, block_len, .. } = self.config;
        Sizes { hidden, heads, depth, rotary: &self.rotary, mask: block_mask(block_len) }
    }

    fn embed(&self, weights: &Weights, digits: Digits) -> Tensor<2> {
        self.embedding.forward(weights, digits)
    }

    fn conditioning(&self, weights: &Weights, t: &[f64]) -> Modulations {
        let mut layers = self.modulations(weights, t, &weights.device());
        let output = layers.pop().expect("the output layer has a modulation");
        let halves = |both| Modulation::halves(both, self.definition.kernels);
        Modulations { blocks: layers.into_iter().map(halves).collect(), output }
    }

    fn queries_keys_values(&self, pass: &Pass<Self>, layer: usize, x: &mut Stream) -> Tensor<3> {
        let [attention, _] = &pass.conditioning.blocks[layer];
        self.blocks[layer].block.queries_keys_values(pass.weights, x, attention)
    }

    fn keys_values(&self, pass: &Pass<Self>, layer: usize, x: &mut Stream) -> Tensor<3> {
        let [attention, _] = &pass.conditioning.blocks[layer];
        self.blocks[layer].block.keys_values(pass.weights, x, attention)
    }

    fn rest(
        &self,
        pass: &Pass<Self>,
        layer: usize,
        x: Stream,
        mixed: Tensor<3>,
        asked: Option<&Asked>,
    ) -> Stream {
        let modulations = pass.conditioning.blocks[layer].clone();
        let block = &self.blocks[layer].block;
        block.rest(pass.weights, x, mixed, modulations, asked, pass.dropouts(layer))
    }

    fn finished(&self, pass: &Pass<Self>, mut x: Stream, asked: Option<&Asked>) -> Tensor<2> {
        let last = pass.conditioning.output.clone();
        let last = match asked {
            Some(asked) => asked.modulation(last),
            None => last,
        };
        let [shift, scale] = self.definition.kernels.split_columns(last);
        let x = x.modulated_norm(&self.output.norm, pass.weights, shift, scale);
        let [batch, length, hidden] = x.dims();
        x.reshape([batch * length, hidden])
    }
}

impl Backbone for Dit {
    fn definition(&self) -> &Definition {
        &self.definition
    }

    fn takes_lengths(&self) -> bool {
        !self.config.time_conditioning && self.config.block_len == 0
    }

    fn heads(
        &self,
        weights: &Weights,
        inputs: &Inputs,
        positions: &[usize],
        dropout: Option<TrainingDropout>,
    ) -> Result<Vec<Head>> {
        let hidden = transformer::hidden_states(self, weights, inputs, positions, dropout)?;
        let (mut weight, mut bias) = (self.output.linear.weight(weights), self.output.linear.bias(weights));
        if self.definition.spec.subtoken_len == 1 {
            let classes = self.definition.spec.vocab_size;
            (weight, bias) = (weight.first(classes), bias.narrow(0, 0, classes));
        }
        Ok(vec![Head::of_all(hidden, weight, bias)])
    }

    fn keep(&self, weights: &Weights, clean: Digits, dims: [usize; 2], kept: Option<&Kept>) -> Option<Kept> {
        (self.config.block_len > 0).then(|| transformer::keep(self, weights, clean, dims, kept))
    }
}
