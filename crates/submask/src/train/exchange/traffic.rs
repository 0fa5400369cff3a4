//! What processes send each other, counted and foretold.

use serde::{Deserialize, Serialize};

use super::plan::Plan;
use crate::train::optimizer::CHUNK;

/// Bytes that were handed to the transport, without what it adds of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traffic {
    /// Of gradients' sums.
    pub sums: u64,
    /// Of weights after their step.
    pub weights: u64,
    /// Of numbers of a step: losses, squares of gradients, whether to stop.
    pub numbers: u64,
    /// Of everything else: at the start, in validations, for checkpoints.
    pub other: u64,
}

/// What a message counts as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    Weights,
    Numbers,
    Other,
}

impl Traffic {
    /// What all processes together send in one step, for weights of `lens` elements, `ranks` processes and `slots`
    /// micro-batches, with P = 4 bytes per element of all weights:
    ///
    /// - sums (n − 1)·P, from each process to the next one, and from the last one what it does not own, about (n − 1)/n·P;
    /// - weights (n − 1)·P, what each process does not own;
    /// - numbers (n − 1)·(8·slots + 8·chunks + n + 3·8·n): a loss per slot, a square per chunk, whether to stop, and the
    ///   lengths of each.
    pub fn of_step(lens: &[usize], ranks: usize, slots: usize) -> Self {
        let plan = Plan::new(lens, ranks);
        let bytes = |len: usize| 4 * len as u64;
        let (total, others) = (lens.iter().sum(), ranks as u64 - 1);
        let owned_by_last: usize = plan.pieces()[plan.owned(ranks - 1)].iter().map(|piece| piece.len).sum();
        let chunks: usize = lens.iter().map(|len| len.div_ceil(CHUNK)).sum();
        if ranks == 1 {
            return Self::default();
        }
        Self {
            sums: others * bytes(total) + bytes(total - owned_by_last),
            weights: others * bytes(total),
            numbers: others * (8 * (slots + chunks) as u64 + 25 * ranks as u64),
            other: 0,
        }
    }

    /// The same where every process has a GPU, and sums go from one to the next: (n − 1)·P up to the last one, which all
    /// processes add to, and (n − 1)·P of the whole sum back around. P counts all weights that have a gradient, and the loss. Of
    /// numbers (n − 1)·(n + n·(weights + 1) + 2·8·n): whether to stop, and of which weights a process has gradients.
    pub fn of_step_on_devices(lens: &[usize], ranks: usize) -> Self {
        let others = ranks as u64 - 1;
        let elements: usize = lens.iter().sum();
        Self {
            sums: 2 * others * 4 * (elements as u64 + 1),
            weights: 0,
            numbers: others * ranks as u64 * (1 + 8 + lens.len() as u64 + 1 + 8),
            other: 0,
        }
    }

    /// What is sent in every step.
    pub fn of_steps(self) -> u64 {
        self.sums + self.weights + self.numbers
    }

    pub(super) fn by(&mut self, sent: Sent) -> &mut u64 {
        match sent {
            Sent::Weights => &mut self.weights,
            Sent::Numbers => &mut self.numbers,
            Sent::Other => &mut self.other,
        }
    }
}

impl std::iter::Sum for Traffic {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |a, b| Self {
            sums: a.sums + b.sums,
            weights: a.weights + b.weights,
            numbers: a.numbers + b.numbers,
            other: a.other + b.other,
        })
    }
}
