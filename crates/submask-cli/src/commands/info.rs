//! `submask info`.

use std::ffi::OsStr;
use std::path::Path;

use serde_json::{Value, json};
use submask::data::{DATA_FILE, DataInfo, Fidelity, Shard, TOKENIZER_FILE, Tokenizer};
use submask::import::{self, Foreign, ImportOptions, Inspection};
use submask::likelihood::{Figure, Kind};
use submask::model::{Architecture, CONFIG_FILE, ModelConfig, Subject};
use submask::train::checkpoint;
use submask::train::settings::TrainSettings;

use super::data::{describe_prepared, describe_shard};
use crate::args::InfoArgs;
use crate::failure::Failure;
use crate::metrics::Metrics;
use crate::{flags, locate, output, settings};

/// Describes what stands at a path.
pub fn run(args: &InfoArgs) -> Result<(), Failure> {
    let described = describe(&locate::source(&args.path)?)?;
    match args.json {
        true => output::write_json(&described),
        false => output::write(&output::value_table(&described)),
    }
}

/// What stands at a path.
pub fn describe(path: &Path) -> Result<Value, Failure> {
    if path.extension() == Some(OsStr::new("tokens")) {
        return Ok(describe_shard(&Shard::open(path)?));
    }
    if path.extension() == Some(OsStr::new("toml")) {
        return describe_settings(path);
    }
    if is_foreign(path) {
        return describe_foreign(path);
    }
    if is_tokenizer(path) {
        return describe_tokenizer(path);
    }
    if path.join(DATA_FILE).is_file() {
        return Ok(describe_prepared(path, &DataInfo::read(path)?));
    }
    if locate::is_run(path) {
        return describe_run(path);
    }
    describe_model(&locate::model(path)?)
}

fn describe_settings(path: &Path) -> Result<Value, Failure> {
    let settings = settings::check_file(path)?;
    Ok(json!({ "kind": "settings", "path": path.display().to_string(), "settings": to_json(&settings)? }))
}

/// Whether the path is a checkpoint of another program: any other file but a tokenizer, or a folder with weights whose
/// configuration is not ours.
fn is_foreign(path: &Path) -> bool {
    let is_ours =
        || ModelConfig::is_in(path) || locate::run_of(path).is_some() || path.join(DATA_FILE).is_file();
    match path.is_file() {
        true => !is_tokenizer(path),
        false => import::is_checkpoint(path) && !is_ours(),
    }
}

/// Whether the path is a tokenizer, as a JSON file that is no index of a checkpoint may be, or a folder with one alone.
fn is_tokenizer(path: &Path) -> bool {
    match path.is_dir() {
        true => {
            path.join(TOKENIZER_FILE).is_file()
                && !path.join(DATA_FILE).is_file()
                && !ModelConfig::is_in(path)
        }
        false => path.extension() == Some(OsStr::new("json")) && !import::is_checkpoint(path),
    }
}

fn describe_tokenizer(path: &Path) -> Result<Value, Failure> {
    let tokenizer = Tokenizer::from_file(path, None)?;
    let name = |id: Option<u32>| id.map(|id| tokenizer.token_text(id)).transpose();
    Ok(json!({
        "kind": "tokenizer",
        "path": path.display().to_string(),
        "vocab_size": tokenizer.vocab_size(),
        "end_of_text": name(tokenizer.end_of_text())?,
        "unknown_token": name(tokenizer.unknown_token())?,
        "lossless": tokenizer.is_lossless(),
    }))
}

/// A checkpoint, or, where it cannot be imported, why not, and what is there.
fn describe_foreign(path: &Path) -> Result<Value, Failure> {
    let refused = match describe_checkpoint(path) {
        Ok(described) => return described,
        Err(refused) => refused,
    };
    if let Some(described) = describe_permutation(path) {
        return Ok(described);
    }
    let Ok(contents) = import::contents(path) else { return Err(refused.into()) };
    let entries: serde_json::Map<String, Value> =
        contents.entries.into_iter().map(|(name, what)| (name, json!(what))).collect();
    Ok(json!({
        "kind": "foreign checkpoint that cannot be imported",
        "path": path.display().to_string(),
        "problem": refused.to_string(),
        "what": contents.what,
        "contents": entries,
        "not_listed": contents.more,
    }))
}

fn describe_checkpoint(path: &Path) -> submask::Result<Result<Value, Failure>> {
    let foreign = Foreign::open(path)?;
    let inspection = import::inspect(&foreign, &ImportOptions::default())?;
    Ok(describe_inspection(path, &foreign, &inspection))
}

fn describe_inspection(path: &Path, foreign: &Foreign, inspection: &Inspection) -> Result<Value, Failure> {
    let settings: serde_json::Map<String, Value> =
        inspection.settings.iter().map(|setting| (setting.key.to_owned(), json!(setting.value))).collect();
    Ok(json!({
        "kind": "foreign checkpoint",
        "path": path.display().to_string(),
        "format": foreign.format.to_string(),
        "network": to_json(&inspection.network)?,
        "parameters": inspection.parameters,
        "weights": to_json(&inspection.weights)?,
        "base": inspection.base,
        "settings": settings,
        "needed_flags": inspection.needed.iter().map(|key| flags::IMPORT.of(key)).collect::<Vec<_>>(),
        "hints": inspection.hints,
        "stripped": inspection.stripped,
    }))
}

/// What `submask import --permutation` takes: one tensor with the code of every token.
fn describe_permutation(path: &Path) -> Option<Value> {
    let codes = import::read_permutation(path).ok()?;
    Some(json!({ "kind": "permutation of codes", "path": path.display().to_string(), "codes": codes.len() }))
}

fn describe_model(folder: &Path) -> Result<Value, Failure> {
    let architecture = Architecture::read(folder)?;
    let codes = architecture.predictive().codes();
    let mut described = json!({
        "kind": "model",
        "path": folder.display().to_string(),
        "parameters": parameters(&architecture),
        "vocab_size": codes.vocab_size(),
        "base": codes.base(),
        "config": to_json(architecture.config())?,
    });
    if let Some(fidelity) = fidelity(architecture.config()) {
        described["documents_changed_by_tokenizer"] = json!(fidelity.changed);
        described["unknown_share"] = json!(fidelity.unknown_share());
    }
    Ok(described)
}

/// Number of weights.
fn parameters(architecture: &Architecture) -> u64 {
    architecture.parameters().iter().map(|parameter| parameter.len() as u64).sum()
}

/// What the tokenizer did to the text that a model was trained on.
fn fidelity(config: &ModelConfig) -> Option<Fidelity> {
    match &config.subject {
        Subject::Text(text) => text.fidelity,
        _ => None,
    }
}

fn describe_run(run: &Path) -> Result<Value, Failure> {
    locate::check_ours(run)?;
    let settings = settings::check_run(run)?;
    let metrics = Metrics::read_if_any(run)?;
    let checkpoints = locate::checkpoints(run)?;
    let validation = metrics.validations.values().next_back();
    let folder = checkpoints.first().map(|&step| checkpoint::folder(run, step));
    let folder = folder.filter(|folder| folder.join(CONFIG_FILE).is_file());
    let architecture = folder.as_deref().map(Architecture::read).transpose()?;
    let fidelity = architecture.as_ref().and_then(|architecture| fidelity(architecture.config()));
    let likelihood =
        |figures: &[Figure]| figures.iter().find(|figure| figure.kind != Kind::Surrogate).cloned();
    let unit = validation.and_then(|record| likelihood(&record.figures)).map(|figure| figure.unit);
    let (best, finished_early) = describe_best(run, &checkpoints, &settings.train, unit)?;
    Ok(json!({
        "kind": "run",
        "path": run.display().to_string(),
        "parameters": architecture.as_ref().map(parameters),
        "step": checkpoints.first(),
        "steps": settings.train.steps,
        "documents_changed_by_tokenizer": fidelity.map(|fidelity| fidelity.changed),
        "unknown_share": fidelity.map(Fidelity::unknown_share),
        "checkpoints": checkpoints,
        "best": best,
        "finished_early": finished_early,
        "figures_step": validation.map(|record| record.step),
        "figures": to_json(&validation.map(|record| &record.figures))?,
        "settings": to_json(&settings)?,
    }))
}

/// The best validation of a run with what is kept of it, and whether the run ended early.
fn describe_best(
    run: &Path,
    checkpoints: &[u64],
    settings: &TrainSettings,
    unit: Option<String>,
) -> Result<(Value, bool), Failure> {
    let Some(&newest) = checkpoints.first() else { return Ok((Value::Null, false)) };
    let folder = checkpoint::folder(run, newest);
    let Some(best) = checkpoint::best_validation(&folder)? else { return Ok((Value::Null, false)) };
    let kept = checkpoints.contains(&best.step).then(|| checkpoint::folder(run, best.step));
    let described = json!({
        "step": best.step,
        "value": best.value,
        "unit": unit,
        "validations_since": best.since,
        "checkpoint": kept.map(|folder| folder.display().to_string()),
    });
    Ok((described, newest < settings.steps && settings.ends_early(Some(best))))
}

fn to_json(value: &impl serde::Serialize) -> Result<Value, Failure> {
    serde_json::to_value(value).map_err(|error| Failure::failed(format!("this does not fit JSON: {error}")))
}
