//! Checkpoints of a run, as models are read from them: which there are, and whether their files are whole.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::config::CONFIG_FILE;
use crate::durable::{sync_parent, write_atomically};
use crate::{Error, Result};

/// Folder of a run that holds its checkpoints.
pub const FOLDER: &str = "checkpoints";

/// File of a checkpoint with the small part of its run's state.
pub(crate) const STATE_FILE: &str = "state.json";

const MANIFEST: &str = "manifest.json";

/// Bytes of a file that are read at once to be checked.
const CHECKED: usize = 1 << 18;

/// Size and CRC-32 of every file.
#[derive(Debug, Serialize, Deserialize)]
struct Manifest {
    files: BTreeMap<String, (u64, u32)>,
}

/// Which checkpoint of a run is meant: `newest`, `best`, or its step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CheckpointChoice {
    /// The newest.
    #[default]
    Newest,
    /// The one with the best validation, of a run with `train.keep_best`.
    Best,
    /// The one after so many steps.
    Step(u64),
}

impl fmt::Display for CheckpointChoice {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Newest => f.write_str("newest"),
            Self::Best => f.write_str("best"),
            Self::Step(step) => step.fmt(f),
        }
    }
}

impl FromStr for CheckpointChoice {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "newest" => Ok(Self::Newest),
            "best" => Ok(Self::Best),
            _ => text.parse().map(Self::Step).map_err(|_| {
                Error::invalid("checkpoint", text, "newest, best, or the number of steps of a checkpoint")
            }),
        }
    }
}

/// The best validation of a run so far, among those of the same sequences and draws.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BestValidation {
    /// Steps done when it was made.
    pub step: u64,
    /// Its upper bound, or the exact value of an autoregressive model, in the unit of the run's first figure.
    #[serde(with = "as_text")]
    pub value: f64,
    /// Validations since then; none was better.
    pub since: u64,
}

/// A number as text: it is read as it was written, to the last bit.
mod as_text {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(value: &f64, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(value)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
        let text = String::deserialize(from)?;
        text.parse().map_err(|_| D::Error::custom(format!("{text:?} is no number")))
    }
}

/// What a checkpoint's state says of validations; the rest is for the run.
#[derive(Deserialize)]
struct Validations {
    best: Option<BestValidation>,
}

/// Folder of the checkpoint after `step` steps.
pub fn folder(run: &Path, step: u64) -> PathBuf {
    run.join(FOLDER).join(format!("step-{step}"))
}

/// Writes the manifest of all files of a folder.
///
/// # Errors
/// [`Error::Io`] naming the file.
pub(crate) fn write_manifest(folder: &Path) -> Result<()> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(folder).map_err(Error::io(folder))? {
        let path = entry.map_err(Error::io(folder))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        files.insert(name, checksum(&path)?);
    }
    let path = folder.join(MANIFEST);
    let text = serde_json::to_string_pretty(&Manifest { files })
        .map_err(|error| Error::format(&path, error.to_string()))?;
    write_atomically(&path, text.as_bytes())?;
    sync_parent(&path).map_err(Error::io(folder))
}

/// Size and CRC-32, of which no more than [`CHECKED`] bytes are in memory at once.
fn checksum(path: &Path) -> Result<(u64, u32)> {
    let mut file = File::open(path).map_err(Error::io(path))?;
    let (mut hasher, mut size, mut part) = (crc32fast::Hasher::new(), 0, vec![0; CHECKED]);
    loop {
        match file.read(&mut part) {
            Ok(0) => return Ok((size, hasher.finalize())),
            Ok(read) => {
                hasher.update(&part[..read]);
                size += read as u64;
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(Error::io(path)(error)),
        }
    }
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

/// The best validation of a run up to its checkpoint in `folder`; none where validations are not compared, none was made
/// yet, or the folder is a model alone.
///
/// # Errors
/// [`Error::Io`] and [`Error::Format`] naming the file.
pub fn best_validation(folder: &Path) -> Result<Option<BestValidation>> {
    let path = folder.join(STATE_FILE);
    if !path.is_file() {
        return Ok(None);
    }
    let text = fs::read_to_string(&path).map_err(Error::io(&path))?;
    let state: Validations =
        serde_json::from_str(&text).map_err(|error| Error::format(&path, error.to_string()))?;
    Ok(state.best)
}

/// Folder of the checkpoint with the best validation of a run, checked against its manifest.
///
/// # Errors
/// [`Error::Invalid`] for a run that has none or did not keep it, and as [`newest`].
pub fn best(run: &Path) -> Result<PathBuf> {
    let refused = |allowed: String| Err(Error::invalid("checkpoint", "best", allowed));
    let Some(best) = best_validation(&newest(run)?)? else {
        return refused(format!(
            "newest, or a step: {} has compared no validation (train.keep_best)",
            run.display()
        ));
    };
    let place = folder(run, best.step);
    if !place.is_dir() {
        let step = best.step;
        return refused(format!(
            "newest, or a step: the best validation was after step {step}, whose checkpoint was not kept, since train.keep_best was false then"
        ));
    }
    verify_if_any(&place).map(|()| place)
}

/// The model folder that `path` means, with a choice among the checkpoints of a run.
///
/// # Errors
/// [`Error::Invalid`] for a choice that the run does not have, and for any but the newest where `path` is no run; as
/// [`resolve`].
pub fn resolve_choice(path: &Path, choice: CheckpointChoice) -> Result<PathBuf> {
    if choice == CheckpointChoice::Newest {
        return resolve(path);
    }
    if path.join(CONFIG_FILE).is_file() || !path.join(FOLDER).is_dir() {
        resolve(path)?;
        let allowed = format!("nothing: {} is one model, and no run with checkpoints", path.display());
        return Err(Error::invalid("checkpoint", choice, allowed));
    }
    let CheckpointChoice::Step(step) = choice else { return best(path) };
    let place = folder(path, step);
    if !place.is_dir() {
        let kept: Vec<String> = steps(path)?.iter().map(u64::to_string).collect();
        return Err(Error::invalid("checkpoint", step, format!("one that is kept: {}", kept.join(", "))));
    }
    verify_if_any(&place).map(|()| place)
}

/// The model folder that `path` means: itself, or the newest checkpoint of a run.
///
/// # Errors
/// [`Error::Format`] saying what was looked for.
pub fn resolve(path: &Path) -> Result<PathBuf> {
    if path.join(CONFIG_FILE).is_file() {
        return Ok(path.to_path_buf());
    }
    if path.join(FOLDER).is_dir() {
        return newest(path);
    }
    if !path.exists() {
        return Err(Error::format(path, "there is no such model, run or checkpoint"));
    }
    let problem = format!(
        "neither a model folder or checkpoint (it would hold {CONFIG_FILE}) nor a run (it would hold {FOLDER}/)"
    );
    Err(Error::format(path, problem))
}
