//! One source of settings: some keys, and where they stood.

use std::fmt::Display;
use std::path::{Path, PathBuf};

use submask::train::SETTINGS_FILE;
use submask::train::settings::RunSettings;
use toml::{Table, Value};

use super::keys;
use crate::failure::Failure;

/// Where a key stood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A settings file.
    File(PathBuf),
    /// A flag with its value.
    Flag(String),
}

impl Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(path) => write!(f, "in {}", path.display()),
            Self::Flag(text) => write!(f, "in {text}"),
        }
    }
}

/// Keys from one place.
#[derive(Clone, Debug)]
pub struct Layer {
    /// The place.
    pub origin: Origin,
    /// The keys, in sections.
    pub table: Table,
}

impl Layer {
    /// A single key.
    pub fn one(origin: Origin, key: &str, value: Value) -> Self {
        let mut table = Table::new();
        keys::put(&mut table, key, value);
        Self { origin, table }
    }

    /// A settings file.
    pub fn read(path: &Path) -> Result<Self, Failure> {
        let text = std::fs::read_to_string(path).map_err(|error| {
            Failure::usage(format!("cannot read the settings {}: {error}", path.display()))
        })?;
        let table = text.parse().map_err(|error: toml::de::Error| {
            let problem = error.to_string();
            Failure::usage(format!("{} is not valid TOML: {}", path.display(), problem.trim_end()))
        })?;
        Ok(Self { origin: Origin::File(path.to_path_buf()), table })
    }

    /// The settings of a run. Keys that earlier versions lacked get the values that say what those versions did, so that
    /// the run finds the data that it began with.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn of_run(run: &Path) -> Result<Self, Failure> {
        let Self { origin, table } = Self::read(&run.join(SETTINGS_FILE))?;
        let mut table = RunSettings::upgraded(table.clone()).unwrap_or(table);
        if keys::get(&table, "data.kind").and_then(Value::as_str) == Some("images") {
            let formats = ["png", "jpeg", "webp", "bmp"].map(Value::from).to_vec();
            let earlier =
                [("data.official_split", Value::from(false)), ("data.formats", Value::Array(formats))];
            for (key, value) in earlier {
                if keys::get(&table, key).is_none() {
                    keys::put(&mut table, key, value);
                }
            }
        }
        // Other keys have the earlier behaviour as their default, which a preset's values would hide.
        let whole = RunSettings::from_table(table.clone()).ok().and_then(|run| Table::try_from(run).ok());
        Ok(Self { origin, table: whole.unwrap_or(table) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_on_images_keeps_to_what_its_version_read() {
        let folder = tempfile::tempdir().unwrap();
        let of = |text: &str| {
            std::fs::write(folder.path().join(SETTINGS_FILE), text).unwrap();
            let table = Layer::of_run(folder.path()).unwrap().table;
            let data = table["data"].as_table().unwrap().clone();
            (data.get("official_split").cloned(), data.get("formats").cloned())
        };
        let earlier: Value = Value::Array(["png", "jpeg", "webp", "bmp"].map(Value::from).to_vec());
        assert_eq!(of("[data]\nkind = 'images'"), (Some(Value::from(false)), Some(earlier)));
        let now = "[data]\nkind = 'images'\nofficial_split = true\nformats = ['gif']";
        assert_eq!(of(now), (Some(Value::from(true)), Some(Value::Array(vec!["gif".into()]))));
        assert_eq!(of("[data]\nkind = 'text'"), (None, None));
    }

    #[test]
    fn a_run_keeps_what_its_version_did_where_a_key_is_new() {
        let folder = tempfile::tempdir().unwrap();
        let preset = include_str!("../../presets/dictionary.toml").lines();
        let earlier: Vec<&str> = preset.filter(|line| !line.starts_with("edition")).collect();
        std::fs::write(folder.path().join(SETTINGS_FILE), earlier.join("\n")).unwrap();
        let table = Layer::of_run(folder.path()).unwrap().table;
        assert_eq!(keys::get(&table, "data.edition"), Some(&Value::from(1)));
    }
}
