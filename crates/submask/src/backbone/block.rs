//! The transformer block that the diffusion and the autoregressive network share (networks.md).

use std::sync::Arc;

use burn::tensor::{Device, Int, Tensor};

use super::TrainingDropout;
use super::declaration::Declaration;
use super::layers::{Linear, LinearConfig, ModulatedNorm};
use super::weights::Weights;
use crate::ops::{AttentionMask, Kernels, Rotary, integers};

/// What all blocks of a network have in common.
#[derive(Clone, Debug)]
pub(super) struct BlockShape {
    /// Model width d.
    pub hidden: usize,
    /// Attention heads h; d is divisible by their number.
    pub heads: usize,
    /// Which positions one reads.
    pub mask: AttentionMask,
    /// Rotary table of d/h wide heads.
    pub rotary: Arc<Rotary>,
    /// Which operations run.
    pub kernels: Kernels,
}

/// Shift, scale and gate of one half of a block, each [B, d] or [1, d].
#[derive(Clone)]
pub(super) struct Modulation {
    /// Added after the norm.
    pub shift: Tensor<2>,
    /// The norm's result is multiplied by 1 + scale.
    pub scale: Tensor<2>,
    /// Multiplies what the half adds to the residual stream.
    pub gate: Tensor<2>,
}

/// The positions of a batch whose hidden states are asked for. After the last attention nothing is computed for others.
#[derive(Clone)]
pub(super) struct Asked {
    /// Flat positions b·L + i, \[n\].
    rows: Tensor<1, Int>,
    /// b of each, \[n\].
    sequences: Tensor<1, Int>,
}

impl Asked {
    /// Of flat `positions` in sequences of `length` tokens; `None` where these are all of `count`, in order.
    pub fn new(positions: &[usize], length: usize, count: usize, device: &Device) -> Option<Self> {
        if positions.iter().copied().eq(0..count) {
            return None;
        }
        let tensor = |index: &dyn Fn(usize) -> usize| {
            let indices = positions.iter().map(|position| index(*position) as u32);
            integers(indices, [positions.len()], device)
        };
        Some(Self { rows: tensor(&|position| position), sequences: tensor(&|position| position / length) })
    }

    /// Rows of [B·L, d].
    pub fn rows(&self, x: Tensor<2>) -> Tensor<2> {
        x.select(0, self.rows.clone())
    }

    /// The modulation of every row, [n, d], or [1, d] where that is everyone's.
    pub fn modulation(&self, modulation: Tensor<2>) -> Tensor<2> {
        if modulation.dims()[0] == 1 { modulation } else { modulation.select(0, self.sequences.clone()) }
    }
}

impl Modulation {
    /// Of attention and of the linear layers, given both side by side, [B, 6d].
    pub fn halves(both: Tensor<2>) -> [Self; 2] {
        let mut parts = both.chunk(6, 1).into_iter();
        let mut next = || parts.next().expect("six parts were cut");
        [(); 2].map(|()| Self { shift: next(), scale: next(), gate: next() })
    }

    fn of(self, asked: &Asked) -> Self {
        Self {
            shift: asked.modulation(self.shift),
            scale: asked.modulation(self.scale),
            gate: asked.modulation(self.gate),
        }
    }
}

/// A block: attention, then two linear layers with GELU between them, each after a norm.
#[derive(Clone, Debug)]
pub(super) struct Block {
    shape: BlockShape,
    /// Which of the network's blocks.
    index: usize,
    pub attention_norm: ModulatedNorm,
    pub qkv: Linear,
    pub attention_out: Linear,
    pub mlp_norm: ModulatedNorm,
    mlp_in: Linear,
    mlp_out: Linear,
}

impl Block {
    /// Declares the block `index` of a network.
    pub fn declare(declaration: &mut Declaration, shape: &BlockShape, index: usize) -> Self {
        let hidden = shape.hidden;
        let linear = |outer, inner| LinearConfig::new(outer, inner).prepared_for_many();
        Self {
            shape: shape.clone(),
            index,
            attention_norm: ModulatedNorm::declare(declaration, "norm1", hidden),
            qkv: linear(3 * hidden, hidden).without_bias().declare(declaration, "attn_qkv"),
            attention_out: linear(hidden, hidden).without_bias().declare(declaration, "attn_out"),
            mlp_norm: ModulatedNorm::declare(declaration, "norm2", hidden),
            mlp_in: linear(4 * hidden, hidden).declare(declaration, "mlp.0"),
            mlp_out: linear(hidden, 4 * hidden).declare(declaration, "mlp.2"),
        }
    }

    /// The block's result, everywhere or where it is `asked` for.
    ///
    /// # Shapes
    /// - `x`: [B, L, d]
    /// - result: as `x`, or of the n positions asked for, [n, 1, d] or, where all share a modulation, [1, n, d]
    pub fn forward(
        &self,
        weights: &Weights,
        x: Tensor<3>,
        [mut attention, mut mlp]: [Modulation; 2],
        asked: Option<&Asked>,
        dropout: Option<TrainingDropout>,
    ) -> Tensor<3> {
        let kernels = self.shape.kernels;
        let (mut x, mut mixed) = (x.clone(), self.attend(weights, x, &attention));
        if let Some(asked) = asked {
            let [batch, length, hidden] = x.dims();
            mixed = asked.rows(mixed);
            (attention, mlp) = (attention.of(asked), mlp.of(asked));
            let shared = attention.gate.dims()[0] == 1;
            let n = mixed.dims()[0];
            let shape = if shared { [1, n, hidden] } else { [n, 1, hidden] };
            x = asked.rows(x.reshape([batch * length, hidden])).reshape(shape);
        }
        let shape = x.dims();
        let h = self.attention_out.forward(weights, mixed);
        let mask = dropout.and_then(|dropout| dropout.layer(2 * self.index));
        let x = kernels.gated_residual(x, h.reshape(shape), attention.gate, mask);

        let normed = self.mlp_norm.forward(weights, x.clone(), mlp.shift, mlp.scale);
        let h = self.mlp(weights, normed.reshape([shape[0] * shape[1], shape[2]]));
        let mask = dropout.and_then(|dropout| dropout.layer(2 * self.index + 1));
        kernels.gated_residual(x, h.reshape(shape), mlp.gate, mask)
    }

    /// Attention over all positions: [B, L, d] → [B·L, d].
    fn attend(&self, weights: &Weights, x: Tensor<3>, modulation: &Modulation) -> Tensor<2> {
        let BlockShape { heads, mask, ref rotary, kernels, .. } = self.shape;
        let [batch, length, hidden] = x.dims();
        let Modulation { shift, scale, .. } = modulation.clone();
        let normed = self.attention_norm.forward(weights, x, shift, scale);
        let qkv = self.qkv.forward(weights, normed.reshape([batch * length, hidden]));
        let qkv = qkv.reshape([batch, length, 3 * hidden]);
        kernels.attention(qkv, heads, rotary.clone(), mask).reshape([batch * length, hidden])
    }

    /// The two linear layers, with GELU between them: [n, d] → [n, d].
    pub fn mlp(&self, weights: &Weights, x: Tensor<2>) -> Tensor<2> {
        self.mlp_out.forward(weights, self.mlp_in.forward_gelu(weights, x))
    }
}
