//! Exact likelihood of greedy generation: the most confident token first (math.md §6.4; DUEL, arXiv 2603.01367).

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::estimate::{Estimate, Exact};
use super::query::{Charge, Problem, Query};
use super::sequences::{LikelihoodSettings, Sequences};
use crate::Result;
use crate::denoiser::Denoiser;
use crate::predictive::{Predictive, TokenDistribution};
use crate::schedule::RevealUnit;

/// How sure a prediction is: the largest is revealed next, of equals the first in the sequence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Confidence {
    /// The largest probability, max p.
    #[default]
    Probability,
    /// The largest less the second largest probability.
    Margin,
    /// The negative entropy Σ p log p.
    Entropy,
}

impl Confidence {
    /// The confidence of a distribution.
    pub fn of(&self, p: &TokenDistribution) -> f64 {
        match self {
            Self::Probability => p.mode().1,
            Self::Margin => {
                let (mut first, mut second) = (0.0, 0.0);
                p.for_each_probability(|_, p| {
                    (first, second) = if p > first { (p, first) } else { (first, f64::max(second, p)) };
                });
                first - second
            }
            Self::Entropy => {
                let mut sum = 0.0;
                p.for_each_probability(|_, p| sum += if p > 0.0 { p * p.ln() } else { 0.0 });
                sum
            }
        }
    }
}

/// −log p(x_0) = Σ −log p(x_0^i | y) along the order in which a greedy generator reveals whole tokens: at every state
/// the masked token with the largest confidence. The order depends on the state alone, so this is the exact likelihood
/// of that generator. One network evaluation a token; nothing is drawn.
///
/// Of a partly given token the missing digits are charged jointly. A network that reads the time gets α_t = 1 − k/N
/// with k of N tokens still masked.
///
/// # Errors
/// As [`nelbo_subtoken`](super::nelbo_subtoken).
pub fn exact_greedy(
    network: &dyn Denoiser,
    predictive: &Predictive,
    sequences: &Sequences,
    confidence: Confidence,
    settings: &LikelihoodSettings,
) -> Result<Estimate<Exact>> {
    let problem = Problem::new(network, predictive, sequences, settings)?;
    let count = sequences.count();
    let (mut nats, mut evaluations) = (vec![0.0; count], 0);
    for start in (0..count).step_by(settings.batch) {
        let batch: Vec<usize> = (start..(start + settings.batch).min(count)).collect();
        let mut masked: Vec<Vec<usize>> =
            batch.iter().map(|&s| problem.encoded.target(s).units(RevealUnit::Tokens)).collect();
        let totals: Vec<usize> = masked.iter().map(Vec::len).collect();
        while masked.iter().any(|tokens| !tokens.is_empty()) {
            let state = |(b, &s): (usize, &usize)| {
                let (target, tokens) = (problem.encoded.target(s), &masked[b]);
                let t = settings.schedule.inverse_alpha(1.0 - tokens.len() as f64 / totals[b] as f64);
                let y_t = target.masked(RevealUnit::Tokens, tokens.iter().copied());
                let query = Query::uniform(&target, y_t, t, 1.0, Charge::Masked);
                (s, (!tokens.is_empty()).then_some(query))
            };
            let queries: Vec<_> = batch.par_iter().enumerate().map(state).collect();
            let rows = problem.rows(&queries, |p, nats| (confidence.of(p), nats))?;
            evaluations += queries.iter().filter(|(_, query)| query.is_some()).count() as u64;
            reveal_surest(&batch, &mut masked, rows, &mut nats);
        }
    }
    Ok(problem.exact(nats, evaluations))
}

/// Takes the surest token of every sequence out of its `masked` and charges it; `rows` holds (confidence, nats) of the
/// masked tokens, sequence by sequence.
fn reveal_surest(batch: &[usize], masked: &mut [Vec<usize>], rows: Vec<(f64, f64)>, nats: &mut [f64]) {
    let mut rows = rows.as_slice();
    for (&s, tokens) in batch.iter().zip(masked) {
        let (own, rest) = rows.split_at(tokens.len());
        rows = rest;
        let surer = |best: usize, k: usize| if own[k].0 > own[best].0 { k } else { best };
        if let Some(best) = (0..own.len()).reduce(surer) {
            nats[s] += own[best].1;
            tokens.remove(best);
        }
    }
}
