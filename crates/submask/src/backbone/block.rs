//! The transformer block that the diffusion and the autoregressive network share (networks.md).

use std::sync::Arc;

use burn::tensor::Tensor;

use super::weights::{Init, Parameter, Weights};
use crate::ops::{Dropout, Kernels, Rotary};
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
pub fn parameters(index: usize, hidden: usize, cond_dim: Option<usize>) -> Vec<Parameter> {
    let name = |suffix: &str| format!("blocks.{index}.{suffix}");
    let mut all = vec![Parameter::new(name("norm1.weight"), &[hidden], Init::Ones)];
    all.extend(Parameter::linear(&name("attn_qkv"), 3 * hidden, hidden, false));
    all.extend(Parameter::linear(&name("attn_out"), hidden, hidden, false));
    all.push(Parameter::new(name("norm2.weight"), &[hidden], Init::Ones));
    all.extend(Parameter::linear(&name("mlp.0"), 4 * hidden, hidden, true));
    all.extend(Parameter::linear(&name("mlp.2"), hidden, 4 * hidden, true));
    if let Some(cond_dim) = cond_dim {
        all.extend(Parameter::linear_with(
            &name("adaLN_modulation"),
            6 * hidden,
            cond_dim,
            true,
            Init::Zeros,
        ));
    }
    all
}

impl BlockShape {
    /// One block.
    ///
    /// # Shapes
    /// - `x` and the result: [B, L, d]
    pub fn forward(
        &self,
        weights: &Weights,
        index: usize,
        x: Tensor<3>,
        [attention, mlp]: [Modulation; 2],
        dropout: Option<TrainingDropout>,
    ) -> Tensor<3> {
        let name = |suffix: &str| format!("blocks.{index}.{suffix}");
        let kernels = self.kernels;
        let [batch, length, hidden] = x.dims();
        let rows = batch * length;

        let normed = kernels.modulated_norm(
            x.clone(),
            weights.get(&name("norm1.weight")),
            attention.shift,
            attention.scale,
        );
        let qkv = kernels.linear(normed.reshape([rows, hidden]), weights.get(&name("attn_qkv.weight")), None);
        let mixed = kernels.attention(
            qkv.reshape([batch, length, 3 * hidden]),
            self.heads,
            self.rotary.clone(),
            self.causal,
        );
        let h = kernels.linear(mixed.reshape([rows, hidden]), weights.get(&name("attn_out.weight")), None);
        let mask = dropout.and_then(|dropout| dropout.layer(2 * index));
        let x = kernels.gated_residual(x, h.reshape([batch, length, hidden]), attention.gate, mask);

        let normed =
            kernels.modulated_norm(x.clone(), weights.get(&name("norm2.weight")), mlp.shift, mlp.scale);
        let h = self.linear(weights, &name("mlp.0"), normed.reshape([rows, hidden]));
        let h = self.linear(weights, &name("mlp.2"), kernels.gelu(h));
        let mask = dropout.and_then(|dropout| dropout.layer(2 * index + 1));
        kernels.gated_residual(x, h.reshape([batch, length, hidden]), mlp.gate, mask)
    }

    /// The linear layer `prefix`, with bias.
    pub fn linear(&self, weights: &Weights, prefix: &str, x: Tensor<2>) -> Tensor<2> {
        let bias = weights.get(&format!("{prefix}.bias"));
        self.kernels.linear(x, weights.get(&format!("{prefix}.weight")), Some(bias))
    }
}
