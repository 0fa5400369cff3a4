//! What a path given as MODEL, RUN or FILE stands for.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use submask::import;
use submask::import::hub::{Hub, HubEvent, HubName};
use submask::model::{CONFIG_FILE, CheckpointChoice, ModelConfig, WEIGHTS_FILE, resolve_choice};
use submask::train::{SETTINGS_FILE, checkpoint as checkpoints_of};

use crate::failure::Failure;
use crate::progress::Download;

/// The path itself, or where the file or folder of a name on the Hub lies once it is downloaded.
pub fn source(path: &Path) -> Result<Cow<'_, Path>, Failure> {
    source_from(path, Hub::from_env)
}

/// The same from a hub.
pub fn source_from(path: &Path, hub: impl FnOnce() -> Hub) -> Result<Cow<'_, Path>, Failure> {
    let Some(name) = path.to_str().filter(|name| HubName::is_one(name)) else {
        return match hub_form(path) {
            Some(name) => Err(Failure::failed(format!("{} does not exist", path.display()))
                .hint(format!("a repository on the Hub is named {name}"))),
            None => Ok(Cow::Borrowed(path)),
        };
    };
    let mut download = Download::default();
    let fetched = hub().fetch(&HubName::parse(name)?, &mut |event| match event {
        HubEvent::Progress { file, done, total } => download.set(file, done, total),
        HubEvent::Cached { file, problem } => download
            .say(&format!("the hub cannot be reached ({problem}): taking {file} as it stands in the cache")),
    });
    Ok(Cow::Owned(fetched?))
}

/// Where a repository's files stand on the Hub's pages.
const PAGES: [&str; 4] = ["https://huggingface.co/", "http://huggingface.co/", "huggingface.co/", "hf://"];
/// Endings of files: `owner/repo` has none of them.
const ENDINGS: [&str; 8] = ["safetensors", "bin", "ckpt", "pt", "pth", "json", "toml", "tokens"];

/// The folder of runs.
const RUNS: &str = "runs";

/// The name of what seems to be meant on the Hub: by the address of its page, or by `owner/repo` where there is no such
/// path, nor a folder `owner`.
fn hub_form(path: &Path) -> Option<String> {
    let text = path.to_str()?.trim_end_matches('/');
    let page = PAGES.iter().find_map(|page| text.strip_prefix(page));
    let is_path = path.exists() || path.components().next().is_some_and(|first| Path::new(&first).exists());
    // Where `submask train` puts runs: who asks for one there has not trained it yet, or is in another folder.
    if page.is_none() && (is_path || path.starts_with(RUNS)) {
        return None;
    }
    let parts: Vec<&str> = page.unwrap_or(text).split('/').collect();
    let is_file = path.extension().and_then(|ending| ending.to_str()).is_some_and(|it| ENDINGS.contains(&it));
    if page.is_none() && (parts.len() != 2 || is_file) {
        return None;
    }
    let name = match parts.as_slice() {
        [owner, repo, "tree" | "blob" | "resolve", revision, rest @ ..] if page.is_some() => {
            let revision = if *revision == HubName::MAIN { String::new() } else { format!("@{revision}") };
            let rest: String = rest.iter().map(|part| format!("/{part}")).collect();
            format!("hub://{owner}/{repo}{revision}{rest}")
        }
        parts => format!("hub://{}", parts.join("/")),
    };
    HubName::parse(&name).is_ok().then_some(name)
}

/// Whether a path is a checkpoint of another program.
pub fn is_foreign(path: &Path) -> bool {
    let is_ours = ModelConfig::is_in(path) || run_of(path).is_some();
    // What is wrong with a configuration that cannot be read is said where it is read.
    let is_broken = std::fs::read(path.join(CONFIG_FILE))
        .is_ok_and(|text| serde_json::from_slice::<serde_json::Value>(&text).is_err());
    !is_ours && !is_broken && import::is_checkpoint(path)
}

/// That a path is a checkpoint of another program, of which a model has to be made first; or nothing, if it is none.
fn refuse_foreign(path: &Path) -> Result<(), Failure> {
    let shown = path.display();
    let import = |what: &str| {
        let name = what.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
        let name = name.split('.').next().filter(|name| !name.is_empty()).unwrap_or("model");
        format!("import it first: submask import {what} --to models/{name}")
    };
    let text = path.to_str().unwrap_or_default();
    if HubName::is_one(text) {
        return Err(
            Failure::failed(format!("{shown} is on the Hub, and no model folder yet")).hint(import(text))
        );
    }
    if let Some(name) = hub_form(path) {
        return Err(Failure::failed(format!("there is no model in {shown}: it does not exist"))
            .hint(format!("if it is a repository on the Hub, {}", import(&name))));
    }
    match is_foreign(path) {
        true => {
            Err(Failure::failed(format!("{shown} is a checkpoint of another program, not a model folder"))
                .hint(import(&shown.to_string())))
        }
        false => Ok(()),
    }
}

/// The model folder: the path itself, or the newest checkpoint of a run.
pub fn model(path: &Path) -> Result<PathBuf, Failure> {
    checkpoint(path, CheckpointChoice::Newest)
}

/// The model folder: the path itself, or one of the checkpoints of a run.
pub fn checkpoint(path: &Path, choice: CheckpointChoice) -> Result<PathBuf, Failure> {
    let shown = path.display();
    refuse_foreign(path)?;
    if !path.exists() {
        return Err(Failure::failed(format!("there is no model in {shown}: it does not exist"))
            .hint("give a model folder, a run or a checkpoint; `submask train` makes one"));
    }
    let is_model = path.join(CONFIG_FILE).is_file();
    if !is_model && is_run(path) && checkpoints(path)?.is_empty() {
        return Err(Failure::failed(format!("the run {shown} has no checkpoint yet")));
    }
    if !is_model && !is_run(path) {
        return Err(Failure::failed(format!("{shown} is neither a model, nor a run, nor a checkpoint"))
            .hint(format!(
                "a model folder holds {CONFIG_FILE}, a run holds {SETTINGS_FILE} and checkpoints"
            )));
    }
    let named =
        |error: submask::Error| error.rename_field(|field| field.replace("checkpoint", "--checkpoint"));
    let folder = resolve_choice(path, choice).map_err(named)?;
    check_config(path, &folder)?;
    Ok(folder)
}

/// That the network of a run is one of this program's, as far as its newest checkpoint says.
pub fn check_ours(run: &Path) -> Result<(), Failure> {
    let newest = checkpoints(run)?.first().map(|step| checkpoints_of::folder(run, *step));
    newest.map_or(Ok(()), |folder| check_config(run, &folder))
}

/// Weights without a configuration are those of a network that only its own program knows.
fn check_config(shown: &Path, folder: &Path) -> Result<(), Failure> {
    if folder.join(CONFIG_FILE).is_file() || !folder.join(WEIGHTS_FILE).is_file() {
        return Ok(());
    }
    let message = format!("{} has no {CONFIG_FILE}: its network is one of somebody's own", shown.display());
    Err(Failure::failed(message).hint(
        "the program that trained it can go on with it and load it (`run_own` and `OwnModel::load` of the library)",
    ))
}

/// Whether the path is a run.
pub fn is_run(path: &Path) -> bool {
    path.join(SETTINGS_FILE).is_file()
}

/// The run that holds a model or checkpoint, if there is one.
pub fn run_of(path: &Path) -> Option<PathBuf> {
    path.ancestors().take(3).find(|folder| is_run(folder)).map(Path::to_path_buf)
}

/// Steps of the checkpoints of a run, newest first.
pub fn checkpoints(run: &Path) -> Result<Vec<u64>, Failure> {
    match run.join(checkpoints_of::FOLDER).is_dir() {
        true => Ok(checkpoints_of::steps(run)?),
        false => Ok(Vec::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_stands_for_its_newest_checkpoint() {
        let run = tempfile::tempdir().unwrap();
        let run = run.path();
        assert!(model(&run.join("no")).unwrap_err().to_string().contains("does not exist"));
        assert!(model(run).unwrap_err().to_string().contains("neither a model"));
        // What looks like a repository may be one, but in the folder of runs.
        let said = |path: &str| model(Path::new(path)).unwrap_err().to_string();
        assert!(said("somebody/something").contains("hub://somebody/something"));
        assert!(said("runs/dictionary").contains("`submask train` makes one"), "{}", said("runs/dictionary"));
        std::fs::write(run.join(SETTINGS_FILE), "").unwrap();
        assert!(model(run).unwrap_err().to_string().contains("no checkpoint yet"));
        for step in ["step-9", "step-10", ".step-11.tmp"] {
            let folder = run.join(checkpoints_of::FOLDER).join(step);
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(folder.join(CONFIG_FILE), "{}").unwrap();
        }
        let newest = run.join("checkpoints/step-10");
        assert_eq!(model(run).unwrap(), newest);
        assert_eq!(model(&newest).unwrap(), newest);
        check_ours(run).unwrap();
        std::fs::remove_file(newest.join(CONFIG_FILE)).unwrap();
        std::fs::write(newest.join(WEIGHTS_FILE), "").unwrap();
        for refused in [check_ours(run), model(run).map(drop), model(&newest).map(drop)] {
            assert!(refused.unwrap_err().to_string().contains(CONFIG_FILE));
        }
        assert_eq!((run_of(&newest), run_of(run)), (Some(run.to_path_buf()), Some(run.to_path_buf())));
    }
}
