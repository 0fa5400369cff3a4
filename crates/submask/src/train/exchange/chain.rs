//! The running sum of a step's gradients, which passes from process to process.
//!
//! Process 0 begins every piece at zero; each process adds its slots, scaled, in their order, and passes the piece on. The
//! last process sends it to its owner. Pieces follow each other, so that all processes add at the same time.
//!
//! A process needs the gradients of all its slots until the sum has come, since it must not add them up before; process 0
//! adds each at once.

use std::ops::Range;
use std::sync::Arc;

use super::plan::{Plan, Segment};
use super::transport::{Route, Transport};
use crate::ops::lanes;
use crate::train::optimizer::GradientRange;

/// Messages that are expected, and not yet sent, at the same time.
pub(super) const WINDOW: usize = 4;

/// Adds up the gradients of one step after another.
pub(super) struct Chain {
    plan: Arc<Plan>,
    slots: Range<usize>,
    /// What a slot's gradient is multiplied by.
    share: f32,
    /// Gradients of own slots, in order; empty where all pieces have them.
    held: Vec<Vec<Vec<f32>>>,
    /// Sums over the slots so far, by piece; empty before they have come, and after they have been passed on.
    sums: Vec<Vec<f32>>,
    /// Own slots that are in the sum of every piece; empty between steps.
    added: Vec<usize>,
    /// Pieces whose sum has been passed on.
    passed: usize,
    /// Pieces that are expected, and those that have come.
    expected: usize,
    come: usize,
    /// Own sums, as they come from the last process.
    own: Vec<Vec<f32>>,
    own_expected: usize,
    /// Bytes sent, of all steps.
    sent: u64,
}

impl Chain {
    /// For a process that computes `slots`, at least one.
    pub fn new(plan: Arc<Plan>, slots: Range<usize>, share: f32) -> Self {
        Self {
            plan,
            slots,
            share,
            held: Vec::new(),
            sums: Vec::new(),
            added: Vec::new(),
            passed: 0,
            expected: 0,
            come: 0,
            own: Vec::new(),
            own_expected: 0,
            sent: 0,
        }
    }

    /// How the weights are cut.
    pub fn plan(&self) -> &Arc<Plan> {
        &self.plan
    }

    /// Bytes that this process has sent, in all steps.
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// Whether a step has begun whose sums nobody has taken.
    pub fn is_under_way(&self) -> bool {
        !self.added.is_empty()
    }

    /// Takes the gradients of the next own slot.
    pub fn add(&mut self, slot: usize, gradients: Vec<Vec<f32>>, transport: &mut dyn Transport) {
        let pieces = self.plan.pieces();
        if slot == self.slots.start {
            self.held.clear();
            self.own.clear();
            self.added = vec![0; pieces.len()];
            (self.passed, self.expected, self.own_expected) = (0, 0, 0);
            let is_first = transport.rank() == 0;
            self.come = if is_first { pieces.len() } else { 0 };
            let zeros = |len: usize| if is_first { vec![0.0; len] } else { Vec::new() };
            self.sums = pieces.iter().map(|piece| zeros(piece.len)).collect();
        }
        self.held.push(gradients);
        for piece in 0..self.come {
            self.add_to(piece, transport);
        }
        self.drop_what_all_have();
    }

    /// Takes pieces that have come; true if there were any.
    pub fn progress(&mut self, transport: &mut dyn Transport) -> bool {
        let plan = self.plan.clone();
        let (rank, last, pieces) = (transport.rank(), transport.ranks() - 1, plan.pieces());
        let mut moved = false;
        if rank > 0 && self.is_under_way() {
            while self.come < pieces.len() && transport.unsent() < WINDOW {
                while self.expected < pieces.len().min(self.come + WINDOW) {
                    transport.expect(rank - 1, Route::Sum, pieces[self.expected].len);
                    self.expected += 1;
                }
                let Some(sum) = transport.take(rank - 1, Route::Sum) else { break };
                self.sums[self.come] = sum;
                self.come += 1;
                self.add_to(self.come - 1, transport);
                moved = true;
            }
            if moved && self.come == pieces.len() {
                self.drop_what_all_have();
            }
        }
        let owned = plan.owned(rank);
        if rank < last && self.is_under_way() {
            while self.own.len() < owned.len() {
                while self.own_expected < owned.len().min(self.own.len() + WINDOW) {
                    transport.expect(last, Route::Owner, pieces[owned.start + self.own_expected].len);
                    self.own_expected += 1;
                }
                let Some(sum) = transport.take(last, Route::Owner) else { break };
                self.own.push(sum);
                moved = true;
            }
        }
        moved
    }

    /// Whether all own sums are here, and all that others need has been handed to the transport.
    pub fn is_done(&self, rank: usize) -> bool {
        let (pieces, owned) = (self.plan.pieces().len(), self.plan.owned(rank).len());
        self.is_under_way() && self.own.len() == owned && self.passed == pieces
    }

    /// The own sums of a step that is done.
    pub fn sums(&mut self, rank: usize) -> Vec<GradientRange> {
        self.added.clear();
        let mut ranges = Vec::<GradientRange>::new();
        let own = std::mem::take(&mut self.own);
        for (piece, sum) in self.plan.pieces()[self.plan.owned(rank)].iter().zip(own) {
            piece.each(sum.len(), |Segment { parameter, range }, place| {
                match ranges.last_mut().filter(|last| last.parameter == *parameter) {
                    Some(last) => last.values.extend_from_slice(&sum[place]),
                    None => {
                        let values = sum[place].to_vec();
                        ranges.push(GradientRange { parameter: *parameter, start: range.start, values });
                    }
                }
            });
        }
        ranges
    }

    /// Adds the slots that are here to the sum of a piece that has come, and passes it on where that is all.
    fn add_to(&mut self, index: usize, transport: &mut dyn Transport) {
        let piece = &self.plan.pieces()[index];
        let sum = &mut self.sums[index];
        for gradients in &self.held[self.added[index]..] {
            piece.each(sum.len(), |Segment { parameter, range }, place| {
                let gradients = &gradients[*parameter][range.clone()];
                lanes::add_scaled(&mut sum[place], gradients, self.share);
            });
        }
        let is_passed_on = self.added[index] == self.slots.len();
        self.added[index] = self.held.len();
        if is_passed_on || self.held.len() < self.slots.len() {
            return;
        }
        self.passed += 1;
        let (sum, rank, last) = (std::mem::take(sum), transport.rank(), transport.ranks() - 1);
        let (to, route) = match (rank < last, piece.owner == last) {
            (true, _) => (rank + 1, Route::Sum),
            (false, false) => (piece.owner, Route::Owner),
            (false, true) => return self.own.push(sum),
        };
        self.sent += size_of_val(sum.as_slice()) as u64;
        transport.send(to, route, sum);
    }

    /// Gives back the memory of gradients that are in all sums.
    fn drop_what_all_have(&mut self) {
        if self.come == self.plan.pieces().len() {
            self.held.iter_mut().for_each(|gradients| *gradients = Vec::new());
        }
    }
}
