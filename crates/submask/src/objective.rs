//! Training objectives: `joint` and `marginal` (math.md §4), and `cross-entropy` (§8).
//!
//! Per token, times w(t): `joint` charges −log p_θ(x_0^i | y_t), `marginal` charges
//! Σ over masked j of −log p_θ(y_0^{ij} | y_t); `cross-entropy` is `joint` without the weight. With carry-over a fully visible token costs nothing, so
//! it needs no logits. The joint objective is no bound of a likelihood (math.md §5).

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use burn::tensor::{Device, Int, Tensor, TensorData, activation};
use serde::{Deserialize, Serialize};

use crate::ops::{ComposedLoss, DigitRows, RowCost, RowLoss, integers, lanes};
use crate::predictive::Predictive;
use crate::predictive::device::DeviceCodes;
use crate::schedule::Schedule;
use crate::subtoken::TokenSet;

/// Which training loss.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Objective {
    /// −log p_θ(x_0^i | y_t): the paper's objective.
    #[default]
    Joint,
    /// Σ over masked digits of −log p_θ(y_0^{ij} | y_t): the integrand of the valid bound.
    Marginal,
    /// −log p_θ(x_0^i | y_t) with weight 1 at all times: the paper's objective for images.
    CrossEntropy,
}

impl Objective {
    /// Its name in settings and records.
    pub fn name(self) -> &'static str {
        match self {
            Self::Joint => "joint",
            Self::Marginal => "marginal",
            Self::CrossEntropy => "cross-entropy",
        }
    }

    /// What a token's loss at time t is multiplied by: w(t), or 1.
    pub fn weight(self, schedule: &Schedule, t: f64) -> f64 {
        match self {
            Self::Joint | Self::Marginal => schedule.weight(t),
            Self::CrossEntropy => 1.0,
        }
    }
}

/// The rows of a batch that are charged: one row a token, with its digits, its target and its weight.
#[derive(Debug)]
pub struct LossRows {
    predictive: Arc<Predictive>,
    objective: Objective,
    /// The token that each row is to predict, \[n\].
    x_0: Vec<u32>,
    /// Digits the network saw, [n, ℓ].
    y_t: Vec<u32>,
    /// w(t) over the number of positions that the mean runs over, [n].
    weights: Vec<f32>,
}

impl LossRows {
    /// Rows with targets `x_0` \[n\] (below C), digits `y_t` [n, ℓ], each the target's or the mask, and weights \[n\].
    pub fn new(
        predictive: Arc<Predictive>,
        objective: Objective,
        x_0: Vec<u32>,
        y_t: Vec<u32>,
        weights: Vec<f32>,
    ) -> Self {
        debug_assert_eq!(x_0.len(), weights.len());
        debug_assert_eq!(x_0.len() * predictive.codes().subtoken_len(), y_t.len());
        Self { predictive, objective, x_0, y_t, weights }
    }

    /// The rows `rows` of these.
    pub(crate) fn part(&self, rows: &[usize]) -> Self {
        Self {
            predictive: self.predictive.clone(),
            objective: self.objective,
            x_0: rows.iter().map(|&row| self.x_0[row]).collect(),
            y_t: rows.iter().flat_map(|&row| self.digits(row).iter().copied()).collect(),
            weights: rows.iter().map(|&row| self.weights[row]).collect(),
        }
    }

    /// Number of rows n.
    pub fn len(&self) -> usize {
        self.x_0.len()
    }

    /// Whether nothing is charged.
    pub fn is_empty(&self) -> bool {
        self.x_0.is_empty()
    }

    fn digits(&self, row: usize) -> &[u32] {
        let len = self.predictive.codes().subtoken_len();
        &self.y_t[row * len..(row + 1) * len]
    }

    /// The masked digits of a row, with their targets.
    fn masked(&self, row: usize) -> impl Iterator<Item = (usize, u32)> + '_ {
        let codes = self.predictive.codes();
        let target = codes.digits(self.x_0[row]);
        let mask = codes.mask_id();
        self.digits(row)
            .iter()
            .zip(target)
            .enumerate()
            .filter(move |(_, (y, _))| **y == mask)
            .map(|(j, (_, v))| (j, *v))
    }

    /// weight·loss of a row whose target is at `target` of the logits: `softmax` turns them into factor·softmax and
    /// returns log Σ exp(logit), `having` gives the places of the tokens with a digit at j.
    fn charge(
        &self,
        row: usize,
        target: usize,
        logits: &mut [f32],
        softmax: impl FnOnce(&mut [f32], f32) -> f64,
        having: impl Fn(usize, u32) -> Vec<usize>,
    ) -> f64 {
        let weight = self.weights[row];
        match self.objective {
            Objective::Joint | Objective::CrossEntropy => {
                let own = logits[target];
                let log_total = softmax(logits, weight);
                logits[target] -= weight;
                f64::from(weight) * (log_total - f64::from(own))
            }
            Objective::Marginal => {
                let terms: Vec<MarginalTerm> =
                    self.masked(row).map(|(j, v)| MarginalTerm::new(having(j, v), logits)).collect();
                let log_total = softmax(logits, weight * terms.len() as f32);
                let mut loss = 0.0;
                for term in &terms {
                    loss += log_total - term.log_mass;
                    for &(x, share) in &term.shares {
                        logits[x] -= weight * share;
                    }
                }
                f64::from(weight) * loss
            }
        }
    }

    /// Σ over rows of weight·loss, composed of tensor operations from logits [n, C]: the reference of
    /// [`crate::ops::Kernels::head_loss`], result \[1\].
    #[doc(hidden)]
    pub fn loss(&self, logits: Tensor<2>) -> Tensor<1> {
        let codes = DeviceCodes::new(&self.predictive, &logits.device());
        self.loss_of(0..self.len(), logits, &codes)
    }

    /// The same of some `rows`, given the codes on the logits' device.
    fn loss_of(&self, rows: Range<usize>, logits: Tensor<2>, codes: &DeviceCodes) -> Tensor<1> {
        let (device, n) = (logits.device(), rows.len());
        let len = self.predictive.codes().subtoken_len();
        let targets: Tensor<1, Int> = integers(self.x_0[rows.clone()].iter().copied(), [n], &device);
        let digits = &self.y_t[rows.start * len..rows.end * len];
        let y_t = integers(digits.iter().copied(), [n, len], &device);
        let weights = TensorData::new(self.weights[rows].to_vec(), [n, 1]);
        let weights = Tensor::<2>::from_data(weights, &device);
        let log_probs = activation::log_softmax(codes.constrain(logits, &y_t), 1);
        match self.objective {
            Objective::Joint | Objective::CrossEntropy => {
                (log_probs.gather(1, targets.unsqueeze_dim(1)) * weights).sum().neg()
            }
            Objective::Marginal => {
                let (digits, mask) = (codes.digits(targets), self.predictive.codes().mask_id());
                let mut total = Tensor::<1>::zeros([1], &device);
                for j in 0..len {
                    let others = codes.differing(&digits, j);
                    let log_mass = log_sum_exp(log_probs.clone().mask_fill(others, f32::NEG_INFINITY));
                    let visible = y_t.clone().narrow(1, j, 1).not_equal_scalar(mask);
                    total = total - (log_mass * weights.clone()).mask_fill(visible, 0.0).sum();
                }
                total
            }
        }
    }
}

impl RowLoss for LossRows {
    fn len(&self) -> usize {
        self.x_0.len()
    }

    /// The tokens that get probability.
    fn support(&self, row: usize) -> TokenSet {
        self.predictive.support(self.digits(row))
    }

    /// Rows that saw the same digits.
    fn group_by_support(&self) -> Vec<Vec<usize>> {
        let mut groups = BTreeMap::<&[u32], Vec<usize>>::new();
        for row in 0..self.x_0.len() {
            groups.entry(self.digits(row)).or_default().push(row);
        }
        groups.into_values().collect()
    }

    fn loss_and_gradient(&self, row: usize, logits: &mut [f32]) -> f64 {
        let support = self.support(row);
        let having = |j, digit| {
            let mut tokens = Vec::new();
            self.predictive.for_each_with(&support, j, digit, |x| tokens.push(x));
            tokens
        };
        let softmax = |logits: &mut [f32], factor| softmax_over(&support, logits, factor);
        self.charge(row, self.x_0[row] as usize, logits, softmax, having)
    }

    fn loss_and_gradient_within(&self, row: usize, tokens: &[u32], logits: &mut [f32]) -> f64 {
        let target = tokens.partition_point(|&x| x < self.x_0[row]);
        let codes = self.predictive.codes();
        let having = |j: usize, digit| {
            let indices = tokens.iter().enumerate();
            indices.filter_map(|(i, &x)| (codes.digits(x)[j] == digit).then_some(i)).collect()
        };
        self.charge(row, target, logits, softmax_of_all, having)
    }

    fn composed(&self, device: &Device) -> ComposedLoss<'_> {
        let codes = DeviceCodes::new(&self.predictive, device);
        Box::new(move |rows, logits| self.loss_of(rows, logits, &codes))
    }

    fn by_digits(&self) -> Option<DigitRows<'_>> {
        Some(DigitRows {
            codes: self.predictive.codes(),
            carry_over: self.predictive.carry_over(),
            cost: match self.objective {
                Objective::Joint | Objective::CrossEntropy => RowCost::Token,
                Objective::Marginal => RowCost::MaskedDigits,
            },
            y_t: &self.y_t,
            x_0: &self.x_0,
            weights: &self.weights,
        })
    }
}

/// log Σ exp(x) of every row, [n, 1]; each has a finite number.
fn log_sum_exp(x: Tensor<2>) -> Tensor<2> {
    let largest = x.clone().detach().max_dim(1);
    (x - largest.clone()).exp().sum_dim(1).log() + largest
}

/// One masked digit: log Σ exp(logit) over the tokens that have its target value, and their shares of it.
struct MarginalTerm {
    log_mass: f64,
    shares: Vec<(usize, f32)>,
}

impl MarginalTerm {
    /// Of the tokens whose logits stand at `places`.
    fn new(places: Vec<usize>, logits: &[f32]) -> Self {
        let mut shares: Vec<(usize, f32)> = places.into_iter().map(|x| (x, logits[x])).collect();
        let largest = shares.iter().fold(f32::MIN, |a, (_, logit)| a.max(*logit));
        let mut mass = 0.0;
        for (_, share) in &mut shares {
            *share = lanes::exp(*share - largest);
            mass += f64::from(*share);
        }
        let inverse = (1.0 / mass) as f32;
        shares.iter_mut().for_each(|(_, share)| *share *= inverse);
        Self { log_mass: mass.ln() + f64::from(largest), shares }
    }
}

/// Turns logits into factor·softmax over `support` (zero outside) and returns log Σ exp(logit) over it.
fn softmax_over(support: &TokenSet, logits: &mut [f32], factor: f32) -> f64 {
    lanes::vectorized(
        #[inline(always)]
        || softmax_over_words(support.words(), logits, factor),
    )
}

#[inline(always)]
fn softmax_over_words(words: &[u64], logits: &mut [f32], factor: f32) -> f64 {
    let mut largest = f32::MIN;
    for (word, chunk) in words.iter().zip(logits.chunks_mut(64)) {
        match *word {
            0 => {}
            u64::MAX => largest = largest.max(lanes::max(chunk)),
            word => {
                for (bit, logit) in chunk.iter().enumerate() {
                    largest = if word >> bit & 1 == 1 { largest.max(*logit) } else { largest };
                }
            }
        }
    }
    for (word, chunk) in words.iter().zip(logits.chunks_mut(64)) {
        if *word == 0 {
            chunk.fill(0.0);
            continue;
        }
        for (bit, logit) in chunk.iter_mut().enumerate() {
            let inside = if word >> bit & 1 == 1 { 1.0 } else { 0.0 };
            *logit = lanes::exp(*logit - largest) * inside;
        }
    }
    scale_to(logits, factor, largest)
}

/// Turns logits into factor·softmax and returns log Σ exp(logit).
fn softmax_of_all(logits: &mut [f32], factor: f32) -> f64 {
    lanes::vectorized(
        #[inline(always)]
        || {
            let largest = lanes::max(logits);
            for x in logits.iter_mut() {
                *x = lanes::exp(*x - largest);
            }
            scale_to(logits, factor, largest)
        },
    )
}

/// Scales exp(logit − largest) to the sum `factor` and returns log Σ exp(logit).
#[inline(always)]
fn scale_to(exponentials: &mut [f32], factor: f32, largest: f32) -> f64 {
    let total = lanes::sum(exponentials, |x| x);
    let scale = factor / total;
    exponentials.iter_mut().for_each(|x| *x *= scale);
    f64::from(total).ln() + f64::from(largest)
}
