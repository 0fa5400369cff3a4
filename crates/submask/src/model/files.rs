//! Tensors in safetensors files.

use std::fs;
use std::path::Path;

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

use crate::backbone::weights::{Parameter, RawWeights};
use crate::durable::write_atomically;
use crate::{Error, Result};

/// Writes 32-bit float tensors in definition order under their names.
///
/// # Errors
/// [`Error::Io`] naming the file.
pub fn write_safetensors(path: &Path, parameters: &[Parameter], values: &[Vec<f32>]) -> Result<()> {
    let bytes: Vec<Vec<u8>> =
        values.iter().map(|values| values.iter().flat_map(|x| x.to_le_bytes()).collect()).collect();
    let views = parameters
        .iter()
        .zip(&bytes)
        .map(|(parameter, bytes)| {
            let view = TensorView::new(Dtype::F32, parameter.shape.clone(), bytes);
            view.map(|view| (parameter.name.as_str(), view))
        })
        .collect::<std::result::Result<Vec<_>, _>>()
        .and_then(|views| safetensors::serialize(views, None))
        .map_err(|error| Error::format(path, error.to_string()))?;
    write_atomically(path, &views)
}

/// Reads all tensors of a safetensors file as 32-bit floats.
///
/// # Errors
/// [`Error::Io`] and [`Error::Format`] naming the file and what is wrong with it.
pub fn read_safetensors(path: &Path) -> Result<RawWeights> {
    let bytes = fs::read(path).map_err(Error::io(path))?;
    let tensors = SafeTensors::deserialize(&bytes).map_err(|error| Error::format(path, describe(&error)))?;
    let mut raw = RawWeights::new();
    for (name, view) in tensors.tensors() {
        if view.dtype() != Dtype::F32 {
            return Err(Error::format(path, format!("{name} holds {:?}, not 32-bit floats", view.dtype())));
        }
        let values = view.data().as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
        raw.insert(name, (view.shape().to_vec(), values));
    }
    Ok(raw)
}

fn describe(error: &safetensors::SafeTensorError) -> String {
    format!("not a whole safetensors file ({error}); it may be truncated or altered")
}
