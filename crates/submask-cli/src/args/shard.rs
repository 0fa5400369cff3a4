//! Arguments of verbs whose work several processes can share, and of `submask merge`.

use std::path::PathBuf;

use clap::Args;
use submask::shard::Shard;

/// Which share of the work is done.
#[derive(Args, Clone, Debug, Default, PartialEq)]
#[command(next_help_heading = "Several processes")]
pub struct ShardArgs {
    /// Do share i of n, from 0/n to (n−1)/n, and write it to a file; `submask merge` makes of the files of all shares
    /// what one call without --shard gives
    #[arg(long, value_name = "i/n")]
    pub shard: Option<Shard>,
    /// File for the share [default: VERB-i-of-n.part]
    #[arg(long, value_name = "FILE", requires = "shard")]
    pub shard_file: Option<PathBuf>,
    /// Whether the file is of ranks that put their shares together themselves, so that nobody is told of it.
    #[arg(skip)]
    pub among_ranks: bool,
}

impl ShardArgs {
    /// Whether others say what there is to say: this is not the first of several ranks.
    pub fn is_quiet(&self) -> bool {
        self.among_ranks && self.shard.is_some_and(|shard| shard.index() > 0)
    }
}

/// Put together what calls with --shard computed
///
/// Gives what one call without --shard gives, to the last bit: on standard output and in files. Takes the files of all
/// shares, in any order.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct MergeArgs {
    /// Files of all shares
    #[arg(value_name = "PART", required = true)]
    pub parts: Vec<PathBuf>,
}

const EXAMPLES: &str = "\
Examples:
  for i in 0 1 2 3; do submask eval runs/mine --json --shard $i/4 & done; wait
  submask merge eval-*-of-4.part";
