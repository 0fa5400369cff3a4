//! The autoregressive baseline (networks.md): the same blocks, causal, without conditioning.
//!
//! It runs over digits, L·ℓ positions of b + 1 classes (ℓ = 1: tokens). Class b, the mask, begins every
//! sequence and is never predicted.

use std::sync::Arc;

use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use super::TrainingDropout;
use super::block::{Block, BlockShape, Modulation};
use super::declaration::{Declaration, Handle};
use super::dit::check_transformer;
use super::layers::{Linear, LinearConfig, ModulatedNorm};
use super::stream::Stream;
use super::weights::{Init, Parameter, Weights};
use crate::denoiser::{Autoregressor, Continuation, DrawingContinuation, Spec};
use crate::ops::{AttentionMask, Kernels, Rotary, TableRows, draws_by_kernel, integers};
use crate::subtoken::SubTokenizer;
use crate::{Error, Result};

/// Sizes of an autoregressive transformer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AutoregressiveConfig {
    /// Model width d, a multiple of twice the heads.
    pub hidden: usize,
    /// Attention heads h.
    pub heads: usize,
    /// Number of blocks.
    pub blocks: usize,
    /// Longest sequence L, in tokens.
    pub seq_len: usize,
    /// Dropout while training, in [0, 1).
    pub dropout: f64,
}

/// An autoregressive transformer without its weights.
#[derive(Clone, Debug)]
pub struct Autoregressive {
    config: AutoregressiveConfig,
    spec: Spec,
    base: usize,
    parameters: Vec<Parameter>,
    shape: BlockShape,
    embedding: Handle<2>,
    blocks: Vec<Block>,
    norm: ModulatedNorm,
    output: Linear,
}

impl Autoregressive {
    /// The network of `config` over the digits of `codes`.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming the field, the value and what is allowed.
    pub fn new(config: AutoregressiveConfig, codes: &SubTokenizer, kernels: Kernels) -> Result<Self> {
        check_transformer(config.hidden, config.heads, config.blocks, config.seq_len, config.dropout)?;
        let AutoregressiveConfig { hidden, heads, .. } = config;
        let positions = config.seq_len * codes.subtoken_len();
        let rotary = Arc::new(Rotary::new(positions, hidden / heads));
        let shape = BlockShape { hidden, heads, mask: AttentionMask::CAUSAL, rotary, kernels };
        let base = codes.base() as usize;
        let embedding = Init::Uniform(1.0 / (hidden as f64).sqrt());
        let mut parameters = Vec::new();
        let mut all = Declaration::new(&mut parameters, kernels);
        Ok(Self {
            embedding: all.weight("vocab_embed.embedding", [base + 1, hidden], embedding),
            blocks: (0..config.blocks)
                .map(|index| Block::declare(&mut all.within(format!("blocks.{index}")), &shape))
                .collect(),
            norm: ModulatedNorm::declare(&mut all, "output_layer.norm_final", hidden),
            output: LinearConfig::new(base + 1, hidden)
                .with_init(Init::Zeros)
                .declare(&mut all, "output_layer.linear"),
            spec: Spec::new(codes, config.seq_len),
            base,
            config,
            shape,
            parameters,
        })
    }

    /// The tokens and sub-tokens of the sequences, and how long these may be.
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// The sizes.
    pub fn config(&self) -> &AutoregressiveConfig {
        &self.config
    }

    /// Number of classes that are predicted b; class b begins a sequence.
    pub fn base(&self) -> usize {
        self.base
    }

    /// Which operations run.
    pub fn kernels(&self) -> Kernels {
        self.shape.kernels
    }

    /// All weights in definition order.
    pub fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    /// Inputs that predict `digits` [B, P]: class b, then all but the last digit of every row.
    pub fn shifted(&self, digits: &[u32], batch: usize) -> Vec<u32> {
        let positions = digits.len() / batch;
        let mut inputs = Vec::with_capacity(digits.len());
        for row in digits.chunks_exact(positions) {
            inputs.push(self.base as u32);
            inputs.extend_from_slice(&row[..positions - 1]);
        }
        inputs
    }

    /// Hidden states of `inputs` [B, P], ready for the output layer: [B·P, d].
    pub fn trunk(
        &self,
        weights: &Weights,
        inputs: &[u32],
        batch: usize,
        dropout: Option<TrainingDropout>,
    ) -> Tensor<2> {
        let positions = inputs.len() / batch;
        let identity = self.identity(&weights.device());
        let mut x: Stream =
            self.embed(weights, inputs).reshape([batch, positions, self.config.hidden]).into();
        for (index, block) in self.blocks.iter().enumerate() {
            let dropouts = [0, 1].map(|which| dropout?.layer(2 * index + which));
            x = block.forward(weights, x, [identity.clone(), identity.clone()], dropouts);
        }
        let Modulation { shift, scale, .. } = identity;
        let hidden = x.modulated_norm(&self.norm, weights, shift, scale);
        hidden.reshape([batch * positions, self.config.hidden])
    }

    fn embed(&self, weights: &Weights, inputs: &[u32]) -> Tensor<2> {
        let rows =
            TableRows { indices: inputs.to_vec(), per_token: 1, hidden: self.config.hidden, summed: false };
        self.shape.kernels.embedding(weights.get(self.embedding), rows)
    }

    /// Modulation that changes nothing.
    fn identity(&self, device: &Device) -> Modulation {
        let zeros = Tensor::<2>::zeros([1, self.config.hidden], device);
        Modulation { shift: zeros.clone(), scale: zeros.clone(), gate: zeros + 1.0 }
    }

    /// Weight [b, d] and bias \[b\] of the output layer, without the row of the mask class.
    pub fn output_layer(&self, weights: &Weights) -> (Tensor<2>, Tensor<1>) {
        let weight = self.output.weight(weights).first(self.base).into_tensor();
        (weight, self.output.bias(weights).narrow(0, 0, self.base))
    }

    /// Logits [B·P, b] of the digit that follows each of `inputs` [B, P].
    pub fn logits(&self, weights: &Weights, inputs: &[u32], batch: usize) -> Tensor<2> {
        let (weight, bias) = self.output_layer(weights);
        self.shape.kernels.linear(self.trunk(weights, inputs, batch, None), weight, Some(bias))
    }

    /// Logits [B, b] of the digit after `inputs` \[B\], one for every sequence of `cache`, each one position further than at the
    /// last call with the same cache: keys and values of earlier positions are kept, not computed again.
    ///
    /// # Panics
    /// For another number of inputs than there are sequences.
    pub fn next_logits(&self, weights: &Weights, inputs: &[u32], cache: &mut Cache) -> Tensor<2> {
        let (batch, hidden) = (inputs.len(), self.config.hidden);
        assert_eq!(batch, cache.sequences(), "an input per sequence");
        let kernels = self.shape.kernels;
        let Modulation { shift, scale, .. } = self.identity(&weights.device());
        let norm = |layer: &ModulatedNorm, x: Tensor<2>| {
            let x = x.reshape([1, batch, hidden]);
            layer.forward(weights, x, shift.clone(), scale.clone()).reshape([batch, hidden])
        };
        let mut x = self.embed(weights, inputs);
        for (layer, block) in self.blocks.iter().enumerate() {
            let qkv = block.qkv.forward(weights, norm(&block.attention_norm, x.clone()));
            let mixed = self.attend_each(qkv, layer, cache);
            x = x + block.attention_out.forward(weights, mixed);
            x = x.clone() + block.mlp(weights, norm(&block.mlp_norm, x));
        }
        cache.parts.iter_mut().for_each(|part| part.position += 1);
        let (weight, bias) = self.output_layer(weights);
        kernels.linear(norm(&self.norm, x), weight, Some(bias))
    }

    /// Attention of one new position of every sequence over all kept ones of it: [B, 3d] → [B, d]. Sequences at one position are
    /// attended together.
    fn attend_each(&self, qkv: Tensor<2>, layer: usize, cache: &mut Cache) -> Tensor<2> {
        if let [part] = cache.parts.as_mut_slice() {
            return self.attend(qkv, layer, part);
        }
        let mut first = 0;
        let mixed = cache.parts.iter_mut().map(|part| {
            let own = qkv.clone().narrow(0, first, part.sequences);
            first += part.sequences;
            self.attend(own, layer, part)
        });
        Tensor::cat(mixed.collect(), 0)
    }

    /// Attention of one new position of sequences at the same position over all kept ones: [B, 3d] → [B, d].
    fn attend(&self, qkv: Tensor<2>, layer: usize, part: &mut Part) -> Tensor<2> {
        let (batch, position) = (part.sequences, part.position);
        let (heads, width) = (self.shape.heads, self.config.hidden / self.shape.heads);
        let parts = qkv.reshape([batch, 3, heads, width]);
        let third = |index: usize| parts.clone().narrow(1, index, 1).reshape([batch, heads, 1, width]);
        let rotate = |x: Tensor<4>| self.shape.rotary.rotate_at(x, position);
        let (q, k, v) = (rotate(third(0)), rotate(third(1)), third(2));
        part.layers.resize_with(self.config.blocks, Default::default);
        let kept = &mut part.layers[layer];
        let (k, v) = match kept.take() {
            Some((keys, values)) => (Tensor::cat(vec![keys, k], 2), Tensor::cat(vec![values, v], 2)),
            None => (k, v),
        };
        let mixed = self.shape.kernels.attention_of_one(q, k.clone(), v.clone());
        *kept = Some((k, v));
        mixed.reshape([batch, heads * width])
    }
}

/// Keys and values of the positions that [`Autoregressive::next_logits`] has seen, of sequences that may stand at different
/// positions.
#[derive(Default)]
pub struct Cache {
    parts: Vec<Part>,
}

/// Sequences one after the other that stand at the same position.
struct Part {
    sequences: usize,
    position: usize,
    /// Rotated keys and values of every block, each [B, h, positions, w].
    layers: Vec<Option<(Tensor<4>, Tensor<4>)>>,
}

impl Cache {
    /// Takes in sequences that begin, after the others.
    pub fn add(&mut self, sequences: usize) {
        match self.parts.last_mut() {
            Some(part) if part.position == 0 => part.sequences += sequences,
            _ if sequences == 0 => {}
            _ => self.parts.push(Part { sequences, position: 0, layers: Vec::new() }),
        }
    }

    /// How many sequences there are.
    pub fn sequences(&self) -> usize {
        self.parts.iter().map(|part| part.sequences).sum()
    }

    /// Goes on with some rows of the batch only, ascending.
    fn keep(&mut self, rows: &[usize]) {
        let mut first = 0;
        for part in &mut self.parts {
            let range = first..first + part.sequences;
            first = range.end;
            let own: Vec<u32> =
                rows.iter().filter(|row| range.contains(row)).map(|row| (row - range.start) as u32).collect();
            part.keep(&own);
        }
        self.parts.retain(|part| part.sequences > 0);
    }
}

impl Part {
    /// Goes on with some of the sequences only.
    fn keep(&mut self, rows: &[u32]) {
        if rows.len() == self.sequences {
            return;
        }
        self.sequences = rows.len();
        if rows.is_empty() {
            return;
        }
        for (keys, values) in self.layers.iter_mut().flatten() {
            let rows = integers(rows.iter().copied(), [rows.len()], &keys.device());
            *keys = keys.clone().select(0, rows.clone());
            *values = values.clone().select(0, rows);
        }
    }
}

/// An autoregressive network with its weights, ready to be evaluated.
pub struct LoadedAutoregressive {
    /// The network.
    pub network: Autoregressive,
    /// Its weights, not on an autodiff device.
    pub weights: Weights,
}

impl Autoregressor for LoadedAutoregressive {
    fn spec(&self) -> &Spec {
        self.network.spec()
    }

    fn base(&self) -> usize {
        self.network.base()
    }

    fn logits(&self, inputs: &[u32], batch: usize) -> Result<Vec<f32>> {
        floats(self.network.logits(&self.weights, inputs, batch))
    }

    fn begin(&self) -> Box<dyn Continuation + '_> {
        Box::new(Begun { loaded: self, cache: Cache::default() })
    }
}

/// Sequences whose keys and values are kept.
struct Begun<'a> {
    loaded: &'a LoadedAutoregressive,
    cache: Cache,
}

impl Continuation for Begun<'_> {
    fn add(&mut self, sequences: usize) {
        self.cache.add(sequences);
    }

    fn next_logits(&mut self, inputs: &[u32]) -> Result<Vec<f32>> {
        floats(self.next_logits_there(inputs))
    }

    fn keep(&mut self, rows: &[usize]) {
        self.cache.keep(rows);
    }

    fn on_drawing_device(&mut self) -> Option<&mut dyn DrawingContinuation> {
        draws_by_kernel(&self.device()).then_some(self)
    }
}

impl DrawingContinuation for Begun<'_> {
    fn device(&self) -> Device {
        self.loaded.weights.device()
    }

    fn next_logits_there(&mut self, inputs: &[u32]) -> Tensor<2> {
        let LoadedAutoregressive { network, weights } = self.loaded;
        network.next_logits(weights, inputs, &mut self.cache)
    }
}

/// The elements of logits.
fn floats(logits: Tensor<2>) -> Result<Vec<f32>> {
    logits.try_into_vec_as::<f32>().map_err(Error::internal("logits are 32-bit floats"))
}
