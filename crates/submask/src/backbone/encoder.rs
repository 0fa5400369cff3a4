//! The LLaMA-style encoder (networks.md): digits in, logits over tokens out; it does not read the time.

use std::sync::Arc;

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::declaration::{Declaration, Definition};
use super::dit::{block_mask, check_block_len, check_transformer};
use super::embedding::{DigitEmbedding, Embedding};
use super::layers::{Linear, LinearConfig, RmsNorm};
use super::stream::Stream;
use super::transformer::{self, Asked, Layers, Pass, Sizes};
use super::weights::{Init, Weights};
use super::{Backbone, Digits, Head, Inputs, TrainingDropout};
use crate::denoiser::{Kept, Spec};
use crate::ops::{Addition, Kernels, Rotary};
use crate::subtoken::SubTokenizer;
use crate::{Error, Result};

/// Sizes of an encoder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EncoderConfig {
    /// Model width d, a multiple of twice the heads.
    pub hidden: usize,
    /// Attention heads h, of the queries.
    pub heads: usize,
    /// Groups g of queries that share a key and a value; divides h. 0: h.
    pub query_groups: usize,
    /// Number of blocks.
    pub blocks: usize,
    /// Width m inside SwiGLU. 0: 8/3·d, rounded up to a multiple of 64.
    pub intermediate: usize,
    /// Longest sequence L, in tokens.
    pub seq_len: usize,
    /// Dropout while training, in [0, 1), of what attention and SwiGLU add.
    pub dropout: f64,
    /// How digits are embedded: one table per digit. For ℓ = 1 all forms are the same.
    pub embedding: Embedding,
    /// Tokens per block of block diffusion, a divisor of L; 0: none.
    #[serde(default)]
    pub block_len: usize,
}

impl EncoderConfig {
    /// Checks the sizes against a sub-tokenizer.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming the field, the value and what is allowed.
    pub fn validate(&self, codes: &SubTokenizer) -> Result<()> {
        check_transformer(self.hidden, self.heads, self.blocks, self.seq_len, self.dropout)?;
        let len = codes.subtoken_len();
        if !self.heads.is_multiple_of(self.groups()) {
            let allowed = format!("a divisor of model.heads = {}, or 0 for as many", self.heads);
            return Err(Error::invalid("model.query_groups", self.query_groups, allowed));
        }
        if self.embedding == Embedding::Concatenated && len > 1 {
            let allowed = "per-digit-summed or per-digit-concatenated: the encoder has one table a digit";
            return Err(Error::invalid("model.embedding", "concatenated", allowed));
        }
        if self.embedding != Embedding::PerDigitSummed && self.hidden < len {
            let allowed = format!("at least subtoken_len = {len} where digits are concatenated");
            return Err(Error::invalid("model.hidden", self.hidden, allowed));
        }
        check_block_len(self.block_len, self.seq_len)
    }

    /// Groups of heads that share keys and values, g.
    fn groups(&self) -> usize {
        if self.query_groups == 0 { self.heads } else { self.query_groups }
    }

    /// Width of the middle of a feed-forward layer, m.
    fn inner_width(&self) -> usize {
        match self.intermediate {
            0 => (8 * self.hidden).div_ceil(3).next_multiple_of(64),
            width => width,
        }
    }
}

/// An encoder without its weights.
#[derive(Clone, Debug)]
pub struct Encoder {
    config: EncoderConfig,
    definition: Definition,
    rotary: Arc<Rotary>,
    /// The output layer; there is no bias.
    head: Linear,
    embedding: DigitEmbedding,
    blocks: Vec<Block>,
    norm: RmsNorm,
}

/// A block: attention, then SwiGLU, each after a norm.
#[derive(Clone, Debug)]
struct Block {
    attention_norm: RmsNorm,
    qkv: Linear,
    attention_out: Linear,
    swiglu_norm: RmsNorm,
    gate: Linear,
    swiglu_in: Linear,
    swiglu_out: Linear,
}

impl Encoder {
    /// The network of `config` over the codes of `codes`.
    ///
    /// # Errors
    /// As [`EncoderConfig::validate`].
    pub fn new(config: EncoderConfig, codes: &SubTokenizer, kernels: Kernels) -> Result<Self> {
        config.validate(codes)?;
        let (hidden, kind) = (config.hidden, config.embedding);
        let spec = Spec { block_len: config.block_len, ..Spec::new(codes, config.seq_len) };
        let init = Init::Normal((2.0 / (5.0 * hidden as f64)).sqrt());
        let head = LinearConfig::new(spec.vocab_size, hidden).without_bias().with_init(init).prepared();
        let mut parameters = Vec::new();
        let mut all = Declaration::new(&mut parameters, kernels);
        Ok(Self {
            head: head.declare(&mut all, "lm_head"),
            embedding: DigitEmbedding::declare(&mut all, "transformer.wte.weight", kind, codes, hidden, init),
            blocks: (0..config.blocks)
                .map(|index| Block::declare(&mut all.within(format!("transformer.h.{index}")), &config, init))
                .collect(),
            norm: RmsNorm::declare(&mut all, "transformer.ln_f", hidden),
            rotary: Arc::new(Rotary::new(config.seq_len, hidden / config.heads).rounded_to_bf16()),
            config,
            definition: Definition { spec, kernels, parameters },
        })
    }

    /// The sizes.
    pub fn config(&self) -> &EncoderConfig {
        &self.config
    }

    /// Gives every query head the key and the value of its group.
    ///
    /// # Shapes
    /// - `packed`: [n, (h + 2g)·w], for each group its queries, its key, its value
    /// - result: [n, 3d] as (q|k|v, head, head width)
    fn share_groups(&self, packed: Tensor<2>) -> Tensor<2> {
        let EncoderConfig { hidden, heads, .. } = self.config;
        let (groups, width, rows) = (self.config.groups(), hidden / heads, packed.dims()[0]);
        let queries = heads / groups;
        let packed = packed.reshape([rows, groups, queries + 2, width]);
        let q = packed.clone().narrow(2, 0, queries).reshape([rows, hidden]);
        Tensor::cat(vec![q, self.shared(&packed, queries), self.shared(&packed, queries + 1)], 1)
    }

    /// One of the parts of every group, [n, g, parts, w], for each of its heads: [n, d].
    fn shared(&self, packed: &Tensor<4>, part: usize) -> Tensor<2> {
        let [rows, groups, _, width] = packed.dims();
        let one = packed.clone().narrow(2, part, 1);
        one.expand([rows, groups, self.config.heads / groups, width]).reshape([rows, self.config.hidden])
    }
}

impl Block {
    fn declare(block: &mut Declaration, config: &EncoderConfig, init: Init) -> Self {
        let EncoderConfig { hidden, heads, .. } = *config;
        let (groups, inner) = (config.groups(), config.inner_width());
        let packed = (heads + 2 * groups) * (hidden / heads);
        let linear = |outer, inner| LinearConfig::new(outer, inner).without_bias().with_init(init).prepared();
        Self {
            attention_norm: RmsNorm::declare(block, "norm_1", hidden),
            qkv: linear(packed, hidden).declare(block, "attn.attn"),
            attention_out: linear(hidden, hidden).declare(block, "attn.proj"),
            swiglu_norm: RmsNorm::declare(block, "norm_2", hidden),
            gate: linear(inner, hidden).declare(block, "mlp.swiglu.w1"),
            swiglu_in: linear(inner, hidden).declare(block, "mlp.swiglu.w2"),
            swiglu_out: linear(hidden, inner).declare(block, "mlp.swiglu.w3"),
        }
    }

    /// w3(SiLU(w1·x)·w2·x): [n, d] → [n, d].
    fn swiglu(&self, weights: &Weights, x: Tensor<2>, kernels: Kernels) -> Tensor<2> {
        let gate = self.gate.forward(weights, x.clone());
        let inner = kernels.swiglu(gate, self.swiglu_in.forward(weights, x));
        self.swiglu_out.forward(weights, inner)
    }
}

impl Layers for Encoder {
    /// Gates that change nothing, [1, d].
    type Conditioning = Tensor<2>;

    fn sizes(&self) -> Sizes<'_> {
        let EncoderConfig { hidden, heads, blocks: depth, block_len, .. } = self.config;
        Sizes { hidden, heads, depth, rotary: &self.rotary, mask: block_mask(block_len) }
    }

    fn embed(&self, weights: &Weights, digits: Digits) -> Tensor<2> {
        self.embedding.forward(weights, digits)
    }

    fn conditioning(&self, weights: &Weights, _: &[f64]) -> Tensor<2> {
        Tensor::ones([1, self.config.hidden], &weights.device())
    }

    fn queries_keys_values(&self, pass: &Pass<Self>, layer: usize, x: &mut Stream) -> Tensor<3> {
        let ([batch, length, hidden], block) = (x.dims(), &self.blocks[layer]);
        let normed = x.rms_norm(&block.attention_norm, pass.weights);
        let packed = block.qkv.forward(pass.weights, normed);
        self.share_groups(packed).reshape([batch, length, 3 * hidden])
    }

    fn keys_values(&self, pass: &Pass<Self>, layer: usize, x: &mut Stream) -> Tensor<3> {
        let ([batch, length, hidden], block) = (x.dims(), &self.blocks[layer]);
        let (groups, width) = (self.config.groups(), hidden / self.config.heads);
        let queries = self.config.heads / groups;
        let weight =
            block.qkv.weight(pass.weights).into_tensor().reshape([groups, queries + 2, width * hidden]);
        let weight = weight.narrow(1, queries, 2).reshape([2 * groups * width, hidden]);
        let normed = x.rms_norm(&block.attention_norm, pass.weights);
        let packed = self.definition.kernels.linear(normed, weight, None);
        let packed = packed.reshape([batch * length, groups, 2, width]);
        let parts = (0..2).map(|index| self.shared(&packed, index)).collect();
        Tensor::cat(parts, 1).reshape([batch, length, 2 * hidden])
    }

    fn rest(
        &self,
        pass: &Pass<Self>,
        layer: usize,
        x: Stream,
        mixed: Tensor<3>,
        asked: Option<&Asked>,
    ) -> Stream {
        let (block, kernels, weights) = (&self.blocks[layer], self.definition.kernels, pass.weights);
        let [attention_dropout, swiglu_dropout] = pass.dropouts(layer);
        let add = |x: Stream, h: Tensor<2>, dropout| {
            let (gate, h) = (pass.conditioning.clone(), h.reshape(x.dims()));
            x.add(Addition { h, gate, dropout }, kernels)
        };
        let (x, mixed) = match asked {
            Some(asked) => {
                let states: Tensor<3> = asked.rows(rows(x.into_states(kernels))).unsqueeze();
                (states.into(), asked.rows(rows(mixed)))
            }
            None => (x, rows(mixed)),
        };
        let mut x = add(x, block.attention_out.forward(weights, mixed), attention_dropout);
        let normed = x.rms_norm(&block.swiglu_norm, weights);
        add(x, block.swiglu(weights, normed, kernels), swiglu_dropout)
    }

    fn finished(&self, pass: &Pass<Self>, mut x: Stream, _: Option<&Asked>) -> Tensor<2> {
        x.rms_norm(&self.norm, pass.weights)
    }
}

/// [B, L, d] → [B·L, d].
fn rows(x: Tensor<3>) -> Tensor<2> {
    let [batch, length, width] = x.dims();
    x.reshape([batch * length, width])
}

impl Backbone for Encoder {
    fn definition(&self) -> &Definition {
        &self.definition
    }

    fn takes_lengths(&self) -> bool {
        self.config.block_len == 0
    }

    fn heads(
        &self,
        weights: &Weights,
        inputs: &Inputs,
        positions: &[usize],
        dropout: Option<TrainingDropout>,
    ) -> Result<Vec<Head>> {
        let x = transformer::hidden_states(self, weights, inputs, positions, dropout)?;
        Ok(vec![Head::of_all(x, self.head.weight(weights), self.head.bias(weights))])
    }

    fn keep(&self, weights: &Weights, clean: Digits, dims: [usize; 2], kept: Option<&Kept>) -> Option<Kept> {
        (self.config.block_len > 0).then(|| transformer::keep(self, weights, clean, dims, kept))
    }
}
