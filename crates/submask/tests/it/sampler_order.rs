//! Orders of revealing against the exact distribution of what they document, and the temperature 0.

use std::collections::BTreeMap;

use submask::denoiser::Denoiser;
use submask::predictive::{Predictive, Sharpening};
use submask::sampler::{
    Draw, Order, Prompt, RevealUnit, SampleSettings, Sampler, Samples, Steps, Trajectory,
};
use submask::schedule::Schedule;
use submask::subtoken::SubTokenizer;

use crate::sampler_distribution::{distance, indices};
use crate::sampler_exact::{ExactSampler, Timing};
use crate::table_network::{HashNetwork, TableNetwork};

const SAMPLES: usize = 20_000;

/// The sampler whose distribution is wanted, written from math.md alone.
struct ExactOrder<'a> {
    /// How tokens are drawn.
    draws: ExactSampler<'a>,
    order: Order,
    per_step: usize,
    /// A wrong sampler: units are ranked by what they are drawn from.
    ranks_sharpened: bool,
}

impl<'a> ExactOrder<'a> {
    fn new(network: &'a TableNetwork, order: Order, carry_over: bool) -> Self {
        let draws = ExactSampler::new(network, Timing::OneByOne, carry_over);
        Self { draws, order, per_step: 1, ranks_sharpened: false }
    }

    /// P(x_0) for every sequence of tokens, the last token fastest, starting from `y`.
    fn distribution(&self, y: &[u32]) -> Vec<f64> {
        let n = self.units(y).len();
        let mut states = BTreeMap::from([(y.to_vec(), 1.0)]);
        while states.keys().any(|y| !self.units(y).is_empty()) {
            let mut after = BTreeMap::new();
            for (y, p) in &states {
                for (next, q) in self.visit(y, n) {
                    *after.entry(next).or_insert(0.0) += p * q;
                }
            }
            states = after;
        }
        self.draws.of_tokens(&states)
    }

    /// (token, digits) of every masked unit.
    fn units(&self, y: &[u32]) -> Vec<(usize, Vec<usize>)> {
        let mask = self.draws.network.codes.mask_id();
        let tokens = y.chunks(self.draws.network.codes.subtoken_len()).enumerate();
        let of_token = |(i, y): (usize, &[u32])| {
            let masked: Vec<usize> = (0..y.len()).filter(|&j| y[j] == mask).collect();
            let units = match self.draws.whole_tokens {
                true if masked.is_empty() => Vec::new(),
                true => vec![masked],
                false => masked.into_iter().map(|j| vec![j]).collect(),
            };
            units.into_iter().map(move |digits| (i, digits))
        };
        tokens.flat_map(of_token).collect()
    }

    /// One evaluation: the first units in the order are revealed, tokens independently of each other.
    fn visit(&self, y: &[u32], n: usize) -> BTreeMap<Vec<u32>, f64> {
        let units = self.units(y);
        // α_t = 1 − t = 1 − k/n.
        let t = units.len() as f64 / n as f64;
        let mut ranked: Vec<(f64, &(usize, Vec<usize>))> =
            units.iter().map(|unit| (self.score(y, t, unit), unit)).collect();
        ranked.sort_by(|a, b| b.0.total_cmp(&a.0));
        let mut reveals: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (_, (i, digits)) in ranked.into_iter().take(self.per_step) {
            reveals.entry(*i).or_default().extend(digits);
        }
        let len = self.draws.network.codes.subtoken_len();
        let mut states = BTreeMap::from([(y.to_vec(), 1.0)]);
        for (i, mut digits) in reveals {
            digits.sort_unstable();
            let drawn = self.draws.reveal(y, i, t, &digits);
            let mut after = BTreeMap::new();
            for (y, p) in states {
                for (digits, q) in &drawn {
                    *after.entry([&y[..i * len], digits, &y[(i + 1) * len..]].concat()).or_insert(0.0) +=
                        p * q;
                }
            }
            states = after;
        }
        states
    }

    fn score(&self, y: &[u32], t: f64, (i, digits): &(usize, Vec<usize>)) -> f64 {
        let codes = &self.draws.network.codes;
        let len = codes.subtoken_len();
        if self.order == Order::LeftToRight {
            return -((i * len + digits[0]) as f64);
        }
        let present = &y[i * len..(i + 1) * len];
        let logits = self.draws.network.logits(y, *i, t);
        let temperature = if self.ranks_sharpened { self.draws.temperature } else { 1.0 };
        let support = |x: &u32| !self.draws.carry_over || self.draws.agrees(present, *x);
        let support: Vec<u32> = (0..logits.len() as u32).filter(support).collect();
        let largest =
            support.iter().map(|&x| f64::from(logits[x as usize])).fold(f64::NEG_INFINITY, f64::max);
        let mut masses =
            vec![0.0; if self.draws.whole_tokens { logits.len() } else { codes.base() as usize }];
        for x in support {
            let value = if self.draws.whole_tokens { x } else { codes.digits(x)[digits[0]] };
            masses[value as usize] += ((f64::from(logits[x as usize]) - largest) / temperature).exp();
        }
        let total: f64 = masses.iter().sum();
        let mut p: Vec<f64> = masses.into_iter().map(|mass| mass / total).collect();
        p.sort_by(|a, b| b.total_cmp(a));
        match self.order {
            Order::Random | Order::LeftToRight => panic!("no prediction"),
            Order::Confidence => p[0],
            Order::Margin => p[0] - p.get(1).unwrap_or(&0.0),
            Order::Entropy => p.iter().filter(|p| **p > 0.0).map(|p| p * p.ln()).sum(),
        }
    }
}

fn settings(exact: &ExactOrder) -> SampleSettings {
    let ExactSampler { temperature, top_p, whole_tokens, .. } = exact.draws;
    SampleSettings {
        order: exact.order,
        per_step: exact.per_step,
        unit: if whole_tokens { RevealUnit::Tokens } else { RevealUnit::Digits },
        sharpening: Sharpening { temperature, top_p, ..Sharpening::default() },
        seed: 5,
        batch: 4096,
        ..SampleSettings::default()
    }
}

/// `count` samples from the library's sampler with the settings of `exact`, starting from the state `y`.
fn sample(exact: &ExactOrder, y: &[u32], count: usize) -> Samples {
    let network = exact.draws.network;
    let predictive = Predictive::new(network.codes.clone(), exact.draws.carry_over);
    let prompt = Prompt::from_state(&predictive, y).unwrap();
    let sampler = Sampler::new(network, &predictive, settings(exact)).unwrap();
    sampler.sample(&vec![prompt; count]).unwrap()
}

fn assert_exact(exact: &ExactOrder, y: &[u32]) {
    let network = exact.draws.network;
    let expected = exact.distribution(y);
    assert!((expected.iter().sum::<f64>() - 1.0).abs() < 1e-9);
    let samples = sample(exact, y, SAMPLES);
    let distance = distance(indices(&samples, network.codes.vocab_size()), &expected);
    let (report, n) = (samples.report(), exact.units(y).len());
    println!(
        "ℓ = {}, {}, N = {}, whole tokens {}, carry-over {}: {distance:.2} of the allowed distance, {} redraws",
        network.codes.subtoken_len(),
        exact.order,
        exact.per_step,
        exact.draws.whole_tokens,
        exact.draws.carry_over,
        report.redraws
    );
    assert!(distance < 1.0, "{distance}");
    let evaluations = (n.div_ceil(exact.per_step) * SAMPLES) as u64;
    assert_eq!([report.evaluations, report.steps_total, report.steps_skipped], [evaluations, evaluations, 0]);
    assert!(report.redraws == 0 || network.codes.has_invalid_codes() && !exact.draws.carry_over);
}

fn empty(network: &TableNetwork) -> Vec<u32> {
    vec![network.codes.mask_id(); network.seq_len * network.codes.subtoken_len()]
}

/// ℓ = 1, 2, 2; once C = b^ℓ and once with codes that no token has, permuted.
fn networks() -> Vec<TableNetwork> {
    let codes = [
        (SubTokenizer::new(4, 1).unwrap(), 3),
        (SubTokenizer::new(4, 2).unwrap(), 3),
        (SubTokenizer::new(5, 2).unwrap().with_seeded_permutation(3).unwrap(), 2),
    ];
    codes.into_iter().map(|(codes, seq_len)| TableNetwork::random(codes, seq_len, 1.5, 1)).collect()
}

/// Every order, one and two units per evaluation, sub-tokens and whole tokens, with and without carry-over.
fn assert_all_exact(network: &TableNetwork, y: &[u32]) {
    for order in Order::deterministic() {
        for per_step in [1, 2] {
            for whole_tokens in [false, true] {
                for carry_over in [true, false] {
                    let mut exact = ExactOrder { per_step, ..ExactOrder::new(network, order, carry_over) };
                    exact.draws.whole_tokens = whole_tokens;
                    assert_exact(&exact, y);
                }
            }
        }
    }
}

#[test]
fn ordered_samples_have_the_exact_distribution() {
    networks().iter().for_each(|network| assert_all_exact(network, &empty(network)));
}

#[test]
fn ordered_samples_around_holes_have_the_exact_distribution() {
    for network in &networks()[1..] {
        let (codes, len) = (&network.codes, network.codes.subtoken_len());
        let mut y = empty(network);
        // The last digit of the first token.
        y[len - 1] = codes.digits(1)[len - 1];
        assert_all_exact(network, &y);
    }
}

#[test]
fn a_network_that_reads_the_time_gets_the_share_that_is_masked() {
    for network in networks() {
        let network = network.with_time_slope(2.0);
        for per_step in [1, 2] {
            let exact = ExactOrder { per_step, ..ExactOrder::new(&network, Order::Confidence, true) };
            assert_exact(&exact, &empty(&network));
        }
    }
    // Another schedule maps the same share to another time.
    let codes = SubTokenizer::new(4, 2).unwrap();
    let predictive = Predictive::new(codes.clone(), true);
    let mut network = HashNetwork::new(codes, 3, 1);
    network.spec.reads_time = true;
    let schedule = Schedule::Cosine;
    let settings = SampleSettings {
        order: Order::Margin,
        per_step: 4,
        schedule,
        trajectories: true,
        ..SampleSettings::default()
    };
    let prompt = Prompt::empty(&predictive, 3).unwrap();
    let samples = Sampler::new(&network, &predictive, settings).unwrap().sample(&[prompt]).unwrap();
    let times: Vec<f64> = samples.trajectories[0].changes.iter().map(|change| change.time).collect();
    assert_eq!(times, [schedule.inverse_alpha(0.0), schedule.inverse_alpha(1.0 - 2.0 / 6.0)]);
}

#[test]
fn units_are_ranked_before_the_distribution_is_sharpened() {
    for network in &networks() {
        for carry_over in [true, false] {
            for order in [Order::Confidence, Order::Entropy] {
                let mut exact = ExactOrder::new(network, order, carry_over);
                (exact.draws.temperature, exact.draws.top_p) = (0.5, 0.9);
                assert_exact(&exact, &empty(network));
            }
        }
    }
}

/// The measure finds samplers that are nearly right.
#[test]
fn wrong_orders_are_found_out() {
    // Of three values and more, confidence, margin and entropy differ.
    let codes = SubTokenizer::new(5, 2).unwrap().with_seeded_permutation(3).unwrap();
    let network = &TableNetwork::random(codes, 3, 2.0, 1);
    let y = empty(network);
    let new = |per_step| {
        let mut exact = ExactOrder { per_step, ..ExactOrder::new(network, Order::Confidence, true) };
        exact.draws.temperature = 2.0;
        exact
    };
    for per_step in [1, 2] {
        let samples = sample(&new(per_step), &y, 5 * SAMPLES);
        let of = |change: fn(&mut ExactOrder)| {
            let mut exact = new(per_step);
            change(&mut exact);
            distance(indices(&samples, 5), &exact.distribution(&y))
        };
        assert!(of(|_| {}) < 1.0);
        let random = new(per_step).draws.distribution(&y);
        let wrong = [
            ("random order", distance(indices(&samples, 5), &random)),
            ("left to right", of(|exact| exact.order = Order::LeftToRight)),
            ("margin", of(|exact| exact.order = Order::Margin)),
            ("entropy", of(|exact| exact.order = Order::Entropy)),
            ("one more at once", of(|exact| exact.per_step += 1)),
            ("ranked after sharpening", of(|exact| exact.ranks_sharpened = true)),
            ("whole tokens", of(|exact| exact.draws.whole_tokens = true)),
            ("no carry-over", of(|exact| exact.draws.carry_over = false)),
            ("temperature 1.8", of(|exact| exact.draws.temperature = 1.8)),
        ];
        println!("N = {per_step}: {wrong:.2?}");
        for (name, distance) in wrong {
            // The first two of this network's units by margin are always the first two by confidence.
            let is_right = per_step == 2 && name == "margin";
            assert!(is_right == (distance < 1.0), "{name}: {distance}");
        }
        let apart = of(|exact| exact.draws.independent_digits = true);
        assert!(per_step == 1 || apart > 1.0, "digits of one token drawn apart: {apart}");
    }
}

#[test]
fn ordered_samples_depend_neither_on_the_batch_nor_on_threads_nor_on_the_other_sequences() {
    let network = &networks()[2];
    for (order, carry_over) in Order::deterministic().flat_map(|order| [(order, true), (order, false)]) {
        let predictive = Predictive::new(network.codes.clone(), carry_over);
        let tokens = [[None, None], [Some(3), None], [None, Some(0)], [Some(1), Some(2)]];
        let prompts: Vec<Prompt> =
            (0..50).map(|s| Prompt::from_tokens(&predictive, &tokens[s % 4]).unwrap()).collect();
        for per_step in [1, 3] {
            let run = |batch, chunk, threads, from: usize| {
                let network = network.clone().with_chunk(chunk);
                let first_sequence = from as u64;
                let settings = SampleSettings {
                    order,
                    per_step,
                    batch,
                    first_sequence,
                    trajectories: true,
                    ..SampleSettings::default()
                };
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                let sampler = Sampler::new(&network, &predictive, settings).unwrap();
                pool.install(|| sampler.sample(&prompts[from..])).unwrap()
            };
            let one = run(1, 1000, 1, 0);
            assert_eq!(one, run(8, 1, 1, 0));
            assert_eq!(one, run(64, 3, 4, 0));
            assert_eq!(one.tokens[20 * 2..], run(5, 2, 2, 20).tokens);
        }
    }
}

/// The first of the tokens of `support` with the largest logit.
fn best(logits: &[f32], support: impl Iterator<Item = u32>) -> u32 {
    support.reduce(|best, x| if logits[x as usize] > logits[best as usize] { x } else { best }).unwrap()
}

/// Follows a trajectory: every token must reveal digits of its most probable token. Returns how often that token was
/// impossible.
fn assert_greedy(network: &TableNetwork, predictive: &Predictive, trajectory: &Trajectory) -> usize {
    let (codes, len) = (predictive.codes(), predictive.codes().subtoken_len());
    let (mut y, mut impossible) = (trajectory.start.clone(), 0);
    for change in &trajectory.changes {
        let before = y.clone();
        change.digits.iter().for_each(|&(digit, value)| y[digit] = value);
        for of_token in change.digits.chunk_by(|a, b| a.0 / len == b.0 / len) {
            let i = of_token[0].0 / len;
            let logits = network.logits(&before, i, change.time);
            let possible = predictive.consistent(&before[i * len..(i + 1) * len]);
            let all = || 0..codes.vocab_size() as u32;
            let valid = best(&logits, all().filter(|x| possible.contains(*x)));
            let first = if predictive.carry_over() { valid } else { best(&logits, all()) };
            let mut copied = before[i * len..(i + 1) * len].to_vec();
            of_token.iter().for_each(|(digit, _)| copied[digit % len] = codes.digits(first)[digit % len]);
            let x_0 = if predictive.consistent(&copied).is_empty() { valid } else { first };
            impossible += usize::from(x_0 != first);
            assert!(of_token.iter().all(|&(digit, value)| value == codes.digits(x_0)[digit % len]));
        }
    }
    assert!(!y.contains(&codes.mask_id()));
    impossible
}

#[test]
fn at_temperature_zero_every_sampler_reveals_the_most_probable_token() {
    let sharpening = Sharpening { temperature: 0.0, top_p: 0.5, top_k: Some(2), ..Sharpening::default() };
    let default = || SampleSettings { sharpening, trajectories: true, ..SampleSettings::default() };
    let mut impossible = 0;
    for network in &networks() {
        for carry_over in [true, false] {
            let predictive = Predictive::new(network.codes.clone(), carry_over);
            for unit in [RevealUnit::Digits, RevealUnit::Tokens] {
                let ordered = Order::deterministic()
                    .flat_map(|order| [1, 2].map(|per_step| SampleSettings { order, per_step, ..default() }));
                let schedule = Some([-0.5, 1.0, 1.0].into());
                let planned = [
                    default(),
                    SampleSettings { steps: Steps::Grid(3), ..default() },
                    SampleSettings { temperature_schedule: schedule, ..default() },
                ];
                for settings in ordered.chain(planned) {
                    let settings = SampleSettings { unit, ..settings };
                    let prompts = vec![Prompt::empty(&predictive, network.seq_len).unwrap(); 20];
                    let sampler = Sampler::new(network, &predictive, settings).unwrap();
                    let samples = sampler.sample(&prompts).unwrap();
                    for (trajectory, report) in samples.trajectories.iter().zip(&samples.reports) {
                        let redraws = assert_greedy(network, &predictive, trajectory);
                        assert_eq!(report.redraws, redraws as u64);
                        impossible += redraws;
                    }
                }
            }
        }
    }
    assert!(impossible > 0, "no draw was ever repeated");
}

#[test]
fn an_order_at_temperature_zero_draws_the_same_whatever_the_seed() {
    let network = &networks()[2];
    let predictive = Predictive::new(network.codes.clone(), true);
    let prompts = vec![Prompt::empty(&predictive, 2).unwrap(); 10];
    let sharpening = Sharpening { temperature: 0.0, ..Sharpening::default() };
    for order in Order::deterministic() {
        let run = |seed| {
            let settings = SampleSettings { order, sharpening, seed, ..SampleSettings::default() };
            Sampler::new(network, &predictive, settings).unwrap().sample(&prompts).unwrap().tokens
        };
        let samples = run(0);
        assert_eq!(samples, run(1));
        assert!(samples.chunks(2).all(|x| x == &samples[..2]));
    }
}

#[test]
fn a_corrector_and_marginal_draws_take_the_temperature_zero() {
    let network = &networks()[2];
    for carry_over in [true, false] {
        let predictive = Predictive::new(network.codes.clone(), carry_over);
        let prompts = vec![Prompt::empty(&predictive, 2).unwrap(); 20];
        let sharpening = Sharpening { temperature: 0.0, ..Sharpening::default() };
        for (draw, corrector) in [(Draw::Marginal, false), (Draw::Joint, true), (Draw::Marginal, true)] {
            let corrector = corrector.then_some([2.0, 0.5, 0.0].into());
            let settings = SampleSettings {
                steps: Steps::Grid(4),
                draw,
                corrector,
                sharpening,
                trajectories: true,
                ..SampleSettings::default()
            };
            let samples = Sampler::new(network, &predictive, settings).unwrap().sample(&prompts).unwrap();
            if corrector.is_none() {
                let greedy = |trajectory| assert_greedy(network, &predictive, trajectory);
                samples.trajectories.iter().map(greedy).for_each(drop);
            }
            assert!(samples.tokens.iter().all(|x| *x < 5));
        }
    }
}

#[test]
fn settings_that_an_order_cannot_have_are_refused_by_name() {
    let refused = |settings: SampleSettings, message: &str| {
        let error = settings.validate().unwrap_err().to_string();
        assert!(error.starts_with(message), "{error}");
    };
    let ordered = || SampleSettings { order: Order::Entropy, ..SampleSettings::default() };
    ordered().validate().unwrap();
    refused(SampleSettings { steps: Steps::Grid(8), ..ordered() }, "steps = grid of 8 is not allowed");
    refused(
        SampleSettings { steps: Steps::Times(vec![1.0, 0.5, 0.0]), ..ordered() },
        "steps = 3 given times",
    );
    refused(SampleSettings { draw: Draw::Marginal, ..ordered() }, "draw = marginal is not allowed");
    refused(SampleSettings { per_step: 0, ..ordered() }, "per_step = 0 is not allowed");
    let corrector = Some([1.0, 1.0, 0.0].into());
    refused(SampleSettings { corrector, ..ordered() }, "corrector = given is not allowed");
    refused(SampleSettings { per_step: 2, ..SampleSettings::default() }, "per_step = 2 is not allowed");
}

#[test]
fn only_what_an_order_needs_is_asked_for() {
    let network = &networks()[1];
    let predictive = Predictive::new(network.codes.clone(), true);
    let prompt = [Prompt::empty(&predictive, 3).unwrap()];
    let positions = |order, unit| {
        let settings = SampleSettings { order, unit, ..SampleSettings::default() };
        Sampler::new(network as &dyn Denoiser, &predictive, settings)
            .unwrap()
            .sample(&prompt)
            .unwrap()
            .report()
            .positions
    };
    // Left to right is known beforehand: one position per evaluation. The others look at all tokens not yet visible.
    assert_eq!(positions(Order::LeftToRight, RevealUnit::Digits), 6);
    assert_eq!(positions(Order::LeftToRight, RevealUnit::Tokens), 3);
    assert_eq!(positions(Order::Confidence, RevealUnit::Tokens), 3 + 2 + 1);
}
