//! Tensors in the values of a pickle.

use super::foreign::{ForeignTensor, Place};
use super::torch::TorchFile;
use crate::Result;
use crate::pickle::ValueRef;

/// Bytes of a file for each tensor in it, at least: `torch.save` spends more on the directory entry alone.
const BYTES_A_TENSOR: usize = 128;
/// Entries that a file of any size may have.
const FEW: usize = 256;

/// Refuses a dict or list of more entries than a file of this size holds tensors, before memory is taken for each: a
/// few bytes may name one tensor again.
///
/// # Errors
/// [`crate::Error::Format`].
pub(super) fn check_count(file: &TorchFile, entries: usize, path: &str) -> Result<()> {
    let allowed = FEW + file.len() / BYTES_A_TENSOR;
    if entries > allowed {
        return Err(file.error(format!("{path} has {entries} entries, too many for a file of its size")));
    }
    Ok(())
}

/// The tensors of a dict, under `path` in the file; what is no tensor is left out.
pub(super) fn tensors_of(file: &TorchFile, dict: ValueRef<'_>, path: &str) -> Result<Vec<ForeignTensor>> {
    check_count(file, dict.entries().map_or(0, Iterator::count), path)?;
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
            file: 0,
        })
    })
}
