//! Checkpoints of the reference's image model: under `model` the state of an averaging wrapper, `model.*` the weights
//! and `shadow_params.N` their average in the order of the network's parameters; under `args` an argparse object.

use super::facts::Facts;
use super::foreign::{ForeignTensor, Found};
use super::torch::TorchFile;
use super::torch_values::{check_count, tensors_of};
use crate::Result;
use crate::pickle::ValueRef;

const RAW: &str = "model.";
const AVERAGED: &str = "shadow_params.";

/// Whether the dict under `model` is the state of an averaging wrapper.
pub(super) fn is_wrapper(model: ValueRef<'_>) -> bool {
    let mut keys = model.entries().into_iter().flatten().filter_map(|(key, _)| key.as_str());
    keys.any(|key| key.starts_with(AVERAGED) || key.starts_with(RAW))
}

/// Weights, averaged weights and arguments.
pub(super) fn find(file: &TorchFile) -> Result<Found> {
    let mut found = Found::default();
    check_count(file, file.root().entries().map_or(0, Iterator::count), "the checkpoint")?;
    for (key, value) in file.root().entries().into_iter().flatten() {
        match key.as_str() {
            Some("model") => sort(file, tensors_of(file, value, "model")?, &mut found)?,
            Some("args") => found.facts = Facts::of_pickle(value),
            Some(name) => found.skip(name, "no weights"),
            None => {}
        }
    }
    Ok(found)
}

/// Tells the two sets of weights apart.
///
/// # Errors
/// [`crate::Error::Format`] for averaged weights that are not numbered from 0 on.
fn sort(file: &TorchFile, tensors: Vec<ForeignTensor>, found: &mut Found) -> Result<()> {
    let mut averaged = Vec::new();
    for mut tensor in tensors {
        if let Some(name) = tensor.name.strip_prefix(RAW) {
            tensor.name = name.to_owned();
            found.raw.push(tensor);
        } else if let Some(index) =
            tensor.name.strip_prefix(AVERAGED).and_then(|rest| rest.parse::<usize>().ok())
        {
            tensor.name.clear();
            averaged.push((index, tensor));
        } else {
            found.skip(tensor.path, "a counter of the averaging");
        }
    }
    averaged.sort_by_key(|(index, _)| *index);
    if let Some(place) = averaged.iter().enumerate().position(|(place, (index, _))| place != *index) {
        return Err(file.error(format!("model.{AVERAGED}{place} is missing, or another one is there twice")));
    }
    found.averaged = averaged.into_iter().map(|(_, tensor)| tensor).collect();
    Ok(())
}
