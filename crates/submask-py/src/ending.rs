//! The end of the interpreter. From then on Python takes down any thread that comes back to it, in the middle of whatever frames stand
//! on its stack. So work is asked to end while Python still runs, and its threads stay away.

use std::cell::Cell;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use pyo3::prelude::*;
use pyo3::types::PyCFunction;

use crate::work::{PATIENCE, is_first_process};

/// How long the end of the interpreter waits for work to end.
const LIMIT: Duration = Duration::from_secs(10);

/// Who is without the GIL, and whether they may come back.
struct Threads {
    /// Calls of threads that will want the GIL again.
    away: usize,
    /// The thread that ends the interpreter, once it does. It may go on calling, as functions of `atexit` do.
    ends: Option<ThreadId>,
}

static THREADS: Mutex<Threads> = Mutex::new(Threads { away: 0, ends: None });
static CAME_BACK: Condvar = Condvar::new();

thread_local! {
    /// Calls of this thread that are away: a network of the user's own may call in turn.
    static OWN: Cell<usize> = const { Cell::new(0) };
}

fn threads() -> MutexGuard<'static, Threads> {
    THREADS.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Threads {
    fn ends_without_us(&self) -> bool {
        self.ends.is_some_and(|ends| ends != thread::current().id())
    }
}

/// Whether the interpreter ends, so that what this thread does is not wanted any more.
pub fn is_ending() -> bool {
    threads().ends_without_us()
}

/// Calls `function` with the GIL; `None` once the interpreter ends.
pub fn attach<T>(function: impl FnOnce(Python<'_>) -> T) -> Option<T> {
    // Where the end begins now, it waits for the thread, which is away.
    if is_ending() { None } else { Python::try_attach(function) }
}

/// Does `work` without the GIL. Where the interpreter ends meanwhile, the thread stops behind it and never comes back.
pub fn detached<T: Send>(py: Python<'_>, work: impl FnOnce() -> T + Send) -> T {
    let _away = Away::new();
    py.detach(|| {
        let _gate = Gate;
        work()
    })
}

/// Where the interpreter ends, what this thread could go on with is not whole any more: it stops here.
pub fn stop_at_end(py: Python<'_>) {
    if is_ending() {
        detached(py, || ());
    }
}

/// A call that is without the GIL, until it has it again.
struct Away;

impl Away {
    fn new() -> Self {
        threads().away += 1;
        OWN.set(OWN.get() + 1);
        Self
    }
}

impl Drop for Away {
    fn drop(&mut self) {
        OWN.set(OWN.get() - 1);
        threads().away -= 1;
        CAME_BACK.notify_all();
    }
}

/// What a thread passes on its way back to Python.
struct Gate;

impl Drop for Gate {
    fn drop(&mut self) {
        let mut threads = threads();
        if threads.ends_without_us() {
            threads.away -= OWN.get();
            drop(threads);
            CAME_BACK.notify_all();
            loop {
                thread::park();
            }
        }
    }
}

/// Lets the interpreter end the work of other threads before it ends.
///
/// # Errors
/// Those of Python, where there is no `atexit`.
pub fn end_work_at_exit(py: Python<'_>) -> PyResult<()> {
    let end = PyCFunction::new_closure(py, None, None, |arguments, _| end_work(arguments.py()))?;
    py.import("atexit")?.call_method1("register", (end,)).map(|_| ())
}

/// Keeps other threads away from now on; it is called by the thread that ends the interpreter.
#[pyfunction]
pub fn begin_end() {
    // A forked process has none of the threads that were counted.
    if is_first_process() {
        threads().ends = Some(thread::current().id());
    }
}

/// Asks work to end, and waits for it.
///
/// # Errors
/// What a signal's handler raises meanwhile, which ends the wait.
fn end_work(py: Python<'_>) -> PyResult<()> {
    begin_end();
    if threads().ends.is_none() {
        return Ok(());
    }
    let begin = Instant::now();
    while py.detach(are_away) && begin.elapsed() < LIMIT {
        py.check_signals()?;
    }
    Ok(())
}

/// Whether other threads are still away, after a short wait for them.
fn are_away() -> bool {
    let waited = CAME_BACK.wait_timeout_while(threads(), PATIENCE, |threads| threads.away > OWN.get());
    let (threads, _) = waited.unwrap_or_else(PoisonError::into_inner);
    threads.away > OWN.get()
}
