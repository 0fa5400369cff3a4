//! Safetensors: single files, and folders as MDLM stands on the Hub (`config.json` and `model.safetensors`), with or
//! without `backbone.` before every name. Folders that `submask export` wrote are read as well.

use std::fs;
use std::path::Path;

use super::facts::Facts;
use super::foreign::{Container, Foreign, Format, Found, strip_common};
use super::safetensors::SafetensorsFile;
use crate::model::{CONFIG_FILE, ModelConfig, WEIGHTS_FILE};
use crate::{Error, Result};

/// Opens a folder.
pub(super) fn open(folder: &Path) -> Result<Foreign> {
    let weights = folder.join(WEIGHTS_FILE);
    if !weights.is_file() {
        let problem =
            format!("a folder without {WEIGHTS_FILE}: give a checkpoint file, or a folder with that file");
        return Err(Error::format(folder, problem));
    }
    let is_ours = ModelConfig::is_in(folder);
    open_file(&weights, if is_ours { Format::Submask } else { Format::Mdlm })
}

/// Opens a safetensors file, with the `config.json` that stands beside one named as in a folder.
pub(super) fn open_file(path: &Path, format: Format) -> Result<Foreign> {
    let (file, mut raw) = SafetensorsFile::open(path)?;
    strip_common(&mut raw, "backbone.");
    let config = path.with_file_name(CONFIG_FILE);
    let has_config = path.file_name().is_some_and(|name| name == WEIGHTS_FILE) && config.is_file();
    let facts = if has_config {
        let text = fs::read_to_string(&config).map_err(Error::io(&config))?;
        let json = serde_json::from_str(&text).map_err(|error| Error::format(&config, error.to_string()))?;
        Facts::of_json(&json)
    } else {
        Facts::default()
    };
    let found = Found { raw, facts, ..Found::default() };
    Ok(Foreign::new(path.to_path_buf(), format, found, Container::Safetensors(file)))
}
