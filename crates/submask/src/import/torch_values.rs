//! Tensors in the values of a pickle.

use super::foreign::{ForeignTensor, Place};
use super::pickle::ValueRef;
use super::torch::TorchFile;
use crate::Result;

/// The tensors of a dict, under `path` in the file; what is no tensor is left out.
pub(super) fn tensors_of(file: &TorchFile, dict: ValueRef<'_>, path: &str) -> Result<Vec<ForeignTensor>> {
    let mut tensors = Vec::new();
    for (key, value) in dict.entries().into_iter().flatten() {
        let Some(name) = key.as_str() else { continue };
        let full = if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
        tensors.extend(tensor_at(file, value, full, name.to_owned())?);
    }
    Ok(tensors)
}

/// The tensor that `value` is, if it is one.
pub(super) fn tensor_at(
    file: &TorchFile,
    value: ValueRef<'_>,
    path: String,
    name: String,
) -> Result<Option<ForeignTensor>> {
    file.tensor(value).transpose().map(|tensor| {
        tensor.map(|tensor| ForeignTensor {
            path,
            name,
            shape: tensor.shape().to_vec(),
            place: Place::Torch(tensor),
        })
    })
}
