//! Exact likelihood of generation in a deterministic order (math.md §6.4; DUEL, arXiv 2603.01367).

use rayon::prelude::*;

use super::charge::{Charge, Row};
use super::estimate::{Estimate, Exact, TopTokens};
use super::problem::{Clean, Layout, Problem};
use super::query::{Block, Charged};
use super::sequences::{Group, LikelihoodSettings, Sequences};
use crate::denoiser::Denoiser;
use crate::order::{self, Order, Ranking};
use crate::predictive::{Predictive, TokenDistribution};
use crate::schedule::{RevealUnit, Schedule};
use crate::{Error, Result};

/// −log p(x_0) = Σ over steps, Σ over tokens i of −log p(y_0^{i,S_i} | y): at every state y the order reveals
/// `per_step` = N of the masked units (the last step what is left), and S_i are the digits of token i among them, charged
/// jointly. Which units those are depends on the state alone, so this is the exact likelihood of the generator that
/// reveals in `order`, N units per step, at the temperature 1 without top-k and nucleus. Nothing is drawn. The estimate has
/// the charge of every token, [`Estimate::token_nats`].
///
/// N = 1 is the chain rule along the order. For N > 1 the tokens of a step are independent given y: that is another
/// generator, and its figure another number.
///
/// With blocks the order is one inside each block, and the blocks follow each other from left to right. Step k of all blocks
/// of a sequence is one evaluation, since a block reads known tokens of those before it, and N is per block. With blocks of
/// one token, revealed whole, there is one step.
///
/// Takes one network evaluation per step, ⌈n/N⌉ for n units (with several blocks those of the largest, and one evaluation
/// more), with logits at every masked position; from left to right
/// only at those that are charged. A digit that carry-over determines is a unit like any other. Of a partly given token
/// the missing digits are a token's unit. A network that reads the time gets [`order::time`]. The order follows scores
/// as they are rounded, so figures from two devices or precisions may differ by more than rounding.
///
/// # Errors
/// [`Error::Invalid`] for [`Order::Random`], which has bounds instead: [`nelbo_subtoken`](super::nelbo_subtoken) and
/// [`bound_k`](super::bound_k); and for N = 0. Else as [`nelbo_subtoken`](super::nelbo_subtoken).
pub fn exact_in_order(
    network: &dyn Denoiser,
    predictive: &Predictive,
    sequences: &Sequences,
    order: Order,
    unit: RevealUnit,
    per_step: usize,
    settings: &LikelihoodSettings,
) -> Result<Estimate<Exact>> {
    let ranking = ranking(order)?;
    if per_step == 0 {
        return Err(Error::invalid("per_step", per_step, "at least 1 unit revealed per step"));
    }
    sequences.by_length(network.spec(), predictive.codes(), |group| {
        let problem = Problem::new(network, predictive, group, settings)?;
        let reveals = Reveals { problem: &problem, ranking, unit, per_step, schedule: &settings.schedule };
        match ranking.reads_prediction() {
            true => reveals.step_by_step(group, settings.batch),
            false => reveals.known_beforehand(group),
        }
    })
}

/// [`exact_in_order`] from left to right, one whole token per step, with the `top` most probable tokens in the place of every
/// token, given those before it: [`Estimate::top_tokens`]. The values are the same.
///
/// # Errors
/// As [`exact_in_order`].
pub fn exact_left_to_right(
    network: &dyn Denoiser,
    predictive: &Predictive,
    sequences: &Sequences,
    top: usize,
    settings: &LikelihoodSettings,
) -> Result<Estimate<Exact>> {
    let ranking = ranking(Order::LeftToRight)?;
    sequences.by_length(network.spec(), predictive.codes(), |group| {
        let problem = Problem::new(network, predictive, group, settings)?.with_top(top);
        let (unit, per_step, schedule) = (RevealUnit::Tokens, 1, &settings.schedule);
        Reveals { problem: &problem, ranking, unit, per_step, schedule }.known_beforehand(group)
    })
}

fn ranking(order: Order) -> Result<&'static dyn Ranking> {
    order.ranking().ok_or_else(|| {
        let names = Order::deterministic_names();
        let allowed = format!("{names}; random orders have bounds instead, nelbo-subtoken and orders");
        Error::invalid("order", order, allowed)
    })
}

/// What is revealed when.
struct Reveals<'a> {
    problem: &'a Problem<'a>,
    ranking: &'a dyn Ranking,
    unit: RevealUnit,
    per_step: usize,
    schedule: &'a Schedule,
}

impl Reveals<'_> {
    /// The states follow from positions alone, so that all of them can be evaluated in any grouping.
    fn known_beforehand(&self, group: &Group) -> Result<Estimate<Exact>> {
        let terms = self.problem.most_units(self.unit).div_ceil(self.per_step);
        let build = |block: &Block, _: usize, step: usize| {
            let units = &block.units;
            let scores: Vec<f64> = units.iter().map(|&index| self.ranking.score(index, &[])).collect();
            let visible = step.saturating_mul(self.per_step);
            let masked: Vec<usize> = order::rank(&scores).iter().skip(visible).map(|&k| units[k]).collect();
            let mut revealed = masked[..self.per_step.min(masked.len())].to_vec();
            revealed.sort_unstable();
            let t = order::time(self.schedule, masked.len(), units.len());
            (!masked.is_empty()).then(|| block.revealing(masked, &revealed, t))
        };
        let mut nats = vec![0.0; group.count()];
        let mut token_nats = vec![vec![0.0; group.seq_len]; group.count()];
        let with_top = if self.problem.top > 0 { group.count() } else { 0 };
        let mut top_tokens = vec![vec![TopTokens::new(); group.seq_len]; with_top];
        let charge = |s: usize, charged: Option<Charged>| {
            let Some(charged) = charged else { return };
            for (token, term) in charged.by_token() {
                token_nats[s][token] += term.nats;
                if let Some(own) = top_tokens.get_mut(s) {
                    own[token].clone_from(&term.top);
                }
            }
            nats[s] += charged.values().map(|(_, nats)| nats).sum::<f64>();
        };
        let layout = Layout { draws: 1, terms, unit: self.unit };
        let evaluations = self.problem.for_each_query(&layout, build, charge)?;
        Ok(self.problem.exact(nats, token_nats, evaluations).with_top_tokens(top_tokens))
    }

    /// Which units come next is known once the network has been asked. The sequences of a batch go together.
    fn step_by_step(&self, group: &Group, batch: usize) -> Result<Estimate<Exact>> {
        let count = group.count();
        let (mut nats, mut token_nats) = (Vec::with_capacity(count), Vec::with_capacity(count));
        let mut evaluations = 0;
        for start in (0..count).step_by(batch) {
            let end = start.saturating_add(batch).min(count);
            let clean = self.problem.keep(start..end, &mut evaluations)?;
            let mut partials: Vec<Partial> =
                (start..end).map(|s| self.masked_sequence(s, group.seq_len)).collect();
            while partials.iter().any(|partial| !partial.masked.is_empty()) {
                evaluations += self.step(&mut partials, clean.as_ref())?;
            }
            nats.extend(partials.iter().map(|partial| partial.nats));
            token_nats.extend(partials.into_iter().map(|partial| partial.token_nats));
        }
        Ok(self.problem.exact(nats, token_nats, evaluations))
    }

    /// One step of all sequences that are not finished. Returns their number.
    fn step(&self, partials: &mut [Partial], clean: Option<&Clean>) -> Result<u64> {
        let query = |partial: &Partial| {
            let part = |block: &Block| {
                let is_masked = |unit: &usize| partial.masked.binary_search(unit).is_ok();
                let masked: Vec<usize> = block.units.iter().copied().filter(is_masked).collect();
                let t = order::time(self.schedule, masked.len(), block.units.len());
                (!masked.is_empty()).then(|| block.uniform(masked, t, 1.0, Charge::Masked))
            };
            (partial.sequence, self.problem.query(partial.sequence, self.unit, part))
        };
        let queries: Vec<_> = partials.par_iter().map(query).collect();
        let mut rows = self.problem.rows(&queries, clean, |p, row| self.candidates(p, row))?.into_iter();
        for (partial, (_, query)) in partials.iter_mut().zip(&queries) {
            for part in query.iter().flat_map(|query| &query.parts) {
                let own: Vec<_> = rows.by_ref().take(part.charges.len()).collect();
                partial.reveal(&own, self.per_step);
            }
        }
        Ok(queries.iter().filter(|(_, query)| query.is_some()).count() as u64)
    }

    /// Sequence s, of `seq_len` tokens, with all units to generate masked.
    fn masked_sequence(&self, sequence: usize, seq_len: usize) -> Partial {
        let masked = self.problem.encoded.target(sequence).units(self.unit);
        Partial { sequence, masked, nats: 0.0, token_nats: vec![0.0; seq_len] }
    }

    /// The masked units of a token, ascending.
    ///
    /// Of the digits of one token those chosen are always the head of their own ranking, whatever other tokens offer.
    /// So a joint charge per digit is enough, and no distribution is kept until the choice is made.
    fn candidates(&self, p: &TokenDistribution, row: &Row) -> Vec<Candidate> {
        let score = |index| self.ranking.score_unit(p, self.unit, index);
        if self.unit == RevealUnit::Tokens {
            let nats = row.nats(p, Charge::Masked);
            return vec![Candidate { token: row.i, unit: row.i, score: score(row.i), nats }];
        }
        let digits: Vec<usize> = row.masked().collect();
        let units: Vec<usize> = digits.iter().map(|j| row.i * p.subtoken_len() + j).collect();
        let scores: Vec<f64> = units.iter().map(|&unit| score(unit)).collect();
        let (mut set, mut nats) = (0, vec![0.0; digits.len()]);
        for k in order::rank(&scores) {
            set |= 1 << digits[k];
            nats[k] = row.nats(p, Charge::Set(set));
        }
        (0..digits.len())
            .map(|k| Candidate { token: row.i, unit: units[k], score: scores[k], nats: nats[k] })
            .collect()
    }
}

/// A masked unit of a token.
#[derive(Clone)]
struct Candidate {
    /// The position of the token.
    token: usize,
    unit: usize,
    score: f64,
    /// The charge of this unit together with those of its token that rank before it.
    nats: f64,
}

/// A sequence on its way from masked to visible.
struct Partial {
    /// Its number s.
    sequence: usize,
    /// The units still masked, ascending.
    masked: Vec<usize>,
    /// What the others were charged.
    nats: f64,
    /// The same by token, \[L\].
    token_nats: Vec<f64>,
}

impl Partial {
    /// Reveals the best `per_step` of the masked units of a block, which `tokens` holds token by token.
    fn reveal(&mut self, tokens: &[Vec<Candidate>], per_step: usize) {
        let scores: Vec<f64> = tokens.iter().flatten().map(|candidate| candidate.score).collect();
        let mut chosen = order::choose(&scores, per_step).into_iter().peekable();
        let mut revealed = Vec::with_capacity(chosen.len());
        let mut first = 0;
        for token in tokens {
            let own = std::iter::from_fn(|| chosen.next_if(|&k| k < first + token.len()))
                .map(|k| &token[k - first]);
            // The last in rank has the charge of all, and the more digits, the larger the charge.
            let charge = own
                .inspect(|candidate| revealed.push(candidate.unit))
                .map(|candidate| candidate.nats)
                .fold(0.0, f64::max);
            self.nats += charge;
            if let Some(candidate) = token.first() {
                self.token_nats[candidate.token] += charge;
            }
            first += token.len();
        }
        self.masked.retain(|unit| revealed.binary_search(unit).is_err());
    }
}
