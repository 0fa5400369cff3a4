//! A folder that is filled beside its place and takes it when it is whole.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::durable::sync_parent;
use crate::error::{Error, Result};

/// The folder beside the wanted one that is filled first, and removed unless it was renamed.
pub(super) struct PartialFolder {
    /// Where it is filled.
    pub(super) path: PathBuf,
}

impl PartialFolder {
    /// An empty one.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Invalid`] for a path without a name.
    pub(super) fn create(folder: &Path) -> Result<Self> {
        let path = beside(folder, "partial")?;
        if path.exists() {
            fs::remove_dir_all(&path).map_err(Error::io(&path))?;
        }
        fs::create_dir_all(&path).map_err(Error::io(&path))?;
        Ok(Self { path })
    }

    /// Takes the place of `folder`, which is moved aside before and removed after.
    pub(super) fn rename_to(self, folder: &Path) -> Result<()> {
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
