//! The transformer block that the diffusion and the autoregressive network share (networks.md).

use std::sync::Arc;

use burn::tensor::{Device, Int, Tensor};

use super::weights::{Init, Parameter, Weights};
use crate::ops::{Dropout, Kernels, Rotary, integers};
use crate::random::Draws;

/// What all blocks of a network have in common.
#[derive(Clone, Debug)]
pub struct BlockShape {
    /// d.
    pub hidden: usize,
    /// h; d is divisible by it.
    pub heads: usize,
    /// Whether a position sees only itself and those before it.
    pub causal: bool,
    /// Rotary table of d/h wide heads.
    pub rotary: Arc<Rotary>,
    /// Which operations run.
    pub kernels: Kernels,
}

/// Shift, scale and gate of one half of a block, each [B, d] or [1, d].
#[derive(Clone)]
pub struct Modulation {
    /// Added after the norm.
    pub shift: Tensor<2>,
    /// The norm's result is multiplied by 1 + scale.
    pub scale: Tensor<2>,
    /// Multiplies what the half adds to the residual stream.
    pub gate: Tensor<2>,
}

/// Dropout of a training step.
#[derive(Clone, Copy, Debug)]
pub struct TrainingDropout {
    /// Probability in [0, 1).
    pub rate: f64,
    /// Draws of the run.
    pub draws: Draws,
    /// Training step.
    pub step: u64,
}

impl TrainingDropout {
    /// The mask of the `layer`-th dropout of the network; `None` at rate 0.
    pub(super) fn layer(self, layer: usize) -> Option<Dropout> {
        (self.rate > 0.0).then_some(Dropout {
            rate: self.rate,
            draws: self.draws,
            step: self.step,
            layer: layer as u32,
        })
    }
}

/// Declares block `index`: the weights of both halves, with the modulation if `cond_dim` is given.
pub fn parameters(index: usize, hidden: usize, cond_dim: Option<usize>, kernels: Kernels) -> Vec<Parameter> {
    let name = |suffix: &str| format!("blocks.{index}.{suffix}");
    let linear = |suffix: &str, outer: usize, inner: usize, bias: bool| {
        let layer = Parameter::linear(&name(suffix), outer, inner, bias);
        layer.into_iter().map(move |parameter| parameter.of_many(kernels))
    };
    let mut all = vec![Parameter::new(name("norm1.weight"), &[hidden], Init::Ones)];
    all.extend(linear("attn_qkv", 3 * hidden, hidden, false));
    all.extend(linear("attn_out", hidden, hidden, false));
    all.push(Parameter::new(name("norm2.weight"), &[hidden], Init::Ones));
    all.extend(linear("mlp.0", 4 * hidden, hidden, true));
    all.extend(linear("mlp.2", hidden, 4 * hidden, true));
    if let Some(cond_dim) = cond_dim {
        let name = name("adaLN_modulation");
        let layer = Parameter::linear_with(&name, 6 * hidden, cond_dim, true, Init::Zeros);
        all.extend(layer.into_iter().map(|parameter| parameter.of_linear(kernels)));
    }
    all
}

/// The positions of a batch whose hidden states are asked for. After the last attention nothing is computed for others.
#[derive(Clone)]
pub struct Asked {
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
    fn of(self, asked: &Asked) -> Self {
        Self {
            shift: asked.modulation(self.shift),
            scale: asked.modulation(self.scale),
            gate: asked.modulation(self.gate),
        }
    }
}

impl BlockShape {
    /// One block, whose result is wanted everywhere or where it is `asked` for.
    ///
    /// # Shapes
    /// - `x`: [B, L, d]
    /// - result: as `x`, or of the n positions asked for, [n, 1, d] or, where all share a modulation, [1, n, d]
    pub fn forward(
        &self,
        weights: &Weights,
        index: usize,
        x: Tensor<3>,
        [mut attention, mut mlp]: [Modulation; 2],
        asked: Option<&Asked>,
        dropout: Option<TrainingDropout>,
    ) -> Tensor<3> {
        let name = |suffix: &str| format!("blocks.{index}.{suffix}");
        let kernels = self.kernels;
        let [batch, length, hidden] = x.dims();
        let rows = batch * length;

        let normed = kernels.modulated_norm(
            x.clone(),
            weights.get(&name("norm1.weight")),
            attention.shift.clone(),
            attention.scale.clone(),
        );
        let qkv =
            kernels.linear(normed.reshape([rows, hidden]), weights.factor(&name("attn_qkv.weight")), None);
        let mixed = kernels.attention(
            qkv.reshape([batch, length, 3 * hidden]),
            self.heads,
            self.rotary.clone(),
            self.causal,
        );
        let (mut x, mut mixed) = (x, mixed.reshape([rows, hidden]));
        if let Some(asked) = asked {
            mixed = asked.rows(mixed);
            (attention, mlp) = (attention.of(asked), mlp.of(asked));
            let shared = attention.gate.dims()[0] == 1;
            let n = mixed.dims()[0];
            x = asked.rows(x.reshape([rows, hidden])).reshape(if shared {
                [1, n, hidden]
            } else {
                [n, 1, hidden]
            });
        }
        let (shape, rows) = (x.dims(), mixed.dims()[0]);
        let h = kernels.linear(mixed, weights.factor(&name("attn_out.weight")), None);
        let mask = dropout.and_then(|dropout| dropout.layer(2 * index));
        let x = kernels.gated_residual(x, h.reshape(shape), attention.gate, mask);

        let normed =
            kernels.modulated_norm(x.clone(), weights.get(&name("norm2.weight")), mlp.shift, mlp.scale);
        let h = self.mlp(weights, index, normed.reshape([rows, hidden]));
        let mask = dropout.and_then(|dropout| dropout.layer(2 * index + 1));
        kernels.gated_residual(x, h.reshape(shape), mlp.gate, mask)
    }

    /// The two linear layers of block `index`, with GELU between them: [n, d] → [n, d].
    pub fn mlp(&self, weights: &Weights, index: usize, x: Tensor<2>) -> Tensor<2> {
        let [inner, outer] = [0, 2].map(|layer| format!("blocks.{index}.mlp.{layer}"));
        let weight = weights.factor(&format!("{inner}.weight"));
        let bias = weights.get(&format!("{inner}.bias"));
        self.linear(weights, &outer, self.kernels.linear_gelu(x, weight, bias))
    }

    /// The linear layer `prefix`, with bias.
    pub fn linear(&self, weights: &Weights, prefix: &str, x: Tensor<2>) -> Tensor<2> {
        let bias = weights.get(&format!("{prefix}.bias"));
        self.kernels.linear(x, weights.factor(&format!("{prefix}.weight")), Some(bias))
    }
}
