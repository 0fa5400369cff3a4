//! The way to a CUDA device: raw pointers of Burn's tensors, the stream that CubeCL gives this thread, and our own kernels,
//! which NVRTC compiles when they first run.
//!
//! What is enqueued here stands between CubeCL's kernels as if it were one of them: closures run on the device's thread in
//! the order in which this thread gave them, and what they enqueue runs on the same CUDA stream. Nobody waits.

use std::any::TypeId;
use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::{CStr, CString, c_char, c_void};
use std::fmt::{self, Write};

use burn::backend::ops::FloatTensorOps;
use burn::backend::tensor::FloatTensor;
use burn::backend::{
    BackendTensor, Cube, DispatchAutodiffContext, DispatchDevice, DispatchTensor, DispatchTensorKind,
    TensorMetadata,
};
use burn::tensor::{DType, Device, Shape, Tensor};
use cubecl_common::device_handle::DeviceHandle;
use cubecl_core::server::{BufferBinding, ServerError, ServerStorage};
use cubecl_cuda::CudaRuntime;
use cubecl_environment::backtrace::BackTrace;
use cubecl_environment::stream::StreamId;
use cubecl_server::runtime::Runtime;
use cubecl_server::stream::{ExecuteScope, WriteScoped};
use cudarc::driver::{result as driver, sys};
use cudarc::nvrtc::result as nvrtc;

/// What computes on the device; its type has no name of its own.
type Server = <CudaRuntime as Runtime>::Server;

/// A tensor of a CUDA device, of numbers of any type.
pub(super) type Array = FloatTensor<Cube>;

/// Dynamic shared memory that a kernel may use without asking for it: a block has 48 KiB, of which some may be static.
const SHARED_WITHOUT_ASKING: usize = 32 << 10;

/// The most blocks in the second and third dimension of a grid.
const MOST_BLOCKS: usize = 65_535;

/// Whether this is a CUDA device, with gradients or without.
pub fn is_cuda(device: &Device) -> bool {
    match device.clone().inner().as_dispatch() {
        DispatchDevice::Cube(device) => device.client().service_id().service == TypeId::of::<Server>(),
        _ => false,
    }
}

/// What addresses of contiguous tensors are multiples of: kernels and products read so many bytes at once.
const ALIGNMENT: u64 = 16;

/// What a tensor of a CUDA device is there.
pub(super) fn array(tensor: &Tensor<1>) -> Array {
    match tensor.clone().into_dispatch().kind {
        DispatchTensorKind::Cube(BackendTensor::Float(array)) => array,
        other => panic!("a tensor of a CUDA device without gradients, not {other:?}"),
    }
}

/// The tensor of what is on a CUDA device.
pub(super) fn tensor(array: Array) -> Tensor<1> {
    let kind = DispatchTensorKind::Cube(BackendTensor::Float(array));
    Tensor::from_dispatch(DispatchTensor { kind, autodiff: DispatchAutodiffContext::Disabled })
}

/// The same tensor with its rows one after the other, at an address that can be read in large steps: a copy, if it is not so.
pub(super) fn contiguous(x: Array) -> Array {
    let shape = x.shape();
    let mut expected = 1;
    let in_order = shape.iter().zip(x.meta.strides().iter()).rev().all(|(&len, &stride)| {
        let fits = len == 1 || stride == expected;
        expected *= len;
        fits
    });
    if in_order {
        // Of part of a tensor.
        let is_aligned = x.handle.offset_start.unwrap_or(0).is_multiple_of(ALIGNMENT);
        return if is_aligned { x } else { x.copy() };
    }
    // Of one dimension memory has no padding.
    let flat = Cube::float_reshape(x, Shape::new([shape.num_elements()]));
    reshaped(flat, shape)
}

/// A contiguous tensor under another shape of as many elements.
pub(super) fn reshaped(x: Array, shape: impl Into<Shape>) -> Array {
    let shape = shape.into();
    assert_eq!(shape.num_elements(), x.shape().num_elements());
    Array::new_contiguous(x.client, x.device, shape, x.handle, x.dtype)
}

/// Room for a tensor on the device of `like`, contiguous, whose elements are whatever memory held.
pub(super) fn room(like: &Array, shape: impl Into<Shape>, dtype: DType) -> Array {
    let shape = shape.into();
    // An empty buffer has no address.
    let bytes = shape.num_elements().max(1) * dtype.size();
    let handle = like.client.empty(bytes);
    Array::new_contiguous(like.client.clone(), like.device.clone(), shape, handle, dtype)
}

/// `bytes` of memory for one call.
pub(super) fn workspace(like: &Array, bytes: usize) -> Array {
    room(like, [bytes], DType::U8)
}

/// The name of a type of numbers in CUDA C++.
pub(super) fn name_of(dtype: DType) -> &'static str {
    match dtype {
        DType::F32 => "float",
        DType::BF16 => "__nv_bfloat16",
        DType::I32 => "int",
        other => panic!("kernels of {other:?}"),
    }
}

/// A source of kernels in CUDA C++, and how its kernels are distinguished from others in messages.
#[derive(Debug)]
pub(super) struct Source {
    pub name: &'static str,
    pub code: &'static str,
}

/// What every source begins with.
const COMMON: &str = include_str!("kernels/common.cuh");

/// Names a file of `kernels/` as a source, behind the files that it uses: `source!("norm.cu", "elements.cuh")`.
macro_rules! source {
    ($file:literal $(, $before:literal)*) => {
        $crate::ops::cuda::device::Source {
            name: $file,
            code: concat!($(include_str!(concat!("kernels/", $before)),)* include_str!(concat!("kernels/", $file))),
        }
    };
}
pub(super) use source;

/// An argument of a kernel.
#[derive(Clone, Copy, Debug)]
enum Argument {
    /// The address of the buffer with this index.
    Buffer(usize),
    /// A number, by its bits; the kernel's parameter says how many of them it reads.
    Bits(u64),
}

/// A kernel of ours with its arguments, in their order.
pub(super) struct Launch {
    source: &'static Source,
    name: &'static str,
    /// Macros as options of the compiler, one after the other, each behind a space.
    defines: String,
    grid: [usize; 3],
    block: usize,
    shared: usize,
    buffers: Vec<BufferBinding>,
    written: Vec<BufferBinding>,
    arguments: Vec<Argument>,
}

impl Launch {
    /// A launch of the kernel `name`.
    pub fn new(source: &'static Source, name: &'static str) -> Self {
        Self {
            source,
            name,
            defines: String::new(),
            grid: [1; 3],
            block: 1,
            shared: 0,
            buffers: Vec::new(),
            written: Vec::new(),
            arguments: Vec::new(),
        }
    }

    /// A macro with which the source is compiled: what is known before the kernel runs, and takes few values.
    pub fn define(mut self, name: &'static str, value: impl fmt::Display) -> Self {
        write!(self.defines, " -D{name}={value}").expect("text grows");
        self
    }

    /// A tensor that is read: contiguous, or of strides that the kernel knows.
    pub fn read(mut self, x: &Array) -> Self {
        self.arguments.push(Argument::Buffer(self.buffers.len()));
        self.buffers.push(x.handle.clone().binding());
        self
    }

    /// A tensor that may be missing: the null pointer.
    pub fn read_if(self, x: Option<&Array>) -> Self {
        match x {
            Some(x) => self.read(x),
            None => self.size(0),
        }
    }

    /// A tensor that is written, or changed.
    pub fn write(mut self, x: &Array) -> Self {
        self.written.push(x.handle.clone().binding());
        self.read(x)
    }

    /// A tensor that may be missing: the null pointer.
    pub fn write_if(self, x: Option<&Array>) -> Self {
        match x {
            Some(x) => self.write(x),
            None => self.size(0),
        }
    }

    /// A parameter of type `int` or `unsigned`.
    pub fn int(self, value: impl TryInto<u32, Error: fmt::Debug>) -> Self {
        let value = value.try_into().expect("a number of 32 bits");
        self.bits(u64::from(value))
    }

    /// A parameter of type `unsigned long long`, `size_t` or `long long`.
    pub fn size(self, value: usize) -> Self {
        self.bits(value as u64)
    }

    /// A parameter of type `float`.
    pub fn float(self, value: f32) -> Self {
        self.bits(u64::from(value.to_bits()))
    }

    fn bits(mut self, bits: u64) -> Self {
        self.arguments.push(Argument::Bits(bits));
        self
    }

    /// Bytes of dynamic shared memory of a block.
    pub fn shared(mut self, bytes: usize) -> Self {
        self.shared = bytes;
        self
    }

    /// Launches blocks of `block` threads on the device of `on`. A grid of no blocks is none.
    pub fn run(self, on: &Array, grid: [usize; 3], block: usize) {
        let mut launch = self.sized(grid, block);
        let [buffers, written] = launch.take_buffers();
        let ordinal = ordinal(on);
        if !grid.contains(&0) {
            enqueue(on, buffers, written, move |pointers, stream| launch.enqueue(pointers, stream, ordinal));
        }
    }

    /// The same launch with a number of blocks of `block` threads, for [`Self::enqueue`].
    pub fn sized(mut self, grid: [usize; 3], block: usize) -> Self {
        assert!(
            grid[0] <= i32::MAX as usize && grid[1..].iter().all(|&blocks| blocks <= MOST_BLOCKS),
            "{grid:?}"
        );
        (self.grid, self.block) = (grid, block);
        self
    }

    /// The buffers that it reads or writes, in the order of its arguments, and those that it writes.
    pub fn take_buffers(&mut self) -> [Vec<BufferBinding>; 2] {
        [std::mem::take(&mut self.buffers), std::mem::take(&mut self.written)]
    }

    /// Launches it on the device's thread, given the addresses of its tensors in the order in which they were named.
    pub fn enqueue(&self, pointers: &[u64], stream: sys::CUstream, ordinal: i32) -> Result<(), String> {
        let function = self.function(ordinal)?;
        let failed = |error| format!("{} of {}: {error}", self.name, self.source.name);
        if self.shared > SHARED_WITHOUT_ASKING {
            // At every launch: the next one may need more than the first.
            let attribute = sys::CUfunction_attribute_enum::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
            // SAFETY: the function is loaded.
            unsafe { driver::function::set_function_attribute(function, attribute, self.shared as i32) }
                .map_err(failed)?;
        }
        let mut values: Vec<u64> = self
            .arguments
            .iter()
            .map(|argument| match *argument {
                Argument::Buffer(index) => pointers[index],
                Argument::Bits(bits) => bits,
            })
            .collect();
        let mut parameters: Vec<*mut c_void> =
            values.iter_mut().map(|value| std::ptr::from_mut(value).cast()).collect();
        let [x, y, z] = self.grid.map(|blocks| blocks as u32);
        // SAFETY: the function is of a module that stays loaded, and whoever wrote the launch gave the parameters that the
        // kernel declares; the bits of a number that is shorter than 64 come first in memory.
        unsafe {
            driver::launch_kernel(
                function,
                (x, y, z),
                (self.block as u32, 1, 1),
                self.shared as u32,
                stream,
                &mut parameters,
            )
        }
        .map_err(failed)
    }

    /// The compiled kernel, on the device's thread.
    fn function(&self, ordinal: i32) -> Result<sys::CUfunction, String> {
        let key = (self.source.name, self.name, ordinal);
        let of = |loaded: &Loaded| loaded.functions.get(&key)?.get(self.defines.as_str()).copied();
        if let Some(function) = LOADED.with_borrow(of) {
            return Ok(function);
        }
        let module_key = (self.source.name, self.defines.clone(), ordinal);
        let known = LOADED.with_borrow(|loaded| loaded.modules.get(&module_key).copied());
        let module = match known {
            Some(module) => module,
            None => {
                let module = load(self.source, &self.defines, ordinal)?;
                LOADED.with_borrow_mut(|loaded| loaded.modules.insert(module_key, module));
                module
            }
        };
        let failed = |error: &dyn fmt::Display| format!("{} of {}: {error}", self.name, self.source.name);
        let name = CString::new(self.name).map_err(|error| failed(&error))?;
        // SAFETY: the module is loaded.
        let function =
            unsafe { driver::module::get_function(module, name) }.map_err(|error| failed(&error))?;
        LOADED.with_borrow_mut(|loaded| {
            loaded.functions.entry(key).or_default().insert(self.defines.clone(), function)
        });
        Ok(function)
    }
}

/// The number of a tensor's device among CUDA's.
pub(super) fn ordinal(x: &Array) -> i32 {
    i32::from(x.client.service_id().device.index_id)
}

/// Kernels of the device's thread; they stay loaded. Sources, kernels and devices, then macros.
#[derive(Default)]
struct Loaded {
    modules: HashMap<(&'static str, String, i32), sys::CUmodule>,
    functions: HashMap<(&'static str, &'static str, i32), HashMap<String, sys::CUfunction>>,
}

thread_local! {
    static LOADED: RefCell<Loaded> = RefCell::default();
}

/// The least compute capability, times ten, of a device that runs our kernels: they copy asynchronously, and multiply TF32 and
/// bfloat16 numbers.
pub const LEAST_CAPABILITY: i32 = 80;

/// The compute capability of a device, times ten: 80, 89, 90, … The driver has been initialised.
///
/// # Errors
/// What the driver says.
pub fn capability(ordinal: i32) -> Result<i32, String> {
    use sys::CUdevice_attribute::{
        CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR as MAJOR,
        CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR as MINOR,
    };
    let device = driver::device::get(ordinal).map_err(|error| error.to_string())?;
    // SAFETY: the device is one that the driver named.
    let ask = |attribute| {
        unsafe { driver::device::get_attribute(device, attribute) }.map_err(|error| error.to_string())
    };
    Ok(10 * ask(MAJOR)? + ask(MINOR)?)
}

/// Compiles a source, and loads it.
fn load(source: &Source, defines: &str, ordinal: i32) -> Result<sys::CUmodule, String> {
    let failed = |error: &dyn fmt::Display| format!("{}: {error}", source.name);
    let code = CString::new(format!("{COMMON}\n#line 1 \"{}\"\n{}", source.name, source.code))
        .map_err(|error| failed(&error))?;
    let mut options = vec![
        format!("--gpu-architecture=compute_{}", capability(ordinal)?),
        "--std=c++17".to_owned(),
        "-default-device".to_owned(),
        format!("--include-path={}", cubecl_cuda::install::include_path().display()),
    ];
    options.extend(defines.split_whitespace().map(str::to_owned));
    let program = nvrtc::create_program(&code, None).map_err(|error| failed(&error))?;
    // SAFETY: the program lives until it is destroyed below.
    let compiled = unsafe {
        let compiled = nvrtc::compile_program(program, &options)
            .map_err(|error| {
                let log = nvrtc::get_program_log(program).map(|log| text(&log)).unwrap_or_default();
                format!("{}: {error}\n{log}", source.name)
            })
            .and_then(|()| nvrtc::get_ptx(program).map_err(|error| failed(&error)));
        nvrtc::destroy_program(program).map_err(|error| failed(&error))?;
        compiled?
    };
    // SAFETY: the image is text that ends with zero.
    unsafe { driver::module::load_data(compiled.as_ptr().cast()) }.map_err(|error| failed(&error))
}

/// The characters of a text that ends with zero.
fn text(characters: &[c_char]) -> String {
    let bytes: Vec<u8> = characters.iter().map(|&character| character as u8).collect();
    CStr::from_bytes_until_nul(&bytes).map(|text| text.to_string_lossy().into_owned()).unwrap_or_default()
}

/// Has the device's thread call `work` with the addresses of `buffers` and this thread's stream, in turn with all that this
/// thread gives to the device. A failure goes to whoever reads one of the `written` buffers.
pub(super) fn enqueue(
    on: &Array,
    buffers: Vec<BufferBinding>,
    written: Vec<BufferBinding>,
    work: impl FnOnce(&[u64], sys::CUstream) -> Result<(), String> + Send + 'static,
) {
    let service = on.client.service_id();
    assert_eq!(service.service, TypeId::of::<Server>(), "a tensor on a CUDA device");
    let id = StreamId::current();
    DeviceHandle::<Server>::new(service.device).submit(move |server| {
        // A failure of what wrote a buffer goes on to those that are written here.
        let resources: Vec<_> =
            buffers.iter().map(|buffer| server.get_resource(buffer.clone(), id)).collect();
        let mut claimed = server.write_set();
        claimed.extend(written);
        ExecuteScope::over(server, id, claimed).execute(|server| {
            let resources = resources.into_iter().collect::<Result<Vec<_>, _>>()?;
            let pointers: Vec<u64> = resources.iter().map(|resource| resource.resource().ptr).collect();
            // Other streams' work on the memory is waited for; theirs waits for this one's once this is dropped.
            let mut streams = server.write_streams().resolve(id, buffers.iter())?;
            let stream = streams.current().sys;
            work(&pointers, stream)
                .map_err(|reason| ServerError::Generic { reason, backtrace: BackTrace::capture() })
        });
    });
}

/// Has the device's thread begin with what this thread gave it, instead of waiting for more.
pub(super) fn flush(on: &Array) {
    DeviceHandle::<Server>::new(on.client.service_id().device).flush_queue();
}
