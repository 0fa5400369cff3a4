//! Layers that networks share. Each declares its weights when the network is put together and has the operation it does.

use burn::tensor::{DType, FloatDType, Tensor};

use super::declaration::{Declaration, Handle};
use super::weights::{Init, Parameter, Weights};
use crate::ops::{Addition, Factor, Kernels};

/// Sizes of a linear layer, and how its weights start.
#[derive(Clone, Copy, Debug)]
pub struct LinearConfig {
    outer: usize,
    inner: usize,
    bias: bool,
    init: Init,
    keep: fn(Parameter, Kernels) -> Parameter,
}

impl LinearConfig {
    /// A layer that makes vectors of width `outer` of vectors of width `inner`. Its weight and its bias start as
    /// U(−1/√inner, 1/√inner).
    pub fn new(outer: usize, inner: usize) -> Self {
        let init = Init::Uniform(1.0 / (inner as f64).sqrt());
        Self { outer, inner, bias: true, init, keep: |parameter, _| parameter }
    }

    /// The same without bias.
    pub fn without_bias(self) -> Self {
        Self { bias: false, ..self }
    }

    /// The same with other initial values of weight and bias.
    pub fn with_init(self, init: Init) -> Self {
        Self { init, ..self }
    }

    /// The same, whose weight inference keeps as [`Parameter::of_linear`] says.
    pub fn prepared(self) -> Self {
        Self { keep: Parameter::of_linear, ..self }
    }

    /// Declares `name.weight` [outer, inner], then `name.bias` \[outer\] where there is one.
    pub fn declare(self, declaration: &mut Declaration, name: &str) -> Linear {
        let Self { outer, inner, bias, init, keep } = self;
        let mut layer = declaration.within(name);
        Linear {
            weight: layer.weight_kept("weight", [outer, inner], init, keep),
            bias: bias.then(|| layer.weight("bias", [outer], init)),
            outer,
            kernels: layer.kernels(),
        }
    }
}

/// A linear layer, x·Wᵀ + bias.
#[derive(Clone, Debug)]
pub struct Linear {
    weight: Handle<2>,
    bias: Option<Handle<1>>,
    outer: usize,
    kernels: Kernels,
}

impl Linear {
    /// x·Wᵀ + bias.
    ///
    /// # Shapes
    /// - `x`: [n, inner]
    /// - result: [n, outer]
    pub fn forward(&self, weights: &Weights, x: Tensor<2>) -> Tensor<2> {
        self.kernels.linear(x, self.weight(weights), self.bias.map(|bias| weights.get(bias)))
    }

    /// GELU of [`Self::forward`], as [`Kernels::linear_gelu`].
    pub fn forward_gelu(&self, weights: &Weights, x: Tensor<2>) -> Tensor<2> {
        self.kernels.linear_gelu(x, self.weight(weights), self.bias(weights))
    }

    /// W, [outer, inner].
    pub fn weight(&self, weights: &Weights) -> Factor {
        weights.factor(self.weight)
    }

    /// The bias, \[outer\]; zeros where there is none.
    pub fn bias(&self, weights: &Weights) -> Tensor<1> {
        match self.bias {
            Some(bias) => weights.get(bias),
            None => Tensor::zeros([self.outer], &weights.device()),
        }
    }
}

/// LayerNorm of the last dimension with a weight and no bias, then ·(1 + scale) + shift.
#[derive(Clone, Debug)]
pub struct ModulatedNorm {
    weight: Handle<1>,
    kernels: Kernels,
}

impl ModulatedNorm {
    /// Declares `name.weight` \[width\].
    pub fn declare(declaration: &mut Declaration, name: &str, width: usize) -> Self {
        Self { weight: norm_weight(declaration, name, width), kernels: declaration.kernels() }
    }

    /// As [`Kernels::modulated_norm`]: `x` [B, L, width], `shift` and `scale` [B, width], or [1, width] for all.
    pub fn forward(&self, weights: &Weights, x: Tensor<3>, shift: Tensor<2>, scale: Tensor<2>) -> Tensor<3> {
        self.kernels.modulated_norm(x, weights.get(self.weight), shift, scale)
    }

    /// As [`Kernels::residual_norm`]: the sum, and [`Self::forward`] of it.
    pub fn after(
        &self,
        weights: &Weights,
        x: Tensor<3>,
        added: Addition,
        shift: Tensor<2>,
        scale: Tensor<2>,
    ) -> [Tensor<3>; 2] {
        self.kernels.residual_norm(x, added, weights.get(self.weight), shift, scale)
    }
}

/// LayerNorm of rows, with weight and bias.
#[derive(Clone, Debug)]
pub struct LayerNorm {
    weight: Handle<1>,
    bias: Handle<1>,
    kernels: Kernels,
}

impl LayerNorm {
    /// Declares `name.weight` and `name.bias`, each \[width\].
    pub fn declare(declaration: &mut Declaration, name: &str, width: usize) -> Self {
        let mut layer = declaration.within(name);
        Self {
            weight: layer.weight("weight", [width], Init::Ones),
            bias: layer.weight("bias", [width], Init::Zeros),
            kernels: layer.kernels(),
        }
    }

    /// (x − mean)/√(variance + 10⁻⁵)·weight + bias of every row of `x` [n, width].
    pub fn forward(&self, weights: &Weights, x: Tensor<2>) -> Tensor<2> {
        let [rows, width] = x.dims();
        let bias = weights.get(self.bias).reshape([1, width]);
        let scale = Tensor::zeros([1, width], &x.device());
        let x = x.reshape([rows, 1, width]);
        let normed = self.kernels.modulated_norm(x, weights.get(self.weight), bias, scale);
        // No linear layer follows.
        in_single_precision(normed).reshape([rows, width])
    }
}

/// The same numbers in single precision.
fn in_single_precision<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    if x.dtype() == DType::F32 { x } else { x.cast(FloatDType::F32) }
}

/// RMSNorm of rows.
#[derive(Clone, Debug)]
pub struct RmsNorm {
    weight: Handle<1>,
    kernels: Kernels,
}

impl RmsNorm {
    /// Declares `name.weight` \[width\].
    pub fn declare(declaration: &mut Declaration, name: &str, width: usize) -> Self {
        Self { weight: norm_weight(declaration, name, width), kernels: declaration.kernels() }
    }

    /// As [`Kernels::rms_norm`], of every row of `x` [n, width].
    pub fn forward(&self, weights: &Weights, x: Tensor<2>) -> Tensor<2> {
        self.kernels.rms_norm(x, weights.get(self.weight))
    }

    /// As [`Kernels::residual_rms_norm`]: the sum, and [`Self::forward`] of its rows.
    pub fn after(&self, weights: &Weights, x: Tensor<3>, added: Addition) -> [Tensor<3>; 2] {
        self.kernels.residual_rms_norm(x, added, weights.get(self.weight))
    }
}

fn norm_weight(declaration: &mut Declaration, name: &str, width: usize) -> Handle<1> {
    declaration.within(name).weight("weight", [width], Init::Ones)
}
