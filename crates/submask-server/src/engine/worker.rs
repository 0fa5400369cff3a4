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

/// A request at work: it does its next piece, and tells whether there are more.
type Task = Box<dyn FnMut(&Session) -> bool + Send>;

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

    /// Hands in work of `count` pieces. Between two of them others have their turns, and it is given up where nobody waits any more,
    /// or its time is over.
    pub fn submit<T, F>(
        &self,
        mut answerer: Answerer<Vec<T>>,
        deadline: Deadline,
        count: usize,
        mut piece: F,
    ) -> Result<(), Refused>
    where
        T: Send + 'static,
        F: FnMut(usize, &Session) -> Result<T, ApiError> + Send + 'static,
    {
        let dropped = self.dropped.clone();
        let mut pieces = Vec::new();
        let mut next = move |session: &Session, is_wanted: bool| {
            match is_wanted && !dropped.is_cancelled() {
                true => deadline.check(Instant::now())?,
                false => return Err(ApiError::shutting_down()),
            }
            if pieces.len() < count {
                pieces.push(piece(pieces.len(), session)?);
            }
            Ok((pieces.len() == count).then(|| std::mem::take(&mut pieces)))
        };
        self.tasks.push(Box::new(move |session| match next(session, !answerer.is_gone()).transpose() {
            None => true,
            Some(answer) => {
                answerer.give(answer);
                false
            }
        }))
    }

    pub fn close(&self) {
        self.tasks.close();
    }
}

fn run(session: &Session, tasks: &Queue<Task>) {
    while let Some(taken) = tasks.take(1, true) {
        for mut task in taken {
            match catch_unwind(AssertUnwindSafe(|| task(session))) {
                Ok(true) => tasks.put_back(task),
                Ok(false) => tasks.leave(1),
                Err(_) => {
                    // Whoever waits hears of an internal error, since the task is dropped.
                    tracing::error!("a computation panicked");
                    tasks.leave(1);
                }
            }
        }
    }
}
