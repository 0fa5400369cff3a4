//! One answer from a thread to a handler that waits for it.

use tokio::sync::oneshot;
use tokio::time::timeout_at;

use super::Deadline;
use crate::error::ApiError;

/// Where the answer is given; dropping it without one is an internal error.
pub struct Answerer<T>(Option<oneshot::Sender<Result<T, ApiError>>>);

/// The handler's side; dropping it tells the other that nobody waits.
pub struct Answer<T> {
    receiver: oneshot::Receiver<Result<T, ApiError>>,
    deadline: Deadline,
}

/// Both sides of an answer.
pub fn answer<T>(deadline: Deadline) -> (Answerer<T>, Answer<T>) {
    let (sender, receiver) = oneshot::channel();
    (Answerer(Some(sender)), Answer { receiver, deadline })
}

impl<T> Answerer<T> {
    /// Gives the answer; only the first one counts.
    pub fn give(&mut self, answer: Result<T, ApiError>) {
        if let Some(sender) = self.0.take() {
            // That nobody waits is no fault.
            let _ = sender.send(answer);
        }
    }

    /// Whether nobody waits.
    pub fn is_gone(&self) -> bool {
        self.0.as_ref().is_none_or(oneshot::Sender::is_closed)
    }
}

impl<T> Answer<T> {
    /// Waits for the answer.
    ///
    /// # Errors
    /// The one that was given, 504 at the deadline, and 500 where the other side ended without an answer.
    pub async fn wait(self) -> Result<T, ApiError> {
        match timeout_at(self.deadline.at.into(), self.receiver).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(ApiError::internal("the server failed; its log says more")),
            Err(_) => Err(self.deadline.error()),
        }
    }
}
