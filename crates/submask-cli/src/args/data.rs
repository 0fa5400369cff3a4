//! Arguments of `submask data`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{SettingsArgs, ShardArgs};

/// Prepare and describe corpora
#[derive(Args, Debug)]
pub struct DataArgs {
    #[command(subcommand)]
    pub command: DataCommand,
}

/// The verbs of `submask data`.
#[derive(Debug, Subcommand)]
pub enum DataCommand {
    Prepare(PrepareArgs),
    Info(DataInfoArgs),
}

/// Tokenize a corpus once, for runs to share
///
/// Trains the tokenizer where the settings ask for one, and writes token shards for training and
/// validation. Train on them by submask train --data FOLDER.
#[derive(Args, Debug)]
pub struct PrepareArgs {
    #[command(flatten)]
    pub settings: SettingsArgs,
    /// Folder to write
    #[arg(long, value_name = "FOLDER")]
    pub out: PathBuf,
    /// Replace a folder that was prepared from other files or with other settings
    #[arg(long)]
    pub rebuild: bool,
    #[command(flatten)]
    pub shard: ShardArgs,
}

/// Describe a prepared folder, or count the documents of a corpus
#[derive(Args, Debug)]
pub struct DataInfoArgs {
    /// Prepared folders, token shards, text files or folders, or - [default: the built-in dictionary]
    #[arg(value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// Read all tokens and compare them with their checksums
    #[arg(long)]
    pub verify: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}
