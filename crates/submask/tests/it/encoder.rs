//! The encoder: its weights' order and shapes, its gradients, and sequences that do not depend on their batch.

use std::sync::Arc;

use burn::tensor::Device;
use submask::backbone::encoder::{Encoder, EncoderConfig};
use submask::backbone::weights::{Init, Weights};
use submask::backbone::{self, Backbone, Embedding, LoadedBackbone, TrainingDropout};
use submask::denoiser::{Denoiser, States};
use submask::objective::{LossRows, Objective};
use submask::ops::Kernels;
use submask::predictive::Predictive;
use submask::random::{Draws, Purpose};
use submask::subtoken::SubTokenizer;

use crate::fixtures::{assert_close, deviation};

/// Four heads in two groups; 16 is no multiple of ℓ = 3, so concatenated digits leave a column of zeros.
fn config(embedding: Embedding) -> EncoderConfig {
    EncoderConfig {
        block_len: 0,
        hidden: 16,
        heads: 4,
        query_groups: 2,
        blocks: 2,
        intermediate: 10,
        seq_len: 5,
        dropout: 0.0,
        embedding,
    }
}

fn codes() -> SubTokenizer {
    SubTokenizer::new(20, 3).unwrap()
}

/// Weights of a size at which every part of the network matters, norms included.
fn values(network: &Encoder) -> Vec<Vec<f32>> {
    let draws = Draws::new(5, Purpose::Init);
    let parameters = network.parameters();
    let value = |parameter: usize, i: usize| {
        let z = draws.normal(parameter as u64, i as u32, 0) as f32;
        if parameters[parameter].init == Init::Ones { 1.0 + 0.2 * z } else { 0.4 * z }
    };
    (0..parameters.len()).map(|p| (0..parameters[p].len()).map(|i| value(p, i)).collect()).collect()
}

/// Random digits, the mask among them.
fn digits(codes: &SubTokenizer, count: usize) -> Vec<u32> {
    let draws = Draws::new(6, Purpose::Mask);
    let drawn = (0..count).map(|i| draws.below(u64::from(codes.base()) + 1, 0, i as u32, 0) as u32);
    drawn.collect()
}

#[test]
fn parameters_stand_in_the_references_order() {
    let network = Encoder::new(config(Embedding::PerDigitSummed), &codes(), Kernels::FUSED).unwrap();
    let declared: Vec<(String, Vec<usize>)> = network
        .parameters()
        .iter()
        .map(|parameter| (parameter.name.clone(), parameter.shape.clone()))
        .collect();
    let block = |i: usize| {
        [
            ("norm_1", vec![16]),
            ("attn.attn", vec![32, 16]),
            ("attn.proj", vec![16, 16]),
            ("norm_2", vec![16]),
            ("mlp.swiglu.w1", vec![10, 16]),
            ("mlp.swiglu.w2", vec![10, 16]),
            ("mlp.swiglu.w3", vec![16, 10]),
        ]
        .map(|(name, shape)| (format!("transformer.h.{i}.{name}.weight"), shape))
    };
    let mut expected =
        vec![("lm_head.weight".into(), vec![20, 16]), ("transformer.wte.weight".into(), vec![12, 16])];
    expected.extend(block(0));
    expected.extend(block(1));
    expected.push(("transformer.ln_f.weight".into(), vec![16]));
    assert_eq!(declared, expected);
}

#[test]
fn sizes_that_are_left_out_have_their_documented_values() {
    let shapes = |config, codes: &SubTokenizer| -> Vec<Vec<usize>> {
        let network = Encoder::new(config, codes, Kernels::FUSED).unwrap();
        network.parameters().iter().map(|parameter| parameter.shape.clone()).collect()
    };
    let (hidden, heads) = (192, 6);
    let given = EncoderConfig { hidden, heads, ..config(Embedding::PerDigitSummed) };
    let open = EncoderConfig { query_groups: 0, intermediate: 0, ..given.clone() };
    let full = EncoderConfig { query_groups: heads, intermediate: 512, ..given };
    assert_eq!(shapes(open, &codes()), shapes(full, &codes()));

    // One sub-token: C + 1 rows in, C out, however digits are embedded.
    let one = SubTokenizer::new(20, 1).unwrap();
    for embedding in [Embedding::Concatenated, Embedding::PerDigitConcatenated, Embedding::PerDigitSummed] {
        assert_eq!(shapes(config(embedding), &one)[..2], [vec![20, 16], vec![21, 16]]);
    }
}

#[test]
fn sizes_that_do_not_fit_are_refused_by_key() {
    let refused = |change: EncoderConfig, expected: &str| {
        let error = Encoder::new(change, &codes(), Kernels::FUSED).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{error}");
    };
    let fits = config(Embedding::PerDigitSummed);
    refused(
        config(Embedding::Concatenated),
        "model.embedding = concatenated is not allowed: per-digit-summed",
    );
    refused(EncoderConfig { query_groups: 3, ..fits.clone() }, "model.query_groups = 3 is not allowed");
    refused(EncoderConfig { query_groups: 8, ..fits.clone() }, "model.query_groups = 8 is not allowed");
    refused(EncoderConfig { heads: 3, ..fits.clone() }, "model.hidden = 16 is not allowed");
    let narrow = EncoderConfig { hidden: 2, heads: 1, query_groups: 0, ..fits };
    Encoder::new(narrow.clone(), &codes(), Kernels::FUSED).unwrap();
    refused(
        EncoderConfig { embedding: Embedding::PerDigitConcatenated, ..narrow },
        "model.hidden = 2 is not allowed: at least subtoken_len = 3",
    );
}

/// A loss over every position of two sequences, as a function of the weights.
struct Charged {
    network: Encoder,
    y_t: Vec<u32>,
    rows: Arc<LossRows>,
}

impl Charged {
    fn new(embedding: Embedding, kernels: Kernels) -> Self {
        let network = Encoder::new(config(embedding), &codes(), kernels).unwrap();
        let draws = Draws::new(7, Purpose::Mask);
        let x_0: Vec<u32> = (0..10).map(|i| draws.below(20, 0, i, 0) as u32).collect();
        let mut y_t = codes().encode(&x_0).unwrap();
        for (i, digit) in y_t.iter_mut().enumerate() {
            if draws.uniform(1, i as u32, 0) < 0.5 {
                *digit = codes().mask_id();
            }
        }
        let predictive = Arc::new(Predictive::new(codes(), false));
        let rows = LossRows::new(predictive, Objective::Joint, x_0, y_t.clone(), vec![0.1; 10]);
        Self { network, y_t, rows: Arc::new(rows) }
    }

    fn loss(&self, values: &[Vec<f32>], device: &Device) -> (burn::tensor::Tensor<1>, Weights) {
        let weights = Weights::new(self.network.parameters(), values, device);
        let positions: Vec<usize> = (0..10).collect();
        let inputs = States { y_t: &self.y_t, t: &[0.5; 2], labels: None }.into();
        let loss =
            backbone::loss(&self.network, &weights, &inputs, &positions, self.rows.clone(), None).unwrap();
        (loss.expect("there are rows"), weights)
    }

    /// ∂loss/∂(element) by differences of fourth order.
    fn difference(&self, values: &[Vec<f32>], parameter: usize, element: usize) -> f64 {
        let step = 1e-2f32;
        let at = |steps: f32| {
            let mut values = values.to_vec();
            values[parameter][element] += steps * step;
            f64::from(self.loss(&values, &Device::flex()).0.into_scalar::<f32>())
        };
        (8.0 * (at(1.0) - at(-1.0)) - (at(2.0) - at(-2.0))) / (12.0 * f64::from(step))
    }
}

#[test]
fn gradients_are_the_slopes_of_the_loss() {
    for embedding in [Embedding::PerDigitSummed, Embedding::PerDigitConcatenated] {
        for kernels in [Kernels::FUSED, Kernels::PLAIN] {
            let charged = Charged::new(embedding, kernels);
            let values = values(&charged.network);
            let (loss, weights) = charged.loss(&values, &Device::flex().autodiff());
            let gradients = loss.backward();
            for (p, (parameter, tensor)) in
                charged.network.parameters().iter().zip(weights.tensors()).enumerate()
            {
                let gradient: Vec<f32> = tensor
                    .grad(&gradients)
                    .expect("every weight is used")
                    .into_data()
                    .try_into_vec()
                    .unwrap();
                // The largest element, and some more spread over the weight.
                let largest =
                    (0..gradient.len()).max_by(|a, b| gradient[*a].abs().total_cmp(&gradient[*b].abs()));
                let spread = (0..gradient.len()).step_by(gradient.len().div_ceil(6));
                let sampled: Vec<usize> = largest.into_iter().chain(spread).collect();
                let ours: Vec<f64> = sampled.iter().map(|&i| f64::from(gradient[i])).collect();
                let slopes: Vec<f64> = sampled.iter().map(|&i| charged.difference(&values, p, i)).collect();
                let what = format!("{embedding:?} {kernels:?} {}", parameter.name);
                println!("{what}: largest deviation {:.1e}", deviation(&ours, &slopes));
                assert_close(&what, &ours, &slopes, 2e-3);
            }
        }
    }
}

#[test]
fn initial_matrices_have_variance_two_fifths_of_one_over_the_width() {
    let config = EncoderConfig { hidden: 64, intermediate: 0, ..config(Embedding::PerDigitSummed) };
    for (i, parameter) in
        Encoder::new(config, &codes(), Kernels::FUSED).unwrap().parameters().iter().enumerate()
    {
        let values = parameter.initial(3, i);
        if parameter.shape.len() == 1 {
            assert!(values.iter().all(|x| *x == 1.0), "{}", parameter.name);
            continue;
        }
        let n = values.len() as f64;
        let square: f64 = values.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>() / n;
        // The mean of n squares has the relative standard error √(2/n).
        let error = (square * 5.0 * 64.0 / 2.0 - 1.0).abs();
        assert!(error < 4.0 * (2.0 / n).sqrt(), "{}: {error}", parameter.name);
    }
}

#[test]
fn dropout_acts_on_what_attention_and_swiglu_add() {
    let network = Encoder::new(config(Embedding::PerDigitSummed), &codes(), Kernels::FUSED).unwrap();
    let y_t = digits(&codes(), 15);
    let hidden = |values: &[Vec<f32>], rate: f64| -> Vec<f32> {
        let weights = Weights::new(network.parameters(), values, &Device::flex());
        let dropout = TrainingDropout { rate, draws: Draws::new(1, Purpose::Dropout), step: 1 };
        let inputs = States { y_t: &y_t, t: &[0.5], labels: None }.into();
        let heads = network.heads(&weights, &inputs, &[0, 1, 2, 3, 4], Some(dropout)).unwrap();
        heads[0].hidden.all().into_data().try_into_vec().unwrap()
    };
    let all = values(&network);
    // With one of the two silenced, the other is still dropped; with both, there is nothing to drop.
    let without = |suffixes: &[&str]| {
        let mut values = all.clone();
        for (parameter, values) in network.parameters().iter().zip(&mut values) {
            if suffixes.iter().any(|suffix| parameter.name.ends_with(suffix)) {
                values.fill(0.0);
            }
        }
        values
    };
    for silenced in [&[][..], &["attn.proj.weight"], &["swiglu.w3.weight"]] {
        let values = without(silenced);
        assert_ne!(hidden(&values, 0.5), hidden(&values, 0.0), "{silenced:?}");
    }
    let neither = without(&["attn.proj.weight", "swiglu.w3.weight"]);
    assert_eq!(hidden(&neither, 0.5), hidden(&neither, 0.0));
}

#[test]
fn a_sequence_has_the_same_logits_in_every_batch() {
    for embedding in [Embedding::PerDigitSummed, Embedding::PerDigitConcatenated] {
        let network = Encoder::new(config(embedding), &codes(), Kernels::FUSED).unwrap();
        let weights = Weights::new(network.parameters(), &values(&network), &Device::flex());
        let network = LoadedBackbone { network: Arc::new(network), weights };
        let logits = |y_t: &[u32]| {
            let (batch, mut all) = (y_t.len() / 15, Vec::new());
            let positions: Vec<usize> = (0..batch * 5).collect();
            let mut keep = |_, rows: &[f32]| {
                all.extend_from_slice(rows);
                Ok(())
            };
            let states = States { y_t, t: &vec![0.5; batch], labels: None };
            network.evaluate(&states, &positions, &mut keep).unwrap();
            all
        };
        let y_t = digits(&codes(), 3 * 15);
        let together = logits(&y_t);
        let alone: Vec<f32> = y_t.chunks_exact(15).flat_map(logits).collect();
        assert!(together == alone, "{embedding:?}");
        assert!(together.iter().all(|x| x.is_finite()) && together[..20] != together[100..120]);
    }
}
