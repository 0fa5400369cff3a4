//! Steps with a corrector (math.md §8): every step is visited and every token that is not given evaluated, since visible
//! sub-tokens may change too.

use std::ops::Range;
use std::sync::Arc;

use super::{Chunk, DeviceResult, DeviceWork, DrawNotes, DrawsAhead, Outcome, Outcomes, Policy, Visit};
use crate::Result;
use crate::ops::StepDraws;
use crate::random::{Draws, Purpose};
use crate::sampler::corrector::{Corrector, Jumps};
use crate::sampler::draw::{TokenAt, TokenDraws};
use crate::sampler::report::SampleReport;
use crate::schedule::{RevealSteps, Schedule};

/// One step for all sequences.
struct Step {
    /// t, the time of the evaluation.
    time: f64,
    /// Probability that a masked sub-token is revealed.
    share: f64,
    /// `None` in the last step and where α is 0.
    jumps: Option<Jumps>,
    /// The share of what was masked that is revealed after this step, jumps apart.
    visible: f64,
}

/// The steps, and the draws of what they reveal and change.
pub(in crate::sampler) struct CorrectedSteps {
    steps: Vec<Step>,
    reveals: Draws,
    jumps: Draws,
}

impl CorrectedSteps {
    pub fn new(corrector: &Corrector, grid: &RevealSteps, schedule: &Schedule, seed: u64) -> Self {
        let times = grid.times();
        let mut masked = 1.0;
        let step = |k: usize| {
            let jumps = times.get(k + 1).and_then(|&s| corrector.jumps(schedule, times[k], s));
            let share = grid.conditional(k);
            masked *= 1.0 - share;
            Step { time: times[k], share, jumps, visible: 1.0 - masked }
        };
        Self {
            steps: (0..times.len()).map(step).collect(),
            reveals: Draws::new(seed, Purpose::Reveal),
            jumps: Draws::new(seed, Purpose::Jump),
        }
    }
}

/// A sequence on its way through the steps; visit k is step k.
pub(in crate::sampler) struct Corrected {
    steps: Arc<CorrectedSteps>,
    /// The first sub-token, and whether each from there on was given.
    first: usize,
    given: Vec<bool>,
    /// Tokens that are not wholly given.
    tokens: Vec<usize>,
    mask_id: u32,
    subtoken_len: usize,
    next: usize,
    drawn: Outcomes,
}

impl Corrected {
    pub fn new(
        steps: Arc<CorrectedSteps>,
        y: &[u32],
        tokens: Range<usize>,
        subtoken_len: usize,
        mask_id: u32,
    ) -> Self {
        let digits = tokens.start * subtoken_len..tokens.end * subtoken_len;
        let first = digits.start;
        let given: Vec<bool> = y[digits].iter().map(|digit| *digit != mask_id).collect();
        let open = tokens.zip(given.chunks_exact(subtoken_len)).filter(|(_, given)| given.contains(&false));
        let tokens = open.map(|(token, _)| token).collect();
        Self { steps, first, given, tokens, mask_id, subtoken_len, next: 0, drawn: Outcomes::default() }
    }

    /// The digits of token `i` that are not given: bit j of digit j.
    fn open(&self, i: usize) -> u64 {
        let len = self.subtoken_len;
        let given = &self.given[i * len - self.first..][..len];
        given.iter().enumerate().fold(0, |bits, (j, given)| bits | u64::from(!given) << j)
    }

    /// The ancestral step and the jumps of a token.
    fn correct(&self, chunk: &Chunk, at: &TokenAt) -> Result<Outcome> {
        let step = &self.steps.steps[self.next];
        let first = at.i * at.y.len();
        let is_revealed = |j: &usize| {
            let uniform = self.steps.reveals.uniform(at.sequence, (first + j) as u32, at.event as u32);
            at.y[*j] == self.mask_id && uniform < step.share
        };
        let reveals: Vec<usize> = (0..at.y.len()).filter(is_revealed).collect();
        let p = chunk.draws.predict(at)?;
        let mut after = at.y.to_vec();
        let revealed = chunk.draws.reveal(at, &p, &reveals, &mut after)?;
        let mut outcome = Outcome { redrawn: revealed.redrawn, ..Outcome::default() };
        if let Some(jumps) = &step.jumps {
            let target = chunk.draws.target(at, &p, &revealed);
            let (jumped, count) = self.jump(jumps, at, &after, &target);
            if chunk.draws.is_possible(&jumped) {
                (after, outcome.jumps) = (jumped, count);
            } else {
                outcome.jumps_dropped = count;
            }
        }
        let changed = (0..at.y.len()).filter(|&j| after[j] != at.y[j]);
        outcome.writes = changed.map(|j| (first + j, after[j])).collect();
        Ok(outcome)
    }

    /// The digits of a token after its jumps, and how many there were.
    fn jump(&self, jumps: &Jumps, at: &TokenAt, before: &[u32], target: &[u32]) -> (Vec<u32>, u64) {
        let (mut jumped, mut count) = (before.to_vec(), 0);
        let first = at.i * before.len();
        for j in (0..before.len()).filter(|j| !self.given[first + j - self.first]) {
            let place = (first + j) as u32;
            let uniform = |n| self.steps.jumps.uniform(at.sequence, place, 2 * at.event as u32 + n);
            if let Some(value) = jumps.jump(before[j], target[j], self.mask_id, [uniform(0), uniform(1)]) {
                jumped[j] = value;
                count += 1;
            }
        }
        (jumped, count)
    }
}

impl Policy for Corrected {
    fn is_done(&self) -> bool {
        self.tokens.is_empty() || self.next == self.steps.steps.len()
    }

    fn revises(&self) -> bool {
        true
    }

    fn ask(&self, _: &[u32]) -> Visit {
        let time = self.steps.steps[self.next].time;
        Visit { step: self.next, event: self.next, time, tokens: self.tokens.clone() }
    }

    fn draws_ahead(&self) -> Option<DrawsAhead> {
        let steps = &self.steps.steps;
        let step = steps.get(self.next)?;
        let masked = self.given.iter().filter(|given| !**given).count() as f64;
        let before = self.next.checked_sub(1).map_or(0.0, |before| steps[before].visible);
        let revealed = |share: f64| (share * masked).round() as usize;
        Some(DrawsAhead {
            tokens: self.tokens.iter().map(|i| (*i, self.open(*i))).collect(),
            step: Some(StepDraws { share: step.share, jumps: step.jumps.map(Jumps::rates) }),
            revealed: revealed(step.visible) - revealed(before),
        })
    }

    fn asks_device(&self) -> Option<DeviceWork> {
        Some(DeviceWork::Draw)
    }

    fn take(&mut self, _: &TokenDraws, y: &[u32], tokens: &[usize], drawn: &DeviceResult) {
        let (DeviceResult::Drawn(after, notes), len) = (drawn, self.subtoken_len) else { return };
        for ((&i, after), notes) in tokens.iter().zip(after.chunks_exact(len)).zip(*notes) {
            let changed = (i * len..).zip(after.iter().map(|digit| *digit as u32));
            let writes = changed.filter(|(digit, value)| y[*digit] != *value).collect();
            let DrawNotes { redraws, jumps, jumps_dropped } = *notes;
            self.drawn.add(Outcome { writes, redrawn: redraws > 0, jumps, jumps_dropped });
        }
    }

    fn count(&mut self, notes: &DrawNotes) {
        self.drawn.count(notes);
    }

    fn draw(&mut self, chunk: &Chunk) -> Result<()> {
        let outcomes = chunk.map(|at| self.correct(chunk, at))?;
        outcomes.into_iter().for_each(|outcome| self.drawn.add(outcome));
        Ok(())
    }

    fn settle(&mut self, _: &TokenDraws, _: &[u32]) -> Vec<(usize, u32)> {
        self.next += 1;
        std::mem::take(&mut self.drawn.writes)
    }

    fn costs_so_far(&self) -> SampleReport {
        self.drawn.costs(self.next, 0)
    }

    fn costs(&self) -> SampleReport {
        let total = self.steps.steps.len();
        self.drawn.costs(total, if self.tokens.is_empty() { total } else { 0 })
    }
}
