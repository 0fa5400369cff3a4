//! A foreign checkpoint, opened: which tensors it holds and what is said beside them, not yet their numbers.

use std::borrow::Cow;
use std::fmt::{self, Display};
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::facts::Facts;
use super::safetensors::{SafetensorsFile, SafetensorsRef};
use super::torch::{TensorRef, TorchFile};
use super::{checkpoint, folder};
use crate::{Error, Result};

/// What kind of file it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// A checkpoint of PyTorch Lightning with the reference's text model.
    Lightning,
    /// A folder as MDLM stands on the Hub: `config.json` and weights, in one file or in several with an index.
    Mdlm,
    /// A folder as BD3-LM stands on the Hub, likewise.
    Bd3lm,
    /// A model folder of this program, as `submask export` writes it too.
    Submask,
    /// A checkpoint of the reference's image model.
    Image,
    /// A pickled module.
    Module,
    /// A checkpoint with the weights under `model`, as MDM-Prime-v2 writes.
    Encoder,
    /// A checkpoint of another training loop, with the weights under a key of its own.
    Wrapped,
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
            Self::Bd3lm => "BD3-LM folder",
            Self::Submask => "model folder of submask",
            Self::Image => "image checkpoint",
            Self::Module => "pickled module",
            Self::Encoder => "encoder checkpoint",
            Self::Wrapped => "checkpoint of a training loop",
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
    /// Which of several files it is in.
    pub(super) file: u32,
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
    /// The averaged weights, under the network's names, or without names in the order of its parameters; empty where
    /// there are none beside the others.
    pub averaged: Vec<ForeignTensor>,
    /// What is said beside the weights.
    pub facts: Facts,
    /// What is not read.
    pub skipped: Vec<Skipped>,
    /// What wrappers had put before the network's names or between their parts, such as `_orig_mod.`: it was removed.
    pub stripped: Vec<String>,
    /// Whether the only weights are averaged ones.
    pub(super) only_averaged: bool,
    /// Places in `raw`, by name and of one name in the file's order.
    by_name: Vec<u32>,
    containers: Vec<Container>,
}

/// What a reader of one format finds in a file.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub raw: Vec<ForeignTensor>,
    pub averaged: Vec<ForeignTensor>,
    pub facts: Facts,
    pub skipped: Vec<Skipped>,
    pub stripped: Vec<String>,
    /// Whether `raw` are averaged weights.
    pub only_averaged: bool,
}

impl Found {
    /// Notes something that is not read.
    pub fn skip(&mut self, path: impl Into<String>, reason: impl Into<Cow<'static, str>>) {
        self.skipped.push(Skipped { path: path.into(), reason: reason.into() });
    }
}

impl ForeignTensor {
    /// Number of its elements, which its reader checked to be there.
    pub fn elements(&self) -> usize {
        if self.shape.contains(&0) { 0 } else { self.shape.iter().product() }
    }
}

impl Foreign {
    /// Opens a file, the index of a checkpoint in several files, or a folder with weights (and `config.json`).
    ///
    /// # Errors
    /// [`Error::Io`] and [`Error::Format`] naming the file and what is wrong with it.
    pub fn open(path: &Path) -> Result<Self> {
        if path.is_dir() { folder::open(path) } else { folder::open_file(path) }
    }

    /// The checkpoint in a file of `torch.save`.
    ///
    /// # Errors
    /// [`Error::Format`] when it holds no weights, or its tensors are not what they should be.
    pub fn of_torch(file: TorchFile) -> Result<Self> {
        let (format, found) = checkpoint::find(&file)?;
        let path = file.path().to_path_buf();
        Ok(Self::new(path, format, found, vec![Container::Torch(Box::new(file))]))
    }

    pub(super) fn new(path: PathBuf, format: Format, found: Found, containers: Vec<Container>) -> Self {
        let Found { raw, averaged, facts, skipped, stripped, only_averaged } = found;
        let mut by_name: Vec<u32> = (0..raw.len() as u32).collect();
        by_name.sort_unstable_by_key(|&index| (raw[index as usize].name.as_str(), index));
        Self { path, format, raw, averaged, facts, skipped, stripped, only_averaged, by_name, containers }
    }

    /// The numbers of one tensor.
    ///
    /// # Errors
    /// [`Error::Format`] naming the file and the tensor.
    pub fn read(&self, tensor: &ForeignTensor) -> Result<Vec<f32>> {
        match (self.containers.get(tensor.file as usize), &tensor.place) {
            (Some(Container::Torch(file)), Place::Torch(place)) => file.read_f32(place),
            (Some(Container::Safetensors(file)), Place::Safetensors(place)) => {
                file.read_f32(&tensor.path, place)
            }
            _ => Err(Error::format(&self.path, format!("{} belongs to another file", tensor.path))),
        }
    }

    /// The weights by name, in the file's order.
    pub fn raw(&self) -> &[ForeignTensor] {
        &self.raw
    }

    /// The weight `name`; of two with one name and path the last counts, as in Python.
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

    /// Bytes of the file, or of all files.
    pub(super) fn bytes(&self) -> usize {
        let bytes = |container: &Container| match container {
            Container::Torch(file) => file.len(),
            Container::Safetensors(file) => file.len(),
        };
        self.containers.iter().map(bytes).sum()
    }

    /// The sets of weights inside.
    pub fn sets(&self) -> Vec<WeightSet> {
        match (self.only_averaged, self.averaged.is_empty()) {
            (true, _) => vec![WeightSet::Ema],
            (false, true) => vec![WeightSet::Raw],
            (false, false) => vec![WeightSet::Raw, WeightSet::Ema],
        }
    }

    /// An error of this file.
    pub(super) fn error(&self, problem: impl Into<String>) -> Error {
        Error::format(&self.path, problem)
    }
}
