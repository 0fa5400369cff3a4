//! Figures of one block after another, written from their definitions alone: no code is shared with the library but the
//! digits of a token.

use std::collections::BTreeMap;

use submask::schedule::RevealUnit;

use crate::block_table::BlockTable;

/// A block of a sequence, and the tokens before it.
pub struct Block {
    before: Vec<u32>,
    pub x: Vec<u32>,
    y: Vec<u32>,
}

/// The generator that a table says, in double precision.
pub struct Reference<'a> {
    pub table: &'a BlockTable,
    /// Whether logits are rounded to single precision, as networks give them.
    pub is_rounded: bool,
}

impl Reference<'_> {
    /// Every block of every sequence, [S, blocks].
    pub fn blocks(&self, x_0: &[u32]) -> Vec<Block> {
        let of_sequence = |x: &[u32]| -> Vec<Block> {
            let starts = (0..x.len()).step_by(self.table.block_len);
            let block = |start: usize| {
                let own = x[start..(start + self.table.block_len).min(x.len())].to_vec();
                Block { before: x[..start].to_vec(), y: self.table.codes.encode(&own).unwrap(), x: own }
            };
            starts.map(block).collect()
        };
        x_0.chunks_exact(self.table.seq_len).flat_map(of_sequence).collect()
    }

    /// What `value` gives for them.
    pub fn by_block(&self, x_0: &[u32], value: impl Fn(&Block) -> f64) -> Vec<f64> {
        self.blocks(x_0).iter().map(value).collect()
    }

    /// The sums over blocks, \[S\].
    pub fn sums(&self, x_0: &[u32], value: impl Fn(&Block) -> f64) -> Vec<f64> {
        let blocks = self.table.seq_len.div_ceil(self.table.block_len);
        self.by_block(x_0, value).chunks_exact(blocks).map(|values| values.iter().sum()).collect()
    }

    /// The units of a block, each a list of digits.
    fn units(&self, block: &Block, unit: RevealUnit) -> Vec<Vec<usize>> {
        let len = match unit {
            RevealUnit::Digits => 1,
            RevealUnit::Tokens => self.table.codes.subtoken_len(),
        };
        let digits: Vec<usize> = (0..block.y.len()).collect();
        digits.chunks_exact(len).map(<[usize]>::to_vec).collect()
    }

    /// The digits of the block with those of some units masked.
    fn state(&self, block: &Block, masked: &[&Vec<usize>]) -> Vec<u32> {
        let mut state = block.y.clone();
        masked.iter().for_each(|unit| unit.iter().for_each(|&j| state[j] = self.table.codes.mask_id()));
        state
    }

    /// p(x | state) of token i: only tokens that agree with its visible digits.
    fn probabilities(&self, block: &Block, state: &[u32], i: usize) -> Vec<f64> {
        let (codes, len) = (&self.table.codes, self.table.codes.subtoken_len());
        let own = &state[i * len..(i + 1) * len];
        let agrees = |x: usize| {
            codes.digits(x as u32).iter().zip(own).all(|(digit, y)| *y == codes.mask_id() || digit == y)
        };
        let logits = self.table.logits(&block.before, state, i);
        let weight = |(x, logit): (usize, &f64)| {
            let logit = if self.is_rounded { f64::from(*logit as f32) } else { *logit };
            if agrees(x) { logit.exp() } else { 0.0 }
        };
        let weights: Vec<f64> = logits.iter().enumerate().map(weight).collect();
        let total: f64 = weights.iter().sum();
        weights.into_iter().map(|weight| weight / total).collect()
    }

    /// −log p of revealing `digits` at a state: those of one token jointly, tokens independently.
    fn nats(&self, block: &Block, state: &[u32], digits: &[usize]) -> f64 {
        let len = self.table.codes.subtoken_len();
        let mut tokens = BTreeMap::<usize, Vec<usize>>::new();
        digits.iter().for_each(|digit| tokens.entry(digit / len).or_default().push(digit % len));
        let of_token = |(i, digits): (usize, Vec<usize>)| {
            let p = self.probabilities(block, state, i);
            let hits = |x: usize| {
                let own = self.table.codes.digits(x as u32);
                digits.iter().all(|&j| own[j] == block.y[i * len + j])
            };
            -(0..p.len()).filter(|x| hits(*x)).map(|x| p[x]).sum::<f64>().ln()
        };
        tokens.into_iter().map(of_token).sum()
    }

    /// N/k times the mean over the subsets of k masked units: what masked digits cost one by one, or all of a token
    /// together.
    pub fn uniform_k(&self, block: &Block, unit: RevealUnit, is_joint: bool, k: usize) -> f64 {
        let units = self.units(block, unit);
        let (mut sum, mut count) = (0.0, 0);
        for set in (0..1_usize << units.len()).filter(|set| set.count_ones() as usize == k) {
            let masked: Vec<&Vec<usize>> =
                units.iter().enumerate().filter(|(u, _)| set >> u & 1 == 1).map(|(_, unit)| unit).collect();
            let state = self.state(block, &masked);
            let digits: Vec<usize> = masked.into_iter().flatten().copied().collect();
            sum += match is_joint {
                true => self.nats(block, &state, &digits),
                false => digits.iter().map(|&digit| self.nats(block, &state, &[digit])).sum(),
            };
            count += 1;
        }
        units.len() as f64 / k as f64 * sum / f64::from(count)
    }

    /// The bound, or the joint objective: the mean over k.
    pub fn integral(&self, block: &Block, unit: RevealUnit, is_joint: bool) -> f64 {
        let n = self.units(block, unit).len();
        (1..=n).map(|k| self.uniform_k(block, unit, is_joint, k)).sum::<f64>() / n as f64
    }

    /// The chain rule along an order of units.
    fn chain(&self, block: &Block, units: &[&Vec<usize>]) -> f64 {
        let step = |k: usize| self.nats(block, &self.state(block, &units[k..]), units[k]);
        (0..units.len()).map(step).sum()
    }

    pub fn left_to_right(&self, block: &Block, unit: RevealUnit) -> f64 {
        self.chain(block, &self.units(block, unit).iter().collect::<Vec<_>>())
    }

    /// The chain rule by tokens, where the network is surest first.
    pub fn greedy(&self, block: &Block) -> f64 {
        self.greedy_within(block, (0..block.x.len()).collect(), 0.0)[0]
    }

    /// The same of the `masked` tokens for every choice of a token that is not less sure than others by more than `tie`,
    /// the first token first.
    pub fn greedy_within(&self, block: &Block, masked: Vec<usize>, tie: f64) -> Vec<f64> {
        if masked.is_empty() {
            return vec![0.0];
        }
        let units = self.units(block, RevealUnit::Tokens);
        let state = self.state(block, &masked.iter().map(|&i| &units[i]).collect::<Vec<_>>());
        let sure = |i: &usize| self.probabilities(block, &state, *i).into_iter().fold(0.0, f64::max);
        let surest = masked.iter().map(sure).fold(0.0, f64::max);
        let chosen = masked.iter().filter(|i| sure(i) >= surest - tie);
        let values = chosen.flat_map(|&i| {
            let others = masked.iter().copied().filter(|other| *other != i).collect();
            let nats = self.nats(block, &state, &units[i]);
            self.greedy_within(block, others, tie).into_iter().map(move |rest| nats + rest)
        });
        values.collect()
    }

    /// The chain rule along every order.
    pub fn all_orders(&self, block: &Block, unit: RevealUnit) -> Vec<f64> {
        let units = self.units(block, unit);
        let mut orders = vec![Vec::new()];
        for _ in &units {
            let longer = |order: Vec<usize>| {
                let next = (0..units.len()).filter(|u| !order.contains(u)).collect::<Vec<_>>();
                next.into_iter().map(move |u| [&order[..], &[u]].concat())
            };
            orders = orders.into_iter().flat_map(longer).collect();
        }
        let chain =
            |order: Vec<usize>| self.chain(block, &order.iter().map(|&u| &units[u]).collect::<Vec<_>>());
        orders.into_iter().map(chain).collect()
    }

    /// The bound of the sampler with T steps of equal length: every unit falls into a step at random.
    pub fn path(&self, block: &Block, unit: RevealUnit, steps: usize) -> f64 {
        let units = self.units(block, unit);
        let plans = steps.pow(units.len() as u32);
        let of_plan = |plan: usize| -> f64 {
            let step_of = |u: usize| plan / steps.pow(u as u32) % steps;
            let of_step = |step: usize| {
                let chosen = |wanted: &dyn Fn(usize) -> bool| -> Vec<&Vec<usize>> {
                    (0..units.len()).filter(|u| wanted(step_of(*u))).map(|u| &units[u]).collect()
                };
                let state = self.state(block, &chosen(&|other| other >= step));
                let digits: Vec<usize> =
                    chosen(&|other| other == step).into_iter().flatten().copied().collect();
                self.nats(block, &state, &digits)
            };
            (0..steps).map(of_step).sum()
        };
        (0..plans).map(of_plan).sum::<f64>() / plans as f64
    }
}

/// −log of the mean of exp(−v).
pub fn minus_log_mean(nats: impl ExactSizeIterator<Item = f64>) -> f64 {
    let count = nats.len() as f64;
    -(nats.map(|nats| (-nats).exp()).sum::<f64>() / count).ln()
}
