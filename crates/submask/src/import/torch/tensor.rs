//! Tensors: which values are some, whether they lie in their storage, and their numbers.

use half::{bf16, f16};

use super::TorchFile;
use super::archive::quote;
use crate::Result;
use crate::pickle::{Global, Value, ValueRef};

/// PyTorch's own limit.
const MAX_DIMENSIONS: usize = 64;
/// How long a storage's key may be; PyTorch counts them.
const MAX_KEY_BYTES: usize = 128;
/// How deep a tensor may stand in wrappers: a parameter in a subclass.
const MAX_WRAPPERS: usize = 4;

/// What the elements of a tensor are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TorchType {
    /// 64-bit floats.
    F64,
    /// 32-bit floats.
    F32,
    /// 16-bit floats, IEEE 754.
    F16,
    /// 16-bit floats, the upper half of 32-bit ones.
    Bf16,
    /// 64-bit signed integers.
    I64,
    /// 32-bit signed integers.
    I32,
    /// 16-bit signed integers.
    I16,
    /// 8-bit signed integers.
    I8,
    /// Bytes.
    U8,
    /// Truth values, a byte each.
    Bool,
}

impl TorchType {
    /// Bytes of an element.
    pub fn size(self) -> usize {
        match self {
            Self::F64 | Self::I64 => 8,
            Self::F32 | Self::I32 => 4,
            Self::F16 | Self::Bf16 | Self::I16 => 2,
            Self::I8 | Self::U8 | Self::Bool => 1,
        }
    }

    /// That of a storage class.
    fn of(class: Global<'_>) -> Option<Self> {
        Some(match (class.module, class.name) {
            ("torch", "DoubleStorage") => Self::F64,
            ("torch", "FloatStorage") => Self::F32,
            ("torch", "HalfStorage") => Self::F16,
            ("torch", "BFloat16Storage") => Self::Bf16,
            ("torch", "LongStorage") => Self::I64,
            ("torch", "IntStorage") => Self::I32,
            ("torch", "ShortStorage") => Self::I16,
            ("torch", "CharStorage") => Self::I8,
            ("torch", "ByteStorage") => Self::U8,
            ("torch", "BoolStorage") => Self::Bool,
            _ => return None,
        })
    }
}

/// A tensor in a checkpoint that was checked to lie in its storage: element (i_0, i_1, …) is number
/// offset + Σ i_k · stride_k of it.
#[derive(Clone, Debug)]
pub struct TensorRef {
    dtype: TorchType,
    shape: Vec<usize>,
    stride: Vec<usize>,
    offset: usize,
    len: usize,
    /// One more than the largest element number.
    end: usize,
    key: String,
    /// The storage's number in the archive.
    storage: usize,
    /// The dict key that it stood under, for messages.
    name: u32,
}

impl TensorRef {
    /// What its elements are.
    pub fn dtype(&self) -> TorchType {
        self.dtype
    }

    /// Its dimensions.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// How far apart neighbours stand, in elements, along each dimension. Along one of length 1 it is 0.
    pub fn stride(&self) -> &[usize] {
        &self.stride
    }

    /// Which element of the storage is the first.
    pub fn offset(&self) -> usize {
        self.offset
    }

    /// The storage's key, the name of its file under `data/`. Tensors with the same key share their numbers.
    pub fn storage(&self) -> &str {
        &self.key
    }

    /// How many elements it has: the product of its shape.
    pub fn numel(&self) -> usize {
        self.len
    }

    /// Whether its elements follow each other.
    fn is_contiguous(&self) -> bool {
        let mut expected = 1;
        self.len == 0
            || self.shape.iter().zip(&self.stride).rev().all(|(&len, &stride)| {
                let fits = len == 1 || stride == expected;
                expected *= len;
                fits
            })
    }
}

/// The arguments of `_rebuild_tensor_v2`.
struct Call<'a> {
    storage: ValueRef<'a>,
    offset: ValueRef<'a>,
    shape: ValueRef<'a>,
    stride: ValueRef<'a>,
}

type Checked<T> = std::result::Result<T, String>;

impl TorchFile {
    /// The tensor that a value is, or wraps as a parameter; `None` for a value that is none.
    ///
    /// # Errors
    /// [`Error::Format`](crate::Error::Format) for a tensor of a kind that is not read (sparse, quantised, complex),
    /// that does not lie in its storage, repeats its elements, or whose storage is missing or has another size.
    pub fn tensor(&self, value: ValueRef<'_>) -> Option<Result<TensorRef>> {
        let found = rebuild(value)?.and_then(|call| self.check(&call, value.key_id()));
        Some(found.map_err(|problem| self.error(format!("{}: {problem}", self.named(value.key_id())))))
    }

    /// The numbers of a tensor of floats, in order of its indices, the last one fastest. 64-bit numbers are rounded.
    ///
    /// # Errors
    /// [`Error::Format`](crate::Error::Format) for integers, for altered bytes, and for a tensor whose numbers take
    /// more memory than [a file of this size may](crate::import::torch#limits).
    pub fn read_f32(&self, tensor: &TensorRef) -> Result<Vec<f32>> {
        match tensor.dtype {
            TorchType::F64 => self.read(tensor, |bytes| f64::from_le_bytes(bytes) as f32),
            TorchType::F32 => self.read(tensor, f32::from_le_bytes),
            TorchType::F16 => self.read(tensor, |bytes| f16::from_le_bytes(bytes).to_f32()),
            TorchType::Bf16 => self.read(tensor, |bytes| bf16::from_le_bytes(bytes).to_f32()),
            other => Err(self.tensor_error(tensor, &format!("it holds {other:?}, not floats"))),
        }
    }

    /// The numbers of a tensor of integers or truth values, in order of its indices, the last one fastest.
    ///
    /// # Errors
    /// [`Error::Format`](crate::Error::Format) for floats, for altered bytes, and for a tensor whose numbers take
    /// more memory than [a file of this size may](crate::import::torch#limits).
    pub fn read_i64(&self, tensor: &TensorRef) -> Result<Vec<i64>> {
        match tensor.dtype {
            TorchType::I64 => self.read(tensor, i64::from_le_bytes),
            TorchType::I32 => self.read(tensor, |bytes| i32::from_le_bytes(bytes).into()),
            TorchType::I16 => self.read(tensor, |bytes| i16::from_le_bytes(bytes).into()),
            TorchType::I8 => self.read(tensor, |bytes| i8::from_le_bytes(bytes).into()),
            TorchType::U8 => self.read(tensor, |bytes: [u8; 1]| bytes[0].into()),
            TorchType::Bool => self.read(tensor, |bytes: [u8; 1]| (bytes[0] != 0).into()),
            other => Err(self.tensor_error(tensor, &format!("it holds {other:?}, not integers"))),
        }
    }

    fn read<T, const N: usize>(&self, tensor: &TensorRef, number: impl Fn([u8; N]) -> T) -> Result<Vec<T>> {
        let needed = tensor.len.saturating_mul(size_of::<T>());
        if needed > self.room() {
            let problem =
                format!("it would take {needed} bytes of memory; at most {} are allowed", self.room());
            return Err(self.tensor_error(tensor, &problem));
        }
        if tensor.storage >= self.archive.len() {
            return Err(self.tensor_error(tensor, "it belongs to another file"));
        }
        let bytes = self
            .archive
            .content(&self.bytes, tensor.storage)
            .map_err(|problem| self.tensor_error(tensor, &problem))?;
        let (elements, _) = bytes.as_chunks::<N>();
        if tensor.end > elements.len() {
            return Err(self.tensor_error(tensor, "it belongs to another file"));
        }
        Ok(gather(elements, tensor, number))
    }

    fn tensor_error(&self, tensor: &TensorRef, problem: &str) -> crate::Error {
        let TensorRef { key, shape, name, .. } = tensor;
        let (name, key) = (self.named(*name), quote(key.as_bytes()));
        self.error(format!("{name}, shape {shape:?}, storage {key}: {problem}"))
    }

    /// A tensor in messages: by the dict key that it stands under.
    fn named(&self, key: u32) -> String {
        let name = self.graph.text(self.pickle_bytes(), key);
        name.map_or("a tensor".to_owned(), |name| quote(name.as_bytes()))
    }

    fn check(&self, call: &Call<'_>, name: u32) -> Checked<TensorRef> {
        let (dtype, key, len) = storage(call.storage)?;
        let shown = quote(key.as_bytes());
        let Some(storage) = self.archive.find(&self.bytes, &format!("data/{key}")) else {
            return Err(format!("its storage {shown} is missing in the folder data"));
        };
        let stored = self.archive.range(storage).len();
        if len.checked_mul(dtype.size()) != Some(stored) {
            return Err(format!("its storage {shown} has {stored} bytes, not {len} elements of {dtype:?}"));
        }
        let offset = whole(call.offset).ok_or("its offset is not a whole number")?;
        let shape = sizes(call.shape).ok_or("its shape is not a tuple of sizes")?;
        let mut stride = sizes(call.stride).ok_or("its strides are not a tuple of sizes")?;
        if shape.len() != stride.len() {
            return Err(format!("{} dimensions, but {} strides", shape.len(), stride.len()));
        }
        stride.iter_mut().zip(&shape).filter(|(_, len)| **len == 1).for_each(|(stride, _)| *stride = 0);
        let outside =
            || format!("shape {shape:?}, strides {stride:?} and offset {offset} leave its {len} elements");
        let numel = shape.iter().try_fold(1usize, |a, b| a.checked_mul(*b)).ok_or_else(outside)?;
        let end = if numel == 0 { offset } else { end(offset, &shape, &stride).ok_or_else(outside)? };
        if end > len {
            return Err(outside());
        }
        if numel > len {
            return Err(format!("shape {shape:?} repeats the {len} elements of its storage"));
        }
        Ok(TensorRef { dtype, shape, stride, offset, len: numel, end, key: key.to_owned(), storage, name })
    }
}

/// Finds the call that makes a tensor, through the wrappers around it.
fn rebuild(value: ValueRef<'_>) -> Option<Checked<Call<'_>>> {
    let (mut class, mut args) = (value.class()?, value.args()?);
    if !is_rebuild(class) {
        return None;
    }
    for _ in 0..MAX_WRAPPERS {
        let unread = || format!("a tensor made by {class} is not read");
        let mut items = args.items()?;
        let inner = match (class.module, class.name) {
            ("torch._utils", "_rebuild_tensor" | "_rebuild_tensor_v2") => {
                let parts = [items.next(), items.next(), items.next(), items.next()];
                let [Some(storage), Some(offset), Some(shape), Some(stride)] = parts else {
                    return Some(Err(format!("{class} has too few arguments")));
                };
                return Some(Ok(Call { storage, offset, shape, stride }));
            }
            ("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state") => {
                items.next().and_then(|tensor| Some((tensor.class()?, tensor.args()?)))
            }
            ("torch._tensor", "_rebuild_from_type_v2") => {
                let (function, args) = (items.next(), items.nth(1));
                function.zip(args).and_then(|(function, args)| Some((function.global()?, args)))
            }
            _ => return Some(Err(unread())),
        };
        match inner {
            Some((function, arguments)) if is_rebuild(function) => (class, args) = (function, arguments),
            _ => return Some(Err(format!("what {class} wraps is no tensor"))),
        }
    }
    Some(Err("a tensor in too many wrappers".to_owned()))
}

/// Whether a value is a tensor, or wraps one; not whether it can be read.
pub(crate) fn is_tensor(value: ValueRef<'_>) -> bool {
    rebuild(value).is_some()
}

/// Whether a function is one that `torch.save` writes for tensors.
fn is_rebuild(function: Global<'_>) -> bool {
    matches!(function.module, "torch._utils" | "torch._tensor") && function.name.starts_with("_rebuild_")
}

/// Type, key and number of elements of a storage: the id `("storage", class, key, device, elements)`.
fn storage(value: ValueRef<'_>) -> Checked<(TorchType, &str, usize)> {
    let parts = value.persistent().and_then(|id| id.items()).map(|mut id| {
        let mut next = || id.next();
        [next(), next(), next(), next(), next()]
    });
    let Some([Some(kind), Some(class), Some(key), Some(_), Some(len)]) = parts else {
        return Err("its storage is not described as torch.save does".to_owned());
    };
    if kind.as_str() != Some("storage") {
        return Err("its storage is not described as torch.save does".to_owned());
    }
    let class = class.global().ok_or("its storage has no class")?;
    let dtype = TorchType::of(class).ok_or_else(|| format!("its storage is a {class}, which is not read"))?;
    let key = key.as_str().filter(|key| key.len() <= MAX_KEY_BYTES).ok_or("its storage has no proper key")?;
    let len = whole(len).ok_or("its storage has no proper size")?;
    Ok((dtype, key, len))
}

fn whole(value: ValueRef<'_>) -> Option<usize> {
    value.as_i64()?.try_into().ok()
}

/// A tuple (or list) of whole numbers.
fn sizes(value: ValueRef<'_>) -> Option<Vec<usize>> {
    if !matches!(value.value(), Value::Tuple | Value::List) || value.items()?.nth(MAX_DIMENSIONS).is_some() {
        return None;
    }
    value.items()?.map(whole).collect()
}

/// One more than the largest element number of a tensor that is not empty.
fn end(offset: usize, shape: &[usize], stride: &[usize]) -> Option<usize> {
    let span = |(len, stride): (&usize, &usize)| (len - 1).checked_mul(*stride);
    let last = shape.iter().zip(stride).try_fold(offset, |sum, pair| sum.checked_add(span(pair)?))?;
    last.checked_add(1)
}

/// Reads the elements in order.
fn gather<T, const N: usize>(
    elements: &[[u8; N]],
    tensor: &TensorRef,
    number: impl Fn([u8; N]) -> T,
) -> Vec<T> {
    let mut numbers = Vec::with_capacity(tensor.len);
    if tensor.is_contiguous() {
        numbers.extend(elements[tensor.offset..][..tensor.len].iter().map(|bytes| number(*bytes)));
        return numbers;
    }
    let mut index = vec![0; tensor.shape.len()];
    let mut at = tensor.offset;
    while numbers.len() < tensor.len {
        numbers.push(number(elements[at]));
        for (axis, i) in index.iter_mut().enumerate().rev() {
            *i += 1;
            at += tensor.stride[axis];
            if *i < tensor.shape[axis] {
                break;
            }
            at -= tensor.stride[axis] * *i;
            *i = 0;
        }
    }
    numbers
}
