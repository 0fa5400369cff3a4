//! Pickled batches: a dict of `data`, an array of NumPy, and lists of labels. Read as data, nothing in them is called.

use std::fs::File;
use std::ops::{Deref, Range};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use memmap2::Mmap;

use super::rows::array_error;
use crate::error::{Error, Result};
use crate::pickle::numpy::{self, Elements, NumpyArray};
use crate::pickle::{Graph, ValueRef};

/// The opcode that begins a pickle of protocol 2 or later.
pub(super) const PROTOCOL: u8 = 0x80;

/// Memory for what is recorded of a batch, beside its size.
const FLOOR: usize = 32 << 10;

/// How many keys a message names.
const SHOWN_KEYS: usize = 10;
/// How much of each.
const SHOWN_CHARACTERS: usize = 40;

/// The bytes of a pickle.
#[derive(Clone)]
enum Content {
    Mapped(Arc<Mmap>),
    Memory(Arc<Vec<u8>>),
}

impl Deref for Content {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Mapped(map) => map,
            Self::Memory(bytes) => bytes,
        }
    }
}

/// The elements of an array.
pub(super) struct Bytes(Place);

enum Place {
    /// As they lie in the pickle.
    Inside(Content, Range<usize>),
    /// Protocol 2 has texts only: a byte is the character of that number.
    Decoded(Vec<u8>),
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Place::Inside(content, range) => &content[range.clone()],
            Place::Decoded(bytes) => bytes,
        }
    }
}

/// A pickle that is a dict.
pub(super) struct Batch {
    path: PathBuf,
    content: Content,
    graph: Graph,
}

impl Batch {
    /// The file at `path`.
    ///
    /// # Errors
    /// [`Error::Io`], and [`Error::Format`] for what is no whole pickle, or would take more memory than a file of its
    /// size may.
    pub fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(Error::io(path))?;
        // SAFETY: the map is read only; that nobody changes the file meanwhile is the caller's promise, as for every
        // data file.
        let map = unsafe { Mmap::map(&file) }.map_err(Error::io(path))?;
        Self::record(path, Content::Mapped(Arc::new(map)))
    }

    /// The same of bytes in memory; `path` is their name in messages.
    ///
    /// # Errors
    /// [`Error::Format`] as [`Self::open`].
    pub fn from_bytes(path: &Path, bytes: Vec<u8>) -> Result<Self> {
        Self::record(path, Content::Memory(Arc::new(bytes)))
    }

    fn record(path: &Path, content: Content) -> Result<Self> {
        let graph = Graph::record(&content, content.len() + FLOOR)
            .map_err(|fault| Error::format(path, format!("not a whole pickled batch: {fault}")))?;
        Ok(Self { path: path.to_path_buf(), content, graph })
    }

    fn find(&self, key: &str) -> Result<ValueRef<'_>> {
        let root = self.graph.root(&self.content);
        numpy::get(root, key).ok_or_else(|| {
            let keys = numpy::keys(root);
            let shown = keys
                .iter()
                .take(SHOWN_KEYS)
                .map(|key| key.escape_debug().take(SHOWN_CHARACTERS).collect::<String>());
            let present = match keys.is_empty() {
                true => "it is no dict with names".to_owned(),
                false => format!("it has {}", shown.collect::<Vec<_>>().join(", ")),
            };
            Error::format(&self.path, format!("no {key:?} in it; {present}"))
        })
    }

    /// Shape and elements of the array of bytes `key`.
    ///
    /// # Errors
    /// [`Error::Format`] naming the array.
    pub fn bytes(&self, key: &str) -> Result<(Vec<usize>, Bytes)> {
        let problem = |problem: &str| array_error(&self.path, key, problem);
        let array =
            NumpyArray::read(self.find(key)?).ok_or_else(|| problem("is not an array of NumPy in rows"))?;
        if array.kind != "u1" {
            return Err(problem(&format!("has elements {}, not |u1", array.kind)));
        }
        let length = array.elements.len().ok_or_else(|| problem("has elements that are not bytes"))?;
        if !array.is_complete(1) {
            return Err(problem(&format!("has shape {:?}, but {length} bytes", array.shape)));
        }
        let place = match array.elements {
            Elements::Bytes(bytes) => {
                let start = bytes.as_ptr().addr() - self.content.as_ptr().addr();
                Place::Inside(self.content.clone(), start..start + length)
            }
            Elements::Latin1(_) => Place::Decoded(array.elements.to_vec()),
        };
        Ok((array.shape, Bytes(place)))
    }

    /// The whole numbers in the list or array `key`.
    ///
    /// # Errors
    /// [`Error::Format`] naming it.
    pub fn integers(&self, key: &str) -> Result<Vec<i64>> {
        let problem = || Error::format(&self.path, format!("its {key:?} are not a list of integers"));
        numpy::integers(self.find(key)?).ok_or_else(problem)
    }

    /// The texts in the list `key`.
    ///
    /// # Errors
    /// [`Error::Format`] naming it.
    pub fn texts(&self, key: &str) -> Result<Vec<String>> {
        let texts = self.find(key)?.items();
        let texts = texts.and_then(|texts| texts.map(|text| numpy::text(text).map(str::to_owned)).collect());
        texts.ok_or_else(|| Error::format(&self.path, format!("its {key:?} are not a list of texts")))
    }
}
