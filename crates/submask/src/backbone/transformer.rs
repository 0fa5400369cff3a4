//! How transformers run: layer by layer over whole sequences, or by blocks of positions after clean tokens, of which each
//! layer keeps keys and values.

use std::sync::Arc;

use burn::tensor::Tensor;

use super::stream::Stream;
use super::weights::Weights;
use super::{Backbone, Context, Digits, Inputs, TrainingDropout};
use crate::Result;
use crate::denoiser::{BlocksAt, Kept};
use crate::ops::{AttentionMask, Dropout, Past, PlacedPast, Rotary, take_rows};

/// Sizes of a transformer.
pub(super) struct Sizes<'a> {
    /// Model width d.
    pub hidden: usize,
    /// Attention heads h.
    pub heads: usize,
    /// Number of layers.
    pub depth: usize,
    /// Rotary table of d/h wide heads.
    pub rotary: &'a Arc<Rotary>,
    /// Which positions one reads.
    pub mask: AttentionMask,
}

/// A transformer's parts. Everything but attention is of each position by itself.
pub(super) trait Layers: Backbone {
    /// What modulates the layers in a pass.
    type Conditioning: Clone;

    /// The sizes.
    fn sizes(&self) -> Sizes<'_>;

    /// Vectors of tokens, [n, d].
    fn embed(&self, weights: &Weights, digits: Digits) -> Tensor<2>;

    /// What modulates the layers, given the times \[B\].
    fn conditioning(&self, weights: &Weights, t: &[f64]) -> Self::Conditioning;

    /// Queries, keys and values of a layer, [B, L, 3d] as (q|k|v, head, head width).
    fn queries_keys_values(&self, pass: &Pass<Self>, layer: usize, x: &mut Stream) -> Tensor<3>;

    /// Keys and values alone, [B, L, 2d] as (k|v, head, head width).
    fn keys_values(&self, pass: &Pass<Self>, layer: usize, x: &mut Stream) -> Tensor<3>;

    /// What follows attention in a layer, everywhere or where it is `asked` for.
    ///
    /// # Shapes
    /// - `x`, and what attention gave: [B, L, d]
    /// - result: as `x`, or of the n positions asked for, [n, 1, d] or, where all share a modulation, [1, n, d]
    fn rest(
        &self,
        pass: &Pass<Self>,
        layer: usize,
        x: Stream,
        mixed: Tensor<3>,
        asked: Option<&Asked>,
    ) -> Stream;

    /// The states after the last layer, ready for the output layer: [n, d].
    fn finished(&self, pass: &Pass<Self>, x: Stream, asked: Option<&Asked>) -> Tensor<2>;
}

/// A pass through the layers.
pub(super) struct Pass<'a, N: Layers + ?Sized> {
    /// The weights.
    pub weights: &'a Weights,
    /// What modulates the layers.
    pub conditioning: N::Conditioning,
    dropout: Option<TrainingDropout>,
    /// Which of the network's dropouts is the first of the pass.
    first_dropout: usize,
}

impl<N: Layers + ?Sized> Pass<'_, N> {
    /// The masks of both dropouts of a layer.
    pub fn dropouts(&self, layer: usize) -> [Option<Dropout>; 2] {
        let mask = |which| self.dropout?.layer(self.first_dropout + 2 * layer + which);
        [mask(0), mask(1)]
    }
}

/// The positions of a batch whose hidden states are asked for. After the last attention nothing is computed for others.
#[derive(Clone)]
pub(super) struct Asked {
    /// Flat positions b·L + i.
    rows: Vec<u32>,
    /// b of each.
    sequences: Vec<u32>,
}

impl Asked {
    /// Of flat `positions` in sequences of `length` tokens; `None` where these are all of `count`, in order.
    pub fn new(positions: &[usize], length: usize, count: usize) -> Option<Self> {
        if positions.iter().copied().eq(0..count) {
            return None;
        }
        let rows = positions.iter().map(|position| *position as u32).collect();
        Some(Self { rows, sequences: positions.iter().map(|position| (position / length) as u32).collect() })
    }

    /// Rows of [B·L, d].
    pub fn rows(&self, x: Tensor<2>) -> Tensor<2> {
        take_rows(x, &self.rows)
    }

    /// The modulation of every row, [n, d], or [1, d] where that is everyone's.
    pub fn modulation(&self, modulation: Tensor<2>) -> Tensor<2> {
        if modulation.dims()[0] == 1 { modulation } else { take_rows(modulation, &self.sequences) }
    }
}

/// What the positions of a pass read besides their own block.
enum Source<'a> {
    /// All are one block.
    Everything,
    /// Those of each sequence are one block; the sequences have these lengths.
    Each(&'a [usize]),
    /// Blocks at several places.
    Groups(&'a [BlocksAt<'a>]),
    /// They are the first of several blocks.
    Nothing,
    /// Keys and values of every layer, not yet placed, perhaps behind queries.
    Pass(Vec<Tensor<3>>),
    /// What is kept of known tokens.
    Placed(&'a [PlacedPast]),
}

/// Hidden states of the asked positions, ready for the output layer, [n, d].
pub(super) fn hidden_states<N: Layers>(
    network: &N,
    weights: &Weights,
    inputs: &Inputs,
    positions: &[usize],
    dropout: Option<TrainingDropout>,
) -> Result<Tensor<2>> {
    let [batch, length] = inputs.check(network.spec(), positions)?;
    let Sizes { hidden, heads, depth, rotary, mask } = network.sizes();
    let asked = Asked::new(positions, length, batch * length);
    let conditioning = network.conditioning(weights, inputs.t);
    let clean = |clean| {
        // The masks of this half follow those of the other.
        let conditioning = conditioning.clone();
        let pass = Pass { weights, conditioning, dropout, first_dropout: 2 * depth };
        Source::Pass(clean_pass(network, &pass, clean, [batch, length]))
    };
    let (source, first) = match inputs.context {
        Context::Lengths(lengths) => (Source::Each(lengths), 0),
        Context::KeptOfEach(groups) => (Source::Groups(groups), 0),
        // One block is all there ever is.
        _ if mask.block_len() >= network.spec().max_seq_len() => (Source::Everything, 0),
        Context::Kept { kept: Some(kept), first } => (Source::Placed(placed(network, kept)), first),
        Context::Own | Context::Clean(_) | Context::Kept { .. } if length <= mask.block_len() => {
            (Source::Nothing, 0)
        }
        Context::Clean(digits) => (clean(digits), 0),
        Context::Own | Context::Kept { .. } => (clean(inputs.y_t), 0),
    };
    let pass = Pass { weights, conditioning, dropout, first_dropout: 0 };
    let mut x: Stream = network.embed(weights, inputs.y_t).reshape([batch, length, hidden]).into();
    for layer in 0..depth {
        let asked = asked.as_ref().filter(|_| layer + 1 == depth);
        let qkv = network.queries_keys_values(&pass, layer, &mut x);
        let kernels = network.kernels();
        let rotary = rotary.clone();
        let mixed = match &source {
            Source::Everything => kernels.attention(qkv, heads, rotary, AttentionMask::FULL),
            Source::Each(lengths) => kernels.attention_of_each(qkv, lengths, heads, rotary),
            Source::Groups(groups) => attention_of_groups(network, qkv, layer, groups),
            Source::Nothing => kernels.attention_of_blocks(qkv, heads, rotary, mask),
            Source::Pass(layers) => {
                let past = Past { keys_values: layers[layer].clone(), first };
                kernels.attention_with_past(qkv, past, heads, rotary, mask)
            }
            Source::Placed(layers) => {
                kernels.attention_with_placed(qkv, &layers[layer], first, heads, rotary, mask)
            }
        };
        x = network.rest(&pass, layer, x, mixed, asked);
    }
    Ok(network.finished(&pass, x, asked.as_ref()))
}

/// Attention of blocks at several places, each after what is kept of its own sequence: [1, n, 3d] → [1, n, d].
fn attention_of_groups<N: Layers>(
    network: &N,
    qkv: Tensor<3>,
    layer: usize,
    groups: &[BlocksAt],
) -> Tensor<3> {
    let Sizes { hidden, heads, rotary, mask, .. } = network.sizes();
    let kernels = network.kernels();
    let mut start = 0;
    let mixed = groups.iter().map(|&BlocksAt { kept, first, sequences, tokens }| {
        let count = sequences * tokens;
        let own = qkv.clone().narrow(1, start, count).reshape([sequences, tokens, 3 * hidden]);
        start += count;
        let mixed = match kept {
            Some(kept) => {
                let past = &placed(network, kept)[layer];
                kernels.attention_with_placed(own, past, first, heads, rotary.clone(), mask)
            }
            // One block is all there ever is.
            None if mask.block_len() >= network.spec().max_seq_len() => {
                kernels.attention(own, heads, rotary.clone(), AttentionMask::FULL)
            }
            None => kernels.attention_of_blocks(own, heads, rotary.clone(), mask),
        };
        mixed.reshape([1, count, hidden])
    });
    Tensor::cat(mixed.collect(), 1)
}

/// Keys and values of clean tokens [B, n·ℓ], after those that are kept already.
pub(super) fn keep<N: Layers>(
    network: &N,
    weights: &Weights,
    clean: Digits,
    dims: [usize; 2],
    kept: Option<&Kept>,
) -> Kept {
    let pass = Pass {
        weights,
        conditioning: network.conditioning(weights, &[0.0]),
        dropout: None,
        first_dropout: 0,
    };
    let layers = match kept {
        Some(kept) => after_kept(network, &pass, clean, dims, kept),
        None => {
            let hidden = network.sizes().hidden;
            let keys_values = |packed: Tensor<3>| match packed.dims()[2] - 2 * hidden {
                0 => packed,
                queries => packed.narrow(2, queries, 2 * hidden),
            };
            clean_pass(network, &pass, clean, dims).into_iter().map(keys_values).collect()
        }
    };
    Kept::new(layers)
}

/// Keys and values of every layer of clean tokens, which read their own block and what stands before it; behind the queries but
/// for the last layer, which makes nothing else of them.
fn clean_pass<N: Layers>(
    network: &N,
    pass: &Pass<N>,
    clean: Digits,
    [batch, length]: [usize; 2],
) -> Vec<Tensor<3>> {
    let Sizes { hidden, heads, depth, rotary, mask } = network.sizes();
    let mut x: Stream = network.embed(pass.weights, clean).reshape([batch, length, hidden]).into();
    let mut layers = Vec::with_capacity(depth);
    for layer in 0..depth - 1 {
        let qkv = network.queries_keys_values(pass, layer, &mut x);
        layers.push(qkv.clone());
        let mixed = network.kernels().attention_of_blocks(qkv, heads, rotary.clone(), mask);
        x = network.rest(pass, layer, x, mixed, None);
    }
    layers.push(network.keys_values(pass, depth - 1, &mut x));
    layers
}

/// Keys and values of every layer, of those kept and then of the clean tokens after them.
fn after_kept<N: Layers>(
    network: &N,
    pass: &Pass<N>,
    clean: Digits,
    [batch, length]: [usize; 2],
    kept: &Kept,
) -> Vec<Tensor<3>> {
    let Sizes { hidden, heads, depth, rotary, mask } = network.sizes();
    let (first, kernels) = (kept.tokens(), network.kernels());
    // A single block reads no more than was kept before it.
    let placed = (length <= mask.block_len()).then(|| placed(network, kept));
    let mut x: Stream = network.embed(pass.weights, clean).reshape([batch, length, hidden]).into();
    let mut layers = Vec::with_capacity(depth);
    for layer in 0..depth {
        let is_last = layer + 1 == depth;
        let packed = match is_last {
            true => network.keys_values(pass, layer, &mut x),
            false => network.queries_keys_values(pass, layer, &mut x),
        };
        let own = packed.clone().narrow(2, packed.dims()[2] - 2 * hidden, 2 * hidden);
        let keys_values = Tensor::cat(vec![kept.layer(layer), own], 1);
        layers.push(keys_values.clone());
        if !is_last {
            let rotary = rotary.clone();
            let mixed = match placed {
                Some(placed) => {
                    kernels.attention_with_placed(packed, &placed[layer], first, heads, rotary, mask)
                }
                None => kernels.attention_with_past(packed, Past { keys_values, first }, heads, rotary, mask),
            };
            x = network.rest(pass, layer, x, mixed, None);
        }
    }
    layers
}

/// What is kept, ready to be read.
fn placed<'a, N: Layers>(network: &N, kept: &'a Kept) -> &'a [PlacedPast] {
    let Sizes { heads, rotary, .. } = network.sizes();
    kept.placed(|keys_values| network.kernels().place(keys_values, heads, rotary.clone()))
}
