//! The residual stream of a transformer.

use burn::tensor::Tensor;

use super::layers::{ModulatedNorm, RmsNorm};
use super::weights::Weights;
use crate::ops::{Addition, Kernels};

/// States [B, L, d], and what is still to be added to them: the norm that reads them next does both at once.
#[derive(Clone)]
pub(super) struct Stream {
    x: Tensor<3>,
    added: Option<Addition>,
}

impl From<Tensor<3>> for Stream {
    fn from(x: Tensor<3>) -> Self {
        Self { x, added: None }
    }
}

impl Stream {
    /// Shape of the states.
    pub fn dims(&self) -> [usize; 3] {
        self.x.dims()
    }

    /// The states with all that was added.
    pub fn into_states(self, kernels: Kernels) -> Tensor<3> {
        match self.added {
            Some(Addition { h, gate, dropout }) => kernels.gated_residual(self.x, h, gate, dropout),
            None => self.x,
        }
    }

    /// Adds the result of a half of a layer.
    pub fn add(self, added: Addition, kernels: Kernels) -> Self {
        Self { x: self.into_states(kernels), added: Some(added) }
    }

    /// [`ModulatedNorm::forward`] of the states.
    pub fn modulated_norm(
        &mut self,
        norm: &ModulatedNorm,
        weights: &Weights,
        shift: Tensor<2>,
        scale: Tensor<2>,
    ) -> Tensor<3> {
        match self.added.take() {
            Some(added) => self.keep(norm.after(weights, self.x.clone(), added, shift, scale)),
            None => norm.forward(weights, self.x.clone(), shift, scale),
        }
    }

    /// [`RmsNorm::forward`] of the rows of the states, [B·L, d].
    pub fn rms_norm(&mut self, norm: &RmsNorm, weights: &Weights) -> Tensor<2> {
        let [batch, length, width] = self.dims();
        match self.added.take() {
            Some(added) => {
                let normed = self.keep(norm.after(weights, self.x.clone(), added));
                normed.reshape([batch * length, width])
            }
            None => norm.forward(weights, self.x.clone().reshape([batch * length, width])),
        }
    }

    fn keep(&mut self, [x, normed]: [Tensor<3>; 2]) -> Tensor<3> {
        self.x = x;
        normed
    }
}
