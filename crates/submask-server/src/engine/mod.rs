//! One model at work: a thread that samples all requests together, and beside it one that scores and one that predicts.
//!
//! A handler makes a [`Job`], which says what is sampled and how its [`Listener`] is made, and hands it to
//! [`Engine::submit`]. The thread gives every sequence under way its turn; what becomes of a sequence depends on its own
//! request alone. Everything a request hears comes through its listener, on the engine's thread; a client that has gone is
//! noticed between two rounds.

mod active;
mod answer;
mod board;
mod queue;
mod sampler;
mod worker;

use std::sync::Arc;
use std::time::{Duration, Instant};

use submask::denoiser::Wanted;
use submask::sampler::{Event, FinishedSequence, SampleReport};
use submask::{Request, Session};
use tokio_util::sync::CancellationToken;

pub use answer::{Answer, Answerer, answer};

use crate::error::ApiError;
use crate::metrics::ModelMetrics;
use crate::settings::ServerSettings;
use queue::{Queue, Refused};
use worker::Worker;

/// When a request is given up.
#[derive(Clone, Copy, Debug)]
pub struct Deadline {
    at: Instant,
    limit: Duration,
}

impl Deadline {
    /// So long from now on.
    pub fn after(limit: Duration) -> Self {
        let now = Instant::now();
        // Settings allow no time limit that overflows.
        Self { at: now.checked_add(limit).unwrap_or(now), limit }
    }

    /// The error, once the time has come.
    fn check(self, now: Instant) -> Result<(), ApiError> {
        if now < self.at { Ok(()) } else { Err(self.error()) }
    }

    fn error(self) -> ApiError {
        ApiError::timed_out(self.limit)
    }
}

/// What is to be sampled, and who hears of it.
pub struct Job {
    /// The samples of these, one request after the other, are numbered from 0 on.
    pub requests: Vec<Request>,
    /// When it is given up.
    pub deadline: Deadline,
    /// Makes the listener, on the engine's thread.
    pub listen: Listen,
}

/// Makes a listener for a session; `None` where that failed, and the client was told.
pub type Listen = Box<dyn for<'s> FnOnce(&'s Session) -> Option<Box<dyn Listener + 's>> + Send>;

/// Whether a sample is to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// It is.
    Continue,
    /// It is complete as it is, and is not told to be finished.
    Stop,
}

/// Who hears of the samples of a job, on the engine's thread: so it never waits.
pub trait Listener {
    /// Whether [`Event::Revealed`] is wanted.
    fn wants_digits(&self) -> bool {
        false
    }

    /// Something happened to a sample.
    ///
    /// # Errors
    /// What ends the job; the client is told of it by [`Self::fail`].
    fn notify(&mut self, sample: usize, event: &Event) -> Result<Next, ApiError> {
        let _ = (sample, event);
        Ok(Next::Continue)
    }

    /// A sample is complete.
    ///
    /// # Errors
    /// As [`Self::notify`].
    fn finished(&mut self, sample: usize, finished: FinishedSequence) -> Result<(), ApiError>;

    /// A sample that was to go no further ([`Next::Stop`]) has left, and this is what it has cost.
    fn left(&mut self, sample: usize, cost: &SampleReport) {
        let _ = (sample, cost);
    }

    /// All samples are.
    fn done(&mut self);

    /// The job failed.
    fn fail(&mut self, error: ApiError);

    /// Whether nobody waits for the answer any more.
    fn is_gone(&self) -> bool;
}

/// What the thread that samples shares with those who submit.
struct Shared {
    queue: Queue<Job>,
    max_batch: usize,
    metrics: ModelMetrics,
    /// Cancelled when the engine is dropped: what is under way is given up.
    dropped: CancellationToken,
}

/// A model at work.
pub struct Engine {
    shared: Arc<Shared>,
    scores: Worker,
    predictions: Worker,
    max_queue: usize,
}

impl Engine {
    /// Starts the threads of a model. While the server shuts down, requests that were accepted are still worked on.
    ///
    /// # Errors
    /// What the operating system says of a thread that cannot be started.
    pub fn start(
        name: &str,
        session: Arc<Session>,
        settings: &ServerSettings,
        metrics: ModelMetrics,
    ) -> std::io::Result<Self> {
        let dropped = CancellationToken::new();
        // Requests beyond those that a batch has room for wait for their turns.
        let limit = settings.max_batch.saturating_add(settings.max_queue);
        let shared = Arc::new(Shared {
            queue: Queue::new(limit),
            max_batch: settings.max_batch,
            metrics,
            dropped: dropped.clone(),
        });
        let beside = |what: &str| {
            let session = Arc::clone(&session);
            Worker::start(format!("{what} {name}"), session, settings.max_queue, dropped.clone())
        };
        let (scores, predictions) = (beside("score")?, beside("predict")?);
        let thread_shared = Arc::clone(&shared);
        std::thread::Builder::new()
            .name(format!("sample {name}"))
            .spawn(move || sampler::run(&session, &thread_shared))?;
        Ok(Self { shared, scores, predictions, max_queue: settings.max_queue })
    }

    /// Hands a job to the thread.
    ///
    /// # Errors
    /// 429 where too many wait.
    pub fn submit(&self, job: Job) -> Result<(), ApiError> {
        let limit = self.shared.max_batch.saturating_add(self.max_queue);
        self.shared.queue.push(job).map_err(|refused| refusal(refused, limit, "--max-batch and --max-queue"))
    }

    /// Scores `count` things beside the samples, piece by piece: `piece` gives the score of each by its place. Requests take turns
    /// after every piece.
    ///
    /// # Errors
    /// 429 where too many wait, 504 at the deadline, and the first error of `piece`.
    pub async fn score<T, F>(&self, deadline: Deadline, count: usize, piece: F) -> Result<Vec<T>, ApiError>
    where
        T: Send + 'static,
        F: FnMut(usize, &Session, Wanted) -> Result<T, ApiError> + Send + 'static,
    {
        self.compute(&self.scores, deadline, count, piece).await
    }

    /// The same of `count` predictions, which are short and need not wait for scores.
    ///
    /// # Errors
    /// As [`Self::score`].
    pub async fn predict<T, F>(&self, deadline: Deadline, count: usize, piece: F) -> Result<Vec<T>, ApiError>
    where
        T: Send + 'static,
        F: FnMut(usize, &Session, Wanted) -> Result<T, ApiError> + Send + 'static,
    {
        self.compute(&self.predictions, deadline, count, piece).await
    }

    async fn compute<T, F>(
        &self,
        worker: &Worker,
        deadline: Deadline,
        count: usize,
        piece: F,
    ) -> Result<Vec<T>, ApiError>
    where
        T: Send + 'static,
        F: FnMut(usize, &Session, Wanted) -> Result<T, ApiError> + Send + 'static,
    {
        let (sender, answer) = answer(deadline);
        let submitted = worker.submit(sender, deadline, count, piece);
        // One is at work beside those that wait.
        let limit = self.max_queue.saturating_add(1);
        submitted.map_err(|refused| refusal(refused, limit, "--max-queue and one"))?;
        answer.wait().await
    }
}

/// The error of what is not taken where `limit` may be there, as `flags` say.
fn refusal(refused: Refused, limit: usize, flags: &str) -> ApiError {
    match refused {
        Refused::Full => ApiError::queue_full(limit, flags),
        Refused::Closed => ApiError::shutting_down(),
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.shared.dropped.cancel();
        self.shared.queue.close();
        self.scores.close();
        self.predictions.close();
    }
}

#[cfg(test)]
mod tests;
