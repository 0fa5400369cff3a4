//! One source of settings: some keys, and where they stood.

use std::fmt::Display;
use std::path::{Path, PathBuf};

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
}
