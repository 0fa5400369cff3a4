//! Convolutions, norms and changes of resolution, on planes [B, channels, H, W].

use burn::tensor::Tensor;
use burn::tensor::module::{avg_pool2d, interpolate};
use burn::tensor::ops::{AvgPoolOptions, InterpolateMode, InterpolateOptions};

use crate::backbone::declaration::{Declaration, Handle};
use crate::backbone::weights::{Init, Weights};
use crate::ops::{GroupNorm, Kernels};

/// Groups of every GroupNorm.
pub(super) const GROUPS: usize = 32;

/// The norm before a convolution.
const NORM_SILU: GroupNorm = GroupNorm { groups: GROUPS, silu: true };

/// A convolution with a square kernel of odd width, which keeps the resolution.
#[derive(Clone, Debug)]
pub(super) struct Conv {
    weight: Handle<4>,
    bias: Handle<1>,
    kernels: Kernels,
}

impl Conv {
    /// Declares a convolution of `inner` to `outer` channels, U(−1/√fan_in, 1/√fan_in).
    pub fn declare(
        declaration: &mut Declaration,
        name: &str,
        [outer, inner]: [usize; 2],
        kernel: usize,
    ) -> Self {
        let init = fan_in(inner * kernel * kernel);
        Self::declare_with(declaration, name, [outer, inner], kernel, init)
    }

    /// Declares one with another initialisation.
    pub fn declare_with(
        declaration: &mut Declaration,
        name: &str,
        [outer, inner]: [usize; 2],
        kernel: usize,
        init: Init,
    ) -> Self {
        let mut layer = declaration.within(name);
        Self {
            weight: layer.weight("weight", [outer, inner, kernel, kernel], init),
            bias: layer.weight("bias", [outer], init),
            kernels: layer.kernels(),
        }
    }

    /// [B, inner, H, W] → [B, outer, H, W].
    pub fn forward(&self, weights: &Weights, x: Tensor<4>) -> Tensor<4> {
        let (weight, bias) = self.weight_and_bias(weights);
        self.kernels.conv(x, weight, bias)
    }

    /// Weight [outer, inner, k, k] and bias \[outer\].
    pub fn weight_and_bias(&self, weights: &Weights) -> (Tensor<4>, Tensor<1>) {
        (weights.get(self.weight), weights.get(self.bias))
    }
}

/// A convolution of kernel 1 over a sequence: a linear layer at every pixel.
#[derive(Clone, Debug)]
pub(super) struct PixelLinear {
    weight: Handle<3>,
    bias: Handle<1>,
    kernels: Kernels,
}

impl PixelLinear {
    /// Declares a layer of `inner` to `outer` channels; without `init` U(−1/√inner, 1/√inner).
    pub fn declare(
        declaration: &mut Declaration,
        name: &str,
        [outer, inner]: [usize; 2],
        init: Option<Init>,
    ) -> Self {
        let init = init.unwrap_or(fan_in(inner));
        let mut layer = declaration.within(name);
        Self {
            weight: layer.weight("weight", [outer, inner, 1], init),
            bias: layer.weight("bias", [outer], init),
            kernels: layer.kernels(),
        }
    }

    /// [n, inner] → [n, outer].
    pub fn forward(&self, weights: &Weights, x: Tensor<2>) -> Tensor<2> {
        let weight = weights.get(self.weight).squeeze_dim::<2>(2);
        self.kernels.linear(x, weight, Some(weights.get(self.bias)))
    }
}

/// U(−1/√fan_in, 1/√fan_in).
fn fan_in(inner: usize) -> Init {
    Init::Uniform(1.0 / (inner as f64).sqrt())
}

/// GroupNorm of 32 groups, with weight and bias.
#[derive(Clone, Debug)]
pub(super) struct PlaneNorm {
    weight: Handle<1>,
    bias: Handle<1>,
    kernels: Kernels,
}

impl PlaneNorm {
    /// Declares a norm over `channels`.
    pub fn declare(declaration: &mut Declaration, name: &str, channels: usize) -> Self {
        let mut layer = declaration.within(name);
        Self {
            weight: layer.weight("weight", [channels], Init::Ones),
            bias: layer.weight("bias", [channels], Init::Zeros),
            kernels: layer.kernels(),
        }
    }

    /// The norm, followed by nothing.
    pub fn forward(&self, weights: &Weights, x: Tensor<4>) -> Tensor<4> {
        let [scale, shift] = self.columns(weights);
        self.kernels.group_norm(x, scale, shift, GroupNorm { groups: GROUPS, silu: false })
    }

    /// The norm, then SiLU.
    pub fn forward_silu(&self, weights: &Weights, x: Tensor<4>) -> Tensor<4> {
        let [scale, shift] = self.columns(weights);
        self.kernels.group_norm(x, scale, shift, NORM_SILU)
    }

    /// SiLU(norm(x)·(1 + scale) + shift), where `scale` and `shift` are [B, channels], or [1, channels] for all: what x̂ is
    /// multiplied by and what is added are put together first.
    pub fn forward_modulated(
        &self,
        weights: &Weights,
        x: Tensor<4>,
        scale: Tensor<2>,
        shift: Tensor<2>,
    ) -> Tensor<4> {
        let [weight, bias] = self.columns(weights);
        let scale = scale + 1.0;
        self.kernels.group_norm(x, weight * scale.clone(), bias * scale + shift, NORM_SILU)
    }

    /// Weight and bias, each [1, channels].
    fn columns(&self, weights: &Weights) -> [Tensor<2>; 2] {
        [self.weight, self.bias].map(|handle| weights.get(handle).unsqueeze())
    }
}

/// Means of 2×2 pixels.
pub(super) fn halve(x: Tensor<4>) -> Tensor<4> {
    avg_pool2d(x, AvgPoolOptions::new([2, 2]))
}

/// Every pixel four times.
pub(super) fn double(x: Tensor<4>) -> Tensor<4> {
    let [_, _, height, width] = x.dims();
    let size = [2 * height, 2 * width];
    interpolate(x, InterpolateOptions::new(InterpolateMode::Nearest).with_output_size(size))
}
