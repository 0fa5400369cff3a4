//! A plan drawn before any value: a grid of steps, or one unit after the other (math.md §7).

use super::{Chunk, DeviceResult, DeviceWork, DrawNotes, DrawsAhead, Outcome, Outcomes, Policy, Visit};
use crate::Result;
use crate::sampler::draw::{TokenAt, TokenDraws};
use crate::sampler::plan::{RevealEvent, RevealPlan};
use crate::sampler::report::SampleReport;

/// A sequence that follows its plan; visit k is event k.
pub(in crate::sampler) struct Planned {
    plan: RevealPlan,
    subtoken_len: usize,
    next: usize,
    drawn: Outcomes,
}

impl Planned {
    pub fn new(plan: RevealPlan, subtoken_len: usize) -> Self {
        Self { plan, subtoken_len, next: 0, drawn: Outcomes::default() }
    }

    /// The digits of token `i` that an event reveals, as indices in the sequence.
    fn digits_of(event: &RevealEvent, i: usize, subtoken_len: usize) -> &[usize] {
        let before = |end: usize| event.digits.partition_point(|digit| *digit < end * subtoken_len);
        &event.digits[before(i)..before(i + 1)]
    }
}

impl Policy for Planned {
    fn is_done(&self) -> bool {
        self.next == self.plan.events.len()
    }

    fn ask(&self, _: &[u32]) -> Visit {
        let event = &self.plan.events[self.next];
        let mut tokens: Vec<usize> = event.digits.iter().map(|digit| digit / self.subtoken_len).collect();
        tokens.dedup();
        Visit { step: event.step, event: self.next, time: event.time, tokens }
    }

    fn draw(&mut self, chunk: &Chunk) -> Result<()> {
        let event = &self.plan.events[self.next];
        let outcomes = chunk.map(|at: &TokenAt| {
            let digits = Self::digits_of(event, at.i, self.subtoken_len);
            let reveals: Vec<usize> = digits.iter().map(|digit| digit % self.subtoken_len).collect();
            let mut after = at.y.to_vec();
            let revealed = chunk.draws.reveal(at, &chunk.draws.predict(at)?, &reveals, &mut after)?;
            let writes = digits.iter().zip(&reveals).map(|(&digit, &j)| (digit, after[j])).collect();
            Ok(Outcome { writes, redrawn: revealed.redrawn, ..Outcome::default() })
        })?;
        outcomes.into_iter().for_each(|outcome| self.drawn.add(outcome));
        Ok(())
    }

    fn settle(&mut self, _: &TokenDraws, _: &[u32]) -> Vec<(usize, u32)> {
        self.next += 1;
        std::mem::take(&mut self.drawn.writes)
    }

    fn costs(&self) -> SampleReport {
        self.drawn.costs(self.plan.steps_total, self.plan.idle_steps())
    }

    fn costs_so_far(&self) -> SampleReport {
        let passed = self.next.checked_sub(1).and_then(|last| self.plan.events.get(last));
        let steps = passed.map_or(0, |event| event.step + 1);
        self.drawn.costs(steps, steps - self.next)
    }

    fn draws_ahead(&self) -> Option<DrawsAhead> {
        let event = self.plan.events.get(self.next)?;
        let len = self.subtoken_len;
        let tokens = event.digits.chunk_by(|a, b| a / len == b / len).map(|digits| {
            let bits = digits.iter().fold(0, |bits, digit| bits | 1 << (digit % len));
            (digits[0] / len, bits)
        });
        Some(DrawsAhead { tokens: tokens.collect(), step: None, revealed: event.digits.len() })
    }

    fn asks_device(&self) -> Option<DeviceWork> {
        Some(DeviceWork::Draw)
    }

    fn take(&mut self, _: &TokenDraws, _: &[u32], tokens: &[usize], drawn: &DeviceResult) {
        let (DeviceResult::Drawn(after, notes), len) = (drawn, self.subtoken_len) else { return };
        let event = &self.plan.events[self.next];
        for ((&i, after), notes) in tokens.iter().zip(after.chunks_exact(len)).zip(*notes) {
            let digits = Self::digits_of(event, i, len);
            let writes = digits.iter().map(|&digit| (digit, after[digit % len] as u32)).collect();
            self.drawn.add(Outcome { writes, redrawn: notes.redraws > 0, ..Outcome::default() });
        }
    }

    fn count(&mut self, notes: &DrawNotes) {
        self.drawn.count(notes);
    }
}
