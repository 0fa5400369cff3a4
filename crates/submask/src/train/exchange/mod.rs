//! How the processes of a run add up the gradients of a step and share the optimiser's work.
//!
//! A step has a fixed number of micro-batches, its *slots*, and its gradient is Σ over slots of share·g_slot, added
//! **in the order of the slots**, from zero. Floating-point addition is not associative; with the order fixed, a run is
//! the same bits however many processes compute it, as long as an [`Exchange`] keeps four rules:
//!
//! - Process r computes a contiguous range of slots, behind the slots of process r − 1.
//! - It does not add its own slots first. It continues the sum that process r − 1 passes on, piece by piece, so that all
//!   processes are busy with different pieces; the last one then has the sums. (Or every slot's gradient of a piece goes
//!   to the process that owns the piece, which adds them in order.)
//! - The weights are cut into ranges, process r owning those behind the ranges of process r − 1. Ranges begin and end at
//!   multiples of [`CHUNK`](super::optimizer::CHUNK), or with a weight. The owner updates them and nobody else; moments
//!   and averages of other ranks are never touched, so the system gives them no memory.
//! - Numbers of all processes (losses of slots, squares of chunks) are put one process's after another's, and everybody
//!   adds the whole list in order.
//!
//! [`Alone`] is one process, which owns everything. [`Ranks`] are several: the sum passes from rank to rank, and the last
//! one sends each piece to its owner. The other way that the second rule allows, slots to owners, sends the same bytes
//! where each rank has one slot and k times as many where it has k, and holds the same k gradients in memory; what it
//! saves is the time that the first piece takes through all ranks, which pieces of a sixteenth of a rank's share make small.
//!
//! Where the state of a run is on a GPU, gradients stay there, too: a [`DeviceExchange`] adds them in the same order, and
//! nothing of a slot is copied to memory. [`AloneOnDevice`] is one process with its device; several with one NVIDIA GPU each
//! pass the sum on by NCCL, which carries it and adds nothing.

mod alone;
mod alone_on_device;
mod chain;
#[cfg(feature = "cuda")]
mod nccl;
mod plan;
mod ranks;
#[cfg(any(test, feature = "cuda"))]
mod ranks_on_device;
mod traffic;
mod transport;
mod watch;
mod worker;

use std::ops::Range;

use burn::tensor::Tensor;

pub use alone::Alone;
pub use alone_on_device::AloneOnDevice;
#[cfg(feature = "cuda")]
pub(super) use nccl::exchange as over_nccl;
pub use ranks::Ranks;
#[cfg(test)]
pub(in crate::train) use ranks::tests::on_threads;
pub use traffic::Traffic;
pub use transport::{Route, Transport};
pub use watch::Watch;

use super::optimizer::GradientRange;
use crate::ops::DeviceGradients;
use crate::{Error, Result};

/// A process's side of the exchange.
///
/// In every step, [`Self::add`] is called for each slot of [`Self::own_slots`], then [`Self::concat`] with their losses,
/// [`Self::reduce`], [`Self::concat`] with the squares of the ranges that it gave, and [`Self::gather`] with the weights
/// after the optimiser's step. All processes make the same calls in the same order.
pub trait Exchange: Send {
    /// Which of the slots 0..`slots` this process computes.
    fn own_slots(&self, slots: usize) -> Range<usize>;

    /// Which elements of weights of `lens` elements this process owns, by weight.
    fn own_ranges(&self, lens: &[usize]) -> Vec<Range<usize>> {
        lens.iter().map(|len| 0..*len).collect()
    }

    /// Takes the gradients of an own slot, in definition order of the weights. Slots come in increasing order; the first
    /// begins a step, and what was left of another is forgotten.
    ///
    /// # Errors
    /// Of the connection.
    fn add(&mut self, slot: usize, gradients: Vec<Vec<f32>>) -> Result<()>;

    /// The sums over all slots in the ranges that this process owns, in the order of the weights.
    ///
    /// # Errors
    /// Of the connection.
    fn reduce(&mut self) -> Result<Vec<GradientRange>>;

    /// The numbers `own` of all processes, one process's after another's.
    ///
    /// # Errors
    /// Of the connection.
    fn concat(&mut self, own: Vec<f64>) -> Result<Vec<f64>>;

    /// Takes over, in `values` (of the weights' sizes), the ranges that other processes own.
    ///
    /// # Errors
    /// Of the connection.
    fn gather(&mut self, values: &mut [Vec<f32>]) -> Result<()>;

    /// The same with what is no part of a step.
    ///
    /// # Errors
    /// Of the connection.
    fn gather_state(&mut self, values: &mut [Vec<f32>]) -> Result<()> {
        self.gather(values)
    }

    /// Gives process 0 the ranges that other processes own, and leaves theirs to these.
    ///
    /// # Errors
    /// Of the connection.
    fn collect(&mut self, values: Collected) -> Result<()> {
        match values {
            Collected::Into(whole) => self.gather_state(whole),
            Collected::From(_) => Ok(()),
        }
    }

    /// Whether this is process 0, which writes checkpoints.
    fn is_first(&self) -> bool {
        true
    }
}

/// What a process has to do with values that only process 0 gets whole.
#[derive(Debug)]
pub enum Collected<'a> {
    /// It is process 0: values of the weights' sizes, of which its own ranges are right.
    Into(&'a mut [Vec<f32>]),
    /// It is another, whose own ranges of every weight these are.
    From(&'a [&'a [f32]]),
}

/// Loss and gradients of a slot, or sums over slots, on a device.
#[derive(Clone, Debug)]
pub struct DeviceSums {
    /// The loss, \[1\].
    pub loss: Tensor<1>,
    /// Gradients, in definition order of the weights.
    pub gradients: DeviceGradients,
}

/// A process's side of the exchange, where every process has the whole state on a device of its own and makes every update
/// itself: what goes from device to device are sums of gradients, and no weights.
///
/// In every step, [`Self::add`] is called for each slot of [`Self::own_slots`], then [`Self::reduce`]. Neither waits for
/// the device. All processes make the same calls in the same order.
pub trait DeviceExchange: Send {
    /// Which of the slots 0..`slots` this process computes.
    fn own_slots(&self, slots: usize) -> Range<usize>;

    /// Takes loss and gradients of an own slot; `None` of a slot that costs nothing. Slots come in increasing order; the
    /// first begins a step, and what was left of another is forgotten.
    ///
    /// # Errors
    /// Of the connection.
    fn add(&mut self, slot: usize, own: Option<DeviceSums>) -> Result<()>;

    /// What went wrong on the device, as far as that is known: the reason of what is read from there in vain.
    fn failure(&self) -> Option<Error> {
        None
    }

    /// The sums of all processes' slots, each times its share, in the order of the slots. `None` if no slot costs anything.
    ///
    /// # Errors
    /// Of the connection.
    fn reduce(&mut self) -> Result<Option<DeviceSums>>;
}
