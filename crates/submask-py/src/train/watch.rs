//! Work that tells what it does: its events reach a callable on the thread that called, and the work waits until it has returned.

use std::panic::resume_unwind;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use pyo3::prelude::*;
use serde_json::Value;
use submask::Result;

use crate::errors::{exception, internal};
use crate::work::text;

/// How often signals are looked at while nothing happens.
const PATIENCE: Duration = Duration::from_millis(50);

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
    /// Tells of an event, and waits until it was heard.
    pub fn tell(&self, event: &Value) {
        // Where nobody hears any more, the work ends by its flag.
        let heard = self.events.send(event.to_string()).is_ok();
        let _ = heard && self.answers.recv().is_ok();
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
/// callback or a signal's handler raises sets the flag of the wire; nothing more is told then.
///
/// # Errors
/// What the work fails with, unless something was raised; `InternalError` where it panicked.
pub fn watched<T: Send>(
    py: Python<'_>,
    callback: Option<&Py<PyAny>>,
    work: impl FnOnce(&Wire<'_>) -> Result<T> + Send,
) -> PyResult<Ended<T>> {
    let stop = AtomicBool::new(false);
    let mut raised = None;
    let done = py.detach(|| {
        std::thread::scope(|scope| {
            let (events, heard) = sync_channel(0);
            let (answer, answers) = sync_channel(1);
            let wire = Wire { events, answers, stop: &stop };
            // The wire falls with the thread, also in a panic, which ends the wait.
            let worker = scope.spawn(move || work(&wire));
            loop {
                let event = match heard.recv_timeout(PATIENCE) {
                    Ok(event) => Some(event),
                    Err(RecvTimeoutError::Timeout) => None,
                    Err(RecvTimeoutError::Disconnected) => break,
                };
                let wanted = raised.is_none();
                let result = Python::attach(|py| {
                    py.check_signals()?;
                    match (&event, callback.filter(|_| wanted)) {
                        (Some(event), Some(callback)) => callback.call1(py, (event,)).map(|_| ()),
                        _ => Ok(()),
                    }
                });
                if let Err(error) = result {
                    stop.store(true, Ordering::Relaxed);
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
        (raised @ Some(_), done) => Ok(Ended { raised, done: done.ok().and_then(Result::ok) }),
        (None, Ok(Ok(done))) => Ok(Ended { raised: None, done: Some(done) }),
        (None, Ok(Err(error))) => Err(exception(py, &error)),
        (None, Err(panic)) => Err(internal(py, &text(panic.as_ref()))),
    }
}
