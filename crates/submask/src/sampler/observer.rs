//! What happens while sequences are sampled, told as it happens.

use super::report::SampleReport;
use crate::Result;

/// Something that happened. Sequences are numbered from 0 in the order in which a call or a stream was given them.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A sequence takes its place in the batch.
    Started {
        /// Number of the sequence.
        sequence: usize,
        /// Its sub-tokens [L·ℓ], 0..=b, b being the mask.
        y: &'a [u32],
    },
    /// An evaluation of the network wrote sub-tokens. Told to observers that want digits only
    /// ([`Observer::wants_digits`]).
    Revealed {
        /// Which sequence.
        sequence: usize,
        /// Step on the grid, from 0; without a grid the number of the evaluation.
        step: usize,
        /// The time t of the evaluation; of the autoregressive baseline, which has none, the share of the sub-tokens to write that
        /// are not written.
        time: f64,
        /// (i·ℓ + j, digit) of every sub-token revealed, ascending; with a corrector, of every sub-token changed, the
        /// mask included, which may be none.
        digits: &'a [(usize, u32)],
        /// Tokens, from the first on, that nothing changes any more: of a text that is written block by block those of the blocks
        /// that are written, of others those before the first that is masked in part. 0 while a corrector may change them all.
        settled: usize,
        /// With what probabilities the sub-tokens were drawn, token by token; empty unless asked for
        /// ([`SampleSettings::log_probs`](super::SampleSettings::log_probs)).
        log_probs: &'a [TokenLogProb],
    },
    /// A sequence is complete.
    Finished {
        /// Number of the sequence.
        sequence: usize,
        /// x_0, \[L\], or up to the token that ended it.
        tokens: &'a [u32],
        /// What it cost.
        report: &'a SampleReport,
    },
    /// A round is over: every sequence of the batch went through one evaluation. Told before the sequences that it
    /// completes are told to be finished.
    Progress(Progress),
}

/// With what probability the sub-tokens of a token that are revealed together were drawn.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenLogProb {
    /// Position of the token.
    pub token: usize,
    /// −log p ≥ 0, in nats, of the revealed sub-tokens given everything that was known before: their term of the chain rule.
    /// The terms of a token add up.
    pub nats: f64,
    /// The most probable tokens at this place and their log p ≤ 0, the most probable first; as many as were asked for.
    pub top: Vec<(u32, f64)>,
}

/// How far a call or a stream is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Finished sequences.
    pub sequences: usize,
    /// Sub-tokens revealed so far, of all sequences; a corrector may mask some again.
    pub digits: usize,
    /// Sub-tokens to reveal in all.
    pub digits_total: usize,
}

/// Who is told of events. A closure of an [`Event`] is one, which does not want digits.
pub trait Observer {
    /// Whether [`Event::Revealed`] is wanted of a sequence. It is asked when the sequence starts, too: if so, its digits are
    /// drawn in memory, since a device would have to be waited for at every step.
    fn wants_digits(&self, _sequence: usize) -> bool {
        false
    }

    /// Takes note.
    ///
    /// # Errors
    /// Whatever is to end the call, such as [`Error::Interrupted`](crate::Error::Interrupted).
    fn notify(&mut self, event: &Event) -> Result<()>;
}

impl<F: FnMut(&Event) -> Result<()>> Observer for F {
    fn notify(&mut self, event: &Event) -> Result<()> {
        self(event)
    }
}

/// Tells nobody.
#[derive(Clone, Copy, Debug)]
pub struct Unobserved;

impl Observer for Unobserved {
    fn notify(&mut self, _event: &Event) -> Result<()> {
        Ok(())
    }
}

/// A closure that is told of revealed digits too.
pub struct WithDigits<F>(pub F);

impl<F: FnMut(&Event) -> Result<()>> Observer for WithDigits<F> {
    fn wants_digits(&self, _sequence: usize) -> bool {
        true
    }

    fn notify(&mut self, event: &Event) -> Result<()> {
        (self.0)(event)
    }
}
