//! Writing a part.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use super::{Description, END, MAGIC, PART_VERSION};
use crate::durable::write_whole;
use crate::{Error, Result};

/// The records of a part that is being written.
pub struct Records {
    file: BufWriter<File>,
    path: PathBuf,
    checksum: crc32fast::Hasher,
    count: u64,
}

impl Records {
    fn create(temporary: &Path, path: &Path) -> Result<Self> {
        let file = File::create(temporary).map_err(Error::io(path))?;
        let (file, path) = (BufWriter::with_capacity(1 << 20, file), path.to_path_buf());
        let mut records = Self { file, path, checksum: crc32fast::Hasher::new(), count: 0 };
        records.put(&MAGIC)?;
        records.put(&PART_VERSION.to_le_bytes())?;
        Ok(records)
    }

    /// Adds a record.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn push(&mut self, record: &[u8]) -> Result<()> {
        self.count += 1;
        self.put(&(record.len() as u64).to_le_bytes())?;
        self.put(record)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.checksum.update(bytes);
        self.file.write_all(bytes).map_err(Error::io(&self.path))
    }

    fn finish(mut self, description: &Description) -> Result<()> {
        let json = serde_json::to_vec(description).map_err(Error::internal("a description is JSON"))?;
        self.put(&json)?;
        self.put(&(json.len() as u64).to_le_bytes())?;
        let count = self.count;
        self.put(&count.to_le_bytes())?;
        let checksum = self.checksum.clone().finalize();
        self.put(&checksum.to_le_bytes())?;
        self.put(&END)?;
        self.file
            .into_inner()
            .map_err(io::IntoInnerError::into_error)
            .map(drop)
            .map_err(Error::io(&self.path))
    }
}

/// Writes the part at `path`, whole or not at all, in the place of one that is there: the records that `fill` pushes, and
/// the description that it gives.
///
/// # Errors
/// [`Error::Io`] naming the file, and those of `fill`.
pub fn write(path: &Path, fill: impl FnOnce(&mut Records) -> Result<Description>) -> Result<()> {
    write_whole(path, |temporary| {
        let mut records = Records::create(temporary, path)?;
        let description = fill(&mut records)?;
        records.finish(&description)
    })
}
