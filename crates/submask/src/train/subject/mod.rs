//! What a run learns: text, images, points of a density. What differs from one to the other while training stands here.

mod image;
mod image_stamp;
mod point;
mod text;
mod text_settings;

use std::path::Path;

use serde::{Deserialize, Serialize};

pub use image::{ImageData, ImageParts, ImageSetChoice};
pub use image_stamp::{IMAGES_FILE, ImageStamp};
pub use point::DensityData;
pub use text_settings::{TextData, TokenizerChoice, TokenizerSettings};

use super::event::Observer;
use super::run::RunRequest;
use super::settings::RunSettings;
use crate::Result;
use crate::data::{Batcher, Dataset, Fidelity};
use crate::model::{Architecture, Generated, HeldOut, ModelConfig, Subject};

/// What is learnt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum RunData {
    /// A corpus of text.
    Text(TextData),
    /// A set of images.
    Images(ImageData),
    /// Points whose density is a picture.
    Density(DensityData),
}

/// What differs from subject to subject.
pub(super) trait Learnt {
    /// Checks what can be checked without files; returns what the tokens mean where that is known without them. What is
    /// not, such as a vocabulary that a corpus makes, is filled in so that the sizes of a network can be checked.
    ///
    /// # Errors
    /// [`Error::Invalid`](crate::Error::Invalid) naming the key, the value and what is allowed.
    fn check(&self, settings: &RunSettings) -> Result<Option<Subject>>;

    /// Opens the data and puts the network together; a run that is resumed must find the same as when it began, and so must
    /// a process that `joins` one which has opened them already. It writes nothing.
    ///
    /// # Errors
    /// Files and settings that do not go together.
    fn open(&self, request: &RunRequest, joins: bool, observer: &mut dyn Observer) -> Result<Opened>;
}

/// The data of a run, and the network that learns from them.
pub(super) struct Opened {
    pub architecture: Architecture,
    pub batcher: Batcher,
    pub held_out: Box<dyn HeldOutData>,
    /// What the tokenizer of text did to its documents, where that had to be asked.
    pub fidelity: Option<Fidelity>,
    /// Tokens to train on; `None` where there is no end of them.
    pub train_tokens: Option<u64>,
    /// Tokens held out; `None` likewise.
    pub valid_tokens: Option<u64>,
}

/// What a run does not learn from, and how samples are shown beside it.
pub(super) trait HeldOutData {
    /// Sequences spread evenly over all; `count` 0: all.
    ///
    /// # Errors
    /// What reading reports.
    fn sequences(&self, config: &ModelConfig, count: u64) -> Result<HeldOut>;

    /// What is given to at most `count` samples, [L·ℓ] of each, where nothing given is not what the model learns; empty where
    /// it is.
    ///
    /// # Errors
    /// What reading reports.
    fn prompts(&self, _: &Architecture, _count: usize) -> Result<Vec<Vec<Option<u32>>>> {
        Ok(Vec::new())
    }

    /// The texts of samples; or the path of the picture `path`, into which they are drawn.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io) naming the file.
    fn show(&self, config: &ModelConfig, generated: Generated, path: &Path) -> Result<Vec<String>>;
}

impl RunData {
    pub(super) fn learnt(&self) -> &dyn Learnt {
        match self {
            Self::Text(text) => text,
            Self::Images(images) => images,
            Self::Density(density) => density,
        }
    }

    /// The corpus of text that it is, if it is one.
    pub fn text(&self) -> Option<&TextData> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The set of images that it is, if it is one.
    pub fn images(&self) -> Option<&ImageData> {
        match self {
            Self::Images(images) => Some(images),
            _ => None,
        }
    }

    /// The density that it is, if it is one.
    pub fn density(&self) -> Option<&DensityData> {
        match self {
            Self::Density(density) => Some(density),
            _ => None,
        }
    }
}

/// Tokens of all sequences; `None` where there is no end of them.
fn sequences_tokens(data: &dyn Dataset) -> Option<u64> {
    data.epoch_len().map(|sequences| sequences * data.seq_len() as u64)
}
