//! The optimiser's step on a device: clipping by the global norm, AdamW, and the moving average of the weights.

use burn::tensor::Tensor;

#[cfg(feature = "cuda")]
use super::Engine;
use super::Kernels;

/// The weights of a network on a device and what belongs to each, in definition order.
#[derive(Debug)]
pub struct DeviceWeights {
    /// Weights θ.
    pub raw: Vec<Tensor<1>>,
    /// First moments m.
    pub first: Vec<Tensor<1>>,
    /// Second moments v.
    pub second: Vec<Tensor<1>>,
    /// Moving averages.
    pub average: Vec<Tensor<1>>,
}

/// Gradients in definition order; none of a weight on which nothing depends.
pub type DeviceGradients = Vec<Option<Tensor<1>>>;

/// The numbers of a step: with g the gradient times min(1, limit/(‖g‖₂ + 10⁻⁶)), m ← β₁m + (1 − β₁)g,
/// v ← β₂v + (1 − β₂)g², θ ← keep·θ − rate·m/(√v/correction₂ + ε), and average ← average − share·(average − θ).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamWStep {
    /// The largest norm that is not clipped.
    pub limit: f32,
    /// β₁.
    pub beta_1: f32,
    /// β₂.
    pub beta_2: f32,
    /// ε.
    pub epsilon: f32,
    /// √(1 − β₂ⁿ) in the n-th step.
    pub correction_2: f32,
    /// The learning rate over 1 − β₁ⁿ.
    pub rate: f32,
    /// What weight decay leaves of a weight.
    pub keep: f32,
    /// What the average takes of its difference to the weight.
    pub share: f32,
}

impl Kernels {
    /// `sums` + share·`gradients`, in the place of `sums`; share·`gradients` where there are none yet.
    pub fn add_gradients(
        self,
        sums: Option<DeviceGradients>,
        gradients: DeviceGradients,
        share: f32,
    ) -> DeviceGradients {
        match (self.engine(), sums) {
            (_, None) if share == 1.0 => gradients,
            #[cfg(feature = "cuda")]
            (Engine::Cuda, sums) => super::cuda::add_gradients(sums, gradients, share),
            (_, sums) => plain_sums(sums, gradients, share),
        }
    }

    /// A step of the weights: their tensors hold the new values, which may stand where the old ones stood. Returns ‖g‖₂ and the
    /// sum of it and the second number of `norms`, which an earlier step returned: \[2\], on the device.
    pub fn adamw(
        self,
        weights: &mut DeviceWeights,
        gradients: DeviceGradients,
        step: AdamWStep,
        norms: Option<Tensor<1>>,
    ) -> Tensor<1> {
        match self.engine() {
            #[cfg(feature = "cuda")]
            Engine::Cuda => super::cuda::adamw(weights, gradients, step, norms),
            _ => plain_step(weights, gradients, step, norms),
        }
    }
}

fn plain_sums(sums: Option<DeviceGradients>, gradients: DeviceGradients, share: f32) -> DeviceGradients {
    let parts = gradients.into_iter().map(|gradient| gradient.map(|gradient| gradient * share));
    match sums {
        None => parts.collect(),
        Some(sums) => sums
            .into_iter()
            .zip(parts)
            .map(|(sum, part)| match (sum, part) {
                (Some(sum), Some(part)) => Some(sum + part),
                (one, other) => one.or(other),
            })
            .collect(),
    }
}

fn plain_step(
    weights: &mut DeviceWeights,
    gradients: DeviceGradients,
    step: AdamWStep,
    norms: Option<Tensor<1>>,
) -> Tensor<1> {
    let gradients: Vec<Tensor<1>> = gradients
        .into_iter()
        .zip(&weights.raw)
        .map(|(gradient, weight)| gradient.unwrap_or_else(|| weight.zeros_like()))
        .collect();
    let squares = gradients.iter().map(|gradient| (gradient.clone() * gradient.clone()).sum());
    let norm = squares.reduce(|sum, square| sum + square).expect("a network has weights").sqrt();
    let factor = ((norm.clone() + 1e-6).recip() * step.limit).clamp_max(1.0);
    for (index, gradient) in gradients.into_iter().enumerate() {
        let g = gradient * factor.clone();
        let first = weights.first[index].clone() * step.beta_1 + g.clone() * (1.0 - step.beta_1);
        let second = weights.second[index].clone() * step.beta_2 + g.clone() * g * (1.0 - step.beta_2);
        let root = second.clone().sqrt() / step.correction_2 + step.epsilon;
        let weight = weights.raw[index].clone() * step.keep - first.clone() * step.rate / root;
        let average = weights.average[index].clone();
        weights.average[index] = average.clone() - (average - weight.clone()) * step.share;
        (weights.raw[index], weights.first[index], weights.second[index]) = (weight, first, second);
    }
    let sum = match norms {
        Some(norms) => norms.narrow(0, 1, 1) + norm.clone(),
        None => norm.clone(),
    };
    Tensor::cat(vec![norm, sum], 0)
}
