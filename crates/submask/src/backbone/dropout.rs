//! Dropout of a training step.

use crate::ops::Dropout;
use crate::random::Draws;

/// Dropout of a training step: what it zeroes is a function of the run's seed, the step and the layer.
#[derive(Clone, Copy, Debug)]
pub struct TrainingDropout {
    /// Probability in [0, 1) that an element is zeroed.
    pub rate: f64,
    /// Draws of the run.
    pub draws: Draws,
    /// Training step.
    pub step: u64,
}

impl TrainingDropout {
    /// The mask of the `layer`-th dropout of the network; `None` at rate 0.
    pub fn layer(self, layer: usize) -> Option<Dropout> {
        (self.rate > 0.0).then_some(Dropout {
            rate: self.rate,
            draws: self.draws,
            step: self.step,
            layer: layer as u32,
        })
    }
}
