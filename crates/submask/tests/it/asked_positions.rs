//! Hidden states at some positions are those of the whole batch there, and so are the gradients.

use burn::tensor::{Device, Int, Tensor, TensorData, Tolerance};
use submask::backbone::dit::{Dit, DitConfig};
use submask::backbone::encoder::Encoder;
use submask::backbone::weights::Weights;
use submask::backbone::{Backbone, LoadedBackbone};
use submask::denoiser::{Denoiser, States};
use submask::ops::Kernels;
use submask::random::{Draws, Purpose};
use submask::subtoken::SubTokenizer;

use crate::tiny_networks::{dit_config, encoder_config};

/// Tokens of a sequence, and times of the sequences.
const LENGTH: usize = 9;
const TIMES: [f64; 3] = [0.2, 0.5, 0.9];

fn networks(kernels: Kernels) -> Vec<(&'static str, Box<dyn Backbone>)> {
    let codes = SubTokenizer::new(20, 2).unwrap();
    let dit = |time_conditioning| {
        let config = DitConfig { time_conditioning, ..dit_config(LENGTH, 0) };
        Box::new(Dit::new(config, &codes, kernels).unwrap())
    };
    let encoder = Box::new(Encoder::new(encoder_config(LENGTH, 0), &codes, kernels).unwrap());
    vec![("dit", dit(false)), ("dit that reads the time", dit(true)), ("encoder", encoder)]
}

fn drawn(id: u64, len: usize) -> Vec<f32> {
    let draws = Draws::new(id, Purpose::Init);
    (0..len).map(|i| 0.4 * draws.normal(0, i as u32, 0) as f32).collect()
}

/// The states at `asked`, cut from those of all positions where `whole`, and the gradients of a sum over them.
fn run(network: &dyn Backbone, asked: &[usize], whole: bool) -> Vec<TensorData> {
    let device = Device::flex().autodiff();
    let parameters = network.parameters();
    let values: Vec<Vec<f32>> =
        parameters.iter().enumerate().map(|(i, parameter)| drawn(i as u64, parameter.len())).collect();
    let weights = Weights::new(parameters, &values, &device);
    let draws = Draws::new(6, Purpose::Mask);
    let y_t: Vec<u32> =
        (0..LENGTH * TIMES.len() * 2).map(|i| draws.below(6, 0, i as u32, 0) as u32).collect();
    let inputs = States { y_t: &y_t, t: &TIMES, labels: None }.into();
    let states = |positions: &[usize]| {
        let heads = network.heads(&weights, &inputs, positions, None).unwrap();
        assert_eq!(heads.len(), 1);
        heads[0].hidden.all()
    };
    let hidden = if whole {
        let all: Vec<usize> = (0..LENGTH * TIMES.len()).collect();
        let rows: Vec<i32> = asked.iter().map(|position| *position as i32).collect();
        let rows = Tensor::<1, Int>::from_data(TensorData::new(rows, [asked.len()]), &device);
        states(&all).select(0, rows)
    } else {
        states(asked)
    };
    let upstream =
        Tensor::from_data(TensorData::new(drawn(99, asked.len() * 16), [asked.len(), 16]), &device);
    let gradients = (hidden.clone() * upstream).sum().backward();
    let mut all = vec![hidden.into_data()];
    // The output layer has none.
    all.extend(weights.tensors().filter_map(|tensor| tensor.grad(&gradients)).map(Tensor::into_data));
    all
}

#[test]
fn states_and_gradients_are_those_of_the_whole_batch() {
    for kernels in [Kernels::FUSED, Kernels::PLAIN, Kernels::GPU] {
        for (name, network) in networks(kernels) {
            for asked in [&[5][..], &[26, 0, 13], &[8, 9, 10, 11, 12, 17, 18, 19, 20, 21]] {
                let (some, whole) = (run(&*network, asked, false), run(&*network, asked, true));
                assert!(some.len() == whole.len() && some.len() > 10, "{name}: {}", some.len());
                if kernels == Kernels::FUSED {
                    some[0].assert_eq(&whole[0], true);
                }
                for (some, whole) in some.iter().zip(&whole) {
                    some.assert_approx_eq::<f32>(whole, Tolerance::rel_abs(1e-4, 1e-6));
                }
            }
        }
    }
}

/// Sequences of several lengths, and blocks at several places, are evaluated together as each of them alone: on the CPU to the bit.
#[test]
fn sequences_of_several_lengths_are_what_they_are_alone() {
    let lengths = [3, 3, 7, 1, 9];
    let draws = Draws::new(7, Purpose::Mask);
    let y_t: Vec<u32> =
        (0..2 * lengths.iter().sum::<usize>()).map(|i| draws.below(6, 0, i as u32, 0) as u32).collect();
    let times = [0.1, 0.4, 0.5, 0.7, 0.9];
    let asked = [0, 2, 4, 7, 8, 12, 13, 14, 22];
    for kernels in [Kernels::FUSED, Kernels::PLAIN, Kernels::GPU] {
        for (name, network) in networks(kernels) {
            assert_eq!(network.takes_lengths(), !network.spec().reads_time, "{name}");
            let network = loaded_backbone(network);
            let states = States { y_t: &y_t, t: &times, labels: None };
            let mut together = vec![Vec::new(); asked.len()];
            network
                .evaluate_each(&states, &lengths, &asked, &mut |range, logits| {
                    for (row, logits) in range.zip(logits.chunks_exact(20)) {
                        assert!(together[row].is_empty());
                        together[row] = logits.to_vec();
                    }
                    Ok(())
                })
                .unwrap();
            let (mut first, mut row) = (0, 0);
            for (length, time) in lengths.iter().zip(times) {
                let own: Vec<usize> = asked.iter().filter_map(|i| i.checked_sub(first)).collect();
                let own: Vec<usize> = own.into_iter().filter(|i| i < length).collect();
                let states = States { y_t: &y_t[2 * first..2 * (first + length)], t: &[time], labels: None };
                let mut alone = Vec::new();
                let mut take = |_, logits: &[f32]| {
                    alone.extend_from_slice(logits);
                    Ok(())
                };
                network.evaluate(&states, &own, &mut take).unwrap();
                for alone in alone.chunks_exact(20) {
                    let near = |(a, b): (&f32, &f32)| (a - b).abs() < 1e-4;
                    match kernels == Kernels::FUSED {
                        true => assert_eq!(together[row], alone, "{name}"),
                        false => assert!(together[row].iter().zip(alone).all(near), "{name}"),
                    }
                    row += 1;
                }
                first += length;
            }
            assert_eq!(row, asked.len());
        }
    }
}

#[test]
fn lengths_that_do_not_fit_are_refused() {
    for (name, network) in networks(Kernels::FUSED) {
        let network = loaded_backbone(network);
        for (lengths, digits) in [([2, 3], 8), ([1, LENGTH + 1], 2 * (LENGTH + 2)), ([0, 2], 4)] {
            let y_t = vec![0; digits];
            let states = States { y_t: &y_t, t: &[0.5; 2], labels: None };
            if network.network.takes_lengths() {
                let refused = network.evaluate_each(&states, &lengths, &[0], &mut |_, _| Ok(()));
                assert!(refused.is_err(), "{name} {lengths:?}");
            }
        }
    }
}

fn loaded_backbone(network: Box<dyn Backbone>) -> LoadedBackbone {
    let parameters = network.parameters();
    let values: Vec<Vec<f32>> =
        parameters.iter().enumerate().map(|(i, parameter)| drawn(i as u64, parameter.len())).collect();
    let weights = Weights::new(parameters, &values, &Device::flex());
    LoadedBackbone { network: network.into(), weights }
}
