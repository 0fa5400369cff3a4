//! The networks, losses, gradients and optimiser steps agree with the reference implementation's.

use std::path::Path;
use std::sync::Arc;

use burn::tensor::Device;
use submask::Compute;
use submask::backbone::autoregressive::{Autoregressive, AutoregressiveConfig, Cache};
use submask::backbone::dit::{Dit, DitConfig};
use submask::backbone::encoder::{Encoder, EncoderConfig};
use submask::backbone::weights::{Parameter, RawWeights, Weights, arrange};
use submask::backbone::{self, Backbone, Embedding};
use submask::denoiser::States;
use submask::objective::{LossRows, Objective};
use submask::ops::{Kernels, Precision};
use submask::predictive::Predictive;
use submask::subtoken::SubTokenizer;
use submask::train::optimizer::{AdamW, AdamWConfig, GradientRange, StepSize, clip_factor, global_norm};
use submask::train::settings::{Decay, RunSettings, TrainSettings};
use submask::train::{Slot, SlotLoss, TrainState, stepper};

use crate::fixtures::{Case, assert_close, cases, deviation, gpus, hold, places, tolerances};

pub fn codes(case: &Case) -> SubTokenizer {
    let codes = SubTokenizer::new(case.integer("vocab_size"), case.integer("subtoken_len")).unwrap();
    let base = case.json["base"].as_u64().unwrap_or(case.json["mask_id"].as_u64().unwrap_or_default());
    assert_eq!(u64::from(codes.base()), base);
    match case.tensor("vectors", "permutation") {
        Some((_, table)) => {
            codes.with_permutation(&table.iter().map(|x| *x as u32).collect::<Vec<_>>()).unwrap()
        }
        None => codes,
    }
}

/// The network of a case, with blocks where it has them.
pub fn network(case: &Case, kernels: Kernels) -> Dit {
    let embedding = match (case.flag("digit_tables"), case.flag("digits_summed")) {
        (false, false) => Embedding::Concatenated,
        (true, false) => Embedding::PerDigitConcatenated,
        (_, true) => Embedding::PerDigitSummed,
    };
    let config = DitConfig {
        block_len: case.json["block_size"].as_u64().unwrap_or(0) as usize,
        hidden: case.integer("hidden"),
        heads: case.integer("heads"),
        blocks: case.integer("blocks"),
        cond_dim: case.integer("cond_dim"),
        seq_len: case.integer("length"),
        dropout: 0.0,
        embedding,
        time_conditioning: false,
    };
    Dit::new(config, &codes(case), kernels).unwrap()
}

fn encoder(case: &Case, kernels: Kernels) -> Encoder {
    let config = EncoderConfig {
        block_len: 0,
        hidden: case.integer("hidden"),
        heads: case.integer("heads"),
        query_groups: case.integer("query_groups"),
        blocks: case.integer("blocks"),
        intermediate: case.integer("intermediate"),
        seq_len: case.integer("length"),
        dropout: 0.0,
        embedding: match case.flag("digits_summed") {
            true => Embedding::PerDigitSummed,
            false => Embedding::PerDigitConcatenated,
        },
    };
    Encoder::new(config, &codes(case), kernels).unwrap()
}

pub fn values(case: &Case, file: &str, parameters: &[Parameter]) -> Vec<Vec<f32>> {
    let raw: RawWeights = case
        .tensor_names(file)
        .into_iter()
        .map(|name| {
            let (shape, values) = case.tensor(file, &name).unwrap();
            (name, (shape, values.into_iter().map(|x| x as f32).collect()))
        })
        .collect();
    arrange(parameters, raw, Path::new(file)).unwrap()
}

pub fn floats(tensor: burn::tensor::TensorData) -> Vec<f64> {
    tensor.iter::<f32>().map(f64::from).collect()
}

/// A training batch: every position is charged, w(t) = 1/t, mean over batch and positions.
struct Batch {
    x_0: Vec<u32>,
    y_t: Vec<u32>,
    t: Vec<f64>,
}

/// The loss on logits at every position that is charged.
fn loss(
    network: &Dit,
    weights: &Weights,
    predictive: &Arc<Predictive>,
    batch: &Batch,
    objective: Objective,
) -> burn::tensor::Tensor<1> {
    let count = batch.x_0.len();
    let length = count / batch.t.len();
    let weight = |i: usize| (1.0 / batch.t[i / length] / count as f64) as f32;
    let rows = LossRows::new(
        predictive.clone(),
        objective,
        batch.x_0.clone(),
        batch.y_t.clone(),
        (0..count).map(weight).collect(),
    );
    let all: Vec<usize> = (0..count).collect();
    let inputs = States { y_t: &batch.y_t, t: &batch.t, labels: None }.into();
    backbone::loss(network, weights, &inputs, &all, rows, None).unwrap().expect("there are rows")
}

fn step_batch(case: &Case, step: usize) -> Batch {
    let cut = |name: &str| {
        let (shape, values) = case.tensor("train_steps", name).unwrap();
        let size: usize = shape[1..].iter().product();
        values[step * size..(step + 1) * size].to_vec()
    };
    let ids = |name: &str| cut(name).into_iter().map(|x| x as u32).collect();
    Batch { x_0: ids("x_0"), y_t: ids("y_t"), t: cut("t") }
}

#[test]
fn logits_agree() {
    for case in cases("text_").into_iter().chain(cases("variant_")) {
        for (device, kernels) in places() {
            let network = network(&case, kernels);
            let parameters = network.parameters();
            let weights = Weights::new(parameters, &values(&case, "weights", parameters), &device);
            let y_t = case.ids("vectors", "y_t");
            let t = vec![0.0; y_t.len() / case.integer("length") / case.integer("subtoken_len")];
            let logits = floats(network.all_logits(&weights, &y_t, &t).unwrap().into_data());
            let (_, theirs) = case.tensor("vectors", "logits").unwrap();
            let what = format!("{} logits {kernels:?}", case.name);
            assert_close(&what, &logits, &theirs, tolerances(kernels).values);
        }
    }
}

/// Within the error of bfloat16, which has 8 significant bits; in plain Rust where the processor lacks the instructions.
#[test]
fn logits_in_bf16_are_near() {
    // In training and in inference, which keep weights differently.
    let mut places = vec![
        (Device::flex().autodiff(), Kernels::FUSED.with_precision(Precision::Bf16).unwrap()),
        (Device::flex(), Kernels::FUSED.with_precision(Precision::Bf16).unwrap()),
        (Device::flex(), Kernels::GPU.with_precision(Precision::Bf16).unwrap()),
    ];
    for gpu in gpus() {
        match Kernels::new(&gpu, Precision::Bf16) {
            Ok(kernels) => places.push((gpu, kernels)),
            Err(error) => println!("not on the GPU: {error}"),
        }
    }
    for case in cases("text_") {
        for (device, kernels) in &places {
            let network = network(&case, *kernels);
            let parameters = network.parameters();
            let weights = Weights::new(parameters, &values(&case, "weights", parameters), device);
            let y_t = case.ids("vectors", "y_t");
            let t = vec![0.0; y_t.len() / case.integer("length") / case.integer("subtoken_len")];
            let logits = network.all_logits(&weights, &y_t, &t).unwrap();
            let (_, theirs) = case.tensor("vectors", "logits").unwrap();
            let off = deviation(&floats(logits.into_data()), &theirs);
            println!("{} logits in bf16, {kernels:?} on {device:?}: largest deviation {off:.1e}", case.name);
            hold(off > 1e-5 && off < 0.03, || format!("{}: {off}", case.name));
        }
    }
}

#[test]
fn the_encoders_logits_agree() {
    for case in cases("encoder_") {
        assert_eq!(case.number("norm_eps"), 1e-5, "{}", case.name);
        for (device, kernels) in places() {
            let network = encoder(&case, kernels);
            let parameters = network.parameters();
            let weights = Weights::new(parameters, &values(&case, "weights", parameters), &device);
            let y_t = case.ids("vectors", "y_t");
            let rows = y_t.len() / case.integer("subtoken_len");
            let (t, all) = (vec![0.0; rows / case.integer("length")], (0..rows).collect::<Vec<_>>());
            let inputs = States { y_t: &y_t, t: &t, labels: None }.into();
            let logits = backbone::logits(&network, &weights, &inputs, &all).unwrap();
            let logits = floats(logits.into_data());
            let (_, theirs) = case.tensor("vectors", "logits").unwrap();
            println!("{} {kernels:?}: largest deviation {:.1e}", case.name, deviation(&logits, &theirs));
            let what = format!("{} logits {kernels:?}", case.name);
            assert_close(&what, &logits, &theirs, tolerances(kernels).values);
        }
    }
}

#[test]
fn digits_log_probabilities_and_terms_agree() {
    for case in cases("text_").into_iter().chain(cases("variant_")) {
        let codes = codes(&case);
        let (x_0, y_t) = (case.ids("vectors", "x_0"), case.ids("vectors", "y_t"));
        assert_eq!(codes.encode(&x_0).unwrap(), case.ids("vectors", "y_0"), "{}", case.name);
        let logits = case.tensor_f32("vectors", "logits").1;
        let classes = logits.len() / x_0.len();
        let len = codes.subtoken_len();
        for (carry_over, suffix) in [(true, "carry_over"), (false, "plain")] {
            let predictive = Predictive::new(codes.clone(), carry_over);
            let (mut log_probs, mut joint, mut marginal, mut masked) = (vec![], vec![], vec![], vec![]);
            for (i, row) in logits.chunks_exact(classes).enumerate() {
                let y = &y_t[i * len..(i + 1) * len];
                let p = predictive.distribution(&row[..codes.vocab_size()], y);
                log_probs.extend((0..codes.vocab_size()).map(|x| p.log_prob(x as u32)));
                joint.push(-p.log_prob(x_0[i]));
                for (j, digit) in codes.digits(x_0[i]).iter().enumerate() {
                    marginal.push(if y[j] == codes.mask_id() { -p.log_marginal(j, *digit) } else { 0.0 });
                }
                masked.push(if y[0] == codes.mask_id() { -p.log_prob(x_0[i]) } else { 0.0 });
            }
            let compare = |name: &str, ours: &[f64]| {
                if let Some((_, theirs)) = case.tensor("vectors", name) {
                    assert_close(&format!("{} {name}", case.name), ours, &theirs, 1e-5);
                }
            };
            compare(&format!("log_prob_{suffix}"), &log_probs);
            compare(&format!("joint_nll_{suffix}"), &joint);
            compare(&format!("marginal_nll_{suffix}"), &marginal);
            if len == 1 && carry_over {
                compare("nll_masked", &masked);
            }
        }
    }
}

#[test]
fn losses_and_every_gradient_agree() {
    let losses = [
        ("joint_carry_over", Objective::Joint, true),
        ("joint_plain", Objective::Joint, false),
        ("marginal_carry_over", Objective::Marginal, true),
        ("subs", Objective::Joint, true),
    ];
    for case in cases("text_") {
        let mut compared = 0;
        for (name, objective, carry_over) in losses {
            let file = format!("grads_{name}");
            if !case.has(&file) {
                println!("{}: no {file}, skipped", case.name);
                continue;
            }
            for (device, kernels) in places() {
                let network = network(&case, kernels);
                let parameters = network.parameters();
                let start = values(&case, "weights", parameters);
                let weights = Weights::new(parameters, &start, &device.autodiff());
                let predictive = Arc::new(Predictive::new(codes(&case), carry_over));
                let t = case.tensor("vectors", "t").unwrap().1;
                let batch = Batch { x_0: case.ids("vectors", "x_0"), y_t: case.ids("vectors", "y_t"), t };
                let loss = loss(&network, &weights, &predictive, &batch, objective);
                let value = loss.clone().into_scalar::<f32>();
                let theirs = case.number(&format!("loss_{name}"));
                let what = format!("{} {file} loss {kernels:?}", case.name);
                assert_close(&what, &[f64::from(value)], &[theirs], tolerances(kernels).values);
                let gradients = loss.backward();
                assert_eq!(case.tensor_names(&file).len(), parameters.len(), "{file} holds every parameter");
                for (parameter, tensor) in parameters.iter().zip(weights.tensors()) {
                    let ours = match tensor.grad(&gradients) {
                        Some(gradient) => floats(gradient.into_data()),
                        None => vec![0.0; parameter.len()],
                    };
                    let theirs = case.tensor(&file, &parameter.name).unwrap().1;
                    let what = format!("{} {file} {} {kernels:?}", case.name, parameter.name);
                    assert_close(&what, &ours, &theirs, tolerances(kernels).gradients);
                    compared += 1;
                }
            }
        }
        assert!(compared > 0, "{}: no gradients were compared", case.name);
    }
}

/// What a case says of its ten steps of the optimiser.
struct Ten {
    objective: Objective,
    predictive: Arc<Predictive>,
    config: AdamWConfig,
    learning_rate: f64,
    clip: f64,
    losses: Vec<f64>,
    norms: Vec<f64>,
}

impl Ten {
    fn of(case: &Case) -> Self {
        let settings = &case.json["adamw"];
        let number = |key: &str| settings[key].as_f64().unwrap();
        let list = |key: &str| -> Vec<f64> {
            settings[key].as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect()
        };
        let (objective, carry_over) = match settings["objective"].as_str().unwrap() {
            "joint_carry_over" | "subs" => (Objective::Joint, true),
            "joint_plain" => (Objective::Joint, false),
            "marginal_carry_over" => (Objective::Marginal, true),
            other => panic!("{}: unknown objective {other}", case.name),
        };
        let betas = list("betas");
        Self {
            objective,
            predictive: Arc::new(Predictive::new(codes(case), carry_over)),
            config: AdamWConfig {
                beta_1: betas[0],
                beta_2: betas[1],
                epsilon: number("eps"),
                weight_decay: number("weight_decay"),
            },
            learning_rate: number("lr"),
            clip: number("clip_grad_norm"),
            losses: list("loss_trajectory"),
            norms: list("grad_norm_before_clip"),
        }
    }

    fn compare(&self, case: &Case, network: &Dit, losses: &[f64], norms: &[f64], weights: &[Vec<f32>]) {
        let (parameters, kernels) = (network.parameters(), network.kernels());
        let allowed = tolerances(kernels);
        let what = |what: &str| format!("{} {what} ten steps {kernels:?}", case.name);
        assert_close(&what("losses of"), losses, &self.losses, allowed.gradients);
        assert_close(&what("norms of"), norms, &self.norms, allowed.gradients);
        for (parameter, ours) in parameters.iter().zip(weights) {
            let (_, theirs) = case.tensor("weights_after_10_steps", &parameter.name).unwrap();
            let ours: Vec<f64> = ours.iter().map(|x| f64::from(*x)).collect();
            let what = what(&format!("{} after", parameter.name));
            assert_close(&what, &ours, &theirs, allowed.trained);
        }
    }
}

#[test]
fn ten_optimiser_steps_agree() {
    for case in cases("text_") {
        let ten = Ten::of(&case);
        let network = network(&case, Kernels::FUSED);
        let parameters = network.parameters();
        let mut weights = values(&case, "weights", parameters);
        let mut optimizer = AdamW::new(ten.config, parameters);
        let (mut losses, mut norms) = (vec![], vec![]);
        for step in 0..ten.losses.len() {
            let on_device = Weights::new(parameters, &weights, &Device::flex().autodiff());
            let batch = step_batch(&case, step);
            let loss = loss(&network, &on_device, &ten.predictive, &batch, ten.objective);
            losses.push(f64::from(loss.clone().into_scalar::<f32>()));
            let gradients = loss.backward();
            let gradients: Vec<Vec<f32>> = on_device
                .tensors()
                .zip(parameters)
                .map(|(tensor, parameter)| match tensor.grad(&gradients) {
                    Some(gradient) => gradient.into_data().try_into_vec().unwrap(),
                    None => vec![0.0; parameter.len()],
                })
                .collect();
            let norm = global_norm(&gradients);
            norms.push(norm);
            let gradient_factor = clip_factor(norm, ten.clip);
            let size = StepSize { learning_rate: ten.learning_rate, gradient_factor };
            optimizer.step(&mut weights, &GradientRange::of_all(gradients), size, None).unwrap();
        }
        ten.compare(&case, &network, &losses, &norms, &weights);
    }
}

/// The batches of a case's ten steps.
struct TenBatches<'a> {
    case: &'a Case,
    network: &'a Dit,
    ten: &'a Ten,
}

impl SlotLoss for TenBatches<'_> {
    fn loss(&self, weights: &Weights, slot: Slot) -> submask::Result<Option<burn::tensor::Tensor<1>>> {
        let batch = step_batch(self.case, slot.step as usize - 1);
        Ok(Some(loss(self.network, weights, &self.ten.predictive, &batch, self.ten.objective)))
    }
}

/// With weights, moments and gradients that stay on the device.
#[test]
fn ten_optimiser_steps_on_the_device_agree() {
    let preset = include_str!("../../../submask-cli/presets/dictionary.toml");
    let preset = toml::from_str::<RunSettings>(preset).unwrap().train;
    for case in cases("text_") {
        let ten = Ten::of(&case);
        let settings = TrainSettings {
            adamw: ten.config,
            learning_rate: ten.learning_rate,
            clip: ten.clip,
            warmup_steps: 0,
            decay: Decay::Constant,
            accumulate: 1,
            ..preset.clone()
        };
        for (device, kernels) in places().into_iter().filter(|(_, kernels)| kernels.are_for_gpus()) {
            let network = network(&case, kernels);
            let parameters = network.parameters();
            let start = TrainState::new(values(&case, "weights", parameters), ten.config, parameters);
            let compute = Compute::with(device, kernels).unwrap();
            let mut stepper = stepper::open(&settings, parameters, start, &compute);
            let batches = TenBatches { case: &case, network: &network, ten: &ten };
            let (mut losses, mut norms, mut reserved) = (vec![], vec![], vec![]);
            for step in 1..=ten.losses.len() {
                stepper.step(step as u64, &batches).unwrap();
                let report = stepper.report().unwrap();
                reserved.push(compute.device().memory_pool_usage().map(|usage| usage.bytes_reserved));
                losses.push(report.loss);
                norms.push(report.gradient_norm);
            }
            // Other tests may take some at the same time, if there are any.
            let is_alone = std::env::var("RUST_TEST_THREADS").is_ok_and(|count| count == "1");
            let spare = if is_alone { 0 } else { 10 };
            let most = reserved[2].map(|bytes| bytes + bytes * spare / 100);
            let grows = reserved[2..].iter().any(|bytes| *bytes > most);
            hold(!grows, || format!("{}: the device's memory grows: {reserved:?}", case.name));
            let state = stepper.state().unwrap();
            ten.compare(&case, &network, &losses, &norms, &state.raw);
        }
    }
}

#[test]
fn the_autoregressive_network_agrees() {
    for case in cases("ar_") {
        let classes = case.integer("vocab_size");
        let codes = SubTokenizer::new(classes, 1).unwrap();
        let config = AutoregressiveConfig {
            hidden: case.integer("hidden"),
            heads: case.integer("heads"),
            blocks: case.integer("blocks"),
            seq_len: case.integer("length"),
            dropout: 0.0,
        };
        let length = case.integer("length");
        for (device, kernels) in places() {
            let network = Autoregressive::new(config.clone(), &codes, kernels).unwrap();
            let parameters = network.parameters();
            let start = values(&case, "weights", parameters);
            let weights = Weights::new(parameters, &start, &device);
            let x = case.ids("vectors", "x");
            let batch = x.len() / length;
            let logits: Vec<f32> = network.logits(&weights, &x, batch).into_data().try_into_vec().unwrap();
            let predictive = Arc::new(Predictive::new(codes.clone(), true));
            let log_probs: Vec<f64> = logits
                .chunks_exact(classes)
                .flat_map(|row| {
                    let p = predictive.distribution(row, &[classes as u32]);
                    (0..classes).map(|x| p.log_prob(x as u32)).collect::<Vec<_>>()
                })
                .collect();
            let theirs = case.tensor("vectors", "log_prob").unwrap().1;
            let kept: Vec<f64> =
                theirs.chunks_exact(classes + 1).flat_map(|row| row[..classes].to_vec()).collect();
            assert!(
                theirs.chunks_exact(classes + 1).all(|row| row[classes] < -900.0),
                "the mask is excluded"
            );
            let allowed = tolerances(kernels);
            assert_close(&format!("{} log_prob {kernels:?}", case.name), &log_probs, &kept, allowed.values);
            let nll: Vec<f64> = (0..batch)
                .flat_map(|b| (1..length).map(move |i| (b, i)))
                .map(|(b, i)| -log_probs[(b * length + i - 1) * classes + x[b * length + i] as usize])
                .collect();
            let what = format!("{} nll_next {kernels:?}", case.name);
            assert_close(&what, &nll, &case.tensor("vectors", "nll_next").unwrap().1, allowed.values);
            next_token_gradients_agree(&device, &case, &network, &predictive, &x);
            cached_logits_agree(&network, &weights, &x, batch, &logits);
        }
    }
}

fn next_token_gradients_agree(
    device: &Device,
    case: &Case,
    network: &Autoregressive,
    predictive: &Arc<Predictive>,
    x: &[u32],
) {
    let (length, parameters) = (case.integer("length"), network.parameters());
    let batch = x.len() / length;
    let start = values(case, "weights", parameters);
    let weights = Weights::new(parameters, &start, &device.clone().autodiff());
    let inputs: Vec<u32> = x.chunks_exact(length).flat_map(|row| row[..length - 1].to_vec()).collect();
    let targets: Vec<u32> = x.chunks_exact(length).flat_map(|row| row[1..].to_vec()).collect();
    let count = targets.len();
    let (masked, share) = (vec![network.base() as u32; count], vec![1.0 / count as f32; count]);
    let rows = LossRows::new(predictive.clone(), Objective::Joint, targets, masked, share);
    let (weight, bias) = network.output_layer(&weights);
    let hidden = network.trunk(&weights, &inputs, batch, None);
    let loss = network.kernels().head_loss(hidden, weight, bias, Arc::new(rows));
    let value = f64::from(loss.clone().into_scalar::<f32>());
    let (kernels, theirs) = (network.kernels(), case.number("loss_next_token"));
    let allowed = tolerances(kernels);
    assert_close(&format!("{} loss_next_token {kernels:?}", case.name), &[value], &[theirs], allowed.values);
    let gradients = loss.backward();
    for (parameter, tensor) in parameters.iter().zip(weights.tensors()) {
        let ours = floats(tensor.grad(&gradients).expect("every weight is used").into_data());
        let theirs = case.tensor("grads_next_token", &parameter.name).unwrap().1;
        let what = format!("{} {} {kernels:?}", case.name, parameter.name);
        assert_close(&what, &ours, &theirs, allowed.gradients);
    }
}

/// Decoding with kept keys and values gives the logits of the whole sequence.
fn cached_logits_agree(network: &Autoregressive, weights: &Weights, x: &[u32], batch: usize, all: &[f32]) {
    let (length, classes) = (x.len() / batch, network.base());
    let mut cache = Cache::default();
    cache.add(batch);
    for position in 0..length {
        let inputs: Vec<u32> = (0..batch).map(|b| x[b * length + position]).collect();
        let next = floats(network.next_logits(weights, &inputs, &mut cache).into_data());
        for b in 0..batch {
            let row = &all[(b * length + position) * classes..][..classes];
            let row: Vec<f64> = row.iter().map(|x| f64::from(*x)).collect();
            let (next, kernels) = (&next[b * classes..(b + 1) * classes], network.kernels());
            assert_close(&format!("cached logits {kernels:?}"), next, &row, tolerances(kernels).values);
        }
    }
}
