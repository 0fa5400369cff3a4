//! A sequence on its way.

use std::ops::Range;
use std::sync::Arc;

use super::end::Ending;
use super::observer::{Event, Observer};
use super::policy::{Chunk, DeviceResult, Policy, Visit};
use super::recipe::Recipe;
use super::report::SampleReport;
use super::stream::SequenceRequest;
use crate::Result;

/// A sequence on its way: block by block, or as a whole where the network has no blocks.
pub(super) struct Row<'a> {
    /// Its number in the stream.
    pub sequence: usize,
    /// Its number under the seed.
    pub number: u64,
    pub label: Option<usize>,
    /// Its sub-tokens, [L·ℓ]; where they are on a device, those at the start.
    pub y: Vec<u32>,
    pub recipe: Arc<Recipe<'a>>,
    /// The tokens that are being written: a block, or all.
    pub block: Range<usize>,
    /// How these are written.
    pub policy: Box<dyn Policy>,
    /// Sub-tokens revealed so far.
    pub revealed: usize,
    /// Tokens up to and with the one that ended the sequence, or those that are kept of one that was stopped, where that was
    /// before its full length.
    pub ended: Option<usize>,
    /// Whether that is so because its last tokens were too much like each other.
    is_monotonous: bool,
    /// Passes of known tokens through the network.
    pub clean_passes: u64,
    /// Whether nobody waits for it any more.
    pub is_abandoned: bool,
    /// Tokens known to stand before the first that is masked in part; counted only where that is told.
    clean: usize,
    /// Tokens per block; `None` where the network has no blocks.
    block_len: Option<usize>,
    mask_id: u32,
    /// Sub-tokens masked at the start.
    masked: usize,
    /// Tokens up to and with the last one of which something is given.
    given: usize,
    /// How far it is known whether the text has ended.
    ending: Ending,
    evaluations: u64,
    positions: u64,
    /// Steps and draws of the blocks that are written.
    written: SampleReport,
}

impl<'a> Row<'a> {
    /// A sequence at its start, for a network with blocks of `block_len` tokens or without blocks.
    pub fn new(sequence: usize, request: SequenceRequest<'a>, block_len: Option<usize>) -> Self {
        let SequenceRequest { prompt, recipe, number } = request;
        let (y, mask_id) = (prompt.y().to_vec(), prompt.mask_id());
        let len = recipe.predictive().codes().subtoken_len();
        let tokens = y.len() / len;
        let last = y.iter().rposition(|digit| *digit != mask_id);
        let hole = y.iter().position(|digit| *digit == mask_id).map_or(tokens - 1, |digit| digit / len);
        let step = block_len.unwrap_or(tokens);
        let start = hole / step * step;
        let block = start..(start + step).min(tokens);
        Self {
            sequence,
            number,
            label: prompt.label(),
            policy: recipe.begin(number, &y, block.clone()),
            masked: prompt.masked().len(),
            given: last.map_or(0, |digit| digit / len + 1),
            y,
            recipe,
            block,
            revealed: 0,
            ended: None,
            is_monotonous: false,
            clean_passes: 0,
            is_abandoned: false,
            clean: 0,
            block_len,
            mask_id,
            ending: Ending::default(),
            evaluations: 0,
            positions: 0,
            written: SampleReport::default(),
        }
    }

    /// Whether nothing is left to reveal, or what is left is behind the end of the text.
    pub fn is_done(&self) -> bool {
        self.ended.is_some() || self.policy.is_done() && self.block.end == self.seq_len()
    }

    /// Whether the block is written, and another follows.
    pub fn awaits_next_block(&self) -> bool {
        !self.is_done() && self.policy.is_done()
    }

    /// Begins the next block.
    pub fn begin_next_block(&mut self) {
        self.written = [self.written, self.policy.costs()].iter().sum();
        let end = self.block.end + self.block_len.unwrap_or(self.seq_len());
        self.block = self.block.end..end.min(self.seq_len());
        self.policy = self.recipe.begin(self.number, &self.y, self.block.clone());
    }

    /// Sub-tokens masked at the start.
    pub fn masked(&self) -> usize {
        self.masked
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
        codes.decode(self.digits(0..self.ended.unwrap_or(self.seq_len())))
    }

    /// Tokens per sequence L.
    pub fn seq_len(&self) -> usize {
        self.y.len() / self.recipe.predictive().codes().subtoken_len()
    }

    /// The sub-tokens of some tokens.
    pub fn digits(&self, tokens: Range<usize>) -> &[u32] {
        let len = self.recipe.predictive().codes().subtoken_len();
        &self.y[tokens.start * len..tokens.end * len]
    }

    /// Draws for some `tokens` of a visit, from their logits [tokens, C].
    pub fn draw(&mut self, visit: &Visit, tokens: &[usize], logits: &[f32]) -> Result<()> {
        let Self { number, y, recipe, policy, .. } = self;
        policy.draw(&Chunk { draws: &recipe.draws, number: *number, visit, y, tokens, logits })
    }

    /// Takes what a device drew for `tokens` of a visit.
    pub fn take(&mut self, tokens: &[usize], drawn: &DeviceResult) {
        let Self { y, recipe, policy, .. } = self;
        policy.take(&recipe.draws, y, tokens, drawn);
    }

    /// Writes what was drawn in a visit, and tells it.
    pub fn settle(&mut self, visit: &Visit, observer: &mut dyn Observer) -> Result<()> {
        let digits = self.leave(visit);
        for &(digit, value) in &digits {
            let visible = |value: u32| usize::from(value != self.mask_id);
            self.revealed = self.revealed + visible(value) - visible(self.y[digit]);
            self.y[digit] = value;
        }
        let end = self.recipe.end(self.block_len.is_some()).and_then(|end| self.end_at(end));
        let cut = self.cut()?.filter(|cut| end.is_none_or(|end| *cut < end));
        self.is_monotonous = cut.is_some();
        self.ended = cut.or(end);
        if !observer.wants_digits(self.sequence) {
            return Ok(());
        }
        let (sequence, time) = (self.sequence, visit.time);
        let step = self.written.steps_total as usize + visit.step;
        let settled = self.settled();
        let log_probs = self.policy.take_log_probs();
        observer.notify(&Event::Revealed {
            sequence,
            step,
            time,
            digits: &digits,
            settled,
            log_probs: &log_probs,
        })
    }

    /// How many tokens, from the first on, nothing changes any more.
    fn settled(&mut self) -> usize {
        match (self.policy.is_done(), self.block_len) {
            (true, _) => self.block.end,
            (false, Some(_)) => self.block.start,
            (false, None) if self.policy.revises() => 0,
            (false, None) => {
                let masked = |row: &Self| row.digits(row.clean..row.clean + 1).contains(&row.mask_id);
                while self.clean < self.block.end && !masked(self) {
                    self.clean += 1;
                }
                self.clean
            }
        }
    }

    /// How many tokens are kept of a text that stops after its block, because its last ones are too much like each other. What is
    /// given stays.
    fn cut(&self) -> Result<Option<usize>> {
        let rule = self.recipe.entropy_rule.filter(|_| self.block_len.is_some() && self.policy.is_done());
        let Some(rule) = rule else { return Ok(None) };
        let end = self.block.end;
        // More than these make no difference.
        let start = end.saturating_sub(rule.window.saturating_add(1));
        let last = self.recipe.predictive().codes().decode(self.digits(start..end))?;
        Ok(rule.cut(&last).map(|kept| (start + kept).max(self.given)))
    }

    /// How many tokens there are up to and with the first `end` that ends a text, among those known from the first one on.
    fn end_at(&mut self, end: u32) -> Option<usize> {
        // What a corrector may still change is not known.
        let settled = match self.recipe.is_left_to_right() || self.policy.is_done() {
            true => self.block.end,
            false => self.block.start,
        };
        let end = self.recipe.predictive().codes().digits(end);
        while self.ending.seen() < settled {
            let token = self.ending.seen();
            let y = self.digits(token..token + 1);
            if y.contains(&self.mask_id) {
                return None;
            }
            let is_end = y == end;
            if self.ending.ends(is_end, self.given) {
                return Some(token + 1);
            }
        }
        None
    }

    /// Counts a visit and ends it. Returns what was drawn in memory, which is still to be written.
    pub fn leave(&mut self, visit: &Visit) -> Vec<(usize, u32)> {
        self.evaluations += 1;
        self.positions += visit.tokens.len() as u64;
        self.policy.settle(&self.recipe.draws, &self.y)
    }

    /// What it has cost, where it goes no further.
    pub fn report_so_far(&self) -> SampleReport {
        let costs: SampleReport = [self.written, self.policy.costs_so_far()].iter().sum();
        SampleReport {
            sequences: 1,
            digits: self.revealed as u64,
            evaluations: self.evaluations,
            positions: self.positions,
            clean_passes: self.clean_passes,
            ..costs
        }
    }

    pub fn report(&self) -> SampleReport {
        let costs: SampleReport = [self.written, self.policy.costs()].iter().sum();
        let ended = self.ended.filter(|_| self.recipe.is_left_to_right());
        SampleReport {
            sequences: 1,
            digits: (self.masked - self.left_out()) as u64,
            evaluations: self.evaluations,
            positions: self.positions,
            clean_passes: self.clean_passes,
            monotonous: u64::from(self.is_monotonous),
            // From left to right every step is an evaluation.
            steps_total: ended.map_or(costs.steps_total, |_| self.evaluations),
            ..costs
        }
    }
}
