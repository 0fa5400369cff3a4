//! Arrays of NumPy in pickles, and dicts whose keys are text or bytes.

use super::{Value, ValueRef};

/// An array of NumPy in rows.
pub(crate) struct NumpyArray<'a> {
    /// Kind and size of an element, `u1`.
    pub kind: &'a str,
    /// Whether numbers of several bytes are big-endian.
    big_endian: bool,
    pub shape: Vec<usize>,
    pub elements: Elements<'a>,
}

/// The elements of an array, one after the other.
pub(crate) enum Elements<'a> {
    /// As they stand in the pickle.
    Bytes(&'a [u8]),
    /// Protocol 2 of Python 3 has texts only: a byte is the character of that number.
    Latin1(&'a str),
}

impl<'a> Elements<'a> {
    fn read(value: ValueRef<'a>) -> Option<Self> {
        match value.value() {
            Value::Bytes(bytes) => Some(Self::Bytes(bytes)),
            // Python 2 does not tell text from bytes.
            Value::Str(text) => Some(Self::Bytes(text.as_bytes())),
            _ => encoded(value).map(Self::Latin1),
        }
    }

    /// How many bytes; `None` for a character that is none.
    pub fn len(&self) -> Option<usize> {
        match self {
            Self::Bytes(bytes) => Some(bytes.len()),
            Self::Latin1(text) => text.chars().all(|c| u8::try_from(c).is_ok()).then(|| text.chars().count()),
        }
    }

    /// The bytes themselves.
    pub fn to_vec(&self) -> Vec<u8> {
        match self {
            Self::Bytes(bytes) => bytes.to_vec(),
            Self::Latin1(text) => text.chars().map(|character| character as u8).collect(),
        }
    }
}

impl<'a> NumpyArray<'a> {
    /// The array that `value` is, in rows: an empty one that was given the state (version, shape, type, whether in
    /// columns, elements), or from protocol 5 on `_frombuffer(elements, type, shape, order)`.
    pub fn read(value: ValueRef<'a>) -> Option<Self> {
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
        let shape: Vec<usize> =
            shape.items()?.map(|size| usize::try_from(size.as_i64()?).ok()).collect::<Option<_>>()?;
        let (kind, big_endian) = data_type(kind)?;
        Some(Self { kind, big_endian, shape, elements: Elements::read(elements)? })
    }

    /// Whether there are as many elements of `size` bytes as the shape tells of.
    pub fn is_complete(&self, size: usize) -> bool {
        let expected = self.shape.iter().try_fold(size, |product, length| product.checked_mul(*length));
        expected.is_some() && expected == self.elements.len()
    }

    /// The elements, which are whole numbers.
    fn integers(&self) -> Option<Vec<i64>> {
        let size = integer_bytes(self.kind)?;
        let bytes = self.is_complete(size).then(|| self.elements.to_vec())?;
        bytes.chunks_exact(size).map(|number| integer(self.kind, number, self.big_endian)).collect()
    }
}

/// Kind of the elements, and whether they are big-endian, of a `dtype`: `dtype('u1')` with the state
/// (version, order, …).
fn data_type(value: ValueRef<'_>) -> Option<(&str, bool)> {
    let kind = text(value.args()?.items()?.next()?)?;
    let order = value.state().and_then(|state| text(state.items()?.nth(1)?));
    Some((kind, order == Some(">")))
}

/// Bytes of a whole number of a kind.
fn integer_bytes(kind: &str) -> Option<usize> {
    match kind {
        "i1" | "u1" => Some(1),
        "i2" | "u2" => Some(2),
        "i4" | "u4" => Some(4),
        "i8" | "u8" => Some(8),
        _ => None,
    }
}

fn integer(kind: &str, bytes: &[u8], big_endian: bool) -> Option<i64> {
    let mut wide: Vec<u8> = bytes.to_vec();
    if big_endian {
        wide.reverse();
    }
    let is_negative = kind.starts_with('i') && wide.last()? & 0x80 != 0;
    wide.resize(8, if is_negative { 0xff } else { 0 });
    let number = i64::from_le_bytes(wide.try_into().ok()?);
    (is_negative || number >= 0).then_some(number)
}

/// The whole numbers of a list or tuple of numbers, or of an array.
pub(crate) fn integers(value: ValueRef<'_>) -> Option<Vec<i64>> {
    match value.value() {
        Value::List | Value::Tuple => value.items()?.map(whole_number).collect(),
        _ => NumpyArray::read(value)?.integers(),
    }
}

/// A number of Python, or a `scalar(dtype, bytes)` of NumPy.
fn whole_number(value: ValueRef<'_>) -> Option<i64> {
    if let Some(number) = value.as_i64() {
        return Some(number);
    }
    let mut arguments =
        value.class().filter(|function| function.name == "scalar").and(value.args())?.items()?;
    let (kind, big_endian) = data_type(arguments.next()?)?;
    let bytes = Elements::read(arguments.next()?)?;
    (bytes.len()? == integer_bytes(kind)?).then(|| integer(kind, &bytes.to_vec(), big_endian))?
}

/// A text, or bytes that are one.
pub(crate) fn text(value: ValueRef<'_>) -> Option<&str> {
    match value.value() {
        Value::Str(text) => Some(text),
        Value::Bytes(bytes) => std::str::from_utf8(bytes).ok(),
        _ => encoded(value),
    }
}

/// The text whose characters are the bytes of a `bytes` of Python 3 in protocol 2: `_codecs.encode(text, 'latin1')`.
fn encoded(value: ValueRef<'_>) -> Option<&str> {
    let function = value.class()?;
    let mut arguments = value.args()?.items()?;
    let (text, encoding) = (arguments.next()?.as_str()?, arguments.next()?.as_str()?);
    (function.is("_codecs", "encode") && encoding == "latin1").then_some(text)
}

/// The value of `key` in a dict, whether its keys are texts or bytes.
pub(crate) fn get<'a>(dict: ValueRef<'a>, key: &str) -> Option<ValueRef<'a>> {
    dict.entries()?.filter(|(name, _)| text(*name) == Some(key)).map(|(_, value)| value).last()
}

/// The keys of a dict that are texts or bytes, for messages.
pub(crate) fn keys<'a>(dict: ValueRef<'a>) -> Vec<&'a str> {
    dict.entries().into_iter().flatten().filter_map(|(name, _)| text(name)).collect()
}
