//! Counts, measures and logs every request.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use axum::BoxError;
use axum::body::{Body, HttpBody};
use axum::extract::{MatchedPath, Request, State};
use axum::http::header::X_CONTENT_TYPE_OPTIONS;
use axum::http::{HeaderName, HeaderValue, Method};
use axum::middleware::Next;
use axum::response::Response;
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tracing::field::Empty;
use tracing::{Instrument, Span};

use crate::state::AppState;

/// The header with which a request can be found in the log.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// What paths that no route has are counted as.
const NO_ROUTE: &str = "(none)";

/// Numbers requests, follows each to the end of its answer, and counts it.
pub async fn observe(State(state): State<AppState>, request: Request, next: Next) -> Response {
    let id = request_id();
    let route = request.extensions().get::<MatchedPath>().map_or(NO_ROUTE, MatchedPath::as_str).to_owned();
    let span = tracing::info_span!(
        "request",
        id,
        method = %request.method(),
        route,
        model = Empty,
        choices = Empty,
        prompt_tokens = Empty,
        completion_tokens = Empty,
        evaluations = Empty,
    );
    // What would be sent is not, and that is all of it.
    let is_head = request.method() == Method::HEAD;
    let mut watch = Watch {
        state,
        route,
        span: span.clone(),
        begin: Instant::now(),
        status: 0,
        bytes: 0,
        is_whole: false,
    };
    let mut response = next.run(request).instrument(span).await;
    watch.status = response.status().as_u16();
    if let Ok(id) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    // No browser is to take an answer for something else than it says.
    response.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response.map(|inner| {
        watch.is_whole = is_head || inner.is_end_stream();
        Body::new(Watched { inner, watch })
    })
}

/// A name that no other request of this process has, and hardly one of another.
fn request_id() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    static START: std::sync::LazyLock<u64> = std::sync::LazyLock::new(|| {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_micros() as u64)
    });
    format!("req-{:x}-{:x}", *START, NEXT.fetch_add(1, Ordering::Relaxed))
}

/// A request under way. Once it is dropped, the request is over: its answer is whole, or its client has gone.
struct Watch {
    state: AppState,
    route: String,
    span: Span,
    begin: Instant,
    /// 0 before there is an answer.
    status: u16,
    bytes: u64,
    is_whole: bool,
}

impl Watch {
    fn sent(&mut self, bytes: usize) {
        if self.bytes == 0 && bytes > 0 {
            self.state.metrics.first_output(&self.route, self.begin.elapsed());
        }
        self.bytes += bytes as u64;
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _entered = self.span.enter();
        let time = self.begin.elapsed();
        let (status, bytes, seconds) = (self.status, self.bytes, time.as_secs_f64());
        if self.is_whole {
            self.state.metrics.answered(&self.route, status, time);
            tracing::info!(status, bytes, seconds, "answered");
        } else {
            self.state.metrics.cancelled(&self.route);
            tracing::info!(status, bytes, seconds, "the client went away");
        }
    }
}

/// The body of an answer that is watched.
struct Watched {
    inner: Body,
    watch: Watch,
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let polled = Pin::new(&mut self.inner).poll_frame(cx);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                let bytes = frame.data_ref().map_or(0, Bytes::len);
                self.watch.sent(bytes);
                self.watch.is_whole = self.inner.is_end_stream();
            }
            Poll::Ready(None) => self.watch.is_whole = true,
            Poll::Ready(Some(Err(_))) | Poll::Pending => {}
        }
        polled.map_err(Into::into)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
