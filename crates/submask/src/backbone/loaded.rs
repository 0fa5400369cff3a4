//! A network with its weights.

use std::ops::Range;
use std::sync::Arc;

use burn::tensor::{Device, Tensor};

use super::head::Heads;
use super::weights::Weights;
use super::{Backbone, Inputs};
use crate::denoiser::{Denoiser, DeviceDenoiser, DeviceStates, Spec, States};
use crate::{Error, Result};

/// A network with its weights, ready to be evaluated.
pub struct LoadedBackbone {
    /// The network.
    pub network: Arc<dyn Backbone>,
    /// Its weights, not on an autodiff device.
    pub weights: Weights,
}

impl LoadedBackbone {
    fn heads(&self, inputs: &Inputs, positions: &[usize]) -> Result<Heads> {
        Heads::new(&*self.network, &self.weights, inputs, positions, None)
    }
}

impl Denoiser for LoadedBackbone {
    fn spec(&self) -> &Spec {
        self.network.spec()
    }

    fn evaluate(
        &self,
        states: &States,
        positions: &[usize],
        rows: &mut dyn FnMut(Range<usize>, &[f32]) -> Result<()>,
    ) -> Result<()> {
        if positions.is_empty() {
            return Ok(());
        }
        let heads = self.heads(&(*states).into(), positions)?;
        heads.chunks().try_for_each(|range| {
            let logits = heads.logits(range.clone()).into_data();
            let logits = logits.as_slice::<f32>().map_err(Error::internal("logits are 32-bit floats"))?;
            rows(range, logits)
        })
    }

    fn on_device(&self) -> Option<&dyn DeviceDenoiser> {
        self.network.kernels().are_for_gpus().then_some(self)
    }
}

impl DeviceDenoiser for LoadedBackbone {
    fn device(&self) -> Device {
        self.weights.device()
    }

    fn evaluate_on_device(
        &self,
        states: &DeviceStates,
        positions: &[usize],
        rows: &mut dyn FnMut(Range<usize>, Tensor<2>),
    ) -> Result<()> {
        if positions.is_empty() {
            return Ok(());
        }
        let heads = self.heads(&(*states).into(), positions)?;
        heads.chunks().for_each(|range| rows(range.clone(), heads.logits(range)));
        Ok(())
    }
}
