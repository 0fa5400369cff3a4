//! The table of recorded values.

use super::Fault;
use super::record;

/// "No value", "no chunk".
pub(super) const NONE: u32 = u32::MAX;

/// A piece of the pickle's bytes, or of [`Graph::ids`].
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Span {
    pub start: u32,
    pub len: u32,
}

/// The members of a container that can grow: chunks in [`Graph::ids`], linked in the order they were added.
///
/// A chunk is its length, the index of the next chunk or [`NONE`], and so many ids. In a dict keys and values
/// take turns.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chunks {
    pub first: u32,
    pub last: u32,
}

impl Chunks {
    pub const EMPTY: Self = Self { first: NONE, last: NONE };
}

/// One value. Ids are indices into [`Graph::nodes`].
#[derive(Clone, Copy, Debug)]
pub(super) enum Node {
    None,
    Bool(bool),
    Int(i64),
    /// A whole number beyond 64 bits: two's complement, little-endian.
    Long(Span),
    Float(f64),
    /// Checked to be UTF-8.
    Str(Span),
    Bytes(Span),
    /// A piece of [`Graph::ids`].
    Tuple(Span),
    List(Chunks),
    Set(Chunks),
    Dict(Chunks),
    /// Module and name, with a line break between.
    Global(Span),
    /// The same as two strings.
    StackGlobal {
        module: u32,
        name: u32,
    },
    /// An index into [`Graph::objects`].
    Object(u32),
    Persistent(u32),
}

/// A call or a new instance. What is absent is [`NONE`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Object {
    pub class: u32,
    pub args: u32,
    pub state: u32,
    pub items: Chunks,
    pub entries: Chunks,
}

/// Everything that a pickle holds. The strings stay in its bytes, which every use needs again.
#[derive(Debug)]
pub(crate) struct Graph {
    pub(super) nodes: Vec<Node>,
    pub(super) objects: Vec<Object>,
    pub(super) ids: Vec<u32>,
    pub(super) root: u32,
}

impl Graph {
    /// Records the pickle in `bytes`, using at most `limit` bytes of memory for everything.
    pub fn record(bytes: &[u8], limit: usize) -> Result<Self, Fault> {
        record::record(bytes, limit)
    }

    /// Bytes of memory that it holds.
    pub fn heap_bytes(&self) -> usize {
        self.nodes.capacity() * size_of::<Node>()
            + self.objects.capacity() * size_of::<Object>()
            + self.ids.capacity() * size_of::<u32>()
    }
}
