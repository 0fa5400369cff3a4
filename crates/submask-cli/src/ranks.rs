//! The processes that MPI has started to train together.

use std::time::Duration;

use submask::train::Summary;
use submask::train::exchange::{Ranks, Traffic};

use crate::failure::{Exit, Failure};
use crate::notes;

/// Variables in which launchers say how many processes they have started: Open MPI, MPICH and Intel MPI, MVAPICH, Slurm. That of
/// Slurm is of steps (`srun`), not of the script that starts them.
const SIZE: [&str; 4] = ["OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE", "SLURM_STEP_NUM_TASKS"];

/// Variables in which they say which of them this is, in the same order.
const RANK: [&str; 4] = ["OMPI_COMM_WORLD_RANK", "PMI_RANK", "MV2_COMM_WORLD_RANK", "SLURM_PROCID"];

/// How long a rank waits with what went wrong, so that what all ranks find is said by the first one only.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long ending all ranks may take.
const GRACE: Duration = Duration::from_secs(20);

/// The number in the first of some variables that has one.
fn number(names: &[&str]) -> Option<usize> {
    names.iter().find_map(|name| std::env::var(name).ok()?.parse().ok())
}

/// How many processes a launcher has started, where it says so.
fn launched() -> Option<usize> {
    number(&SIZE)
}

/// Waits with what all processes find that are not connected, unless this is the first.
fn let_the_first_speak() {
    if number(&RANK).is_some_and(|rank| rank > 0) {
        std::thread::sleep(PATIENCE);
    }
}

/// Joins the other ranks; one that is not heard of for `timeout` seconds is lost, and `hint` says what then.
///
/// # Errors
/// Of another MPI than the launcher's.
#[cfg(feature = "mpi")]
pub fn join(timeout: u64, hint: &'static str) -> Result<Ranks, Failure> {
    let is_started = launched().is_some() || std::env::var_os("PMIX_RANK").is_some();
    if !is_started {
        return Ok(Ranks::alone());
    }
    let lost = move |error: &submask::Error| i32::from(Failure::failed(error).hint(hint).report());
    let ranks = submask_mpi::join(Duration::from_secs(timeout), launched(), lost);
    Ok(ranks.inspect_err(|_| let_the_first_speak())?)
}

/// The only rank: this program was built without others.
///
/// # Errors
/// Where a launcher has started several processes, each of which would train by itself, in the same folder.
#[cfg(not(feature = "mpi"))]
pub fn only() -> Result<Ranks, Failure> {
    match launched() {
        Some(count) if count > 1 => {
            let what =
                format!("{count} processes were started to train together, and this program trains by one");
            let hint = "build it for MPI: cargo build --release --features mpi (docs/clusters.md)";
            let_the_first_speak();
            Err(Failure::usage(what).hint(hint))
        }
        _ => Ok(Ranks::alone()),
    }
}

/// Leaves the other ranks where all are done, and ends them where this one has failed: they wait for it. Calls `last` before
/// they are ended.
///
/// # Errors
/// What was `done`.
pub fn leave(ranks: &Ranks, done: Result<(), Failure>, last: impl FnOnce()) -> Result<(), Failure> {
    let failure = match done {
        Err(failure) if !matches!(failure.exit(), Exit::Stopped | Exit::OutputClosed) => failure,
        done => {
            ranks.close()?;
            return done;
        }
    };
    if ranks.count() == 1 {
        return Err(failure);
    }
    if matches!(failure.error(), Some(submask::Error::Lost { .. })) {
        // It has been said, and all ranks are being ended.
        std::thread::sleep(GRACE);
    }
    let failure = match ranks.is_first() {
        true => failure,
        false => {
            std::thread::sleep(PATIENCE);
            failure.context(format!("rank {}", ranks.rank()))
        }
    };
    let code = failure.report();
    last();
    ranks.abort(code);
    Err(failure)
}

/// Says what the ranks have sent each other, where there are several.
pub fn report(summary: &Summary) {
    let ranks = summary.traffic.len();
    if ranks == 1 {
        return;
    }
    let all: Traffic = summary.traffic.iter().copied().sum();
    let most = summary.traffic.iter().map(|rank| rank.of_steps()).max().unwrap_or(0);
    let Traffic { sums, weights, numbers, other } = all;
    let line = format!(
        "{ranks} ranks sent {} bytes in steps (sums {sums}, weights {weights}, numbers {numbers}; by one rank at most {most}), \
         {other} otherwise\n",
        all.of_steps()
    );
    notes::write(&line);
}
