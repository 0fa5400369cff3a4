//! A thread that computes beside the one that samples, which does not wait for it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use submask::Session;
use submask::denoiser::Wanted;
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

    /// Hands in work of `count` pieces. Between two of them others have their turns. It is given up where nobody waits any more, or
    /// its time is over: a piece can ask, too.
    pub fn submit<T, F>(
        &self,
        mut answerer: Answerer<Vec<T>>,
        deadline: Deadline,
        count: usize,
        mut piece: F,
    ) -> Result<(), Refused>
    where
        T: Send + 'static,
        F: FnMut(usize, &Session, Wanted) -> Result<T, ApiError> + Send + 'static,
    {
        let dropped = self.dropped.clone();
        let mut pieces = Vec::new();
        self.tasks.push(Box::new(move |session| {
            let check = || match answerer.is_gone() || dropped.is_cancelled() {
                true => Err(ApiError::shutting_down()),
                false => deadline.check(Instant::now()),
            };
            let wanted = || check().map_err(|_| submask::Error::Interrupted);
            let mut next = || {
                check()?;
                if pieces.len() < count {
                    let done = piece(pieces.len(), session, &wanted);
                    // Why a piece was interrupted is known here.
                    pieces.push(done.map_err(|error| check().err().unwrap_or(error))?);
                }
                Ok((pieces.len() == count).then(|| std::mem::take(&mut pieces)))
            };
            match next().transpose() {
                None => true,
                Some(answer) => {
                    answerer.give(answer);
                    false
                }
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
