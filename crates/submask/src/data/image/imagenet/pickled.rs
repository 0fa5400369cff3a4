//! Pickled batches: a dict of `data`, an array of NumPy, and `labels`, a list. Read as data, nothing in them is called.

use std::fs::File;
use std::ops::{Deref, Range};
use std::path::Path;
use std::sync::Arc;

use memmap2::Mmap;

use super::{Pixels, Rows};
use crate::error::{Error, Result};
use crate::pickle::{Graph, ValueRef};

/// The opcode that begins a pickle of protocol 2 or later.
pub(super) const PROTOCOL: u8 = 0x80;

/// Memory for what is recorded of a batch, beside its size.
const FLOOR: usize = 1 << 20;

/// The elements of an array.
pub(super) enum Bytes {
    /// As they lie in the file.
    Mapped(Arc<Mmap>, Range<usize>),
    /// Protocol 2 has texts only: a byte is the character of that number.
    Decoded(Vec<u8>),
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Mapped(map, range) => &map[range.clone()],
            Self::Decoded(bytes) => bytes,
        }
    }
}

/// The images of the file at `path`.
pub(super) fn open(path: &Path) -> Result<Rows> {
    let malformed = |problem: String| Error::format(path, problem);
    let file = File::open(path).map_err(Error::io(path))?;
    // SAFETY: the map is read only; that nobody changes the file meanwhile is the caller's promise, as for every data
    // file.
    let map = Arc::new(unsafe { Mmap::map(&file) }.map_err(Error::io(path))?);
    let graph = Graph::record(&map, map.len() + FLOOR)
        .map_err(|fault| malformed(format!("not a whole pickled batch: {fault}")))?;
    let root = graph.root(&map);
    let find = |name: &str| {
        let missing = || malformed(format!("no {name:?} in it; it should be a dict of `data` and `labels`"));
        root.get(name).ok_or_else(missing)
    };
    let array = |problem: &str| malformed(format!("its array \"data\" {problem}"));
    let data = Array::read(find("data")?).ok_or_else(|| array("is not an array of NumPy in rows"))?;
    if data.kind != "u1" {
        return Err(array(&format!("has elements {}, not |u1", data.kind)));
    }
    let labels: Option<Vec<i64>> =
        find("labels")?.items().and_then(|labels| labels.map(|label| label.as_i64()).collect());
    let labels =
        labels.ok_or_else(|| malformed(String::from("its \"labels\" are not a list of integers")))?;
    let length = data.elements.len().ok_or_else(|| array("has elements that are not bytes"))?;
    let expected = data.shape.iter().try_fold(1usize, |product, size| product.checked_mul(*size));
    if expected != Some(length) {
        return Err(array(&format!("has shape {:?}, but {length} bytes", data.shape)));
    }
    let shape = data.shape;
    let bytes = match data.elements {
        Elements::Bytes(bytes) => {
            let start = bytes.as_ptr().addr() - map.as_ptr().addr();
            Bytes::Mapped(map.clone(), start..start + length)
        }
        Elements::Latin1(text) => Bytes::Decoded(text.chars().map(|character| character as u8).collect()),
    };
    Rows::new(path, Pixels::Pickled(bytes), &shape, &labels)
}

/// An array of NumPy.
struct Array<'a> {
    /// Kind and size of an element, `u1`.
    kind: &'a str,
    shape: Vec<usize>,
    elements: Elements<'a>,
}

enum Elements<'a> {
    Bytes(&'a [u8]),
    /// A byte is the character of that number.
    Latin1(&'a str),
}

impl Elements<'_> {
    /// How many bytes; `None` for a character that is none.
    fn len(&self) -> Option<usize> {
        match self {
            Self::Bytes(bytes) => Some(bytes.len()),
            Self::Latin1(text) => text.chars().all(|c| u8::try_from(c).is_ok()).then(|| text.chars().count()),
        }
    }
}

impl<'a> Array<'a> {
    /// The array that `value` is, in rows: an empty one that was given the state (version, shape, type, whether in
    /// columns, elements), or from protocol 5 on `_frombuffer(elements, type, shape, order)`.
    fn read(value: ValueRef<'a>) -> Option<Self> {
        let function = value.class()?;
        let (shape, kind, elements) = match function.name {
            "_reconstruct" => {
                let mut state = value.state()?.items()?.skip(1);
                let (shape, kind) = (state.next()?, state.next()?);
                if state.next()?.as_bool()? {
                    return None;
                }
                (shape, kind, state.next()?)
            }
            "_frombuffer" => {
                let mut arguments = value.args()?.items()?;
                let (elements, kind, shape) = (arguments.next()?, arguments.next()?, arguments.next()?);
                if arguments.next()?.as_str()? != "C" {
                    return None;
                }
                (shape, kind, elements)
            }
            _ => return None,
        };
        Some(Self {
            kind: kind.args()?.items()?.next()?.as_str()?,
            shape: shape.items()?.map(|size| usize::try_from(size.as_i64()?).ok()).collect::<Option<_>>()?,
            elements: Elements::read(elements)?,
        })
    }
}

impl<'a> Elements<'a> {
    fn read(value: ValueRef<'a>) -> Option<Self> {
        if let Some(bytes) = value.as_bytes() {
            return Some(Self::Bytes(bytes));
        }
        let mut arguments = value.args()?.items()?;
        let (text, encoding) = (arguments.next()?.as_str()?, arguments.next()?.as_str()?);
        (value.class()?.is("_codecs", "encode") && encoding == "latin1").then_some(Self::Latin1(text))
    }
}
