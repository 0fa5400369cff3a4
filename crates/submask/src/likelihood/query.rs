//! The common loop: states of the network, what is charged there, and the sums over draws.

use std::ops::Range;

use rayon::prelude::*;

use super::estimate::{Estimate, Exact, Meaning, UpperBound};
use super::sequences::{Encoded, Group, LikelihoodSettings, Target};
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

impl Charge {
    /// The charge of revealing `unit`s, ascending, at once: (token position, charge) of every token among them.
    pub(super) fn of_units(unit: RevealUnit, units: &[usize], subtoken_len: usize) -> Vec<(usize, Self)> {
        let token = |unit: usize| unit / subtoken_len;
        let digits = |units: &[usize]| units.iter().map(|unit| 1 << (unit % subtoken_len)).sum();
        match unit {
            RevealUnit::Tokens => units.iter().map(|&i| (i, Self::Masked)).collect(),
            RevealUnit::Digits => units
                .chunk_by(|&a, &b| token(a) == token(b))
                .map(|units| (token(units[0]), Self::Set(digits(units))))
                .collect(),
        }
    }
}

impl Query {
    /// The same charge at every token that is not fully visible.
    pub(super) fn uniform(target: &Target, y_t: Vec<u32>, t: f64, weight: f64, charge: Charge) -> Self {
        let tokens = y_t.chunks_exact(target.subtoken_len).enumerate();
        let charges = tokens.filter(|(_, y)| y.contains(&target.mask_id)).map(|(i, _)| (i, charge)).collect();
        Self { y_t, t, weight, charges }
    }
}

/// A position of a query's state at which something is charged.
pub(super) struct Row<'a> {
    pub(super) target: Target<'a>,
    query: &'a Query,
    /// The token position.
    pub(super) i: usize,
    charge: Charge,
}

/// What a query is charged.
pub(super) struct Charged<'a> {
    pub(super) query: &'a Query,
    /// Of every charge, in nats.
    pub(super) nats: &'a [f64],
}

impl<'a> Charged<'a> {
    /// The query with the first of `nats`, which are taken off.
    fn first(query: &'a Query, nats: &mut &'a [f64]) -> Self {
        let (own, rest) = nats.split_at(query.charges.len());
        *nats = rest;
        Self { query, nats: own }
    }

    /// The value of the query.
    pub(super) fn value(self) -> f64 {
        self.query.weight * self.nats.iter().sum::<f64>()
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
    /// Checks the settings and encodes the sequences.
    pub(super) fn new(
        network: &'a dyn Denoiser,
        predictive: &'a Predictive,
        group: &'a Group,
        settings: &LikelihoodSettings,
    ) -> Result<Self> {
        settings.validate()?;
        let encoded = group.encode(predictive.codes())?;
        Ok(Self { network, predictive, encoded, count: group.count(), batch: settings.batch })
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

    /// `visit(value)` for every draw of every sequence, in order: the sum of its terms. Returns the number of network
    /// evaluations.
    pub(super) fn for_each_draw(
        &self,
        layout: &Layout,
        build: impl Fn(&Target, usize, usize) -> Option<Query> + Sync,
        mut visit: impl FnMut(f64),
    ) -> Result<u64> {
        let (mut sum, mut terms) = (0.0, 0);
        self.for_each_query(layout, build, |_, charged| {
            sum += charged.map_or(0.0, Charged::value);
            terms += 1;
            if terms == layout.terms {
                visit(std::mem::take(&mut sum));
                terms = 0;
            }
        })
    }

    /// `visit(s, charged)` for every draw and term of every sequence s, in order; `None` where there is nothing to charge.
    /// Returns the number of network evaluations.
    pub(super) fn for_each_query(
        &self,
        layout: &Layout,
        build: impl Fn(&Target, usize, usize) -> Option<Query> + Sync,
        mut visit: impl FnMut(usize, Option<Charged>),
    ) -> Result<u64> {
        let per_sequence = layout.draws * layout.terms;
        let items = self.count * per_sequence;
        let mut evaluations = 0;
        for start in (0..items).step_by(self.batch) {
            let end = start.saturating_add(self.batch).min(items);
            let query = |item: usize| {
                let (s, rest) = (item / per_sequence, item % per_sequence);
                (s, build(&self.encoded.target(s), rest / layout.terms, rest % layout.terms))
            };
            let queries: Vec<(usize, Option<Query>)> = (start..end).into_par_iter().map(query).collect();
            let nats = self.rows(&queries, |p, row| row.nats(p, row.charge))?;
            let mut rest = nats.as_slice();
            for (s, query) in &queries {
                visit(*s, query.as_ref().map(|query| Charged::first(query, &mut rest)));
            }
            evaluations += queries.iter().filter(|(_, query)| query.is_some()).count() as u64;
        }
        Ok(evaluations)
    }

    /// An exact value of every sequence, and what each of its tokens adds to it.
    pub(super) fn exact(
        &self,
        nats: Vec<f64>,
        token_nats: Vec<Vec<f64>>,
        evaluations: u64,
    ) -> Estimate<Exact> {
        let errors = vec![0.0; nats.len()];
        Estimate::new(nats, errors, self.tokens(), evaluations).with_token_nats(token_nats)
    }

    /// An upper bound of every sequence whose draws make one value together: there is no error over draws.
    pub(super) fn bound(&self, nats: Vec<f64>, evaluations: u64) -> Estimate<UpperBound> {
        let errors = vec![f64::NAN; nats.len()];
        Estimate::new(nats, errors, self.tokens(), evaluations)
    }

    /// The number of tokens that every sequence generates.
    fn tokens(&self) -> Vec<u64> {
        (0..self.count).map(|s| self.encoded.target(s).units(RevealUnit::Tokens).len() as u64).collect()
    }

    /// `visit(p, row)` for every charge of the queries, in order, from one network call: p is the distribution at the
    /// row's position.
    pub(super) fn rows<R: Default + Clone + Send>(
        &self,
        queries: &[(usize, Option<Query>)],
        visit: impl Fn(&TokenDistribution, &Row) -> R + Sync,
    ) -> Result<Vec<R>> {
        let (mut y_t, mut t, mut positions, mut rows) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let mut labels = Vec::new();
        for (s, query) in queries.iter().filter_map(|(s, query)| query.as_ref().map(|query| (*s, query))) {
            let first = t.len() * query.y_t.len() / self.predictive.codes().subtoken_len();
            y_t.extend_from_slice(&query.y_t);
            t.push(query.t);
            labels.push(self.encoded.target(s).label);
            positions.extend(query.charges.iter().map(|(i, _)| first + i));
            let target = || self.encoded.target(s);
            rows.extend(query.charges.iter().map(|&(i, charge)| Row { target: target(), query, i, charge }));
        }
        let mut results = vec![R::default(); positions.len()];
        if results.is_empty() {
            return Ok(results);
        }
        let vocab_size = self.predictive.codes().vocab_size();
        let at_once = (1 << 14) / vocab_size + 1;
        let labels = self.network.spec().labels(labels.into_iter());
        let states = States { y_t: &y_t, t: &t, labels: labels.as_deref() };
        self.network.evaluate(&states, &positions, &mut |range, logits| {
            let results = results[range.clone()].par_iter_mut().zip(&rows[range]);
            let results = results.zip(logits.par_chunks(vocab_size)).with_min_len(at_once);
            results.try_for_each(|((result, row), logits)| {
                *result = visit(&self.distribution(row, logits)?, row);
                Ok(())
            })
        })?;
        Ok(results)
    }

    fn distribution(&self, row: &Row, logits: &[f32]) -> Result<TokenDistribution<'_>> {
        let p = self.predictive.distribution(logits, row.y());
        if p.is_proper() {
            return Ok(p);
        }
        Err(Error::NonFinite { what: "logits", needed: "a finite number for at least one possible token" })
    }
}

impl Row<'_> {
    /// The digits of the state's token, \[ℓ\].
    fn y(&self) -> &[u32] {
        &self.query.y_t[self.digits()]
    }

    /// The masked digits j of the token, ascending.
    pub(super) fn masked(&self) -> impl Iterator<Item = usize> {
        self.y().iter().enumerate().filter(|(_, digit)| **digit == self.target.mask_id).map(|(j, _)| j)
    }

    /// The charge of the token, in nats, where `p` is the distribution.
    pub(super) fn nats(&self, p: &TokenDistribution, charge: Charge) -> f64 {
        let y_0 = &self.target.y_0[self.digits()];
        let masked = || self.masked().map(|j| (j, y_0[j]));
        match charge {
            Charge::Token => -p.log_prob(self.target.x_0[self.i]),
            Charge::Marginals => masked().map(|(j, digit)| -p.log_marginal(j, digit)).sum(),
            Charge::Masked => -p.log_joint_marginal(masked()),
            Charge::Set(set) => -p.log_joint_marginal(masked().filter(|(j, _)| set >> j & 1 == 1)),
            Charge::RandomSet(share) => {
                mean_over_sets(&p.log_joint_marginals(&masked().collect::<Vec<_>>()), share)
            }
        }
    }

    fn digits(&self) -> Range<usize> {
        self.i * self.target.subtoken_len..(self.i + 1) * self.target.subtoken_len
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
    /// Number of draws, sum, last draw and sum of squared successive differences of the sequence that is being summed.
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
