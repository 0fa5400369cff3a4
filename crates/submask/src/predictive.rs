//! The predictive distribution p_θ(x_0 | y_t) of one token, the carry-over constraint, and digit
//! marginals (math.md §3). The only place where logits are masked.
//!
//! A network gives logits over the C tokens of a position: one joint distribution over its ℓ digits.
//! With carry-over, tokens that contradict a visible digit have probability zero.

pub(crate) mod device;

use serde::{Deserialize, Serialize};

use crate::subtoken::{SubTokenizer, TokenSet, TokenSets};
use crate::{Error, Result};

/// Turns logits into p_θ(x_0^i | y_t).
#[derive(Clone, Debug)]
pub struct Predictive {
    codes: SubTokenizer,
    sets: TokenSets,
    carry_over: bool,
}

/// p_θ(x_0^i | y_t) at one position, normalised over its support.
#[derive(Clone, Debug)]
pub struct TokenDistribution<'a> {
    predictive: &'a Predictive,
    support: TokenSet,
    /// exp(logit − largest), zero outside the support, [C].
    weights: Vec<f64>,
    /// log of the sum of the weights.
    log_total: f64,
    /// logit − largest, [C]; meaningful inside the support.
    shifted: Vec<f64>,
}

/// How logits are sharpened before a draw: temperature, then the constraint, then the softmax, then
/// top-k, then the nucleus.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sharpening {
    /// τ > 0 divides the logits; 1 leaves them. 0 is the limit τ → 0: always the most probable of the possible tokens,
    /// of equals the lowest.
    pub temperature: f64,
    /// Keep the smallest set of most probable tokens whose mass reaches p ∈ (0, 1]; 1 keeps all.
    pub top_p: f64,
    /// Whether the token that crosses p is kept.
    pub nucleus: Nucleus,
    /// Keep the k most probable tokens; `None` keeps all.
    pub top_k: Option<usize>,
}

/// Whether the nucleus keeps the token with which its mass crosses p.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Nucleus {
    /// It is kept: the mass of what is kept is at least p.
    #[default]
    Inclusive,
    /// It is left out, unless it is the most probable token: the mass of what is kept is at most p, or that of one token. So
    /// BD3-LM's sampler has it.
    Exclusive,
}

impl Default for Sharpening {
    fn default() -> Self {
        Self { temperature: 1.0, top_p: 1.0, nucleus: Nucleus::Inclusive, top_k: None }
    }
}

impl Sharpening {
    /// Checks the ranges.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming the field.
    pub fn validate(&self) -> Result<()> {
        if !(self.temperature >= 0.0 && self.temperature.is_finite()) {
            let allowed = "at least 0 (0: always the most probable token)";
            return Err(Error::invalid("temperature", self.temperature, allowed));
        }
        if !(self.top_p > 0.0 && self.top_p <= 1.0) {
            return Err(Error::invalid("top_p", self.top_p, "a number in (0, 1]"));
        }
        if self.top_k == Some(0) {
            return Err(Error::invalid("top_k", 0, "at least 1"));
        }
        Ok(())
    }
}

impl Predictive {
    /// For `codes`, with or without the carry-over constraint.
    pub fn new(codes: SubTokenizer, carry_over: bool) -> Self {
        let sets = TokenSets::new(&codes);
        Self { codes, sets, carry_over }
    }

    /// The sub-tokenizer.
    pub fn codes(&self) -> &SubTokenizer {
        &self.codes
    }

    /// Whether tokens that contradict a visible digit are excluded.
    pub fn carry_over(&self) -> bool {
        self.carry_over
    }

    /// The tokens that get probability: V(y_t^i) with carry-over, else all. `y` holds the ℓ digits.
    pub fn support(&self, y: &[u32]) -> TokenSet {
        if self.carry_over { self.sets.consistent(y) } else { self.sets.all() }
    }

    /// V(y_t^i), the tokens that agree with the visible digits, with or without carry-over.
    pub fn consistent(&self, y: &[u32]) -> TokenSet {
        self.sets.consistent(y)
    }

    /// Calls `visit` with every token of `set` whose digit `j` is `digit`, in increasing order.
    pub fn for_each_with(&self, set: &TokenSet, j: usize, digit: u32, visit: impl FnMut(usize)) {
        self.sets.for_each_with(set, j, digit, visit);
    }

    /// p_θ(x_0^i | y_t) from the logits \[C\] of a position whose digits are `y` \[ℓ\].
    pub fn distribution(&self, logits: &[f32], y: &[u32]) -> TokenDistribution<'_> {
        self.distribution_at(logits, y, 1.0)
    }

    /// The same with the logits divided by a temperature τ ≥ 0 first; at 0 it is the limit τ → 0
    /// ([`Sharpening::temperature`]).
    pub fn distribution_at(&self, logits: &[f32], y: &[u32], temperature: f64) -> TokenDistribution<'_> {
        debug_assert_eq!(logits.len(), self.codes.vocab_size());
        self.distribution_over(logits, self.support(y), temperature)
    }

    /// The same restricted to a support of the caller's.
    pub fn distribution_over(
        &self,
        logits: &[f32],
        support: TokenSet,
        temperature: f64,
    ) -> TokenDistribution<'_> {
        let divisor = if temperature == 0.0 { 1.0 } else { temperature };
        let mut largest = f64::NEG_INFINITY;
        support.for_each(|x| largest = largest.max(f64::from(logits[x])));
        let mut weights = vec![0.0; logits.len()];
        let mut shifted = vec![f64::NEG_INFINITY; logits.len()];
        let mut total = 0.0;
        support.for_each(|x| {
            shifted[x] = (f64::from(logits[x]) - largest) / divisor;
            weights[x] = shifted[x].exp();
            total += weights[x];
        });
        let p = TokenDistribution { predictive: self, support, weights, log_total: total.ln(), shifted };
        if temperature == 0.0 && p.is_proper() { p.concentrated() } else { p }
    }
}

impl TokenDistribution<'_> {
    /// log p(x | y_t) in nats; −∞ outside the support.
    pub fn log_prob(&self, token: u32) -> f64 {
        self.shifted[token as usize] - self.log_total
    }

    /// log p(y^{ij} = v | y_t) in nats: the mass of the tokens in the support whose digit j is v.
    pub fn log_marginal(&self, j: usize, digit: u32) -> f64 {
        let mut mass = 0.0;
        self.predictive.sets.for_each_with(&self.support, j, digit, |x| mass += self.weights[x]);
        mass.ln() - self.log_total
    }

    /// p(y^{ij} = v | y_t) for all values v of digit j, \[b\], from one pass over the support. A value that carry-over
    /// leaves alone has exactly 1.
    pub fn marginals(&self, j: usize) -> Vec<f64> {
        let codes = &self.predictive.codes;
        let mut masses = vec![0.0; codes.base() as usize];
        self.support.for_each(|x| masses[codes.digits(x as u32)[j] as usize] += self.weights[x]);
        normalised(masses)
    }

    /// p(x | y_t) for all tokens x, \[C\]; zero outside the support.
    pub fn probabilities(&self) -> Vec<f64> {
        normalised(self.weights.clone())
    }

    /// Digits per token ℓ.
    pub fn subtoken_len(&self) -> usize {
        self.predictive.codes.subtoken_len()
    }

    /// log p(y^{iS} = v | y_t) in nats for a set S of digits: `digits` yields (j, v_j).
    pub fn log_joint_marginal(&self, digits: impl IntoIterator<Item = (usize, u32)>) -> f64 {
        let mut set = self.support.clone();
        for (j, digit) in digits {
            self.predictive.sets.restrict(&mut set, j, digit);
        }
        let mut mass = 0.0;
        set.for_each(|x| mass += self.weights[x]);
        mass.ln() - self.log_total
    }

    /// log p(y^{iS} = v | y_t) in nats for **every** subset S of the m `digits` (j, v_j): [2^m], bit a of the
    /// index standing for `digits[a]`. One pass over the support, then m·2^m additions.
    pub fn log_joint_marginals(&self, digits: &[(usize, u32)]) -> Vec<f64> {
        let mut masses = vec![0.0; 1 << digits.len()];
        self.support.for_each(|x| {
            let code = self.predictive.codes.digits(x as u32);
            let agrees = |(bit, &(j, digit)): (usize, &(usize, u32))| usize::from(code[j] == digit) << bit;
            masses[digits.iter().enumerate().map(agrees).sum::<usize>()] += self.weights[x];
        });
        for bit in 0..digits.len() {
            for subset in (0..masses.len()).filter(|subset| subset >> bit & 1 == 0) {
                masses[subset] += masses[subset | 1 << bit];
            }
        }
        masses.into_iter().map(|mass| mass.ln() - self.log_total).collect()
    }

    /// Whether the support has a token of positive, finite weight: false where the logits of the support are
    /// all −∞ or hold a NaN or +∞.
    pub fn is_proper(&self) -> bool {
        self.log_total.is_finite()
    }

    /// Calls `visit` with every token of the support and its probability, in increasing order of token.
    pub fn for_each_probability(&self, mut visit: impl FnMut(u32, f64)) {
        let total = self.log_total.exp();
        self.support.for_each(|x| visit(x as u32, self.weights[x] / total));
    }

    /// The most probable token (the lowest of equals) and its probability.
    pub fn mode(&self) -> (u32, f64) {
        let mut best = (0, f64::NEG_INFINITY);
        self.support.for_each(|x| {
            if self.weights[x] > best.1 {
                best = (x, self.weights[x]);
            }
        });
        (best.0 as u32, best.1 / self.log_total.exp())
    }

    /// All probability on the first of the most probable tokens.
    fn concentrated(mut self) -> Self {
        let mut first = None;
        self.support.for_each(|x| first = first.or((self.shifted[x] == 0.0).then_some(x)));
        self.weights.fill(0.0);
        self.shifted.fill(f64::NEG_INFINITY);
        self.support = TokenSet::none(self.weights.len());
        if let Some(x) = first {
            self.support.insert(x as u32);
            (self.weights[x], self.shifted[x]) = (1.0, 0.0);
        }
        self.log_total = 0.0;
        self
    }

    /// Keeps the k most probable tokens, then the smallest set of them whose mass reaches p, with or without the token that
    /// crosses p as the nucleus says. Equal probabilities are ordered by token. The temperature is not read: see
    /// [`Predictive::distribution_at`].
    pub fn truncate(mut self, sharpening: &Sharpening) -> Self {
        let Sharpening { top_k, top_p, nucleus, .. } = *sharpening;
        if top_p >= 1.0 && top_k.is_none_or(|k| k >= self.support.len()) {
            return self;
        }
        let mut order = Vec::with_capacity(self.support.len());
        self.support.for_each(|x| order.push(x));
        order.sort_by(|&a, &b| self.weights[b].total_cmp(&self.weights[a]).then(a.cmp(&b)));
        order.truncate(top_k.unwrap_or(order.len()));
        let target = top_p * order.iter().map(|&x| self.weights[x]).sum::<f64>();
        let mut kept = TokenSet::none(self.weights.len());
        let mut total = 0.0;
        for (rank, x) in order.into_iter().enumerate() {
            total += self.weights[x];
            if nucleus == Nucleus::Exclusive && top_p < 1.0 && rank > 0 && total > target {
                break;
            }
            kept.insert(x as u32);
            if nucleus == Nucleus::Inclusive && top_p < 1.0 && total >= target {
                break;
            }
        }
        for (x, weight) in self.weights.iter_mut().enumerate() {
            if !kept.contains(x as u32) {
                *weight = 0.0;
                self.shifted[x] = f64::NEG_INFINITY;
            }
        }
        // Summed in token order, so that the draw below walks the same partial sums.
        self.log_total = self.weights.iter().sum::<f64>().ln();
        self.support = kept;
        self
    }

    /// The cumulative distribution as a table, for several draws.
    pub fn cumulative(&self) -> Cumulative {
        let mut sum = 0.0;
        let sums: Vec<f64> = self
            .weights
            .iter()
            .map(|weight| {
                sum += weight;
                sum
            })
            .collect();
        let last = self.weights.iter().rposition(|weight| *weight > 0.0).unwrap_or(0);
        Cumulative { sums, last: last as u32, total: self.log_total.exp() }
    }

    /// The token at `uniform` ∈ (0, 1) of the cumulative distribution, in token order.
    pub fn draw(&self, uniform: f64) -> u32 {
        let target = uniform * self.log_total.exp();
        let (mut sum, mut chosen, mut last) = (0.0, None, 0);
        self.support.for_each(|x| {
            if chosen.is_none() && self.weights[x] > 0.0 {
                sum += self.weights[x];
                last = x;
                if sum > target {
                    chosen = Some(x);
                }
            }
        });
        chosen.unwrap_or(last) as u32
    }
}

/// Divides by the sum.
fn normalised(mut masses: Vec<f64>) -> Vec<f64> {
    let total: f64 = masses.iter().sum();
    masses.iter_mut().for_each(|mass| *mass /= total);
    masses
}

/// A cumulative distribution over tokens, in token order.
#[derive(Clone, Debug)]
pub struct Cumulative {
    /// Partial sums of the weights, \[C\].
    sums: Vec<f64>,
    /// The last token of positive weight.
    last: u32,
    total: f64,
}

impl Cumulative {
    /// The same token as [`TokenDistribution::draw`] gives.
    pub fn draw(&self, uniform: f64) -> u32 {
        let target = uniform * self.total;
        let token = self.sums.partition_point(|sum| *sum <= target);
        (token as u32).min(self.last)
    }
}

/// Which values the next digit of a token may take so that some token still agrees with the `visible` digits
/// before it: \[b\] flags.
pub fn next_digits(predictive: &Predictive, visible: &[u32]) -> Vec<bool> {
    let codes = predictive.codes();
    let set = predictive.consistent(visible);
    let mut allowed = vec![false; codes.base() as usize];
    set.for_each(|x| allowed[codes.digits(x as u32)[visible.len()] as usize] = true);
    allowed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn predictive(carry_over: bool) -> Predictive {
        Predictive::new(SubTokenizer::new(5, 2).unwrap(), carry_over)
    }

    fn nucleus(top_k: Option<usize>, top_p: f64) -> Sharpening {
        Sharpening { top_k, top_p, ..Sharpening::default() }
    }

    const LOGITS: [f32; 5] = [0.1, -1.0, 2.0, 0.5, 0.0];

    #[test]
    fn probabilities_sum_to_one_and_vanish_outside_the_support() {
        let predictive = predictive(true);
        let p = predictive.distribution(&LOGITS, &[0, 3]);
        assert!(((0..3).map(|x| p.log_prob(x).exp()).sum::<f64>() - 1.0).abs() < 1e-12);
        assert_eq!(p.log_prob(3), f64::NEG_INFINITY);
        let clean = predictive.distribution(&LOGITS, &[1, 0]);
        assert_eq!(clean.log_prob(3), 0.0);
    }

    #[test]
    fn marginals_sum_the_tokens_that_share_a_digit() {
        for carry_over in [false, true] {
            let predictive = predictive(carry_over);
            let p = predictive.distribution(&LOGITS, &[3, 1]);
            let shared = p.log_prob(1).exp() + p.log_prob(4).exp();
            assert!((p.log_marginal(1, 1).exp() - shared).abs() < 1e-12);
            let joint = p.log_joint_marginal([(0, 1), (1, 1)]);
            assert!((joint - p.log_prob(4)).abs() < 1e-12);
            let both: f64 = (0..3).map(|v| p.log_marginal(1, v).exp()).sum();
            assert!((both - 1.0).abs() < 1e-12);
            for j in 0..2 {
                let all = p.marginals(j);
                assert_eq!(all.len(), 3);
                let one = |v| p.log_marginal(j, v as u32).exp();
                assert!(all.iter().enumerate().all(|(v, mass)| (mass - one(v)).abs() < 1e-12));
            }
            let all = p.probabilities();
            assert!(all.iter().enumerate().all(|(x, q)| (q - p.log_prob(x as u32).exp()).abs() < 1e-12));
        }
    }

    #[test]
    fn all_joint_marginals_at_once_are_the_single_ones() {
        for carry_over in [false, true] {
            let predictive = predictive(carry_over);
            let p = predictive.distribution(&LOGITS, &[1, 3]);
            let all = p.log_joint_marginals(&[(1, 1), (0, 1)]);
            assert!(all[0].abs() < 1e-12);
            assert!((all[1] - p.log_marginal(1, 1)).abs() < 1e-12);
            assert!((all[2] - p.log_marginal(0, 1)).abs() < 1e-12);
            assert!((all[3] - p.log_joint_marginal([(0, 1), (1, 1)])).abs() < 1e-12);
        }
    }

    #[test]
    fn a_support_without_finite_logits_is_not_proper() {
        let predictive = predictive(true);
        let logits = [0.0, 0.0, 0.0, f32::NEG_INFINITY, f32::NEG_INFINITY];
        assert!(!predictive.distribution(&logits, &[1, 3]).is_proper());
        assert!(predictive.distribution(&logits, &[3, 0]).is_proper());
        assert!(!predictive.distribution(&[f32::NAN; 5], &[3, 0]).is_proper());
    }

    #[test]
    fn at_temperature_zero_the_most_probable_possible_token_is_certain() {
        let logits = [0.1, 0.7, 2.0, 0.7, 0.0];
        // Tokens as digits in base 3: (0, 0), (0, 1), (0, 2), (1, 0), (1, 1).
        for (carry_over, y, expected) in
            [(true, [3, 3], 2), (true, [1, 3], 3), (true, [3, 1], 1), (false, [1, 3], 2), (true, [1, 1], 4)]
        {
            let predictive = predictive(carry_over);
            let p = predictive.distribution_at(&logits, &y, 0.0);
            assert!(p.is_proper());
            assert!([1e-9, 0.5, 1.0 - 1e-9].iter().all(|uniform| p.draw(*uniform) == expected));
            assert_eq!(p.cumulative().draw(0.3), expected);
            assert_eq!((p.mode(), p.log_prob(expected)), ((expected, 1.0), 0.0));
            assert!((0..5).all(|x| x == expected || p.log_prob(x) == f64::NEG_INFINITY));
            let high = predictive.codes().digits(expected)[0];
            assert_eq!((p.log_marginal(0, high), p.marginals(0)[high as usize]), (0.0, 1.0));
            assert_eq!(p.truncate(&nucleus(Some(3), 0.1)).draw(0.5), expected);
        }
    }

    #[test]
    fn at_temperature_zero_the_lowest_of_equals_is_taken_and_nearly_equals_are_told_apart() {
        let predictive = predictive(true);
        let draw = |logits: [f32; 5]| predictive.distribution_at(&logits, &[3, 3], 0.0).draw(0.9);
        assert_eq!(draw([0.0; 5]), 0);
        assert_eq!(draw([f32::NEG_INFINITY, -2.0, -1.0, -3.0, -1.0]), 2);
        assert_eq!(draw([1e-30, 2e-30, 0.0, 2e-30, -1e-30]), 1);
        for improper in [[f32::NAN; 5], [0.0, f32::NAN, 0.0, 0.0, 0.0], [f32::NEG_INFINITY; 5]] {
            assert!(!predictive.distribution_at(&improper, &[3, 3], 0.0).is_proper());
        }
        assert!(!predictive.distribution_at(&[0.0, f32::INFINITY, 0.0, 0.0, 0.0], &[3, 3], 0.0).is_proper());
    }

    #[test]
    fn temperatures_from_zero_on_are_allowed() {
        let check = |temperature| Sharpening { temperature, ..Sharpening::default() }.validate();
        check(0.0).unwrap();
        check(2.5).unwrap();
        for temperature in [-0.1, f64::NAN, f64::INFINITY] {
            let error = check(temperature).unwrap_err().to_string();
            assert!(error.starts_with("temperature") && error.contains("at least 0"), "{error}");
        }
    }

    #[test]
    fn the_nucleus_keeps_the_crossing_token() {
        let predictive = Predictive::new(SubTokenizer::new(4, 1).unwrap(), true);
        let logits = [0.4f32.ln(), 0.3f32.ln(), 0.2f32.ln(), 0.1f32.ln()];
        let kept = |top_k, top_p| {
            let p = predictive.distribution(&logits, &[4]).truncate(&nucleus(top_k, top_p));
            (0..4).filter(|&x| p.log_prob(x) > f64::NEG_INFINITY).count()
        };
        assert_eq!(kept(None, 0.39), 1);
        assert_eq!(kept(None, 0.41), 2);
        assert_eq!(kept(None, 0.71), 3);
        assert_eq!(kept(Some(2), 1.0), 2);
        assert_eq!(kept(None, 1.0), 4);
    }

    #[test]
    fn the_exclusive_nucleus_leaves_the_crossing_token_out_but_never_the_first() {
        let predictive = Predictive::new(SubTokenizer::new(4, 1).unwrap(), true);
        let logits = [0.1f32.ln(), 0.4f32.ln(), 0.2f32.ln(), 0.3f32.ln()];
        let kept = |top_k, top_p| {
            let exclusive = Sharpening { nucleus: Nucleus::Exclusive, ..nucleus(top_k, top_p) };
            let p = predictive.distribution(&logits, &[4]).truncate(&exclusive);
            let kept: Vec<u32> = (0..4).filter(|&x| p.log_prob(x) > f64::NEG_INFINITY).collect();
            assert!((kept.iter().map(|&x| p.log_prob(x).exp()).sum::<f64>() - 1.0).abs() < 1e-12);
            kept
        };
        assert_eq!(kept(None, 0.1), [1]);
        assert_eq!(kept(None, 0.41), [1]);
        assert_eq!(kept(None, 0.69), [1]);
        assert_eq!(kept(None, 0.71), [1, 3]);
        assert_eq!(kept(None, 0.99), [1, 2, 3]);
        assert_eq!(kept(None, 1.0), [0, 1, 2, 3]);
        // Of the two most probable the shares are 4/7 and 3/7.
        assert_eq!(kept(Some(2), 0.9), [1]);
        assert_eq!(kept(Some(2), 1.0), [1, 3]);
    }

    #[test]
    fn draws_follow_the_cumulative_distribution() {
        let predictive = predictive(true);
        let p = predictive.distribution_at(&LOGITS, &[3, 3], 0.7);
        let n = 10_000;
        let mut counts = [0usize; 5];
        for k in 0..n {
            counts[p.draw((k as f64 + 0.5) / n as f64) as usize] += 1;
        }
        for (x, &count) in counts.iter().enumerate() {
            assert!((count as f64 / n as f64 - p.log_prob(x as u32).exp()).abs() < 2.0 / n as f64);
        }
    }

    #[test]
    fn the_cumulative_table_draws_the_same_tokens() {
        let predictive = predictive(true);
        for (y, top_k) in [([3, 3], None), ([0, 3], None), ([3, 1], None), ([3, 3], Some(2))] {
            let p = predictive.distribution(&LOGITS, &y).truncate(&nucleus(top_k, 1.0));
            let cumulative = p.cumulative();
            for k in 0..=1000 {
                let uniform = f64::from(k) / 1000.0;
                assert_eq!(cumulative.draw(uniform), p.draw(uniform));
            }
        }
    }
}
