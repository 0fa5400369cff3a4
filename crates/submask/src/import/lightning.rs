//! Checkpoints of PyTorch Lightning with the reference's text model (networks.md).
//!
//! The weights stand in `state_dict` under the prefix `backbone.`, the averaged ones as the list
//! `ema.shadow_params` in the order of the network's parameters, and the configuration in `hyper_parameters`, as
//! omegaconf's objects, of which only the plain values are read.

use super::facts::Facts;
use super::foreign::Found;
use super::torch::TorchFile;
use super::torch_values::{check_count, tensor_at, tensors_of};
use crate::Result;

const PREFIX: &str = "backbone.";

/// Weights, averaged weights and configuration.
pub(super) fn find(file: &TorchFile) -> Result<Found> {
    let root = file.root();
    let mut found = Found::default();
    check_count(file, root.entries().map_or(0, Iterator::count), "the checkpoint")?;
    for (key, value) in root.entries().into_iter().flatten() {
        match key.as_str() {
            Some("state_dict") => {
                for mut tensor in tensors_of(file, value, "state_dict")? {
                    match tensor.name.strip_prefix(PREFIX) {
                        Some(name) => {
                            tensor.name = name.to_owned();
                            found.raw.push(tensor);
                        }
                        None => found.skip(tensor.path, "not the network's: it stands outside `backbone.`"),
                    }
                }
            }
            Some("ema") => {
                let shadow = value.get("shadow_params").and_then(|list| list.items());
                check_count(file, shadow.clone().map_or(0, Iterator::count), "ema.shadow_params")?;
                for (index, item) in shadow.into_iter().flatten().enumerate() {
                    let path = format!("ema.shadow_params.{index}");
                    found.averaged.extend(tensor_at(file, item, path, String::new())?);
                }
            }
            Some("hyper_parameters") => {
                found.facts = Facts::of_pickle(value.get("config").unwrap_or(value));
            }
            Some(name) => found.skip(name, "no weights"),
            None => {}
        }
    }
    Ok(found)
}
