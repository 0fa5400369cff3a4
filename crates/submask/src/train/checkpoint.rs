//! Checkpoints: a model folder plus what a run needs to resume bit for bit.
//!
//! A checkpoint is written into a folder beside its place, every file flushed, with a manifest of
//! checksums, and then renamed. A reader refuses one whose files differ from the manifest, and says which
//! older one is whole.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::optimizer::{AdamW, AdamWConfig};
use super::state::{Reached, TrainState};
use crate::backbone::weights::{Parameter, arrange};
use crate::data::Cursor;
use crate::durable::{create_folder, sync_parent, write_atomically};
use crate::model::{WEIGHTS_FILE, read_safetensors, write_safetensors};
use crate::{Error, Result};

/// Folder of a run that holds its checkpoints.
pub const FOLDER: &str = "checkpoints";

const MANIFEST: &str = "manifest.json";
const RAW: &str = "raw.safetensors";
const FIRST: &str = "optimizer_first.safetensors";
const SECOND: &str = "optimizer_second.safetensors";
const STATE: &str = "state.json";

/// Size and CRC-32 of every file.
#[derive(Debug, Serialize, Deserialize)]
struct Manifest {
    files: BTreeMap<String, (u64, u32)>,
}

/// The small part of the state, as JSON.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StateFile {
    step: u64,
    optimizer_steps: u64,
    cursor: Cursor,
}

/// Folder of the checkpoint after `step` steps.
pub fn folder(run: &Path, step: u64) -> PathBuf {
    run.join(FOLDER).join(format!("step-{step}"))
}

/// Writes a checkpoint of a run that has `reached` this `state`; `save_model` writes the model folder of the averaged
/// weights. Returns its folder.
///
/// # Errors
/// [`Error::Io`] naming the file; nothing half-written stays behind.
pub fn save(
    run: &Path,
    reached: Reached,
    state: &TrainState,
    parameters: &[Parameter],
    save_model: &mut dyn FnMut(&Path) -> Result<()>,
) -> Result<PathBuf> {
    let place = folder(run, reached.step);
    if place.exists() {
        if verify_if_any(&place).is_ok() {
            // The same step of the same run: it holds the same already.
            return Ok(place);
        }
        fs::remove_dir_all(&place).map_err(Error::io(&place))?;
    }
    create_folder(&place, |folder| {
        save_model(folder)?;
        write(folder, reached, state, parameters)
    })?;
    Ok(place)
}

/// Writes what a run needs beside the model, and the manifest of all.
fn write(folder: &Path, reached: Reached, state: &TrainState, parameters: &[Parameter]) -> Result<()> {
    write_safetensors(&folder.join(RAW), parameters, &state.raw)?;
    write_safetensors(&folder.join(FIRST), parameters, &state.optimizer.first)?;
    write_safetensors(&folder.join(SECOND), parameters, &state.optimizer.second)?;
    let Reached { step, cursor } = reached;
    let small = StateFile { step, optimizer_steps: state.optimizer.steps, cursor };
    write_json(&folder.join(STATE), &small)?;
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(folder).map_err(Error::io(folder))? {
        let path = entry.map_err(Error::io(folder))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        files.insert(name, checksum(&path)?);
    }
    write_json(&folder.join(MANIFEST), &Manifest { files })?;
    sync_parent(&folder.join(MANIFEST)).map_err(Error::io(folder))
}

fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(value).map_err(|error| Error::format(path, error.to_string()))?;
    write_atomically(path, text.as_bytes())
}

fn checksum(path: &Path) -> Result<(u64, u32)> {
    let bytes = fs::read(path).map_err(Error::io(path))?;
    Ok((bytes.len() as u64, crc32fast::hash(&bytes)))
}

/// Checks the files of a folder against its manifest; a plain model folder has none and passes.
///
/// # Errors
/// [`Error::Format`] naming the first file that is missing or altered.
pub fn verify_if_any(folder: &Path) -> Result<()> {
    let path = folder.join(MANIFEST);
    if !path.is_file() {
        return Ok(());
    }
    let text = fs::read_to_string(&path).map_err(Error::io(&path))?;
    let manifest: Manifest =
        serde_json::from_str(&text).map_err(|error| Error::format(&path, error.to_string()))?;
    for (name, expected) in &manifest.files {
        let file = folder.join(name);
        let found = checksum(&file)?;
        if found.0 != expected.0 {
            let problem =
                format!("{} bytes long, not {}: the file is truncated or altered", found.0, expected.0);
            return Err(Error::format(&file, problem));
        }
        if found != *expected {
            return Err(Error::format(
                &file,
                "its checksum does not match the manifest: the file is altered",
            ));
        }
    }
    Ok(())
}

/// Steps of the checkpoints of a run, newest first.
///
/// # Errors
/// [`Error::Io`] naming the folder.
pub fn steps(run: &Path) -> Result<Vec<u64>> {
    let folder = run.join(FOLDER);
    let mut steps: Vec<u64> = Vec::new();
    for entry in fs::read_dir(&folder).map_err(Error::io(&folder))? {
        let name = entry.map_err(Error::io(&folder))?.file_name();
        if let Some(step) = name.to_string_lossy().strip_prefix("step-").and_then(|step| step.parse().ok()) {
            steps.push(step);
        }
    }
    steps.sort_unstable_by(|a, b| b.cmp(a));
    Ok(steps)
}

/// Folder of the newest checkpoint of a run, checked against its manifest.
///
/// # Errors
/// [`Error::Format`] for a run without checkpoints, and for a broken newest one, naming the file and the
/// newest older checkpoint that is whole.
pub fn newest(run: &Path) -> Result<PathBuf> {
    let steps = steps(run)?;
    let Some((first, older)) = steps.split_first() else {
        return Err(Error::format(run.join(FOLDER), "the run has no checkpoint yet"));
    };
    let newest = folder(run, *first);
    match verify_if_any(&newest) {
        Ok(()) => Ok(newest),
        Err(broken) => {
            let whole = older.iter().map(|step| folder(run, *step)).find(|path| verify_if_any(path).is_ok());
            let advice = match whole {
                Some(path) => {
                    format!("{} is whole: remove the broken checkpoint to resume from it", path.display())
                }
                None => "no older checkpoint is whole".to_owned(),
            };
            Err(Error::format(newest, format!("broken checkpoint ({broken}); {advice}")))
        }
    }
}

/// Reads a checkpoint whose manifest has been checked; `config` is that of the optimiser that continues.
///
/// # Errors
/// [`Error::Io`] and [`Error::Format`] naming the file.
pub fn load(folder: &Path, parameters: &[Parameter], config: AdamWConfig) -> Result<(Reached, TrainState)> {
    let read = |name: &str| {
        let path = folder.join(name);
        arrange(parameters, read_safetensors(&path)?, &path)
    };
    let path = folder.join(STATE);
    let text = fs::read_to_string(&path).map_err(Error::io(&path))?;
    let small: StateFile =
        serde_json::from_str(&text).map_err(|error| Error::format(&path, error.to_string()))?;
    let optimizer =
        AdamW { config, steps: small.optimizer_steps, first: read(FIRST)?, second: read(SECOND)? };
    let (raw, average) = (read(RAW)?, read(WEIGHTS_FILE)?);
    let reached = Reached { step: small.step, cursor: small.cursor };
    Ok((reached, TrainState { raw, average, optimizer }))
}

/// Removes all but the `keep` newest checkpoints, and folders that an interrupted run left half-written.
///
/// # Errors
/// [`Error::Io`] naming the folder.
pub fn prune(run: &Path, keep: usize) -> Result<()> {
    for step in steps(run)?.into_iter().skip(keep) {
        let path = folder(run, step);
        fs::remove_dir_all(&path).map_err(Error::io(&path))?;
    }
    let all = run.join(FOLDER);
    for entry in fs::read_dir(&all).map_err(Error::io(&all))? {
        let path = entry.map_err(Error::io(&all))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.starts_with(".step-") && name.ends_with(".tmp") {
            fs::remove_dir_all(&path).map_err(Error::io(&path))?;
        }
    }
    Ok(())
}
