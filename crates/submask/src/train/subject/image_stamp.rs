//! What images a run was begun on.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::data::Dataset;
use crate::durable::write_atomically;
use crate::{Error, Result};

/// File of a run on images with the numbers of its images and a hash of them.
pub const IMAGES_FILE: &str = "images.json";

/// The contents of [`IMAGES_FILE`]. What is held out depends on all images: where one is added or changed, the same
/// settings would hold out others, of which some were trained on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageStamp {
    /// Images to train on.
    pub train: usize,
    /// Images held out.
    pub valid: usize,
    /// Hash of the training images and labels, 16 hexadecimal digits.
    pub train_fingerprint: String,
    /// Hash of the held-out images and labels, likewise.
    pub valid_fingerprint: String,
}

impl ImageStamp {
    /// Of these images.
    pub fn of(train: &dyn Dataset, valid: &dyn Dataset) -> Self {
        let count = |images: &dyn Dataset| images.epoch_len().unwrap_or(0) as usize;
        let fingerprint = |images: &dyn Dataset| format!("{:016x}", images.fingerprint());
        Self {
            train: count(train),
            valid: count(valid),
            train_fingerprint: fingerprint(train),
            valid_fingerprint: fingerprint(valid),
        }
    }

    /// Writes it into the folder of a run.
    ///
    /// # Errors
    /// [`Error::Io`] naming the file.
    pub fn write(&self, run: &Path) -> Result<()> {
        let path = run.join(IMAGES_FILE);
        let json =
            serde_json::to_vec_pretty(self).map_err(|error| Error::format(&path, error.to_string()))?;
        write_atomically(&path, &json)
    }

    /// That the run in this folder was begun on the same images.
    ///
    /// # Errors
    /// [`Error::Io`], and [`Error::Format`] for other images or a damaged file.
    pub fn check(&self, run: &Path) -> Result<()> {
        let path = run.join(IMAGES_FILE);
        let text = fs::read(&path).map_err(Error::io(&path))?;
        let begun: Self =
            serde_json::from_slice(&text).map_err(|error| Error::format(&path, error.to_string()))?;
        if begun == *self {
            return Ok(());
        }
        let problem = format!(
            "the run was begun on other images: {} to train on ({}) and {} held out ({}); now there are {} ({}) and {} ({})",
            begun.train,
            begun.train_fingerprint,
            begun.valid,
            begun.valid_fingerprint,
            self.train,
            self.train_fingerprint,
            self.valid,
            self.valid_fingerprint,
        );
        Err(Error::format(&path, problem))
    }
}
