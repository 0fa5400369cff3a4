//! Which folder a run goes to. A run is never overwritten.

use std::path::{Path, PathBuf};

use submask::train::checkpoint;

use super::preset::Preset;
use crate::args::SettingsArgs;
use crate::failure::Failure;

/// The name that settings give a run: their file's, or their preset's.
pub fn default_name(args: &SettingsArgs, preset: &Preset) -> String {
    let stem = args.config.as_ref().and_then(|path| path.file_stem());
    stem.map_or_else(|| preset.name.to_owned(), |stem| stem.to_string_lossy().into_owned())
}

/// The folder given by `--out`.
pub fn given(out: &Path, resume: bool) -> Result<PathBuf, Failure> {
    let shown = out.display();
    match (resume, is_taken(out)) {
        (true, true) | (false, false) => Ok(out.to_path_buf()),
        (true, false) => Err(Failure::usage(format!("there is no run in {shown} to go on with"))
            .hint("leave out --resume to start it")
            .about("out", shown, "the folder of a run, to go on with it")),
        (false, true) => Err(Failure::usage(format!("{shown} exists already"))
            .hint(format!(
                "`submask train --out {shown} --resume` goes on with it; another --out starts anew"
            ))
            .about("out", shown, "a folder that holds nothing yet, or one of a run that is resumed")),
    }
}

/// Without `--out`: the first free of `name`, `name-2`, `name-3`, … in `parent`, or with `resume` the
/// last that is there.
pub fn default_in(parent: &Path, name: &str, resume: bool) -> Result<PathBuf, Failure> {
    let candidate = |n: u64| match n {
        1 => parent.join(name),
        n => parent.join(format!("{name}-{n}")),
    };
    let taken = (1..).take_while(|&n| is_taken(&candidate(n))).last();
    match (resume, taken) {
        (false, taken) => Ok(candidate(taken.unwrap_or(0) + 1)),
        (true, Some(n)) => Ok(candidate(n)),
        (true, None) => given(&candidate(1), true),
    }
}

/// Whether something stands there; what a run leaves that was killed before it began (before its settings were
/// written) does not count, nor does an empty folder.
fn is_taken(path: &Path) -> bool {
    let counts = |name: &str| {
        let whole = name.strip_suffix(".tmp").unwrap_or(name);
        let left = ["data", "checkpoints", "metrics.jsonl"].contains(&whole) || name == "settings.toml.tmp";
        !left && !name.starts_with('.')
    };
    match std::fs::read_dir(path) {
        Ok(entries) => {
            entries.flatten().any(|entry| counts(&entry.file_name().to_string_lossy())) || has_steps(path)
        }
        Err(_) => path.symlink_metadata().is_ok(),
    }
}

/// Whether there is a checkpoint beyond the one with which a run begins.
fn has_steps(run: &Path) -> bool {
    checkpoint::steps(run).is_ok_and(|steps| steps.iter().any(|step| *step > 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_names_count_up_and_resume_takes_the_last() {
        let parent = tempfile::tempdir().unwrap();
        let at =
            |resume| default_in(parent.path(), "a", resume).map(|path| path.file_name().unwrap().to_owned());
        assert_eq!(at(false).unwrap(), "a");
        assert!(at(true).unwrap_err().to_string().contains("leave out --resume"));
        for name in ["a", "a-2"] {
            std::fs::create_dir(parent.path().join(name)).unwrap();
            std::fs::write(parent.path().join(name).join("settings.toml"), "").unwrap();
        }
        assert_eq!((at(false).unwrap(), at(true).unwrap()), ("a-3".into(), "a-2".into()));
    }

    #[test]
    fn a_given_folder_is_never_overwritten() {
        let parent = tempfile::tempdir().unwrap();
        assert!(given(parent.path(), false).is_ok(), "an empty folder is free");
        for left in ["settings.toml.tmp", "metrics.jsonl", "metrics.jsonl.tmp"] {
            std::fs::write(parent.path().join(left), "").unwrap();
            assert!(given(parent.path(), false).is_ok(), "{left}: killed before it began");
        }
        std::fs::write(parent.path().join("x"), "").unwrap();
        assert!(given(parent.path(), false).unwrap_err().to_string().contains("--resume"));
        assert!(given(&parent.path().join("x"), false).is_err());
        assert!(given(parent.path(), true).is_ok());
    }
}
