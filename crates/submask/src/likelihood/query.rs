//! The common loop: states of the network, what is charged there, and the sums over draws.

use rayon::prelude::*;

use super::estimate::{Estimate, Exact, Meaning, UpperBound};
use super::sequences::{Encoded, LikelihoodSettings, Sequences, Target};
use crate::denoiser::{Denoiser, States};
use crate::predictive::{Predictive, TokenDistribution};
use crate::schedule::RevealUnit;
use crate::{Error, Result};

/// What a position of a state is charged, in nats.
#[derive(Clone, Copy, Debug)]
pub(super) enum Charge {
    /// −log p(x_0^i | y_t), all ℓ digits.
    Token,
    /// Σ over masked digits j of −log p(y_0^{ij} | y_t).
    Marginals,
    /// −log p(y_0^{i,S} | y_t) with S all masked digits.
    Masked,
    /// The same with S a set of masked digits, bit j for digit j.
    Set(u64),
    /// The mean of −log p(y_0^{i,S} | y_t) over S, to which every masked digit belongs with this probability.
    RandomSet(f64),
}

/// A state, and the charges at its positions; its value is `weight` times their sum.
pub(super) struct Query {
    pub(super) y_t: Vec<u32>,
    pub(super) t: f64,
    pub(super) weight: f64,
    /// (token position, charge), each position once.
    pub(super) charges: Vec<(usize, Charge)>,
}

impl Query {
    /// The same charge at every token that is not fully visible.
    pub(super) fn uniform(target: &Target, y_t: Vec<u32>, t: f64, weight: f64, charge: Charge) -> Self {
        let tokens = y_t.chunks_exact(target.subtoken_len).enumerate();
        let charges = tokens.filter(|(_, y)| y.contains(&target.mask_id)).map(|(i, _)| (i, charge)).collect();
        Self { y_t, t, weight, charges }
    }
}

/// How the queries of a sequence make its value: `draws` groups of `terms` queries; a group is summed, and the
/// groups are averaged.
pub(super) struct Layout {
    pub(super) draws: usize,
    pub(super) terms: usize,
}

/// What every estimator works on.
pub(super) struct Problem<'a> {
    network: &'a dyn Denoiser,
    predictive: &'a Predictive,
    pub(super) encoded: Encoded<'a>,
    count: usize,
    batch: usize,
}

impl<'a> Problem<'a> {
    /// Checks the settings and the sequences.
    pub(super) fn new(
        network: &'a dyn Denoiser,
        predictive: &'a Predictive,
        sequences: &Sequences<'a>,
        settings: &LikelihoodSettings,
    ) -> Result<Self> {
        settings.validate()?;
        let encoded = sequences.encode(network, predictive)?;
        Ok(Self { network, predictive, encoded, count: sequences.count(), batch: settings.batch })
    }

    /// The estimate whose queries `build(sequence, draw, term)` gives; `None` counts as zero and costs nothing.
    pub(super) fn estimate<K: Meaning>(
        &self,
        layout: &Layout,
        build: impl Fn(&Target, usize, usize) -> Option<Query> + Sync,
    ) -> Result<Estimate<K>> {
        let mut means = Means::new(layout.draws, self.count);
        let evaluations = self.for_each_draw(layout, build, |value| means.push(value))?;
        Ok(Estimate::new(means.means, means.errors, self.tokens(), evaluations))
    }

    /// Calls `visit` with the value of every draw (the sum of its terms), in order, sequence by sequence. Returns
    /// the number of network evaluations.
    pub(super) fn for_each_draw(
        &self,
        layout: &Layout,
        build: impl Fn(&Target, usize, usize) -> Option<Query> + Sync,
        mut visit: impl FnMut(f64),
    ) -> Result<u64> {
        let per_sequence = layout.draws * layout.terms;
        let items = self.count * per_sequence;
        let (mut sum, mut evaluations) = (0.0, 0);
        for start in (0..items).step_by(self.batch) {
            let end = (start + self.batch).min(items);
            let query = |item: usize| {
                let (s, rest) = (item / per_sequence, item % per_sequence);
                (s, build(&self.encoded.target(s), rest / layout.terms, rest % layout.terms))
            };
            let queries: Vec<(usize, Option<Query>)> = (start..end).into_par_iter().map(query).collect();
            for (item, value) in (start..end).zip(self.values(&queries)?) {
                sum += value;
                if (item + 1) % layout.terms == 0 {
                    visit(std::mem::take(&mut sum));
                }
            }
            evaluations += queries.iter().filter(|(_, query)| query.is_some()).count() as u64;
        }
        Ok(evaluations)
    }

    /// An exact value of every sequence.
    pub(super) fn exact(&self, nats: Vec<f64>, evaluations: u64) -> Estimate<Exact> {
        let errors = vec![0.0; nats.len()];
        Estimate::new(nats, errors, self.tokens(), evaluations)
    }

    /// An upper bound of every sequence, of which no error over draws is known.
    pub(super) fn bound(&self, nats: Vec<f64>, evaluations: u64) -> Estimate<UpperBound> {
        let errors = vec![f64::NAN; nats.len()];
        Estimate::new(nats, errors, self.tokens(), evaluations)
    }

    /// The number of tokens that every sequence generates.
    fn tokens(&self) -> Vec<u64> {
        (0..self.count).map(|s| self.encoded.target(s).units(RevealUnit::Tokens).len() as u64).collect()
    }

    /// The values of the queries (of sequence s each), from one network call.
    fn values(&self, queries: &[(usize, Option<Query>)]) -> Result<Vec<f64>> {
        let mut nats = self.rows(queries, |_, nats| nats)?.into_iter();
        let mut value = |query: &Query| query.weight * nats.by_ref().take(query.charges.len()).sum::<f64>();
        Ok(queries.iter().map(|(_, query)| query.as_ref().map_or(0.0, &mut value)).collect())
    }

    /// `row(p, nats)` for every charge of the queries, in order, from one network call: p is the distribution at the
    /// position, nats the charge.
    pub(super) fn rows<R: Default + Clone + Send>(
        &self,
        queries: &[(usize, Option<Query>)],
        row: impl Fn(&TokenDistribution, f64) -> R + Sync,
    ) -> Result<Vec<R>> {
        let (mut y_t, mut t, mut positions, mut charged) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let mut labels = Vec::new();
        for (s, query) in queries.iter().filter_map(|(s, query)| query.as_ref().map(|query| (*s, query))) {
            let first = t.len() * query.y_t.len() / self.predictive.codes().subtoken_len();
            y_t.extend_from_slice(&query.y_t);
            t.push(query.t);
            labels.push(self.encoded.target(s).label);
            positions.extend(query.charges.iter().map(|(i, _)| first + i));
            charged.extend(query.charges.iter().map(|&(i, charge)| (s, query, i, charge)));
        }
        let mut rows = vec![R::default(); positions.len()];
        if rows.is_empty() {
            return Ok(rows);
        }
        let vocab_size = self.predictive.codes().vocab_size();
        let at_once = (1 << 14) / vocab_size + 1;
        let labels = self.network.spec().labels(labels.into_iter());
        let states = States { y_t: &y_t, t: &t, labels: labels.as_deref() };
        self.network.evaluate(&states, &positions, &mut |range, logits| {
            let rows = rows[range.clone()].par_iter_mut().zip(&charged[range]);
            let rows = rows.zip(logits.par_chunks(vocab_size)).with_min_len(at_once);
            rows.try_for_each(|((result, (s, query, i, charge)), logits)| {
                let p = self.distribution(query, *i, logits)?;
                *result = row(&p, nats_of(&p, &self.encoded.target(*s), query, *i, *charge));
                Ok(())
            })
        })?;
        Ok(rows)
    }

    fn distribution(&self, query: &Query, i: usize, logits: &[f32]) -> Result<TokenDistribution<'_>> {
        let len = self.predictive.codes().subtoken_len();
        let p = self.predictive.distribution(logits, &query.y_t[i * len..(i + 1) * len]);
        if p.is_proper() {
            return Ok(p);
        }
        Err(Error::NonFinite { what: "logits", needed: "a finite number for at least one possible token" })
    }
}

/// The charge of token i, in nats.
fn nats_of(p: &TokenDistribution, target: &Target, query: &Query, i: usize, charge: Charge) -> f64 {
    let digits = i * target.subtoken_len..(i + 1) * target.subtoken_len;
    let (y, y_0) = (&query.y_t[digits.clone()], &target.y_0[digits]);
    let masked = || (0..y.len()).filter(|&j| y[j] == target.mask_id).map(|j| (j, y_0[j]));
    match charge {
        Charge::Token => -p.log_prob(target.x_0[i]),
        Charge::Marginals => masked().map(|(j, digit)| -p.log_marginal(j, digit)).sum(),
        Charge::Masked => -p.log_joint_marginal(masked()),
        Charge::Set(set) => -p.log_joint_marginal(masked().filter(|(j, _)| set >> j & 1 == 1)),
        Charge::RandomSet(share) => {
            mean_over_sets(&p.log_joint_marginals(&masked().collect::<Vec<_>>()), share)
        }
    }
}

/// Σ_S q^|S| (1 − q)^(m − |S|) · −log p(S) over the 2^m sets.
fn mean_over_sets(log_probs: &[f64], share: f64) -> f64 {
    let m = log_probs.len().trailing_zeros() as i32;
    let powers: Vec<f64> = (0..=m).map(|size| share.powi(size) * (1.0 - share).powi(m - size)).collect();
    let terms = log_probs
        .iter()
        .enumerate()
        .skip(1)
        .map(|(set, log_prob)| (powers[set.count_ones() as usize], log_prob));
    // A set that has no probability is not charged, whatever its digits' probability.
    terms.filter(|(weight, _)| *weight > 0.0).map(|(weight, log_prob)| -weight * log_prob).sum()
}

/// Means over the draws of every sequence, and their errors.
struct Means {
    draws: usize,
    means: Vec<f64>,
    errors: Vec<f64>,
    /// Of the present sequence: number of draws, sum, last draw, sum of squared successive differences.
    present: (usize, f64, f64, f64),
}

impl Means {
    fn new(draws: usize, sequences: usize) -> Self {
        let (means, errors) = (Vec::with_capacity(sequences), Vec::with_capacity(sequences));
        Self { draws, means, errors, present: (0, 0.0, 0.0, 0.0) }
    }

    /// The next draw. After the last of a sequence: the mean, and its standard error
    /// √(Σ (v_{d+1} − v_d)² / (2 (D − 1) D)).
    fn push(&mut self, value: f64) {
        let (count, sum, last, squares) = self.present;
        let difference = if count == 0 { 0.0 } else { value - last };
        self.present = (count + 1, sum + value, value, squares + difference * difference);
        if count + 1 == self.draws {
            let (count, sum, _, squares) = std::mem::take(&mut self.present);
            let draws = count as f64;
            self.means.push(sum / draws);
            self.errors.push((squares / (2.0 * (draws - 1.0) * draws)).sqrt());
        }
    }
}
