//! Digits that a device's kernels draw are those drawn in memory, however they are drawn.

use std::sync::Arc;

use burn::tensor::Device;
use submask::Result;
use submask::backbone::autoregressive::{Autoregressive, AutoregressiveConfig, LoadedAutoregressive};
use submask::backbone::dit::Dit;
use submask::backbone::weights::{Init, Parameter, Weights};
use submask::backbone::{Backbone, LoadedBackbone};
use submask::denoiser::{Autoregressor, BlockDenoiser, Continuation, Denoiser, LogitRows, Spec, States};
use submask::ops::{Kernels, Precision};
use submask::order::Order;
use submask::predictive::{Nucleus, Predictive, Sharpening};
use submask::sampler::{
    AutoregressiveRecipe, AutoregressiveSequence, Corrector, Draw, MixtureDenoiser, Prompt, SampleSettings,
    Sampler, Samples, Steps, sample_autoregressive,
};
use submask::schedule::{RevealUnit, TemperatureSchedule, TimeWarp};
use submask::subtoken::SubTokenizer;

use crate::fixtures::{hold, places};
use crate::tiny_networks::dit_config;

const LENGTH: usize = 12;
const SEQUENCES: usize = 6;

/// Weights far from zero.
fn weights(parameters: &[Parameter], seed: u64, device: &Device) -> Weights {
    let drawn = |(index, parameter): (usize, &Parameter)| {
        Parameter { init: Init::Normal(0.4), ..parameter.clone() }.initial(seed, index)
    };
    let values: Vec<Vec<f32>> = parameters.iter().enumerate().map(drawn).collect();
    Weights::new(parameters, &values, device)
}

fn network(codes: &SubTokenizer, block_len: usize, kernels: Kernels, device: &Device) -> LoadedBackbone {
    seeded(codes, block_len, kernels, device, 3)
}

fn seeded(
    codes: &SubTokenizer,
    block_len: usize,
    kernels: Kernels,
    device: &Device,
    seed: u64,
) -> LoadedBackbone {
    let network: Arc<dyn Backbone> =
        Arc::new(Dit::new(dit_config(LENGTH, block_len), codes, kernels).unwrap());
    LoadedBackbone { weights: weights(network.parameters(), seed, device), network }
}

/// The same network, whose logits come to memory to be drawn from.
struct DrawnInMemory<'a>(&'a LoadedBackbone);

impl Denoiser for DrawnInMemory<'_> {
    fn spec(&self) -> &Spec {
        self.0.spec()
    }

    fn evaluate(&self, states: &States, positions: &[usize], rows: LogitRows) -> Result<()> {
        self.0.evaluate(states, positions, rows)
    }

    fn by_blocks(&self) -> Option<&dyn BlockDenoiser> {
        self.0.by_blocks()
    }
}

fn sample(network: &dyn Denoiser, predictive: &Predictive, settings: &SampleSettings) -> Samples {
    let whole = predictive.codes().encode(&[7; LENGTH]).unwrap();
    // Some digits are given, so that places differ: those of a sequence without any would be equally sure, up to rounding.
    let prompt = |s: usize| {
        let is_given = |place: usize| place == 2 * (s % 4) || s == 2 && place < 7;
        let given = whole.iter().enumerate().map(|(place, digit)| is_given(place).then_some(*digit));
        Prompt::from_digits(predictive, &given.collect::<Vec<_>>()).unwrap()
    };
    let prompts: Vec<Prompt> = (0..SEQUENCES).map(prompt).collect();
    Sampler::new(network, predictive, settings.clone()).unwrap().sample(&prompts).unwrap()
}

/// Compares samples of a device with those in memory, for codes of which some belong to no token.
fn compare(name: &str, carry_over: bool, block_len: usize, settings: SampleSettings) {
    let codes = SubTokenizer::new(20, 2).unwrap();
    let predictive = Predictive::new(codes.clone(), carry_over);
    let expected =
        sample(&network(&codes, block_len, Kernels::PLAIN, &Device::flex()), &predictive, &settings);
    for (device, kernels) in places() {
        let network = network(&codes, block_len, kernels, &device);
        if network.drawing_device().is_none() {
            continue;
        }
        let found = sample(&network, &predictive, &settings);
        // Rounded logits have other draws than the composition's.
        let of_rounded = (kernels.precision() != Precision::Fp32)
            .then(|| sample(&DrawnInMemory(&network), &predictive, &settings));
        check(name, &found, of_rounded.as_ref().unwrap_or(&expected), kernels);
    }
}

fn check(name: &str, found: &Samples, expected: &Samples, kernels: Kernels) {
    let all = found.sequences().zip(expected.sequences()).zip(found.reports.iter().zip(&expected.reports));
    let differing = all.filter(|((ours, theirs), (report, known))| ours != theirs || report != known).count();
    println!("{name}: {differing} of {SEQUENCES} sequences differ on {kernels}");
    // A draw may fall between two partial sums that differ by rounding, or the order of two be decided by it.
    hold(differing <= SEQUENCES / 3, || format!("{name}: {differing} sequences differ on {kernels}"));
}

fn on_grid() -> SampleSettings {
    SampleSettings { steps: Steps::Grid(8), seed: 5, batch: 4, ..SampleSettings::default() }
}

fn sharpenings() -> [(&'static str, Sharpening); 6] {
    let default = Sharpening::default();
    [
        ("plain", default),
        ("greedy", Sharpening { temperature: 0.0, ..default }),
        ("top-k", Sharpening { top_k: Some(4), temperature: 0.7, ..default }),
        ("nucleus", Sharpening { top_p: 0.8, ..default }),
        ("exclusive nucleus", Sharpening { top_p: 0.6, nucleus: Nucleus::Exclusive, ..default }),
        ("both", Sharpening { top_p: 0.7, top_k: Some(6), temperature: 1.3, ..default }),
    ]
}

#[test]
fn device_draws_of_planned_digits_are_those_in_memory() {
    for ((name, sharpening), first_carries_over) in
        sharpenings().into_iter().zip([true, false].into_iter().cycle())
    {
        for (draw, carry_over) in [(Draw::Joint, first_carries_over), (Draw::Marginal, !first_carries_over)] {
            let settings = SampleSettings { sharpening, draw, ..on_grid() };
            compare(&format!("{name}, {draw:?}"), carry_over, 0, settings.clone());
            let first_hitting = SampleSettings { steps: Steps::FirstHitting, ..settings };
            compare(&format!("{name}, {draw:?}, first-hitting"), carry_over, 0, first_hitting);
        }
    }
}

#[test]
fn device_draws_with_a_corrector_are_those_in_memory() {
    for draw in [Draw::Joint, Draw::Marginal] {
        for carry_over in [true, false] {
            let settings = SampleSettings {
                corrector: Some(Corrector::from([6.0, 0.5, 0.75])),
                steps: Steps::Times(TimeWarp::from([1.0, 1.7, 0.0]).times(9).unwrap()),
                draw,
                ..on_grid()
            };
            compare(&format!("corrector, {draw:?}, {carry_over}"), carry_over, 0, settings);
        }
    }
}

#[test]
fn device_draws_in_every_order_are_those_in_memory() {
    for order in Order::deterministic() {
        for unit in [RevealUnit::Tokens, RevealUnit::Digits] {
            let cases = sharpenings().into_iter().zip([true, false].into_iter().cycle());
            for ((name, sharpening), carry_over) in cases {
                let settings = SampleSettings {
                    order,
                    unit,
                    per_step: 3,
                    steps: Steps::FirstHitting,
                    sharpening,
                    ..on_grid()
                };
                compare(&format!("{order}, {unit:?}, {name}"), carry_over, 0, settings);
            }
        }
    }
}

/// What is told of digits, and blocks, are in memory; the device draws them all the same.
#[test]
fn device_draws_for_sequences_in_memory_are_those_of_memory() {
    for (name, sharpening) in sharpenings() {
        let settings = SampleSettings { sharpening, trajectories: true, ..on_grid() };
        compare(&format!("{name}, told"), true, 0, settings.clone());
        let settings = SampleSettings { sharpening, ..on_grid() };
        compare(&format!("{name}, in blocks"), true, 4, settings.clone());
        let ordered =
            SampleSettings { order: Order::Confidence, per_step: 2, steps: Steps::FirstHitting, ..settings };
        compare(&format!("{name}, in blocks by confidence"), true, 4, ordered);
    }
}

/// Predictions of several networks are added up on the device, and drawn from there.
#[test]
fn device_draws_of_mixtures_are_those_in_memory() {
    let codes = SubTokenizer::new(20, 2).unwrap();
    let predictive = Predictive::new(codes.clone(), true);
    let temperature = TemperatureSchedule { scale: 0.6, exponent: 1.5, offset: 0.5 };
    let mix = |networks: &[&dyn Denoiser], settings: &SampleSettings| {
        let mixture = MixtureDenoiser::new(networks).unwrap().with_temperature(temperature);
        (mixture.drawing_device().is_some(), sample(&mixture, &predictive, settings))
    };
    for (device, kernels) in places() {
        let [a, b] = [3, 4].map(|seed| seeded(&codes, 0, kernels, &device, seed));
        if a.drawing_device().is_none() {
            continue;
        }
        let ordered =
            SampleSettings { order: Order::Entropy, per_step: 3, steps: Steps::FirstHitting, ..on_grid() };
        let marginal = SampleSettings { draw: Draw::Marginal, ..on_grid() };
        for (name, settings) in [("joint", on_grid()), ("marginal", marginal), ("by entropy", ordered)] {
            let (on_device, found) = mix(&[&a, &b], &settings);
            let (in_memory, expected) = mix(&[&DrawnInMemory(&a), &DrawnInMemory(&b)], &settings);
            assert_eq!((on_device, in_memory), (true, false));
            check(&format!("mixture, {name}"), &found, &expected, kernels);
        }
    }
}

/// An autoregressive network whose logits come to memory to be drawn from.
struct ContinuedInMemory<'a>(&'a LoadedAutoregressive);

struct InMemory<'a>(Box<dyn Continuation + 'a>);

impl Autoregressor for ContinuedInMemory<'_> {
    fn spec(&self) -> &Spec {
        self.0.spec()
    }

    fn base(&self) -> usize {
        self.0.base()
    }

    fn logits(&self, inputs: &[u32], batch: usize) -> Result<Vec<f32>> {
        self.0.logits(inputs, batch)
    }

    fn begin(&self) -> Box<dyn Continuation + '_> {
        Box::new(InMemory(self.0.begin()))
    }
}

impl Continuation for InMemory<'_> {
    fn add(&mut self, sequences: usize) {
        self.0.add(sequences);
    }

    fn next_logits(&mut self, inputs: &[u32]) -> Result<Vec<f32>> {
        self.0.next_logits(inputs)
    }

    fn keep(&mut self, rows: &[usize]) {
        self.0.keep(rows);
    }
}

#[test]
fn device_draws_from_left_to_right_are_those_in_memory() {
    // Of three digits some lead to no token; of one all do.
    for (classes, subtoken_len) in [(20, 3), (37, 1)] {
        let codes = SubTokenizer::new(classes, subtoken_len).unwrap();
        let predictive = Predictive::new(codes.clone(), true);
        let config = AutoregressiveConfig { hidden: 16, heads: 2, blocks: 2, seq_len: LENGTH, dropout: 0.0 };
        for (device, kernels) in places() {
            let network = Autoregressive::new(config.clone(), &codes, kernels).unwrap();
            let network =
                LoadedAutoregressive { weights: weights(network.parameters(), 3, &device), network };
            if network.begin().on_drawing_device().is_none() {
                continue;
            }
            for (name, sharpening) in sharpenings() {
                let recipe = AutoregressiveRecipe {
                    seed: 5,
                    sharpening,
                    end: Some(3),
                    ..AutoregressiveRecipe::default()
                };
                let sequence = |number: u64| {
                    let mut prompt = vec![None; LENGTH - number as usize % 2];
                    prompt[..number as usize % 3].fill(Some(7));
                    AutoregressiveSequence { prompt: prompt.into(), number, recipe }
                };
                let sample = |network: &dyn Autoregressor| {
                    let sequences = (0..12).map(sequence);
                    sample_autoregressive(network, &predictive, sequences, 5).unwrap()
                };
                let (found, expected) = (sample(&network), sample(&ContinuedInMemory(&network)));
                let differing = found.iter().zip(&expected).filter(|(ours, theirs)| ours != theirs).count();
                println!("left to right, {name}: {differing} of 12 sequences differ on {kernels}");
                hold(differing <= 2, || format!("{name}: {differing} sequences differ on {kernels}"));
            }
        }
    }
}
