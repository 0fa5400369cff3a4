//! Tensors in safetensors files.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs;
use std::path::Path;

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensorError, SafeTensors, View};

use crate::backbone::weights::{Parameter, RawWeights};
use crate::durable::{lfs_pointer, write_atomically, write_atomically_with};
use crate::{Error, Result};

/// A tensor as it stands in memory; its bytes are made only when it is written.
struct Floats<'a> {
    shape: &'a [usize],
    values: &'a [f32],
}

impl View for Floats<'_> {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }

    fn shape(&self) -> &[usize] {
        self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Owned(self.values.iter().flat_map(|x| x.to_le_bytes()).collect())
    }

    fn data_len(&self) -> usize {
        size_of_val(self.values)
    }
}

/// Writes 32-bit float tensors under their names, in the order of the names. The bytes of one tensor at a time
/// are held beside the values.
///
/// # Errors
/// [`Error::Io`] naming the file.
pub fn write_safetensors(path: &Path, parameters: &[Parameter], values: &[Vec<f32>]) -> Result<()> {
    write_floats(path, parameters, values, None)
}

/// The same with the mark of a file of PyTorch's, which Hugging Face's loaders look for.
///
/// # Errors
/// [`Error::Io`] naming the file.
pub(super) fn write_pytorch_safetensors(
    path: &Path,
    parameters: &[Parameter],
    values: &[Vec<f32>],
) -> Result<()> {
    let mark = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    write_floats(path, parameters, values, Some(mark))
}

fn write_floats(
    path: &Path,
    parameters: &[Parameter],
    values: &[Vec<f32>],
    metadata: Option<HashMap<String, String>>,
) -> Result<()> {
    let tensors = parameters
        .iter()
        .zip(values)
        .map(|(parameter, values)| (parameter.name.as_str(), Floats { shape: &parameter.shape, values }));
    write_atomically_with(path, |temporary| {
        // The library makes a file that its owner alone can read: it gets the permissions of an ordinary one.
        let ordinary = fs::File::create(temporary)?.metadata()?.permissions();
        safetensors::serialize_to_file(tensors, metadata, temporary).map_err(|error| match error {
            SafeTensorError::IoError(error) => error,
            error => std::io::Error::other(error),
        })?;
        fs::set_permissions(temporary, ordinary)
    })
}

/// Name of the permutation in [`CODES_FILE`](super::CODES_FILE).
const PERMUTATION: &str = "permutation";

/// Writes the permutation of codes.
///
/// # Errors
/// [`Error::Io`] naming the file.
pub fn write_codes(path: &Path, permutation: &[u32]) -> Result<()> {
    let bytes: Vec<u8> = permutation.iter().flat_map(|code| i64::from(*code).to_le_bytes()).collect();
    let bytes = TensorView::new(Dtype::I64, vec![permutation.len()], &bytes)
        .and_then(|view| safetensors::serialize([(PERMUTATION, view)], None))
        .map_err(|error| Error::format(path, error.to_string()))?;
    write_atomically(path, &bytes)
}

/// Reads a permutation of codes.
///
/// # Errors
/// [`Error::Io`] and [`Error::Format`] naming the file and what is wrong with it.
pub fn read_codes(path: &Path) -> Result<Vec<u32>> {
    let bytes = fs::read(path).map_err(Error::io(path))?;
    let tensors =
        SafeTensors::deserialize(&bytes).map_err(|error| Error::format(path, describe(&bytes, &error)))?;
    let view = tensors.tensor(PERMUTATION).ok().filter(|view| view.dtype() == Dtype::I64);
    let view = view.ok_or_else(|| {
        Error::format(path, format!("no tensor {PERMUTATION} of 64-bit integers, the codes of the tokens"))
    })?;
    let codes = view.data().as_chunks().0.iter().map(|bytes| i64::from_le_bytes(*bytes));
    codes
        .map(|code| {
            u32::try_from(code).map_err(|_| Error::format(path, format!("{code} is not a valid code")))
        })
        .collect()
}

/// Reads all tensors of a safetensors file as 32-bit floats.
///
/// # Errors
/// [`Error::Io`] and [`Error::Format`] naming the file and what is wrong with it.
pub fn read_safetensors(path: &Path) -> Result<RawWeights> {
    let bytes = fs::read(path).map_err(Error::io(path))?;
    let tensors =
        SafeTensors::deserialize(&bytes).map_err(|error| Error::format(path, describe(&bytes, &error)))?;
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

fn describe(bytes: &[u8], error: &safetensors::SafeTensorError) -> String {
    lfs_pointer(bytes)
        .unwrap_or_else(|| format!("not a whole safetensors file ({error}); it may be truncated or altered"))
}
