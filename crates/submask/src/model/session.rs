//! A model on a device.

use std::sync::Arc;

use super::architecture::Architecture;
use super::network::Loaded;
use crate::backbone::weights::Weights;
use crate::compute::Compute;
use crate::denoiser::{Autoregressor, Denoiser};
use crate::{Error, Result};

/// A model on a device: its weights are uploaded once, and it is used as often as one likes, by several threads at once.
pub struct Session {
    architecture: Arc<Architecture>,
    network: Loaded,
    compute: Compute,
}

/// A server shares a session between threads.
const _: () = {
    const fn is_shared<T: Send + Sync>() {}
    is_shared::<Session>();
};

impl Session {
    /// An architecture with the weights `values`, in definition order, on a device.
    ///
    /// # Errors
    /// [`Error::Invalid`] for sizes that the device's operations do not support.
    pub fn new(architecture: Arc<Architecture>, values: &[Vec<f32>], compute: &Compute) -> Result<Self> {
        let network = architecture.network(compute.kernels())?;
        let weights = Weights::new(network.parameters(), values, compute.device());
        Ok(Self { network: network.load(weights), architecture, compute: compute.clone() })
    }

    /// The model without its weights.
    pub fn architecture(&self) -> &Arc<Architecture> {
        &self.architecture
    }

    /// Where it computes.
    pub fn compute(&self) -> &Compute {
        &self.compute
    }

    /// Whether it is the autoregressive baseline, which writes from left to right.
    pub fn is_autoregressive(&self) -> bool {
        matches!(self.network, Loaded::Autoregressive(_))
    }

    /// The diffusion network, for the samplers and likelihoods of this library.
    ///
    /// # Errors
    /// [`Error::Invalid`] for the autoregressive baseline.
    pub fn denoiser(&self) -> Result<&dyn Denoiser> {
        match &self.network {
            Loaded::Denoiser(network) => Ok(&**network),
            Loaded::Autoregressive(_) => Err(Error::invalid(
                "model.network",
                "autoregressive",
                "a diffusion network: this needs a diffusion model",
            )),
        }
    }

    /// The autoregressive network.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a diffusion model.
    pub fn autoregressive(&self) -> Result<&dyn Autoregressor> {
        match &self.network {
            Loaded::Autoregressive(network) => Ok(&**network),
            Loaded::Denoiser(_) => Err(Error::invalid(
                "model.network",
                "a diffusion network",
                "autoregressive: this needs an autoregressive model",
            )),
        }
    }
}
