//! Likelihoods of networks with blocks whose weights are drawn: what must hold whatever they have learnt.

use std::sync::atomic::{AtomicUsize, Ordering};

use submask::backbone::dit::Dit;
use submask::backbone::encoder::{Encoder, EncoderConfig};
use submask::backbone::{Embedding, LoadedBackbone};
use submask::denoiser::{BlockDenoiser, Denoiser, Kept, LogitRows, Spec, States};
use submask::likelihood::{
    Estimate, LikelihoodSettings, Meaning, Sequences, bound_k, enumerate, exact_in_order,
    exact_left_to_right, joint_objective, nelbo_subtoken, nelbo_token, path_bound, path_bound_full,
};
use submask::ops::Kernels;
use submask::order::Order;
use submask::predictive::Predictive;
use submask::random::{Draws, Purpose};
use submask::schedule::{RevealSteps, RevealUnit, Schedule};
use submask::subtoken::SubTokenizer;
use submask::{Error, Result};

use crate::table_network::HashNetwork;
use crate::tiny_networks::{dit_config, encoder_config, loaded};

/// The networks' length in tokens.
const LENGTH: usize = 6;

/// Draws per sequence.
const DRAWS: usize = 3;

fn codes() -> SubTokenizer {
    SubTokenizer::new(7, 2).unwrap()
}

fn dit(block_len: usize) -> LoadedBackbone {
    loaded(Dit::new(dit_config(LENGTH, block_len), &codes(), Kernels::FUSED).unwrap())
}

fn encoder(block_len: usize) -> LoadedBackbone {
    let config = encoder_config(LENGTH, block_len);
    let config = EncoderConfig { embedding: Embedding::PerDigitConcatenated, ..config };
    loaded(Encoder::new(config, &codes(), Kernels::FUSED).unwrap())
}

const LENGTHS: [usize; 6] = [6, 1, 5, 6, 2, 6];

/// Sequences of up to six tokens; of the last nothing is to be generated, of the others all or all but some digits.
struct Mixed {
    x_0: Vec<u32>,
    given: Vec<bool>,
    keys: Vec<u64>,
}

impl Mixed {
    fn new() -> Self {
        let tokens: usize = LENGTHS.iter().sum();
        let draws = Draws::new(5, Purpose::Point);
        let whole = 2 * (tokens - LENGTHS[LENGTHS.len() - 1]);
        Self {
            x_0: (0..tokens as u32).map(|i| draws.below(7, 0, i, 0) as u32).collect(),
            given: (0..2 * tokens)
                .map(|digit| digit >= whole || (digit > 2 * LENGTH && digit % 5 == 2))
                .collect(),
            keys: (0..LENGTHS.len() as u32).map(|s| draws.below(1 << 56, 1, s, 0)).collect(),
        }
    }

    fn all(&self) -> Sequences<'_> {
        let all = Sequences::of_lengths(&self.x_0, &LENGTHS).unwrap();
        all.with_given(&self.given).with_keys(&self.keys)
    }

    fn one(&self, s: usize) -> Sequences<'_> {
        let start: usize = LENGTHS[..s].iter().sum();
        let end = start + LENGTHS[s];
        let one = Sequences::new(&self.x_0[start..end], LENGTHS[s]).unwrap();
        one.with_given(&self.given[2 * start..2 * end]).with_keys(&self.keys[s..=s])
    }
}

/// What an estimator found, in bits.
#[derive(Clone, Debug, PartialEq)]
struct Found {
    name: String,
    nats: Vec<u64>,
    errors: Vec<u64>,
    token_nats: Vec<Vec<u64>>,
    evaluations: u64,
}

fn found<K: Meaning>(name: &str, estimate: Result<Estimate<K>>) -> Found {
    let estimate = estimate.unwrap();
    let bits = |values: &[f64]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
    Found {
        name: name.to_owned(),
        nats: bits(estimate.nats()),
        errors: bits(estimate.draw_errors()),
        token_nats: estimate.token_nats().iter().map(|nats| bits(nats)).collect(),
        evaluations: estimate.evaluations(),
    }
}

/// What every estimator finds.
fn everything(n: &dyn Denoiser, x: &Sequences, batch: usize) -> Vec<Found> {
    let p = &Predictive::new(codes(), true);
    let s = &LikelihoodSettings { draws: DRAWS, seed: 2, batch, schedule: Schedule::Linear };
    let steps = &RevealSteps::even(&Schedule::Linear, 3).unwrap();
    let mut all = vec![
        found("nelbo_subtoken", nelbo_subtoken(n, p, x, s)),
        found("nelbo_token", nelbo_token(n, p, x, s)),
        found("joint_objective", joint_objective(n, p, x, s)),
        found("all tokens' masks", enumerate::nelbo_token(n, p, x, s)),
    ];
    for unit in [RevealUnit::Digits, RevealUnit::Tokens] {
        all.push(found("path_bound", path_bound(n, p, x, steps, unit, s)));
        all.push(found("path_bound_full", path_bound_full(n, p, x, steps, unit, s)));
        all.push(found("bound_k", bound_k(n, p, x, unit, s)));
        for (order, per_step) in
            [Order::LeftToRight, Order::Margin].into_iter().flat_map(|o| [(o, 1), (o, 3)])
        {
            let name = format!("exact {order} {per_step}");
            all.push(found(&name, exact_in_order(n, p, x, order, unit, per_step, s)));
        }
    }
    all
}

#[test]
fn a_block_of_the_whole_length_has_the_bits_of_none() {
    let mixed = Mixed::new();
    for network in [dit, encoder] {
        for batch in [2, 1000] {
            let without = everything(&network(0), &mixed.all(), batch);
            assert_eq!(everything(&network(LENGTH), &mixed.all(), batch), without);
            assert_ne!(everything(&network(3), &mixed.all(), batch)[0].nats, without[0].nats);
        }
    }
}

#[test]
fn values_by_blocks_depend_neither_on_batch_nor_threads_nor_other_sequences() {
    let mixed = Mixed::new();
    for (network, block_len) in [(dit as fn(usize) -> _, 1), (dit, 2), (encoder, 3)] {
        let network = network(block_len);
        let one_call = everything(&network, &mixed.all(), 1000);
        for (batch, threads) in [(1, 1), (2, 1), (7, 3)] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            assert_eq!(pool.install(|| everything(&network, &mixed.all(), batch)), one_call, "{batch}");
        }
        for s in 0..LENGTHS.len() - 1 {
            for (alone, all) in everything(&network, &mixed.one(s), 5).iter().zip(&one_call) {
                assert_eq!((alone.nats[0], alone.errors[0]), (all.nats[s], all.errors[s]), "{}", all.name);
                assert_eq!(alone.token_nats.first(), all.token_nats.get(s), "{}", all.name);
            }
        }
    }
}

/// Known are the tokens before it, in its own block and in earlier ones.
#[test]
fn tokens_by_blocks_have_those_beside_them_that_the_network_says() {
    let predictive = Predictive::new(codes(), true);
    let x_0: Vec<u32> = vec![3, 0, 6, 2, 5, 1, 1, 4, 0, 6, 6, 2];
    let x = Sequences::new(&x_0, LENGTH).unwrap();
    let y_0 = codes().encode(&x_0).unwrap();
    for block_len in [1, 2, 3, LENGTH] {
        let network = dit(block_len);
        let top = |batch| {
            let settings = LikelihoodSettings { batch, ..LikelihoodSettings::default() };
            exact_left_to_right(&network, &predictive, &x, 2, &settings).unwrap()
        };
        let found = top(4);
        assert_eq!(found, top(1));
        for (place, x) in x_0.iter().enumerate() {
            let (s, i) = (place / LENGTH, place % LENGTH);
            let mut y = y_0[2 * LENGTH * s..2 * LENGTH * (s + 1)].to_vec();
            y[2 * i..].fill(codes().mask_id());
            let mut log_probs = Vec::new();
            network
                .evaluate(&States { y_t: &y, t: &[0.0], labels: None }, &[i], &mut |_, logits| {
                    let p = predictive.distribution(logits, &y[2 * i..2 * i + 2]);
                    log_probs = (0..7).map(|token| p.log_prob(token)).collect();
                    Ok(())
                })
                .unwrap();
            let mut order: Vec<u32> = (0..7).collect();
            order.sort_by(|a, b| log_probs[*b as usize].total_cmp(&log_probs[*a as usize]));
            let beside = &found.top_tokens()[s][i];
            assert_eq!(beside.iter().map(|(token, _)| *token).collect::<Vec<_>>(), order[..2]);
            assert!((beside[0].1 - log_probs[order[0] as usize]).abs() < 1e-6);
            assert!((found.token_nats()[s][i] + log_probs[*x as usize]).abs() < 1e-6);
        }
    }
}

/// The chain rule, one block after another, each after the tokens before it, by evaluations of whole sequences.
#[test]
fn tokens_by_blocks_of_one_cost_what_the_chain_rule_says() {
    let network = dit(1);
    let predictive = Predictive::new(codes(), true);
    let x_0: Vec<u32> = vec![3, 0, 6, 2, 5, 1, 1, 4, 0, 6, 6, 2];
    let x = Sequences::new(&x_0, LENGTH).unwrap();
    let settings = LikelihoodSettings { batch: 4, ..LikelihoodSettings::default() };
    let (order, unit) = (Order::LeftToRight, RevealUnit::Tokens);
    let exact = exact_in_order(&network, &predictive, &x, order, unit, 1, &settings).unwrap();
    assert_eq!(exact.evaluations(), 2 * 2, "known tokens, and all tokens masked");
    let y_0 = codes().encode(&x_0).unwrap();
    for (s, y_0) in y_0.chunks_exact(2 * LENGTH).enumerate() {
        for i in 0..LENGTH {
            let mut y = y_0.to_vec();
            y[2 * i..].fill(codes().mask_id());
            let states = States { y_t: &y, t: &[0.0], labels: None };
            let mut nats = f64::NAN;
            network
                .evaluate(&states, &[i], &mut |_, logits| {
                    let p = predictive.distribution(logits, &y[2 * i..2 * i + 2]);
                    nats = -p.log_prob(x_0[s * LENGTH + i]);
                    Ok(())
                })
                .unwrap();
            assert_eq!(exact.token_nats()[s][i], nats, "token {i} of sequence {s}");
        }
    }
    // All orders are one order, and the bound by tokens has no variance.
    let entropy = exact_in_order(&network, &predictive, &x, Order::Entropy, unit, 1, &settings).unwrap();
    assert_eq!(entropy.nats(), exact.nats());
    let bound = nelbo_token(&network, &predictive, &x, &settings).unwrap();
    for (bound, exact) in bound.nats().iter().zip(exact.nats()) {
        assert!((bound / exact - 1.0).abs() < 1e-12, "{bound} {exact}");
    }
    assert!(bound.draw_errors().iter().all(|error| *error == 0.0));
}

/// A network that counts what it is asked.
struct Counted {
    network: LoadedBackbone,
    kept: AtomicUsize,
    states: AtomicUsize,
    digits: AtomicUsize,
}

impl Counted {
    fn new(network: LoadedBackbone) -> Self {
        let [kept, states, digits] = [0; 3].map(AtomicUsize::new);
        Self { network, kept, states, digits }
    }
}

impl Denoiser for Counted {
    fn spec(&self) -> &Spec {
        self.network.spec()
    }

    fn evaluate(&self, states: &States, positions: &[usize], rows: LogitRows) -> Result<()> {
        self.states.fetch_add(states.t.len(), Ordering::Relaxed);
        self.network.evaluate(states, positions, rows)
    }

    fn by_blocks(&self) -> Option<&dyn BlockDenoiser> {
        self.network.by_blocks().map(|_| self as &dyn BlockDenoiser)
    }
}

impl BlockDenoiser for Counted {
    fn keep(&self, clean: &[u32], sequences: usize, kept: Option<&Kept>) -> Result<Kept> {
        self.kept.fetch_add(sequences, Ordering::Relaxed);
        self.network.keep(clean, sequences, kept)
    }

    fn evaluate_after(
        &self,
        kept: Option<&Kept>,
        first: usize,
        states: &States,
        positions: &[usize],
        rows: LogitRows,
    ) -> Result<()> {
        self.states.fetch_add(states.t.len(), Ordering::Relaxed);
        self.digits.fetch_add(states.y_t.len(), Ordering::Relaxed);
        self.network.evaluate_after(kept, first, states, positions, rows)
    }
}

#[test]
fn the_draws_and_events_of_a_sequence_share_what_is_kept_of_it() {
    let counted = Counted::new(dit(2));
    let (n, p) = (&counted, &Predictive::new(codes(), true));
    let x_0: Vec<u32> = (0..18).map(|i| i % 7).collect();
    // Of the second of three sequences everything is given.
    let given: Vec<bool> = (0..36).map(|digit| digit / 12 == 1).collect();
    let x = &Sequences::new(&x_0, LENGTH).unwrap().with_given(&given);
    let steps = &RevealSteps::even(&Schedule::Linear, 1).unwrap();
    for batch in [1, 4, 100] {
        let s = &LikelihoodSettings { draws: DRAWS, seed: 0, batch, schedule: Schedule::Linear };
        // Two sequences are kept; then so many states of each are evaluated.
        let check = |states: u64, evaluations: u64| {
            assert_eq!(counted.kept.swap(0, Ordering::Relaxed), 2);
            assert_eq!(counted.states.swap(0, Ordering::Relaxed) as u64, 2 * states);
            assert_eq!(evaluations, 2 * (1 + states));
        };
        let draws = DRAWS as u64;
        let exact =
            |order, unit, per_step| exact_in_order(n, p, x, order, unit, per_step, s).unwrap().evaluations();
        let (digits, tokens) = (RevealUnit::Digits, RevealUnit::Tokens);
        check(draws, nelbo_subtoken(n, p, x, s).unwrap().evaluations());
        check(draws, nelbo_token(n, p, x, s).unwrap().evaluations());
        check(draws, joint_objective(n, p, x, s).unwrap().evaluations());
        check(draws, path_bound(n, p, x, steps, digits, s).unwrap().evaluations());
        check(draws, path_bound_full(n, p, x, steps, digits, s).unwrap().evaluations());
        check(4 * draws, bound_k(n, p, x, digits, s).unwrap().evaluations());
        check(15, enumerate::nelbo_subtoken(n, p, x, s).unwrap().evaluations());
        for order in [Order::LeftToRight, Order::Confidence] {
            check(4, exact(order, digits, 1));
            check(2, exact(order, tokens, 1));
            check(2, exact(order, digits, 2));
            check(1, exact(order, digits, usize::MAX));
        }
    }
}

#[test]
fn charges_are_given_what_stands_in_their_own_block_and_before() {
    let (network, predictive) = (Counted::new(dit(2)), Predictive::new(codes(), true));
    let exact = |x_0: &[u32], given: &dyn Fn(usize) -> bool, order| {
        let given: Vec<bool> = (0..2 * LENGTH).map(given).collect();
        let x = Sequences::new(x_0, LENGTH).unwrap().with_given(&given);
        let s = LikelihoodSettings::default();
        let found = exact_in_order(&network, &predictive, &x, order, RevealUnit::Digits, 1, &s).unwrap();
        found.token_nats()[0].clone()
    };
    for order in [Order::LeftToRight, Order::Confidence] {
        let nothing = exact(&[3, 0, 6, 2, 5, 1], &|_| false, order);
        // The last token: its block is charged given it, and no block before.
        let last = exact(&[3, 0, 6, 2, 5, 1], &|digit| digit >= 10, order);
        let other = exact(&[3, 0, 6, 2, 5, 4], &|digit| digit >= 10, order);
        assert_eq!((&last[..4], &other[..4]), (&nothing[..4], &nothing[..4]));
        assert!(last[4] != other[4] && last[4] != nothing[4] && last[5] == 0.0);
        // A beginning of whole blocks: the rest costs what it costs after them, and is evaluated alone.
        network.digits.store(0, Ordering::Relaxed);
        let rest = exact(&[3, 0, 6, 2, 5, 1], &|digit| digit < 4, order);
        assert_eq!((&rest[..2], &rest[2..]), (&[0.0; 2][..], &nothing[2..]));
        assert_eq!(network.digits.load(Ordering::Relaxed), 4 * 8, "four steps of four tokens");
    }
}

#[test]
fn networks_that_cannot_be_evaluated_by_blocks_are_refused() {
    let mut network = HashNetwork::new(codes(), LENGTH, 1);
    network.spec.block_len = 2;
    let predictive = Predictive::new(codes(), true);
    let estimate = |network: &HashNetwork, x_0: &[u32]| -> Result<Vec<f64>> {
        let x = Sequences::new(x_0, x_0.len()).unwrap();
        let found = nelbo_subtoken(network, &predictive, &x, &LikelihoodSettings::default())?;
        Ok(found.nats().to_vec())
    };
    let refused = |network: &HashNetwork| {
        let error = estimate(network, &[1, 2, 3]).unwrap_err();
        assert!(matches!(error, Error::Invalid { .. }), "{error}");
        error.to_string()
    };
    assert!(refused(&network).contains("one with blocks that are not evaluated after others"));
    network.spec.reads_time = true;
    assert!(refused(&network).contains("one with blocks that reads the time"));
    // Where a block is all there is, nothing stands before it.
    assert!(estimate(&network, &[1, 2]).is_ok());
}
