//! Logits and samples on the network's device are those in memory, of all networks.

use std::sync::Arc;

use burn::tensor::{Device, Int, Tensor, TensorData};
use submask::backbone::dit::{Dit, DitConfig};
use submask::backbone::encoder::Encoder;
use submask::backbone::toy::{Toy, ToyConfig};
use submask::backbone::unet::{Unet, UnetConfig};
use submask::backbone::weights::{Init, Parameter, Weights};
use submask::backbone::{Backbone, Embedding, LoadedBackbone};
use submask::denoiser::{Denoiser, DeviceDenoiser, DeviceStates, States};
use submask::ops::{Kernels, Precision};
use submask::predictive::{Predictive, Sharpening};
use submask::random::{Draws, Purpose};
use submask::sampler::{
    Draw, Event, FinishedSequence, Order, Prompt, Recipe, SampleSettings, Sampler, Samples, SequenceRequest,
    Steps, Stream, WithDigits,
};
use submask::schedule::TemperatureSchedule;
use submask::subtoken::SubTokenizer;

use crate::fixtures::{assert_close, hold, places, tolerances};
use crate::tiny_networks::{dit_config, encoder_config};

const LENGTH: usize = 11;

/// Transformers, of one output layer; the U-Net with labels, of one per colour channel; the toy, of one per token.
pub fn networks(codes: &SubTokenizer, kernels: Kernels) -> [Arc<dyn Backbone>; 4] {
    let dit = dit_config(LENGTH, 0);
    let dit = DitConfig { embedding: Embedding::Concatenated, time_conditioning: true, ..dit };
    let encoder = encoder_config(LENGTH, 0);
    let unet = UnetConfig {
        channels: 2,
        height: 2,
        width: 4,
        model_channels: 32,
        channel_mult: vec![1, 1],
        res_blocks: 1,
        attention_resolutions: vec![],
        head_channels: 16,
        dropout: 0.0,
        classes: Some(3),
    };
    let toy = ToyConfig { tokens: 5, hidden: 16 };
    [
        Arc::new(Dit::new(dit, codes, kernels).unwrap()),
        Arc::new(Encoder::new(encoder, codes, kernels).unwrap()),
        Arc::new(Unet::new(unet, codes, kernels).unwrap()),
        Arc::new(Toy::new(toy, codes, kernels).unwrap()),
    ]
}

/// A network whose weights are all drawn from U(−radius, radius).
fn loaded(network: Arc<dyn Backbone>, radius: f64, device: &Device) -> LoadedBackbone {
    let parameters = network.parameters();
    let drawn = |(index, parameter): (usize, &Parameter)| {
        Parameter { init: Init::Uniform(radius), ..parameter.clone() }.initial(3, index)
    };
    let values: Vec<Vec<f32>> = parameters.iter().enumerate().map(drawn).collect();
    LoadedBackbone { weights: Weights::new(parameters, &values, device), network }
}

/// What is drawn on the device.
fn settings() -> SampleSettings {
    SampleSettings {
        steps: Steps::Grid(9),
        seed: 5,
        batch: 3,
        sharpening: Sharpening { temperature: 0.7, ..Sharpening::default() },
        temperature_schedule: Some(TemperatureSchedule::default()),
        ..SampleSettings::default()
    }
}

/// Seven sequences, three at a time; the fourth is given whole, the sixth in part.
fn sample(
    network: &dyn Denoiser,
    predictive: &Predictive,
    settings: SampleSettings,
) -> submask::Result<Samples> {
    let (length, classes) = (network.spec().max_seq_len(), network.spec().classes);
    let mut prompts = vec![Prompt::empty(predictive, length)?; 7];
    let digits = 2 * length;
    let given = |count: usize| -> Vec<Option<u32>> {
        let whole = predictive.codes().encode(&vec![7; length]).unwrap();
        whole.into_iter().take(count).map(Some).chain(vec![None; digits - count]).collect()
    };
    prompts[3] = Prompt::from_digits(predictive, &given(digits))?;
    prompts[5] = Prompt::from_digits(predictive, &given(9))?;
    // The classes, and no label.
    let label = |s: usize| classes.and_then(|classes| (s % (classes + 1) < classes).then_some(s % classes));
    let prompts = prompts.into_iter().enumerate().map(|(s, prompt)| prompt.with_label(label(s)));
    Sampler::new(network, predictive, settings)?.sample(&prompts.collect::<Vec<_>>())
}

/// At positions in no order, some twice, of sequences with labels where the network reads them.
#[test]
fn logits_of_digits_on_the_device_are_those_in_memory() {
    let codes = SubTokenizer::new(20, 2).unwrap();
    for (device, kernels) in places() {
        let plain = networks(&codes, Kernels::PLAIN);
        for (plain, network) in plain.into_iter().zip(networks(&codes, kernels)) {
            let (plain, network) = (loaded(plain, 0.6, &Device::flex()), loaded(network, 0.6, &device));
            let (length, t) = (network.spec().max_seq_len(), [0.1, 0.5, 0.9]);
            let draws = Draws::new(8, Purpose::Mask);
            let y_t: Vec<u32> = (0..6 * length).map(|i| draws.below(6, 0, i as u32, 0) as u32).collect();
            let digits = y_t.iter().map(|digit| *digit as i32).collect();
            let digits = TensorData::new::<i32, _>(digits, [3 * length, 2]);
            let digits = Tensor::<2, Int>::from_data(digits, &device);
            let labels = network.spec().classes.map(|classes| vec![1, classes, 0]);
            let labels = labels.as_deref();
            let positions: Vec<usize> =
                (0..2 * length).map(|i| draws.below(3 * length as u64, 1, i as u32, 0) as usize).collect();

            let mut expected = Vec::new();
            let states = States { y_t: &y_t, t: &t, labels };
            let mut keep = |_, logits: &[f32]| {
                expected.extend_from_slice(logits);
                Ok(())
            };
            plain.evaluate(&states, &positions, &mut keep).unwrap();
            let mut parts = Vec::new();
            let states = DeviceStates { y_t: &digits, t: &t, labels };
            network
                .evaluate_on_device(&states, &positions, &mut |range, logits| {
                    assert_eq!(logits.dims(), [range.len(), 20]);
                    parts.push(logits);
                })
                .unwrap();
            let logits = Tensor::cat(parts, 0).into_data();
            let numbers = |logits: &[f32]| logits.iter().map(|x| f64::from(*x)).collect::<Vec<_>>();
            let logits = numbers(logits.as_slice::<f32>().unwrap());
            // Another device adds up in another order, and these weights are large.
            let what = format!("logits on the device, {} {kernels:?}", network.spec().max_seq_len());
            assert_close(&what, &logits, &numbers(&expected), 10.0 * tolerances(kernels).values);
        }
    }
}

/// Digits that are no sequences, labels that are no classes and positions outside are refused, wherever digits are.
#[test]
fn what_does_not_fit_is_refused_on_the_device_too() {
    let codes = SubTokenizer::new(20, 2).unwrap();
    let device = Device::flex();
    for network in networks(&codes, Kernels::GPU) {
        let network = loaded(network, 0.6, &device);
        let (length, classes) = (network.spec().max_seq_len(), network.spec().classes);
        let error = |rows: usize, labels: Option<&[usize]>, position: usize| {
            let y_t = Tensor::<2, Int>::zeros([rows, 2], &device);
            let states = DeviceStates { y_t: &y_t, t: &[0.5, 0.5], labels };
            network.evaluate_on_device(&states, &[position], &mut |_, _| {}).unwrap_err().to_string()
        };
        assert!(error(2 * length + 2, None, 0).starts_with("sequence length ="));
        assert!(error(2 * length - 1, None, 0).starts_with("digits ="));
        assert!(error(2 * length, None, 2 * length).starts_with("position ="));
        match classes {
            None => assert!(error(2 * length, Some(&[0, 0]), 0).starts_with("labels = given")),
            Some(classes) => {
                assert!(error(2 * length, Some(&[0]), 0).starts_with("labels = 1"));
                assert!(error(2 * length, Some(&[0, classes + 1]), 0).starts_with("label = 4"));
            }
        }
    }
}

#[test]
fn samples_drawn_on_the_device_are_those_drawn_in_memory() {
    for (classes, carry_over) in [(20, true), (25, false)] {
        let codes = SubTokenizer::new(classes, 2).unwrap();
        let predictive = Predictive::new(codes.clone(), carry_over);
        for (device, kernels) in places().into_iter().filter(|(_, kernels)| kernels.are_for_gpus()) {
            let plain = networks(&codes, Kernels::PLAIN);
            for (plain, network) in plain.into_iter().zip(networks(&codes, kernels)) {
                let plain = loaded(plain, 0.6, &Device::flex());
                let network = loaded(network, 0.6, &device);
                assert!(network.on_device().is_some() && plain.on_device().is_none());
                let in_memory = sample(&plain, &predictive, settings()).unwrap();
                let on_device = sample(&network, &predictive, settings()).unwrap();
                assert_eq!(on_device.reports, in_memory.reports);
                let pairs = on_device.tokens.iter().zip(&in_memory.tokens);
                let differing = pairs.filter(|(ours, theirs)| ours != theirs).count();
                println!("{differing} of {} tokens differ", in_memory.tokens.len());
                // A draw may fall between two partial sums that differ by rounding, and change what follows; rounded factors
                // give other sums anyway.
                let few = differing <= network.spec().max_seq_len();
                let is_rounded = kernels.precision() != Precision::Fp32;
                hold(few || is_rounded, || format!("{differing} tokens differ, {kernels:?}"));
                let mut sorted = in_memory.tokens;
                sorted.sort_unstable();
                sorted.dedup();
                assert!(sorted.len() > 5, "the samples say nothing");
            }
        }
    }
}

#[test]
fn logits_on_the_device_that_are_not_finite_are_an_error() {
    let codes = SubTokenizer::new(20, 2).unwrap();
    let predictive = Predictive::new(codes.clone(), true);
    for (device, kernels) in places() {
        for network in networks(&codes, kernels) {
            let error =
                sample(&loaded(network, f64::INFINITY, &device), &predictive, settings()).unwrap_err();
            assert!(error.to_string().contains("logits"), "{error}");
        }
    }
}

/// What needs values between the steps is drawn in memory, from the same network.
#[test]
fn what_the_device_does_not_draw_is_drawn_in_memory() {
    // No token has the digits (2, 3): draws that follow each other may come to them.
    let codes = SubTokenizer::new(10, 2).unwrap();
    let sharper = |top_p, top_k| Sharpening { top_p, top_k, ..Sharpening::default() };
    let flat = Sharpening { temperature: 50.0, ..Sharpening::default() };
    let greedy = Sharpening { temperature: 0.0, ..Sharpening::default() };
    let cases = [
        (true, SampleSettings { sharpening: sharper(0.8, None), ..settings() }),
        (true, SampleSettings { sharpening: sharper(1.0, Some(3)), ..settings() }),
        (true, SampleSettings { draw: Draw::Marginal, ..settings() }),
        (true, SampleSettings { trajectories: true, ..settings() }),
        (true, SampleSettings { sharpening: greedy, ..settings() }),
        (
            true,
            SampleSettings {
                order: Order::LeftToRight,
                per_step: 3,
                steps: Steps::FirstHitting,
                ..settings()
            },
        ),
        (false, SampleSettings { sharpening: flat, ..settings() }),
    ];
    for (carry_over, settings) in cases {
        let predictive = Predictive::new(codes.clone(), carry_over);
        let [plain, gpu] = [Kernels::PLAIN, Kernels::GPU].map(|kernels| {
            let [network, ..] = networks(&codes, kernels);
            sample(&loaded(network, 0.6, &Device::flex()), &predictive, settings.clone()).unwrap()
        });
        assert_eq!((gpu.tokens, gpu.reports), (plain.tokens, plain.reports.clone()));
        assert_eq!(gpu.trajectories.len(), if settings.trajectories { 7 } else { 0 });
        let redraws: u64 = plain.reports.iter().map(|report| report.redraws).sum();
        assert!(carry_over || redraws > 0, "nothing was drawn again");
    }
}

/// Sequences of several lengths and settings, some of them added later; what the device does not draw stands beside
/// them.
#[test]
fn a_stream_on_the_device_gives_every_sequence_what_it_gives_it_alone() {
    let codes = SubTokenizer::new(20, 2).unwrap();
    let predictive = Predictive::new(codes.clone(), true);
    let [_, network, ..] =
        networks(&codes, Kernels::GPU).map(|network| loaded(network, 0.6, &Device::flex()));
    let request = |s: usize| {
        let settings = SampleSettings {
            steps: if s.is_multiple_of(3) { Steps::FirstHitting } else { Steps::Grid(4 + s) },
            sharpening: Sharpening { top_p: if s == 4 { 0.9 } else { 1.0 }, ..Sharpening::default() },
            seed: s as u64,
            ..SampleSettings::default()
        };
        SequenceRequest {
            prompt: Prompt::empty(&predictive, [11, 4, 11, 7, 4, 4, 11, 1][s]).unwrap(),
            recipe: Arc::new(Recipe::new(&predictive, &settings).unwrap()),
            number: 10 + s as u64,
        }
    };
    let run = |batch: usize, sequences: &[usize], cancelled: &[usize]| -> Vec<FinishedSequence> {
        let mut stream = Stream::new(&network, batch).unwrap();
        if !cancelled.is_empty() {
            stream = stream.taking_turns();
        }
        let (mut waiting, mut finished) = (sequences.iter(), Vec::new());
        let mut leaving = cancelled.iter();
        for round in 0.. {
            if let Some(&s) = waiting.next() {
                stream.add(request(s)).unwrap();
            }
            if round >= 6
                && let Some(&s) = leaving.next()
            {
                assert!(stream.cancel(s).is_some() && stream.cancel(s).is_none(), "{s}");
            }
            if stream.is_empty() {
                break;
            }
            finished.extend(stream.round(&mut |_: &Event| Ok(())).unwrap());
        }
        finished.sort_by_key(|finished: &FinishedSequence| finished.sequence);
        finished
    };
    let all: Vec<usize> = (0..8).collect();
    for batch in [1, 3, 8] {
        for cancelled in [&[][..], &[5, 2, 6]] {
            let together = run(batch, &all, cancelled);
            assert_eq!(together.len(), 8 - cancelled.len());
            for found in together {
                let s = found.sequence;
                assert!(!cancelled.contains(&s));
                let alone = run(1, &[s], &[]).pop().unwrap();
                assert_eq!(FinishedSequence { sequence: 0, ..found }, alone, "sequence {s}, batch {batch}");
            }
        }
    }
}

/// Who wants to be told of digits is told, and gets the samples of a network in memory.
#[test]
fn an_observer_that_wants_digits_is_told_of_them() {
    let codes = SubTokenizer::new(20, 2).unwrap();
    let predictive = Predictive::new(codes.clone(), true);
    let [_, network, ..] =
        networks(&codes, Kernels::GPU).map(|network| loaded(network, 0.6, &Device::flex()));
    let prompts = vec![Prompt::empty(&predictive, LENGTH).unwrap(); 3];
    let sampler = Sampler::new(&network, &predictive, settings()).unwrap();
    let mut states = vec![Vec::new(); 3];
    let mut note = WithDigits(|event: &Event| {
        match *event {
            Event::Started { sequence, y } => states[sequence] = y.to_vec(),
            Event::Revealed { sequence, digits, .. } => {
                digits.iter().for_each(|&(digit, value)| states[sequence][digit] = value);
            }
            _ => {}
        }
        Ok(())
    });
    let samples = sampler.sample_observed(&prompts, &mut note).unwrap();
    assert_eq!(codes.decode(&states.concat()).unwrap(), samples.tokens);
    let mut told = 0;
    let mut count = |event: &Event| {
        told += usize::from(matches!(event, Event::Revealed { .. }));
        Ok(())
    };
    sampler.sample_observed(&prompts, &mut count).unwrap();
    assert_eq!(told, 0);
}
