//! Streams of server-sent events, which are sent from any thread and never wait for the client.
//!
//! What a client has not taken yet waits in memory, up to a limit. Over it, the stream is cut off; a client that takes
//! nothing for a while is cut off by its connection. In both cases the sender learns of it.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Body;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderName, HeaderValue};
use axum::response::Response;
use bytes::Bytes;
use http_body::Frame;
use prometheus_client::metrics::counter::Counter;
use serde::Serialize;
use tokio::sync::mpsc;
use tokio::time::{Instant, Sleep};

use crate::error::ApiError;
use crate::state::AppState;

/// After so much silence a comment is sent, so that nobody between takes the connection for dead.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// The comment.
const COMMENT: &[u8] = b": keep-alive\n\n";
/// What ends a stream in which nothing went wrong.
const DONE: &str = "[DONE]";

/// The client has gone, or was too slow: what is sent reaches nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the client has gone")]
pub struct Closed;

/// Where events are sent from.
#[derive(Clone, Debug)]
pub struct EventSender {
    queue: mpsc::UnboundedSender<Item>,
    shared: Arc<Shared>,
}

#[derive(Debug)]
enum Item {
    Data(Bytes),
    End,
}

#[derive(Debug)]
struct Shared {
    /// Bytes that wait, and how many may.
    waiting: AtomicUsize,
    most: usize,
    is_cut: AtomicBool,
    slow_readers: Counter,
}

/// A stream and the answer that carries it.
pub fn channel(state: &AppState) -> (EventSender, Response) {
    let (queue, items) = mpsc::unbounded_channel();
    let shared = Arc::new(Shared {
        waiting: AtomicUsize::new(0),
        most: state.settings.stream_buffer,
        is_cut: AtomicBool::new(false),
        slow_readers: state.metrics.slow_readers.clone(),
    });
    let silence = Box::pin(tokio::time::sleep(KEEP_ALIVE));
    let body = EventBody { items, shared: Arc::clone(&shared), silence, has_ended: false };
    let mut response = Response::new(Body::new(body));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    // Asks nginx not to collect the events before it passes them on.
    headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    (EventSender { queue, shared }, response)
}

impl EventSender {
    /// Sends one event.
    ///
    /// # Errors
    /// [`Closed`] once nobody reads: whatever the stream is about is to be given up.
    pub fn send(&self, event: &impl Serialize) -> Result<(), Closed> {
        match serde_json::to_string(event) {
            Ok(json) => self.push(&json),
            Err(error) => {
                tracing::error!(error = %error, "an event does not fit JSON");
                self.fail(&ApiError::internal("the server failed; its log says more"));
                Err(Closed)
            }
        }
    }

    /// Sends an error as the last event.
    pub fn fail(&self, error: &ApiError) {
        // Whether somebody still reads does not matter.
        let _ = self.push(&error.event().to_string());
        let _ = self.queue.send(Item::End);
    }

    /// Ends the stream: all went well.
    pub fn done(&self) {
        let _ = self.push(DONE);
        let _ = self.queue.send(Item::End);
    }

    /// Whether so much waits that what comes next is better joined with what follows it.
    pub fn is_behind(&self) -> bool {
        self.shared.waiting.load(Ordering::Acquire) > self.shared.most / 8
    }

    /// Whether nobody reads any more.
    pub fn is_closed(&self) -> bool {
        self.shared.is_cut.load(Ordering::Acquire) || self.queue.is_closed()
    }

    /// Waits until nobody reads any more.
    pub async fn closed(&self) {
        self.queue.closed().await;
    }

    fn push(&self, data: &str) -> Result<(), Closed> {
        if self.is_closed() {
            return Err(Closed);
        }
        let line = Bytes::from(format!("data: {data}\n\n"));
        let size = line.len();
        if self.shared.waiting.fetch_add(size, Ordering::AcqRel) + size > self.shared.most {
            if !self.shared.is_cut.swap(true, Ordering::AcqRel) {
                self.shared.slow_readers.inc();
            }
            // Wakes the body, which breaks off.
            let _ = self.queue.send(Item::End);
            return Err(Closed);
        }
        self.queue.send(Item::Data(line)).map_err(|_| Closed)
    }
}

/// Why a stream broke off.
#[derive(Debug, thiserror::Error)]
#[error("the client was too slow: more than {0} bytes waited for it")]
struct TooSlow(usize);

/// The body of the answer.
struct EventBody {
    items: mpsc::UnboundedReceiver<Item>,
    shared: Arc<Shared>,
    silence: Pin<Box<Sleep>>,
    has_ended: bool,
}

impl EventBody {
    fn poll_item(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, TooSlow>>> {
        if self.has_ended {
            return Poll::Ready(None);
        }
        if self.shared.is_cut.load(Ordering::Acquire) {
            self.has_ended = true;
            self.items.close();
            return Poll::Ready(Some(Err(TooSlow(self.shared.most))));
        }
        let item = match self.items.poll_recv(cx) {
            Poll::Ready(item) => item,
            Poll::Pending => {
                ready!(self.silence.as_mut().poll(cx));
                self.silence.as_mut().reset(Instant::now() + KEEP_ALIVE);
                // The timer is to wake this task the next time, too.
                cx.waker().wake_by_ref();
                return Poll::Ready(Some(Ok(Bytes::from_static(COMMENT))));
            }
        };
        match item {
            Some(Item::Data(line)) => {
                self.shared.waiting.fetch_sub(line.len(), Ordering::AcqRel);
                self.silence.as_mut().reset(Instant::now() + KEEP_ALIVE);
                Poll::Ready(Some(Ok(line)))
            }
            Some(Item::End) if self.shared.is_cut.load(Ordering::Acquire) => self.poll_item(cx),
            Some(Item::End) | None => {
                self.has_ended = true;
                self.items.close();
                Poll::Ready(None)
            }
        }
    }
}

impl http_body::Body for EventBody {
    type Data = Bytes;
    type Error = TooSlow;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, TooSlow>>> {
        let item = ready!(self.poll_item(cx));
        Poll::Ready(item.map(|item| item.map(Frame::data)))
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;
    use serde_json::json;

    use super::*;
    use crate::settings::ServerSettings;

    fn state(stream_buffer: usize) -> AppState {
        AppState::new(ServerSettings { stream_buffer, ..ServerSettings::default() }, Vec::new()).unwrap()
    }

    #[tokio::test]
    async fn events_come_in_order_and_end() {
        let (events, response) = channel(&state(1 << 10));
        assert_eq!(response.headers()[CONTENT_TYPE], "text/event-stream; charset=utf-8");
        events.send(&json!({"a": "two\nlines"})).unwrap();
        events.send(&json!(2)).unwrap();
        events.done();
        let text = response.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(text, "data: {\"a\":\"two\\nlines\"}\n\ndata: 2\n\ndata: [DONE]\n\n");
        assert!(events.is_closed());
        assert_eq!(events.send(&3), Err(Closed));
    }

    #[tokio::test]
    async fn an_error_is_the_last_event() {
        let (events, response) = channel(&state(1 << 10));
        events.fail(&ApiError::internal("broken"));
        let text = response.into_body().collect().await.unwrap().to_bytes();
        let text = std::str::from_utf8(&text).unwrap();
        assert!(text.starts_with("data: {\"error\":{") && text.contains("broken"), "{text}");
        assert_eq!(text.matches("data:").count(), 1);
    }

    #[tokio::test]
    async fn what_is_read_makes_room_and_what_is_not_is_cut_off() {
        let state = state(64);
        let (events, response) = channel(&state);
        let mut body = response.into_body();
        for _ in 0..10 {
            events.send(&"x".repeat(40)).unwrap();
            assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap().len(), 50);
        }
        events.send(&"x".repeat(40)).unwrap();
        assert_eq!(events.send(&"x".repeat(40)), Err(Closed));
        assert!(events.is_closed());
        assert_eq!(events.send(&1), Err(Closed));
        assert!(body.frame().await.unwrap().is_err(), "it breaks off, and does not end as if it were whole");
        assert_eq!(state.metrics.slow_readers.get(), 1);
    }

    #[tokio::test]
    async fn the_sender_learns_that_the_client_has_gone() {
        let (events, response) = channel(&state(1 << 10));
        assert!(!events.is_closed());
        drop(response);
        events.closed().await;
        assert!(events.is_closed());
    }

    #[tokio::test(start_paused = true)]
    async fn silence_is_filled_with_comments() {
        let (events, response) = channel(&state(1 << 10));
        let begin = Instant::now();
        let sender = tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(40)).await;
            events.send(&1).unwrap();
            tokio::time::sleep(Duration::from_secs(20)).await;
            events.done();
        });
        let text = response.into_body().collect().await.unwrap().to_bytes();
        let comment = ": keep-alive\n\n";
        assert_eq!(text, format!("{comment}{comment}data: 1\n\n{comment}data: [DONE]\n\n"));
        assert_eq!(begin.elapsed(), Duration::from_secs(60));
        sender.await.unwrap();
    }
}
