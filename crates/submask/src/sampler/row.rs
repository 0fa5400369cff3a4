//! A sequence on its way.

use std::sync::Arc;

use super::end::first_end;
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
    /// Tokens up to and with the one that ended the sequence, where that was before its full length.
    pub ended: Option<usize>,
    mask_id: u32,
    /// Sub-tokens masked at the start.
    masked: usize,
    /// Tokens up to and with the last one of which something is given.
    given: usize,
    evaluations: u64,
    positions: u64,
}

impl<'a> Row<'a> {
    pub fn new(sequence: usize, request: SequenceRequest<'a>) -> Self {
        let SequenceRequest { prompt, recipe, number } = request;
        let last = prompt.y().iter().rposition(|digit| *digit != prompt.mask_id());
        let len = recipe.predictive().codes().subtoken_len();
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
            given: last.map_or(0, |digit| digit / len + 1),
            ended: None,
            evaluations: 0,
            positions: 0,
        }
    }

    /// Whether nothing is left to reveal, or what is left is behind the end of the text.
    pub fn is_done(&self) -> bool {
        self.ended.is_some() || self.policy.is_done()
    }

    /// Sub-tokens that are masked and stay so.
    pub fn left_out(&self) -> usize {
        self.ended.map_or(0, |_| self.masked - self.revealed)
    }

    /// x_0, \[L\], or up to the token that ended the sequence.
    ///
    /// # Errors
    /// [`Error::InvalidCode`](crate::Error::InvalidCode) for digits that no token has.
    pub fn tokens(&self) -> Result<Vec<u32>> {
        let codes = self.recipe.predictive().codes();
        let tokens = self.ended.unwrap_or(self.seq_len());
        codes.decode(&self.y[..tokens * codes.subtoken_len()])
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
        self.ended = self.recipe.end().and_then(|end| self.end_at(end));
        if !observer.wants_digits() {
            return Ok(());
        }
        let (sequence, step, time) = (self.sequence, visit.step, visit.time);
        observer.notify(&Event::Revealed { sequence, step, time, digits: &digits })
    }

    /// How many tokens there are up to and with the first `end` that ends a text, among those known from the first one on.
    fn end_at(&self, end: u32) -> Option<usize> {
        let codes = self.recipe.predictive().codes();
        let known = self.y.chunks_exact(codes.subtoken_len()).take_while(|y| !y.contains(&self.mask_id));
        first_end(known.map(|y| y == codes.digits(end)), self.given).map(|place| place + 1)
    }

    /// Counts a visit and ends it. Returns what was drawn in memory, which is still to be written.
    pub fn leave(&mut self, visit: &Visit) -> Vec<(usize, u32)> {
        self.evaluations += 1;
        self.positions += visit.tokens.len() as u64;
        self.policy.settle(&self.recipe.draws, &self.y)
    }

    pub fn report(&self) -> SampleReport {
        let costs = self.policy.costs();
        SampleReport {
            sequences: 1,
            digits: (self.masked - self.left_out()) as u64,
            evaluations: self.evaluations,
            positions: self.positions,
            // From left to right every step is an evaluation.
            steps_total: self.ended.map_or(costs.steps_total, |_| self.evaluations),
            ..costs
        }
    }
}
