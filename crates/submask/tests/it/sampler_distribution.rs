//! The sampler against the exact distribution of what it documents.

use proptest::prelude::*;
use submask::predictive::{Predictive, Sharpening};
use submask::random::{Draws, Purpose};
use submask::sampler::{Event, Prompt, RevealUnit, SampleSettings, Sampler, Samples, Steps};
use submask::subtoken::SubTokenizer;

use crate::fixtures::cases;
use crate::sampler_exact::{ExactSampler, Timing};
use crate::table_network::{HashNetwork, TableNetwork};

const SAMPLES: usize = 100_000;

/// Total variation between the shares of `samples` and `exact`, in units of what chance allows: its expected value
/// Σ √(2p(1 − p)/(πn))/2 plus 2.5/√n, which McDiarmid's inequality exceeds with probability below 4·10⁻⁶.
pub fn distance(samples: impl Iterator<Item = usize>, exact: &[f64]) -> f64 {
    let mut counts = vec![0.0; exact.len()];
    samples.for_each(|index| counts[index] += 1.0);
    let n: f64 = counts.iter().sum();
    let variation = counts.iter().zip(exact).map(|(count, p)| (count / n - p).abs()).sum::<f64>() / 2.0;
    let expected: f64 =
        exact.iter().map(|p| (2.0 * p * (1.0 - p) / (std::f64::consts::PI * n)).sqrt() / 2.0).sum();
    variation / (expected + 2.5 / n.sqrt())
}

pub fn indices(samples: &Samples, vocab_size: usize) -> impl Iterator<Item = usize> {
    samples.sequences().map(move |x| x.iter().fold(0, |index, &token| index * vocab_size + token as usize))
}

fn steps_of(timing: Timing) -> Steps {
    match timing {
        Timing::Grid(steps) => Steps::Grid(steps),
        Timing::OneByOne => Steps::FirstHitting,
    }
}

fn settings(exact: &ExactSampler, seed: u64) -> SampleSettings {
    SampleSettings {
        steps: steps_of(exact.timing),
        unit: if exact.whole_tokens { RevealUnit::Tokens } else { RevealUnit::Digits },
        sharpening: Sharpening {
            temperature: exact.temperature,
            top_p: exact.top_p,
            ..Sharpening::default()
        },
        seed,
        batch: 4096,
        ..SampleSettings::default()
    }
}

/// Samples from the library's sampler with the settings of `exact`, starting from `digits`.
fn sample(exact: &ExactSampler, digits: &[Option<u32>], count: usize, seed: u64) -> Samples {
    let predictive = Predictive::new(exact.network.codes.clone(), exact.carry_over);
    let prompt = Prompt::from_digits(&predictive, digits).unwrap();
    let sampler = Sampler::new(exact.network, &predictive, settings(exact, seed)).unwrap();
    sampler.sample(&vec![prompt; count]).unwrap()
}

fn start(network: &TableNetwork, digits: &[Option<u32>]) -> Vec<u32> {
    digits.iter().map(|digit| digit.unwrap_or(network.codes.mask_id())).collect()
}

/// ℓ = 1, 2, 3; the last two with codes that no token has, once permuted.
fn networks() -> Vec<TableNetwork> {
    let codes = [
        SubTokenizer::new(4, 1).unwrap(),
        SubTokenizer::new(5, 2).unwrap().with_seeded_permutation(3).unwrap(),
        SubTokenizer::new(5, 3).unwrap(),
    ];
    codes.into_iter().map(|codes| TableNetwork::random(codes, 2, 1.5, 1)).collect()
}

const TIMINGS: [Timing; 3] = [Timing::Grid(1), Timing::Grid(4), Timing::OneByOne];

fn assert_same_distribution(network: &TableNetwork, whole_tokens: bool, with_prompt: bool) {
    let (codes, len) = (&network.codes, network.codes.subtoken_len());
    let mut digits = vec![None; network.seq_len * len];
    if with_prompt {
        // The last digit of a token given, the rest a hole.
        digits[len - 1] = Some(codes.digits(1)[len - 1]);
    }
    for timing in TIMINGS {
        for carry_over in [true, false] {
            let exact = ExactSampler { whole_tokens, ..ExactSampler::new(network, timing, carry_over) };
            let expected = exact.distribution(&start(network, &digits));
            assert!((expected.iter().sum::<f64>() - 1.0).abs() < 1e-9);
            let samples = sample(&exact, &digits, SAMPLES, 5);
            let distance = distance(indices(&samples, codes.vocab_size()), &expected);
            let redraws = samples.report().redraws;
            println!(
                "ℓ = {len}, {timing:?}, carry-over {carry_over}, prompt {with_prompt}: {distance:.2}, {redraws} redraws"
            );
            assert!(distance < 1.0, "{distance}");
            let contradicts = !carry_over && codes.has_invalid_codes() && !whole_tokens;
            assert!(redraws == 0 || contradicts || with_prompt);
            assert!(redraws > 0 || !contradicts || timing == Timing::Grid(1));
        }
    }
}

#[test]
fn samples_have_the_exact_distribution() {
    networks().iter().for_each(|network| assert_same_distribution(network, false, false));
}

#[test]
fn prompted_samples_have_the_exact_conditional_distribution() {
    networks().iter().skip(1).for_each(|network| assert_same_distribution(network, false, true));
}

#[test]
fn whole_token_samples_have_the_exact_distribution() {
    assert_same_distribution(&networks()[1], true, false);
}

#[test]
fn sharpened_samples_have_the_exact_distribution() {
    for carry_over in [true, false] {
        let network = &networks()[1];
        let (temperature, top_p) = (0.7, 0.8);
        let exact =
            ExactSampler { temperature, top_p, ..ExactSampler::new(network, Timing::Grid(4), carry_over) };
        let distance = distance(
            indices(&sample(&exact, &[None; 4], SAMPLES, 6), 5),
            &exact.distribution(&start(network, &[None; 4])),
        );
        assert!(distance < 1.0, "{distance}");
    }
}

#[test]
fn a_network_that_reads_the_time_gets_the_times_of_the_grid() {
    let network = networks()[1].clone().with_time_slope(2.0);
    let exact = ExactSampler::new(&network, Timing::Grid(4), true);
    let samples = sample(&exact, &[None; 4], SAMPLES, 7);
    let right = distance(indices(&samples, 5), &exact.distribution(&start(&network, &[None; 4])));
    let timeless =
        ExactSampler::new(&networks()[1], Timing::Grid(4), true).distribution(&start(&network, &[None; 4]));
    let wrong = distance(indices(&samples, 5), &timeless);
    assert!(right < 1.0 && wrong > 1.5, "{right} {wrong}");
}

/// The measure finds samplers that are nearly right.
#[test]
fn wrong_samplers_are_found_out() {
    let network = &networks()[1];
    let y = start(network, &[None; 4]);
    let exact = ExactSampler::new(network, Timing::Grid(4), true);
    let samples = sample(&exact, &[None; 4], SAMPLES, 8);
    let other = |exact: ExactSampler| distance(indices(&samples, 5), &exact.distribution(&y));
    let new = || ExactSampler::new(network, Timing::Grid(4), true);
    assert!(other(new()) < 1.0);
    let wrong = [
        ("temperature 0.9", other(ExactSampler { temperature: 0.9, ..new() })),
        ("nucleus 0.95", other(ExactSampler { top_p: 0.95, ..new() })),
        ("independent digits", other(ExactSampler { independent_digits: true, ..new() })),
        ("3 steps", other(ExactSampler { timing: Timing::Grid(3), ..new() })),
        ("one by one", other(ExactSampler { timing: Timing::OneByOne, ..new() })),
        ("whole tokens", other(ExactSampler { whole_tokens: true, ..new() })),
        ("no carry-over", other(ExactSampler { carry_over: false, ..new() })),
    ];
    println!("{wrong:.2?}");
    for (name, distance) in wrong {
        assert!(distance > 1.0, "{name}: {distance}");
    }
}

#[test]
fn parity_samples_of_the_fixture_tables_have_the_exact_distribution() {
    for case in cases("likelihood_") {
        let network = TableNetwork::from_case(&case);
        let digits = vec![None; network.seq_len * network.codes.subtoken_len()];
        for timing in TIMINGS {
            let exact = ExactSampler::new(&network, timing, true);
            let expected = exact.distribution(&start(&network, &digits));
            let samples = sample(&exact, &digits, SAMPLES / 2, 9);
            let distance = distance(indices(&samples, network.codes.vocab_size()), &expected);
            println!("case {}: {timing:?}: {distance:.2} of the allowed distance", case.name);
            assert!(distance < 1.0);
        }
        if let Some(log_lik) = case.column("oracle", "log_lik_random_subtoken_order") {
            let exact = ExactSampler::new(&network, Timing::OneByOne, true);
            let found = exact.distribution(&start(&network, &digits));
            let sequences = case.tensor_i64("oracle", "sequences").1;
            for (x, log_lik) in sequences.chunks_exact(network.seq_len).zip(log_lik) {
                let index = x.iter().fold(0, |index, &x| index * network.codes.vocab_size() + x as usize);
                assert!((found[index].ln() - log_lik).abs() < 1e-9, "the mixture over all orders");
            }
        }
    }
}

/// The plain ancestral loop: at every step draw every token that is not fully visible, then reveal every masked digit
/// with probability (α_s − α_t) / (1 − α_t). For tests only: it evaluates the network at every step.
fn plain_loop(
    network: &TableNetwork,
    predictive: &Predictive,
    steps: usize,
    draws: &Draws,
    s: u64,
) -> Vec<u32> {
    let (len, mask) = (network.codes.subtoken_len(), network.codes.mask_id());
    let mut y = vec![mask; network.seq_len * len];
    for k in 0..steps {
        let (t, share) = (1.0 - k as f64 / steps as f64, 1.0 / (steps - k) as f64);
        let before = y.clone();
        for i in 0..network.seq_len {
            let p = predictive.distribution(&network.logits(&before, i, t), &before[i * len..(i + 1) * len]);
            let x = p.draw(draws.uniform(s, i as u32, 2 * k as u32));
            for j in 0..len {
                let d = i * len + j;
                if y[d] == mask && draws.uniform(s, d as u32, 2 * k as u32 + 1) < share {
                    y[d] = network.codes.digits(x)[j];
                }
            }
        }
    }
    network.codes.decode(&y).unwrap()
}

#[test]
fn the_plain_loop_and_the_plan_agree_in_distribution() {
    let network = &networks()[2];
    let predictive = Predictive::new(network.codes.clone(), true);
    let exact = ExactSampler::new(network, Timing::Grid(4), true);
    let expected = exact.distribution(&start(network, &[None; 6]));
    let draws = Draws::new(1, Purpose::Mask);
    let plain: Vec<usize> = (0..SAMPLES as u64)
        .map(|s| {
            plain_loop(network, &predictive, 4, &draws, s).iter().fold(0, |index, &x| index * 5 + x as usize)
        })
        .collect();
    let planned: Vec<usize> = indices(&sample(&exact, &[None; 6], SAMPLES, 10), 5).collect();
    let mut shares = vec![0.0; expected.len()];
    plain.iter().for_each(|&index| shares[index] += 1.0 / SAMPLES as f64);
    let (a, b, c) = (
        distance(plain.iter().copied(), &expected),
        distance(planned.iter().copied(), &expected),
        // Both sides are random here: √2 times as much chance.
        distance(planned.iter().copied(), &shares) / std::f64::consts::SQRT_2,
    );
    println!("plain loop {a:.2}, plan {b:.2}, one against the other {c:.2}");
    assert!(a < 1.0 && b < 1.0 && c < 1.0);
}

#[test]
fn the_skipped_share_is_one_minus_one_over_t_to_the_n() {
    let network = &networks()[2];
    for steps in [2, 8, 32] {
        let exact = ExactSampler::new(network, Timing::Grid(steps), true);
        let samples = sample(&exact, &[None; 6], 20_000, 11);
        let report = samples.report();
        let expected = (1.0 - 1.0 / steps as f64).powi(6);
        let shares: Vec<f64> = samples.reports.iter().map(|report| report.idle_share()).collect();
        let n = shares.len() as f64;
        let error = (shares.iter().map(|share| (share - report.idle_share()).powi(2)).sum::<f64>()
            / (n * (n - 1.0)))
            .sqrt();
        assert!((report.idle_share() - expected).abs() < 4.0 * error, "{report:?} {expected} ± {error}");
        assert_eq!(report.evaluations + report.steps_skipped, report.steps_total);
        assert_eq!((report.digits, report.sequences), (6 * 20_000, 20_000));
    }
}

#[test]
fn samples_depend_neither_on_the_batch_nor_on_threads_nor_on_the_other_sequences() {
    let network = &networks()[1];
    for carry_over in [true, false] {
        let predictive = Predictive::new(network.codes.clone(), carry_over);
        let tokens = [[None, None], [Some(3), None], [None, Some(0)]];
        let prompts: Vec<Prompt> =
            (0..50).map(|s| Prompt::from_tokens(&predictive, &tokens[s % 3]).unwrap()).collect();
        let run = |batch, chunk, threads, from: usize| {
            let network = network.clone().with_chunk(chunk);
            let settings = SampleSettings {
                steps: Steps::Grid(3),
                batch,
                first_sequence: from as u64,
                trajectories: true,
                ..SampleSettings::default()
            };
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| Sampler::new(&network, &predictive, settings)?.sample(&prompts[from..])).unwrap()
        };
        let one = run(1, 1000, 1, 0);
        assert_eq!(one, run(8, 1000, 1, 0));
        assert_eq!(one, run(64, 3, 4, 0));
        assert_eq!(one.tokens[20 * 2..], run(5, 2, 2, 20).tokens);
    }
}

#[test]
fn trajectories_lead_from_the_prompt_to_the_sample() {
    let network = &networks()[1];
    let predictive = Predictive::new(network.codes.clone(), true);
    let prompts = vec![Prompt::from_tokens(&predictive, &[None, Some(2)]).unwrap(); 20];
    let settings = SampleSettings { steps: Steps::Grid(5), trajectories: true, ..SampleSettings::default() };
    let samples = Sampler::new(network, &predictive, settings).unwrap().sample(&prompts).unwrap();
    for ((trajectory, x), report) in
        samples.trajectories.iter().zip(samples.sequences()).zip(&samples.reports)
    {
        let states: Vec<_> = trajectory.states().collect();
        assert_eq!(states[0], (1.0, prompts[0].y().to_vec()));
        assert_eq!(states.len() as u64, report.evaluations + 1);
        assert_eq!(network.codes.decode(&states.last().unwrap().1).unwrap(), x);
    }
}

#[test]
fn bad_calls_are_refused_and_interruptions_pass_through() {
    let network = &networks()[1];
    let predictive = Predictive::new(network.codes.clone(), true);
    let sampler = Sampler::new(network, &predictive, SampleSettings::default()).unwrap();
    assert!(sampler.sample(&[]).is_err());
    let lengths = [1, 2].map(|len| Prompt::empty(&predictive, len).unwrap());
    assert!(sampler.sample(&lengths).is_err());
    assert!(sampler.sample(&[Prompt::empty(&predictive, 3).unwrap()]).is_err(), "longer than the network");
    let other = Predictive::new(SubTokenizer::new(6, 2).unwrap(), true);
    assert!(Sampler::new(network, &other, SampleSettings::default()).is_err());
    let mut rounds = 0;
    let stop = sampler.sample_observed(&lengths[1..], &mut |event: &Event| {
        let Event::Progress(progress) = event else { return Ok(()) };
        rounds += 1;
        if progress.digits == 2 { Err(submask::Error::Interrupted) } else { Ok(()) }
    });
    assert!(matches!(stop, Err(submask::Error::Interrupted)) && rounds == 2);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn no_sample_holds_an_invalid_code_and_no_given_digit_changes(
        (vocab_size, subtoken_len, seq_len) in (2usize..40, 1usize..6, 1usize..7),
        (seed, permuted, carry_over, whole_tokens) in any::<(u64, bool, bool, bool)>(),
        (steps, temperature, top_p) in (0usize..6, 0.2f64..3.0, 0.3f64..1.2),
    ) {
        let mut codes = SubTokenizer::new(vocab_size, subtoken_len).unwrap();
        if permuted {
            codes = codes.with_seeded_permutation(seed).unwrap();
        }
        let predictive = Predictive::new(codes.clone(), carry_over);
        let draws = Draws::new(seed, Purpose::Mask);
        let given = |i: u32| {
            let x = draws.below(vocab_size as u64, 0, i, 0) as u32;
            (0..subtoken_len as u32).map(move |j| (draws.uniform(1, i, j) < 0.3).then_some((x, j)))
        };
        let digits: Vec<Option<u32>> = (0..seq_len as u32)
            .flat_map(given)
            .map(|given| given.map(|(x, j)| codes.digits(x)[j as usize]))
            .collect();
        let settings = SampleSettings {
            steps: if steps == 0 { Steps::FirstHitting } else { Steps::Grid(steps) },
            unit: if whole_tokens { RevealUnit::Tokens } else { RevealUnit::Digits },
            sharpening: Sharpening { temperature, top_p: top_p.min(1.0), ..Sharpening::default() },
            seed,
            ..SampleSettings::default()
        };
        let network = HashNetwork::new(codes.clone(), seq_len, seed);
        let prompts = vec![Prompt::from_digits(&predictive, &digits).unwrap(); 4];
        let samples = Sampler::new(&network, &predictive, settings).unwrap().sample(&prompts).unwrap();
        for x in samples.sequences() {
            prop_assert!(x.iter().all(|&token| (token as usize) < vocab_size));
            let y = codes.encode(x).unwrap();
            prop_assert!(y.iter().zip(&digits).all(|(digit, given)| given.is_none_or(|given| given == *digit)));
        }
        prop_assert!(!carry_over || samples.report().redraws == 0);
    }
}
