//! The exact distribution of the documented sampler, by dynamic programming over all states. Written from math.md
//! alone: it shares no code with the library but the digits of a token.

use std::collections::BTreeMap;

use crate::table_network::TableNetwork;

/// Probabilities of states.
type States = BTreeMap<Vec<u32>, f64>;

/// When sub-tokens are revealed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Timing {
    /// T even steps, linear schedule.
    Grid(usize),
    /// One unit at a time, in random order.
    OneByOne,
}

/// The sampler whose distribution is wanted.
pub struct ExactSampler<'a> {
    pub network: &'a TableNetwork,
    pub carry_over: bool,
    pub timing: Timing,
    pub whole_tokens: bool,
    pub temperature: f64,
    pub top_p: f64,
    /// A wrong sampler: every revealed digit gets a draw of its own.
    pub independent_digits: bool,
}

impl<'a> ExactSampler<'a> {
    pub fn new(network: &'a TableNetwork, timing: Timing, carry_over: bool) -> Self {
        Self {
            network,
            carry_over,
            timing,
            whole_tokens: false,
            temperature: 1.0,
            top_p: 1.0,
            independent_digits: false,
        }
    }

    /// P(x_0) for every sequence of tokens, the last token fastest, starting from `y`.
    pub fn distribution(&self, y: &[u32]) -> Vec<f64> {
        let mut states = States::from([(y.to_vec(), 1.0)]);
        match self.timing {
            Timing::Grid(steps) => (0..steps).for_each(|k| {
                // α_t = 1 − t at t = 1 − k/T: (α_s − α_t) / (1 − α_t) = 1 / (T − k).
                let t = 1.0 - k as f64 / steps as f64;
                states = step(&states, |y| self.grid_step(y, t, 1.0 / (steps - k) as f64));
            }),
            Timing::OneByOne => {
                while states.keys().any(|y| y.contains(&self.network.codes.mask_id())) {
                    states = step(&states, |y| self.single_reveal(y));
                }
            }
        }
        self.of_tokens(&states)
    }

    pub fn of_tokens(&self, states: &States) -> Vec<f64> {
        let codes = &self.network.codes;
        let vocab_size = codes.vocab_size();
        let mut probabilities = vec![0.0; vocab_size.pow(self.network.seq_len as u32)];
        for (y, p) in states {
            // The wrong sampler may leave the valid codes: that mass is lost, as a distance.
            if let Ok(tokens) = codes.decode(y) {
                probabilities[tokens.iter().fold(0, |index, &x| index * vocab_size + x as usize)] += p;
            }
        }
        probabilities
    }

    /// Every masked unit is revealed with probability `share`.
    fn grid_step(&self, y: &[u32], t: f64, share: f64) -> States {
        let len = self.network.codes.subtoken_len();
        let mut joint = States::from([(Vec::new(), 1.0)]);
        for i in 0..self.network.seq_len {
            let masked = self.masked_of(y, i);
            let mut token = States::new();
            for set in 0..1usize << masked.len() {
                let reveals: Vec<usize> =
                    (0..masked.len()).filter(|bit| set >> bit & 1 == 1).map(|bit| masked[bit]).collect();
                let hidden = masked.len() - reveals.len();
                let p = match (self.whole_tokens, reveals.len(), hidden) {
                    (false, shown, hidden) => share.powi(shown as i32) * (1.0 - share).powi(hidden as i32),
                    (true, 0, 0) => 1.0,
                    (true, 0, _) => 1.0 - share,
                    (true, _, 0) => share,
                    _ => 0.0,
                };
                if p > 0.0 {
                    for (digits, q) in self.reveal(y, i, t, &reveals) {
                        *token.entry(digits).or_default() += p * q;
                    }
                }
            }
            assert!(token.keys().all(|digits| digits.len() == len));
            joint = step(&joint, |before| {
                token.iter().map(|(digits, p)| ([before.as_slice(), digits].concat(), *p)).collect()
            });
        }
        joint
    }

    /// One masked unit, each as likely, is revealed.
    fn single_reveal(&self, y: &[u32]) -> States {
        let len = self.network.codes.subtoken_len();
        let units: Vec<(usize, Vec<usize>)> = (0..self.network.seq_len)
            .flat_map(|i| {
                let masked = self.masked_of(y, i);
                let alone = masked.iter().map(|&j| (i, vec![j])).collect();
                if !self.whole_tokens {
                    alone
                } else if masked.is_empty() {
                    Vec::new()
                } else {
                    vec![(i, masked)]
                }
            })
            .collect();
        let mut after = States::new();
        for (i, reveals) in &units {
            for (digits, p) in self.reveal(y, *i, 0.5, reveals) {
                let next = [&y[..i * len], &digits, &y[(i + 1) * len..]].concat();
                *after.entry(next).or_default() += p / units.len() as f64;
            }
        }
        after
    }

    fn masked_of(&self, y: &[u32], i: usize) -> Vec<usize> {
        let codes = &self.network.codes;
        (0..codes.subtoken_len()).filter(|j| y[i * codes.subtoken_len() + j] == codes.mask_id()).collect()
    }

    /// The digits of token i after its digits `reveals` are copied from a draw, with the redraw rule.
    pub fn reveal(&self, y: &[u32], i: usize, t: f64, reveals: &[usize]) -> States {
        let len = self.network.codes.subtoken_len();
        let present = &y[i * len..(i + 1) * len];
        if reveals.is_empty() {
            return States::from([(present.to_vec(), 1.0)]);
        }
        if self.independent_digits && reveals.len() > 1 {
            let (last, rest) = reveals.split_last().unwrap();
            return step(&self.reveal(y, i, t, rest), |before| {
                let alone = self.reveal(y, i, t, &[*last]);
                alone.into_iter().map(|(digits, p)| (with(before, &digits, &[*last]), p)).collect()
            });
        }
        let vocab_size = self.network.codes.vocab_size() as u32;
        let possible: Vec<u32> = (0..vocab_size).filter(|&x| self.agrees(present, x)).collect();
        let support = if self.carry_over { possible.clone() } else { (0..vocab_size).collect() };
        let mut after = States::new();
        let mut refused = 0.0;
        for (x, p) in self.sharpened(y, i, t, &support) {
            let digits = with(present, self.network.codes.digits(x), reveals);
            let valid = (0..vocab_size).any(|other| self.agrees(&digits, other));
            if valid { *after.entry(digits).or_default() += p } else { refused += p }
        }
        for (x, p) in self.sharpened(y, i, t, &possible) {
            *after.entry(with(present, self.network.codes.digits(x), reveals)).or_default() += refused * p;
        }
        after
    }

    pub fn agrees(&self, y: &[u32], x: u32) -> bool {
        let codes = &self.network.codes;
        y.iter().zip(codes.digits(x)).all(|(&v, &digit)| v == codes.mask_id() || v == digit)
    }

    fn sharpened(&self, y: &[u32], i: usize, t: f64, support: &[u32]) -> Vec<(u32, f64)> {
        let logits = self.network.logits(y, i, t);
        let weight = |x: u32| (f64::from(logits[x as usize]) / self.temperature).exp();
        let total: f64 = support.iter().map(|&x| weight(x)).sum();
        let mut p: Vec<(u32, f64)> = support.iter().map(|&x| (x, weight(x) / total)).collect();
        p.sort_by(|a, b| b.1.total_cmp(&a.1));
        let mut mass = 0.0;
        p.retain(|(_, p)| {
            let kept = mass < self.top_p;
            mass += p;
            kept
        });
        let total: f64 = p.iter().map(|(_, p)| p).sum();
        p.into_iter().map(|(x, p)| (x, p / total)).collect()
    }
}

fn with(y: &[u32], digits: &[u32], reveals: &[usize]) -> Vec<u32> {
    let mut after = y.to_vec();
    reveals.iter().for_each(|&j| after[j] = digits[j]);
    after
}

fn step(states: &States, kernel: impl Fn(&Vec<u32>) -> States) -> States {
    let mut after = States::new();
    for (y, p) in states {
        for (next, q) in kernel(y) {
            *after.entry(next).or_default() += p * q;
        }
    }
    after
}
