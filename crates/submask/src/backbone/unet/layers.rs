//! Convolutions, norms and changes of resolution, on planes [B, channels, H, W].

use burn::tensor::Tensor;
use burn::tensor::module::{avg_pool2d, interpolate};
use burn::tensor::ops::{AvgPoolOptions, InterpolateMode, InterpolateOptions};

use crate::backbone::weights::{Init, Parameter, Weights};
use crate::ops::{GroupNorm, Kernels};

/// Groups of every GroupNorm.
pub(super) const GROUPS: usize = 32;

/// The norm before a convolution.
pub(super) const NORM_SILU: GroupNorm = GroupNorm { groups: GROUPS, silu: true };

/// Declares a norm over `channels`.
pub(super) fn norm_parameters(prefix: &str, channels: usize) -> Vec<Parameter> {
    vec![
        Parameter::new(format!("{prefix}.weight"), &[channels], Init::Ones),
        Parameter::new(format!("{prefix}.bias"), &[channels], Init::Zeros),
    ]
}

/// Declares a convolution of a kernel of any dimensions, U(−1/√fan_in, 1/√fan_in).
pub(super) fn conv_parameters(prefix: &str, outer: usize, inner: usize, kernel: &[usize]) -> Vec<Parameter> {
    let fan_in = inner * kernel.iter().product::<usize>();
    conv_parameters_with(prefix, outer, inner, kernel, Init::Uniform(1.0 / (fan_in as f64).sqrt()))
}

/// Declares a convolution with another initialisation.
pub(super) fn conv_parameters_with(
    prefix: &str,
    outer: usize,
    inner: usize,
    kernel: &[usize],
    init: Init,
) -> Vec<Parameter> {
    let shape = [&[outer, inner], kernel].concat();
    vec![
        Parameter::new(format!("{prefix}.weight"), &shape, init),
        Parameter::new(format!("{prefix}.bias"), &[outer], init),
    ]
}

/// The convolution `prefix` with a square kernel of odd width, which keeps the resolution.
pub(super) fn conv(kernels: Kernels, weights: &Weights, prefix: &str, x: Tensor<4>) -> Tensor<4> {
    kernels.conv(x, weights.get(&format!("{prefix}.weight")), weights.get(&format!("{prefix}.bias")))
}

/// Scale and shift of the norm `prefix`, each [1, channels].
pub(super) fn norm_columns(weights: &Weights, prefix: &str) -> [Tensor<2>; 2] {
    ["weight", "bias"].map(|name| weights.get::<1>(&format!("{prefix}.{name}")).unsqueeze())
}

/// GroupNorm `prefix` of 32 groups, followed by nothing.
pub(super) fn group_norm(kernels: Kernels, weights: &Weights, prefix: &str, x: Tensor<4>) -> Tensor<4> {
    let [scale, shift] = norm_columns(weights, prefix);
    kernels.group_norm(x, scale, shift, GroupNorm { groups: GROUPS, silu: false })
}

/// GroupNorm `prefix` of 32 groups, then SiLU.
pub(super) fn group_norm_silu(kernels: Kernels, weights: &Weights, prefix: &str, x: Tensor<4>) -> Tensor<4> {
    let [scale, shift] = norm_columns(weights, prefix);
    kernels.group_norm(x, scale, shift, NORM_SILU)
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
