//! A thread that computes beside the one that samples, which does not wait for it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use submask::Session;
use tokio_util::sync::CancellationToken;

use super::Deadline;
use super::answer::Answerer;
use super::queue::{Queue, Refused};
use crate::error::ApiError;

type Task = Box<dyn FnOnce(&Session) + Send>;

/// Whether work is still wanted: asked between its pieces.
pub struct Check<'a> {
    is_gone: &'a dyn Fn() -> bool,
    dropped: &'a CancellationToken,
    deadline: Deadline,
}

impl Check<'_> {
    /// Goes on where somebody waits and there is time.
    ///
    /// # Errors
    /// Why the work is to end.
    pub fn check(&self) -> Result<(), ApiError> {
        if (self.is_gone)() || self.dropped.is_cancelled() {
            return Err(ApiError::shutting_down());
        }
        self.deadline.check(Instant::now())
    }
}

pub(super) struct Worker {
    tasks: Arc<Queue<Task>>,
    dropped: CancellationToken,
}

impl Worker {
    pub fn start(
        name: String,
        session: Arc<Session>,
        max_queue: usize,
        dropped: CancellationToken,
    ) -> std::io::Result<Self> {
        // One is at work, the others wait.
        let tasks = Arc::new(Queue::new(max_queue.saturating_add(1)));
        let own = Arc::clone(&tasks);
        std::thread::Builder::new().name(name).spawn(move || run(&session, &own))?;
        Ok(Self { tasks, dropped })
    }

    pub fn submit<T, F>(&self, mut answerer: Answerer<T>, deadline: Deadline, work: F) -> Result<(), Refused>
    where
        T: Send + 'static,
        F: FnOnce(&Session, &Check) -> Result<T, ApiError> + Send + 'static,
    {
        let dropped = self.dropped.clone();
        self.tasks.push(Box::new(move |session| {
            let answer = {
                let check = Check { is_gone: &|| answerer.is_gone(), dropped: &dropped, deadline };
                check.check().and_then(|()| work(session, &check))
            };
            answerer.give(answer);
        }))
    }

    pub fn close(&self) {
        self.tasks.close();
    }
}

fn run(session: &Session, tasks: &Queue<Task>) {
    while let Some(taken) = tasks.take(1, true) {
        for task in taken {
            // The panic is in the log; whoever waits hears of an internal error.
            if catch_unwind(AssertUnwindSafe(|| task(session))).is_err() {
                tracing::error!("a computation panicked");
            }
            tasks.leave(1);
        }
    }
}
