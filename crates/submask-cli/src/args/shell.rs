//! Arguments of `submask completions` and `submask man`.

use std::path::PathBuf;

use clap::Args;
use clap_complete::Shell;

/// Print what lets a shell complete verbs, flags and their values
///
/// It is made of the same definition as --help, so that it knows what this version knows. Write it where the shell looks
/// for completions, and start a new shell.
#[derive(Args, Debug)]
#[command(after_help = COMPLETIONS_EXAMPLES)]
pub struct CompletionsArgs {
    /// For which shell
    #[arg(value_enum)]
    pub shell: Shell,
}

const COMPLETIONS_EXAMPLES: &str = "\
Examples:
  submask completions bash > ~/.local/share/bash-completion/completions/submask
  submask completions zsh > ~/.zfunc/_submask          # with ~/.zfunc in fpath, before compinit
  submask completions fish > ~/.config/fish/completions/submask.fish
  submask completions powershell >> $PROFILE";

/// Print a manual page, or write all of them
///
/// Pages are made of the same definition as --help, in the format that man reads.
#[derive(Args, Debug)]
#[command(after_help = MAN_EXAMPLES)]
pub struct ManArgs {
    /// Verb whose page to print, such as train, or data prepare [default: the page of submask itself]
    #[arg(value_name = "VERB", conflicts_with = "out")]
    pub verb: Vec<String>,
    /// Folder to write the pages of all verbs to; it is made if it does not exist, and pages of an earlier version are replaced
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}

const MAN_EXAMPLES: &str = "\
Examples:
  submask man | man -l -
  submask man data prepare | man -l -
  submask man --out ~/.local/share/man/man1";
