//! A tiny U-Net: gradients, batches, labels, asked positions and refused sizes.

use std::sync::Arc;

use burn::tensor::{Device, TensorData};

use super::*;
use crate::backbone::head::Heads;
use crate::backbone::{LoadedBackbone, Parameter, logits};
use crate::denoiser::{Denoiser, States};
use crate::random::{Draws, Purpose};

fn codes() -> SubTokenizer {
    SubTokenizer::new(8, 2).unwrap()
}

/// Two levels, attention in the upper one too, two colour channels.
fn config() -> UnetConfig {
    UnetConfig {
        channels: 2,
        height: 4,
        width: 6,
        model_channels: 32,
        channel_mult: vec![1, 2],
        res_blocks: 1,
        attention_resolutions: vec![1],
        head_channels: 16,
        dropout: 0.0,
        classes: Some(3),
    }
}

/// Weights of which none is zero by design: 1 or 0 plus N(0, 0.15²).
fn random_weights(parameters: &[Parameter]) -> Vec<Vec<f32>> {
    let draws = Draws::new(5, Purpose::Init);
    let value = |parameter: usize, i: usize, init| {
        let start = if init == Init::Ones { 1.0 } else { 0.0 };
        (start + 0.15 * draws.normal(parameter as u64, i as u32, 0)) as f32
    };
    let all = parameters.iter().enumerate();
    all.map(|(index, p)| (0..p.len()).map(|i| value(index, i, p.init)).collect()).collect()
}

fn digits(batch: usize, seed: u64) -> Vec<u32> {
    let count = batch * config().tokens() * codes().subtoken_len();
    let draws = Draws::new(seed, Purpose::Mask);
    (0..count).map(|i| draws.below(4, 0, i as u32, 0) as u32).collect()
}

/// The network and its weights.
fn unet(config: UnetConfig, codes: &SubTokenizer, kernels: Kernels) -> (Unet, Weights) {
    let network = Unet::new(config, codes, kernels).unwrap();
    let parameters = network.parameters();
    let weights = Weights::new(parameters, &random_weights(parameters), &Device::flex());
    (network, weights)
}

fn loaded(kernels: Kernels) -> LoadedBackbone {
    let (network, weights) = unet(config(), &codes(), kernels);
    LoadedBackbone { network: Arc::new(network), weights }
}

/// The published network's logits at all tokens [B·L, classes], by the whole convolution; for ℓ = 1 with the mask class.
fn all_logits(
    network: &Unet,
    weights: &Weights,
    y_t: &[u32],
    labels: Option<&[usize]>,
    dropout: Option<TrainingDropout>,
) -> Tensor<2> {
    let times = vec![0.5; y_t.len() / network.config.tokens() / network.spec().subtoken_len];
    let inputs = States { y_t, t: &times, labels }.into();
    let planes = network.output_conv.forward(weights, network.trunk(weights, &inputs, dropout));
    let (pixels, classes) = (network.config.pixels(), output_classes(network.spec()));
    let [batch, channels, ..] = planes.dims();
    let tokens = channels / classes;
    let rows = planes.reshape([batch * tokens, classes, pixels]).swap_dims(1, 2);
    rows.reshape([batch * tokens * pixels, classes])
}

fn floats(logits: Tensor<2>) -> Vec<f32> {
    logits.into_data().try_into_vec().unwrap()
}

fn evaluate(network: &LoadedBackbone, y_t: &[u32], positions: &[usize]) -> Vec<f32> {
    evaluate_labelled(network, y_t, None, positions)
}

fn evaluate_labelled(
    network: &LoadedBackbone,
    y_t: &[u32],
    labels: Option<&[usize]>,
    positions: &[usize],
) -> Vec<f32> {
    let batch = y_t.len() / config().tokens() / 2;
    let mut all = Vec::new();
    network
        .evaluate(&States { y_t, t: &vec![0.5; batch], labels }, positions, &mut |range, logits| {
            assert_eq!((range.start * 8, range.len() * 8), (all.len(), logits.len()));
            all.extend_from_slice(logits);
            Ok(())
        })
        .unwrap();
    all
}

fn assert_close(ours: &[f32], theirs: &[f32], tolerance: f32) {
    assert_eq!(ours.len(), theirs.len());
    let scale = theirs.iter().fold(0f32, |a, x| a.max(x.abs()));
    for (i, (a, b)) in ours.iter().zip(theirs).enumerate() {
        assert!((a - b).abs() <= tolerance * scale, "{i}: {a} against {b} (scale {scale})");
    }
}

#[test]
fn gradients_are_the_finite_differences() {
    let network = Unet::new(config(), &codes(), Kernels::FUSED).unwrap();
    let parameters = network.parameters();
    let start = random_weights(parameters);
    let y_t = digits(2, 1);
    let upstream: Vec<f32> = {
        let draws = Draws::new(9, Purpose::Init);
        (0..2 * config().tokens() * 8).map(|i| draws.normal(0, i as u32, 0) as f32).collect()
    };
    let dropout = TrainingDropout { rate: 0.2, draws: Draws::new(3, Purpose::Dropout), step: 7 };
    let logits = |weights: &Weights| all_logits(&network, weights, &y_t, Some(&[1, 3]), Some(dropout));

    let weights = Weights::new(parameters, &start, &Device::flex().autodiff());
    let out = logits(&weights);
    let factors = TensorData::new(upstream.clone(), out.shape());
    let gradients = (out.clone() * Tensor::from_data(factors, &out.device())).sum().backward();

    let loss = |parameter: usize, i: usize, change: f32| -> f64 {
        let mut values = start.clone();
        values[parameter][i] += change;
        let weights = Weights::new(parameters, &values, &Device::flex());
        let out: Vec<f32> = logits(&weights).into_data().try_into_vec().unwrap();
        out.iter().zip(&upstream).map(|(x, g)| f64::from(*x) * f64::from(*g)).sum()
    };
    let gradients: Vec<Vec<f32>> = weights
        .tensors()
        .map(|w| w.grad(&gradients).expect("every weight is used").into_data().try_into_vec().unwrap())
        .collect();
    let largest = |gradient: &[f32]| gradient.iter().fold(0f32, |a, g| a.max(g.abs()));
    for (index, (parameter, gradient)) in parameters.iter().zip(&gradients).enumerate() {
        // Differences of a loss of order 100 have errors of order 0.01: a bias before a norm of one channel a group, whose
        // gradient is zero, shows nothing else.
        let scale = largest(gradient).max(1.0);
        // The row of no label is not trained.
        let trained =
            if parameter.name == "unet.label_emb.weight" { parameter.len() / 4 * 3 } else { parameter.len() };
        assert!(gradient[trained..].iter().all(|g| *g == 0.0));
        // The largest element, and one in the middle.
        let steepest = (0..trained).max_by(|a, b| gradient[*a].abs().total_cmp(&gradient[*b].abs())).unwrap();
        for i in [steepest, trained / 2] {
            let step = 4e-3;
            let difference = (loss(index, i, step) - loss(index, i, -step)) / f64::from(2.0 * step);
            let error = (difference as f32 - gradient[i]).abs();
            assert!(error <= 0.02 * scale, "{}[{i}]: {} against {difference}", parameter.name, gradient[i]);
        }
    }
}

#[test]
fn logits_are_the_same_bits_in_every_batch() {
    let network = loaded(Kernels::FUSED);
    let tokens = config().tokens();
    let y_t = digits(3, 2);
    let positions: Vec<usize> = (0..3 * tokens).collect();
    let together = evaluate(&network, &y_t, &positions);
    for image in 0..3 {
        let alone = evaluate(&network, &y_t[image * tokens * 2..][..tokens * 2], &positions[..tokens]);
        assert_eq!(alone, together[image * tokens * 8..][..tokens * 8]);
    }
}

#[test]
fn logits_at_asked_positions_are_those_of_the_whole_convolution() {
    for kernels in [Kernels::FUSED, Kernels::PLAIN] {
        let (network, weights) = unet(config(), &codes(), kernels);
        let y_t = digits(2, 3);
        let all = floats(all_logits(&network, &weights, &y_t, None, None));
        let network = LoadedBackbone { network: Arc::new(network), weights };
        // Corners, edges and inner pixels of both colour channels and images, in no order, one twice.
        let positions = [95, 0, 23, 24, 31, 47, 48, 5, 66, 8, 8];
        let expected: Vec<f32> = positions.iter().flat_map(|p| &all[p * 8..][..8]).copied().collect();
        assert_close(&evaluate(&network, &y_t, &positions), &expected, 1e-5);
        assert!(evaluate(&network, &y_t, &[]).is_empty());
    }
}

/// Of positions in no order, so that a range has positions of one channel, or of both, or begins with the second.
#[test]
fn logits_of_some_positions_are_the_same_bits_as_of_all() {
    let (network, weights) = unet(config(), &codes(), Kernels::FUSED);
    let y_t = digits(2, 8);
    let inputs = States { y_t: &y_t, t: &[0.5; 2], labels: None }.into();
    let positions = [95, 0, 23, 24, 31, 47, 48, 5, 66, 8, 8];
    let heads = Heads::new(&network, &weights, &inputs, &positions, None).unwrap();
    let all = floats(heads.logits(0..11));
    for size in [1, 2, 3, 4, 7] {
        let starts = (0..11).step_by(size);
        let parts = starts.map(|start| floats(heads.logits(start..(start + size).min(11))));
        assert_eq!(parts.collect::<Vec<_>>().concat(), all);
    }
}

/// The channels' patches are one tensor where their places are the same, and only there.
#[test]
fn channels_with_the_same_places_share_their_patches() {
    let (network, weights) = unet(config(), &codes(), Kernels::PLAIN);
    let y_t = digits(1, 9);
    let inputs: Inputs = States { y_t: &y_t, t: &[0.5], labels: None }.into();
    let hidden = |positions: &[usize]| -> Vec<Vec<f32>> {
        let heads = network.heads(&weights, &inputs, positions, None).unwrap();
        heads.iter().map(|head| floats(head.hidden.all())).collect()
    };
    let both = hidden(&[3, 27, 0, 24]);
    assert_eq!(both[0], both[1]);
    let others = hidden(&[3, 28, 0, 24]);
    assert_eq!(others[0], both[0]);
    assert_ne!(others[1], both[1]);
    assert_eq!(hidden(&[27, 24]), [both[1].clone()]);
}

#[test]
fn the_kernels_agree() {
    let positions: Vec<usize> = (0..2 * config().tokens()).collect();
    let [fused, plain] =
        [Kernels::FUSED, Kernels::PLAIN].map(|kernels| evaluate(&loaded(kernels), &digits(2, 4), &positions));
    assert_close(&fused, &plain, 1e-5);
}

#[test]
fn no_label_is_the_last_row_and_labels_change_the_logits() {
    let (network, weights) = unet(config(), &codes(), Kernels::FUSED);
    let y_t = digits(2, 5);
    let given = |labels| floats(all_logits(&network, &weights, &y_t, labels, None));
    let half = config().tokens() * 8;
    let (none, mixed) = (given(None), given(Some(&[3, 1])));
    assert_eq!(given(Some(&[3, 3])), none);
    assert_eq!(mixed[..half], none[..half]);
    assert_ne!(mixed[half..], none[half..]);
    assert_ne!(given(Some(&[0, 1]))[..half], none[..half]);

    let asked = |network: &Unet, weights: &Weights, labels: Option<&[usize]>| {
        logits(network, weights, &States { y_t: &y_t, t: &[0.5; 2], labels }.into(), &[0])
    };
    let refused = |labels: &[usize]| asked(&network, &weights, Some(labels)).unwrap_err().to_string();
    assert!(refused(&[4, 0]).contains("label = 4 is not allowed: 0 to 3"), "{}", refused(&[4, 0]));
    assert!(refused(&[0]).contains("labels = 1"), "{}", refused(&[0]));
    let (network, weights) = unet(UnetConfig { classes: None, ..config() }, &codes(), Kernels::FUSED);
    assert!(asked(&network, &weights, Some(&[0, 0])).is_err());
    assert!(asked(&network, &weights, None).is_ok());
}

#[test]
fn a_label_changes_logits_and_the_class_after_the_last_is_no_label() {
    let network = loaded(Kernels::FUSED);
    let y_t = digits(1, 6);
    let of = |labels| evaluate_labelled(&network, &y_t, labels, &[3]);
    assert_ne!(of(Some(&[2])), of(None));
    assert_eq!(of(Some(&[3])), of(None));
    let states = States { y_t: &y_t, t: &[0.5], labels: Some(&[4]) };
    assert!(network.evaluate(&states, &[3], &mut |_, _| Ok(())).is_err());
}

#[test]
fn only_whole_images_are_evaluated() {
    let network = loaded(Kernels::FUSED);
    let error = network
        .evaluate(&States { y_t: &digits(1, 7)[2..], t: &[0.5], labels: None }, &[3], &mut |_, _| Ok(()))
        .unwrap_err();
    assert!(error.to_string().contains("47") && error.to_string().contains("48 tokens"), "{error}");
    let inputs = States { y_t: &[0; 7], t: &[0.5], labels: None }.into();
    assert!(logits(&*network.network, &network.weights, &inputs, &[0]).is_err());
}

#[test]
fn the_mask_is_never_predicted() {
    let codes = SubTokenizer::new(8, 1).unwrap();
    let (network, weights) = unet(config(), &codes, Kernels::FUSED);
    assert_eq!(output_classes(network.spec()), 9);
    let y_t = vec![8; 48];
    let all = floats(all_logits(&network, &weights, &y_t, None, None));
    assert_eq!(all.len(), 48 * 9);
    let loaded = LoadedBackbone { network: Arc::new(network), weights };
    let asked = |rows: &mut Vec<f32>| {
        loaded.evaluate(&States { y_t: &y_t, t: &[0.5], labels: None }, &[47, 0], &mut |_, logits| {
            rows.extend_from_slice(logits);
            Ok(())
        })
    };
    let mut rows = Vec::new();
    asked(&mut rows).unwrap();
    assert_close(&rows, &[&all[47 * 9..][..8], &all[..8]].concat(), 1e-5);
}

#[test]
fn sizes_that_do_not_fit_are_refused_by_name() {
    let refused = |change: fn(&mut UnetConfig), field: &str, given: &str, allowed: &str| {
        let mut config = config();
        change(&mut config);
        let error = Unet::new(config, &codes(), Kernels::PLAIN).unwrap_err().to_string();
        assert!(error.starts_with(&format!("{field} = {given} is not allowed")), "{error}");
        assert!(error.contains(allowed), "{error}");
    };
    refused(|c| c.channels = 0, "channels", "0", "at least 1");
    refused(|c| c.classes = Some(0), "model.classes", "0", "at least 1");
    refused(|c| c.dropout = 1.0, "model.dropout", "1", "[0, 1)");
    refused(|c| c.channel_mult = vec![], "model.channel_mult", "[]", "every level");
    refused(|c| c.channel_mult = vec![1, 0], "model.channel_mult", "[1, 0]", "at least 1");
    refused(|c| c.height = 5, "data.height", "5", "a multiple of 2^1");
    refused(|c| c.channel_mult = vec![1, 1, 1], "data.width", "6", "a multiple of 2^2");
    refused(|c| c.model_channels = 40, "model.model_channels", "40", "a multiple of 32");
    refused(|c| c.channels = 5, "model.model_channels", "32", "subtoken_len = 5 · 2");
    refused(|c| c.attention_resolutions = vec![2, 3], "model.attention_resolutions", "3", "[1, 2]");
    refused(|c| c.head_channels = 20, "model.head_channels", "20", "[32, 64]");
    refused(|c| c.head_channels = 3, "model.head_channels", "3", "even");
    assert!(
        toml::from_str::<UnetConfig>("channels = 3\nhight = 2").unwrap_err().to_string().contains("hight")
    );
}

#[test]
fn the_published_size_has_its_number_of_weights() {
    for (subtoken_len, count) in [(1, 113_997_315), (2, 113_965_680)] {
        let codes = SubTokenizer::new(256, subtoken_len).unwrap();
        let network = Unet::new(UnetConfig::cifar10(), &codes, Kernels::PLAIN).unwrap();
        assert_eq!(network.parameters().iter().map(Parameter::len).sum::<usize>(), count);
    }
}

#[test]
fn initial_weights_leave_the_rows_of_no_label_zero() {
    let network = Unet::new(config(), &codes(), Kernels::PLAIN).unwrap();
    let parameters = network.parameters();
    let index = parameters.iter().position(|parameter| parameter.name == "unet.label_emb.weight").unwrap();
    let values = parameters[index].initial(1, index);
    let (labelled, none) = values.split_at(3 * 4 * 32);
    assert!(none.iter().all(|x| *x == 0.0) && none.len() == 4 * 32);
    let variance = labelled.iter().map(|x| x * x).sum::<f32>() / labelled.len() as f32;
    assert!((variance - 1.0).abs() < 0.15, "{variance}");
}
