//! Tensors of safetensors files, mapped into memory and read one by one.

use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};

use half::{bf16, f16};
use memmap2::Mmap;
use safetensors::{Dtype, SafeTensors};

use super::foreign::{ForeignTensor, Place};
use crate::durable::lfs_pointer;
use crate::{Error, Result};

/// A safetensors file.
#[derive(Debug)]
pub struct SafetensorsFile {
    path: PathBuf,
    map: Mmap,
}

/// A tensor in it.
#[derive(Clone, Debug)]
pub(super) struct SafetensorsRef {
    dtype: Dtype,
    bytes: Range<usize>,
}

impl SafetensorsFile {
    /// Opens a file and reads its header.
    ///
    /// # Errors
    /// [`Error::Io`] and [`Error::Format`] naming the file.
    pub(super) fn open(path: &Path) -> Result<(Self, Vec<ForeignTensor>)> {
        let file = File::open(path).map_err(Error::io(path))?;
        // SAFETY: the map is only read, as bytes; a file that another process truncates meanwhile may end the
        // process with a bus error, as with every memory-mapped file.
        let map = unsafe { Mmap::map(&file) }.map_err(Error::io(path))?;
        let problem = |error: safetensors::SafeTensorError| {
            let problem = lfs_pointer(&map).unwrap_or_else(|| {
                format!("not a whole safetensors file ({error}); it may be truncated or altered")
            });
            Error::format(path, problem)
        };
        let whole = SafeTensors::deserialize(&map).map_err(problem)?;
        let begin = map.as_ptr() as usize;
        let mut tensors: Vec<ForeignTensor> = whole
            .iter()
            .map(|(name, view)| {
                let start = view.data().as_ptr() as usize - begin;
                let place = SafetensorsRef { dtype: view.dtype(), bytes: start..start + view.data().len() };
                ForeignTensor {
                    path: name.to_owned(),
                    name: name.to_owned(),
                    shape: view.shape().to_vec(),
                    place: Place::Safetensors(place),
                    file: 0,
                }
            })
            .collect();
        tensors.sort_by(|a, b| a.name.cmp(&b.name));
        Ok((Self { path: path.to_path_buf(), map }, tensors))
    }

    /// Bytes of the file.
    pub(super) fn len(&self) -> usize {
        self.map.len()
    }

    /// What the elements of a tensor are.
    pub(super) fn type_name(tensor: &SafetensorsRef) -> String {
        format!("{:?}", tensor.dtype)
    }

    /// The numbers of a tensor of floats; 64-bit ones are rounded.
    ///
    /// # Errors
    /// [`Error::Format`] for other types.
    pub(super) fn read_f32(&self, name: &str, tensor: &SafetensorsRef) -> Result<Vec<f32>> {
        let bytes = &self.map[tensor.bytes.clone()];
        match tensor.dtype {
            Dtype::F64 => Ok(numbers(bytes, |bytes| f64::from_le_bytes(bytes) as f32)),
            Dtype::F32 => Ok(numbers(bytes, f32::from_le_bytes)),
            Dtype::F16 => Ok(numbers(bytes, |bytes| f16::from_le_bytes(bytes).to_f32())),
            Dtype::BF16 => Ok(numbers(bytes, |bytes| bf16::from_le_bytes(bytes).to_f32())),
            other => Err(Error::format(&self.path, format!("{name} holds {other:?}, not floats"))),
        }
    }
}

fn numbers<const N: usize>(bytes: &[u8], number: impl Fn([u8; N]) -> f32) -> Vec<f32> {
    bytes.as_chunks().0.iter().map(|bytes| number(*bytes)).collect()
}
