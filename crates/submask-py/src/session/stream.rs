//! Samples of a model, event by event.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use numpy::{PyReadonlyArray2, PyReadonlyArray3};
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use submask::model::{Request, Session};
use submask::sampler::{Event, Observer};
use submask::{Error, Result};

use super::open::ModelSession;
use super::options::SampleOptions;
use super::sample::{GivenImage, request};
use crate::ending::{detached, is_ending, stop_at_end};
use crate::errors::{exception, internal};
use crate::owned_event::OwnedEvent;
use crate::work::{IntoException, PATIENCE, check_process, free, stream_in_use, text};

/// Events that the work is ahead of who takes them, at most.
const AHEAD: usize = 256;

/// Events of samples that are drawn by a thread of their own.
#[pyclass(frozen, module = "submask._native")]
pub struct EventStream {
    /// Whether nobody wants them any more.
    is_ended: Arc<AtomicBool>,
    running: Mutex<Option<Running>>,
}

/// The thread, and what it tells.
struct Running {
    /// Waited on without the GIL, and so by a reference that threads may share.
    events: Mutex<Receiver<OwnedEvent>>,
    thread: JoinHandle<Result<()>>,
}

/// Waits for an event, but not for long.
fn receive(
    events: &Mutex<Receiver<OwnedEvent>>,
    patience: Duration,
) -> std::result::Result<OwnedEvent, RecvTimeoutError> {
    events.lock().unwrap_or_else(PoisonError::into_inner).recv_timeout(patience)
}

#[pymethods]
impl EventStream {
    #[new]
    fn new(
        py: Python<'_>,
        model: &ModelSession,
        options: SampleOptions,
        given: Option<PyReadonlyArray3<'_, u8>>,
        mask: Option<PyReadonlyArray2<'_, bool>>,
    ) -> PyResult<Self> {
        check_process(py)?;
        let session = model.get(py)?;
        let request = request(model, &session, &options, GivenImage::of(given.as_ref(), mask.as_ref()));
        let request = request.map_err(|failure| failure.into_exception(py))?;
        session.prepare(&request).map_err(|error| exception(py, &error))?;
        let (sender, events) = sync_channel(AHEAD);
        let is_ended = Arc::new(AtomicBool::new(false));
        let teller = Teller { session, request, sender, is_ended: Arc::clone(&is_ended) };
        let thread = std::thread::Builder::new().name("submask stream".to_owned()).spawn(|| teller.tell());
        let thread = thread.map_err(|error| internal(py, &format!("cannot start a thread: {error}")))?;
        Ok(Self { is_ended, running: Mutex::new(Some(Running { events: Mutex::new(events), thread })) })
    }

    /// The next event; `None` after the last one, and once the stream is closed.
    fn next<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyTuple>>> {
        stop_at_end(py);
        let mut running = free(&self.running).ok_or_else(|| stream_in_use(py))?;
        let Some(state) = running.as_ref() else { return Ok(None) };
        match self.wait(py, &state.events) {
            Ok(Some(told)) if !self.is_ended.load(Ordering::Relaxed) => told.parts(py).map(Some),
            Ok(_) => running.take().map_or(Ok(()), |running| self.end(py, running)).map(|()| None),
            Err(raised) => {
                if let Some(running) = running.take() {
                    self.end(py, running)?;
                }
                Err(raised)
            }
        }
    }

    /// Ends the work and waits for it; where a call of another thread is under way, that one does.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        self.is_ended.store(true, Ordering::Relaxed);
        let running = free(&self.running).and_then(|mut running| running.take());
        running.map_or(Ok(()), |running| self.end(py, running))
    }
}

impl EventStream {
    /// Waits for an event, without the GIL. `None`: there is none any more.
    fn wait(&self, py: Python<'_>, events: &Mutex<Receiver<OwnedEvent>>) -> PyResult<Option<OwnedEvent>> {
        // What is there already is not worth letting go of the GIL.
        let mut received = receive(events, Duration::ZERO);
        while !self.is_ended.load(Ordering::Relaxed) {
            match received {
                Ok(told) => return Ok(Some(told)),
                Err(RecvTimeoutError::Disconnected) => return Ok(None),
                Err(RecvTimeoutError::Timeout) => {}
            }
            py.check_signals().inspect_err(|_| self.is_ended.store(true, Ordering::Relaxed))?;
            received = detached(py, || {
                let received = receive(events, PATIENCE);
                if is_ending() {
                    self.exhaust(events);
                }
                received
            });
        }
        Ok(None)
    }

    /// Ends the work and waits for it, where this thread will not come back.
    fn exhaust(&self, events: &Mutex<Receiver<OwnedEvent>>) {
        self.is_ended.store(true, Ordering::Relaxed);
        while !matches!(receive(events, PATIENCE), Err(RecvTimeoutError::Disconnected)) {}
    }

    /// Lets go of the events, waits for the thread, and raises what it came to.
    fn end(&self, py: Python<'_>, running: Running) -> PyResult<()> {
        let Running { events, thread } = running;
        drop(events);
        match detached(py, || thread.join()) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) if self.is_ended.load(Ordering::Relaxed) => Ok(()),
            Ok(Err(error)) => Err(exception(py, &error)),
            Err(panic) => Err(internal(py, &text(panic.as_ref()))),
        }
    }
}

/// What the thread does.
struct Teller {
    session: Arc<Session>,
    request: Request,
    sender: SyncSender<OwnedEvent>,
    is_ended: Arc<AtomicBool>,
}

impl Teller {
    fn tell(mut self) -> Result<()> {
        let (session, request) = (Arc::clone(&self.session), self.request.clone());
        session.generate(&request, &mut self).map(drop)
    }
}

impl Observer for Teller {
    fn wants_digits(&self, _sequence: usize) -> bool {
        true
    }

    fn notify(&mut self, event: &Event) -> Result<()> {
        if self.is_ended.load(Ordering::Relaxed) {
            return Err(Error::Interrupted);
        }
        let text = |tokens: &[u32]| self.session.text_of_sample(tokens, &self.request.prompt);
        match OwnedEvent::new(event, text)? {
            Some(told) => self.sender.send(told).map_err(|_| Error::Interrupted),
            None => Ok(()),
        }
    }
}
