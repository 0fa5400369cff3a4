//! Attention over all pixels of an image.

use std::sync::Arc;

use burn::tensor::Tensor;

use super::Pass;
use super::layers::{PixelLinear, PlaneNorm};
use crate::backbone::declaration::Declaration;
use crate::backbone::weights::Init;
use crate::ops::{AttentionMask, Kernels, Rotary};

/// One attention block.
#[derive(Clone, Debug)]
pub(super) struct AttentionBlock {
    norm: PlaneNorm,
    qkv: PixelLinear,
    out: PixelLinear,
    heads: usize,
    /// The network knows positions from its convolutions: nothing is rotated.
    unrotated: Arc<Rotary>,
    kernels: Kernels,
}

impl AttentionBlock {
    /// Declares attention over `pixels` of `channels`, in heads of `head_channels`.
    pub fn declare(block: &mut Declaration, channels: usize, head_channels: usize, pixels: usize) -> Self {
        Self {
            norm: PlaneNorm::declare(block, "norm", channels),
            qkv: PixelLinear::declare(block, "qkv", [3 * channels, channels], None),
            out: PixelLinear::declare(block, "proj_out", [channels, channels], Some(Init::Zeros)),
            heads: channels / head_channels,
            unrotated: Arc::new(Rotary::identity(pixels, head_channels)),
            kernels: block.kernels(),
        }
    }

    /// x + proj(softmax(qkᵀ/√w)v), q, k and v being linear in norm(x).
    ///
    /// # Shapes
    /// - `x` and the result: [B, channels, H, W]
    pub fn forward(&self, pass: &Pass, x: Tensor<4>) -> Tensor<4> {
        let [batch, channels, height, width] = x.dims();
        let pixels = height * width;
        let normed = self.norm.forward(pass.weights, x.clone());
        let rows = normed.reshape([batch, channels, pixels]).swap_dims(1, 2);
        let qkv = self.qkv.forward(pass.weights, rows.reshape([batch * pixels, channels]));
        let qkv = qkv.reshape([batch, pixels, 3 * channels]);
        let mixed = self.kernels.attention(qkv, self.heads, self.unrotated.clone(), AttentionMask::FULL);
        let out = self.out.forward(pass.weights, mixed.reshape([batch * pixels, channels]));
        let out = out.reshape([batch, pixels, channels]).swap_dims(1, 2);
        x + out.reshape([batch, channels, height, width])
    }
}
