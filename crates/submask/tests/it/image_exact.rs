//! The exact distribution of the image samplers, by dynamic programming over all states of the plain loop with T
//! steps. Written from math.md §7 and §8 alone: it shares no code with the library but the digits of a token.

use std::collections::BTreeMap;

use crate::table_network::TableNetwork;

/// Probabilities of states.
type States = BTreeMap<Vec<u32>, f64>;

/// The sampler whose distribution is wanted.
#[derive(Clone)]
pub struct ExactImageSampler<'a> {
    /// Their predictions are averaged.
    pub networks: Vec<&'a TableNetwork>,
    pub carry_over: bool,
    /// Digits drawn each by itself, or one token.
    pub marginal: bool,
    pub steps: usize,
    /// n of α = uⁿ.
    pub exponent: f64,
    /// τ(u) = a·uⁿ + c.
    pub temperature: [f64; 3],
    /// u ↦ 1 − a(1 − u)ⁿ + c, n = 0 being off.
    pub warp: [f64; 3],
    /// κ(u) = k·uᵖ(1 − u)ᵖ.
    pub corrector: Option<[f64; 3]>,
    /// A wrong sampler: the joint one jumps to fresh digits too.
    pub fresh_target: bool,
    /// A wrong sampler: it jumps in the last step too.
    pub last_jumps: bool,
}

/// A step from u to s, both warped.
#[derive(Clone, Copy)]
struct Step {
    u: f64,
    s: f64,
    last: bool,
}

impl<'a> ExactImageSampler<'a> {
    pub fn new(network: &'a TableNetwork, steps: usize) -> Self {
        Self {
            networks: vec![network],
            carry_over: false,
            marginal: false,
            steps,
            exponent: 3.0,
            temperature: [1.0, 0.0, 0.0],
            warp: [1.0, 0.0, 0.0],
            corrector: None,
            fresh_target: false,
            last_jumps: false,
        }
    }

    /// P(x_0) for every sequence of tokens, the last token fastest, starting from `y`, whose visible digits are given.
    pub fn distribution(&self, y: &[u32]) -> Vec<f64> {
        let mut states = States::from([(y.to_vec(), 1.0)]);
        for k in 0..self.steps {
            let (u, s) = (self.warped(k), self.warped(k + 1));
            let step = Step { u, s, last: k + 1 == self.steps };
            states = push(&states, |now| {
                let mut joint = States::from([(Vec::new(), 1.0)]);
                for i in 0..self.networks[0].seq_len {
                    let token = self.token_step(now, y, i, step);
                    joint = push(&joint, |before| {
                        token.iter().map(|(digits, p)| ([before.as_slice(), digits].concat(), *p)).collect()
                    });
                }
                joint
            });
        }
        let codes = &self.networks[0].codes;
        let vocab_size = codes.vocab_size();
        let mut probabilities = vec![0.0; vocab_size.pow(self.networks[0].seq_len as u32)];
        for (y, p) in &states {
            // The sampler that jumps in the last step leaves masks: that mass is lost, as a distance.
            if let Ok(tokens) = codes.decode(y) {
                probabilities[tokens.iter().fold(0, |index, &x| index * vocab_size + x as usize)] += p;
            }
        }
        probabilities
    }

    fn warped(&self, k: usize) -> f64 {
        let ([a, n, c], u) = (self.warp, k as f64 / self.steps as f64);
        if n == 0.0 { u } else { 1.0 - a * (1.0 - u).powf(n) + c }
    }

    /// The digits of token i after a step.
    fn token_step(&self, now: &[u32], start: &[u32], i: usize, step: Step) -> States {
        let codes = &self.networks[0].codes;
        let (len, mask) = (codes.subtoken_len(), codes.mask_id());
        let y = &now[i * len..(i + 1) * len];
        let given: Vec<bool> = start[i * len..(i + 1) * len].iter().map(|&digit| digit != mask).collect();
        let (alpha, next) = (step.u.powf(self.exponent), step.s.powf(self.exponent));
        let share = if step.last { 1.0 } else { (next - alpha) / (1.0 - alpha) };
        let all: Vec<u32> = (0..codes.vocab_size() as u32).collect();
        let possible: Vec<u32> = all.iter().copied().filter(|&x| self.agrees(y, x)).collect();
        let p = self.predicted(now, i, step.u, if self.carry_over { &possible } else { &all });
        let constrained = self.predicted(now, i, step.u, &possible);
        let masked: Vec<usize> = (0..len).filter(|&j| y[j] == mask).collect();
        let mut after = States::new();
        for set in 0..1usize << masked.len() {
            let reveals: Vec<usize> =
                (0..masked.len()).filter(|bit| set >> bit & 1 == 1).map(|bit| masked[bit]).collect();
            let hidden = (masked.len() - reveals.len()) as i32;
            let weight = share.powi(reveals.len() as i32) * (1.0 - share).powi(hidden);
            if weight == 0.0 {
                continue;
            }
            for (digits, target, q) in self.ancestral(y, &reveals, &p, &constrained) {
                let targets: Vec<Vec<(u32, f64)>> = match target {
                    Some(x) if !self.fresh_target => {
                        codes.digits(x).iter().map(|&v| vec![(v, 1.0)]).collect()
                    }
                    _ => (0..len).map(|j| self.digit_marginal(&p, j)).collect(),
                };
                for (state, r) in self.jumps(&digits, &given, &targets, step) {
                    *after.entry(state).or_default() += weight * q * r;
                }
            }
        }
        after
    }

    /// (digits after the ancestral step, x̂ of the joint sampler, probability).
    fn ancestral(
        &self,
        y: &[u32],
        reveals: &[usize],
        p: &[(u32, f64)],
        constrained: &[(u32, f64)],
    ) -> Vec<(Vec<u32>, Option<u32>, f64)> {
        let codes = &self.networks[0].codes;
        let copied = |x: u32| {
            let mut digits = y.to_vec();
            reveals.iter().for_each(|&j| digits[j] = codes.digits(x)[j]);
            digits
        };
        let first: Vec<(Vec<u32>, Option<u32>, f64)> = if self.marginal {
            let mut states = States::from([(y.to_vec(), 1.0)]);
            for &j in reveals {
                states = push(&states, |digits| {
                    let put = |(v, p)| {
                        let mut digits = digits.clone();
                        digits[j] = v;
                        (digits, p)
                    };
                    self.digit_marginal(p, j).into_iter().map(put).collect()
                });
            }
            states.into_iter().map(|(digits, p)| (digits, None, p)).collect()
        } else {
            p.iter().map(|&(x, p)| (copied(x), Some(x), p)).collect()
        };
        let (valid, invalid): (Vec<_>, Vec<_>) =
            first.into_iter().partition(|(digits, ..)| self.is_possible(digits));
        let refused: f64 = invalid.iter().map(|(.., p)| p).sum();
        let again = constrained.iter().map(|&(x, p)| (copied(x), (!self.marginal).then_some(x), refused * p));
        valid.into_iter().chain(again.filter(|(.., p)| *p > 0.0)).collect()
    }

    /// Jumps of the corrector: every digit that was not given on its own, and none at all where together they would
    /// leave no token.
    fn jumps(&self, digits: &[u32], given: &[bool], targets: &[Vec<(u32, f64)>], step: Step) -> States {
        let alpha = step.u.powf(self.exponent);
        let unchanged = States::from([(digits.to_vec(), 1.0)]);
        let Some([k, p, _]) = self.corrector else { return unchanged };
        if (step.last && !self.last_jumps) || alpha == 0.0 {
            return unchanged;
        }
        let mask = self.networks[0].codes.mask_id();
        let slope = self.exponent * step.u.powf(self.exponent - 1.0);
        let kappa = k * step.u.powf(p) * (1.0 - step.u).powf(p);
        let mut jumped = States::from([(Vec::new(), 1.0)]);
        for (j, &present) in digits.iter().enumerate() {
            let mut one = BTreeMap::from([(present, 0.0)]);
            for &(target, q) in &targets[j] {
                let mut rates = BTreeMap::from([(mask, 0.0)]);
                *rates.entry(target).or_insert(0.0) += slope / (1.0 - alpha);
                let common = kappa * slope / (alpha * (1.0 - alpha));
                *rates.entry(mask).or_insert(0.0) += common * (1.0 - alpha);
                *rates.entry(target).or_insert(0.0) += common * alpha;
                rates.insert(present, 0.0);
                let total: f64 = rates.values().sum();
                let jump = if given[j] { 0.0 } else { 1.0 - (-(step.s - step.u) * total).exp() };
                *one.entry(present).or_insert(0.0) += q * (1.0 - jump);
                for (to, rate) in rates.into_iter().filter(|(_, rate)| *rate > 0.0) {
                    *one.entry(to).or_insert(0.0) += q * jump * rate / total;
                }
            }
            jumped = push(&jumped, |before| {
                one.iter().map(|(&v, &p)| ([before.as_slice(), &[v]].concat(), p)).collect()
            });
        }
        let (valid, invalid): (States, States) = jumped.into_iter().partition(|(y, _)| self.is_possible(y));
        let mut after = valid;
        *after.entry(digits.to_vec()).or_default() += invalid.values().sum::<f64>();
        after
    }

    fn digit_marginal(&self, p: &[(u32, f64)], j: usize) -> Vec<(u32, f64)> {
        let mut mass = BTreeMap::new();
        for &(x, p) in p {
            *mass.entry(self.networks[0].codes.digits(x)[j]).or_insert(0.0) += p;
        }
        mass.into_iter().collect()
    }

    fn agrees(&self, y: &[u32], x: u32) -> bool {
        let codes = &self.networks[0].codes;
        y.iter().zip(codes.digits(x)).all(|(&v, &digit)| v == codes.mask_id() || v == digit)
    }

    fn is_possible(&self, y: &[u32]) -> bool {
        (0..self.networks[0].codes.vocab_size() as u32).any(|x| self.agrees(y, x))
    }

    /// p^(1/τ) of the networks' mean p, over `support`.
    fn predicted(&self, now: &[u32], i: usize, u: f64, support: &[u32]) -> Vec<(u32, f64)> {
        let [a, n, c] = self.temperature;
        let tau = a * u.powf(n) + c;
        let mut mean = vec![0.0; self.networks[0].codes.vocab_size()];
        for network in &self.networks {
            let weights: Vec<f64> =
                network.logits(now, i, 1.0 - u).iter().map(|&logit| f64::from(logit).exp()).collect();
            let total: f64 = weights.iter().sum();
            mean.iter_mut().zip(weights).for_each(|(mean, weight)| *mean += weight / total);
        }
        let weight = |x: u32| mean[x as usize].powf(1.0 / tau);
        let total: f64 = support.iter().map(|&x| weight(x)).sum();
        support.iter().map(|&x| (x, weight(x) / total)).collect()
    }
}

fn push(states: &States, kernel: impl Fn(&Vec<u32>) -> States) -> States {
    let mut after = States::new();
    for (y, p) in states {
        for (next, q) in kernel(y) {
            *after.entry(next).or_default() += p * q;
        }
    }
    after
}
