//! One optimiser step after another, in memory or on a device.

mod device;
mod host;

use self::device::OnDevice;
pub use self::host::Host;
#[cfg(feature = "cuda")]
use super::exchange;
use super::exchange::{Alone, AloneOnDevice, DeviceExchange, Exchange, Ranks};
use super::settings::TrainSettings;
use super::slot::SlotLoss;
use super::state::TrainState;
use crate::backbone::weights::Parameter;
use crate::compute::Compute;
use crate::{Error, Result};

/// Holds the state of a run and takes its steps: losses and gradients of all slots, clipping by the global norm, AdamW,
/// and the moving average of the weights.
pub trait Stepper: Send {
    /// The `step`-th step of the run, counted from 1, on the losses of its slots.
    ///
    /// # Errors
    /// Of the losses, and [`Error::NotFinite`] where the loss or the gradients' norm is not a number: the weights are
    /// then the ones before the step. On a GPU that shows in [`Self::sync`] only.
    fn step(&mut self, step: u64, slots: &dyn SlotLoss) -> Result<()>;

    /// Waits until all steps are done.
    ///
    /// # Errors
    /// [`Error::NotFinite`] where a loss or a norm since the last call was not a number.
    fn sync(&mut self) -> Result<()>;

    /// What the steps since the last report came to.
    ///
    /// # Errors
    /// As [`Self::sync`].
    fn report(&mut self) -> Result<StepReport>;

    /// The averaged weights in memory, in definition order.
    ///
    /// # Errors
    /// As [`Self::sync`], and of copying.
    fn average(&mut self) -> Result<&[Vec<f32>]>;

    /// The whole state in memory.
    ///
    /// # Errors
    /// As [`Self::sync`], and of copying.
    fn state(&mut self) -> Result<&TrainState>;
}

/// Sums over steps.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct StepReport {
    /// Number of steps.
    pub steps: u64,
    /// Sum of the steps' losses, in nats per token.
    pub loss: f64,
    /// The gradients' global norm in the last step, before clipping.
    pub gradient_norm: f64,
}

/// The stepper for a device: on GPUs the state stays there, otherwise it is in memory.
pub fn open(
    settings: &TrainSettings,
    parameters: &[Parameter],
    state: TrainState,
    compute: &Compute,
) -> Box<dyn Stepper> {
    let exchange = Box::new(Alone::new(settings.accumulate));
    open_with(settings, parameters, state, compute, exchange)
}

/// The stepper of one of `ranks`.
///
/// # Errors
/// [`Error::Invalid`] naming `train.accumulate` where there are more ranks than micro-batches, and `device` for several
/// ranks on GPUs that cannot exchange gradients.
pub(super) fn open_among(
    settings: &TrainSettings,
    parameters: &[Parameter],
    state: TrainState,
    compute: &Compute,
    ranks: &Ranks,
) -> Result<Box<dyn Stepper>> {
    let lens: Vec<usize> = parameters.iter().map(Parameter::len).collect();
    let kernels = compute.kernels();
    if ranks.count() > 1 && kernels.are_for_gpus() {
        let exchange = device_exchange(settings, &lens, compute, ranks)?;
        return Ok(Box::new(OnDevice::new(settings, parameters, state, compute.device(), kernels, exchange)));
    }
    let exchange = ranks.exchange(&lens, settings.accumulate)?;
    Ok(open_with(settings, parameters, state, compute, exchange))
}

/// How several ranks with a GPU each exchange gradients of weights of `lens` elements.
fn device_exchange(
    settings: &TrainSettings,
    lens: &[usize],
    compute: &Compute,
    ranks: &Ranks,
) -> Result<Box<dyn DeviceExchange>> {
    if settings.shard_optimizer {
        let allowed = "false on GPUs, each of which holds the whole state";
        return Err(Error::invalid("train.shard_optimizer", true, allowed));
    }
    #[cfg(feature = "cuda")]
    if crate::ops::is_cuda(compute.device()) {
        return exchange::over_nccl(ranks, compute.device(), compute.kernels(), lens, settings.accumulate);
    }
    let _ = (lens, ranks);
    let allowed =
        "cpu with several ranks, or NVIDIA GPUs in a program that was built with the feature `cuda`";
    Err(Error::invalid("device", compute.device_name(), allowed))
}

fn open_with(
    settings: &TrainSettings,
    parameters: &[Parameter],
    state: TrainState,
    compute: &Compute,
    exchange: Box<dyn Exchange>,
) -> Box<dyn Stepper> {
    let (device, kernels) = (compute.device(), compute.kernels());
    if kernels.are_for_gpus() {
        let exchange = Box::new(AloneOnDevice::new(settings.accumulate, kernels));
        return Box::new(OnDevice::new(settings, parameters, state, device, kernels, exchange));
    }
    Box::new(Host::new(settings, parameters, state, device, exchange))
}

fn finite(step: u64, what: &'static str, value: f64) -> Result<f64> {
    if value.is_finite() { Ok(value) } else { Err(Error::NotFinite { step, what, value }) }
}
