//! Checkpoints: a model folder plus what a run needs to resume bit for bit.
//!
//! A checkpoint is written into a folder beside its place, every file flushed, with a manifest of
//! checksums, and then renamed. A reader refuses one whose files differ from the manifest, and says which
//! older one is whole.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::optimizer::{AdamW, AdamWConfig};
use super::state::{Reached, TrainState};
use crate::backbone::weights::{Parameter, arrange};
use crate::data::Cursor;
use crate::durable::{create_folder, write_atomically};
use crate::forward::ClipInterval;
use crate::model::checkpoints::{STATE_FILE, write_manifest};
use crate::model::{BestValidation, WEIGHTS_FILE, read_safetensors, write_safetensors};
use crate::{Error, Result};

pub use crate::model::checkpoints::{FOLDER, best, best_validation, folder, newest, steps, verify_if_any};

const RAW: &str = "raw.safetensors";
const FIRST: &str = "optimizer_first.safetensors";
const SECOND: &str = "optimizer_second.safetensors";

/// The small part of the state, as JSON.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StateFile {
    step: u64,
    optimizer_steps: u64,
    cursor: Cursor,
    /// Absent where validations are not compared, as in earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    best: Option<BestValidation>,
    /// Absent where it is not searched for, as in earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    clip_interval: Option<ClipInterval>,
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
    let Reached { step, cursor, best, clip_interval } = reached;
    let small = StateFile { step, optimizer_steps: state.optimizer.steps, cursor, best, clip_interval };
    write_json(&folder.join(STATE_FILE), &small)?;
    write_manifest(folder)
}

fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(value).map_err(|error| Error::format(path, error.to_string()))?;
    write_atomically(path, text.as_bytes())
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
    let path = folder.join(STATE_FILE);
    let text = fs::read_to_string(&path).map_err(Error::io(&path))?;
    let small: StateFile =
        serde_json::from_str(&text).map_err(|error| Error::format(&path, error.to_string()))?;
    let optimizer =
        AdamW { config, steps: small.optimizer_steps, first: read(FIRST)?, second: read(SECOND)? };
    let (raw, average) = (read(RAW)?, read(WEIGHTS_FILE)?);
    let StateFile { step, cursor, best, clip_interval, .. } = small;
    Ok((Reached { step, cursor, best, clip_interval }, TrainState { raw, average, optimizer }))
}

/// Removes the checkpoint before the first step, which a run leaves that was killed before its settings were written:
/// other settings begin with other weights.
///
/// # Errors
/// [`Error::Io`] naming the folder.
pub fn remove_first(run: &Path) -> Result<()> {
    let path = folder(run, 0);
    match path.exists() {
        true => fs::remove_dir_all(&path).map_err(Error::io(&path)),
        false => Ok(()),
    }
}

/// Removes all but the `keep` newest checkpoints and the one after `best` steps, and folders that an interrupted run left
/// half-written.
///
/// # Errors
/// [`Error::Io`] naming the folder.
pub fn prune(run: &Path, keep: usize, best: Option<u64>) -> Result<()> {
    for step in steps(run)?.into_iter().skip(keep).filter(|step| Some(*step) != best) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_checkpoint_of_a_run_that_never_began_is_removed_and_no_other() {
        let run = tempfile::tempdir().unwrap();
        remove_first(run.path()).unwrap();
        for step in [0, 1] {
            fs::create_dir_all(folder(run.path(), step)).unwrap();
        }
        remove_first(run.path()).unwrap();
        assert_eq!(steps(run.path()).unwrap(), [1]);
    }
}
