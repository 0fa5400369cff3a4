//! Shares of a verb's work in files of their own, and what all of them say alike.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use submask::Model;
use submask::model::Session;
use submask::parts::{self, Description, Records};
use submask::shard::Shard;

use crate::args::ShardArgs;
use crate::failure::Failure;
use crate::output;

/// The model, and how it is computed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ModelFacts {
    /// Its folder, as results name it.
    pub folder: String,
    /// Fingerprint of its configuration, its tokenizer and its codes.
    pub architecture: String,
    /// Fingerprint of its weights.
    pub weights: String,
    /// What the last bits depend on.
    pub arithmetic: String,
}

impl ModelFacts {
    /// Those of a model and its session.
    pub fn of(folder: &Path, model: &Model, session: &Session) -> Result<Self, Failure> {
        Ok(Self {
            folder: folder.display().to_string(),
            architecture: fingerprint(model.architecture().fingerprint()?),
            weights: fingerprint(model.weights_fingerprint()),
            arithmetic: session.compute().arithmetic(),
        })
    }
}

/// As it stands in facts: numbers of JSON lose digits in many programs.
pub fn fingerprint(value: u64) -> String {
    format!("{value:016x}")
}

/// The items that several processes share.
pub struct Items {
    /// How many all shares have together.
    pub count: u64,
    /// What they are, in the plural.
    pub unit: &'static str,
}

/// The file for a share.
pub fn path(args: &ShardArgs, shard: Shard, verb: &str) -> PathBuf {
    let name = || format!("{}-{}-of-{}.part", verb.replace(' ', "-"), shard.index(), shard.count()).into();
    args.shard_file.clone().unwrap_or_else(name)
}

/// Writes the file of a share, whose records `fill` pushes and whose facts it gives, and prints its path.
pub fn write<F: Serialize>(
    (args, shard): (&ShardArgs, Shard),
    verb: &str,
    items: &Items,
    facts: &F,
    fill: impl FnOnce(&mut Records) -> submask::Result<()>,
    own: &[(&str, u64)],
) -> Result<(), Failure> {
    let path = path(args, shard, verb);
    parts::write(&path, |records| {
        fill(records)?;
        let description = Description::new(verb, shard, items.count, items.unit, facts)?;
        Ok(own.iter().fold(description, |description, (name, value)| description.with_own(name, *value)))
    })?;
    say_written(args, &path)
}

/// Prints the path of a share to whoever merges it.
pub fn say_written(args: &ShardArgs, path: &Path) -> Result<(), Failure> {
    if args.among_ranks { Ok(()) } else { output::write(&format!("{}\n", path.display())) }
}
