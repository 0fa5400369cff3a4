//! Checkpoints of MDM-Prime-v2's encoder: the weights under `model`, a number of steps beside it.

use super::foreign::{Found, strip_common};
use super::torch::TorchFile;
use super::torch_values::{check_count, tensors_of};
use crate::Result;

/// Weights under `model`.
pub(super) fn find(file: &TorchFile) -> Result<Found> {
    let mut found = Found::default();
    check_count(file, file.root().entries().map_or(0, Iterator::count), "the checkpoint")?;
    for (key, value) in file.root().entries().into_iter().flatten() {
        match key.as_str() {
            Some("model") => found.raw = tensors_of(file, value, "model")?,
            Some(name) => found.skip(name, "no weights"),
            None => {}
        }
    }
    strip_common(&mut found.raw, "backbone.");
    Ok(found)
}
