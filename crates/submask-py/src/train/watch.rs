//! Work that tells what it does: its events reach a callable on the thread that called, and the work waits until it has returned.

use std::ffi::CString;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};

use pyo3::exceptions::PyRuntimeWarning;
use pyo3::prelude::*;
use serde_json::Value;
use submask::{Error, Result};

use crate::ending::{attach, detached};
use crate::errors::{exception, internal};
use crate::work::{PATIENCE, check_process, text};

/// What the work tells, and whether it is still wanted.
pub struct Wire<'a> {
    events: SyncSender<String>,
    answers: Receiver<()>,
    /// Set once the work is to end.
    pub stop: &'a AtomicBool,
}

/// The payload with which the thread of the work is unwound.
struct GivenUp;

impl Wire<'_> {
    /// Tells of an event, and waits until the callback has returned.
    pub fn tell(&self, event: &Value) {
        // Where nobody receives any more, the work ends by its flag.
        let is_received = self.events.send(event.to_string()).is_ok();
        let _ = is_received && self.answers.recv().is_ok();
    }

    /// Tells of an event of work that does not look at the flag: reading a corpus. Once the work is not wanted any more, its thread is
    /// unwound from here, which removes what was begun.
    pub fn tell_or_give_up(&self, event: &Value) {
        self.tell(event);
        if self.stop.load(Ordering::Relaxed) {
            resume_unwind(Box::new(GivenUp));
        }
    }
}

/// What became of work.
pub struct Ended<T> {
    /// What a signal's handler or the callable raised: the work was asked to end.
    pub raised: Option<PyErr>,
    /// What the work gave, where it did not fail.
    pub done: Option<T>,
}

/// Does `work` on a thread of its own without the GIL and calls `callback` with each of its events, as JSON, on this thread. What the
/// callback or a signal's handler raises sets the flag of the wire; nothing more is told then, and where the work fails as well, what was
/// raised gets a note of it. Where the interpreter ends, so does the work.
///
/// # Errors
/// What the work fails with, unless something was raised; `InternalError` where it panicked; and as [`check_process`].
pub fn run_with_events<T: Send>(
    py: Python<'_>,
    callback: Option<&Py<PyAny>>,
    work: impl FnOnce(&Wire<'_>) -> Result<T> + Send,
) -> PyResult<Ended<T>> {
    check_process(py)?;
    let stop = AtomicBool::new(false);
    let mut raised = None;
    let done = detached(py, || {
        std::thread::scope(|scope| {
            let (events, received) = sync_channel(0);
            let (answer, answers) = sync_channel(1);
            let wire = Wire { events, answers, stop: &stop };
            // The wire falls with the thread, also in a panic, which ends the wait.
            let worker = scope.spawn(move || work(&wire));
            loop {
                let event = match received.recv_timeout(PATIENCE) {
                    Ok(event) => Some(event),
                    Err(RecvTimeoutError::Timeout) => None,
                    Err(RecvTimeoutError::Disconnected) => break,
                };
                let wanted = raised.is_none();
                let result = attach(|py| {
                    py.check_signals()?;
                    match (&event, callback.filter(|_| wanted)) {
                        (Some(event), Some(callback)) => callback.call1(py, (event,)).map(|_| ()),
                        _ => Ok(()),
                    }
                });
                if !matches!(result, Some(Ok(()))) {
                    stop.store(true, Ordering::Relaxed);
                }
                if let Some(Err(error)) = result {
                    raised.get_or_insert(error);
                }
                if event.is_some() {
                    // Of work that has ended nobody takes the answer.
                    let _ = answer.send(());
                }
            }
            worker.join()
        })
    });
    match (raised, done) {
        (Some(raised), done) => {
            let failed = match &done {
                Ok(Ok(_) | Err(Error::Interrupted)) => None,
                Ok(Err(error)) => Some(exception(py, error).value(py).to_string()),
                Err(panic) if panic.is::<GivenUp>() => None,
                Err(panic) => Some(text(panic.as_ref())),
            };
            if let Some(failed) = failed {
                // What was raised is raised, whatever becomes of the note.
                if let Err(problem) = note(py, &raised, &format!("Then the work failed: {failed}")) {
                    problem.write_unraisable(py, None);
                }
            }
            Ok(Ended { raised: Some(raised), done: done.ok().and_then(Result::ok) })
        }
        (None, Ok(Ok(done))) => Ok(Ended { raised: None, done: Some(done) }),
        (None, Ok(Err(error))) => Err(exception(py, &error)),
        (None, Err(panic)) => Err(internal(py, &text(panic.as_ref()))),
    }
}

/// Adds a note to an exception, or warns where Python has no notes yet.
fn note(py: Python<'_>, raised: &PyErr, text: &str) -> PyResult<()> {
    let value = raised.value(py);
    if value.hasattr("add_note")? {
        return value.call_method1("add_note", (text,)).map(|_| ());
    }
    let text = CString::new(text.replace('\0', " "))?;
    PyErr::warn(py, &py.get_type::<PyRuntimeWarning>(), &text, 1)
}
