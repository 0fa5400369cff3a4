//! Likelihoods on random tables: what holds without any fixture.

use submask::denoiser::{Denoiser, Spec, States};
use submask::likelihood::{
    Estimate, Kind, Likelihood, LikelihoodSettings, Meaning, Sequences, enumerate, exact_in_order,
    joint_objective, nelbo_subtoken, nelbo_token, path_bound, path_bound_full,
};
use submask::order::Order;
use submask::predictive::Predictive;
use submask::schedule::{RevealSteps, RevealUnit, Schedule};
use submask::subtoken::SubTokenizer;

use crate::sampler_exact::{ExactSampler, Timing};
use crate::table_network::{TableNetwork, all_sequences};

fn network(vocab_size: usize, subtoken_len: usize, seq_len: usize) -> TableNetwork {
    TableNetwork::random(SubTokenizer::new(vocab_size, subtoken_len).unwrap(), seq_len, 1.5, 3)
}

fn settings(seed: u64, draws: usize) -> LikelihoodSettings {
    LikelihoodSettings { draws, seed, batch: 1000, schedule: Schedule::Linear }
}

fn even(schedule: &Schedule, steps: usize) -> RevealSteps {
    RevealSteps::even(schedule, steps).unwrap()
}

fn largest_difference(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

/// Mean over sequences within three standard errors, none beyond five.
fn assert_within_errors<K: Meaning>(name: &str, found: &Estimate<K>, expected: &[f64]) {
    let pairs = || found.nats().iter().zip(expected).map(|(a, b)| a - b);
    let error = found.draw_errors().iter().map(|e| e * e).sum::<f64>().sqrt() + 1e-12;
    let score = pairs().sum::<f64>() / error;
    let largest = pairs().zip(found.draw_errors()).map(|(d, e)| d.abs() / (e + 1e-12)).fold(0.0, f64::max);
    println!("{name}: {score:+.2} standard errors, largest {largest:.2}");
    assert!(score.abs() < 3.0 && largest < 5.0, "{name}: {score} {largest}");
}

/// Every bound lies above −log of the probability with which its own sampler produces the sequence, and the bound of
/// one sampler need not hold for another.
#[test]
fn bounds_hold_for_the_sampler_whose_bound_they_are() {
    for (vocab_size, subtoken_len) in [(4, 1), (5, 2), (8, 3)] {
        let network = network(vocab_size, subtoken_len, 2);
        let predictive = Predictive::new(network.codes.clone(), true);
        let x_0 = all_sequences(vocab_size, 2);
        let x = Sequences::new(&x_0, 2).unwrap();
        let y = vec![network.codes.mask_id(); 2 * subtoken_len];
        for (unit, whole_tokens) in [(RevealUnit::Digits, false), (RevealUnit::Tokens, true)] {
            let exact = |timing| {
                ExactSampler { whole_tokens, ..ExactSampler::new(&network, timing, true) }.distribution(&y)
            };
            let check = |name: &str, nats: &[f64], probabilities: &[f64]| {
                let slack: Vec<f64> = nats.iter().zip(probabilities).map(|(nats, p)| nats + p.ln()).collect();
                let smallest = slack.iter().copied().fold(f64::INFINITY, f64::min);
                println!("{vocab_size} tokens, {unit:?}: {name}: slack from {smallest:.3}");
                assert!(smallest > -1e-9, "{name} falls below −log p by {smallest}");
            };
            for steps in [1, 2, 5] {
                let bound = enumerate::path_bound(
                    &network,
                    &predictive,
                    &x,
                    &even(&Schedule::Linear, steps),
                    unit,
                    &settings(0, 1),
                );
                check(&format!("path_bound T = {steps}"), bound.unwrap().nats(), &exact(Timing::Grid(steps)));
            }
            let nelbo = match unit {
                RevealUnit::Digits => enumerate::nelbo_subtoken(&network, &predictive, &x, &settings(0, 1)),
                RevealUnit::Tokens => enumerate::nelbo_token(&network, &predictive, &x, &settings(0, 1)),
            };
            check("nelbo", nelbo.unwrap().nats(), &exact(Timing::OneByOne));
        }
    }
}

/// One token that is 00 or 11 with equal probability: entropy log 2, joint objective ½ log 2 (math.md §5).
#[test]
fn two_dependent_bits_show_that_the_joint_objective_is_no_bound() {
    struct TwoBits(Spec);
    impl Denoiser for TwoBits {
        fn spec(&self) -> &Spec {
            &self.0
        }
        fn evaluate(
            &self,
            _: &States,
            positions: &[usize],
            rows: &mut dyn FnMut(std::ops::Range<usize>, &[f32]) -> submask::Result<()>,
        ) -> submask::Result<()> {
            rows(0..positions.len(), &[0.0, -200.0, -200.0, 0.0].repeat(positions.len()))
        }
    }
    let network = TwoBits(Spec::new(&SubTokenizer::new(4, 2).unwrap(), 1));
    let predictive = Predictive::new(SubTokenizer::new(4, 2).unwrap(), true);
    let x = Sequences::new(&[0, 3], 1).unwrap();
    let joint = enumerate::joint_objective(&network, &predictive, &x, &settings(0, 1)).unwrap();
    let nelbo = enumerate::nelbo_subtoken(&network, &predictive, &x, &settings(0, 1)).unwrap();
    let log_2 = std::f64::consts::LN_2;
    assert!(largest_difference(joint.nats(), &[0.5 * log_2; 2]) < 1e-12);
    assert!(largest_difference(nelbo.nats(), &[log_2; 2]) < 1e-12);
    assert!(
        (nelbo.perplexity().value - 2.0).abs() < 1e-12 && (nelbo.bits_per_token().value - 1.0).abs() < 1e-12
    );
    assert_eq!((joint.kind(), nelbo.kind()), (Kind::Surrogate, Kind::UpperBound));
}

#[test]
fn with_one_subtoken_all_three_integrals_are_one() {
    let network = network(4, 1, 3);
    let predictive = Predictive::new(network.codes.clone(), true);
    let x_0 = all_sequences(4, 3);
    let x = Sequences::new(&x_0, 3).unwrap();
    let a = nelbo_subtoken(&network, &predictive, &x, &settings(1, 20)).unwrap();
    let b = nelbo_token(&network, &predictive, &x, &settings(1, 20)).unwrap();
    let c = joint_objective(&network, &predictive, &x, &settings(1, 20)).unwrap();
    assert!(largest_difference(a.nats(), b.nats()) < 1e-12);
    assert!(largest_difference(a.nats(), c.nats()) < 1e-12);
}

#[test]
fn many_steps_give_the_nelbo_draw_by_draw() {
    let network = network(5, 2, 2);
    let predictive = Predictive::new(network.codes.clone(), true);
    let x_0 = all_sequences(5, 2);
    let x = Sequences::new(&x_0, 2).unwrap();
    let nelbo = nelbo_subtoken(&network, &predictive, &x, &settings(1, 50)).unwrap();
    let steps = even(&Schedule::Cosine, 1_000_000);
    let path = path_bound(&network, &predictive, &x, &steps, RevealUnit::Digits, &settings(1, 50)).unwrap();
    assert!(largest_difference(nelbo.nats(), path.nats()) < 1e-3);
    let exact = enumerate::path_bound(
        &network,
        &predictive,
        &x,
        &even(&Schedule::Linear, 300),
        RevealUnit::Digits,
        &settings(0, 1),
    );
    let limit = enumerate::nelbo_subtoken(&network, &predictive, &x, &settings(0, 1)).unwrap();
    assert!(largest_difference(exact.unwrap().nats(), limit.nats()) < 0.02);
}

/// Prompts, no carry-over, warped grids, whole tokens, a network that reads the time: the estimators agree with the
/// enumeration.
#[test]
fn estimators_agree_with_the_enumeration_in_every_setting() {
    let network = network(5, 2, 2);
    let x_0 = all_sequences(5, 2);
    // The second digit of the first token given, in every other sequence also the whole second token.
    let given: Vec<bool> = (0..25).flat_map(|s| [false, true, s % 2 == 0, s % 2 == 0]).collect();
    for carry_over in [true, false] {
        let predictive = Predictive::new(network.codes.clone(), carry_over);
        for x in [Sequences::new(&x_0, 2).unwrap(), Sequences::new(&x_0, 2).unwrap().with_given(&given)] {
            let name = |what: &str| format!("{what}, carry-over {carry_over}");
            let s = settings(21, 4000);
            let expected = enumerate::nelbo_subtoken(&network, &predictive, &x, &s).unwrap();
            assert_within_errors(
                &name("nelbo_subtoken"),
                &nelbo_subtoken(&network, &predictive, &x, &s).unwrap(),
                expected.nats(),
            );
            let expected = enumerate::nelbo_token(&network, &predictive, &x, &s).unwrap();
            assert_within_errors(
                &name("nelbo_token"),
                &nelbo_token(&network, &predictive, &x, &s).unwrap(),
                expected.nats(),
            );
            let expected = enumerate::joint_objective(&network, &predictive, &x, &s).unwrap();
            assert_within_errors(
                &name("joint"),
                &joint_objective(&network, &predictive, &x, &s).unwrap(),
                expected.nats(),
            );
            let timed = network.clone().with_time_slope(1.0);
            for unit in [RevealUnit::Digits, RevealUnit::Tokens] {
                let steps = RevealSteps::new(&Schedule::Cosine, &[1.0, 0.7, 0.6, 0.1, 0.0]).unwrap();
                let expected = enumerate::path_bound(&timed, &predictive, &x, &steps, unit, &s).unwrap();
                let found = path_bound(&timed, &predictive, &x, &steps, unit, &s).unwrap();
                assert_within_errors(&name(&format!("path_bound {unit:?}")), &found, expected.nats());
                let found = path_bound_full(&timed, &predictive, &x, &steps, unit, &s).unwrap();
                assert_within_errors(&name(&format!("path_bound_full {unit:?}")), &found, expected.nats());
            }
        }
    }
}

/// For a network that reads the time the integral is a real one: Simpson's rule over u = 1 − α and all masks.
#[test]
fn a_network_that_reads_the_time_gets_times_of_the_right_distribution() {
    let network = network(4, 2, 1).with_time_slope(2.0);
    let predictive = Predictive::new(network.codes.clone(), true);
    let x_0 = [0, 1, 2, 3];
    let x = Sequences::new(&x_0, 1).unwrap();
    for schedule in [Schedule::Linear, Schedule::Polynomial { exponent: 3.0 }] {
        let integrand = |token: u32, u: f64| {
            let (digits, t) = (network.codes.digits(token), schedule.inverse_alpha(1.0 - u));
            // 1/u · Σ over masks: {0}, {1}, {0, 1}, divided by u beforehand to stay finite.
            let charge = |y: [u32; 2]| {
                let p = network.logits(&y, 0, t);
                let p = predictive.distribution(&p, &y);
                (0..2).filter(|&j| y[j] == 2).map(|j| -p.log_marginal(j, digits[j])).sum::<f64>()
            };
            (1.0 - u) * (charge([2, digits[1]]) + charge([digits[0], 2])) + u * charge([2, 2])
        };
        let expected: Vec<f64> = x_0.iter().map(|&token| simpson(|u| integrand(token, u))).collect();
        let s = LikelihoodSettings { schedule, ..settings(31, 40_000) };
        assert_within_errors(
            "nelbo_subtoken with time",
            &nelbo_subtoken(&network, &predictive, &x, &s).unwrap(),
            &expected,
        );
        assert!(enumerate::nelbo_subtoken(&network, &predictive, &x, &s).is_err());
    }
}

/// ∫₀¹ f, 2000 intervals.
fn simpson(f: impl Fn(f64) -> f64) -> f64 {
    let n = 2000;
    let weight = |k: usize| if k == 0 || k == n { 1.0 } else { 2.0 + 2.0 * (k % 2) as f64 };
    (0..=n).map(|k| weight(k) * f(k as f64 / n as f64)).sum::<f64>() / (3.0 * n as f64)
}

#[test]
fn estimates_depend_neither_on_the_batch_nor_on_threads_nor_on_pieces() {
    let network = network(5, 2, 2);
    let predictive = Predictive::new(network.codes.clone(), true);
    let x_0 = all_sequences(5, 2);
    let run = |batch, chunk, threads, from: usize, to: usize| {
        let network = network.clone().with_chunk(chunk);
        let x = Sequences::new(&x_0[2 * from..2 * to], 2).unwrap().starting_at(from as u64);
        let s = LikelihoodSettings { batch, ..settings(9, 13) };
        let steps = even(&Schedule::Linear, 3);
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let nelbo = nelbo_subtoken(&network, &predictive, &x, &s).unwrap();
            let path = path_bound_full(&network, &predictive, &x, &steps, RevealUnit::Digits, &s).unwrap();
            let (order, unit) = (Order::LeftToRight, RevealUnit::Digits);
            let exact = exact_in_order(&network, &predictive, &x, order, unit, 1, &s).unwrap();
            (nelbo, path, exact)
        })
    };
    let one = run(1, 1000, 1, 0, 25);
    assert_eq!(one, run(7, 2, 3, 0, 25));
    assert_eq!(one, run(100_000, 1000, 2, 0, 25));
    let (mut nelbo, mut path, mut exact) = run(5, 3, 2, 0, 11);
    let rest = run(3, 1, 2, 11, 25);
    nelbo.append(rest.0);
    path.append(rest.1);
    exact.append(rest.2);
    assert_eq!(one, (nelbo, path, exact));
}

#[test]
fn evaluations_are_counted() {
    let network = network(5, 2, 2);
    let predictive = Predictive::new(network.codes.clone(), true);
    let x_0 = all_sequences(5, 2);
    let x = Sequences::new(&x_0, 2).unwrap();
    let s = settings(1, 10);
    assert_eq!(nelbo_subtoken(&network, &predictive, &x, &s).unwrap().evaluations(), 250);
    let order = Order::LeftToRight;
    let exact = |unit| exact_in_order(&network, &predictive, &x, order, unit, 1, &s).unwrap().evaluations();
    assert_eq!((exact(RevealUnit::Digits), exact(RevealUnit::Tokens)), (100, 50));
    let full = |steps| {
        path_bound_full(&network, &predictive, &x, &even(&Schedule::Linear, steps), RevealUnit::Digits, &s)
    };
    assert_eq!(full(1).unwrap().evaluations(), 250);
    assert!((500..1000).contains(&full(5).unwrap().evaluations()));
}

#[test]
fn stratified_counts_lower_the_error_and_the_errors_tell_the_truth() {
    let network = network(8, 3, 2);
    let predictive = Predictive::new(network.codes.clone(), true);
    let x_0 = [5, 2];
    let x = |index| Sequences::new(&x_0, 2).unwrap().starting_at(index);
    let exact = enumerate::nelbo_subtoken(&network, &predictive, &x(0), &settings(0, 1)).unwrap().nats()[0];
    let runs: Vec<(f64, f64)> = (0..600)
        .map(|index| {
            let estimate = nelbo_subtoken(&network, &predictive, &x(index), &settings(2, 24)).unwrap();
            (estimate.nats()[0], estimate.draw_errors()[0])
        })
        .collect();
    let n = runs.len() as f64;
    let spread = (runs.iter().map(|(value, _)| (value - exact).powi(2)).sum::<f64>() / n).sqrt();
    let claimed = (runs.iter().map(|(_, error)| error * error).sum::<f64>() / n).sqrt();
    println!("spread {spread:.4}, claimed {claimed:.4}");
    assert!((0.9..1.3).contains(&(claimed / spread)), "{claimed} {spread}");
    let mean = runs.iter().map(|(value, _)| value).sum::<f64>() / n;
    assert!((mean - exact).abs() < 3.0 * spread / n.sqrt());
}

#[test]
fn sequences_that_do_not_fit_are_refused() {
    let network = network(5, 2, 2);
    let predictive = Predictive::new(network.codes.clone(), true);
    let run = |x: &Sequences, s: &LikelihoodSettings| nelbo_subtoken(&network, &predictive, x, s).map(|_| ());
    assert!(Sequences::new(&[1, 2, 3], 2).is_err() && Sequences::new(&[], 2).is_err());
    assert!(run(&Sequences::new(&[1, 5], 2).unwrap(), &settings(0, 1)).is_err(), "5 is no token");
    assert!(run(&Sequences::new(&[1, 2, 3], 3).unwrap(), &settings(0, 1)).is_err(), "too long");
    assert!(run(&Sequences::new(&[1, 2], 2).unwrap(), &settings(0, 0)).is_err(), "no draws");
    assert!(run(&Sequences::new(&[1, 2], 2).unwrap().with_given(&[true; 4]), &settings(0, 1)).is_err());
    assert!(run(&Sequences::new(&[1, 2], 2).unwrap().with_given(&[true; 3]), &settings(0, 1)).is_err());
}
