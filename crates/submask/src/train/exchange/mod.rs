//! How the processes of a run add up the gradients of a step and share the optimiser's work.
//!
//! A step has a fixed number of micro-batches, its *slots*, and its gradient is Σ over slots of share·g_slot, added
//! **in the order of the slots**, from zero. Floating-point addition is not associative; with the order fixed, a run is
//! the same bits however many processes compute it, as long as an [`Exchange`] keeps four rules:
//!
//! - Process r computes a contiguous range of slots, behind the slots of process r − 1.
//! - It does not add its own slots first. It continues the sum that process r − 1 passes on, chunk by chunk, so that all
//!   processes are busy with different chunks; the last one then has the sums. (Or every slot's gradient of a chunk goes
//!   to the process that owns the chunk, which adds them in order.)
//! - The weights are cut into ranges, process r owning those behind the ranges of process r − 1. Ranges begin and end at
//!   multiples of [`CHUNK`](super::optimizer::CHUNK), or with a weight. The owner updates them and nobody else; moments
//!   and averages of other ranges are never touched, so the system gives them no memory.
//! - Numbers of all processes (losses of slots, squares of chunks) are put one process's after another's, and everybody
//!   adds the whole list in order.
//!
//! [`Alone`] is one process, which owns everything.

mod alone;

use std::ops::Range;

pub use alone::Alone;

use super::optimizer::GradientRange;
use crate::Result;

/// A process's side of the exchange.
///
/// In every step, [`Self::add`] is called for each slot of [`Self::own_slots`], then [`Self::concat`] with their losses,
/// [`Self::reduce`], [`Self::concat`] with the squares of the ranges that it gave, and [`Self::gather`] with the weights
/// after the optimiser's step. All processes make the same calls in the same order.
pub trait Exchange: Send {
    /// Which of the slots 0..`slots` this process computes.
    fn own_slots(&self, slots: usize) -> Range<usize>;

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
}
