//! Files by their kind, and folders as MDLM and BD3-LM stand on the Hub: `config.json` beside weights in one file, or in
//! several with an index. Folders that `submask export` wrote are read as well.

use std::fs;
use std::path::Path;

use super::block_diffusion::MODEL_TYPE;
use super::facts::Facts;
use super::foreign::{Container, Foreign, Format, Found};
use super::safetensors::SafetensorsFile;
use super::torch::TorchFile;
use super::{naming, shards};
use crate::durable::lfs_pointer;
use crate::model::{CONFIG_FILE, ModelConfig, WEIGHTS_FILE};
use crate::{Error, Result};

/// Files of a folder that hold the weights, the first one there wins. Those of this program come first.
const WEIGHTS: [&str; 6] = [
    WEIGHTS_FILE,
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "diffusion_pytorch_model.safetensors",
    "diffusion_pytorch_model.safetensors.index.json",
];
/// How names of files end that may hold a checkpoint.
const ENDINGS: [&str; 5] = ["safetensors", "bin", "ckpt", "pt", "pth"];
/// Files that an error names; of more, their number is given.
const SHOWN: usize = 6;

/// Opens a folder.
///
/// # Errors
/// [`Error::Format`] for a folder without weights, naming the checkpoints that are there under other names.
pub(super) fn open(folder: &Path) -> Result<Foreign> {
    match weights_in(folder) {
        Some(file) => {
            let mut foreign = open_file(&folder.join(&file))?;
            let is_ours = file == WEIGHTS_FILE && ModelConfig::is_in(folder);
            foreign.format = match is_ours {
                true => Format::Submask,
                false if foreign.facts.text(&["model_type"]) == Some(MODEL_TYPE) => Format::Bd3lm,
                false => Format::Mdlm,
            };
            Ok(foreign)
        }
        None => {
            let others = files_like_checkpoints(folder);
            let problem = match others.len() {
                0 => format!(
                    "a folder without {WEIGHTS_FILE}: give a checkpoint file, or a folder with that file, with \
                     pytorch_model.bin, or with the index of several"
                ),
                _ if others.iter().all(|name| shards::is_one_of_several(Path::new(name)).is_some()) => {
                    format!(
                        "several files of a checkpoint, without the index that names them (such as {}): copy it beside them",
                        WEIGHTS[1]
                    )
                }
                count => {
                    let shown = others.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
                    let more =
                        if count > SHOWN { format!(" and {} more", count - SHOWN) } else { String::new() };
                    format!("a folder without {WEIGHTS_FILE}: give one of its files, {shown}{more}")
                }
            };
            Err(Error::format(folder, problem))
        }
    }
}

/// The file of a folder that holds its weights: one of the usual name, or the only index.
pub(super) fn weights_in(folder: &Path) -> Option<String> {
    let usual = WEIGHTS.into_iter().find(|file| folder.join(file).is_file());
    usual.map(str::to_owned).or_else(|| {
        let mut indices = files(folder).into_iter().filter(|name| shards::is_index(Path::new(name)));
        indices.next().filter(|_| indices.next().is_none())
    })
}

/// Names of the files in a folder, sorted.
fn files(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let names = entries.filter(|entry| entry.path().is_file()).map(|entry| entry.file_name());
    let mut names: Vec<String> = names.filter_map(|name| name.into_string().ok()).collect();
    names.sort();
    names
}

/// Whether a path looks like what [`Foreign::open`] is meant for, by its name and its folder's files: a checkpoint file,
/// an index, or a folder with weights or with a configuration that is not of this program. Nothing is read but that.
pub fn is_checkpoint(path: &Path) -> bool {
    if !path.is_dir() {
        let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
        return path.is_file() && (ENDINGS.contains(&ending) || shards::is_index(path));
    }
    let has_other_config = path.join(CONFIG_FILE).is_file() && !ModelConfig::is_in(path);
    weights_in(path).is_some() || has_other_config || !files_like_checkpoints(path).is_empty()
}

/// Names of files in a folder that may be checkpoints, sorted.
fn files_like_checkpoints(folder: &Path) -> Vec<String> {
    let is_one = |name: &String| ENDINGS.iter().any(|ending| name.ends_with(&format!(".{ending}")));
    files(folder).into_iter().filter(is_one).collect()
}

/// Opens a file, with the `config.json` that stands beside one named as in a folder.
pub(super) fn open_file(path: &Path) -> Result<Foreign> {
    if shards::is_index(path) {
        let (containers, tensors) = shards::open(path)?;
        return of_tensors(path, Format::Mdlm, containers, tensors);
    }
    let is_safetensors = path.extension().is_some_and(|extension| extension == "safetensors");
    let mut foreign = match is_safetensors {
        true => {
            let (file, tensors) = SafetensorsFile::open(path)?;
            of_tensors(path, Format::Safetensors, vec![Container::Safetensors(file)], tensors)?
        }
        false => Foreign::of_torch(TorchFile::open(path)?)?,
    };
    shards::refuse_one_alone(path)?;
    if foreign.facts.is_empty() {
        foreign.facts = facts_beside(path)?;
    }
    Ok(foreign)
}

/// A checkpoint of named tensors, with the configuration beside it.
fn of_tensors(
    path: &Path,
    format: Format,
    containers: Vec<Container>,
    tensors: Vec<super::ForeignTensor>,
) -> Result<Foreign> {
    let mut found = Found { facts: facts_beside(path)?, ..Found::default() };
    naming::sort(tensors, &mut found).map_err(|problem| Error::format(path, problem))?;
    Ok(Foreign::new(path.to_path_buf(), format, found, containers))
}

/// What `config.json` says beside weights that are named as in a folder; nothing beside others.
fn facts_beside(path: &Path) -> Result<Facts> {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let config = path.with_file_name(CONFIG_FILE);
    let belongs = WEIGHTS.contains(&name) || name.ends_with(".bin") || shards::is_index(path);
    if !belongs || !config.is_file() {
        return Ok(Facts::default());
    }
    let text = fs::read_to_string(&config).map_err(Error::io(&config))?;
    let json = serde_json::from_str(&text).map_err(|error| {
        Error::format(&config, lfs_pointer(text.as_bytes()).unwrap_or_else(|| error.to_string()))
    })?;
    Ok(Facts::of_json(&json))
}
