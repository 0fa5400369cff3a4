//! Limits of connections, and how they end: over real sockets.

use std::net::SocketAddr;
use std::time::Duration;

use submask_server::state::AppState;
use submask_server::{ServerSettings, serve_on};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use super::support::state;

/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(60);

struct Running {
    addr: SocketAddr,
    state: AppState,
    task: JoinHandle<()>,
}

async fn start(settings: ServerSettings) -> Running {
    let state = state(settings, &["words", "blocks"]);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let task = tokio::spawn(serve_on(listener, state.clone()));
    Running { addr, state, task }
}

impl Running {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.addr).await.unwrap()
    }

    /// Sends a text and reads until the server closes the connection.
    async fn talk(&self, text: &str) -> String {
        let mut stream = self.connect().await;
        stream.write_all(text.as_bytes()).await.unwrap();
        rest(&mut stream).await
    }
}

/// What comes until the end.
async fn rest(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    // A connection that is reset ends, too.
    let _ = timeout(LONG, stream.read_to_end(&mut bytes)).await.expect("the server closes the connection");
    String::from_utf8(bytes).unwrap()
}

/// Reads one answer's head, and leaves the connection open.
async fn head(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\n") {
        bytes.push(timeout(LONG, stream.read_u8()).await.unwrap().unwrap());
    }
    String::from_utf8(bytes).unwrap()
}

/// A request of a path for the last answer of a connection.
fn last_get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
}

fn post_head(path: &str, length: usize, more: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
         content-length: {length}\r\n{more}\r\n"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn more_clients_than_allowed_are_told_to_come_back() {
    let running = start(ServerSettings { max_connections: 2, ..ServerSettings::default() }).await;
    let mut kept = Vec::new();
    for _ in 0..2 {
        let mut stream = running.connect().await;
        stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
        assert!(head(&mut stream).await.starts_with("HTTP/1.1 200"));
        kept.push(stream);
    }
    let refused = running.talk("GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    assert!(refused.starts_with("HTTP/1.1 503") && refused.contains("retry-after: 1"), "{refused}");
    assert!(refused.contains("too_many_connections") && refused.contains("--max-connections"), "{refused}");
    assert_eq!(
        (running.state.metrics.refused_connections.get(), running.state.metrics.connections.get()),
        (1, 2)
    );
    drop(kept.pop());
    let begin = Instant::now();
    while !running.talk(&last_get("/healthz")).await.starts_with("HTTP/1.1 200") {
        assert!(begin.elapsed() < LONG);
        sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_and_bodies_that_do_not_come_are_given_up() {
    // Longer than a machine with much to do lets a client wait between connecting and sending.
    let short = Duration::from_secs(1);
    let running =
        start(ServerSettings { header_timeout: short, body_timeout: short, ..ServerSettings::default() })
            .await;
    let begin = Instant::now();
    assert_eq!(running.talk("GET /healthz HTTP/1.1\r\nhost: loc").await, "", "it is closed");
    assert!(begin.elapsed() >= short);
    // One that has been answered and says nothing more.
    let answered = running.talk("GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    assert!(answered.starts_with("HTTP/1.1 200") && answered.ends_with("ok"), "{answered}");
    let answer = running.talk(&(post_head("/v1/completions", 100, "") + "{\"model\":")).await;
    assert!(answer.starts_with("HTTP/1.1 408") && answer.contains("--body-timeout"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_sends_too_much_can_read_the_answer() {
    let running = start(ServerSettings { max_body: 100_000, ..ServerSettings::default() }).await;
    let body = " ".repeat(400_000);
    let whole = post_head("/v1/completions", body.len(), "connection: close\r\n") + &body;
    let answer = running.talk(&whole).await;
    assert!(answer.starts_with("HTTP/1.1 413") && answer.contains("100000 bytes"), "{answer}");
    let chunked = "POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
                   transfer-encoding: chunked\r\nconnection: close\r\n\r\n61a80\r\n";
    let answer = running.talk(&format!("{chunked}{body}\r\n0\r\n\r\n")).await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    // Who asks before sending is told at once, and does not send.
    let asks = post_head("/v1/completions", 400_000, "expect: 100-continue\r\nconnection: close\r\n");
    let mut least = LONG;
    for _ in 0..3 {
        let mut stream = running.connect().await;
        let begin = Instant::now();
        stream.write_all(asks.as_bytes()).await.unwrap();
        assert!(head(&mut stream).await.starts_with("HTTP/1.1 413"));
        least = least.min(begin.elapsed());
    }
    assert!(least < Duration::from_secs(2), "{least:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_read_is_cut_off() {
    let limit = Duration::from_millis(300);
    let running = start(ServerSettings { slow_reader: limit, ..ServerSettings::default() }).await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(1 << 12).unwrap();
    let mut stream = socket.connect(running.addr).await.unwrap();
    let ask = "GET /openapi.json HTTP/1.1\r\nhost: localhost\r\n\r\n".repeat(2000);
    // The server stops reading once it cannot write.
    let _ = timeout(Duration::from_secs(1), stream.write_all(ask.as_bytes())).await;
    let begin = Instant::now();
    while running.state.metrics.slow_readers.get() == 0 {
        assert!(begin.elapsed() < LONG, "it is not cut off");
        sleep(Duration::from_millis(10)).await;
    }
    while running.state.metrics.connections.get() > 0 {
        assert!(begin.elapsed() < LONG, "it is not closed");
        sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(running.state.metrics.slow_readers.get(), 1);
    assert!(running.talk(&last_get("/healthz")).await.starts_with("HTTP/1.1 200"), "others are served");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_under_way_is_finished_before_the_end() {
    let running = start(ServerSettings::default()).await;
    let mut idle = running.connect().await;
    idle.write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    head(&mut idle).await;
    let body = r#"{"model":"words","prompt":"ab","max_tokens":4,"seed":1}"#;
    let mut busy = running.connect().await;
    let asks = post_head("/v1/completions", body.len(), "expect: 100-continue\r\n");
    busy.write_all(asks.as_bytes()).await.unwrap();
    // It is under way once its body is asked for.
    assert!(head(&mut busy).await.starts_with("HTTP/1.1 100"));
    busy.write_all(&body.as_bytes()[..10]).await.unwrap();
    running.state.shutdown.cancel();
    rest(&mut idle).await;
    for (path, status) in [("/healthz", "200"), ("/readyz", "503"), ("/metrics", "200")] {
        // The server closes the connection by itself.
        let answer = running.talk(&format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n")).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{path}: {answer}");
    }
    let refused = running.talk(&(post_head("/v1/completions", body.len(), "") + body)).await;
    assert!(refused.starts_with("HTTP/1.1 503") && refused.contains("shutting_down"), "{refused}");
    assert!(refused.contains("retry-after: 1"), "{refused}");
    assert!(!running.task.is_finished());
    busy.write_all(&body.as_bytes()[10..]).await.unwrap();
    let answer = rest(&mut busy).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("\"text\""), "{answer}");
    timeout(LONG, running.task).await.expect("the server ends").unwrap();
    assert!(TcpStream::connect(running.addr).await.is_err(), "nobody listens any more");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_waits_for_is_given_up() {
    for stream in [false, true] {
        let running = start(ServerSettings::default()).await;
        let body = format!(
            r#"{{"model":"blocks","prompt":"a","max_tokens":60000,"temperature":0,"stream":{stream}}}"#
        );
        let mut gone = running.connect().await;
        gone.write_all((post_head("/v1/completions", body.len(), "") + &body).as_bytes()).await.unwrap();
        let count = |line: &str| running.state.metrics.text().unwrap().lines().any(|found| found == line);
        let begin = Instant::now();
        // It does not come to an end by itself: at temperature 0 the tiny model repeats itself.
        while count("submask_active_sequences{model=\"blocks\"} 0") {
            assert!(begin.elapsed() < LONG, "it does not begin");
            sleep(Duration::from_millis(1)).await;
        }
        drop(gone);
        for line in [
            "submask_cancelled_requests_total{route=\"/v1/completions\"} 1",
            "submask_active_sequences{model=\"blocks\"} 0",
            "submask_connections 0",
        ] {
            while !count(line) {
                assert!(begin.elapsed() < LONG, "{line}: {}", running.state.metrics.text().unwrap());
                sleep(Duration::from_millis(1)).await;
            }
        }
        assert!(
            !count("submask_requests_total{route=\"/v1/completions\",status=\"200\"} 1"),
            "it was not answered"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_http_is_refused() {
    let running = start(ServerSettings::default()).await;
    let long = format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(100_000));
    for nonsense in ["\0\u{1}\u{2}\r\n\r\n", "GET\r\n\r\n", "GET / HTTP/9.9\r\n\r\n", &long] {
        let answer = running.talk(nonsense).await;
        assert!(answer.starts_with("HTTP/1.1 4"), "{nonsense:.20}: {answer}");
    }
    assert!(running.talk(&last_get("/healthz")).await.starts_with("HTTP/1.1 200"));
}
