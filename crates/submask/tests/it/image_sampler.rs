//! The image samplers against the exact distributions of what they document.

use std::path::Path;

use proptest::prelude::*;
use submask::denoiser::Denoiser;
use submask::predictive::Predictive;
use submask::random::{Draws, Purpose};
use submask::sampler::{
    Draw, Event, MixtureDenoiser, PixelTokens, Prompt, SampleSettings, Sampler, Samples, Sampling, Steps,
    Temperature, published_samplers,
};
use submask::schedule::Schedule;
use submask::subtoken::SubTokenizer;

use crate::image_exact::ExactImageSampler;
use crate::sampler_distribution::{distance, indices};
use crate::table_network::{HashNetwork, TableNetwork};

const SAMPLES: usize = 60_000;

fn sampling(exact: &ExactImageSampler) -> Sampling {
    Sampling {
        steps: exact.steps,
        draw: if exact.marginal { Draw::Marginal } else { Draw::Joint },
        temperature: Temperature::Schedule(exact.temperature.into()),
        warp: exact.warp.into(),
        corrector: exact.corrector.map(Into::into),
        ..Sampling::default()
    }
}

/// Samples from the library's sampler with the settings of `exact`, starting from the state `y`.
fn sample(exact: &ExactImageSampler, network: &dyn Denoiser, y: &[u32], seed: u64) -> Samples {
    let predictive = Predictive::new(exact.networks[0].codes.clone(), exact.carry_over);
    let prompt = Prompt::from_state(&predictive, y).unwrap();
    let settings = sampling(exact).settings(Schedule::Polynomial { exponent: exact.exponent }).unwrap();
    let settings = SampleSettings { seed, batch: 4096, ..settings };
    let sampler = Sampler::new(network, &predictive, settings).unwrap();
    sampler.sample(&vec![prompt; SAMPLES]).unwrap()
}

fn empty(network: &TableNetwork) -> Vec<u32> {
    vec![network.codes.mask_id(); network.seq_len * network.codes.subtoken_len()]
}

/// ℓ = 1, 2, 2, 3; the last two with codes that no token has, once permuted. All read the time.
fn networks() -> Vec<TableNetwork> {
    let codes = [
        SubTokenizer::new(3, 1).unwrap(),
        SubTokenizer::new(4, 2).unwrap(),
        SubTokenizer::new(5, 2).unwrap().with_seeded_permutation(3).unwrap(),
        SubTokenizer::new(5, 3).unwrap(),
    ];
    codes.into_iter().map(|codes| TableNetwork::random(codes, 2, 1.5, 1).with_time_slope(0.5)).collect()
}

fn assert_exact(exact: &ExactImageSampler, y: &[u32]) -> Samples {
    let network = exact.networks[0];
    let expected = exact.distribution(y);
    assert!((expected.iter().sum::<f64>() - 1.0).abs() < 1e-9);
    let samples = sample(exact, network, y, 5);
    let distance = distance(indices(&samples, network.codes.vocab_size()), &expected);
    let report = samples.report();
    println!(
        "ℓ = {}, T = {}, marginal {}, carry-over {}, corrector {:?}: {distance:.2} of the allowed distance, \
         {} redraws, {} jumps, {} dropped",
        network.codes.subtoken_len(),
        exact.steps,
        exact.marginal,
        exact.carry_over,
        exact.corrector,
        report.redraws,
        report.jumps,
        report.jumps_dropped
    );
    assert!(distance < 1.0, "{distance}");
    samples
}

#[test]
fn image_draws_have_the_exact_distribution_at_warped_times_and_temperatures() {
    for network in &networks() {
        for (marginal, carry_over, steps) in [
            (false, false, 1),
            (false, true, 4),
            (false, false, 4),
            (true, false, 1),
            (true, true, 4),
            (true, false, 4),
        ] {
            let (temperature, warp) = ([-0.6, 2.0, 1.0], [1.0, 1.7, 0.0]);
            let exact = ExactImageSampler {
                marginal,
                carry_over,
                temperature,
                warp,
                ..ExactImageSampler::new(network, steps)
            };
            let report = assert_exact(&exact, &empty(network)).report();
            assert_eq!((report.jumps, report.jumps_dropped), (0, 0));
            assert!(report.redraws == 0 || network.codes.has_invalid_codes());
            let contradicts = marginal && network.codes.has_invalid_codes();
            assert!(report.redraws > 0 || !contradicts);
        }
    }
}

#[test]
fn corrected_samples_have_the_exact_distribution() {
    for network in &networks() {
        for (marginal, carry_over) in [(false, false), (false, true), (true, false), (true, true)] {
            for (steps, corrector, warp) in [
                (3, [6.0, 0.5, 0.75], [1.0, 0.0, 0.0]),
                (5, [4.0, 1.0, 0.0], [1.0, 0.8, 0.0]),
                (5, [0.0, 0.0, 0.0], [1.0, 0.0, 0.0]),
            ] {
                let exact = ExactImageSampler {
                    marginal,
                    carry_over,
                    warp,
                    temperature: [-0.3, 1.0, 1.0],
                    corrector: Some(corrector),
                    ..ExactImageSampler::new(network, steps)
                };
                let report = assert_exact(&exact, &empty(network)).report();
                assert_eq!(report.evaluations, (steps * SAMPLES) as u64);
                assert_eq!((report.steps_skipped, report.positions), (0, 2 * report.evaluations));
                assert!(report.jumps > 0);
                let contradicts = network.codes.has_invalid_codes() && !carry_over && steps > 3;
                assert!(report.jumps_dropped > 0 || !contradicts);
                assert!(report.jumps_dropped == 0 || network.codes.has_invalid_codes());
            }
        }
    }
}

#[test]
fn corrected_samples_with_given_digits_have_the_exact_distribution() {
    for network in &networks()[1..] {
        let (codes, len) = (&network.codes, network.codes.subtoken_len());
        let mut y = empty(network);
        // The last digit of the first token.
        y[len - 1] = codes.digits(1)[len - 1];
        for marginal in [false, true] {
            let exact = ExactImageSampler {
                marginal,
                exponent: 2.0,
                corrector: Some([6.0, 0.5, 0.75]),
                ..ExactImageSampler::new(network, 4)
            };
            assert_exact(&exact, &y);
        }
    }
}

/// The measure finds samplers that are nearly right.
#[test]
fn wrong_image_samplers_are_found_out() {
    let network = &networks()[2];
    let y = empty(network);
    for marginal in [false, true] {
        let right = ExactImageSampler {
            marginal,
            temperature: [-0.6, 1.0, 1.0],
            warp: [1.0, 1.3, 0.0],
            corrector: Some([6.0, 0.5, 0.0]),
            ..ExactImageSampler::new(network, 4)
        };
        let samples = sample(&right, network, &y, 8);
        let of = |exact: &ExactImageSampler| distance(indices(&samples, 5), &exact.distribution(&y));
        assert!(of(&right) < 1.0);
        let new = || right.clone();
        let mut wrong = vec![
            ("no corrector", of(&ExactImageSampler { corrector: None, ..new() })),
            ("κ = 0", of(&ExactImageSampler { corrector: Some([0.0, 0.5, 0.0]), ..new() })),
            ("half κ", of(&ExactImageSampler { corrector: Some([3.0, 0.5, 0.0]), ..new() })),
            ("κ of exponent 1", of(&ExactImageSampler { corrector: Some([6.0, 1.0, 0.0]), ..new() })),
            ("jumps in the last step", of(&ExactImageSampler { last_jumps: true, ..new() })),
            ("temperature 1", of(&ExactImageSampler { temperature: [1.0, 0.0, 0.0], ..new() })),
            ("temperature of u²", of(&ExactImageSampler { temperature: [-0.6, 2.0, 1.0], ..new() })),
            ("no warp", of(&ExactImageSampler { warp: [1.0, 0.0, 0.0], ..new() })),
            ("schedule u²", of(&ExactImageSampler { exponent: 2.0, ..new() })),
            ("the other draw", of(&ExactImageSampler { marginal: !marginal, ..new() })),
            ("carry-over", of(&ExactImageSampler { carry_over: true, ..new() })),
        ];
        if !marginal {
            wrong
                .push(("fresh digits for the jumps", of(&ExactImageSampler { fresh_target: true, ..new() })));
        }
        println!("marginal {marginal}: {wrong:.2?}");
        for (name, distance) in wrong {
            assert!(distance > 1.0, "{name}: {distance}");
        }
    }
}

#[test]
fn a_mixture_of_networks_samples_from_the_mean_of_their_predictions() {
    let codes = SubTokenizer::new(4, 2).unwrap();
    let tables: Vec<TableNetwork> =
        (1..4).map(|seed| TableNetwork::random(codes.clone(), 2, 2.0, seed).with_chunk(7)).collect();
    let parts: Vec<&dyn Denoiser> = tables.iter().map(|table| table as &dyn Denoiser).collect();
    let mixture = MixtureDenoiser::new(&parts).unwrap();
    let exact = ExactImageSampler {
        networks: tables.iter().collect(),
        temperature: [-0.4, 1.0, 1.0],
        corrector: Some([4.0, 1.0, 0.0]),
        ..ExactImageSampler::new(&tables[0], 4)
    };
    let y = empty(&tables[0]);
    let samples = sample(&exact, &mixture, &y, 3);
    let right = distance(indices(&samples, 4), &exact.distribution(&y));
    let one = ExactImageSampler { networks: vec![&tables[0]], ..exact };
    let wrong = distance(indices(&samples, 4), &one.distribution(&y));
    println!("mixture {right:.2}, one network {wrong:.2} of the allowed distance");
    assert!(right < 1.0 && wrong > 1.0);
}

#[test]
fn without_options_the_image_sampler_is_the_plain_sampler_bit_for_bit() {
    for network in &networks() {
        let predictive = Predictive::new(network.codes.clone(), true);
        let prompts = vec![Prompt::empty(&predictive, 2).unwrap(); 500];
        for steps in [1, 7] {
            let plain = SampleSettings { steps: Steps::Grid(steps), seed: 4, ..SampleSettings::default() };
            let temperature = Temperature::Schedule([1.0, 0.0, 0.0].into());
            let image =
                Sampling { steps, temperature, ..Sampling::default() }.settings(plain.schedule).unwrap();
            let image = SampleSettings { seed: 4, ..image };
            let run =
                |settings| Sampler::new(network, &predictive, settings).unwrap().sample(&prompts).unwrap();
            assert_eq!(run(plain), run(image));
        }
    }
}

#[test]
fn two_steps_from_a_full_mask_leave_a_corrector_nothing_to_do() {
    let network = &networks()[2];
    let corrected =
        ExactImageSampler { corrector: Some([9.0, 0.5, 0.0]), ..ExactImageSampler::new(network, 2) };
    let samples = assert_exact(&corrected, &empty(network));
    assert_eq!(samples.report().jumps, 0);
    let plain = ExactImageSampler::new(network, 2);
    assert!(distance(indices(&samples, 5), &plain.distribution(&empty(network))) < 1.0);
}

#[test]
fn image_samples_depend_neither_on_the_batch_nor_on_threads_nor_on_the_other_sequences() {
    let network = &networks()[2];
    let predictive = Predictive::new(network.codes.clone(), false);
    let tokens = [[None, None], [Some(3), None], [Some(1), Some(0)]];
    let prompts: Vec<Prompt> =
        (0..50).map(|s| Prompt::from_tokens(&predictive, &tokens[s % 3]).unwrap()).collect();
    for (draw, corrector) in
        [(Draw::Joint, true), (Draw::Marginal, true), (Draw::Marginal, false), (Draw::Joint, false)]
    {
        let run = |batch, chunk, threads, from: usize| {
            let network = network.clone().with_chunk(chunk);
            let corrector = corrector.then_some([8.0, 0.5, 0.0].into());
            let sampling = Sampling { steps: 6, draw, corrector, ..Sampling::default() };
            let settings = SampleSettings {
                batch,
                first_sequence: from as u64,
                trajectories: true,
                ..sampling.settings(Schedule::Polynomial { exponent: 3.0 }).unwrap()
            };
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| Sampler::new(&network, &predictive, settings)?.sample(&prompts[from..])).unwrap()
        };
        let one = run(1, 1000, 1, 0);
        assert_eq!(one, run(8, 1000, 1, 0));
        assert_eq!(one, run(64, 3, 4, 0));
        assert_eq!(one.tokens[20 * 2..], run(5, 2, 2, 20).tokens);
        assert_eq!(one.report().jumps > 0, corrector);
        for ((trajectory, x), report) in one.trajectories.iter().zip(one.sequences()).zip(&one.reports) {
            let states: Vec<_> = trajectory.states().collect();
            assert_eq!(states.len() as u64, report.evaluations + 1);
            assert_eq!(report.evaluations + report.steps_skipped, report.steps_total);
            assert_eq!(network.codes.decode(&states.last().unwrap().1).unwrap(), x);
        }
    }
}

#[test]
fn settings_that_a_corrector_cannot_have_are_refused() {
    let sampling = Sampling { steps: 4, corrector: Some([1.0, 1.0, 0.0].into()), ..Sampling::default() };
    let settings = sampling.settings(Schedule::Linear).unwrap();
    let refused = |settings: SampleSettings| {
        let error = settings.validate().unwrap_err().to_string();
        assert!(error.starts_with("corrector"), "{error}");
    };
    refused(SampleSettings { steps: Steps::FirstHitting, ..settings.clone() });
    refused(SampleSettings { unit: submask::sampler::RevealUnit::Tokens, ..settings });
}

#[test]
fn an_interruption_ends_a_corrected_call() {
    let network = &networks()[1];
    let predictive = Predictive::new(network.codes.clone(), false);
    let sampling = Sampling { steps: 4, corrector: Some([1.0, 1.0, 0.0].into()), ..Sampling::default() };
    let settings = SampleSettings { batch: 2, ..sampling.settings(Schedule::Linear).unwrap() };
    let sampler = Sampler::new(network, &predictive, settings).unwrap();
    let prompts = vec![Prompt::empty(&predictive, 2).unwrap(); 3];
    let mut seen = Vec::new();
    sampler
        .sample_observed(&prompts, &mut |event: &Event| {
            if let Event::Progress(progress) = event {
                seen.push((progress.sequences, progress.digits));
            }
            Ok(())
        })
        .unwrap();
    assert_eq!((seen.len(), seen[7], seen[3].1), (8, (2, 12), 8));
    let stop = sampler.sample_observed(&prompts, &mut |_: &Event| Err(submask::Error::Interrupted));
    assert!(matches!(stop, Err(submask::Error::Interrupted)));
}

/// The settings that were published, as the project's design has them, where it stands beside the checkout.
#[test]
fn every_published_preset_is_there() {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    let path = manifest.join("../../../shared/design/image_presets.toml");
    let Ok(text) = std::fs::read_to_string(&path) else {
        println!("skipped: there is no {}", path.display());
        return;
    };
    let published: toml::Table = toml::from_str(&text).unwrap();
    let published = published["preset"].as_array().unwrap();
    let ours = published_samplers().unwrap();
    assert_eq!(published.len(), ours.len());
    for preset in published {
        let text = |key: &str| preset[key].as_str().unwrap();
        let triple = |key: &str| -> [f64; 3] {
            let numbers: Vec<f64> =
                preset[key].as_array().unwrap().iter().map(|x| x.as_float().unwrap()).collect();
            numbers.try_into().unwrap()
        };
        let subtokens = text("subtoken_len");
        let name = format!(
            "{}-{}-l{}-nfe{}",
            text("data"),
            text("model"),
            subtokens.replace('/', "-"),
            preset["nfe"]
        );
        let ours = submask::sampler::published_sampler(&name).unwrap();
        assert_eq!((ours.data.as_str(), ours.model.as_str()), (text("data"), text("model")));
        let tokens = match subtokens.parse() {
            Ok(subtoken_len) => PixelTokens::Channels { subtoken_len },
            Err(_) => PixelTokens::SuperTokens,
        };
        assert_eq!(ours.tokens, tokens);
        assert_eq!(i64::from(ours.epochs), preset["epochs"].as_integer().unwrap());
        assert_eq!(ours.fid, preset["fid"].as_float().unwrap());
        assert_eq!(ours.sampling.steps as i64, preset["nfe"].as_integer().unwrap());
        assert_eq!(<[f64; 3]>::from(ours.sampling.temperature.schedule()), triple("temperature"));
        assert_eq!(<[f64; 3]>::from(ours.sampling.warp), triple("warp"));
        assert_eq!(<[f64; 3]>::from(ours.sampling.corrector.unwrap()), triple("corrector"));
        assert_eq!(ours.sampling.draw == Draw::Marginal, text("draw") == "marginal");
        ours.sampling.settings(ours.schedule()).unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn imputation_changes_no_given_digit_and_leaves_no_invalid_code(
        (vocab_size, subtoken_len, seq_len) in (2usize..40, 1usize..6, 1usize..7),
        (seed, permuted, carry_over, marginal) in any::<(u64, bool, bool, bool)>(),
        (steps, strength, power, warp) in (1usize..7, 0f64..20.0, 0f64..3.0, 0.5f64..2.0),
        (corrected, share) in (any::<bool>(), 0f64..1.0),
    ) {
        let mut codes = SubTokenizer::new(vocab_size, subtoken_len).unwrap();
        if permuted {
            codes = codes.with_seeded_permutation(seed).unwrap();
        }
        let predictive = Predictive::new(codes.clone(), carry_over);
        let draws = Draws::new(seed, Purpose::Mask);
        let x_0: Vec<u32> =
            (0..seq_len as u32).map(|i| draws.below(vocab_size as u64, 0, i, 0) as u32).collect();
        let given = |i: usize, j: usize| draws.uniform(1, i as u32, j as u32) < share;
        let prompt = Prompt::keeping(&predictive, &x_0, given).unwrap();
        let sampling = Sampling {
            steps,
            draw: if marginal { Draw::Marginal } else { Draw::Joint },
            temperature: Temperature::Schedule([-0.5, 1.0, 1.0].into()),
            warp: [1.0, warp, 0.0].into(),
            corrector: corrected.then_some([strength, power, 0.0].into()),
            ..Sampling::default()
        };
        let settings = sampling.settings(Schedule::Polynomial { exponent: 3.0 }).unwrap();
        let settings = SampleSettings { seed, trajectories: true, ..settings };
        let network = HashNetwork::new(codes.clone(), seq_len, seed);
        let sampler = Sampler::new(&network, &predictive, settings).unwrap();
        let samples = sampler.sample(&vec![prompt; 4]).unwrap();
        let y_0 = codes.encode(&x_0).unwrap();
        let fixed: Vec<usize> = (0..y_0.len()).filter(|d| given(d / subtoken_len, d % subtoken_len)).collect();
        for (x, trajectory) in samples.sequences().zip(&samples.trajectories) {
            prop_assert!(x.iter().all(|&token| (token as usize) < vocab_size));
            for (_, y) in trajectory.states() {
                prop_assert!(fixed.iter().all(|&digit| y[digit] == y_0[digit]));
            }
        }
        prop_assert!(codes.has_invalid_codes() || samples.report().redraws + samples.report().jumps_dropped == 0);
    }
}
