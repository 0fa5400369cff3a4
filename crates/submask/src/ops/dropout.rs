//! Dropout, whose masks are functions of where they stand.

use burn::tensor::{Tensor, TensorData};
use rayon::prelude::*;

use crate::random::Draws;

/// A dropout mask that is a function of (seed, step, layer): nothing has to be saved to resume.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dropout {
    /// Probability that an element is zeroed, in [0, 1).
    pub rate: f64,
    /// The draws of the run.
    pub draws: Draws,
    /// Training step.
    pub step: u64,
    /// Which dropout of the network.
    pub layer: u32,
}

/// Quadruples of dropout factors that one task draws.
const QUADS: usize = 2048;

impl Dropout {
    /// x times the factors of its elements.
    pub fn apply<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        let factors = TensorData::new(self.factors(x.shape().num_elements()), x.shape());
        let factors = Tensor::from_data(factors, &x.device());
        x * factors
    }

    /// Elements whose random word is below this are zeroed.
    pub(super) fn threshold(&self) -> u32 {
        (self.rate * f64::from(u32::MAX)) as u32
    }

    /// The factor of the others.
    pub(super) fn keep(&self) -> f32 {
        (1.0 / (1.0 - self.rate)) as f32
    }

    /// The factors 0 or 1/(1 − rate) of `len` elements.
    pub(super) fn factors(&self, len: usize) -> Vec<f32> {
        let (threshold, keep) = (self.threshold(), self.keep());
        let mut factors = vec![0.0; len.next_multiple_of(4)];
        factors.par_chunks_mut(4 * QUADS).enumerate().for_each(|(chunk, factors)| {
            for (i, quad) in factors.chunks_exact_mut(4).enumerate() {
                let bits = self.draws.bits(self.step, (chunk * QUADS + i) as u32, self.layer);
                quad.copy_from_slice(&bits.map(|bits| if bits < threshold { 0.0 } else { keep }));
            }
        });
        factors.truncate(len);
        factors
    }
}
