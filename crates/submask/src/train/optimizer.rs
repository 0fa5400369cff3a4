//! AdamW, clipping by the global norm, and the exponential moving average of the weights.
//!
//! The state of a run on the CPU lives in memory and one pass updates everything, element by element, so the result does
//! not depend on the number of threads. For GPUs see [`super::DeviceState`].

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::backbone::weights::Parameter;
use crate::ops::lanes;

/// Settings of AdamW (Loshchilov and Hutter, arXiv 1711.05101).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AdamWConfig {
    /// Decay of the first moment, in [0, 1).
    pub beta_1: f64,
    /// Decay of the second moment, in [0, 1).
    pub beta_2: f64,
    /// Added to the root of the second moment.
    pub epsilon: f64,
    /// Decoupled weight decay, times the learning rate.
    pub weight_decay: f64,
}

impl Default for AdamWConfig {
    fn default() -> Self {
        Self { beta_1: 0.9, beta_2: 0.999, epsilon: 1e-8, weight_decay: 0.0 }
    }
}

/// How far a step goes.
#[derive(Clone, Copy, Debug)]
pub struct StepSize {
    /// lr.
    pub learning_rate: f64,
    /// What gradients are multiplied by first, see [`clip_factor`].
    pub gradient_factor: f64,
}

/// An exponential moving average of the weights.
#[derive(Debug)]
pub struct Average<'a> {
    /// As many as the weights.
    pub values: &'a mut [Vec<f32>],
    /// d in [0, 1).
    pub decay: f64,
}

/// Moments of every weight, and the number of steps taken.
#[derive(Clone, Debug, PartialEq)]
pub struct AdamW {
    /// Settings.
    pub config: AdamWConfig,
    /// Steps taken.
    pub steps: u64,
    /// First moments, in definition order.
    pub first: Vec<Vec<f32>>,
    /// Second moments, in definition order.
    pub second: Vec<Vec<f32>>,
}

/// Elements that one task handles.
const CHUNK: usize = 16_384;

impl AdamW {
    /// Fresh moments.
    pub fn new(config: AdamWConfig, parameters: &[Parameter]) -> Self {
        let zeros = || parameters.iter().map(|parameter| vec![0.0; parameter.len()]).collect();
        Self { config, steps: 0, first: zeros(), second: zeros() }
    }

    /// One step: m ← β₁m + (1 − β₁)g, v ← β₂v + (1 − β₂)g²,
    /// θ ← (1 − lr·decay)θ − lr·m̂/(√v̂ + ε), with m̂, v̂ corrected for their bias and g the scaled gradient;
    /// then, in the n-th step (n = 1, 2, …), average ← average − (1 − min(d, (1+n)/(10+n)))·(average − θ).
    ///
    /// One pass over memory; an element's result depends on that element alone.
    pub fn step(
        &mut self,
        weights: &mut [Vec<f32>],
        gradients: &[Vec<f32>],
        size: StepSize,
        average: Option<Average>,
    ) {
        self.steps += 1;
        let update = Update::new(self.config, self.steps, size.learning_rate);
        let factor = size.gradient_factor as f32;
        let (averages, decay) = average.map_or((None, 0.0), |average| (Some(average.values), average.decay));
        let share = average_share(decay, self.steps);
        let mut chunks = Vec::new();
        let mut averages = averages.map(|values| values.iter_mut());
        let moments = self.first.iter_mut().zip(&mut self.second);
        for ((weights, gradients), (first, second)) in weights.iter_mut().zip(gradients).zip(moments) {
            let average = averages.as_mut().and_then(Iterator::next);
            let mut average = average.map(|average| average.chunks_mut(CHUNK));
            let moments = first.chunks_mut(CHUNK).zip(second.chunks_mut(CHUNK));
            let parts = weights.chunks_mut(CHUNK).zip(gradients.chunks(CHUNK)).zip(moments);
            chunks.extend(parts.map(|((weights, gradients), (first, second))| {
                let average = average.as_mut().and_then(Iterator::next);
                Chunk { weights, gradients, first, second, average }
            }));
        }
        chunks.into_par_iter().for_each(|chunk| {
            lanes::vectorized(
                #[inline(always)]
                || chunk.step(update, factor, share),
            );
        });
    }
}

/// What the average takes of the difference in the n-th step: 1 − min(d, (1+n)/(10+n)).
pub(super) fn average_share(decay: f64, n: u64) -> f32 {
    let n = n as f64;
    (1.0 - decay.min((1.0 + n) / (10.0 + n))) as f32
}

/// What a step does to an element, as numbers.
#[derive(Clone, Copy)]
pub(super) struct Update {
    /// β₁ and β₂.
    pub beta_1: f32,
    pub beta_2: f32,
    /// ε.
    pub epsilon: f32,
    /// √(1 − β₂ⁿ).
    pub correction_2: f32,
    /// lr/(1 − β₁ⁿ).
    pub rate: f32,
    /// 1 − lr·decay.
    pub keep: f32,
}

impl Update {
    /// Of the `step`-th step.
    pub fn new(config: AdamWConfig, step: u64, learning_rate: f64) -> Self {
        let AdamWConfig { beta_1, beta_2, epsilon, weight_decay } = config;
        let correction_1 = 1.0 - beta_1.powf(step as f64);
        Self {
            beta_1: beta_1 as f32,
            beta_2: beta_2 as f32,
            epsilon: epsilon as f32,
            correction_2: (1.0 - beta_2.powf(step as f64)).sqrt() as f32,
            rate: (learning_rate / correction_1) as f32,
            keep: (1.0 - learning_rate * weight_decay) as f32,
        }
    }

    #[inline(always)]
    fn apply(self, weight: &mut f32, gradient: f32, first: &mut f32, second: &mut f32) {
        *first = self.beta_1 * *first + (1.0 - self.beta_1) * gradient;
        *second = self.beta_2 * *second + (1.0 - self.beta_2) * gradient * gradient;
        let root = second.sqrt() / self.correction_2 + self.epsilon;
        *weight = self.keep * *weight - self.rate * *first / root;
    }
}

/// Elements of one weight, with all that belongs to them.
struct Chunk<'a> {
    weights: &'a mut [f32],
    gradients: &'a [f32],
    first: &'a mut [f32],
    second: &'a mut [f32],
    average: Option<&'a mut [f32]>,
}

impl Chunk<'_> {
    #[inline(always)]
    fn step(self, update: Update, factor: f32, share: f32) {
        let elements = self.weights.iter_mut().zip(self.gradients);
        let elements = elements.zip(self.first.iter_mut().zip(self.second));
        match self.average {
            None => {
                for ((weight, &gradient), (first, second)) in elements {
                    update.apply(weight, factor * gradient, first, second);
                }
            }
            Some(average) => {
                for (((weight, &gradient), (first, second)), average) in elements.zip(average) {
                    update.apply(weight, factor * gradient, first, second);
                    *average -= share * (*average - *weight);
                }
            }
        }
    }
}

/// min(1, limit/(norm + 10⁻⁶)): what gradients of this norm are multiplied by.
pub fn clip_factor(norm: f64, limit: f64) -> f64 {
    (limit / (norm + 1e-6)).min(1.0)
}

/// ‖g‖₂ over all gradients, summed in a fixed order.
pub fn global_norm(gradients: &[Vec<f32>]) -> f64 {
    let square = |chunk: &[f32]| chunk.iter().map(|g| f64::from(*g) * f64::from(*g)).sum::<f64>();
    let partial = |gradient: &Vec<f32>| -> f64 {
        let sums: Vec<f64> = gradient.par_chunks(CHUNK).map(square).collect();
        sums.iter().sum()
    };
    gradients.iter().map(partial).sum::<f64>().sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backbone::weights::Init;

    /// One step from `weights`, with an optimiser that has made `steps`.
    fn step(
        weights: &mut [Vec<f32>; 1],
        gradients: &[f32],
        gradient_factor: f64,
        average: Option<Average>,
        steps: u64,
    ) -> AdamW {
        let parameters = [Parameter::new("w", &[weights[0].len()], Init::Zeros)];
        let mut optimizer = AdamW { steps, ..AdamW::new(AdamWConfig::default(), &parameters) };
        let size = StepSize { learning_rate: 0.01, gradient_factor };
        optimizer.step(weights, &[gradients.to_vec()], size, average);
        optimizer
    }

    #[test]
    fn the_first_step_moves_every_weight_by_the_learning_rate() {
        // Scaling the gradient changes nothing here: the step is the gradient over its size.
        for factor in [1.0, 0.25] {
            let mut weights = [vec![1.0; 3]];
            step(&mut weights, &[0.5, -20.0, 1e-3], factor, None, 0);
            for (weight, expected) in weights[0].iter().zip([0.99, 1.01, 0.99]) {
                assert!((weight - expected).abs() < 1e-5, "{weight}");
            }
        }
    }

    #[test]
    fn moments_see_scaled_gradients() {
        let AdamW { first, second, .. } = step(&mut [vec![1.0]], &[4.0], 0.5, None, 0);
        assert!((first[0][0] - 0.1 * 2.0).abs() < 1e-6, "{first:?}");
        assert!((second[0][0] - 0.001 * 4.0).abs() < 1e-6, "{second:?}");
    }

    #[test]
    fn clipping_scales_only_what_is_too_long() {
        let norm = global_norm(&[vec![3.0], vec![0.0, 4.0]]);
        assert_eq!(norm, 5.0);
        assert_eq!(clip_factor(norm, 10.0), 1.0);
        assert!((clip_factor(norm, 1.0) - 0.2).abs() < 1e-6);
    }

    #[test]
    fn the_average_warms_up_and_follows_the_weights_after_their_step() {
        // More than a chunk; without a gradient the weights stay.
        let len = CHUNK + 3;
        for (decay, steps, expected) in [(0.9999, 0, 9.0 / 11.0), (0.5, 1_000_000, 0.5)] {
            let mut values = [vec![0.0; len]];
            let average = Some(Average { values: &mut values, decay });
            step(&mut [vec![1.0; len]], &vec![0.0; len], 1.0, average, steps);
            assert!(values[0].iter().all(|average| (average - expected).abs() < 1e-6), "{decay}");
        }
        let (mut weights, mut values) = ([vec![1.0]], [vec![0.0]]);
        step(&mut weights, &[1.0], 1.0, Some(Average { values: &mut values, decay: 0.0 }), 0);
        assert_eq!(values[0], weights[0]);
    }
}
