//! Attention over all pixels of an image.

use std::sync::Arc;

use burn::tensor::Tensor;

use super::Pass;
use super::layers::{conv_parameters, conv_parameters_with, group_norm, norm_parameters};
use crate::backbone::weights::{Init, Parameter};
use crate::ops::Rotary;

/// One attention block.
#[derive(Clone, Debug)]
pub(super) struct AttentionBlock {
    /// Under which its weights stand.
    prefix: String,
    channels: usize,
    heads: usize,
    /// The network knows positions from its convolutions: nothing is rotated.
    unrotated: Arc<Rotary>,
}

impl AttentionBlock {
    /// Attention over `pixels` of `channels`, in heads of `head_channels`.
    pub fn new(prefix: String, channels: usize, head_channels: usize, pixels: usize) -> Self {
        let unrotated = Arc::new(Rotary::identity(pixels, head_channels));
        Self { prefix, channels, heads: channels / head_channels, unrotated }
    }

    fn name(&self, suffix: &str) -> String {
        format!("{}.{suffix}", self.prefix)
    }

    /// The weights in definition order.
    pub fn parameters(&self) -> Vec<Parameter> {
        let channels = self.channels;
        let mut all = norm_parameters(&self.name("norm"), channels);
        all.extend(conv_parameters(&self.name("qkv"), 3 * channels, channels, &[1]));
        all.extend(conv_parameters_with(&self.name("proj_out"), channels, channels, &[1], Init::Zeros));
        all
    }

    /// x + proj(softmax(qkᵀ/√w)v), q, k and v being linear in norm(x).
    ///
    /// # Shapes
    /// - `x` and the result: [B, channels, H, W]
    pub fn forward(&self, pass: &Pass, x: Tensor<4>) -> Tensor<4> {
        let [batch, channels, height, width] = x.dims();
        let pixels = height * width;
        let normed = group_norm(pass.kernels, pass.weights, &self.name("norm"), x.clone());
        let rows = normed.reshape([batch, channels, pixels]).swap_dims(1, 2);
        let qkv = self.linear(pass, "qkv", rows.reshape([batch * pixels, channels]));
        let mixed = pass.kernels.attention(
            qkv.reshape([batch, pixels, 3 * channels]),
            self.heads,
            self.unrotated.clone(),
            false,
        );
        let out = self.linear(pass, "proj_out", mixed.reshape([batch * pixels, channels]));
        let out = out.reshape([batch, pixels, channels]).swap_dims(1, 2);
        x + out.reshape([batch, channels, height, width])
    }

    /// A convolution of kernel 1: a linear layer at every pixel.
    fn linear(&self, pass: &Pass, suffix: &str, x: Tensor<2>) -> Tensor<2> {
        let weight = pass.weights.get::<3>(&self.name(&format!("{suffix}.weight"))).squeeze_dim(2);
        pass.kernels.linear(x, weight, Some(pass.weights.get(&self.name(&format!("{suffix}.bias")))))
    }
}
