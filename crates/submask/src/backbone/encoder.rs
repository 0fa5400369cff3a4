//! The LLaMA-style encoder (networks.md): digits in, logits over tokens out; it does not read the time.

use std::sync::Arc;

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::block::{Asked, TrainingDropout};
use super::dit::check_transformer;
use super::embedding::{DigitEmbedding, Embedding};
use super::weights::{Init, Parameter, Weights};
use super::{Backbone, Digits};
use crate::denoiser::Spec;
use crate::ops::{Factor, Kernels, Rotary};
use crate::subtoken::SubTokenizer;
use crate::{Error, Result};

/// Sizes of an encoder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EncoderConfig {
    /// d, a multiple of twice the heads.
    pub hidden: usize,
    /// h, heads of the queries.
    pub heads: usize,
    /// g, groups of queries that share a key and a value; divides h. 0: h.
    pub query_groups: usize,
    /// Number of blocks.
    pub blocks: usize,
    /// m, width inside SwiGLU. 0: 8/3·d, rounded up to a multiple of 64.
    pub intermediate: usize,
    /// L, the longest sequence in tokens.
    pub seq_len: usize,
    /// Dropout while training, in [0, 1), of what attention and SwiGLU add.
    pub dropout: f64,
    /// How digits are embedded: one table a digit. For ℓ = 1 all forms are the same.
    pub embedding: Embedding,
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
        Ok(())
    }

    /// g.
    fn groups(&self) -> usize {
        if self.query_groups == 0 { self.heads } else { self.query_groups }
    }

    /// m.
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
    spec: Spec,
    embedding: DigitEmbedding,
    rotary: Arc<Rotary>,
    kernels: Kernels,
}

impl Encoder {
    /// The network of `config` over the codes of `codes`.
    ///
    /// # Errors
    /// As [`EncoderConfig::validate`].
    pub fn new(config: EncoderConfig, codes: &SubTokenizer, kernels: Kernels) -> Result<Self> {
        config.validate(codes)?;
        Ok(Self {
            spec: Spec::new(codes, config.seq_len),
            embedding: DigitEmbedding::new("transformer.wte.weight", config.embedding, codes, config.hidden),
            rotary: Arc::new(Rotary::new(config.seq_len, config.hidden / config.heads).rounded_to_bf16()),
            config,
            kernels,
        })
    }

    /// The sizes.
    pub fn config(&self) -> &EncoderConfig {
        &self.config
    }

    /// One block, whose result is wanted everywhere or where it is `asked` for: [B, L, d] → [B, L, d] or [1, n, d].
    fn block(
        &self,
        weights: &Weights,
        index: usize,
        x: Tensor<3>,
        asked: Option<&Asked>,
        dropout: Option<TrainingDropout>,
    ) -> Tensor<3> {
        let kernels = self.kernels;
        let [batch, length, hidden] = x.dims();
        let rows = batch * length;
        let name = |suffix: &str| format!("transformer.h.{index}.{suffix}.weight");
        let linear = |x: Tensor<2>, suffix: &str| kernels.linear(x, weights.factor(&name(suffix)), None);
        let norm = |x: &Tensor<3>, suffix: &str| {
            let [batch, length, _] = x.dims();
            kernels.rms_norm(x.clone().reshape([batch * length, hidden]), weights.get(&name(suffix)))
        };
        let add = |x: Tensor<3>, h: Tensor<2>, layer: usize| {
            let mask = dropout.and_then(|dropout| dropout.layer(layer));
            let (gate, h) = (Tensor::ones([1, hidden], &x.device()), h.reshape(x.dims()));
            kernels.gated_residual(x, h, gate, mask)
        };

        let qkv = self.share_groups(linear(norm(&x, "norm_1"), "attn.attn"));
        let qkv = qkv.reshape([batch, length, 3 * hidden]);
        let mixed = kernels.attention(qkv, self.config.heads, self.rotary.clone(), false);
        let (x, mixed) = match asked {
            Some(asked) => {
                let x = asked.rows(x.reshape([rows, hidden])).unsqueeze();
                (x, asked.rows(mixed.reshape([rows, hidden])))
            }
            None => (x, mixed.reshape([rows, hidden])),
        };
        let x = add(x, linear(mixed, "attn.proj"), 2 * index);

        let normed = norm(&x, "norm_2");
        let gate = linear(normed.clone(), "mlp.swiglu.w1");
        let inner = kernels.swiglu(gate, linear(normed, "mlp.swiglu.w2"));
        add(x, linear(inner, "mlp.swiglu.w3"), 2 * index + 1)
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
        let shared = |index: usize| {
            let one = packed.clone().narrow(2, index, 1);
            one.expand([rows, groups, queries, width]).reshape([rows, hidden])
        };
        let q = packed.clone().narrow(2, 0, queries).reshape([rows, hidden]);
        Tensor::cat(vec![q, shared(queries), shared(queries + 1)], 1)
    }
}

impl Backbone for Encoder {
    fn spec(&self) -> &Spec {
        &self.spec
    }

    fn kernels(&self) -> Kernels {
        self.kernels
    }

    fn parameters(&self) -> Vec<Parameter> {
        let EncoderConfig { hidden, heads, blocks, .. } = self.config;
        let (groups, inner) = (self.config.groups(), self.config.inner_width());
        let init = Init::Normal((2.0 / (5.0 * hidden as f64)).sqrt());
        let mut all = vec![
            Parameter::new("lm_head.weight", &[self.spec.vocab_size, hidden], init).of_linear(self.kernels),
            self.embedding.parameter(init),
        ];
        let packed = (heads + 2 * groups) * (hidden / heads);
        for index in 0..blocks {
            let name = |suffix: &str| format!("transformer.h.{index}.{suffix}.weight");
            let of_many = |suffix: &str, outer: usize, inner: usize| {
                Parameter::new(name(suffix), &[outer, inner], init).of_many(self.kernels)
            };
            all.extend([
                Parameter::new(name("norm_1"), &[hidden], Init::Ones),
                of_many("attn.attn", packed, hidden),
                of_many("attn.proj", hidden, hidden),
                Parameter::new(name("norm_2"), &[hidden], Init::Ones),
                of_many("mlp.swiglu.w1", inner, hidden),
                of_many("mlp.swiglu.w2", inner, hidden),
                of_many("mlp.swiglu.w3", hidden, inner),
            ]);
        }
        all.push(Parameter::new("transformer.ln_f.weight", &[hidden], Init::Ones));
        all
    }

    fn embed(&self, weights: &Weights, y_t: Digits) -> Tensor<2> {
        self.embedding.forward(self.kernels, weights, y_t)
    }

    fn hidden_states(
        &self,
        weights: &Weights,
        embedded: Tensor<2>,
        t: &[f64],
        positions: &[usize],
        dropout: Option<TrainingDropout>,
    ) -> Tensor<2> {
        let (batch, hidden, blocks) = (t.len(), self.config.hidden, self.config.blocks);
        let rows = embedded.dims()[0];
        let length = rows / batch;
        let asked = Asked::new(positions, length, rows, &weights.device());
        let mut x = embedded.reshape([batch, length, hidden]);
        for index in 0..blocks {
            let asked = asked.as_ref().filter(|_| index + 1 == blocks);
            x = self.block(weights, index, x, asked, dropout);
        }
        self.kernels.rms_norm(x.reshape([positions.len(), hidden]), weights.get("transformer.ln_f.weight"))
    }

    /// There is no bias: it is zero.
    fn output_layer(&self, weights: &Weights) -> (Factor, Tensor<1>) {
        (weights.factor("lm_head.weight"), Tensor::zeros([self.spec.vocab_size], &weights.device()))
    }
}
