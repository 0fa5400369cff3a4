//! The program `submask`: train, evaluate and sample discrete diffusion models with partial masking.
//!
//! What the user typed ([`args`]) becomes validated settings ([`settings`]), and one file under
//! [`commands`] does each verb with the library. Results go to standard output, everything else to
//! standard error.

#[doc(hidden)]
pub mod allocator;
#[doc(hidden)]
pub mod args;
#[doc(hidden)]
pub mod commands;
mod compute;
mod dashboard;
#[doc(hidden)]
pub mod data_notes;
#[doc(hidden)]
pub mod failure;
mod flags;
mod format;
mod json_lines;
#[doc(hidden)]
pub mod locate;
mod metrics;
#[doc(hidden)]
pub mod notes;
#[doc(hidden)]
pub mod output;
mod plot;
mod present;
mod progress;
mod prompts;
mod ranks;
#[doc(hidden)]
pub mod settings;
#[doc(hidden)]
pub mod shares;
mod stop;
#[doc(hidden)]
pub mod subject;
#[cfg_attr(not(feature = "mpi"), path = "alone.rs")]
mod together;

use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::Once;

use clap::Parser;

use args::{Cli, Command, DataArgs, DataCommand};
use compute::Compute;
use failure::Failure;
use together::share as shared;

/// The whole program, as it is called by its own name.
pub fn main() -> ExitCode {
    main_of(std::env::args_os().collect()).into()
}

/// The whole program with the `words` of its command line, its name being the first. Gives the exit code; wrong words, `--help` and
/// `--version` end the process themselves.
pub fn main_of(words: Vec<OsString>) -> u8 {
    keep_quiet_about_what_is_caught();
    let done = match asks_for_samplers(&words) {
        true => commands::samplers::run(),
        false => run(Cli::parse_from(words)),
    };
    done.map_or_else(|failure| failure.report(), |()| 0)
}

/// A driver that panics while it is tried is no device, and nothing to tell of; a reader that panics on a damaged file makes
/// an error, which is told.
#[doc(hidden)]
pub fn keep_quiet_about_what_is_caught() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let say = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let is_probe = std::thread::current().name() == Some(submask::device::PROBE_THREAD);
            if !is_probe && !submask::data::panics_are_errors() {
                say(panic);
            }
        }));
    });
}

/// `submask help samplers` and `submask … --help samplers` print the list itself; earlier versions called it presets.
fn asks_for_samplers(words: &[OsString]) -> bool {
    let words = words.get(1..).unwrap_or_default();
    words.last().is_some_and(|last| last == "samplers" || last == "presets")
        && words.iter().rev().nth(1).is_some_and(|word| word == "--help" || word == "help")
}

/// Milliseconds for which memory that is not used is kept, by all that do not take the same again and again.
const KEPT: i32 = 100;
/// Those of a server: the next request may take the same, and an idle server gives it back.
#[cfg(feature = "serve")]
const KEPT_BY_SERVER: i32 = 10_000;

/// The present folder, in which ranks leave their shares for each other.
const HERE: &str = ".";

fn run(cli: Cli) -> Result<(), Failure> {
    match &cli.command {
        Command::Train(_) | Command::Sample(_) | Command::Bench(_) => allocator::keep_memory(),
        #[cfg(feature = "serve")]
        Command::Serve(_) => allocator::keep_memory_for(KEPT_BY_SERVER),
        _ => allocator::keep_memory_for(KEPT),
    }
    if let Some(threads) = cli.threads {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads.get());
        pool.build_global()
            .map_err(|error| Failure::failed(format!("cannot start {threads} threads: {error}")))?;
    }
    let compute = Compute { device: cli.device, precision: cli.precision };
    match cli.command {
        Command::Train(args) => commands::train::run(&args, compute),
        Command::Eval(args) => shared(
            args,
            |args| &mut args.shard,
            (commands::eval::VERB, HERE),
            |args| commands::eval::run(args, compute),
        ),
        Command::Score(args) => shared(
            args,
            |args| &mut args.shard,
            (commands::score::VERB, HERE),
            |args| commands::score::run(args, compute),
        ),
        Command::Sample(args) => shared(
            args,
            |args| &mut args.shard,
            (commands::sample::VERB, HERE),
            |args| commands::sample::run(args, compute),
        ),
        #[cfg(feature = "serve")]
        Command::Serve(args) => commands::serve::run(&args, compute),
        Command::Metrics(args) => shared(
            args,
            |args| &mut args.shard,
            (commands::metrics::VERB, HERE),
            |args| commands::metrics::run(args, compute),
        ),
        Command::Logits(args) => commands::logits::run(&args, compute),
        Command::Merge(args) => commands::merge::run(&args),
        Command::Data(DataArgs { command: DataCommand::Prepare(args) }) => {
            let beside = args.out.parent().unwrap_or(HERE.as_ref()).to_owned();
            shared(args, |args| &mut args.shard, (commands::data::PREPARE, &beside), commands::data::prepare)
        }
        Command::Data(DataArgs { command: DataCommand::Info(args) }) => commands::data::info(&args),
        Command::Import(args) => commands::import::run(&args),
        Command::Export(args) => commands::export::run(&args),
        Command::Info(args) => commands::info::run(&args),
        Command::Plot(args) => commands::plot::run(&args),
        Command::Bench(args) => commands::bench::run(&args, compute),
        Command::Samplers => commands::samplers::run(),
        Command::Completions(args) => commands::shell::completions(&args),
        Command::Man(args) => commands::shell::man(&args),
    }
}
