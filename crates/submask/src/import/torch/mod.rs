//! Files that PyTorch's `torch.save` writes (since version 1.6): a zip archive of stored files, in it a pickle
//! `data.pkl` that describes the saved object, and one file `data/KEY` for the bytes of each tensor storage.
//!
//! The file is mapped into memory. Opening reads the archive's directory and the pickle; a tensor's numbers are
//! read when they are asked for, one tensor at a time.
//!
//! # Limits
//!
//! Memory stays below twice the file's size plus 64 KiB: the recorded values take at most the file's size plus
//! 48 KiB, and a tensor is read only if its numbers fit beside them. Who keeps several tensors adds up their sizes
//! first: a file may name the same storage any number of times.
//!
//! Archived files must be stored, not compressed, and may neither overlap nor share a name. Their checksums are
//! checked: the pickle's when the file is opened, a storage's when a tensor in it is first read. A checksum of 0
//! stands for "none recorded" and is not checked; the files seen from PyTorch 2.15 carry real ones.

mod archive;
mod tensor;

use std::fs::File;
use std::ops::{Deref, Range};
use std::path::{Path, PathBuf};

use memmap2::Mmap;

pub(super) use tensor::is_tensor;
pub use tensor::{TensorRef, TorchType};

use self::archive::Archive;
use crate::durable::lfs_pointer;
use crate::pickle::{Graph, ValueRef};
use crate::{Error, Result};

/// Memory that a file may take beyond a multiple of its size: tiny files are mostly names.
const FLOOR: usize = 48 << 10;

/// How the pickle of the old format begins: a magic number, saved as a pickle of its own.
const OLD_FORMAT: [u8; 14] = *b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19";

/// An open checkpoint.
#[derive(Debug)]
pub struct TorchFile {
    path: PathBuf,
    bytes: Bytes,
    archive: Archive,
    /// Where the pickle stands.
    pickle: Range<usize>,
    graph: Graph,
}

#[derive(Debug)]
enum Bytes {
    Mapped(Mmap),
    Owned(Vec<u8>),
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Mapped(map) => map,
            Self::Owned(bytes) => bytes,
        }
    }
}

impl TorchFile {
    /// Maps a checkpoint into memory and reads its directory and its pickle.
    ///
    /// The file must not be changed while it is open.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Format`] for a file that is not a zip archive with one pickle, is truncated, altered,
    /// compressed or big-endian, or whose pickle is malformed or would take more memory than allowed.
    pub fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(Error::io(path))?;
        // SAFETY: the map is only read. Another process that shortens the file meanwhile can end this one with a
        // bus error, as with every memory-mapped file; other changes meet checked indices and give wrong numbers.
        let map = unsafe { Mmap::map(&file) }.map_err(Error::io(path))?;
        Self::parse(path, Bytes::Mapped(map))
    }

    /// The same for a checkpoint that is in memory; `path` is its name in messages.
    ///
    /// # Errors
    /// [`Error::Format`] as [`TorchFile::open`].
    pub fn from_bytes(path: &Path, bytes: Vec<u8>) -> Result<Self> {
        Self::parse(path, Bytes::Owned(bytes))
    }

    fn parse(path: &Path, bytes: Bytes) -> Result<Self> {
        let format = |problem: String| Error::format(path, problem);
        let archive = Archive::read(&bytes).map_err(|problem| format(describe(&bytes, problem)))?;
        if let Some(index) = archive.find(&bytes, "byteorder") {
            let order = archive.content(&bytes, index).map_err(format)?;
            if order != b"little" {
                let given = archive::quote(order);
                return Err(format(format!("its byte order is {given}; only \"little\" is read")));
            }
        }
        let pickle = archive.pickle();
        let content = archive.content(&bytes, pickle).map_err(format)?;
        let limit = (bytes.len() + FLOOR).saturating_sub(archive.heap_bytes());
        let graph = Graph::record(content, limit).map_err(|fault| format(format!("data.pkl, {fault}")))?;
        let pickle = archive.range(pickle);
        Ok(Self { path: path.to_path_buf(), bytes, archive, pickle, graph })
    }

    /// Bytes of the file.
    #[expect(clippy::len_without_is_empty, reason = "a checkpoint is never empty")]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The saved object.
    pub fn root(&self) -> ValueRef<'_> {
        self.graph.root(self.pickle_bytes())
    }

    /// All values in the file, each once, in no particular order.
    pub fn values(&self) -> impl Iterator<Item = ValueRef<'_>> {
        self.graph.values(self.pickle_bytes())
    }

    fn pickle_bytes(&self) -> &[u8] {
        &self.bytes[self.pickle.clone()]
    }

    /// An [`Error::Format`] of this file.
    pub fn error(&self, problem: impl Into<String>) -> Error {
        Error::format(&self.path, problem)
    }

    /// Bytes that the numbers of one tensor may take.
    fn room(&self) -> usize {
        let held = self.archive.heap_bytes() + self.graph.heap_bytes();
        (2 * self.bytes.len() + FLOOR).saturating_sub(held)
    }
}

/// What a file is that is not a readable archive.
fn describe(bytes: &[u8], problem: String) -> String {
    const EXPECTED: &str = "expected a checkpoint of torch.save, which is a zip archive";
    if let Some(pointer) = lfs_pointer(bytes) {
        pointer
    } else if bytes.starts_with(&OLD_FORMAT) {
        "in the format of PyTorch before 1.6; load it in PyTorch and save it again".to_owned()
    } else if bytes.is_empty() {
        format!("{EXPECTED}; the file is empty")
    } else if !bytes.starts_with(b"PK") {
        format!("{EXPECTED}; the file does not begin like one")
    } else {
        problem
    }
}
