//! Likelihoods by blocks against values from exact enumeration: the fixtures' columns, and figures of one block after
//! another, computed from their definitions.

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

use crate::block_reference::{Block, Reference, minus_log_mean};
use crate::block_table::BlockTable;
use crate::fixtures::{Case, assert_close, cases};

const UNITS: [RevealUnit; 2] = [RevealUnit::Digits, RevealUnit::Tokens];

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

/// The mean over sequences within so many standard errors of the draws, no sequence beyond six, and the standardised
/// deviations spread as they should.
fn assert_within_errors<K: Meaning>(name: &str, found: &Estimate<K>, expected: &[f64], errors: f64) {
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
    assert!(score.abs() < errors && largest < 6.0, "{name}: {score} {largest}");
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
            assert_within_errors(&name("nelbo_subtoken"), &found, &expected, 3.0);
        }
        if let Some(expected) = column("nelbo_token") {
            let found = nelbo_token(n, p, x, &settings(2, DRAWS)).unwrap();
            assert_within_errors(&name("nelbo_token"), &found, &expected, 3.0);
        }
        if let Some(expected) = column("joint_objective") {
            let found = joint_objective(n, p, x, &settings(3, DRAWS)).unwrap();
            assert_within_errors(&name("joint_objective"), &found, &expected, 3.0);
        }
        let reference = oracle.reference(true);
        for unit in UNITS {
            for steps in [1, 3] {
                let expected = reference.sums(&oracle.x_0, |block| reference.path(block, unit, steps));
                let name = |what| name(&format!("{what} {unit:?} T{steps}"));
                let found = path_bound(n, p, x, &linear(steps), unit, &settings(4, DRAWS)).unwrap();
                assert_within_errors(&name("path_bound"), &found, &expected, 4.0);
                let found = path_bound_full(n, p, x, &linear(steps), unit, &settings(5, DRAWS / 2)).unwrap();
                assert_within_errors(&name("path_bound_full"), &found, &expected, 4.0);
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
        let count = oracle.x_0.len() / n.seq_len;
        let some = oracle.x_0.chunks_exact(n.seq_len).step_by(count.div_ceil(24));
        let x_0: Vec<u32> = some.flat_map(<[u32]>::to_vec).collect();
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
            assert_within_errors(&format!("{}: drawn", oracle.case.name), &found, &expected, 3.0);
        }
    }
}
