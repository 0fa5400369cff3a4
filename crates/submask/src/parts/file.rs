//! Reading a part.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use super::{BEGIN_BYTES, Description, END, END_BYTES, MAGIC, PART_VERSION};
use crate::{Error, Result};

/// Bytes that are read at once.
const BUFFER: usize = 1 << 20;

/// A part that has been found whole.
#[derive(Clone, Debug)]
pub struct PartFile {
    path: PathBuf,
    description: Description,
    records: u64,
    /// Where the records end.
    end: u64,
}

impl PartFile {
    /// Opens a part and reads it once, to compare its checksum.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Format`] for what is no part, one of another version, and one that is truncated or altered.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let wrong = |problem: String| Error::format(path, problem);
        let mut file = File::open(path).map_err(Error::io(path))?;
        let len = file.metadata().map_err(Error::io(path))?.len();
        let begin: [u8; BEGIN_BYTES as usize] = read_at(&mut file, 0, len.min(BEGIN_BYTES), path)?;
        if begin[..8] != MAGIC[..] {
            return Err(wrong("no part of `submask … --shard`: it does not begin with SUBMPART".to_owned()));
        }
        let truncated = || wrong(format!("truncated: {len} bytes, and the end of a part is not there"));
        let Some(trailer) = len.checked_sub(BEGIN_BYTES + END_BYTES).map(|_| len - END_BYTES) else {
            return Err(truncated());
        };
        let version = u32::from_le_bytes([begin[8], begin[9], begin[10], begin[11]]);
        if version != PART_VERSION {
            return Err(wrong(format!("part format version {version}; this program reads {PART_VERSION}")));
        }
        let last: [u8; END_BYTES as usize] = read_at(&mut file, trailer, END_BYTES, path)?;
        if last[20..] != END[..] {
            return Err(truncated());
        }
        let number = |at: usize| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(&last[at..at + 8]);
            u64::from_le_bytes(bytes)
        };
        let (json_len, records) = (number(0), number(8));
        let checksum = u32::from_le_bytes([last[16], last[17], last[18], last[19]]);
        let found = checksum_of(&mut file, len - END_BYTES + 16, path)?;
        if found != checksum {
            return Err(wrong(format!("altered: its checksum is {found:08x}, not {checksum:08x}")));
        }
        let end = trailer.checked_sub(json_len).filter(|end| *end >= BEGIN_BYTES);
        let end = end.ok_or_else(|| wrong(format!("a description of {json_len} bytes in {len}")))?;
        let mut json = vec![0; json_len as usize];
        file.seek(SeekFrom::Start(end)).and_then(|_| file.read_exact(&mut json)).map_err(Error::io(path))?;
        let description = serde_json::from_slice(&json)
            .map_err(|error| wrong(format!("its description cannot be read: {error}")))?;
        Ok(Self { path: path.to_path_buf(), description, records, end })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What it says of itself.
    pub fn description(&self) -> &Description {
        &self.description
    }

    /// Number of records.
    pub fn records(&self) -> u64 {
        self.records
    }

    /// Calls `take` with every record, in order, until it fails.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Format`] for records that do not fit their file; those of `take`.
    pub fn for_each<E: From<Error>>(
        &self,
        mut take: impl FnMut(&[u8]) -> std::result::Result<(), E>,
    ) -> std::result::Result<(), E> {
        let wrong = || Error::format(&self.path, "its records are not as long as they say");
        let mut file = File::open(&self.path).map_err(Error::io(&self.path))?;
        file.seek(SeekFrom::Start(BEGIN_BYTES)).map_err(Error::io(&self.path))?;
        let mut file = BufReader::with_capacity(BUFFER, file);
        let mut left = self.end - BEGIN_BYTES;
        let mut record = Vec::new();
        for _ in 0..self.records {
            let mut len = [0; 8];
            left = left.checked_sub(8).ok_or_else(wrong)?;
            file.read_exact(&mut len).map_err(Error::io(&self.path))?;
            let len = u64::from_le_bytes(len);
            left = left.checked_sub(len).ok_or_else(wrong)?;
            // Shorter than the file, as was just seen.
            record.resize(len as usize, 0);
            file.read_exact(&mut record).map_err(Error::io(&self.path))?;
            take(&record)?;
        }
        if left == 0 { Ok(()) } else { Err(wrong().into()) }
    }
}

/// The first `len` bytes at a place, the others 0.
fn read_at<const N: usize>(file: &mut File, place: u64, len: u64, path: &Path) -> Result<[u8; N]> {
    let mut bytes = [0; N];
    file.seek(SeekFrom::Start(place))
        .and_then(|_| file.read_exact(&mut bytes[..len as usize]))
        .map_err(Error::io(path))?;
    Ok(bytes)
}

/// CRC-32 of the first `len` bytes.
fn checksum_of(file: &mut File, len: u64, path: &Path) -> Result<u32> {
    file.seek(SeekFrom::Start(0)).map_err(Error::io(path))?;
    let (mut hasher, mut left, mut buffer) = (crc32fast::Hasher::new(), len, vec![0; BUFFER]);
    while left > 0 {
        let own = &mut buffer[..left.min(BUFFER as u64) as usize];
        file.read_exact(own).map_err(Error::io(path))?;
        hasher.update(own);
        left -= own.len() as u64;
    }
    Ok(hasher.finalize())
}
