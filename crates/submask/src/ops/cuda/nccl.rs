//! Tensors from one CUDA device to another, by NVIDIA's NCCL, which is found at run time.
//!
//! NCCL only carries: what is added, we add, in an order of ours. Its own sums depend on the number of devices and on how they
//! are connected.

use std::error::Error as _;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::sync::mpsc::channel;
use std::sync::{Arc, OnceLock};

use burn::backend::TensorMetadata;
use burn::tensor::{DType, Device, Tensor};
use cudarc::driver::sys::CUstream;
use cudarc::driver::{DriverError, result as driver};
use libloading::Library;

use super::device::{Array, array, contiguous, enqueue, flush, ordinal, room, tensor};

/// Under which names systems have the library: with what a run needs, and with what a build needs.
const NAMES: [&str; 2] = ["libnccl.so.2", "libnccl.so"];

const HOW: &str = "install NCCL (libnccl2 of NVIDIA's packages, or by pip nvidia-nccl-cu13), where the system finds libraries";

/// `ncclFloat32` of nccl.h.
const FLOAT32: c_int = 7;

/// The least version, which sends and receives.
const LEAST_VERSION: c_int = 2700;

/// `ncclComm_t`.
type Handle = *mut c_void;

/// Bytes by which ranks find each other, `ncclUniqueId`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct UniqueId(pub [u8; 128]);

/// What is called of the library.
#[derive(Debug)]
struct Nccl {
    get_unique_id: unsafe extern "C" fn(*mut UniqueId) -> c_int,
    init_rank: unsafe extern "C" fn(*mut Handle, c_int, UniqueId, c_int) -> c_int,
    destroy: unsafe extern "C" fn(Handle) -> c_int,
    group_start: unsafe extern "C" fn() -> c_int,
    group_end: unsafe extern "C" fn() -> c_int,
    send: unsafe extern "C" fn(*const c_void, usize, c_int, c_int, Handle, CUstream) -> c_int,
    receive: unsafe extern "C" fn(*mut c_void, usize, c_int, c_int, Handle, CUstream) -> c_int,
    error_string: unsafe extern "C" fn(c_int) -> *const c_char,
    /// Since version 2.13.
    last_error: Option<unsafe extern "C" fn(Handle) -> *const c_char>,
}

impl Nccl {
    /// The library, opened once.
    ///
    /// # Errors
    /// What is missing, and what to install.
    fn get() -> Result<&'static Self, String> {
        static OPENED: OnceLock<Result<Nccl, String>> = OnceLock::new();
        OPENED.get_or_init(Self::open).as_ref().map_err(Clone::clone)
    }

    fn open() -> Result<Self, String> {
        // SAFETY: NVIDIA's library has initialisers without conditions.
        let open = |name: &str| unsafe { Library::new(name) };
        let library = open(NAMES[0]).or_else(|error| open(NAMES[1]).map_err(|_| error));
        // What the system says names the file.
        let library = library.map_err(|error| {
            let said = error.source().map_or_else(|| format!("{}: {error}", NAMES[0]), ToString::to_string);
            format!("cannot be used: {said}: {HOW}")
        })?;
        // It stays loaded, and so do its functions.
        let library: &'static Library = Box::leak(Box::new(library));
        let old = |name: &str| format!("cannot be used: {} has no {name}: {HOW}", NAMES[0]);
        macro_rules! find {
            ($name:literal) => {
                // SAFETY: nccl.h declares it so.
                *unsafe { library.get($name) }.map_err(|_| old(&String::from_utf8_lossy($name)))?
            };
        }
        let get_version: unsafe extern "C" fn(*mut c_int) -> c_int = find!(b"ncclGetVersion");
        let mut version = 0;
        // SAFETY: it writes a number.
        unsafe { get_version(&mut version) };
        if version < LEAST_VERSION {
            return Err(format!("cannot be used: {} is version {version}, older than 2.7: {HOW}", NAMES[0]));
        }
        Ok(Self {
            get_unique_id: find!(b"ncclGetUniqueId"),
            init_rank: find!(b"ncclCommInitRank"),
            destroy: find!(b"ncclCommDestroy"),
            group_start: find!(b"ncclGroupStart"),
            group_end: find!(b"ncclGroupEnd"),
            send: find!(b"ncclSend"),
            receive: find!(b"ncclRecv"),
            error_string: find!(b"ncclGetErrorString"),
            // SAFETY: as above.
            last_error: unsafe { library.get(b"ncclGetLastError") }.ok().map(|symbol| *symbol),
        })
    }

    /// What went wrong in a call that returned `code`, in NCCL's words.
    fn check(&self, what: &str, code: c_int) -> Result<(), String> {
        if code == 0 {
            return Ok(());
        }
        // SAFETY: both give text that ends with zero; the second one of the last error in this thread.
        let text = |text: *const c_char| unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned();
        let error = text(unsafe { (self.error_string)(code) });
        let last = self.last_error.map(|last_error| text(unsafe { last_error(std::ptr::null_mut()) }));
        let last = last.filter(|last| !last.trim().is_empty()).unwrap_or_default();
        Err(format!("{what}: {error}; {}", last.trim()).trim_end_matches("; ").to_owned())
    }

    /// Enqueues what `calls` enqueues as one group, whose messages are under way at the same time.
    fn group(&self, what: &str, calls: impl FnOnce() -> Result<(), String>) -> Result<(), String> {
        // SAFETY: a group that begins here ends here.
        self.check(what, unsafe { (self.group_start)() })?;
        let done = calls();
        let ended = self.check(what, unsafe { (self.group_end)() });
        done.and(ended)
    }
}

/// New bytes, by which ranks find each other once.
///
/// # Errors
/// Where NCCL is missing, with what to install; what it says.
pub fn unique_id() -> Result<UniqueId, String> {
    let nccl = Nccl::get()?;
    let mut id = UniqueId([0; 128]);
    // SAFETY: it writes the bytes.
    nccl.check("fails in ncclGetUniqueId", unsafe { (nccl.get_unique_id)(&mut id) })?;
    Ok(id)
}

/// The place of a device among several, each of a process of its own, or of a thread with a device of its own.
#[derive(Debug)]
pub struct Communicator {
    nccl: &'static Nccl,
    handle: Raw,
    /// On the device.
    some: Array,
    /// The first call that failed, after which none is made.
    failure: Arc<OnceLock<String>>,
}

/// Used on the device's thread only.
#[derive(Clone, Copy, Debug)]
struct Raw(Handle);

// SAFETY: NCCL's handles may go from thread to thread, and are used by one at a time.
unsafe impl Send for Raw {}

impl Raw {
    fn get(self) -> Handle {
        self.0
    }
}

impl Communicator {
    /// Joins `ranks` devices as the one of this rank. Waits for all others.
    ///
    /// # Errors
    /// Where NCCL is missing, with what to install; what it says.
    pub fn join(device: &Device, id: UniqueId, rank: usize, ranks: usize) -> Result<Self, String> {
        let nccl = Nccl::get()?;
        let some = array(&Tensor::zeros([1], device));
        let (say, hear) = channel();
        // On the device's thread, where its context is current.
        enqueue(&some, Vec::new(), Vec::new(), move |_, _| {
            let mut handle: Handle = std::ptr::null_mut();
            // SAFETY: it writes the handle.
            let code = unsafe { (nccl.init_rank)(&mut handle, ranks as c_int, id, rank as c_int) };
            let _ = say.send(nccl.check("fails in ncclCommInitRank", code).map(|()| Raw(handle)));
            Ok(())
        });
        flush(&some);
        let handle = hear.recv().map_err(|_| "fails: the device does not answer".to_owned())??;
        Ok(Self { nccl, handle, some, failure: Arc::default() })
    }

    /// What went wrong first, if anything did: the others then wait in vain, and this one must end them.
    pub fn failure(&self) -> Option<&str> {
        self.failure.get().map(String::as_str)
    }

    /// Sends tensors to the device of a rank, which receives as many elements, when both get there. Does not wait for it: what
    /// goes wrong is the error of whoever reads the tensors later, and of later calls.
    ///
    /// # Errors
    /// What went wrong in an earlier call.
    pub fn send(&self, to: usize, values: &[Tensor<1>]) -> Result<(), String> {
        let arrays: Vec<Array> = values.iter().map(|values| contiguous(array(values))).collect();
        let (nccl, handle) = (self.nccl, self.handle);
        self.group("ncclSend", &arrays, move |pointer, len, stream| {
            let from = pointer as *const c_void;
            // SAFETY: the buffer has so many floats, and is not freed before the stream is done with them.
            unsafe { (nccl.send)(from, len, FLOAT32, to as c_int, handle.get(), stream) }
        })
    }

    /// Tensors of `lens` elements that the device of a rank sends. Does not wait for it: what goes wrong is the error of whoever
    /// reads them, and of later calls.
    ///
    /// # Errors
    /// What went wrong in an earlier call.
    pub fn receive(&self, from: usize, lens: &[usize]) -> Result<Vec<Tensor<1>>, String> {
        let arrays: Vec<Array> = lens.iter().map(|&len| room(&self.some, [len], DType::F32)).collect();
        let (nccl, handle) = (self.nccl, self.handle);
        self.group("ncclRecv", &arrays, move |pointer, len, stream| {
            let to = pointer as *mut c_void;
            // SAFETY: the buffer has room for so many floats, and nobody reads it before the stream is done with it.
            unsafe { (nccl.receive)(to, len, FLOAT32, from as c_int, handle.get(), stream) }
        })?;
        Ok(arrays.into_iter().map(tensor).collect())
    }

    /// Enqueues a call for each of some arrays, given its address and its number of elements, as one group.
    fn group(
        &self,
        what: &'static str,
        arrays: &[Array],
        call: impl Fn(u64, usize, CUstream) -> c_int + Send + 'static,
    ) -> Result<(), String> {
        if let Some(failure) = self.failure() {
            return Err(failure.to_owned());
        }
        let lens: Vec<usize> = arrays.iter().map(|array| array.shape().num_elements()).collect();
        let buffers: Vec<_> = arrays.iter().map(|array| array.handle.clone().binding()).collect();
        let (nccl, failure) = (self.nccl, Arc::clone(&self.failure));
        // All called written, so that whoever reads them hears of a failure.
        enqueue(&self.some, buffers.clone(), buffers, move |pointers, stream| {
            if let Some(failure) = failure.get() {
                return Err(failure.clone());
            }
            let done = nccl.group(what, || {
                pointers
                    .iter()
                    .zip(&lens)
                    .try_for_each(|(&pointer, &len)| nccl.check(what, call(pointer, len, stream)))
            });
            done.inspect_err(|problem| drop(failure.set(problem.clone())))
        });
        // The other side waits for it.
        flush(&self.some);
        Ok(())
    }
}

impl Drop for Communicator {
    fn drop(&mut self) {
        let (nccl, handle) = (self.nccl, self.handle);
        enqueue(&self.some, Vec::new(), Vec::new(), move |_, _| {
            // SAFETY: nothing uses it after this. It waits for what is under way.
            nccl.check("ncclCommDestroy", unsafe { (nccl.destroy)(handle.get()) })
        });
        flush(&self.some);
    }
}

/// What distinguishes a device from all others, whatever it is called in which process.
///
/// # Errors
/// What the driver says.
pub fn unique_name(device: &Device) -> Result<Vec<u8>, String> {
    let said = |error: DriverError| format!("cannot be used: the driver says {error}");
    let device = driver::device::get(ordinal(&array(&Tensor::zeros([1], device)))).map_err(said)?;
    Ok(driver::device::get_uuid(device).map_err(said)?.bytes.map(|byte| byte as u8).to_vec())
}
