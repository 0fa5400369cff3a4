//! Gradients on the network's device are those of compositions in memory, of all networks, with dropout.

use std::sync::Arc;

use burn::tensor::Device;
use submask::backbone::weights::{Init, Parameter, Weights};
use submask::backbone::{self, Backbone, TrainingDropout};
use submask::denoiser::States;
use submask::objective::{LossRows, Objective};
use submask::ops::Kernels;
use submask::predictive::Predictive;
use submask::random::{Draws, Purpose};
use submask::subtoken::SubTokenizer;

use crate::device_sampling::networks;
use crate::fixtures::{assert_close, places, tolerances};

const SEQUENCES: usize = 3;

/// The loss of drawn tokens, half of whose digits are masked, and every gradient.
fn loss_and_gradients(
    network: &dyn Backbone,
    codes: &SubTokenizer,
    device: &Device,
) -> Vec<(String, Vec<f64>)> {
    let (parameters, spec) = (network.parameters(), network.spec());
    let drawn = |(index, parameter): (usize, &Parameter)| {
        Parameter { init: Init::Uniform(0.3), ..parameter.clone() }.initial(3, index)
    };
    let values: Vec<Vec<f32>> = parameters.iter().enumerate().map(drawn).collect();
    let weights = Weights::new(parameters, &values, &device.clone().autodiff());
    let draws = Draws::new(8, Purpose::Mask);
    let tokens = SEQUENCES * spec.max_seq_len();
    let classes = spec.vocab_size as u64;
    let x_0: Vec<u32> = (0..tokens).map(|i| draws.below(classes, 0, i as u32, 0) as u32).collect();
    let mut y_t = codes.encode(&x_0).unwrap();
    for (i, digit) in y_t.iter_mut().enumerate() {
        if draws.uniform(1, i as u32, 0) < 0.5 {
            *digit = codes.mask_id();
        }
    }
    let rows = LossRows::new(
        Arc::new(Predictive::new(codes.clone(), true)),
        Objective::Joint,
        x_0,
        y_t.clone(),
        vec![1.0 / tokens as f32; tokens],
    );
    let labels = spec.classes.map(|classes| vec![1, classes, 0]);
    let inputs = States { y_t: &y_t, t: &[0.1, 0.5, 0.9], labels: labels.as_deref() }.into();
    let all: Vec<usize> = (0..tokens).collect();
    let dropout = TrainingDropout { rate: 0.2, draws: Draws::new(1, Purpose::Dropout), step: 1 };
    let loss = backbone::loss(network, &weights, &inputs, &all, rows, Some(dropout)).unwrap().unwrap();
    let gradients = loss.backward();
    let mut found = vec![("loss".to_owned(), vec![f64::from(loss.into_scalar::<f32>())])];
    for (parameter, tensor) in parameters.iter().zip(weights.tensors()) {
        let gradient = match tensor.grad(&gradients) {
            Some(gradient) => gradient.into_data().iter::<f32>().map(f64::from).collect(),
            None => vec![0.0; parameter.len()],
        };
        found.push((parameter.name.clone(), gradient));
    }
    found
}

#[test]
fn losses_and_gradients_on_the_device_are_those_of_compositions() {
    let codes = SubTokenizer::new(20, 2).unwrap();
    for (index, plain) in networks(&codes, Kernels::PLAIN).into_iter().enumerate() {
        let expected = loss_and_gradients(&*plain, &codes, &Device::flex());
        for (device, kernels) in places() {
            let network = networks(&codes, kernels)[index].clone();
            let ours = loss_and_gradients(&*network, &codes, &device);
            let allowed = tolerances(kernels);
            // A bias before a norm has no gradient: what is far below the others is compared with these.
            let all = expected[1..].iter().flat_map(|(_, gradient)| gradient);
            let floor = 1e-3 * all.fold(0f64, |largest, x| largest.max(x.abs()));
            for ((name, ours), (_, theirs)) in ours.iter().zip(&expected) {
                // These weights are large.
                let allowed = 10.0 * if name == "loss" { allowed.values } else { allowed.gradients };
                let with_floor = |x: &[f64]| [x, &[floor]].concat();
                let what = format!("network {index} {name} {kernels:?}");
                assert_close(&what, &with_floor(ours), &with_floor(theirs), allowed);
            }
        }
    }
}
