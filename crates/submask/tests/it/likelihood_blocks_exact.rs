//! Likelihoods by blocks against values from exact enumeration: the fixtures' columns, and an enumeration of one block
//! after another that shares no code with the library but the digits of a token.

use std::collections::BTreeMap;
use std::sync::Arc;

use burn::tensor::Device;
use submask::backbone::dit::{Dit, DitConfig};
use submask::backbone::weights::{RawWeights, Weights, arrange};
use submask::backbone::{Backbone, Embedding, LoadedBackbone};
use submask::denoiser::Denoiser;
use submask::likelihood::{
    Estimate, LikelihoodSettings, Meaning, Sequences, bound_k, enumerate, exact_in_order, joint_objective,
    nelbo_subtoken, nelbo_token, path_bound, path_bound_full,
};
use submask::ops::Kernels;
use submask::order::Order;
use submask::predictive::Predictive;
use submask::schedule::{RevealSteps, RevealUnit, Schedule};

use crate::block_table::BlockTable;
use crate::fixtures::{Case, assert_close, cases};

const UNITS: [RevealUnit; 2] = [RevealUnit::Digits, RevealUnit::Tokens];

/// A block of a sequence, and the tokens before it.
struct Block {
    before: Vec<u32>,
    x: Vec<u32>,
    y: Vec<u32>,
}

/// The generator that a table says, in double precision.
struct Reference<'a> {
    table: &'a BlockTable,
    /// Whether logits are rounded to single precision, as networks give them.
    is_rounded: bool,
}

impl Reference<'_> {
    /// Every block of every sequence, [S, blocks].
    fn blocks(&self, x_0: &[u32]) -> Vec<Block> {
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
    fn by_block(&self, x_0: &[u32], value: impl Fn(&Block) -> f64) -> Vec<f64> {
        self.blocks(x_0).iter().map(value).collect()
    }

    /// The sums over blocks, \[S\].
    fn sums(&self, x_0: &[u32], value: impl Fn(&Block) -> f64) -> Vec<f64> {
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
    fn uniform_k(&self, block: &Block, unit: RevealUnit, is_joint: bool, k: usize) -> f64 {
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
    fn integral(&self, block: &Block, unit: RevealUnit, is_joint: bool) -> f64 {
        let n = self.units(block, unit).len();
        (1..=n).map(|k| self.uniform_k(block, unit, is_joint, k)).sum::<f64>() / n as f64
    }

    /// The chain rule along an order of units.
    fn chain(&self, block: &Block, units: &[&Vec<usize>]) -> f64 {
        let step = |k: usize| self.nats(block, &self.state(block, &units[k..]), units[k]);
        (0..units.len()).map(step).sum()
    }

    fn left_to_right(&self, block: &Block, unit: RevealUnit) -> f64 {
        self.chain(block, &self.units(block, unit).iter().collect::<Vec<_>>())
    }

    /// The chain rule by tokens, where the network is surest first.
    fn greedy(&self, block: &Block) -> f64 {
        self.greedy_within(block, (0..block.x.len()).collect(), 0.0)[0]
    }

    /// The same of the `masked` tokens for every choice of a token that is not less sure than others by more than `tie`,
    /// the first token first.
    fn greedy_within(&self, block: &Block, masked: Vec<usize>, tie: f64) -> Vec<f64> {
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
    fn all_orders(&self, block: &Block, unit: RevealUnit) -> Vec<f64> {
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
    fn path(&self, block: &Block, unit: RevealUnit, steps: usize) -> f64 {
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

fn minus_log_mean(nats: impl ExactSizeIterator<Item = f64>) -> f64 {
    let count = nats.len() as f64;
    -(nats.map(|nats| (-nats).exp()).sum::<f64>() / count).ln()
}

struct Oracle {
    case: Case,
    table: BlockTable,
    predictive: Predictive,
    x_0: Vec<u32>,
}

impl Oracle {
    fn all() -> Vec<Self> {
        cases("blockexact_").into_iter().map(Self::new).collect()
    }

    fn new(case: Case) -> Self {
        let table = BlockTable::from_case(&case);
        let predictive = Predictive::new(table.codes.clone(), true);
        let x_0 = case.ids("oracle", "sequences");
        Self { case, table, predictive, x_0 }
    }

    fn sequences(&self) -> Sequences<'_> {
        Sequences::new(&self.x_0, self.table.seq_len).unwrap()
    }

    fn reference(&self, is_rounded: bool) -> Reference<'_> {
        Reference { table: &self.table, is_rounded }
    }

    /// Asserts that a column and its values by block are what `value` gives for every block, times `sign`.
    fn check_column(&self, name: &str, sign: f64, value: impl Fn(&Block) -> f64) {
        let by_block = self.reference(false).by_block(&self.x_0, |block| sign * value(block));
        let blocks = self.table.seq_len.div_ceil(self.table.block_len);
        let sums: Vec<f64> = by_block.chunks_exact(blocks).map(|values| values.iter().sum()).collect();
        for (name, found) in [(format!("{name}_block"), by_block), (name.to_owned(), sums)] {
            if let Some(expected) = self.case.column("oracle", &name) {
                assert_close(&format!("{}: {name}", self.case.name), &found, &expected, 1e-9);
            }
        }
    }
}

fn settings(seed: u64, draws: usize) -> LikelihoodSettings {
    LikelihoodSettings { draws, seed, batch: 1000, schedule: Schedule::Linear }
}

fn linear(steps: usize) -> RevealSteps {
    RevealSteps::even(&Schedule::Linear, steps).unwrap()
}

/// The names of the columns of a unit and of the k of a subset.
fn names(unit: RevealUnit) -> (&'static str, &'static str, &'static str) {
    match unit {
        RevealUnit::Digits => ("nelbo_subtoken", "uniform_k_subtoken", "subtoken"),
        RevealUnit::Tokens => ("nelbo_token", "uniform_k_token", "token"),
    }
}

#[test]
fn the_enumeration_of_blocks_reproduces_the_columns() {
    for oracle in Oracle::all() {
        let reference = oracle.reference(false);
        for unit in UNITS {
            let is_joint = unit == RevealUnit::Tokens;
            let (nelbo, uniform_k, name) = names(unit);
            oracle.check_column(nelbo, 1.0, |block| reference.integral(block, unit, is_joint));
            if let Some(expected) = oracle.case.column("oracle", uniform_k) {
                let blocks = oracle.table.seq_len.div_ceil(oracle.table.block_len);
                let n = expected.len() / (oracle.sequences().count() * blocks);
                for k in 1..=n {
                    let found = reference
                        .by_block(&oracle.x_0, |block| reference.uniform_k(block, unit, is_joint, k));
                    let expected: Vec<f64> = expected.iter().skip(k - 1).step_by(n).copied().collect();
                    assert_close(&format!("{}: {uniform_k} {k}", oracle.case.name), &found, &expected, 1e-9);
                }
            }
            let left_to_right = |block: &Block| reference.left_to_right(block, unit);
            oracle.check_column(&format!("log_lik_left_to_right_{name}s"), -1.0, left_to_right);
            oracle.check_column(&format!("log_lik_random_{name}_order"), -1.0, |block| {
                minus_log_mean(reference.all_orders(block, unit).into_iter())
            });
        }
        oracle.check_column("joint_objective", 1.0, |block| {
            reference.integral(block, RevealUnit::Digits, true)
        });
        oracle.check_column("log_lik_greedy_confidence_tokens", -1.0, |block| reference.greedy(block));
    }
}

fn assert_equal<K: Meaning>(name: &str, found: &Estimate<K>, expected: &[f64]) {
    assert_close(name, found.nats(), expected, 1e-9);
    assert!(found.draw_errors().iter().all(|error| *error == 0.0));
}

#[test]
fn what_is_enumerated_and_what_is_exact_is_that_of_the_blocks() {
    for oracle in Oracle::all() {
        let (n, p, x, s) = (&oracle.table, &oracle.predictive, &oracle.sequences(), &settings(0, 1));
        let reference = oracle.reference(true);
        let sums = |value: &dyn Fn(&Block) -> f64| reference.sums(&oracle.x_0, value);
        let name = |what: &str| format!("{}: {what}", oracle.case.name);
        let (digits, tokens) = (RevealUnit::Digits, RevealUnit::Tokens);
        let found = enumerate::nelbo_subtoken(n, p, x, s).unwrap();
        assert_equal(&name("nelbo_subtoken"), &found, &sums(&|b| reference.integral(b, digits, false)));
        let found = enumerate::nelbo_token(n, p, x, s).unwrap();
        assert_equal(&name("nelbo_token"), &found, &sums(&|b| reference.integral(b, tokens, true)));
        let found = enumerate::joint_objective(n, p, x, s).unwrap();
        assert_equal(&name("joint_objective"), &found, &sums(&|b| reference.integral(b, digits, true)));
        for unit in UNITS {
            for steps in [1, 2, 3] {
                let found = enumerate::path_bound(n, p, x, &linear(steps), unit, s).unwrap();
                let expected = sums(&|b| reference.path(b, unit, steps));
                assert_equal(&name(&format!("path_bound_T{steps}")), &found, &expected);
            }
            let found = exact_in_order(n, p, x, Order::LeftToRight, unit, 1, s).unwrap();
            assert_equal(&name("left to right"), &found, &sums(&|b| reference.left_to_right(b, unit)));
            for order in Order::deterministic() {
                let found = exact_in_order(n, p, x, order, unit, 1, s).unwrap();
                let mass: f64 = found.nats().iter().map(|nats| (-nats).exp()).sum();
                assert!((mass - 1.0).abs() < 1e-9, "{order} {unit:?}: probabilities sum to {mass}");
            }
        }
        let found = exact_in_order(n, p, x, Order::Confidence, tokens, 1, s).unwrap();
        assert_equal(&name("confidence"), &found, &sums(&|b| reference.greedy(b)));
        // A block at once.
        let found = exact_in_order(n, p, x, Order::Entropy, tokens, usize::MAX, s).unwrap();
        assert_equal(&name("one step per block"), &found, &sums(&|b| reference.path(b, tokens, 1)));
        assert_eq!(found.evaluations() as usize, 2 * x.count());
    }
}

/// The mean over sequences within three standard errors of the draws, no sequence beyond five, and the standardised
/// deviations spread as they should: claimed errors are neither too small nor idle.
fn assert_within_errors<K: Meaning>(name: &str, found: &Estimate<K>, expected: &[f64]) {
    let n = expected.len() as f64;
    let difference = found.nats().iter().zip(expected).map(|(a, b)| a - b).sum::<f64>() / n;
    let error = found.draw_errors().iter().map(|e| e * e).sum::<f64>().sqrt() / n;
    let floor = 1e-7 * expected.iter().fold(1.0f64, |largest, value| largest.max(value.abs()));
    let scores: Vec<f64> = (found.nats().iter().zip(expected).zip(found.draw_errors()))
        .map(|((a, b), e)| (a - b) / e.max(floor))
        .collect();
    let largest = scores.iter().fold(0.0f64, |largest, score| largest.max(score.abs()));
    let spread = (scores.iter().map(|score| score * score).sum::<f64>() / n).sqrt();
    let score = difference / error.max(floor);
    println!(
        "{name}: off by {difference:+.1e} = {score:+.2} errors, largest {largest:.2}, spread {spread:.2}"
    );
    assert!(score.abs() < 3.0 && largest < 5.0, "{name}: {score} {largest}");
    assert!(expected.len() < 10 || spread < 1.5, "{name}: spread {spread}");
}

#[test]
fn estimators_by_blocks_agree_with_the_columns_within_their_errors() {
    const DRAWS: usize = 200;
    for oracle in Oracle::all() {
        let (n, p, x) = (&oracle.table, &oracle.predictive, &oracle.sequences());
        let name = |what: &str| format!("{}: {what}", oracle.case.name);
        let column = |name: &str| oracle.case.column("oracle", name);
        if let Some(expected) = column("nelbo_subtoken") {
            let found = nelbo_subtoken(n, p, x, &settings(1, DRAWS)).unwrap();
            assert_within_errors(&name("nelbo_subtoken"), &found, &expected);
        }
        if let Some(expected) = column("nelbo_token") {
            let found = nelbo_token(n, p, x, &settings(2, DRAWS)).unwrap();
            assert_within_errors(&name("nelbo_token"), &found, &expected);
        }
        if let Some(expected) = column("joint_objective") {
            let found = joint_objective(n, p, x, &settings(3, DRAWS)).unwrap();
            assert_within_errors(&name("joint_objective"), &found, &expected);
        }
        let reference = oracle.reference(true);
        for unit in UNITS {
            for steps in [1, 3] {
                let expected = reference.sums(&oracle.x_0, |block| reference.path(block, unit, steps));
                let name = |what| name(&format!("{what} {unit:?} T{steps}"));
                let found = path_bound(n, p, x, &linear(steps), unit, &settings(4, DRAWS)).unwrap();
                assert_within_errors(&name("path_bound"), &found, &expected);
                let found = path_bound_full(n, p, x, &linear(steps), unit, &settings(5, DRAWS / 4)).unwrap();
                assert_within_errors(&name("path_bound_full"), &found, &expected);
            }
        }
    }
}

/// With two orders its expectation is the sum over blocks of the mean over pairs of orders, which are mixed by block; with
/// many it is the exact value of generation in random order.
#[test]
fn random_orders_are_mixed_block_by_block() {
    const SEEDS: u64 = 100;
    for oracle in Oracle::all() {
        let (n, p, reference) = (&oracle.table, &oracle.predictive, oracle.reference(true));
        // A few of the sequences are enough, spread over all.
        let x_0: Vec<u32> = oracle.x_0.chunks_exact(n.seq_len).step_by(5).flat_map(<[u32]>::to_vec).collect();
        let x = Sequences::new(&x_0, n.seq_len).unwrap();
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
        for unit in UNITS {
            let run = |orders, seed| bound_k(n, p, &x, unit, &settings(seed, orders)).unwrap();
            let pairs = reference.sums(&x_0, |block| {
                let orders = reference.all_orders(block, unit);
                let pair = |a: &f64| orders.iter().map(|b| minus_log_mean([*a, *b].into_iter())).sum::<f64>();
                orders.iter().map(pair).sum::<f64>() / (orders.len() * orders.len()) as f64
            });
            let runs: Vec<f64> = (0..SEEDS).map(|seed| mean(run(2, seed).nats())).collect();
            let (centre, expected) = (mean(&runs), mean(&pairs));
            let error = (runs.iter().map(|run| (run - centre).powi(2)).sum::<f64>()).sqrt() / SEEDS as f64;
            println!(
                "case {} {unit:?}: two orders {centre:.4} ± {error:.4}, expected {expected:.4}",
                oracle.case.name
            );
            assert!((centre - expected).abs() < 3.0 * error + 1e-6, "{centre} {expected} {error}");
            let exact =
                reference.sums(&x_0, |block| minus_log_mean(reference.all_orders(block, unit).into_iter()));
            let many = mean(run(400, 50).nats());
            assert!((many / mean(&exact) - 1.0).abs() < 0.02, "{many} {}", mean(&exact));
        }
    }
}

/// Of the exact posterior the mean bound is the entropy, and the joint objective of several digits is less.
#[test]
fn the_mean_bound_of_the_exact_posterior_is_the_entropy() {
    for oracle in Oracle::all().into_iter().filter(|oracle| oracle.case.flag("bayes_optimal")) {
        let data = oracle.case.column("oracle", "data_distribution").unwrap();
        let entropy: f64 = data.iter().filter(|p| **p > 0.0).map(|p| -p * p.ln()).sum();
        let (n, p, x, s) = (&oracle.table, &oracle.predictive, &oracle.sequences(), &settings(0, 1));
        let mean = |nats: &[f64]| nats.iter().zip(&data).map(|(nats, p)| nats * p).sum::<f64>();
        let bound = mean(enumerate::nelbo_subtoken(n, p, x, s).unwrap().nats());
        let by_token = mean(enumerate::nelbo_token(n, p, x, s).unwrap().nats());
        let in_order = exact_in_order(n, p, x, Order::LeftToRight, RevealUnit::Digits, 1, s).unwrap();
        let path = enumerate::path_bound(n, p, x, &linear(3), RevealUnit::Digits, s).unwrap();
        let joint = mean(enumerate::joint_objective(n, p, x, s).unwrap().nats());
        println!("case {}: entropy {entropy:.6}, bound {bound:.6}, joint {joint:.6}", oracle.case.name);
        for (name, value) in [("bound", bound), ("by token", by_token), ("in order", mean(in_order.nats()))] {
            assert!((value - entropy).abs() < 1e-6, "{name}: {value} {entropy}");
        }
        assert!(mean(path.nats()) > entropy + 1e-3, "steps that reveal several digits cost something");
        match n.codes.subtoken_len() {
            1 => assert!((joint - entropy).abs() < 1e-6),
            _ => assert!(joint < entropy - 1e-2, "{joint} {entropy}"),
        }
    }
}

/// The network itself, in single precision, where a case has its weights.
fn network(case: &Case, table: &BlockTable) -> LoadedBackbone {
    let config = DitConfig {
        block_len: table.block_len,
        hidden: case.integer("hidden"),
        heads: case.integer("heads"),
        blocks: case.integer("blocks"),
        cond_dim: case.integer("cond_dim"),
        seq_len: table.seq_len,
        dropout: 0.0,
        embedding: Embedding::Concatenated,
        time_conditioning: false,
    };
    let network = Dit::new(config, &table.codes, Kernels::FUSED).unwrap();
    let raw: RawWeights = case
        .tensor_names("weights")
        .into_iter()
        .map(|name| {
            let tensor = case.tensor_f32("weights", &name);
            (name, tensor)
        })
        .collect();
    let values = arrange(network.parameters(), raw, &case.dir).unwrap();
    let weights = Weights::new(network.parameters(), &values, &Device::flex());
    LoadedBackbone { network: Arc::new(network), weights }
}

#[test]
fn a_network_has_the_values_of_its_table() {
    for oracle in Oracle::all().into_iter().filter(|oracle| oracle.case.has("weights")) {
        let network = network(&oracle.case, &oracle.table);
        let (n, p, x, s): (&dyn Denoiser, _, _, _) =
            (&network, &oracle.predictive, &oracle.sequences(), &settings(0, 1));
        let check = |name: &str, sign: f64, nats: &[f64]| {
            let Some(expected) = oracle.case.column("oracle", name) else { return };
            let nats: Vec<f64> = nats.iter().map(|nats| sign * nats).collect();
            assert_close(&format!("{}: {name}", oracle.case.name), &nats, &expected, 1e-5);
        };
        check("nelbo_subtoken", 1.0, enumerate::nelbo_subtoken(n, p, x, s).unwrap().nats());
        check("nelbo_token", 1.0, enumerate::nelbo_token(n, p, x, s).unwrap().nats());
        check("joint_objective", 1.0, enumerate::joint_objective(n, p, x, s).unwrap().nats());
        for unit in UNITS {
            let name = format!("log_lik_left_to_right_{}s", names(unit).2);
            let found = exact_in_order(n, p, x, Order::LeftToRight, unit, 1, s).unwrap();
            check(&name, -1.0, found.nats());
        }
        // Where two tokens are equally sure but for rounding, either may come first.
        let found = exact_in_order(n, p, x, Order::Confidence, RevealUnit::Tokens, 1, s).unwrap();
        let (block_len, reference) = (oracle.table.block_len, oracle.reference(false));
        let by_block: Vec<f64> = (found.token_nats().iter())
            .flat_map(|nats| nats.chunks(block_len).map(|nats| nats.iter().sum()).collect::<Vec<f64>>())
            .collect();
        let nearest = |block: &Block, nats: f64| {
            let values = reference.greedy_within(block, (0..block.x.len()).collect(), 1e-6).into_iter();
            values.reduce(|a, b| if (b - nats).abs() < (a - nats).abs() { b } else { a }).unwrap()
        };
        let blocks = reference.blocks(&oracle.x_0);
        let expected: Vec<f64> = blocks.iter().zip(&by_block).map(|(b, nats)| nearest(b, *nats)).collect();
        assert_close(&format!("{}: confidence", oracle.case.name), &by_block, &expected, 1e-5);
        if let Some(expected) = oracle.case.column("oracle", "nelbo_token") {
            let found = nelbo_token(n, p, x, &settings(6, 200)).unwrap();
            assert_within_errors(&format!("{}: drawn", oracle.case.name), &found, &expected);
        }
    }
}
