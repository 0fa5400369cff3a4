//! What a position of a state is charged.

use super::estimate::TopTokens;
use super::sequences::Target;
use crate::predictive::TokenDistribution;
use crate::schedule::RevealUnit;
use crate::subtoken::SubTokenizer;

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

/// A charge in nats, and the most probable tokens in its place, where they are kept.
#[derive(Clone, Debug, Default)]
pub(super) struct Term {
    pub(super) nats: f64,
    pub(super) top: TopTokens,
}

/// A position of a state at which something is charged.
pub(super) struct Row<'a> {
    pub(super) target: Target<'a>,
    /// The token position.
    pub(super) i: usize,
    /// The digits of the state's token, \[ℓ\].
    pub(super) y: &'a [u32],
    pub(super) charge: Charge,
}

impl Row<'_> {
    /// The masked digits j of the token, ascending.
    pub(super) fn masked(&self) -> impl Iterator<Item = usize> {
        self.y.iter().enumerate().filter(|(_, digit)| **digit == self.target.mask_id).map(|(j, _)| j)
    }

    /// The `top` most probable tokens in this place, the lowest of equals first. Each has the log-probability, to the last bit,
    /// that it would be charged with [`Charge::Masked`].
    pub(super) fn top_tokens(&self, p: &TokenDistribution, codes: &SubTokenizer, top: usize) -> TopTokens {
        if top == 0 {
            return Vec::new();
        }
        let mut tokens = Vec::new();
        p.for_each_probability(|token, probability| tokens.push((token, probability)));
        keep_top(&mut tokens, top);
        for (token, value) in &mut tokens {
            let digits = codes.digits(*token);
            *value = p.log_joint_marginal(self.masked().map(|j| (j, digits[j])));
        }
        tokens
    }

    /// The charge of the token, in nats, where `p` is the distribution.
    pub(super) fn nats(&self, p: &TokenDistribution, charge: Charge) -> f64 {
        let y_0 = &self.target.y_0[self.i * self.y.len()..][..self.y.len()];
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
}

/// Keeps the `top` tokens of largest value, the largest first and the lowest of equals.
pub(super) fn keep_top(tokens: &mut TopTokens, top: usize) {
    let order = |a: &(u32, f64), b: &(u32, f64)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
    if top < tokens.len() {
        tokens.select_nth_unstable_by(top, order);
        tokens.truncate(top);
    }
    tokens.sort_unstable_by(order);
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
