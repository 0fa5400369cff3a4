//! From bytes to operations: every length is checked here, against the bytes that are left.

use super::Fault;
use super::graph::{Chunks, Node, Span};

/// One operation of the stack machine.
#[derive(Clone, Copy, Debug)]
pub(super) enum Op {
    /// Says something about the pickle itself.
    Header,
    Stop,
    Mark,
    Pop,
    PopToMark,
    Duplicate,
    /// Puts a value on the stack.
    Push(Node),
    /// A tuple of so many values.
    Tuple(usize),
    TupleToMark,
    ListToMark,
    DictToMark,
    FrozenSetToMark,
    Append,
    AppendToMark,
    AddToMark,
    SetItem,
    SetItemsToMark,
    StackGlobal,
    Persistent,
    /// A call or a new instance: class or function, then its arguments.
    Construct,
    /// Gives an object its state.
    Build,
    Put(u32),
    Memoize,
    Get(u32),
}

/// Walks over the operations of a pickle.
pub(super) struct Opcodes<'a> {
    bytes: &'a [u8],
    /// Offset of the operation that was read last.
    pub start: usize,
    at: usize,
}

impl<'a> Opcodes<'a> {
    /// Begins with the header, which says the protocol.
    pub fn new(bytes: &'a [u8]) -> Result<Self, Fault> {
        let fault = |problem: String| Fault { at: 0, problem };
        if u32::try_from(bytes.len()).is_err() {
            return Err(fault(format!("{} bytes; at most 4 GiB are read", bytes.len())));
        }
        match bytes {
            [0x80, 2..=5, ..] => Ok(Self { bytes, start: 0, at: 2 }),
            [0x80, protocol, ..] => Err(fault(format!("pickle protocol {protocol}; 2 to 5 are read"))),
            _ => Err(fault("not a pickle of protocol 2 or later: it does not begin with 0x80".to_owned())),
        }
    }

    /// A fault of the operation that was read last.
    pub fn fault(&self, problem: impl Into<String>) -> Fault {
        let code = self.bytes.get(self.start).copied().unwrap_or_default();
        let problem = format!("opcode 0x{code:02x} '{}': {}", code.escape_ascii(), problem.into());
        Fault { at: self.start, problem }
    }

    /// Bytes that follow the operation that was read last.
    pub fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// The next operation.
    pub fn read(&mut self) -> Result<Op, Fault> {
        self.start = self.at;
        let Some(&code) = self.bytes.get(self.at) else {
            let problem = "the pickle ends without a STOP: it is truncated".to_owned();
            return Err(Fault { at: self.at, problem });
        };
        self.at += 1;
        Ok(match code {
            b'.' => Op::Stop,
            b'(' => Op::Mark,
            b'0' => Op::Pop,
            b'1' => Op::PopToMark,
            b'2' => Op::Duplicate,
            b'N' => Op::Push(Node::None),
            0x88 => Op::Push(Node::Bool(true)),
            0x89 => Op::Push(Node::Bool(false)),
            b'J' => Op::Push(Node::Int(i32::from_le_bytes(self.array()?).into())),
            b'K' => Op::Push(Node::Int(self.array::<1>()?[0].into())),
            b'M' => Op::Push(Node::Int(u16::from_le_bytes(self.array()?).into())),
            b'G' => Op::Push(Node::Float(f64::from_be_bytes(self.array()?))),
            0x8a => self.length::<1>().and_then(|len| self.long(len))?,
            0x8b => self.length::<4>().and_then(|len| self.long(len))?,
            b'X' => self.length::<4>().and_then(|len| self.text(len))?,
            0x8c => self.length::<1>().and_then(|len| self.text(len))?,
            0x8d => self.length::<8>().and_then(|len| self.text(len))?,
            b'T' => self.length::<4>().and_then(|len| self.text_or_bytes(len))?,
            b'U' => self.length::<1>().and_then(|len| self.text_or_bytes(len))?,
            b'B' => self.length::<4>().and_then(|len| self.binary(len))?,
            b'C' => self.length::<1>().and_then(|len| self.binary(len))?,
            0x8e | 0x96 => self.length::<8>().and_then(|len| self.binary(len))?,
            b']' => Op::Push(Node::List(Chunks::EMPTY)),
            b'}' => Op::Push(Node::Dict(Chunks::EMPTY)),
            b')' => Op::Push(Node::Tuple(Span::default())),
            0x8f => Op::Push(Node::Set(Chunks::EMPTY)),
            0x85 => Op::Tuple(1),
            0x86 => Op::Tuple(2),
            0x87 => Op::Tuple(3),
            b't' => Op::TupleToMark,
            b'l' => Op::ListToMark,
            b'd' => Op::DictToMark,
            0x91 => Op::FrozenSetToMark,
            b'a' => Op::Append,
            b'e' => Op::AppendToMark,
            0x90 => Op::AddToMark,
            b's' => Op::SetItem,
            b'u' => Op::SetItemsToMark,
            b'c' => self.global()?,
            0x93 => Op::StackGlobal,
            b'Q' => Op::Persistent,
            b'R' | 0x81 => Op::Construct,
            b'b' => Op::Build,
            b'q' => Op::Put(self.array::<1>()?[0].into()),
            b'r' => Op::Put(u32::from_le_bytes(self.array()?)),
            0x94 => Op::Memoize,
            b'h' => Op::Get(self.array::<1>()?[0].into()),
            b'j' => Op::Get(u32::from_le_bytes(self.array()?)),
            0x80 => match self.array::<1>()?[0] {
                2..=5 => Op::Header,
                protocol => return Err(self.fault(format!("pickle protocol {protocol}; 2 to 5 are read"))),
            },
            0x95 => {
                let len = self.length::<8>()?;
                self.check(len)?;
                Op::Header
            }
            _ => return Err(self.fault("this opcode is unknown or not supported")),
        })
    }

    /// The next `N` bytes.
    fn array<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        let Some(bytes) = self.bytes[self.at..].first_chunk() else {
            return Err(self.fault(format!("needs {N} more bytes, but the pickle has {}", self.left())));
        };
        self.at += N;
        Ok(*bytes)
    }

    /// A length written in `N` bytes.
    fn length<const N: usize>(&mut self) -> Result<u64, Fault> {
        let mut bytes = [0; 8];
        bytes[..N].copy_from_slice(&self.array::<N>()?);
        Ok(u64::from_le_bytes(bytes))
    }

    /// That so many bytes are left.
    fn check(&self, len: u64) -> Result<(), Fault> {
        if len <= self.left() as u64 {
            return Ok(());
        }
        Err(self.fault(format!("promises {len} bytes, but the pickle has {} more", self.left())))
    }

    /// The next `len` bytes.
    fn span(&mut self, len: u64) -> Result<Span, Fault> {
        self.check(len)?;
        let span = Span { start: self.at as u32, len: len as u32 };
        self.at += len as usize;
        Ok(span)
    }

    fn slice(&self, span: Span) -> &'a [u8] {
        &self.bytes[span.start as usize..][..span.len as usize]
    }

    fn long(&mut self, len: u64) -> Result<Op, Fault> {
        let span = self.span(len)?;
        let bytes = self.slice(span);
        if bytes.len() > 8 {
            return Ok(Op::Push(Node::Long(span)));
        }
        let sign = if bytes.last().is_some_and(|byte| byte & 0x80 != 0) { 0xff } else { 0 };
        let mut number = [sign; 8];
        number[..bytes.len()].copy_from_slice(bytes);
        Ok(Op::Push(Node::Int(i64::from_le_bytes(number))))
    }

    fn text(&mut self, len: u64) -> Result<Op, Fault> {
        let span = self.span(len)?;
        match std::str::from_utf8(self.slice(span)) {
            Ok(_) => Ok(Op::Push(Node::Str(span))),
            Err(error) => Err(self.fault(format!("a string that is not UTF-8: {error}"))),
        }
    }

    fn binary(&mut self, len: u64) -> Result<Op, Fault> {
        Ok(Op::Push(Node::Bytes(self.span(len)?)))
    }

    /// A string of Python 2, which did not tell text from bytes.
    fn text_or_bytes(&mut self, len: u64) -> Result<Op, Fault> {
        let span = self.span(len)?;
        let text = std::str::from_utf8(self.slice(span)).is_ok();
        Ok(Op::Push(if text { Node::Str(span) } else { Node::Bytes(span) }))
    }

    /// Module and name, each ended by a line break.
    fn global(&mut self) -> Result<Op, Fault> {
        let rest = &self.bytes[self.at..];
        let mut ends = rest.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(i, _)| i);
        let (Some(_), Some(end)) = (ends.next(), ends.next()) else {
            return Err(self.fault("a name whose end is missing"));
        };
        if let Err(error) = std::str::from_utf8(&rest[..end]) {
            return Err(self.fault(format!("a name that is not UTF-8: {error}")));
        }
        let span = self.span(end as u64)?;
        self.at += 1;
        Ok(Op::Push(Node::Global(span)))
    }
}
