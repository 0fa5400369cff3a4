//! Writing files so that nothing is half-written, and knowing files that never came whole.

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
    write_whole(path, |temporary| write(temporary).map_err(Error::io(path)))
}

/// The same where more may go wrong than writing.
///
/// # Errors
/// Those of `write`, and [`Error::Io`] naming the file.
pub fn write_whole(path: &Path, write: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(".tmp");
    let temporary = path.with_file_name(name);
    let keep = || {
        File::open(&temporary)?.sync_all()?;
        fs::rename(&temporary, path)
    };
    let written = write(&temporary).and_then(|()| keep().map_err(Error::io(path)));
    if written.is_err() {
        // The temporary file is of no use; that it cannot be removed is not the error to report.
        let _ = fs::remove_file(&temporary);
    }
    written
}

/// Makes the folder `place`, which does not exist, whole or not at all: what `write` puts into the folder beside it
/// that it is given is renamed. The files themselves are for `write` to flush.
///
/// # Errors
/// Those of `write`, and [`Error::Io`] naming the folder.
pub fn create_folder(place: &Path, write: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let name = place.file_name().unwrap_or_default().to_string_lossy();
    let temporary = place.with_file_name(format!(".{name}.tmp"));
    if temporary.exists() {
        fs::remove_dir_all(&temporary).map_err(Error::io(&temporary))?;
    }
    fs::create_dir_all(&temporary).map_err(Error::io(&temporary))?;
    let written = write(&temporary).and_then(|()| {
        fs::rename(&temporary, place).map_err(Error::io(place))?;
        sync_parent(place).map_err(Error::io(place))
    });
    if written.is_err() {
        // Of no use any more; the error to report is the first one.
        let _ = fs::remove_dir_all(&temporary);
    }
    written
}

/// Refuses a folder that holds something already; an empty one is removed, to be made again.
///
/// # Errors
/// [`Error::Invalid`] naming the folder.
pub fn check_free(field: &str, place: &Path) -> Result<()> {
    let is_empty = fs::read_dir(place).is_ok_and(|mut entries| entries.next().is_none());
    if is_empty {
        return fs::remove_dir(place).map_err(Error::io(place));
    }
    match place.symlink_metadata() {
        Ok(_) => Err(Error::invalid(field, place.display(), "a folder that does not exist yet")),
        Err(_) => Ok(()),
    }
}

/// What stands in place of a file that Git LFS has not fetched.
pub(crate) const LFS_POINTER: &[u8] = b"version https://git-lfs.github.com/spec/";
/// Length of the longest pointer.
const LFS_BYTES: usize = 1024;

/// If these bytes are a pointer of Git LFS and not the file it stands for: what is wrong, and what to do.
pub fn lfs_pointer(bytes: &[u8]) -> Option<String> {
    if bytes.len() > LFS_BYTES || !bytes.starts_with(LFS_POINTER) {
        return None;
    }
    let size = bytes
        .split(|byte| *byte == b'\n')
        .find_map(|line| std::str::from_utf8(line.strip_prefix(b"size ")?).ok()?.trim().parse::<u64>().ok());
    let size = size.map_or_else(String::new, |size| format!(" of {size} bytes"));
    Some(format!(
        "a pointer of Git LFS, not the file{size} that it stands for: run `git lfs pull` in its repository"
    ))
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
