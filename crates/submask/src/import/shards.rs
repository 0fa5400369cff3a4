//! Checkpoints in several files: an index says which file holds which weight.
//!
//! `model.safetensors.index.json` and `pytorch_model.bin.index.json` have the key `weight_map`, from names of weights to
//! names of files in the same folder. All of them are read; a file or weight that is missing is named.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Component, Path};

use serde::Deserialize;

use super::foreign::{Container, ForeignTensor};
use super::safetensors::SafetensorsFile;
use super::torch::TorchFile;
use super::torch_values::tensors_of;
use crate::durable::lfs_pointer;
use crate::{Error, Result};

/// How names of indices end.
const ENDING: &str = ".index.json";
/// Weights and files that an error names; of more, their number is given.
const SHOWN: usize = 4;

/// What an index says.
#[derive(Debug, Deserialize)]
pub(super) struct Index {
    /// The file of every weight.
    pub weight_map: BTreeMap<String, String>,
}

/// Whether a path is that of an index.
pub(super) fn is_index(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().ends_with(ENDING))
}

impl Index {
    /// Reads an index, whose files must be plain names.
    ///
    /// # Errors
    /// [`Error::Io`] and [`Error::Format`] naming the index and what is wrong with it.
    pub(super) fn read(path: &Path) -> Result<Self> {
        let text = fs::read(path).map_err(Error::io(path))?;
        let problem = |error: serde_json::Error| {
            let problem =
                lfs_pointer(&text).unwrap_or_else(|| format!("not an index of several files: {error}"));
            Error::format(path, problem)
        };
        let index: Self = serde_json::from_slice(&text).map_err(problem)?;
        if index.weight_map.is_empty() {
            return Err(Error::format(path, "its weight_map names no weight"));
        }
        let is_plain = |file: &str| {
            let mut parts = Path::new(file).components();
            matches!((parts.next(), parts.next()), (Some(Component::Normal(part)), None) if part == file)
        };
        match index.weight_map.iter().find(|(_, file)| !is_plain(file)) {
            Some((name, file)) => Err(Error::format(
                path,
                format!("{name} is in {file:?}, which is no name of a file beside it"),
            )),
            None => Ok(index),
        }
    }

    /// The weights of every file.
    pub(super) fn files(&self) -> BTreeMap<&str, Vec<&str>> {
        let mut files: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (name, file) in &self.weight_map {
            files.entry(file).or_default().push(name);
        }
        files
    }

    /// Those of its files that are not there.
    pub(super) fn missing<'a>(&'a self, path: &Path) -> Vec<(&'a str, Vec<&'a str>)> {
        let is_missing = |file: &str| !path.with_file_name(file).is_file();
        self.files().into_iter().filter(|(file, _)| is_missing(file)).collect()
    }
}

/// Opens all files of an index, and gives the weights that it names, in the order of the names.
///
/// # Errors
/// [`Error::Format`] naming the index and the files that are not there, or the weights that are not in their files;
/// those of the files.
pub(super) fn open(path: &Path) -> Result<(Vec<Container>, Vec<ForeignTensor>)> {
    let index = Index::read(path)?;
    let missing = index.missing(path);
    if !missing.is_empty() {
        let files: Vec<&str> = missing.iter().map(|(file, _)| *file).collect();
        let weights: Vec<&str> = missing.iter().flat_map(|(_, weights)| weights.iter().copied()).collect();
        return Err(Error::format(
            path,
            format!("{} not beside it, with {} weights: {}", are(&files), weights.len(), some(&weights)),
        ));
    }
    let (mut containers, mut tensors, mut lacking) = (Vec::new(), Vec::new(), Vec::new());
    for (number, (file, wanted)) in index.files().into_iter().enumerate() {
        let (container, found) = open_one(&path.with_file_name(file))?;
        containers.push(container);
        let mut by_name: BTreeMap<String, ForeignTensor> =
            found.into_iter().map(|tensor| (tensor.name.clone(), tensor)).collect();
        for name in wanted {
            match by_name.remove(name) {
                Some(tensor) => tensors.push(ForeignTensor { file: number as u32, ..tensor }),
                None => lacking.push(format!("{name} in {file}")),
            }
        }
    }
    if !lacking.is_empty() {
        let lacking: Vec<&str> = lacking.iter().map(String::as_str).collect();
        let problem = format!("{} of its weights are not where it says: {}", lacking.len(), some(&lacking));
        return Err(Error::format(path, problem));
    }
    tensors.sort_by(|a, b| a.name.cmp(&b.name));
    Ok((containers, tensors))
}

fn open_one(path: &Path) -> Result<(Container, Vec<ForeignTensor>)> {
    if path.extension().is_some_and(|extension| extension == "safetensors") {
        let (file, tensors) = SafetensorsFile::open(path)?;
        return Ok((Container::Safetensors(file), tensors));
    }
    let file = TorchFile::open(path)?;
    let tensors = tensors_of(&file, file.root(), "")?;
    Ok((Container::Torch(Box::new(file)), tensors))
}

/// Of how many files a file is one, by its name: `model-00001-of-00002.safetensors`.
pub(super) fn is_one_of_several(path: &Path) -> Option<u32> {
    let (before, total) = path.file_stem()?.to_str()?.rsplit_once("-of-")?;
    let (_, number) = before.rsplit_once('-')?;
    let is_number = |text: &str| text.len() == 5 && text.bytes().all(|byte| byte.is_ascii_digit());
    let total = total.parse().ok().filter(|_| is_number(number) && is_number(total))?;
    (total > 1).then_some(total)
}

/// Refuses one of several files by itself.
///
/// # Errors
/// [`Error::Format`] saying what to give instead.
pub(super) fn refuse_one_alone(path: &Path) -> Result<()> {
    let Some(total) = is_one_of_several(path) else { return Ok(()) };
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let problem = format!(
        "one of {total} files of a checkpoint: give the folder {}, whose index (*{ENDING}) names them all",
        folder.display()
    );
    Err(Error::format(path, problem))
}

/// The first few of several names.
fn some(names: &[&str]) -> String {
    let shown = names[..names.len().min(SHOWN)].join(", ");
    match names.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// Names as the subject of a sentence.
fn are(files: &[&str]) -> String {
    format!("{} {}", some(files), if files.len() == 1 { "is" } else { "are" })
}
