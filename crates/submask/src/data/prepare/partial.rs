//! A folder that is filled beside its place and takes it when it is whole.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::durable::sync_parent;
use crate::error::{Error, Result};

/// What its process holds locked, so that others see whether it still fills the folder.
const LOCK: &str = ".lock";

/// The folder beside the wanted one that is filled first, and removed unless it was renamed.
pub(super) struct PartialFolder {
    /// Where it is filled.
    pub(super) path: PathBuf,
    lock: Option<File>,
}

impl PartialFolder {
    /// An empty one. Those that killed processes left for the same place are removed.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Invalid`] for a path without a name.
    pub(super) fn create(folder: &Path) -> Result<Self> {
        let path = beside(folder, "partial")?;
        remove_abandoned(folder);
        loop {
            if path.exists() {
                fs::remove_dir_all(&path).map_err(Error::io(&path))?;
            }
            fs::create_dir_all(&path).map_err(Error::io(&path))?;
            let lock = File::create(path.join(LOCK)).map_err(Error::io(&path))?;
            // Where files cannot be locked, nobody takes this one for abandoned, either. Who did so before it was locked has
            // removed the folder by now.
            let _ = lock.lock();
            if path.join(LOCK).exists() {
                return Ok(Self { path, lock: Some(lock) });
            }
        }
    }

    /// Takes the place of `folder`, which is moved aside before and removed after.
    pub(super) fn rename_to(mut self, folder: &Path) -> Result<()> {
        let lock = self.path.join(LOCK);
        fs::remove_file(&lock).map_err(Error::io(&lock))?;
        self.lock = None;
        let old = beside(folder, "old")?;
        let replaces = folder.exists();
        if replaces {
            fs::rename(folder, &old).map_err(Error::io(folder))?;
        }
        let renamed = fs::rename(&self.path, folder).and_then(|()| sync_parent(folder));
        if let Err(source) = renamed {
            if replaces {
                fs::rename(&old, folder).map_err(Error::io(folder))?;
            }
            return Err(Error::io(folder)(source));
        }
        if replaces {
            fs::remove_dir_all(&old).map_err(Error::io(&old))?;
        }
        Ok(())
    }
}

impl Drop for PartialFolder {
    fn drop(&mut self) {
        // After the rename there is nothing here; nothing more can be done where removing fails.
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// Removes the partial folders for `folder` that no process fills any more.
fn remove_abandoned(folder: &Path) {
    let (Some(parent), Some(name)) = (folder.parent(), folder.file_name()) else { return };
    let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
    let start = format!(".{}.partial-", name.to_string_lossy());
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        if !entry.file_name().to_string_lossy().starts_with(&start) {
            continue;
        }
        let Ok(lock) = File::options().write(true).open(entry.path().join(LOCK)) else { continue };
        // It stays locked while the folder goes, so that whoever has just made the folder waits, and makes another.
        if lock.try_lock().is_ok() {
            // Nothing more can be done where removing fails.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// A hidden name beside `folder`, of this process alone.
fn beside(folder: &Path, what: &str) -> Result<PathBuf> {
    let Some(name) = folder.file_name() else {
        return Err(Error::invalid("folder", folder.display(), "a path that ends in a name"));
    };
    Ok(folder.with_file_name(format!(".{}.{what}-{}", name.to_string_lossy(), std::process::id())))
}

/// Writes a whole file and makes it last.
pub(super) fn write_file(path: &Path, bytes: &[u8]) -> Result<()> {
    let written = File::create(path).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    written.map_err(Error::io(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// However it interleaves with others that look for what was left.
    #[test]
    fn folders_that_are_made_at_once_do_not_remove_each_other() {
        let parent = tempfile::tempdir().unwrap();
        let place = parent.path().join("data");
        std::thread::scope(|scope| {
            scope.spawn(|| (0..2000).for_each(|_| remove_abandoned(&place)));
            for _ in 0..200 {
                let partial = PartialFolder::create(&place).unwrap();
                fs::write(partial.path.join("train.tokens"), "x").unwrap();
                assert!(partial.path.join(LOCK).exists());
            }
        });
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_a_killed_process_left_is_removed_and_what_is_being_filled_stays() {
        let parent = tempfile::tempdir().unwrap();
        let place = parent.path().join("data");
        let left = parent.path().join(".data.partial-0");
        let filled = parent.path().join(".data.partial-1");
        let other = parent.path().join(".data2.partial-0");
        for folder in [&left, &filled, &other] {
            fs::create_dir(folder).unwrap();
            File::create(folder.join(LOCK)).unwrap();
            File::create(folder.join("train.tokens")).unwrap();
        }
        let lock = File::open(filled.join(LOCK)).unwrap();
        lock.lock().unwrap();
        let partial = PartialFolder::create(&place).unwrap();
        assert!(!left.exists() && filled.exists() && other.exists());
        fs::write(partial.path.join("train.tokens"), "x").unwrap();
        partial.rename_to(&place).unwrap();
        let names: Vec<_> = fs::read_dir(&place).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["train.tokens"]);
        drop(lock);
        drop(PartialFolder::create(&place).unwrap());
        assert!(!filled.exists() && place.exists());
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 2);
    }
}
