//! What a model is of, as far as the program is concerned: text, images, points. What differs from one to the other
//! stands here: what is given, what is evaluated, how samples are shown, which data a run needs.

pub mod given;
mod held_out_images;
mod held_out_text;
mod pictures;
mod text;
mod text_stream;

use std::path::Path;

use serde::{Deserialize, Serialize};
use submask::model::{
    Architecture, Generated, HeldOut, HeldOutShare, ModelConfig, Passage, Session, Subject, TextPrompt,
};
use submask::shard::Shard;
use submask::train::settings::{RunData, RunSettings};
use toml::Table;

use crate::args::{EvalArgs, SampleArgs};
use crate::commands::sample::Shown;
use crate::failure::Failure;
use crate::format::counted;
pub use held_out_images::{Wanted, held_out as held_out_images};
pub use held_out_text::spread;

/// What a model is of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    #[default]
    Text,
    Image,
    Point,
}

/// What is evaluated: all, or a share of it.
pub struct Part {
    pub parts: Parts,
    /// What it is called.
    pub name: String,
    /// Documents of which there is something in all of it, where they are known.
    pub documents: Option<u64>,
    /// What it is a share of.
    pub whole: Option<Whole>,
}

/// All of which a share is evaluated.
#[derive(Clone, Copy, Debug)]
pub struct Whole {
    /// Sequences or documents.
    pub count: u64,
    /// A hash of them, or of the files that they are chosen from.
    pub fingerprint: u64,
}

/// Sequences of the model's length, or documents that stand alone.
pub enum Parts {
    Sequences(HeldOutShare<'static>),
    /// Those from a number on.
    Documents {
        first: u64,
        passages: Vec<Passage>,
    },
}

impl Parts {
    /// How many there are, in words.
    pub fn count(&self) -> String {
        match self {
            Self::Sequences(share) => counted(share.places().len() as u64, "sequence"),
            Self::Documents { passages, .. } => counted(passages.len() as u64, "document"),
        }
    }
}

impl Part {
    /// Sequences that are in memory, or a share of them. `classes` are those that the network reads.
    pub fn of_sequences(
        sequences: HeldOut,
        name: String,
        classes: Option<usize>,
        shard: Option<Shard>,
    ) -> Result<Self, Failure> {
        // What is nothing is refused, and an empty share is not.
        sequences.sequences()?;
        let count = || sequences.places(classes).len() as u64;
        let whole = shard.map(|_| Whole { count: count(), fingerprint: sequences.fingerprint() });
        let share = sequences.into_share(shard.unwrap_or(Shard::WHOLE), classes);
        Ok(Self { parts: Parts::Sequences(share), name, documents: None, whole })
    }
}

/// What is evaluated, once the model is there: all, or a share.
pub type Chosen<'a> = Box<dyn FnOnce(&Architecture, Option<Shard>) -> Result<Part, Failure> + 'a>;

/// What differs from subject to subject.
pub trait Door {
    /// The digits that are given, [L·ℓ].
    fn prompt(
        &self,
        args: &SampleArgs,
        prompt: Option<&TextPrompt>,
        session: &Session,
    ) -> Result<Vec<Option<u32>>, Failure>;

    /// What is evaluated: what is given, or what the run of the model folder held out.
    fn held_out<'a>(
        &self,
        args: &'a EvalArgs,
        folder: &'a Path,
        config: &ModelConfig,
    ) -> Result<Chosen<'a>, Failure>;

    /// Writes what was generated.
    fn show(&self, shown: &Shown, generated: Generated) -> Result<(), Failure>;

    /// What would otherwise be found out only after data have been read. `named`: whether the user named the data;
    /// `preset`: what the run began with, and whether its data have to be given.
    fn check_data(&self, settings: &RunSettings, named: bool, preset: (&str, bool)) -> Result<(), Failure>;

    /// Whether a run that is resumed needs nothing but its own folder.
    fn keeps_its_data(&self) -> bool;
}

impl Kind {
    /// That of a model.
    pub fn of(config: &ModelConfig) -> Result<Self, Failure> {
        match &config.subject {
            Subject::Text(_) => Ok(Self::Text),
            Subject::Image(_) => Ok(Self::Image),
            Subject::Point(_) => Ok(Self::Point),
            other => Err(Failure::failed(format!("this program knows no models of {}", other.name()))),
        }
    }

    /// That of a run.
    pub fn of_run(settings: &RunSettings) -> Result<Self, Failure> {
        match &settings.data {
            RunData::Text(_) => Ok(Self::Text),
            RunData::Images(_) => Ok(Self::Image),
            RunData::Density(_) => Ok(Self::Point),
            _ => Err(Failure::failed("this program knows no runs on such data")),
        }
    }

    /// As `data.kind` has it in settings.
    pub fn data_kind(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Image => "images",
            Self::Point => "density",
        }
    }

    /// What the settings in a table learn, if they name their data or their network.
    pub fn in_settings(table: &Table) -> Option<Self> {
        let name = |section: &str, key: &str| table.get(section)?.get(key)?.as_str();
        let all = [Self::Text, Self::Image, Self::Point];
        if let Some(data) = name("data", "kind") {
            return all.into_iter().find(|kind| kind.data_kind() == data);
        }
        // Files of earlier versions, and those of a user, may name the network alone.
        match name("model", "network")? {
            "unet" => Some(Self::Image),
            "toy" => Some(Self::Point),
            _ => Some(Self::Text),
        }
    }

    /// In words.
    pub fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Image => "images",
            Self::Point => "points",
        }
    }

    /// What the program does with it.
    pub fn door(self) -> &'static dyn Door {
        match self {
            Self::Text => &text::Texts,
            Self::Image | Self::Point => &pictures::Pictures,
        }
    }
}
