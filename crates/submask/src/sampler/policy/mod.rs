//! What a sequence asks the network for, and what it reveals: one policy per way to sample, one loop for all.
//!
//! | policy | asks for | reveals |
//! |---|---|---|
//! | [`Planned`] | the tokens that reveal something now | what its plan says, steps without a reveal being skipped |
//! | [`Ordered`] | all masked tokens | the N units that an order puts first |
//! | [`Corrected`] | all tokens that are not given, at every step | random sub-tokens, and lets others jump |
//!
//! A new way to sample is a file with its [`Policy`], and its line in [`Recipe`](super::Recipe).

mod corrected;
mod ordered;
mod planned;

use std::iter::Sum;

use rayon::prelude::*;

pub(super) use corrected::{Corrected, CorrectedSteps};
pub(super) use ordered::{Ordered, Ordering};
pub(super) use planned::Planned;

use super::draw::{TokenAt, TokenDraws};
use super::observer::TokenLogProb;
use super::report::SampleReport;
use crate::Result;
use crate::ops::{Ranks, StepDraws};

/// How one sequence is sampled, from its start to its end: a state that knows which visit comes next.
///
/// Of every visit the loop asks for the tokens, evaluates the network, hands over the logits as they come, and settles
/// it.
pub(super) trait Policy: Send + Sync {
    /// Whether no visit is left.
    fn is_done(&self) -> bool;

    /// The next visit of a sequence with the sub-tokens `y` [L·ℓ].
    fn ask(&self, y: &[u32]) -> Visit;

    /// Draws for some of the tokens asked for. Every token of a visit comes once, in ascending order.
    ///
    /// # Errors
    /// [`Error::Invalid`](crate::Error::Invalid) for logits that are no distribution.
    fn draw(&mut self, chunk: &Chunk) -> Result<()>;

    /// Ends the visit: (i·ℓ + j, digit) of what `y` [L·ℓ] becomes, ascending.
    fn settle(&mut self, draws: &TokenDraws, y: &[u32]) -> Vec<(usize, u32)>;

    /// Steps and what was drawn; the rest of a report does not depend on the policy.
    fn costs(&self) -> SampleReport;

    /// The same where no further step is taken.
    fn costs_so_far(&self) -> SampleReport;

    /// Whether what is revealed may change again.
    fn revises(&self) -> bool {
        false
    }

    /// With what probabilities the last visit drew what it revealed, token by token; empty where that is not asked for.
    fn take_log_probs(&mut self) -> Vec<TokenLogProb> {
        Vec::new()
    }

    /// What the next visit draws, where no value decides it: then nothing need wait for the values.
    fn draws_ahead(&self) -> Option<DrawsAhead> {
        None
    }

    /// What of the next visit a device can draw from logits that stay there, given the sub-tokens before it in memory; `None`
    /// where logits are to come to memory.
    fn asks_device(&self) -> Option<DeviceWork>;

    /// Takes what a device drew for the `tokens` of a visit, instead of [`Self::draw`].
    fn take(&mut self, draws: &TokenDraws, y: &[u32], tokens: &[usize], drawn: &DeviceResult);

    /// Counts what a device told of visits whose draws no value decided.
    fn count(&mut self, _: &DrawNotes) {}
}

/// One evaluation of the network for a sequence.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Visit {
    /// Step on the grid, or number of the visit.
    pub step: usize,
    /// Key of the draws.
    pub event: usize,
    /// The time t of the evaluation.
    pub time: f64,
    /// Tokens i whose logits are asked for, ascending.
    pub tokens: Vec<usize>,
}

/// What a visit draws, known before any value is.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct DrawsAhead {
    /// The tokens i asked for, ascending, and of each the digits that are revealed, or in a step with a corrector those that
    /// may change: bit j of digit j.
    pub tokens: Vec<(usize, u64)>,
    /// The step with a corrector, if this is one.
    pub step: Option<StepDraws>,
    /// Sub-tokens that are revealed, or are expected to be.
    pub revealed: usize,
}

/// What a device does with the logits of a visit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DeviceWork {
    /// It draws digits, see [`DrawsAhead`].
    Draw,
    /// It ranks tokens, and draws them for whichever of their digits will be revealed.
    Rank(Ranks),
}

/// What a device made of tokens of a visit.
pub(super) enum DeviceResult<'b> {
    /// Their digits after it, [tokens, ℓ], and what is told of them, \[tokens\].
    Drawn(&'b [i32], &'b [DrawNotes]),
    /// Scores [tokens, units], and of each the token drawn and the one to copy from where its digits would leave no possible
    /// token, \[tokens\].
    Ranked(&'b [f64], &'b [[u32; 2]]),
}

/// What became of draws on a device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct DrawNotes {
    /// Draws that were repeated.
    pub redraws: u64,
    pub jumps: u64,
    pub jumps_dropped: u64,
}

impl Sum for DrawNotes {
    fn sum<I: Iterator<Item = Self>>(notes: I) -> Self {
        notes.fold(Self::default(), |a, b| Self {
            redraws: a.redraws + b.redraws,
            jumps: a.jumps + b.jumps,
            jumps_dropped: a.jumps_dropped + b.jumps_dropped,
        })
    }
}

/// Logits of some of the tokens of a visit.
pub(super) struct Chunk<'b> {
    pub draws: &'b TokenDraws<'b>,
    /// Number of the sequence under the seed.
    pub number: u64,
    pub visit: &'b Visit,
    /// Sub-tokens before the visit, [L·ℓ].
    pub y: &'b [u32],
    /// Tokens i, some of the visit's.
    pub tokens: &'b [usize],
    /// Their logits, [tokens, C].
    pub logits: &'b [f32],
}

/// What became of a token.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// (i·ℓ + j, digit) of what was written.
    pub writes: Vec<(usize, u32)>,
    pub redrawn: bool,
    pub jumps: u64,
    pub jumps_dropped: u64,
}

impl Chunk<'_> {
    /// The result of `each` for every token, in order; in parallel where there are enough.
    pub fn map<T: Send>(&self, each: impl Fn(&TokenAt) -> Result<T> + Sync) -> Result<Vec<T>> {
        let codes = self.draws.predictive.codes();
        let (len, vocab_size) = (codes.subtoken_len(), codes.vocab_size());
        let at = |(&i, logits)| {
            each(&TokenAt {
                sequence: self.number,
                i,
                event: self.visit.event,
                time: self.visit.time,
                y: &self.y[i * len..(i + 1) * len],
                logits,
            })
        };
        let enough = tokens_per_task(vocab_size);
        if self.tokens.len() <= enough {
            return self.tokens.iter().zip(self.logits.chunks_exact(vocab_size)).map(at).collect();
        }
        let tokens = self.tokens.par_iter().zip(self.logits.par_chunks_exact(vocab_size));
        tokens.with_min_len(enough).map(at).collect()
    }
}

/// Fewest tokens that are worth a task of their own.
pub(super) fn tokens_per_task(vocab_size: usize) -> usize {
    (1 << 14) / vocab_size + 1
}

/// What the draws of a sequence were so far, and what they write next.
#[derive(Debug, Default)]
struct Outcomes {
    writes: Vec<(usize, u32)>,
    redraws: u64,
    jumps: u64,
    jumps_dropped: u64,
}

impl Outcomes {
    fn add(&mut self, outcome: Outcome) {
        self.writes.extend(outcome.writes);
        self.redraws += u64::from(outcome.redrawn);
        self.jumps += outcome.jumps;
        self.jumps_dropped += outcome.jumps_dropped;
    }

    fn count(&mut self, notes: &DrawNotes) {
        self.redraws += notes.redraws;
        self.jumps += notes.jumps;
        self.jumps_dropped += notes.jumps_dropped;
    }

    fn costs(&self, steps_total: usize, steps_skipped: usize) -> SampleReport {
        SampleReport {
            steps_total: steps_total as u64,
            steps_skipped: steps_skipped as u64,
            redraws: self.redraws,
            jumps: self.jumps,
            jumps_dropped: self.jumps_dropped,
            ..SampleReport::default()
        }
    }
}
