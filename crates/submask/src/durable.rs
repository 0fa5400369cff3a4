//! Writing files so that nothing is half-written.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use crate::{Error, Result};

/// Writes `bytes` to `path`: beside it, flushed to disk, then renamed. On an error nothing is left behind.
///
/// # Errors
/// [`Error::Io`] naming the file.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    write_atomically_with(path, |temporary| fs::write(temporary, bytes))
}

/// The same with what `write` puts into the file whose path it is given.
///
/// # Errors
/// [`Error::Io`] naming the file.
pub fn write_atomically_with(path: &Path, write: impl FnOnce(&Path) -> io::Result<()>) -> Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(".tmp");
    let temporary = path.with_file_name(name);
    let written = write(&temporary)
        .and_then(|()| File::open(&temporary)?.sync_all())
        .and_then(|()| fs::rename(&temporary, path));
    written.map_err(|error| {
        // The temporary file is of no use; that it cannot be removed is not the error to report.
        let _ = fs::remove_file(&temporary);
        Error::io(path)(error)
    })
}

/// Makes the new name last: a rename is only on the disk when its folder is.
#[cfg(unix)]
pub fn sync_parent(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

/// Folders cannot be opened here; the system writes renames in time.
#[cfg(not(unix))]
pub fn sync_parent(_path: &Path) -> io::Result<()> {
    Ok(())
}
