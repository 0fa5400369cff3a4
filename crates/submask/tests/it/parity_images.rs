//! The image networks agree with the reference implementation's.

use std::path::Path;

use submask::Compute;
use submask::backbone::toy::{Toy, ToyConfig};
use submask::backbone::weights::{RawWeights, Weights, arrange};
use submask::backbone::{Backbone, logits};
use submask::denoiser::States;
use submask::import::WeightSet;
use submask::subtoken::SubTokenizer;

use crate::fixtures::{Case, assert_close, cases, places, tolerances};
use crate::parity_import::{compare_visual, image_options, imported, session_on};

fn codes(case: &Case) -> SubTokenizer {
    let codes = SubTokenizer::new(case.integer("vocab_size"), case.integer("subtoken_len")).unwrap();
    assert_eq!(codes.base() as usize, case.integer("base"));
    codes
}

#[test]
fn the_toy_network_agrees() {
    for case in cases("toy_") {
        let config = ToyConfig { tokens: case.integer("tokens"), hidden: case.integer("hidden") };
        let raw: RawWeights = case
            .tensor_names("weights")
            .into_iter()
            .map(|name| (name.clone(), case.tensor_f32("weights", &name)))
            .collect();
        for (device, kernels) in places() {
            let network = Toy::new(config.clone(), &codes(&case), kernels).unwrap();
            let parameters = network.parameters();
            let values = arrange(parameters, raw.clone(), Path::new("weights")).unwrap();
            let weights = Weights::new(parameters, &values, &device);
            let (y_t, t) = (case.ids("vectors", "y_t"), case.tensor("vectors", "t").unwrap().1);
            let all: Vec<usize> = (0..t.len() * config.tokens).collect();
            let inputs = States { y_t: &y_t, t: &t, labels: None }.into();
            let logits = logits(&network, &weights, &inputs, &all).unwrap().into_data();
            let logits: Vec<f64> = logits.iter::<f32>().map(f64::from).collect();
            let theirs = case.tensor("vectors", "logits").unwrap().1;
            let what = format!("{} {kernels:?}", case.name);
            assert_close(&what, &logits, &theirs, tolerances(kernels).values);
        }
    }
}

#[test]
fn the_unet_agrees() {
    for case in cases("image_") {
        let imported =
            imported(&case.dir.join("checkpoint-3.pth"), &image_options(&case, Some(WeightSet::Raw)));
        for (device, kernels) in places() {
            let compute = Compute::with(device, kernels).unwrap();
            let allowed = tolerances(kernels).values;
            compare_visual(&case, &session_on(&imported, &compute), "logits_raw_weights", allowed);
        }
    }
}
