//! Long work: without the GIL, on a thread of its own, so that Ctrl-C is noticed meanwhile, and a panic becomes an exception.

use std::any::Any;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Mutex, MutexGuard, OnceLock, TryLockError};
use std::time::Duration;

use pyo3::prelude::*;
use submask::{Error, Result};

use crate::ending::{attach, detached};
use crate::errors::{exception, internal, invalid};

/// How often signals are looked at.
pub const PATIENCE: Duration = Duration::from_millis(50);

/// Whether work is to end before it is done.
#[derive(Debug, Default)]
pub struct CancelFlag {
    is_set: AtomicBool,
}

impl CancelFlag {
    /// Fails once the flag is set, as the library's `*_while` functions ask for.
    ///
    /// # Errors
    /// [`Error::Interrupted`] once nobody waits for the work any more.
    pub fn check(&self) -> Result<()> {
        if self.is_set.load(Ordering::Relaxed) { Err(Error::Interrupted) } else { Ok(()) }
    }
}

/// An error of work, which becomes an exception.
pub trait IntoException: Send {
    /// The exception.
    fn into_exception(self, py: Python<'_>) -> PyErr;
}

impl IntoException for Error {
    fn into_exception(self, py: Python<'_>) -> PyErr {
        exception(py, &self)
    }
}

/// The process that computes. One that is forked from it may not: the threads that compute are not in it, and would be waited for.
static FIRST: OnceLock<u32> = OnceLock::new();

/// Whether this process is the one that computes, or none has computed yet.
pub fn is_first_process() -> bool {
    FIRST.get().is_none_or(|first| *first == std::process::id())
}

/// Refuses to compute in a process that was forked from one that has.
///
/// # Errors
/// `InvalidError` of such a process.
pub fn check_process(py: Python<'_>) -> PyResult<()> {
    let own = std::process::id();
    match *FIRST.get_or_init(|| own) == own {
        true => Ok(()),
        false => {
            let allowed = "one that is started anew, as by multiprocessing's start method \"spawn\"";
            Err(invalid(py, "process", "forked from one that has computed", allowed))
        }
    }
}

/// Does `work` without the GIL. What a signal's handler raises (Ctrl-C: `KeyboardInterrupt`) asks the work to end through [`CancelFlag`],
/// waits for it, and is raised. Where the interpreter ends, so does the work.
///
/// # Errors
/// What the work or a handler of signals raises; `InternalError` where it panicked; and as [`check_process`].
pub fn run<T: Send, E: IntoException>(
    py: Python<'_>,
    work: impl FnOnce(&CancelFlag) -> std::result::Result<T, E> + Send,
) -> PyResult<T> {
    check_process(py)?;
    let cancel = CancelFlag::default();
    let mut raised = None;
    let done = detached(py, || {
        std::thread::scope(|scope| {
            let (sender, receiver) = channel::<()>();
            let worker = scope.spawn(|| {
                // Dropped at the end, also of a panic, which ends the wait.
                let _sender = sender;
                work(&cancel)
            });
            while let Err(RecvTimeoutError::Timeout) = receiver.recv_timeout(PATIENCE) {
                let signals = attach(|py| py.check_signals());
                if !matches!(signals, Some(Ok(()))) {
                    cancel.is_set.store(true, Ordering::Relaxed);
                }
                if let Some(Err(error)) = signals {
                    raised.get_or_insert(error);
                }
            }
            worker.join()
        })
    });
    match (raised, done) {
        (Some(error), _) => Err(error),
        (None, Ok(done)) => done.map_err(|error| error.into_exception(py)),
        (None, Err(panic)) => Err(internal(py, &text(panic.as_ref()))),
    }
}

/// What a lock guards, unless somebody has it.
pub fn free<T>(lock: &Mutex<T>) -> Option<MutexGuard<'_, T>> {
    match lock.try_lock() {
        Ok(guarded) => Some(guarded),
        Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
        Err(TryLockError::WouldBlock) => None,
    }
}

/// The error of a stream that is asked while it is being asked.
pub fn stream_in_use(py: Python<'_>) -> PyErr {
    invalid(py, "stream", "in use", "one call at a time: another one has not returned")
}

/// What a panic said.
pub fn text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without words".to_owned())
}
