//! The stack machine, which records instead of building.

use super::Fault;
use super::graph::{Chunks, Graph, NONE, Node, Object, Span};
use super::opcodes::{Op, Opcodes};

/// Records the pickle in `bytes` with at most `limit` bytes of memory.
pub(super) fn record(bytes: &[u8], limit: usize) -> Result<Graph, Fault> {
    let size = Size::of(bytes, limit)?;
    let mut opcodes = Opcodes::new(bytes)?;
    let mut recorder = Recorder::new(&size);
    loop {
        let op = opcodes.read()?;
        if matches!(op, Op::Stop) {
            break;
        }
        recorder.apply(op).map_err(|problem| opcodes.fault(problem))?;
    }
    let root = recorder.finish().map_err(|problem| opcodes.fault(problem))?;
    if opcodes.left() > 0 {
        return Err(opcodes.fault(format!("{} bytes follow the end of the pickle", opcodes.left())));
    }
    Ok(Graph { nodes: recorder.nodes, objects: recorder.objects, ids: recorder.ids, root })
}

/// How long each table of the [`Recorder`] can become.
#[derive(Default)]
struct Size {
    nodes: usize,
    objects: usize,
    ids: usize,
    stack: usize,
    memo: usize,
}

impl Size {
    /// Counts, and refuses a pickle whose tables would take more than `limit` bytes together.
    fn of(bytes: &[u8], limit: usize) -> Result<Self, Fault> {
        let mut size = Self::default();
        let mut opcodes = Opcodes::new(bytes)?;
        loop {
            match opcodes.read()? {
                Op::Stop => break,
                Op::Mark | Op::Duplicate | Op::Get(_) => size.stack += 1,
                Op::Push(_) | Op::Tuple(_) | Op::TupleToMark | Op::StackGlobal | Op::Persistent => {
                    size.nodes += 1;
                    size.stack += 1;
                }
                Op::ListToMark | Op::DictToMark | Op::FrozenSetToMark => {
                    size.nodes += 1;
                    size.stack += 1;
                    size.ids += 2;
                }
                Op::Construct => {
                    size.nodes += 1;
                    size.objects += 1;
                    size.stack += 1;
                }
                Op::Append | Op::AppendToMark | Op::AddToMark | Op::SetItem | Op::SetItemsToMark => {
                    size.ids += 2;
                }
                Op::Put(_) | Op::Memoize => size.memo += 1,
                Op::Header | Op::Pop | Op::PopToMark | Op::Build => {}
            }
        }
        // A value leaves the stack when it is stored, so each is stored at most once. An entry of the memo is
        // numbered from 0 or from 1.
        size.ids += size.stack;
        size.memo += 1;
        if size.bytes() > limit {
            let problem = format!(
                "too many values: they would take {} bytes of memory; a file of this size may take {limit}",
                size.bytes()
            );
            return Err(opcodes.fault(problem));
        }
        Ok(size)
    }

    fn bytes(&self) -> usize {
        self.nodes * size_of::<Node>()
            + self.objects * size_of::<Object>()
            + (self.ids + self.stack + self.memo) * size_of::<u32>()
    }
}

/// What an operation adds to a container.
enum Added {
    Items,
    Members,
    Entries,
}

/// The values on the stack that an operation takes: `from..`, and how long the stack is after it.
struct Taken {
    from: usize,
    keep: usize,
}

struct Recorder {
    nodes: Vec<Node>,
    objects: Vec<Object>,
    ids: Vec<u32>,
    /// Ids; at every mark the place of the mark below it.
    stack: Vec<u32>,
    /// Place of the topmost mark.
    mark: u32,
    memo: Vec<u32>,
    memoized: u32,
}

type Step<T = ()> = Result<T, String>;

impl Recorder {
    fn new(size: &Size) -> Self {
        Self {
            nodes: Vec::with_capacity(size.nodes),
            objects: Vec::with_capacity(size.objects),
            ids: Vec::with_capacity(size.ids),
            stack: Vec::with_capacity(size.stack),
            mark: NONE,
            memo: vec![NONE; size.memo],
            memoized: 0,
        }
    }

    fn apply(&mut self, op: Op) -> Step {
        match op {
            Op::Header | Op::Stop => {}
            Op::Mark => {
                let below = std::mem::replace(&mut self.mark, self.stack.len() as u32);
                self.stack.push(below);
            }
            Op::Pop => {
                if self.pop().is_err() {
                    let taken = self.take_to_mark()?;
                    self.stack.truncate(taken.keep);
                }
            }
            Op::PopToMark => {
                let taken = self.take_to_mark()?;
                self.stack.truncate(taken.keep);
            }
            Op::Duplicate => {
                let top = self.top()?;
                self.stack.push(top);
            }
            Op::Push(node) => self.push(node),
            Op::Tuple(len) => {
                let taken = self.topmost(len)?;
                self.tuple(&taken);
            }
            Op::TupleToMark => {
                let taken = self.take_to_mark()?;
                self.tuple(&taken);
            }
            Op::ListToMark => self.container(Added::Items)?,
            Op::FrozenSetToMark => self.container(Added::Members)?,
            Op::DictToMark => self.container(Added::Entries)?,
            Op::Append => self.topmost(1).and_then(|taken| self.add(&taken, Added::Items))?,
            Op::AppendToMark => self.take_to_mark().and_then(|taken| self.add(&taken, Added::Items))?,
            Op::AddToMark => self.take_to_mark().and_then(|taken| self.add(&taken, Added::Members))?,
            Op::SetItem => self.topmost(2).and_then(|taken| self.add(&taken, Added::Entries))?,
            Op::SetItemsToMark => self.take_to_mark().and_then(|taken| self.add(&taken, Added::Entries))?,
            Op::StackGlobal => self.stack_global()?,
            Op::Persistent => {
                let id = self.pop()?;
                self.push(Node::Persistent(id));
            }
            Op::Construct => self.construct()?,
            Op::Build => self.build()?,
            Op::Put(index) => self.memoize(index)?,
            Op::Memoize => self.memoize(self.memoized)?,
            Op::Get(index) => match self.memo.get(index as usize) {
                Some(&id) if id != NONE => self.stack.push(id),
                _ => return Err(format!("nothing was stored under {index}")),
            },
        }
        Ok(())
    }

    /// The value that the pickle is.
    fn finish(&mut self) -> Step<u32> {
        let root = self.pop()?;
        match self.stack.len() {
            0 => Ok(root),
            more => Err(format!("{more} values are left over at the end")),
        }
    }

    fn push(&mut self, node: Node) {
        self.stack.push(self.nodes.len() as u32);
        self.nodes.push(node);
    }

    /// Where the values above the topmost mark begin.
    fn floor(&self) -> usize {
        if self.mark == NONE { 0 } else { self.mark as usize + 1 }
    }

    /// The `len` topmost values.
    fn topmost(&self, len: usize) -> Step<Taken> {
        let there = self.stack.len() - self.floor();
        if there < len {
            return Err(format!("needs {len} values on the stack, which has {there}"));
        }
        let from = self.stack.len() - len;
        Ok(Taken { from, keep: from })
    }

    /// All values above the topmost mark, and the mark.
    fn take_to_mark(&mut self) -> Step<Taken> {
        if self.mark == NONE {
            return Err("there is no mark on the stack".to_owned());
        }
        let keep = self.mark as usize;
        self.mark = self.stack[keep];
        Ok(Taken { from: keep + 1, keep })
    }

    fn top(&self) -> Step<u32> {
        Ok(self.stack[self.topmost(1)?.from])
    }

    fn pop(&mut self) -> Step<u32> {
        let top = self.top()?;
        self.stack.pop();
        Ok(top)
    }

    fn tuple(&mut self, taken: &Taken) {
        let span = Span { start: self.ids.len() as u32, len: (self.stack.len() - taken.from) as u32 };
        self.ids.extend_from_slice(&self.stack[taken.from..]);
        self.stack.truncate(taken.keep);
        self.push(Node::Tuple(span));
    }

    /// Moves values from the stack into a chunk and hangs it behind `chunks`.
    fn chunk(&mut self, taken: &Taken, chunks: Chunks) -> Chunks {
        let len = self.stack.len() - taken.from;
        if len == 0 {
            self.stack.truncate(taken.keep);
            return chunks;
        }
        let chunk = self.ids.len() as u32;
        self.ids.extend([len as u32, NONE]);
        self.ids.extend_from_slice(&self.stack[taken.from..]);
        self.stack.truncate(taken.keep);
        if chunks.first == NONE {
            return Chunks { first: chunk, last: chunk };
        }
        self.ids[chunks.last as usize + 1] = chunk;
        Chunks { first: chunks.first, last: chunk }
    }

    /// A new list, set or dict of everything above the mark.
    fn container(&mut self, added: Added) -> Step {
        let taken = self.take_to_mark()?;
        self.check_pairs(&taken, &added)?;
        let chunks = self.chunk(&taken, Chunks::EMPTY);
        self.push(match added {
            Added::Items => Node::List(chunks),
            Added::Members => Node::Set(chunks),
            Added::Entries => Node::Dict(chunks),
        });
        Ok(())
    }

    /// Adds values to the container or object below them.
    fn add(&mut self, taken: &Taken, added: Added) -> Step {
        self.check_pairs(taken, &added)?;
        if taken.keep <= self.floor() {
            return Err("there is nothing on the stack to add to".to_owned());
        }
        let target = self.stack[taken.keep - 1] as usize;
        match (self.nodes[target], added) {
            (Node::List(chunks), Added::Items) => self.nodes[target] = Node::List(self.chunk(taken, chunks)),
            (Node::Set(chunks), Added::Members) => self.nodes[target] = Node::Set(self.chunk(taken, chunks)),
            (Node::Dict(chunks), Added::Entries) => {
                self.nodes[target] = Node::Dict(self.chunk(taken, chunks))
            }
            (Node::Object(index), Added::Entries) => {
                let entries = self.chunk(taken, self.objects[index as usize].entries);
                self.objects[index as usize].entries = entries;
            }
            (Node::Object(index), Added::Items | Added::Members) => {
                let items = self.chunk(taken, self.objects[index as usize].items);
                self.objects[index as usize].items = items;
            }
            _ => return Err("the value below is not of a kind that can be added to".to_owned()),
        }
        Ok(())
    }

    fn check_pairs(&self, taken: &Taken, added: &Added) -> Step {
        if matches!(added, Added::Entries) && !(self.stack.len() - taken.from).is_multiple_of(2) {
            return Err("a key without a value".to_owned());
        }
        Ok(())
    }

    fn stack_global(&mut self) -> Step {
        let name = self.pop()?;
        let module = self.pop()?;
        let text = |id: u32| matches!(self.nodes[id as usize], Node::Str(_));
        if !text(module) || !text(name) {
            return Err("module and name are not both strings".to_owned());
        }
        self.push(Node::StackGlobal { module, name });
        Ok(())
    }

    fn construct(&mut self) -> Step {
        let args = self.pop()?;
        let class = self.pop()?;
        if !matches!(self.nodes[args as usize], Node::Tuple(_)) {
            return Err("the arguments are not a tuple".to_owned());
        }
        self.push(Node::Object(self.objects.len() as u32));
        self.objects.push(Object { class, args, state: NONE, items: Chunks::EMPTY, entries: Chunks::EMPTY });
        Ok(())
    }

    fn build(&mut self) -> Step {
        let state = self.pop()?;
        let Node::Object(index) = self.nodes[self.top()? as usize] else {
            return Err("only objects have a state".to_owned());
        };
        let object = &mut self.objects[index as usize];
        if object.state != NONE {
            return Err("the object already has a state".to_owned());
        }
        object.state = state;
        Ok(())
    }

    fn memoize(&mut self, index: u32) -> Step {
        let top = self.top()?;
        let entries = self.memo.len() - 1;
        let Some(entry) = self.memo.get_mut(index as usize) else {
            return Err(format!("stores under {index}, but the pickle stores only {entries} values"));
        };
        if *entry == NONE {
            self.memoized += 1;
        }
        *entry = top;
        Ok(())
    }
}
