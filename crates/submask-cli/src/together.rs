//! A call that the ranks that MPI has started make together: each does its share, and the first one puts the shares together.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use submask::shard::{Peers, Shard};
use submask::train::exchange::Ranks;

use crate::args::{MergeArgs, ShardArgs};
use crate::commands::merge;
use crate::failure::Failure;
use crate::ranks;

/// Does `work` as one process does it. Where MPI has started several, each does its share, which is written to where `shard` finds it in
/// the arguments, and rank 0 gives the result of the whole. Until then their shares stand in a folder in `beside`.
///
/// # Errors
/// Of the work, and of the connection.
pub fn share<A>(
    mut args: A,
    shard: impl FnOnce(&mut A) -> &mut ShardArgs,
    (verb, beside): (&str, impl AsRef<Path>),
    work: impl FnOnce(&A) -> Result<(), Failure>,
) -> Result<(), Failure> {
    match Together::join(shard(&mut args), verb, beside.as_ref())? {
        Some(together) => together.finish(work(&args)),
        None => work(&args),
    }
}

/// The ranks of a call.
struct Together {
    ranks: Ranks,
    /// Holds their shares until they are put together; none where there is one rank.
    folder: Option<PathBuf>,
}

impl Together {
    /// Joins the other ranks, if MPI has started this process and nobody has said which share it does. `args` then say it, and
    /// name a file for it in a new folder in `beside`, which all ranks see. `None` for a process of its own.
    ///
    /// # Errors
    /// Of the connection, and of the folder.
    fn join(args: &mut ShardArgs, verb: &str, beside: &Path) -> Result<Option<Self>, Failure> {
        if args.shard.is_some() {
            return Ok(None);
        }
        let ranks =
            ranks::join(submask_mpi::TIMEOUT, "the other ranks are ended; the same command begins anew")?;
        if ranks.count() == 1 {
            return Ok(Some(Self { ranks, folder: None }));
        }
        let since = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default().as_nanos();
        let own = beside.join(format!(".submask-{}-{}-{since}", verb.replace(' ', "-"), std::process::id()));
        let made = if ranks.is_first() { make(beside, &own) } else { Ok(()) };
        let names = ranks.all(own.display().to_string().into_bytes())?;
        let folder = PathBuf::from(String::from_utf8_lossy(&names[0]).into_owned());
        let is_missing = !folder.is_dir();
        let together = Self { ranks, folder: Some(folder.clone()) };
        let unseen = || {
            let problem =
                format!("{} is not seen by all ranks, which leave their shares there", folder.display());
            Failure::failed(problem).hint("start all ranks in a folder that all of them see")
        };
        // All of them hear of it, before any has begun.
        let prepared = match together.ranks.any(is_missing)? {
            true => made.and_then(|()| Err(unseen())),
            false => made,
        };
        if prepared.is_err() {
            return together.finish(prepared).map(|()| None);
        }
        args.shard = Shard::all(together.ranks.count() as u64).nth(together.ranks.rank());
        args.shard_file = Some(folder.join(format!("{}.part", together.ranks.rank())));
        args.among_ranks = true;
        Ok(Some(together))
    }

    /// Waits for all shares, of which the own one is `done`, and has rank 0 put them together.
    ///
    /// # Errors
    /// What was done, and of putting together; all ranks are then ended.
    fn finish(self, done: Result<(), Failure>) -> Result<(), Failure> {
        let remove = || {
            // Others may have done so.
            let _ = self.folder.as_ref().map(fs::remove_dir_all);
        };
        let done = done.and_then(|()| self.merge());
        if done.is_ok() && self.ranks.is_first() {
            remove();
        }
        ranks::leave(&self.ranks, done, remove)
    }

    fn merge(&self) -> Result<(), Failure> {
        let Some(folder) = &self.folder else { return Ok(()) };
        self.ranks.barrier()?;
        if !self.ranks.is_first() {
            return Ok(());
        }
        let parts = (0..self.ranks.count()).map(|rank| folder.join(format!("{rank}.part"))).collect();
        merge::run(&MergeArgs { parts })
    }
}

/// Makes a folder that is not there, and what it stands in.
fn make(beside: &Path, folder: &Path) -> Result<(), Failure> {
    if !beside.as_os_str().is_empty() {
        fs::create_dir_all(beside).map_err(submask::Error::io(beside))?;
    }
    Ok(fs::create_dir(folder).map_err(submask::Error::io(folder))?)
}
