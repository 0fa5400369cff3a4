//! Places in the table of values, and ways from one to the next.

use std::fmt::{self, Write};

use super::graph::{Chunks, Graph, NONE, Node, Object, Span};

/// Classes whose instances are dicts with additional behaviour.
const DICTS: [(&str, &str); 4] = [
    ("collections", "OrderedDict"),
    ("collections", "Counter"),
    ("builtins", "dict"),
    ("__builtin__", "dict"),
];
/// Sets, which protocol 2 writes as calls with a list.
const SETS: [(&str, &str); 4] =
    [("builtins", "set"), ("__builtin__", "set"), ("builtins", "frozenset"), ("__builtin__", "frozenset")];

/// How much of a name a message shows.
const SHOWN_CHARACTERS: usize = 80;

/// What a value is.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Value<'a> {
    /// `None`.
    None,
    /// `True` or `False`.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A whole number beyond 64 bits: two's complement, least significant byte first.
    Long(&'a [u8]),
    /// A number.
    Float(f64),
    /// A text.
    Str(&'a str),
    /// Bytes.
    Bytes(&'a [u8]),
    /// See [`ValueRef::items`].
    Tuple,
    /// See [`ValueRef::items`].
    List,
    /// A set or frozen set: see [`ValueRef::items`].
    Set,
    /// A dict, ordered dict, default dict or counter: see [`ValueRef::entries`].
    Dict,
    /// A function or class.
    Global(Global<'a>),
    /// Any other call or instance: see [`ValueRef::class`], [`ValueRef::args`], [`ValueRef::state`].
    Object,
    /// Something stored outside the pickle, which has this id.
    Persistent(ValueRef<'a>),
}

/// The name of a function or class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Global<'a> {
    /// As in `collections`.
    pub module: &'a str,
    /// As in `OrderedDict`.
    pub name: &'a str,
}

impl Global<'_> {
    /// Whether it is `name` of `module`.
    pub fn is(&self, module: &str, name: &str) -> bool {
        self.module == module && self.name == name
    }
}

impl fmt::Display for Global<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [module, name] = [self.module, self.name].map(|part| part.chars().take(SHOWN_CHARACTERS));
        let escaped = |c: char| c.escape_debug();
        module.flat_map(escaped).chain(['.']).chain(name.flat_map(escaped)).try_for_each(|c| f.write_char(c))
    }
}

/// A value of a pickle.
///
/// Equality is identity, Python's `is`: two places may hold equal texts and differ. Values may refer to each other
/// in loops; who follows them needs a bound or [`ValueRef::reachable`].
#[derive(Clone, Copy)]
pub struct ValueRef<'a> {
    bytes: &'a [u8],
    graph: &'a Graph,
    id: u32,
    /// The last dict key on the way here.
    key: u32,
}

impl PartialEq for ValueRef<'_> {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self.graph, other.graph) && self.id == other.id
    }
}

impl Eq for ValueRef<'_> {}

impl fmt::Debug for ValueRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.node() {
            Node::Persistent(id) => write!(f, "Persistent(#{id})"),
            _ => write!(f, "{:?}", self.value()),
        }
    }
}

impl Graph {
    /// The value that the pickle is. `bytes` is what it was recorded from.
    pub fn root<'a>(&'a self, bytes: &'a [u8]) -> ValueRef<'a> {
        ValueRef { bytes, graph: self, id: self.root, key: NONE }
    }

    /// The text that [`ValueRef::key_id`] stands for.
    pub fn text<'a>(&'a self, bytes: &'a [u8], id: u32) -> Option<&'a str> {
        let known = (id as usize) < self.nodes.len();
        known.then_some(ValueRef { bytes, graph: self, id, key: NONE })?.as_str()
    }

    /// Every value, each once.
    pub fn values<'a>(&'a self, bytes: &'a [u8]) -> impl Iterator<Item = ValueRef<'a>> {
        (0..self.nodes.len() as u32).map(move |id| ValueRef { bytes, graph: self, id, key: NONE })
    }
}

impl<'a> ValueRef<'a> {
    fn node(&self) -> Node {
        self.graph.nodes[self.id as usize]
    }

    fn at(&self, id: u32) -> Self {
        Self { id, ..*self }
    }

    fn present(&self, id: u32) -> Option<Self> {
        (id != NONE).then(|| self.at(id))
    }

    fn slice(&self, span: Span) -> &'a [u8] {
        &self.bytes[span.start as usize..][..span.len as usize]
    }

    fn object(&self) -> Option<&'a Object> {
        match self.node() {
            Node::Object(index) => Some(&self.graph.objects[index as usize]),
            _ => None,
        }
    }

    /// The last dict key on the way here from the root: see [`Graph::text`].
    pub(crate) fn key_id(&self) -> u32 {
        self.key
    }

    /// What it is.
    pub fn value(&self) -> Value<'a> {
        match self.node() {
            Node::None => Value::None,
            Node::Bool(value) => Value::Bool(value),
            Node::Int(value) => Value::Int(value),
            Node::Long(span) => Value::Long(self.slice(span)),
            Node::Float(value) => Value::Float(value),
            Node::Str(span) => Value::Str(self.text(span)),
            Node::Bytes(span) => Value::Bytes(self.slice(span)),
            Node::Tuple(_) => Value::Tuple,
            Node::List(_) => Value::List,
            Node::Set(_) => Value::Set,
            Node::Dict(_) => Value::Dict,
            Node::Persistent(id) => Value::Persistent(self.at(id)),
            Node::Global(_) | Node::StackGlobal { .. } => self.global().map_or(Value::None, Value::Global),
            Node::Object(_) if self.is_dict() => Value::Dict,
            Node::Object(_) if self.set_members().is_some() => Value::Set,
            Node::Object(_) => Value::Object,
        }
    }

    /// Recording checked that it is UTF-8; it is empty only if the file was changed since.
    fn text(&self, span: Span) -> &'a str {
        std::str::from_utf8(self.slice(span)).unwrap_or_default()
    }

    /// Whether it is an object of a class of dicts, made empty; a default dict's argument is its default.
    fn is_dict(&self) -> bool {
        let Some(class) = self.class() else { return false };
        let no_arguments = self.args().and_then(|args| args.items()?.next()).is_none();
        class.is("collections", "defaultdict")
            || no_arguments && DICTS.iter().any(|(module, name)| class.is(module, name))
    }

    /// The list that a set was made from.
    fn set_members(&self) -> Option<Chunks> {
        let class = self.class()?;
        if !SETS.iter().any(|(module, name)| class.is(module, name)) {
            return None;
        }
        match self.args()?.items()?.next().map(|members| members.node()) {
            None => Some(Chunks::EMPTY),
            Some(Node::List(chunks)) => Some(chunks),
            Some(_) => None,
        }
    }

    /// Whether it is `None`.
    pub fn is_none(&self) -> bool {
        matches!(self.node(), Node::None)
    }

    /// The value of a `bool`.
    pub fn as_bool(&self) -> Option<bool> {
        match self.node() {
            Node::Bool(value) => Some(value),
            _ => None,
        }
    }

    /// The value of an `int` of at most 64 bits.
    pub fn as_i64(&self) -> Option<i64> {
        match self.node() {
            Node::Int(value) => Some(value),
            _ => None,
        }
    }

    /// The value of a `float`, or that of an `int` as the nearest number.
    pub fn as_f64(&self) -> Option<f64> {
        match self.node() {
            Node::Float(value) => Some(value),
            Node::Int(value) => Some(value as f64),
            _ => None,
        }
    }

    /// The text of a `str`.
    pub fn as_str(&self) -> Option<&'a str> {
        match self.node() {
            Node::Str(span) => Some(self.text(span)),
            _ => None,
        }
    }

    /// The bytes of a `bytes` or `bytearray`.
    pub fn as_bytes(&self) -> Option<&'a [u8]> {
        match self.node() {
            Node::Bytes(span) => Some(self.slice(span)),
            _ => None,
        }
    }

    /// The name of a function or class.
    pub fn global(&self) -> Option<Global<'a>> {
        match self.node() {
            Node::Global(span) => {
                let (module, name) = self.text(span).split_once('\n')?;
                Some(Global { module, name })
            }
            Node::StackGlobal { module, name } => {
                Some(Global { module: self.at(module).as_str()?, name: self.at(name).as_str()? })
            }
            _ => None,
        }
    }

    /// The id of something stored outside the pickle.
    pub fn persistent(&self) -> Option<Self> {
        match self.node() {
            Node::Persistent(id) => Some(self.at(id)),
            _ => None,
        }
    }

    /// The class of an instance, or the function of a call, where it has a name.
    pub fn class(&self) -> Option<Global<'a>> {
        self.at(self.object()?.class).global()
    }

    /// The arguments of a call or of a constructor: a tuple.
    pub fn args(&self) -> Option<Self> {
        self.present(self.object()?.args)
    }

    /// The state that an instance was given: usually the dict of its attributes.
    pub fn state(&self) -> Option<Self> {
        self.present(self.object()?.state)
    }

    /// The attribute `name` of an instance: of its state, which is a dict, or a tuple of dicts if it has slots.
    pub fn attribute(&self, name: &str) -> Option<Self> {
        let state = self.state()?;
        match state.node() {
            Node::Tuple(_) => state.items()?.filter_map(|part| part.get(name)).last(),
            _ => state.get(name),
        }
    }

    /// The members of a list, tuple or set, or of an object that members were added to, in the file's order.
    pub fn items(&self) -> Option<Items<'a>> {
        let ids = match self.node() {
            Node::Tuple(span) => Ids::span(self.graph, span),
            Node::List(chunks) | Node::Set(chunks) => Ids::chunks(self.graph, chunks),
            Node::Object(_) => {
                let chunks = self.object()?.items;
                let added = (chunks.first != NONE).then_some(chunks);
                Ids::chunks(self.graph, added.or_else(|| self.set_members())?)
            }
            _ => return None,
        };
        Some(Items { place: *self, ids })
    }

    /// The keys and values of a dict, or of an object that entries were added to, in the file's order.
    ///
    /// A key may occur twice; in Python the later value holds.
    pub fn entries(&self) -> Option<Entries<'a>> {
        let chunks = match self.node() {
            Node::Dict(chunks) => chunks,
            Node::Object(_) => {
                let chunks = self.object()?.entries;
                if chunks.first == NONE && !self.is_dict() {
                    return None;
                }
                chunks
            }
            _ => return None,
        };
        Some(Entries { place: *self, ids: Ids::chunks(self.graph, chunks) })
    }

    /// The value of the text `key` in a dict; looks at every entry.
    pub fn get(&self, key: &str) -> Option<Self> {
        self.entries()?.filter(|(name, _)| name.as_str() == Some(key)).map(|(_, value)| value).last()
    }

    /// This value and everything that it refers to, directly or not, each once, nearest first.
    pub fn reachable(&self) -> Reachable<'a> {
        let mut found = Reachable {
            place: *self,
            seen: vec![0; self.graph.nodes.len().div_ceil(64)],
            queue: Vec::new(),
            next: 0,
        };
        found.visit(self.id);
        found
    }
}

/// Ids of a tuple or of the chunks of a container.
#[derive(Clone)]
struct Ids<'a> {
    ids: &'a [u32],
    at: usize,
    end: usize,
    chunk: u32,
}

impl<'a> Ids<'a> {
    fn span(graph: &'a Graph, span: Span) -> Self {
        let at = span.start as usize;
        Self { ids: &graph.ids, at, end: at + span.len as usize, chunk: NONE }
    }

    fn chunks(graph: &'a Graph, chunks: Chunks) -> Self {
        Self { ids: &graph.ids, at: 0, end: 0, chunk: chunks.first }
    }
}

impl Iterator for Ids<'_> {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        if self.at == self.end {
            if self.chunk == NONE {
                return None;
            }
            let header = self.chunk as usize;
            self.at = header + 2;
            self.end = self.at + self.ids[header] as usize;
            self.chunk = self.ids[header + 1];
        }
        self.at += 1;
        Some(self.ids[self.at - 1])
    }
}

/// Members of a list, tuple or set: [`ValueRef::items`].
#[derive(Clone)]
pub struct Items<'a> {
    place: ValueRef<'a>,
    ids: Ids<'a>,
}

impl<'a> Iterator for Items<'a> {
    type Item = ValueRef<'a>;

    fn next(&mut self) -> Option<ValueRef<'a>> {
        Some(self.place.at(self.ids.next()?))
    }
}

/// Keys and values of a dict: [`ValueRef::entries`].
#[derive(Clone)]
pub struct Entries<'a> {
    place: ValueRef<'a>,
    ids: Ids<'a>,
}

impl<'a> Iterator for Entries<'a> {
    type Item = (ValueRef<'a>, ValueRef<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let key = self.place.at(self.ids.next()?);
        Some((key, ValueRef { key: key.id, ..self.place.at(self.ids.next()?) }))
    }
}

/// Everything that a value refers to: [`ValueRef::reachable`].
pub struct Reachable<'a> {
    place: ValueRef<'a>,
    seen: Vec<u64>,
    queue: Vec<u32>,
    next: usize,
}

impl Reachable<'_> {
    fn visit(&mut self, id: u32) {
        if id == NONE {
            return;
        }
        let (word, bit) = (id as usize / 64, 1 << (id % 64));
        if self.seen[word] & bit == 0 {
            self.seen[word] |= bit;
            self.queue.push(id);
        }
    }

    fn visit_all(&mut self, ids: Ids<'_>) {
        ids.for_each(|id| self.visit(id));
    }
}

impl<'a> Iterator for Reachable<'a> {
    type Item = ValueRef<'a>;

    fn next(&mut self) -> Option<ValueRef<'a>> {
        let value = self.place.at(*self.queue.get(self.next)?);
        self.next += 1;
        let graph = value.graph;
        match value.node() {
            Node::Tuple(span) => self.visit_all(Ids::span(graph, span)),
            Node::List(chunks) | Node::Set(chunks) | Node::Dict(chunks) => {
                self.visit_all(Ids::chunks(graph, chunks));
            }
            Node::Persistent(id) => self.visit(id),
            Node::Object(index) => {
                let object = &graph.objects[index as usize];
                self.visit(object.class);
                self.visit(object.args);
                self.visit(object.state);
                self.visit_all(Ids::chunks(graph, object.items));
                self.visit_all(Ids::chunks(graph, object.entries));
            }
            _ => {}
        }
        Some(value)
    }
}
