//! Samples on the network's device have the exact distribution of the sampler, given the network's own logits there.

use std::sync::Arc;

use burn::tensor::Device;
use submask::backbone::dit::Dit;
use submask::backbone::encoder::Encoder;
use submask::backbone::weights::{Init, Parameter, Weights};
use submask::backbone::{Backbone, LoadedBackbone};
use submask::denoiser::{Denoiser, States};
use submask::predictive::{Predictive, Sharpening};
use submask::sampler::{Prompt, SampleSettings, Sampler, Steps};
use submask::subtoken::SubTokenizer;

use crate::fixtures::{hold, places};
use crate::sampler_distribution::indices;
use crate::sampler_exact::{ExactSampler, Timing};
use crate::table_network::{TableNetwork, all_sequences};
use crate::tiny_networks::{dit_config, encoder_config};

/// Tokens, sub-tokens, and tokens of a sequence: 25 sequences, 256 states, and codes that no token has.
const VOCAB_SIZE: usize = 5;
const SUBTOKENS: usize = 2;
const LENGTH: usize = 2;

/// Names another number of samples than 10,000, for a device that is only pretended.
const SAMPLES_VARIABLE: &str = "SUBMASK_TEST_SAMPLES";

/// Samples that are drawn together.
const BATCH: usize = 5_000;

fn sample_count() -> usize {
    std::env::var(SAMPLES_VARIABLE).map_or(10_000, |count| count.parse().expect(SAMPLES_VARIABLE))
}

fn codes() -> SubTokenizer {
    SubTokenizer::new(VOCAB_SIZE, SUBTOKENS).unwrap()
}

/// A network with weights far from zero, so that its distributions are far from even.
fn loaded(network: Arc<dyn Backbone>, device: &Device) -> LoadedBackbone {
    let drawn = |(index, parameter): (usize, &Parameter)| {
        Parameter { init: Init::Normal(0.4), ..parameter.clone() }.initial(3, index)
    };
    let values: Vec<_> = network.parameters().iter().enumerate().map(drawn).collect();
    LoadedBackbone { weights: Weights::new(network.parameters(), &values, device), network }
}

/// The network's logits for every state of the tokens after `before`, read as a text of both.
fn table(network: &LoadedBackbone, before: &[u32], length: usize) -> TableNetwork {
    let codes = codes();
    let base = codes.base() as usize + 1;
    let given = codes.encode(before).unwrap();
    let states = all_sequences(base, length * SUBTOKENS);
    let count = states.len() / (length * SUBTOKENS);
    let y_t: Vec<u32> =
        states.chunks_exact(length * SUBTOKENS).flat_map(|state| [&given, state].concat()).collect();
    let whole = before.len() + length;
    let positions: Vec<usize> =
        (0..count).flat_map(|b| (before.len()..whole).map(move |i| b * whole + i)).collect();
    let mut logits = Vec::new();
    let states = States { y_t: &y_t, t: &vec![0.5; count], labels: None };
    let mut keep = |_, rows: &[f32]| {
        logits.extend_from_slice(rows);
        Ok(())
    };
    network.evaluate(&states, &positions, &mut keep).unwrap();
    TableNetwork::from_logits(codes, length, logits)
}

/// Pearson's χ² of counts against expected shares, over the largest value that chance allows: about five standard deviations
/// (Wilson and Hilferty's approximation). Outcomes that are expected fewer than five times are taken together.
fn chi_square(counts: &[usize], exact: &[f64]) -> f64 {
    let n = counts.iter().sum::<usize>() as f64;
    let (mut cells, mut rare) = (Vec::new(), (0.0, 0.0));
    for (count, p) in counts.iter().zip(exact) {
        let cell = (*count as f64, n * p);
        if cell.1 < 5.0 {
            rare = (rare.0 + cell.0, rare.1 + cell.1);
        } else {
            cells.push(cell);
        }
    }
    if rare.0 > 0.0 || rare.1 > 0.0 {
        // One that cannot be is allowed to come by rounding once in a while.
        cells.push((rare.0, rare.1.max(1.0)));
    }
    let value: f64 = cells.iter().map(|(count, expected)| (count - expected).powi(2) / expected).sum();
    let degrees = (cells.len() - 1) as f64;
    let spread = 2.0 / (9.0 * degrees);
    value / (degrees * (1.0 - spread + 5.0 * spread.sqrt()).powi(3))
}

fn check(what: &str, network: &LoadedBackbone, settings: SampleSettings, exact: &[f64]) {
    assert!((exact.iter().sum::<f64>() - 1.0).abs() < 1e-6, "{what}");
    let predictive = Predictive::new(codes(), true);
    let prompts = vec![Prompt::empty(&predictive, LENGTH).unwrap(); sample_count()];
    let settings = SampleSettings { batch: BATCH, seed: 1, ..settings };
    let samples = Sampler::new(network, &predictive, settings).unwrap().sample(&prompts).unwrap();
    let mut counts = vec![0; exact.len()];
    indices(&samples, VOCAB_SIZE).for_each(|index| counts[index] += 1);
    let found = chi_square(&counts, exact);
    println!("{what}: chi-square {found:.2} of what chance allows");
    hold(found < 1.0, || {
        format!("{what}: chi-square {found:.2} of what chance allows, counts {counts:?}, exact {exact:?}")
    });
    // Another distribution is told from this one.
    let other: Vec<f64> = exact.iter().cycle().skip(1).take(exact.len()).copied().collect();
    hold(chi_square(&counts, &other) > 1.0, || format!("{what}: anything would pass"));
}

fn timings() -> [(Timing, Steps); 2] {
    [(Timing::Grid(4), Steps::Grid(4)), (Timing::OneByOne, Steps::FirstHitting)]
}

#[test]
fn samples_of_networks_on_the_device_have_their_exact_distribution() {
    for (device, kernels) in places() {
        let networks: [(&str, Arc<dyn Backbone>); 2] = [
            ("transformer", Arc::new(Dit::new(dit_config(LENGTH, 0), &codes(), kernels).unwrap())),
            ("encoder", Arc::new(Encoder::new(encoder_config(LENGTH, 0), &codes(), kernels).unwrap())),
        ];
        for (name, network) in networks {
            let network = loaded(network, &device);
            let table = table(&network, &[], LENGTH);
            let start = vec![codes().mask_id(); LENGTH * SUBTOKENS];
            let [grid, one_by_one] = timings();
            for ((timing, steps), temperature, top_p) in
                [(&grid, 1.0, 1.0), (&grid, 0.7, 1.0), (&one_by_one, 1.0, 1.0), (&one_by_one, 1.0, 0.8)]
            {
                let mut exact = ExactSampler::new(&table, *timing, true);
                (exact.temperature, exact.top_p) = (temperature, top_p);
                let sharpening = Sharpening { temperature, top_p, ..Sharpening::default() };
                let settings =
                    SampleSettings { steps: steps.clone(), sharpening, ..SampleSettings::default() };
                let what =
                    format!("{name}, {timing:?}, temperature {temperature}, top_p {top_p}, {kernels:?}");
                check(&what, &network, settings, &exact.distribution(&start));
            }
        }
    }
}

/// Blocks of one token: the second is drawn given the first.
#[test]
fn samples_by_blocks_on_the_device_have_their_exact_distribution() {
    for (device, kernels) in places() {
        let network = Arc::new(Dit::new(dit_config(LENGTH, 1), &codes(), kernels).unwrap());
        let network = loaded(network, &device);
        let start = vec![codes().mask_id(); SUBTOKENS];
        for (timing, steps) in timings() {
            let of_block = |before: &[u32]| {
                ExactSampler::new(&table(&network, before, 1), timing, true).distribution(&start)
            };
            let exact: Vec<f64> = of_block(&[])
                .into_iter()
                .enumerate()
                .flat_map(|(x, p)| of_block(&[x as u32]).into_iter().map(move |q| p * q))
                .collect();
            let settings = SampleSettings { steps, ..SampleSettings::default() };
            check(&format!("blocks, {timing:?}, {kernels:?}"), &network, settings, &exact);
        }
    }
}

#[test]
fn chi_square_tells_other_shares_apart() {
    let exact = [0.5, 0.25, 0.25];
    assert!(chi_square(&[5000, 2500, 2500], &exact) < 1e-9);
    assert!(chi_square(&[5050, 2450, 2500], &exact) < 1.0);
    assert!(chi_square(&[5400, 2300, 2300], &exact) > 1.0);
    // What cannot be shows as soon as it comes more than a few times.
    assert!(chi_square(&[5000, 2500, 2500, 20], &[0.5, 0.25, 0.25, 0.0]) > 1.0);
}
