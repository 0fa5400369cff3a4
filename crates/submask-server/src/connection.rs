//! Connections: how many there may be, how long they may take, and how they end.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::header::CONNECTION;
use axum::http::{HeaderValue, Request, Response};
use axum::response::IntoResponse;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use prometheus_client::metrics::gauge::Gauge;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use crate::error::ApiError;
use crate::patience::Patience;
use crate::state::AppState;

/// Bytes that hyper reads ahead, or collects before it writes.
const BUFFER: usize = 1 << 16;
/// Connections at once that are told that there are too many; more are closed without a word.
const REFUSED_AT_ONCE: usize = 64;
/// How long such a connection may take.
const REFUSAL: Duration = Duration::from_secs(2);
/// How long nothing is accepted once the system refuses, as it does where there are too many open files.
const PAUSE: Duration = Duration::from_millis(50);

/// Serves connections until the state says that the server is to end, then lets those that are there finish what they
/// do. Until they have, new ones get the answers of a server that is about to end, one each.
pub async fn serve(listener: TcpListener, app: Router, state: AppState) {
    let door = Door {
        places: Arc::new(Semaphore::new(state.settings.max_connections)),
        refusals: Arc::new(Semaphore::new(REFUSED_AT_ONCE)),
        listener,
        app,
        state,
    };
    let (working, late) = (GracefulShutdown::new(), GracefulShutdown::new());
    tokio::select! {
        () = door.admit(&working) => {}
        () = door.state.shutdown.cancelled() => {}
    }
    tokio::select! {
        () = door.admit(&late) => {}
        () = working.shutdown() => {}
    }
    drop(door);
    late.shutdown().await;
}

/// Where connections come in.
struct Door {
    listener: TcpListener,
    app: Router,
    state: AppState,
    places: Arc<Semaphore>,
    refusals: Arc<Semaphore>,
}

impl Door {
    /// Accepts connections for ever.
    async fn admit(&self, watcher: &GracefulShutdown) {
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) => self.take(stream, watcher),
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) => {
                    tracing::error!(error = %error, "no connection can be accepted");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    /// Serves a connection if there is a place for it.
    fn take(&self, stream: TcpStream, watcher: &GracefulShutdown) {
        let (state, limit) = (&self.state, self.state.settings.max_connections);
        if let Ok(place) = Arc::clone(&self.places).try_acquire_owned() {
            let watched = watcher.watch(connect(stream, &self.app, state));
            let counted = Counted::new(&state.metrics.connections);
            tokio::spawn(async move {
                let _held = (place, counted);
                // How a connection breaks off is the client's affair; requests are logged on their own.
                if let Err(error) = watched.await {
                    tracing::debug!(error = %error, "a connection broke off");
                }
            });
            return;
        }
        state.metrics.refused_connections.inc();
        if let Ok(place) = Arc::clone(&self.refusals).try_acquire_owned() {
            tokio::spawn(async move {
                let _held = place;
                refuse(stream, limit).await;
            });
        }
    }
}

/// Whether an error is of the connection that was to be accepted, and not of accepting.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

type Io = TokioIo<Patience<TcpStream>>;

/// A connection that serves the routes.
fn connect(
    stream: TcpStream,
    app: &Router,
    state: &AppState,
) -> http1::Connection<Io, TowerToHyperService<Router>> {
    // Events are to leave at once, however small; without it they come late, and nothing else changes.
    let _ = stream.set_nodelay(true);
    let stream = Patience::new(stream, state.settings.slow_reader, state.metrics.slow_readers.clone());
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(state.settings.header_timeout)
        // Once the server is to end, a connection has one answer.
        .keep_alive(!state.shutdown.is_cancelled())
        .max_buf_size(BUFFER)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(app.clone()))
}

/// Answers the first request of a connection that there is no place for it.
async fn refuse(stream: TcpStream, limit: usize) {
    let answer = move |_: Request<Incoming>| async move {
        let mut response: Response<axum::body::Body> = ApiError::too_many_connections(limit).into_response();
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        Ok::<_, std::convert::Infallible>(response)
    };
    let connection =
        http1::Builder::new().keep_alive(false).serve_connection(TokioIo::new(stream), service_fn(answer));
    // Whether it was read does not matter.
    let _ = tokio::time::timeout(REFUSAL, connection).await;
}

/// Counts a connection while it is there.
struct Counted(Gauge);

impl Counted {
    fn new(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}
