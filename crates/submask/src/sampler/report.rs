//! What a sampler gives back: tokens, what they cost, and how they came about.

use std::iter::Sum;

use serde::{Deserialize, Serialize};

/// What sequences cost. Reports of several sequences add up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SampleReport {
    /// Sequences.
    pub sequences: u64,
    /// Sub-tokens generated (not given).
    pub digits: u64,
    /// Network evaluations per sequence (nfe), summed over sequences.
    pub evaluations: u64,
    /// Positions at which logits were asked for.
    pub positions: u64,
    /// Passes of known tokens through a network with blocks, whose keys and values are kept: about one per block.
    #[serde(default)]
    pub clean_passes: u64,
    /// Sequences that were stopped because their last tokens were too much like each other
    /// ([`EntropyRule`](super::EntropyRule)).
    #[serde(default)]
    pub monotonous: u64,
    /// T, or without a grid the number of events, summed over sequences.
    pub steps_total: u64,
    /// Steps in which nothing was revealed and the network was not evaluated.
    pub steps_skipped: u64,
    /// Token draws repeated because their digits would have left no possible token; 0 for joint draws with carry-over.
    pub redraws: u64,
    /// Sub-tokens that the corrector changed.
    #[serde(default)]
    pub jumps: u64,
    /// Jumps that did not happen because the token's digits would have left no possible token.
    #[serde(default)]
    pub jumps_dropped: u64,
}

impl SampleReport {
    /// The share of idle steps.
    pub fn idle_share(&self) -> f64 {
        self.steps_skipped as f64 / self.steps_total as f64
    }
}

impl<'a> Sum<&'a Self> for SampleReport {
    fn sum<I: Iterator<Item = &'a Self>>(reports: I) -> Self {
        reports.fold(Self::default(), |a, b| Self {
            sequences: a.sequences + b.sequences,
            digits: a.digits + b.digits,
            evaluations: a.evaluations + b.evaluations,
            positions: a.positions + b.positions,
            clean_passes: a.clean_passes + b.clean_passes,
            monotonous: a.monotonous + b.monotonous,
            steps_total: a.steps_total + b.steps_total,
            steps_skipped: a.steps_skipped + b.steps_skipped,
            redraws: a.redraws + b.redraws,
            jumps: a.jumps + b.jumps,
            jumps_dropped: a.jumps_dropped + b.jumps_dropped,
        })
    }
}

/// What one event wrote.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// The step.
    pub step: usize,
    /// The time at which the network was evaluated.
    pub time: f64,
    /// (i·ℓ + j, digit) of every sub-token revealed; with a corrector, of every sub-token changed, the mask included.
    pub digits: Vec<(usize, u32)>,
}

/// How a sequence came about.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trajectory {
    /// The sub-tokens at the start, [L·ℓ].
    pub start: Vec<u32>,
    /// The events, in order.
    pub changes: Vec<Change>,
}

impl Trajectory {
    /// (t, y) after every event, y being [L·ℓ]; the first is the start, at t = 1.
    pub fn states(&self) -> impl Iterator<Item = (f64, Vec<u32>)> {
        let first = std::iter::once((1.0, self.start.clone()));
        first.chain(self.changes.iter().scan(self.start.clone(), |y, change| {
            change.digits.iter().for_each(|&(digit, value)| y[digit] = value);
            Some((change.time, y.clone()))
        }))
    }
}

/// Sampled sequences.
#[derive(Clone, Debug, PartialEq)]
pub struct Samples {
    /// x_0, [n, L], row by row.
    pub tokens: Vec<u32>,
    /// Tokens per sequence L.
    pub seq_len: usize,
    /// What every sequence cost, \[n\].
    pub reports: Vec<SampleReport>,
    /// How every sequence came about, \[n\]; empty unless asked for.
    pub trajectories: Vec<Trajectory>,
}

impl Samples {
    /// The sequences, each \[L\].
    pub fn sequences(&self) -> impl Iterator<Item = &[u32]> {
        self.tokens.chunks_exact(self.seq_len)
    }

    /// The reports added up.
    pub fn report(&self) -> SampleReport {
        self.reports.iter().sum()
    }
}
