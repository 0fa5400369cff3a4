//! Archives as CIFAR is published in: `.tar.gz`, or `.tar`, read from the beginning to the end and unpacked nowhere.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;

use crate::error::{Error, Result};

/// Begins every gzip file.
const GZIP: [u8; 2] = [0x1f, 0x8b];
/// Stands in the first header of a tar file, and where.
const USTAR: (usize, &[u8]) = (257, b"ustar");

/// Bytes that any archive may unpack to: more than the published ones do.
const ALWAYS_ALLOWED: u64 = 256 << 20;
/// Bytes that it may unpack to for each byte of the file, where that is more.
const ALLOWED_PER_BYTE: u64 = 16;

/// What was found in an archive; names have the archive's path before them.
pub(super) struct Found {
    /// Name and content of what was wanted.
    pub files: Vec<(PathBuf, Vec<u8>)>,
    /// Names of the other files.
    pub passed: Vec<PathBuf>,
}

/// Whether the file at `path` is an archive: neither a record of CIFAR nor a pickle begins like one.
pub(super) fn is_archive(path: &Path) -> Result<bool> {
    let mut start = Vec::new();
    let file = File::open(path).map_err(Error::io(path))?;
    let (at, mark) = USTAR;
    file.take((at + mark.len()) as u64).read_to_end(&mut start).map_err(Error::io(path))?;
    Ok(start.starts_with(&GZIP) || start.get(at..) == Some(mark))
}

/// Reads the files whose names (without folders) are `wanted`.
pub(super) fn read(path: &Path, wanted: impl Fn(&str) -> bool) -> Result<Found> {
    let file = File::open(path).map_err(Error::io(path))?;
    let size = file.metadata().map_err(Error::io(path))?.len();
    let allowed = ALLOWED_PER_BYTE.saturating_mul(size).max(ALWAYS_ALLOWED);
    let mut file = BufReader::new(file);
    let is_gzip = file.fill_buf().map_err(Error::io(path))?.starts_with(&GZIP);
    let content: Box<dyn Read> = if is_gzip { Box::new(MultiGzDecoder::new(file)) } else { Box::new(file) };
    read_tar(path, Bounded { content, allowed, left: allowed }, wanted).map_err(|error| match error {
        Failure::Tar(error) => Error::format(path, format!("not a whole archive: {error}")),
        Failure::Ours(error) => error,
    })
}

/// A stream that may be so long and no longer, so that a small archive does not fill the memory.
struct Bounded<R> {
    content: R,
    allowed: u64,
    left: u64,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.content.read(buffer)?;
        self.left = self.left.checked_sub(read as u64).ok_or_else(|| {
            io::Error::other(format!("it unpacks to more than {} bytes, too many for its size", self.allowed))
        })?;
        Ok(read)
    }
}

enum Failure {
    Tar(io::Error),
    Ours(Error),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Tar(error)
    }
}

fn read_tar(
    path: &Path,
    content: impl Read,
    wanted: impl Fn(&str) -> bool,
) -> std::result::Result<Found, Failure> {
    let mut archive = tar::Archive::new(content);
    let mut found = Found { files: Vec::new(), passed: Vec::new() };
    for entry in archive.entries()? {
        let mut entry = entry?;
        if !entry.header().entry_type().is_file() {
            continue;
        }
        let inside = entry.path()?.into_owned();
        let name = path.join(&inside);
        let last = inside.file_name().unwrap_or_default().to_string_lossy().into_owned();
        // Companions of files on a Mac.
        if last.starts_with('.') {
            continue;
        }
        if !wanted(&last) {
            found.passed.push(name);
            continue;
        }
        let (size, mut bytes) = (entry.size(), Vec::new());
        entry.read_to_end(&mut bytes)?;
        if bytes.len() as u64 != size {
            let problem = format!("it ends after {} of {size} bytes: the archive is truncated", bytes.len());
            return Err(Failure::Ours(Error::format(&name, problem)));
        }
        found.files.push((name, bytes));
    }
    // What follows the last file holds the checksum of the whole.
    io::copy(&mut archive.into_inner(), &mut io::sink())?;
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_that_is_too_long_is_refused() {
        let mut bytes = Vec::new();
        let mut stream = |content: &[u8]| {
            bytes.clear();
            Bounded { content, allowed: 4, left: 4 }
                .read_to_end(&mut bytes)
                .map_err(|error| error.to_string())
        };
        assert_eq!(stream(&[1, 2, 3, 4]), Ok(4));
        assert!(stream(&[1, 2, 3, 4, 5]).unwrap_err().contains("unpacks to more than 4 bytes"));
    }
}
