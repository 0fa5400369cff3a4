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

use rayon::prelude::*;

pub(super) use corrected::{Corrected, CorrectedSteps};
pub(super) use ordered::{Ordered, Ordering};
pub(super) use planned::Planned;

use super::draw::{TokenAt, TokenDraws};
use super::observer::TokenLogProb;
use super::plan::RevealEvent;
use super::report::SampleReport;
use crate::Result;

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

    /// What the next visit reveals, where no value decides it: then nothing need wait for the values.
    fn planned(&self) -> Option<&RevealEvent> {
        None
    }
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
