//! A server from its start to its end.

use std::io;
use std::net::SocketAddr;
use std::num::NonZeroUsize;

use submask::Compute;
use tokio::net::{TcpListener, TcpSocket};
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

use crate::registry::{ModelSource, OpenModel, check_names};
use crate::settings::ServerSettings;
use crate::state::AppState;
use crate::{app, connection};

/// Connections that may wait to be accepted.
const BACKLOG: u32 = 1024;
/// Bytes that the system keeps of an answer that its client has not taken.
const SEND_BUFFER: u32 = 1 << 18;
/// Threads that read, write and watch the time; what models compute runs elsewhere.
const THREADS: usize = 2;

/// Why a server does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// Settings, or names of models, that are not allowed.
    #[error(transparent)]
    Settings(#[from] submask::Error),
    /// A model that cannot be opened.
    #[error("the model {name} cannot be opened")]
    Model {
        /// Its name.
        name: String,
        /// What is wrong.
        source: submask::Error,
    },
    /// An address that cannot be listened on.
    #[error("{addr} cannot be listened on: {source}")]
    Listen {
        /// The address.
        addr: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// Threads or signals that the system refused.
    #[error("the server cannot run: {0}")]
    System(#[source] io::Error),
}

/// How a server ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// All requests were answered.
    Whole,
    /// It was told twice to end, and gave up requests.
    AtOnce,
}

/// Opens the models, serves them, and ends when the process is told to (SIGINT, SIGTERM): requests under way are
/// finished first, unless it is told so twice. `ready` is called with the address once requests are taken.
///
/// # Errors
/// [`StartError`] if it does not start.
pub fn serve(
    settings: ServerSettings,
    sources: &[ModelSource],
    compute: &Compute,
    ready: impl FnOnce(SocketAddr),
) -> Result<Ended, StartError> {
    settings.validate()?;
    check_names(sources)?;
    let runtime = runtime().map_err(StartError::System)?;
    let _entered = runtime.enter();
    // Taken before the models are opened, which may take long, and listened on after that.
    let socket = bind(settings.addr)?;
    let models = sources.iter().map(|source| open(source, compute)).collect::<Result<Vec<_>, _>>()?;
    let state = AppState::new(settings, models)?;
    let ended = runtime.block_on(async {
        let signals = Signals::new().map_err(StartError::System)?;
        let asked = state.shutdown.clone();
        tokio::select! {
            served = listen(socket, state, ready) => served.map(|()| Ended::Whole),
            () = signals.watch(asked) => Ok(Ended::AtOnce),
        }
    });
    runtime.shutdown_background();
    ended
}

/// Serves on a listener until [`Shared::shutdown`](crate::state::Shared::shutdown) is cancelled, and then until all that is
/// under way has ended: for programs with a runtime of their own.
pub async fn serve_on(listener: TcpListener, state: AppState) {
    connection::serve(listener, app(state.clone()), state).await;
}

/// Serves on a socket until the state says that the server is to end.
async fn listen(
    socket: TcpSocket,
    state: AppState,
    ready: impl FnOnce(SocketAddr),
) -> Result<(), StartError> {
    let addr = state.settings.addr;
    let of_addr = |source| StartError::Listen { addr, source };
    let listener = socket.listen(BACKLOG).map_err(of_addr)?;
    let addr = listener.local_addr().map_err(of_addr)?;
    ready(addr);
    tracing::info!(addr = %addr, models = state.models.len(), "ready");
    if state.settings.insecure && !state.settings.is_loopback() {
        tracing::warn!(addr = %addr, "no token is asked for: everybody who reaches this address may use the server");
    }
    serve_on(listener, state).await;
    tracing::info!("ended");
    Ok(())
}

fn runtime() -> io::Result<Runtime> {
    let cores = std::thread::available_parallelism().map_or(THREADS, NonZeroUsize::get);
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(THREADS)
        // Requests are checked on these, before they are computed.
        .max_blocking_threads(cores)
        .thread_name("submask-http")
        .enable_all()
        .build()
}

fn open(source: &ModelSource, compute: &Compute) -> Result<OpenModel, StartError> {
    source.open(compute).map_err(|error| StartError::Model { name: source.name.clone(), source: error })
}

/// A socket of an address, which nobody else then gets.
fn bind(addr: SocketAddr) -> Result<TcpSocket, StartError> {
    let bound = || {
        let socket = if addr.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        // An address whose last server was killed a moment ago can be taken again.
        #[cfg(unix)]
        socket.set_reuseaddr(true)?;
        socket.set_send_buffer_size(SEND_BUFFER)?;
        socket.bind(addr)?;
        Ok(socket)
    };
    bound().map_err(|source| StartError::Listen { addr, source })
}

/// Signals that ask the process to end.
struct Signals {
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
}

impl Signals {
    #[cfg(unix)]
    fn new() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    #[cfg(unix)]
    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }

    #[cfg(not(unix))]
    fn new() -> io::Result<Self> {
        Ok(Self {})
    }

    #[cfg(not(unix))]
    async fn next(&mut self) {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Cancels `shutdown` at the first signal, and comes to an end at the second.
    async fn watch(mut self, shutdown: CancellationToken) {
        self.next().await;
        tracing::info!("ending: requests under way are finished first; a second signal gives them up");
        shutdown.cancel();
        self.next().await;
    }
}
