//! Likelihoods along orders: exact values against an enumeration of the generator whose likelihood they are, and the
//! bound over random orders. The enumeration is written from math.md alone: it shares no code with the library but the
//! digits of a token.

use std::collections::BTreeMap;

use submask::likelihood::{
    Estimate, Exact, LikelihoodSettings, Sequences, bound_k, enumerate, exact_in_order,
};
use submask::order::Order;
use submask::predictive::Predictive;
use submask::schedule::{RevealUnit, Schedule};
use submask::subtoken::SubTokenizer;

use crate::sampler_exact::{ExactSampler, Timing};
use crate::table_network::{TableNetwork, all_sequences};

const UNITS: [RevealUnit; 2] = [RevealUnit::Digits, RevealUnit::Tokens];

/// The generator that reveals in a deterministic order, several units per step.
struct Generator<'a> {
    network: &'a TableNetwork,
    carry_over: bool,
    order: Order,
    unit: RevealUnit,
    per_step: usize,
}

impl Generator<'_> {
    /// P(x_0) of every sequence of tokens, the last token fastest, generated from `y`.
    fn distribution(&self, y: &[u32]) -> Vec<f64> {
        let mut probabilities = vec![0.0; self.network.codes.vocab_size().pow(self.network.seq_len as u32)];
        self.walk(y, 1.0, self.units(y).len(), &mut probabilities);
        probabilities
    }

    /// Adds what becomes of `y`, which comes up with probability `p`; `total` units were masked at first.
    fn walk(&self, y: &[u32], p: f64, total: usize, probabilities: &mut [f64]) {
        let (codes, len) = (&self.network.codes, self.network.codes.subtoken_len());
        let units = self.units(y);
        if units.is_empty() {
            // Without carry-over a code may be invalid: that mass is lost.
            if let Ok(x_0) = codes.decode(y) {
                probabilities[x_0.iter().fold(0, |index, &x| index * codes.vocab_size() + x as usize)] += p;
            }
            return;
        }
        // The linear schedule: α_t = 1 − t is the visible share.
        let t = 1.0 - (total - units.len()) as f64 / total as f64;
        let mut outcomes = vec![(y.to_vec(), p)];
        for (i, digits) in self.revealed(y, t, &units) {
            let mut values = BTreeMap::<Vec<u32>, f64>::new();
            for (x, p) in self.predict(y, i, t).into_iter().enumerate() {
                let value = digits.iter().map(|&j| codes.digits(x as u32)[j]).collect();
                *values.entry(value).or_default() += p;
            }
            let with = |(y, p): &(Vec<u32>, f64), (value, q): (&Vec<u32>, &f64)| {
                let mut y = y.clone();
                digits.iter().zip(value).for_each(|(j, digit)| y[i * len + j] = *digit);
                (y, p * q)
            };
            outcomes = outcomes.iter().flat_map(|o| values.iter().map(move |v| with(o, v))).collect();
        }
        for (y, p) in outcomes.into_iter().filter(|(_, p)| *p > 0.0) {
            self.walk(&y, p, total, probabilities);
        }
    }

    /// The masked units: a token and digits of it.
    fn units(&self, y: &[u32]) -> Vec<(usize, Vec<usize>)> {
        let mask_id = self.network.codes.mask_id();
        let tokens = y.chunks(self.network.codes.subtoken_len()).enumerate();
        let masked = tokens.map(|(i, y)| (i, (0..y.len()).filter(|&j| y[j] == mask_id).collect::<Vec<_>>()));
        match self.unit {
            RevealUnit::Tokens => masked.filter(|(_, digits)| !digits.is_empty()).collect(),
            RevealUnit::Digits => {
                masked.flat_map(|(i, digits)| digits.into_iter().map(move |j| (i, vec![j]))).collect()
            }
        }
    }

    /// The digits revealed at a state, by token.
    fn revealed(&self, y: &[u32], t: f64, units: &[(usize, Vec<usize>)]) -> BTreeMap<usize, Vec<usize>> {
        let mut ranked: Vec<(i64, &(usize, Vec<usize>))> = units
            .iter()
            .enumerate()
            // Scores that differ by rounding only count as equal.
            .map(|(place, unit)| (-(self.score(y, t, place, unit) * 1e9).round() as i64, unit))
            .collect();
        ranked.sort_by_key(|(score, _)| *score);
        let mut tokens = BTreeMap::<usize, Vec<usize>>::new();
        for (_, (i, digits)) in ranked.into_iter().take(self.per_step) {
            tokens.entry(*i).or_default().extend(digits);
        }
        tokens
    }

    fn score(&self, y: &[u32], t: f64, place: usize, (i, digits): &(usize, Vec<usize>)) -> f64 {
        let p = self.predict(y, *i, t);
        let mut q = match self.unit {
            RevealUnit::Tokens => p,
            RevealUnit::Digits => {
                let mut marginal = vec![0.0; self.network.codes.base() as usize];
                let digit = |x| self.network.codes.digits(x as u32)[digits[0]] as usize;
                p.iter().enumerate().for_each(|(x, p)| marginal[digit(x)] += p);
                marginal
            }
        };
        q.sort_by(|a, b| b.total_cmp(a));
        match self.order {
            Order::Random => panic!("no score"),
            Order::LeftToRight => -(place as f64),
            Order::Confidence => q[0],
            Order::Margin => q[0] - q[1],
            Order::Entropy => q.iter().filter(|q| **q > 0.0).map(|q| q * q.ln()).sum(),
        }
    }

    /// p(x | y) of token i.
    fn predict(&self, y: &[u32], i: usize, t: f64) -> Vec<f64> {
        let (codes, len) = (&self.network.codes, self.network.codes.subtoken_len());
        let own = &y[i * len..(i + 1) * len];
        let agrees = |x: usize| {
            codes.digits(x as u32).iter().zip(own).all(|(digit, y)| *y == codes.mask_id() || digit == y)
        };
        let weight = |(x, logit): (usize, f32)| match !self.carry_over || agrees(x) {
            true => f64::from(logit).exp(),
            false => 0.0,
        };
        let weights: Vec<f64> = self.network.logits(y, i, t).into_iter().enumerate().map(weight).collect();
        let total: f64 = weights.iter().sum();
        weights.into_iter().map(|weight| weight / total).collect()
    }
}

/// Tables of tokens with and without invalid codes, of one, two and three digits.
fn networks() -> Vec<TableNetwork> {
    let table = |vocab_size, subtoken_len, seq_len, seed| {
        let codes = SubTokenizer::new(vocab_size, subtoken_len).unwrap();
        TableNetwork::random(codes, seq_len, 1.5, seed)
    };
    vec![
        table(5, 2, 2, 3),
        table(4, 2, 2, 4).with_time_slope(1.0),
        table(6, 3, 2, 5).with_time_slope(-0.5),
        table(3, 1, 3, 6),
    ]
}

fn settings(batch: usize) -> LikelihoodSettings {
    LikelihoodSettings { draws: 1, seed: 0, batch, schedule: Schedule::Linear }
}

fn exact(
    network: &TableNetwork,
    carry_over: bool,
    x: &Sequences,
    (order, unit, per_step): (Order, RevealUnit, usize),
) -> Estimate<Exact> {
    let predictive = Predictive::new(network.codes.clone(), carry_over);
    exact_in_order(network, &predictive, x, order, unit, per_step, &settings(7)).unwrap()
}

/// Every deterministic order, unit and number of units per step, one to all.
fn generators() -> impl Iterator<Item = (Order, RevealUnit, usize)> {
    let units = UNITS.into_iter().flat_map(|unit| [1, 2, 3, usize::MAX].map(|per_step| (unit, per_step)));
    units.flat_map(|(unit, per_step)| Order::deterministic().map(move |order| (order, unit, per_step)))
}

#[test]
fn exact_likelihoods_are_those_of_the_generator() {
    for network in networks() {
        let x_0 = all_sequences(network.codes.vocab_size(), network.seq_len);
        let y_0 = network.codes.encode(&x_0).unwrap();
        let width = network.seq_len * network.codes.subtoken_len();
        // Given: nothing; a scattered prompt that differs from sequence to sequence, part of a token included.
        let nothing = vec![false; y_0.len()];
        let scattered: Vec<bool> = (0..y_0.len()).map(|k| (k % width + k / width) % 3 == 1).collect();
        for (carry_over, given) in [true, false].into_iter().flat_map(|c| [(c, &nothing), (c, &scattered)]) {
            let x = Sequences::new(&x_0, network.seq_len).unwrap().with_given(given);
            for (order, unit, per_step) in generators() {
                let generator = Generator { network: &network, carry_over, order, unit, per_step };
                let mut known = BTreeMap::<Vec<u32>, Vec<f64>>::new();
                let mut evaluations = 0;
                let start = |(y_0, given): (&[u32], &[bool])| -> Vec<u32> {
                    let visible =
                        |(y, given): (&u32, &bool)| if *given { *y } else { network.codes.mask_id() };
                    y_0.iter().zip(given).map(visible).collect()
                };
                let starts = y_0.chunks(width).zip(given.chunks(width)).map(start);
                let found = exact(&network, carry_over, &x, (order, unit, per_step));
                for (s, (y, nats)) in starts.zip(found.nats()).enumerate() {
                    evaluations += generator.units(&y).len().div_ceil(per_step) as u64;
                    let all = known.entry(y).or_insert_with_key(|y| generator.distribution(y));
                    let difference = (nats + all[s].ln()).abs();
                    assert!(
                        difference < 1e-9,
                        "{order} {unit:?} {per_step} {carry_over}: off by {difference}"
                    );
                }
                assert_eq!(found.evaluations(), evaluations);
                assert!(found.draw_errors().iter().all(|error| *error == 0.0));
            }
        }
    }
}

#[test]
fn the_probabilities_of_all_sequences_sum_to_one_with_carry_over() {
    for network in networks() {
        let x_0 = all_sequences(network.codes.vocab_size(), network.seq_len);
        let x = Sequences::new(&x_0, network.seq_len).unwrap();
        for (order, unit, per_step) in generators() {
            let found = exact(&network, true, &x, (order, unit, per_step));
            let mass: f64 = found.nats().iter().map(|nats| (-nats).exp()).sum();
            assert!((mass - 1.0).abs() < 1e-9, "{order} {unit:?} {per_step}: {mass}");
        }
    }
}

/// Else the tests above could not tell one from another. In base 2 they would not: a bit that is surer by one score is
/// surer by all.
#[test]
fn every_order_unit_and_number_per_step_is_a_generator_of_its_own() {
    let codes = SubTokenizer::new(5, 2).unwrap();
    let x_0 = all_sequences(codes.vocab_size(), 3);
    let x = Sequences::new(&x_0, 3).unwrap();
    // Two orders may agree on one network.
    let networks: Vec<_> = (0..8).map(|seed| TableNetwork::random(codes.clone(), 3, 1.5, seed)).collect();
    let nats_of = |generator| -> Vec<f64> {
        networks.iter().flat_map(|network| exact(network, true, &x, generator).nats().to_vec()).collect()
    };
    // By position, ℓ sub-tokens at once are a token.
    let by_prediction = |order: Order| order.ranking().is_some_and(|ranking| ranking.reads_prediction());
    let some = generators().filter(|(order, _, per_step)| by_prediction(*order) && *per_step < 3);
    // Two of three tokens at once are chosen at one state only, where orders may agree.
    let some = some.filter(|(_, unit, per_step)| *unit == RevealUnit::Digits || *per_step == 1);
    let all: Vec<_> = some.map(|generator| (generator, nats_of(generator))).collect();
    for (k, (ours, a)) in all.iter().enumerate() {
        for (theirs, b) in &all[..k] {
            assert_ne!(a, b, "{ours:?} {theirs:?}");
        }
    }
}

#[test]
fn exact_values_depend_neither_on_the_batch_nor_on_threads_nor_on_pieces() {
    let network = &networks()[0];
    let predictive = Predictive::new(network.codes.clone(), true);
    let x_0 = all_sequences(5, 2);
    let given: Vec<bool> = (0..100).map(|k| k % 7 == 0).collect();
    for (order, unit, per_step) in generators() {
        let run = |batch, chunk, threads, from: usize, to: usize| {
            let network = network.clone().with_chunk(chunk);
            let x = Sequences::new(&x_0[2 * from..2 * to], 2).unwrap().with_given(&given[4 * from..4 * to]);
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let s = settings(batch);
            pool.install(|| exact_in_order(&network, &predictive, &x, order, unit, per_step, &s).unwrap())
        };
        let one = run(1, 1000, 1, 0, 25);
        assert_eq!(one, run(7, 2, 3, 0, 25));
        assert_eq!(one, run(usize::MAX, 1000, 2, 0, 25));
        let mut parts = run(5, 3, 2, 0, 11);
        parts.append(run(3, 1, 2, 11, 25));
        assert_eq!(one, parts);
    }
}

#[test]
fn random_orders_and_empty_steps_are_refused() {
    let network = &networks()[0];
    let predictive = Predictive::new(network.codes.clone(), true);
    let x = Sequences::new(&[0, 1], 2).unwrap();
    let refusal = |order, per_step| {
        let unit = RevealUnit::Digits;
        let refused = exact_in_order(network, &predictive, &x, order, unit, per_step, &settings(1));
        refused.unwrap_err().to_string()
    };
    let random = refusal(Order::Random, 1);
    assert!(random.contains("nelbo-subtoken") && random.contains("orders"), "{random}");
    assert!(refusal(Order::Margin, 0).contains("per_step = 0"));
}

/// In expectation from the NELBO at K = 1 down to the exact value of generation in random order, by both units.
#[test]
fn the_bound_over_random_orders_falls_with_their_number_to_the_exact_value() {
    let network = &networks()[0];
    let predictive = Predictive::new(network.codes.clone(), true);
    let x_0 = all_sequences(5, 2);
    let x = Sequences::new(&x_0, 2).unwrap();
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    for unit in UNITS {
        let whole_tokens = unit == RevealUnit::Tokens;
        let generator = ExactSampler { whole_tokens, ..ExactSampler::new(network, Timing::OneByOne, true) };
        let log_p: Vec<f64> = generator.distribution(&[3; 4]).into_iter().map(f64::ln).collect();
        let nelbo = match unit {
            RevealUnit::Digits => enumerate::nelbo_subtoken(network, &predictive, &x, &settings(1)),
            RevealUnit::Tokens => enumerate::nelbo_token(network, &predictive, &x, &settings(1)),
        };
        // Mean over sequences, and its standard error over seeds.
        let bound = |orders, seeds: u64| {
            let run = |seed| {
                let s = LikelihoodSettings { draws: orders, seed, ..settings(1000) };
                let found = bound_k(network, &predictive, &x, unit, &s).unwrap();
                assert_eq!(found.evaluations() as usize, 25 * orders * if whole_tokens { 2 } else { 4 });
                // Orders make one value per sequence: there is an error over sequences, and none over orders.
                assert!(found.draw_errors().iter().all(|error| error.is_nan()));
                assert!(found.nats_per_sequence().standard_error.is_some());
                mean(found.nats())
            };
            let runs: Vec<f64> = (0..seeds).map(run).collect();
            let centre = mean(&runs);
            let spread = runs.iter().map(|run| (run - centre).powi(2)).sum::<f64>();
            (centre, spread.sqrt() / seeds as f64)
        };
        let bounds = [(1, 1600), (2, 800), (4, 400), (16, 100), (256, 8)].map(|(k, seeds)| bound(k, seeds));
        let (above, below) = (mean(nelbo.unwrap().nats()), -mean(&log_p));
        println!("{unit:?}: nelbo {above:.4}, K = 1, 2, 4, 16, 256: {bounds:.4?}, exact {below:.4}");
        assert!((bounds[0].0 - above).abs() < 3.0 * bounds[0].1);
        for pair in bounds.windows(2) {
            assert!(pair[1].0 < pair[0].0 + 3.0 * (pair[0].1 + pair[1].1));
        }
        assert!(bounds[0].0 - bounds[3].0 > 10.0 * (bounds[0].1 + bounds[3].1), "it falls");
        assert!(bounds.iter().all(|(bound, error)| bound + 3.0 * error > below));
        assert!((bounds[4].0 - below).abs() < 0.01 * below);
    }
}
