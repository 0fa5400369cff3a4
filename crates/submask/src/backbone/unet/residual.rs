//! The residual block: two convolutions, the second of which sees a scale and a shift for every channel.

use burn::tensor::Tensor;

use super::Pass;
use super::layers::{Conv, PlaneNorm};
use crate::backbone::declaration::{Declaration, Handle};
use crate::backbone::layers::{Linear, LinearConfig};
use crate::backbone::weights::Init;
use crate::ops::Kernels;

/// One residual block.
#[derive(Clone, Debug)]
pub(super) struct ResidualBlock {
    first_norm: PlaneNorm,
    first_conv: Conv,
    modulation: Modulation,
    second_norm: PlaneNorm,
    second_conv: Conv,
    /// Where the number of channels changes.
    skip: Option<Conv>,
    /// Which dropout of the network is the block's.
    dropout_layer: usize,
    kernels: Kernels,
}

/// Where scale and shift come from.
#[derive(Clone, Debug)]
enum Modulation {
    /// From the labels' embedding.
    Labels(Linear),
    /// Learned constants, [1, 2·outer].
    Constant(Handle<2>),
}

impl ResidualBlock {
    /// Declares a block of `inner` to `outer` channels, whose scale and shift follow from labels embedded with width
    /// `cond_dim` where the network is `labelled`.
    pub fn declare(
        block: &mut Declaration,
        [outer, inner]: [usize; 2],
        cond_dim: usize,
        labelled: bool,
        dropout_layer: usize,
    ) -> Self {
        let constant = Init::Uniform((cond_dim as f64).sqrt());
        Self {
            first_norm: PlaneNorm::declare(block, "in_layers.0", inner),
            first_conv: Conv::declare(block, "in_layers.2", [outer, inner], 3),
            modulation: if labelled {
                Modulation::Labels(LinearConfig::new(2 * outer, cond_dim).declare(block, "emb_layers.1"))
            } else {
                Modulation::Constant(block.weight("emb_layers.embedding_table", [1, 2 * outer], constant))
            },
            second_norm: PlaneNorm::declare(block, "out_layers.0", outer),
            second_conv: Conv::declare_with(block, "out_layers.3", [outer, outer], 3, Init::Zeros),
            skip: (inner != outer).then(|| Conv::declare(block, "skip_connection", [outer, inner], 1)),
            dropout_layer,
            kernels: block.kernels(),
        }
    }

    /// skip(x) + conv(dropout(SiLU(norm(conv(SiLU(norm(x))))·(1 + scale) + shift))).
    ///
    /// # Shapes
    /// - `x`: [B, inner, H, W]
    /// - result: [B, outer, H, W]
    pub fn forward(&self, pass: &Pass, x: Tensor<4>) -> Tensor<4> {
        let weights = pass.weights;
        let h = self.first_norm.forward_silu(weights, x.clone());
        let h = self.first_conv.forward(weights, h);
        let [scale, shift] = self.modulation.scale_and_shift(pass);
        let mut h = self.second_norm.forward_modulated(weights, h, scale, shift);
        if let Some(mask) = pass.dropout.and_then(|dropout| dropout.layer(self.dropout_layer)) {
            h = self.kernels.dropout(h, mask);
        }
        let h = self.second_conv.forward(weights, h);
        let skip = match &self.skip {
            Some(skip) => skip.forward(weights, x),
            None => x,
        };
        skip + h
    }
}

impl Modulation {
    /// Each [B, outer], or [1, outer] for all.
    fn scale_and_shift(&self, pass: &Pass) -> [Tensor<2>; 2] {
        let both = match self {
            Self::Labels(linear) => linear.forward(pass.weights, pass.labels()),
            Self::Constant(table) => pass.weights.get(*table),
        };
        let outer = both.dims()[1] / 2;
        [both.clone().narrow(1, 0, outer), both.narrow(1, outer, outer)]
    }
}
