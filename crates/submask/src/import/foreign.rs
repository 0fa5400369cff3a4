//! A foreign checkpoint, opened: which tensors it holds and what is said beside them, not yet their numbers.

use std::borrow::Cow;
use std::fmt::{self, Display};
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::facts::Facts;
use super::safetensors::{SafetensorsFile, SafetensorsRef};
use super::torch::{TensorRef, TorchFile};
use super::{encoder, image, lightning, mdlm, toy};
use crate::{Error, Result};

/// What kind of file it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// A checkpoint of PyTorch Lightning with the reference's text model.
    Lightning,
    /// A folder as MDLM stands on the Hub: `config.json` and `model.safetensors`.
    Mdlm,
    /// A model folder of this program, as `submask export` writes it too.
    Submask,
    /// A checkpoint of the reference's image model.
    Image,
    /// A pickled module.
    Module,
    /// A checkpoint with the weights under `model`, as MDM-Prime-v2 writes.
    Encoder,
    /// A pickled `state_dict`.
    StateDict,
    /// A safetensors file.
    Safetensors,
}

impl Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Lightning => "Lightning checkpoint",
            Self::Mdlm => "MDLM folder",
            Self::Submask => "model folder of submask",
            Self::Image => "image checkpoint",
            Self::Module => "pickled module",
            Self::Encoder => "encoder checkpoint",
            Self::StateDict => "pickled state dict",
            Self::Safetensors => "safetensors",
        })
    }
}

/// Which of the two sets of weights that a checkpoint may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum WeightSet {
    /// Those that the optimiser changes.
    Raw,
    /// Their moving average, which is what samples and figures are made with.
    Ema,
}

/// Where the numbers of a tensor stand.
#[derive(Clone, Debug)]
pub(super) enum Place {
    /// In a file of `torch.save`.
    Torch(TensorRef),
    /// In a safetensors file.
    Safetensors(SafetensorsRef),
}

/// A tensor in a foreign file.
#[derive(Clone, Debug)]
pub struct ForeignTensor {
    /// Where it stands in the file, such as `state_dict.backbone.blocks.0.norm1.weight`.
    pub path: String,
    /// The network's name for it; empty in a list without names.
    pub name: String,
    /// Its dimensions.
    pub shape: Vec<usize>,
    pub(super) place: Place,
}

/// Something in the file that is not read, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Skipped {
    /// Where it stands.
    pub path: String,
    /// Why it is not read.
    pub reason: Cow<'static, str>,
}

/// The file that the tensors are in.
#[derive(Debug)]
pub(super) enum Container {
    /// A file of `torch.save`.
    Torch(Box<TorchFile>),
    /// A safetensors file.
    Safetensors(SafetensorsFile),
}

/// A foreign checkpoint.
#[derive(Debug)]
pub struct Foreign {
    /// The file with the weights.
    pub path: PathBuf,
    /// What kind of file it is.
    pub format: Format,
    /// The weights by name, in the file's order.
    raw: Vec<ForeignTensor>,
    /// The averaged weights in the order of the network's parameters, without names; empty where there are none.
    pub averaged: Vec<ForeignTensor>,
    /// What is said beside the weights.
    pub facts: Facts,
    /// What is not read.
    pub skipped: Vec<Skipped>,
    /// Places in `raw`, by name and of one name in the file's order.
    by_name: Vec<u32>,
    container: Container,
}

/// What a reader of one format finds in a file.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub raw: Vec<ForeignTensor>,
    pub averaged: Vec<ForeignTensor>,
    pub facts: Facts,
    pub skipped: Vec<Skipped>,
}

impl Found {
    /// Notes something that is not read.
    pub fn skip(&mut self, path: impl Into<String>, reason: &'static str) {
        self.skipped.push(Skipped { path: path.into(), reason: Cow::Borrowed(reason) });
    }
}

impl ForeignTensor {
    /// Number of its elements, which its reader checked to be there.
    pub fn elements(&self) -> usize {
        if self.shape.contains(&0) { 0 } else { self.shape.iter().product() }
    }
}

impl Foreign {
    /// Opens a file, or a folder with `model.safetensors` (and `config.json`).
    ///
    /// # Errors
    /// [`Error::Io`] and [`Error::Format`] naming the file and what is wrong with it.
    pub fn open(path: &Path) -> Result<Self> {
        if path.is_dir() {
            return mdlm::open(path);
        }
        let is_safetensors = path.extension().is_some_and(|extension| extension == "safetensors");
        if is_safetensors {
            return mdlm::open_file(path, Format::Safetensors);
        }
        Self::of_torch(TorchFile::open(path)?)
    }

    /// The checkpoint in a file of `torch.save`.
    ///
    /// # Errors
    /// [`Error::Format`] when it is of no kind that is known, or its tensors are not what they should be.
    pub fn of_torch(file: TorchFile) -> Result<Self> {
        let root = file.root();
        let (format, found) = if root.get("state_dict").is_some() {
            (Format::Lightning, lightning::find(&file)?)
        } else if root.attribute("_modules").is_some() {
            (Format::Module, toy::find_in_module(&file)?)
        } else if let Some(model) = root.get("model") {
            match image::is_wrapper(model) {
                true => (Format::Image, image::find(&file)?),
                false => (Format::Encoder, encoder::find(&file)?),
            }
        } else {
            (Format::StateDict, toy::find_in_state_dict(&file)?)
        };
        if found.raw.is_empty() {
            return Err(
                file.error("it holds no weights: neither a state dict nor a checkpoint of a known kind")
            );
        }
        let path = file.path().to_path_buf();
        Ok(Self::new(path, format, found, Container::Torch(Box::new(file))))
    }

    pub(super) fn new(path: PathBuf, format: Format, found: Found, container: Container) -> Self {
        let Found { raw, averaged, facts, skipped } = found;
        let mut by_name: Vec<u32> = (0..raw.len() as u32).collect();
        by_name.sort_unstable_by_key(|&index| (raw[index as usize].name.as_str(), index));
        Self { path, format, raw, averaged, facts, skipped, by_name, container }
    }

    /// The numbers of one tensor.
    ///
    /// # Errors
    /// [`Error::Format`] naming the file and the tensor.
    pub fn read(&self, tensor: &ForeignTensor) -> Result<Vec<f32>> {
        match (&self.container, &tensor.place) {
            (Container::Torch(file), Place::Torch(place)) => file.read_f32(place),
            (Container::Safetensors(file), Place::Safetensors(place)) => file.read_f32(&tensor.path, place),
            _ => Err(Error::format(&self.path, format!("{} belongs to another file", tensor.path))),
        }
    }

    /// The weights by name, in the file's order.
    pub fn raw(&self) -> &[ForeignTensor] {
        &self.raw
    }

    /// The weight `name`; of two with one name the last counts, as in Python.
    pub fn tensor(&self, name: &str) -> Option<&ForeignTensor> {
        let end = self.by_name.partition_point(|&index| self.raw[index as usize].name.as_str() <= name);
        let last = &self.raw[*self.by_name.get(end.checked_sub(1)?)? as usize];
        (last.name == name).then_some(last)
    }

    /// The shape of the weight `name`.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.tensor(name).map(|tensor| tensor.shape.as_slice())
    }

    /// Number of layers `prefix.0`, `prefix.1`, …: one more than the largest index, and no more than tensors.
    pub(super) fn layers(&self, prefix: &str) -> usize {
        let index = |tensor: &ForeignTensor| {
            let rest = tensor.name.strip_prefix(prefix)?.strip_prefix('.')?;
            rest.split('.').next()?.parse::<usize>().ok()
        };
        self.raw.iter().filter_map(index).max().map_or(0, |last| last.saturating_add(1).min(self.raw.len()))
    }

    /// Bytes of the file.
    pub(super) fn bytes(&self) -> usize {
        match &self.container {
            Container::Torch(file) => file.len(),
            Container::Safetensors(file) => file.len(),
        }
    }

    /// An error of this file.
    pub(super) fn error(&self, problem: impl Into<String>) -> Error {
        Error::format(&self.path, problem)
    }
}

/// Removes `prefix` from every name, if all begin with it.
pub(super) fn strip_common(tensors: &mut [ForeignTensor], prefix: &str) {
    if tensors.iter().all(|tensor| tensor.name.starts_with(prefix)) {
        tensors.iter_mut().for_each(|tensor| {
            tensor.name.drain(..prefix.len());
        });
    }
}
