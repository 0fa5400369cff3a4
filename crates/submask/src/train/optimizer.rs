//! AdamW, clipping by the global norm, and the exponential moving average of the weights.
//!
//! The state lives in host memory and one pass updates everything, element by element, so the result does
//! not depend on the number of threads.

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
    /// θ ← (1 − lr·decay)θ − lr·m̂/(√v̂ + ε), with m̂, v̂ corrected for their bias.
    pub fn step(&mut self, weights: &mut [Vec<f32>], gradients: &[Vec<f32>], learning_rate: f64) {
        self.steps += 1;
        let AdamWConfig { beta_1, beta_2, epsilon, weight_decay } = self.config;
        let correction_1 = 1.0 - beta_1.powf(self.steps as f64);
        let correction_2 = (1.0 - beta_2.powf(self.steps as f64)).sqrt() as f32;
        let rate = (learning_rate / correction_1) as f32;
        let keep = (1.0 - learning_rate * weight_decay) as f32;
        let (b1, b2, epsilon) = (beta_1 as f32, beta_2 as f32, epsilon as f32);
        let moments = self.first.iter_mut().zip(&mut self.second);
        for ((weights, gradients), (first, second)) in weights.iter_mut().zip(gradients).zip(moments) {
            weights
                .par_chunks_mut(CHUNK)
                .zip(gradients.par_chunks(CHUNK))
                .zip(first.par_chunks_mut(CHUNK).zip(second.par_chunks_mut(CHUNK)))
                .for_each(|((weights, gradients), (first, second))| {
                    let elements = weights.iter_mut().zip(gradients).zip(first.iter_mut().zip(second));
                    lanes::vectorized(
                        #[inline(always)]
                        || {
                            for ((weight, &g), (first, second)) in elements {
                                *first = b1 * *first + (1.0 - b1) * g;
                                *second = b2 * *second + (1.0 - b2) * g * g;
                                let root = second.sqrt() / correction_2 + epsilon;
                                *weight = keep * *weight - rate * *first / root;
                            }
                        },
                    );
                });
        }
    }
}

/// Scales gradients by min(1, limit/(‖g‖₂ + 10⁻⁶)) with the norm over all of them; returns the norm before.
pub fn clip_global_norm(gradients: &mut [Vec<f32>], limit: f64) -> f64 {
    let norm = global_norm(gradients);
    let factor = limit / (norm + 1e-6);
    if factor < 1.0 {
        for gradient in gradients {
            gradient.par_chunks_mut(CHUNK).for_each(|chunk| {
                chunk.iter_mut().for_each(|g| *g *= factor as f32);
            });
        }
    }
    norm
}

/// ‖g‖₂ over all gradients, summed in a fixed order.
fn global_norm(gradients: &[Vec<f32>]) -> f64 {
    let square = |chunk: &[f32]| chunk.iter().map(|g| f64::from(*g) * f64::from(*g)).sum::<f64>();
    let partial = |gradient: &Vec<f32>| -> f64 {
        let sums: Vec<f64> = gradient.par_chunks(CHUNK).map(square).collect();
        sums.iter().sum()
    };
    gradients.iter().map(partial).sum::<f64>().sqrt()
}

/// After the n-th update (n = 1, 2, …): average ← average − (1 − min(d, (1+n)/(10+n)))·(average − weight).
pub fn update_average(average: &mut [Vec<f32>], weights: &[Vec<f32>], decay: f64, n: u64) {
    let decay = decay.min((1.0 + n as f64) / (10.0 + n as f64));
    let share = (1.0 - decay) as f32;
    for (average, weights) in average.iter_mut().zip(weights) {
        average.par_chunks_mut(CHUNK).zip(weights.par_chunks(CHUNK)).for_each(|(average, weights)| {
            for (average, weight) in average.iter_mut().zip(weights) {
                *average -= share * (*average - weight);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backbone::weights::Init;

    #[test]
    fn the_first_step_moves_every_weight_by_the_learning_rate() {
        let parameters = [Parameter::new("w", &[3], Init::Zeros)];
        let mut optimizer = AdamW::new(AdamWConfig::default(), &parameters);
        let mut weights = vec![vec![1.0, 1.0, 1.0]];
        optimizer.step(&mut weights, &[vec![0.5, -20.0, 1e-3]], 0.01);
        for (weight, expected) in weights[0].iter().zip([0.99, 1.01, 0.99]) {
            assert!((weight - expected).abs() < 1e-5, "{weight}");
        }
    }

    #[test]
    fn clipping_scales_only_what_is_too_long() {
        let mut gradients = vec![vec![3.0], vec![0.0, 4.0]];
        assert_eq!(clip_global_norm(&mut gradients, 10.0), 5.0);
        assert_eq!(gradients, [vec![3.0], vec![0.0, 4.0]]);
        clip_global_norm(&mut gradients, 1.0);
        assert!((gradients[1][1] - 0.8).abs() < 1e-5);
    }

    #[test]
    fn the_average_warms_up() {
        let mut average = vec![vec![0.0]];
        update_average(&mut average, &[vec![1.0]], 0.9999, 1);
        assert!((average[0][0] - 9.0 / 11.0).abs() < 1e-6, "{average:?}");
        update_average(&mut average, &[vec![1.0]], 0.5, 1_000_000);
        assert!((average[0][0] - (1.0 - 0.5 * 2.0 / 11.0)).abs() < 1e-6);
    }
}
