//! A sequence on its way.

use std::sync::Arc;

use super::observer::{Event, Observer};
use super::policy::{Chunk, Policy, Visit};
use super::recipe::Recipe;
use super::report::SampleReport;
use super::stream::SequenceRequest;
use crate::Result;

/// A sequence on its way.
pub(super) struct Row<'a> {
    /// Its number in the stream.
    pub sequence: usize,
    /// Its number under the seed.
    pub number: u64,
    pub label: Option<usize>,
    /// Its sub-tokens, [L·ℓ]; where they are on a device, those at the start.
    pub y: Vec<u32>,
    pub recipe: Arc<Recipe<'a>>,
    pub policy: Box<dyn Policy>,
    /// Sub-tokens revealed so far.
    pub revealed: usize,
    mask_id: u32,
    /// Sub-tokens masked at the start.
    masked: usize,
    evaluations: u64,
    positions: u64,
}

impl<'a> Row<'a> {
    pub fn new(sequence: usize, request: SequenceRequest<'a>) -> Self {
        let SequenceRequest { prompt, recipe, number } = request;
        Self {
            sequence,
            number,
            label: prompt.label(),
            y: prompt.y().to_vec(),
            policy: recipe.begin(number, &prompt),
            recipe,
            revealed: 0,
            mask_id: prompt.mask_id(),
            masked: prompt.masked().len(),
            evaluations: 0,
            positions: 0,
        }
    }

    /// Tokens per sequence L.
    pub fn seq_len(&self) -> usize {
        self.y.len() / self.recipe.predictive().codes().subtoken_len()
    }

    /// Draws for some `tokens` of a visit, from their logits [tokens, C].
    pub fn draw(&mut self, visit: &Visit, tokens: &[usize], logits: &[f32]) -> Result<()> {
        let Self { number, y, recipe, policy, .. } = self;
        policy.draw(&Chunk { draws: &recipe.draws, number: *number, visit, y, tokens, logits })
    }

    /// Writes what was drawn in a visit, and tells it.
    pub fn settle(&mut self, visit: &Visit, observer: &mut dyn Observer) -> Result<()> {
        let digits = self.leave(visit);
        for &(digit, value) in &digits {
            let visible = |value: u32| usize::from(value != self.mask_id);
            self.revealed = self.revealed + visible(value) - visible(self.y[digit]);
            self.y[digit] = value;
        }
        if !observer.wants_digits() {
            return Ok(());
        }
        let (sequence, step, time) = (self.sequence, visit.step, visit.time);
        observer.notify(&Event::Revealed { sequence, step, time, digits: &digits })
    }

    /// Counts a visit and ends it. Returns what was drawn in memory, which is still to be written.
    pub fn leave(&mut self, visit: &Visit) -> Vec<(usize, u32)> {
        self.evaluations += 1;
        self.positions += visit.tokens.len() as u64;
        self.policy.settle(&self.recipe.draws, &self.y)
    }

    pub fn report(&self) -> SampleReport {
        SampleReport {
            sequences: 1,
            digits: self.masked as u64,
            evaluations: self.evaluations,
            positions: self.positions,
            ..self.policy.costs()
        }
    }
}
