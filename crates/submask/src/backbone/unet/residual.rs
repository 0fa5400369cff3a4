//! The residual block: two convolutions, the second of which sees a scale and a shift for every channel.

use burn::tensor::Tensor;

use super::Pass;
use super::layers::{
    NORM_SILU, conv, conv_parameters, conv_parameters_with, group_norm_silu, norm_columns, norm_parameters,
};
use crate::backbone::weights::{Init, Parameter};

/// One residual block.
#[derive(Clone, Debug)]
pub(super) struct ResidualBlock {
    /// Under which its weights stand.
    pub prefix: String,
    /// Channels in.
    pub inner: usize,
    /// Channels out.
    pub outer: usize,
    /// 4m, width of the labels' embedding.
    pub cond_dim: usize,
    /// Whether scale and shift follow from labels; otherwise they are learned constants.
    pub labelled: bool,
    /// Which dropout of the network is the block's.
    pub dropout_layer: usize,
}

impl ResidualBlock {
    fn name(&self, suffix: &str) -> String {
        format!("{}.{suffix}", self.prefix)
    }

    /// The weights in definition order.
    pub fn parameters(&self) -> Vec<Parameter> {
        let Self { inner, outer, cond_dim, .. } = *self;
        let mut all = norm_parameters(&self.name("in_layers.0"), inner);
        all.extend(conv_parameters(&self.name("in_layers.2"), outer, inner, &[3, 3]));
        if self.labelled {
            all.extend(Parameter::linear(&self.name("emb_layers.1"), 2 * outer, cond_dim, true));
        } else {
            let init = Init::Uniform((cond_dim as f64).sqrt());
            all.push(Parameter::new(self.name("emb_layers.embedding_table"), &[1, 2 * outer], init));
        }
        all.extend(norm_parameters(&self.name("out_layers.0"), outer));
        all.extend(conv_parameters_with(&self.name("out_layers.3"), outer, outer, &[3, 3], Init::Zeros));
        if inner != outer {
            all.extend(conv_parameters(&self.name("skip_connection"), outer, inner, &[1, 1]));
        }
        all
    }

    /// skip(x) + conv(dropout(SiLU(norm(conv(SiLU(norm(x))))·(1 + scale) + shift))).
    ///
    /// # Shapes
    /// - `x`: [B, inner, H, W]
    /// - result: [B, outer, H, W]
    pub fn forward(&self, pass: &Pass, x: Tensor<4>) -> Tensor<4> {
        let weights = pass.weights;
        let h = group_norm_silu(pass.kernels, weights, &self.name("in_layers.0"), x.clone());
        let h = conv(pass.kernels, weights, &self.name("in_layers.2"), h);
        let [scale, shift] = self.modulation(pass);
        let mut h = pass.kernels.group_norm(h, scale, shift, NORM_SILU);
        if let Some(mask) = pass.dropout.and_then(|dropout| dropout.layer(self.dropout_layer)) {
            h = mask.apply(h);
        }
        let h = conv(pass.kernels, weights, &self.name("out_layers.3"), h);
        let skip = if self.inner == self.outer {
            x
        } else {
            conv(pass.kernels, weights, &self.name("skip_connection"), x)
        };
        skip + h
    }

    /// What the second norm scales and shifts by, each [B, outer], or [1, outer] for all: (x̂·weight + bias)·(1 + scale)
    /// + shift with the factors of x̂ and the rest put together.
    fn modulation(&self, pass: &Pass) -> [Tensor<2>; 2] {
        let both = match &pass.cond {
            Some(cond) => {
                let weight = pass.weights.get(&self.name("emb_layers.1.weight"));
                let bias = pass.weights.get(&self.name("emb_layers.1.bias"));
                pass.kernels.linear(cond.clone(), weight, Some(bias))
            }
            None => pass.weights.get::<2>(&self.name("emb_layers.embedding_table")),
        };
        let scale = both.clone().narrow(1, 0, self.outer) + 1.0;
        let shift = both.narrow(1, self.outer, self.outer);
        let [weight, bias] = norm_columns(pass.weights, &self.name("out_layers.0"));
        [weight * scale.clone(), bias * scale + shift]
    }
}
