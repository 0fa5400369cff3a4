//! The transformer block that the diffusion and the autoregressive network share (networks.md).

use std::sync::Arc;

use burn::tensor::Tensor;

use super::declaration::Declaration;
use super::layers::{Linear, LinearConfig, ModulatedNorm};
use super::stream::Stream;
use super::transformer::Asked;
use super::weights::Weights;
use crate::ops::{Addition, AttentionMask, Dropout, Kernels, Rotary};

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

impl Modulation {
    /// Of attention and of the linear layers, given both side by side, [B, 6d].
    pub fn halves(both: Tensor<2>, kernels: Kernels) -> [Self; 2] {
        let [shift, scale, gate, mlp_shift, mlp_scale, mlp_gate] = kernels.split_columns(both);
        [Self { shift, scale, gate }, Self { shift: mlp_shift, scale: mlp_scale, gate: mlp_gate }]
    }

    fn of(self, asked: &Asked) -> Self {
        Self {
            shift: asked.modulation(self.shift),
            scale: asked.modulation(self.scale),
            gate: asked.modulation(self.gate),
        }
    }
}

/// A layer: attention, then two linear layers with GELU between them, each after a norm.
#[derive(Clone, Debug)]
pub(super) struct Block {
    shape: BlockShape,
    pub attention_norm: ModulatedNorm,
    pub qkv: Linear,
    pub attention_out: Linear,
    pub mlp_norm: ModulatedNorm,
    mlp_in: Linear,
    mlp_out: Linear,
}

impl Block {
    /// Declares the weights of a layer.
    pub fn declare(declaration: &mut Declaration, shape: &BlockShape) -> Self {
        let hidden = shape.hidden;
        let linear = |outer, inner| LinearConfig::new(outer, inner).prepared();
        Self {
            shape: shape.clone(),
            attention_norm: ModulatedNorm::declare(declaration, "norm1", hidden),
            qkv: linear(3 * hidden, hidden).without_bias().declare(declaration, "attn_qkv"),
            attention_out: linear(hidden, hidden).without_bias().declare(declaration, "attn_out"),
            mlp_norm: ModulatedNorm::declare(declaration, "norm2", hidden),
            mlp_in: linear(4 * hidden, hidden).declare(declaration, "mlp.0"),
            mlp_out: linear(hidden, 4 * hidden).declare(declaration, "mlp.2"),
        }
    }

    /// The layer's result for whole sequences, [B, L, d] → [B, L, d], with both dropouts.
    pub fn forward(
        &self,
        weights: &Weights,
        mut x: Stream,
        modulations: [Modulation; 2],
        dropouts: [Option<Dropout>; 2],
    ) -> Stream {
        let BlockShape { heads, mask, ref rotary, kernels, hidden } = self.shape;
        let [batch, length, _] = x.dims();
        let qkv = self.queries_keys_values(weights, &mut x, &modulations[0]);
        let mixed = kernels.attention(qkv, heads, rotary.clone(), mask).reshape([batch * length, hidden]);
        self.rest(weights, x, mixed.reshape([batch, length, hidden]), modulations, None, dropouts)
    }

    /// [B, L, d] → [B, L, 3d] as (q|k|v, head, head width).
    pub fn queries_keys_values(
        &self,
        weights: &Weights,
        x: &mut Stream,
        modulation: &Modulation,
    ) -> Tensor<3> {
        let [batch, length, hidden] = x.dims();
        let qkv = self.qkv.forward(weights, self.normed(weights, x, modulation));
        qkv.reshape([batch, length, 3 * hidden])
    }

    /// [B, L, d] → [B, L, 2d] as (k|v, head, head width).
    pub fn keys_values(&self, weights: &Weights, x: &mut Stream, modulation: &Modulation) -> Tensor<3> {
        let [batch, length, hidden] = x.dims();
        let weight = self.qkv.weight(weights).into_tensor().narrow(0, hidden, 2 * hidden);
        let normed = self.normed(weights, x, modulation);
        self.shape.kernels.linear(normed, weight, None).reshape([batch, length, 2 * hidden])
    }

    fn normed(&self, weights: &Weights, x: &mut Stream, modulation: &Modulation) -> Tensor<2> {
        let [batch, length, hidden] = x.dims();
        let Modulation { shift, scale, .. } = modulation.clone();
        x.modulated_norm(&self.attention_norm, weights, shift, scale).reshape([batch * length, hidden])
    }

    /// What follows attention, everywhere or where it is `asked` for.
    ///
    /// # Shapes
    /// - `x`, and what attention gave: [B, L, d]
    /// - result: as `x`, or of the n positions asked for, [n, 1, d] or, where all share a modulation, [1, n, d]
    pub fn rest(
        &self,
        weights: &Weights,
        mut x: Stream,
        mixed: Tensor<3>,
        [mut attention, mut mlp]: [Modulation; 2],
        asked: Option<&Asked>,
        [attention_dropout, mlp_dropout]: [Option<Dropout>; 2],
    ) -> Stream {
        let kernels = self.shape.kernels;
        let [batch, length, hidden] = x.dims();
        let mut mixed = mixed.reshape([batch * length, hidden]);
        if let Some(asked) = asked {
            mixed = asked.rows(mixed);
            (attention, mlp) = (attention.of(asked), mlp.of(asked));
            let shared = attention.gate.dims()[0] == 1;
            let n = mixed.dims()[0];
            let shape = if shared { [1, n, hidden] } else { [n, 1, hidden] };
            let states = x.into_states(kernels).reshape([batch * length, hidden]);
            x = asked.rows(states).reshape(shape).into();
        }
        let shape = x.dims();
        let h = self.attention_out.forward(weights, mixed).reshape(shape);
        let mut x = x.add(Addition { h, gate: attention.gate, dropout: attention_dropout }, kernels);

        let normed = x.modulated_norm(&self.mlp_norm, weights, mlp.shift, mlp.scale);
        let h = self.mlp(weights, normed.reshape([shape[0] * shape[1], shape[2]])).reshape(shape);
        x.add(Addition { h, gate: mlp.gate, dropout: mlp_dropout }, kernels)
    }

    /// The two linear layers, with GELU between them: [n, d] → [n, d].
    pub fn mlp(&self, weights: &Weights, x: Tensor<2>) -> Tensor<2> {
        let layers = [&self.mlp_in, &self.mlp_out].map(|layer| (layer.weight(weights), layer.bias(weights)));
        self.shape.kernels.mlp(x, layers)
    }
}
