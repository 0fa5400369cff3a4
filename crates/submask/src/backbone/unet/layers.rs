//! Convolutions, norms and changes of resolution, on planes [B, channels, H, W].

use burn::tensor::Tensor;
use burn::tensor::module::{avg_pool2d, interpolate};
use burn::tensor::ops::{AvgPoolOptions, InterpolateMode, InterpolateOptions};

use crate::backbone::weights::{Init, Parameter, Weights};
use crate::ops::Kernels;
use crate::ops::plain::NORM_EPSILON;

/// Groups of every GroupNorm.
pub(super) const GROUPS: usize = 32;

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

/// GroupNorm `prefix` of 32 groups: (x − mean)/√(variance + 10⁻⁵)·weight + bias, mean and variance over all of a
/// group's planes.
pub(super) fn group_norm(weights: &Weights, prefix: &str, x: Tensor<4>) -> Tensor<4> {
    let [batch, channels, height, width] = x.dims();
    let groups = x.reshape([batch, GROUPS, channels / GROUPS * height * width]);
    let centred = groups.clone() - groups.mean_dim(2);
    let variance = (centred.clone() * centred.clone()).mean_dim(2);
    let normed = (centred / (variance + NORM_EPSILON).sqrt()).reshape([batch, channels, height, width]);
    let column = |name: &str| weights.get::<1>(&format!("{prefix}.{name}")).reshape([1, channels, 1, 1]);
    normed * column("weight") + column("bias")
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
