//! `submask serve`, over real sockets.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use insta::assert_snapshot;
use submask::backbone::Embedding;
use submask::backbone::dit::DitConfig;
use submask::backbone::weights::{Init, Parameter};
use submask::data::Tokenizer;
use submask::model::{
    Architecture, CodeSettings, FORMAT_VERSION, ImageSubject, ModelConfig, NetworkConfig, Sampling, Subject,
    TextSubject, UnetSettings,
};
use submask::schedule::Schedule;

use super::{Room, submask};

/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(120);

#[test]
fn help() {
    assert_snapshot!(submask(&["serve", "-h"]), @"
    exit code: 0
    ----- stdout -----
    Serve models over HTTP: completions, holes, scores, pictures, and a page that shows how they resolve

    Usage: submask serve [OPTIONS] <[NAME=]MODEL>...

    Arguments:
      <[NAME=]MODEL>...  Model folder, run (its newest checkpoint) or checkpoint folder, with the name
                         by which clients ask for it [default name: the folder's]

    Options:
          --checkpoint <WHICH>  Which checkpoint of runs: newest, best (of a run with train.keep_best),
                                or its number of steps [default: newest]
          --addr <HOST:PORT>    Address to listen on; port 0 takes one that is free [default:
                                127.0.0.1:8080]
          --token-file <FILE>   File with the token that clients have to show, needed for any address
                                that other machines reach
          --insecure            Let everybody in who reaches the address, without a token
          --cors <ORIGIN>       Let web pages of this origin call the server from a browser, such as
                                `https://example.org`, or * for all; may be given several times
          --log-texts           Write the texts of users into the logs
      -h, --help                Print help (see more with '--help')

    Limits:
          --max-batch <B>          Sequences evaluated together, per model [default: 16]
          --max-queue <Q>          Requests that wait, per model, beyond those that are computed
                                   [default: 64]
          --max-tokens <N>         Tokens of a request in all, those given and those to be written
                                   [default: 65536]
          --max-choices <N>        Choices of a request in all [default: 128]
          --max-body <SIZE>        Size of a body, in bytes, KiB or MiB [default: 1MiB]
          --max-large-body <SIZE>  Size of a body with pictures or with texts to score [default: 16MiB]
          --max-connections <N>    Clients connected at once [default: 256]
          --timeout <S>            Seconds that a request may take [default: 600]
          --header-timeout <S>     Seconds that the head of a request may take to come [default: 10]
          --body-timeout <S>       Seconds that the body of a request may take to come [default: 30]
          --slow-reader <S>        Seconds that a client may take to read the next 16 KiB [default: 10]
          --stream-buffer <SIZE>   What may wait of a stream for a client that reads slowly [default:
                                   4MiB]

    Global options:
          --threads <N>            Threads to compute with [default: one per core]
          --device <DEVICE>        Where to compute: auto (a GPU that answers, otherwise the CPU), cpu,
                                   or gpu:N; GPUs need a build with the cargo feature cuda, vulkan or
                                   wgpu [default: auto]
          --precision <PRECISION>  In which precision matrices are multiplied: fp32, tf32 (NVIDIA's GPUs
                                   through CUDA), or bf16 (CPUs with AVX-512 for it, some GPUs), where
                                   norms, softmax and the weights in training stay fp32 [default: fp32]

    Examples:
      submask serve runs/dictionary
      submask serve words=runs/dictionary runs/emoji --addr 127.0.0.1:0
      submask serve runs/dictionary --addr 0.0.0.0:8080 --token-file token.txt
    ----- stderr -----
    ");
}

/// Writes a tiny model with drawn weights: of texts in bytes, or of images.
fn save(folder: &Path, subject: Subject, network: NetworkConfig) {
    let tokenizer = subject.text().map(|_| Tokenizer::bytes());
    let config = ModelConfig {
        format_version: FORMAT_VERSION,
        subject,
        network,
        codes: CodeSettings::plain(2, true),
        schedule: Schedule::Linear,
        sample: Sampling { steps: 8, ..Sampling::default() },
    };
    let architecture = Architecture::new(config, tokenizer).unwrap();
    let drawn = |(index, parameter): (usize, &Parameter)| {
        Parameter { init: Init::Normal(0.3), ..parameter.clone() }.initial(1, index)
    };
    let values: Vec<_> = architecture.parameters().iter().enumerate().map(drawn).collect();
    std::fs::create_dir_all(folder).unwrap();
    architecture.save(&values, folder).unwrap();
}

fn save_text(folder: &Path) {
    let sizes = DitConfig {
        hidden: 16,
        heads: 2,
        blocks: 1,
        cond_dim: 8,
        seq_len: 64,
        dropout: 0.0,
        embedding: Embedding::Concatenated,
        time_conditioning: false,
        block_len: 0,
    };
    let subject = Subject::Text(TextSubject::of(&Tokenizer::bytes()));
    save(folder, subject, NetworkConfig::Diffusion(sizes));
}

fn save_images(folder: &Path) {
    let (channels, height, width, levels, super_tokens) = (1, 8, 8, 256, false);
    let images = ImageSubject { channels, height, width, levels, super_tokens, class_names: Vec::new() };
    let network = UnetSettings {
        class_conditional: false,
        model_channels: 32,
        channel_mult: vec![1],
        res_blocks: 1,
        attention_resolutions: Vec::new(),
        head_channels: 32,
        dropout: 0.0,
    };
    save(folder, Subject::Image(images), NetworkConfig::Unet(network));
}

/// A server that runs, and is killed when it is dropped.
struct Server {
    child: Child,
    /// `127.0.0.1:PORT`.
    addr: String,
    /// How long it took to be ready.
    start: Duration,
}

impl Server {
    fn start(room: &Room, arguments: &[&str]) -> Self {
        let begin = Instant::now();
        let child = Command::new(env!("CARGO_BIN_EXE_submask"))
            .args(["serve"])
            .args(arguments)
            .current_dir(room.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(room.path().join("log")).unwrap())
            .spawn()
            .unwrap();
        Self::of(child, begin, room)
    }

    /// A server that was started at `begin`.
    fn of(mut child: Child, begin: Instant, room: &Room) -> Self {
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let addr = line.trim_end().strip_prefix("listening on http://");
        let addr = addr.unwrap_or_else(|| panic!("{line:?}: {}", log(room))).to_owned();
        Self { child, addr, start: begin.elapsed() }
    }

    /// Sends a request and gives the whole answer.
    fn ask(&self, head: &str, body: &str) -> String {
        let mut stream = TcpStream::connect(&self.addr).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        let length = body.len();
        let head = format!("{head} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n", self.addr);
        let kind = format!("content-type: application/json\r\ncontent-length: {length}\r\n\r\n");
        stream.write_all((head + &kind + body).as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    #[cfg(unix)]
    fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args([name, &id]).status().unwrap().success());
    }

    /// The exit code, once it has ended; none where a signal ended it.
    fn wait(&mut self) -> Option<i32> {
        let begin = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            assert!(begin.elapsed() < LONG, "the server does not end");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What it said on standard error, if that is kept.
fn log(room: &Room) -> String {
    std::fs::read_to_string(room.path().join("log")).unwrap_or_default()
}

#[test]
fn what_cannot_be_served_is_refused_with_the_flag_that_says_it() {
    let room = Room::new();
    save_text(&room.path().join("a/words"));
    save_text(&room.path().join("b/words"));
    assert_snapshot!(room.call(&["serve", "nowhere"]), @"
    exit code: 1
    ----- stdout -----
    ----- stderr -----
    error: there is no model in nowhere: it does not exist
    hint: give a model folder, a run or a checkpoint; `submask train` makes one
    ");
    assert_snapshot!(room.call(&["serve", "a/words", "b/words"]), @r#"
    exit code: 2
    ----- stdout -----
    ----- stderr -----
    error: MODEL = "words" is not allowed: it would stand for each of a/words, b/words; NAME=PATH gives a model another name, such as other=b/words
    "#);
    assert_snapshot!(room.call(&["serve", "two words=a/words"]), @r#"
    exit code: 2
    ----- stdout -----
    ----- stderr -----
    error: MODEL = "two words" is not allowed: a name of letters, digits and . _ - : @ + (NAME=PATH gives one)
    "#);
    assert_snapshot!(room.call(&["serve", "a/words", "--addr", "0.0.0.0:0"]), @"
    exit code: 2
    ----- stdout -----
    ----- stderr -----
    error: --token-file has to be given: other machines reach 0.0.0.0:0
    hint: --token-file FILE asks for a token, --insecure for none
    ");
    room.write("empty", " \n");
    assert_snapshot!(room.call(&["serve", "a/words", "--token-file", "empty"]), @"
    exit code: 1
    ----- stdout -----
    ----- stderr -----
    error: empty: it holds no token: at least one character
    hint: (umask 077; head -c 32 /dev/urandom | base64 > empty) makes one
    ");
    for (other, own) in [("--port", "--addr"), ("--token", "--token-file")] {
        let refused = room.call(&["serve", "a/words", other, "9000"]);
        assert!(refused.starts_with("exit code: 2") && refused.contains(&format!("'{own}'")), "{refused}");
    }
    assert_snapshot!(room.call(&["serve", "a/words", "--cors", "example.org"]), @r#"
    exit code: 2
    ----- stdout -----
    ----- stderr -----
    error: --cors = "example.org" is not allowed: an origin such as https://example.org or http://localhost:3000, without a path, or *
    "#);
    assert_snapshot!(room.call(&["serve", "a/words", "--max-batch", "0"]), @"
    exit code: 2
    ----- stdout -----
    ----- stderr -----
    error: --max-batch = 0 is not allowed: at least 1
    ");
    assert_snapshot!(room.call(&["serve", "a/words", "--timeout", "0"]), @"
    exit code: 2
    ----- stdout -----
    ----- stderr -----
    error: invalid value '0' for '--timeout <S>': expected a number of seconds above 0

    For more information, try '--help'.
    ");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap().to_string();
    let refused = room.call(&["serve", "a/words", "--addr", &addr]).replace(&addr, "[addr]");
    let refused = refused.replace(" (os error 98)", "");
    assert_snapshot!(refused, @"
    exit code: 1
    ----- stdout -----
    ----- stderr -----
    error: [addr] cannot be listened on: Address already in use
    hint: --addr HOST:PORT is where it listens; port 0 takes one that is free
    ");
    std::fs::write(room.path().join("a/words/model.safetensors"), "no weights").unwrap();
    assert_snapshot!(room.call(&["serve", "a/words", "--addr", "127.0.0.1:0"]), @"
    exit code: 1
    ----- stdout -----
    ----- stderr -----
    error: the model words cannot be opened
      caused by: a/words/model.safetensors: not a whole safetensors file (header too large); it may be truncated or altered
    ");
}

#[test]
#[cfg(unix)]
fn a_model_has_the_name_of_the_path_that_is_given() {
    let room = Room::new();
    save_text(&room.path().join("long-name"));
    std::os::unix::fs::symlink("long-name", room.path().join("short")).unwrap();
    let server = Server::start(&room, &["short/", "--addr", "0.0.0.0:0", "--insecure"]);
    let port = server.addr.rsplit_once(':').unwrap().1.to_owned();
    let answer = {
        let mut stream = TcpStream::connect(format!("127.0.0.1:{port}")).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        stream.write_all(b"GET /v1/models HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    assert!(answer.contains("\"id\":\"short\""), "{answer}");
    assert!(log(&room).contains("everybody who reaches this address"), "{}", log(&room));
}

#[test]
#[cfg(unix)]
fn it_ends_when_told_to_and_starts_again_at_once_when_killed() {
    let room = Room::new();
    save_text(&room.path().join("words"));
    let mut server = Server::start(&room, &["words", "--addr", "127.0.0.1:0"]);
    assert!(server.ask("GET /readyz", "").starts_with("HTTP/1.1 200"));
    assert!(server.ask("GET /v1/models/words", "").contains("\"id\":\"words\""));
    let limit = Duration::from_secs(if cfg!(debug_assertions) { 5 } else { 1 });
    let mut starts = Vec::new();
    // Other programs may take the processor from a start, and hardly from all of them.
    while starts.len() < 5 && starts.iter().all(|start| *start >= limit) {
        server.signal("-KILL");
        assert_eq!(server.wait(), None);
        server = Server::start(&room, &["other=words", "--addr", &server.addr]);
        starts.push(server.start);
    }
    assert!(starts.iter().any(|start| *start < limit), "ready after {starts:?}");
    assert!(server.ask("GET /v1/models/other", "").starts_with("HTTP/1.1 200"));
    for signal in ["-TERM", "-INT"] {
        let mut server = Server::start(&room, &["words", "--addr", "127.0.0.1:0"]);
        server.signal(signal);
        assert_eq!(server.wait(), Some(0), "{signal}: {}", log(&room));
    }
}

/// Asks for so much text that not all of it is on its way before it is read, and gives the connection once the first of it has come.
#[cfg(unix)]
fn long_stream(server: &Server) -> TcpStream {
    let body =
        r#"{"model":"words","prompt":"a","max_tokens":60,"n":128,"order":"left-to-right","stream":true}"#;
    let mut stream = TcpStream::connect(&server.addr).unwrap();
    stream.set_read_timeout(Some(LONG)).unwrap();
    let (addr, length) = (&server.addr, body.len());
    let head = format!("POST /v1/completions HTTP/1.1\r\nhost: {addr}\r\ncontent-length: {length}\r\n");
    let whole = head + "content-type: application/json\r\n\r\n" + body;
    stream.write_all(whole.as_bytes()).unwrap();
    let mut seen = Vec::new();
    while !seen.windows(6).any(|bytes| bytes == b"data: ") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        seen.push(byte[0]);
    }
    stream
}

#[test]
#[cfg(unix)]
fn streams_end_before_the_server_does_unless_it_is_told_twice() {
    let room = Room::new();
    save_text(&room.path().join("words"));
    let mut server = Server::start(&room, &["words", "--addr", "127.0.0.1:0"]);
    let mut stream = long_stream(&server);
    server.signal("-TERM");
    let mut rest = String::new();
    stream.read_to_string(&mut rest).unwrap();
    assert!(rest.contains("data: [DONE]"), "{} bytes of it", rest.len());
    assert_eq!(server.wait(), Some(0), "{}", log(&room));
    assert!(TcpStream::connect(&server.addr).is_err());

    let mut server = Server::start(&room, &["words", "--addr", "127.0.0.1:0"]);
    let mut stream = long_stream(&server);
    server.signal("-TERM");
    while !log(&room).contains("a second signal") {
        std::thread::sleep(Duration::from_millis(5));
    }
    server.signal("-TERM");
    assert_eq!(server.wait(), Some(130), "{}", log(&room));
    // The stream may still tell that it was cut after the program has told why.
    let log = log(&room);
    assert!(log.lines().any(|line| line == "stopped: requests under way were given up"), "{log}");
    let mut rest = String::new();
    // It breaks off.
    let _ = stream.read_to_string(&mut rest);
    assert!(!rest.contains("data: [DONE]"));
}

#[test]
fn logs_are_lines_of_json_without_texts() {
    let body = r#"{"model":"words","prompt":"my secret","max_tokens":3,"stream":false}"#;
    for (flags, is_told) in [(&[][..], false), (&["--log-texts"], true)] {
        let room = Room::new();
        save_text(&room.path().join("words"));
        let arguments = [&["words", "--addr", "127.0.0.1:0"], flags].concat();
        let server = Server::start(&room, &arguments);
        assert!(server.ask("POST /v1/completions", body).starts_with("HTTP/1.1 200"));
        assert!(server.ask("GET /v1/models?prompt=my+secret", "").starts_with("HTTP/1.1 200"));
        // A line may come after the answer that it is about.
        let begin = Instant::now();
        while log(&room).matches("\"answered\"").count() < 2 {
            assert!(begin.elapsed() < LONG, "{}", log(&room));
            std::thread::sleep(Duration::from_millis(5));
        }
        drop(server);
        let log = log(&room);
        for line in log.lines() {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            assert!(line["timestamp"].is_string() && line["level"].is_string(), "{line}");
        }
        let answered = log.lines().find(|line| line.contains("/v1/completions") && line.contains("answered"));
        let answered: serde_json::Value = serde_json::from_str(answered.expect(&log)).unwrap();
        assert_eq!(
            (&answered["status"], &answered["span"]["method"]),
            (&200.into(), &"POST".into()),
            "{answered}"
        );
        assert_eq!(log.contains("my secret"), is_told, "{log}");
        assert!(!log.contains("my+secret"));
    }
}

#[test]
fn nobody_has_to_read_what_it_says() {
    let room = Room::new();
    save_text(&room.path().join("words"));
    let begin = Instant::now();
    let mut child = Command::new(env!("CARGO_BIN_EXE_submask"))
        .args(["serve", "words", "--addr", "127.0.0.1:0"])
        .current_dir(room.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stderr.take());
    let server = Server::of(child, begin, &room);
    for _ in 0..3 {
        assert!(server.ask("GET /healthz", "").starts_with("HTTP/1.1 200"));
    }
}

#[test]
fn a_token_is_asked_for() {
    let room = Room::new();
    save_text(&room.path().join("words"));
    room.write("token", "a-secret\n");
    let server = Server::start(&room, &["words", "--addr", "127.0.0.1:0", "--token-file", "token"]);
    assert!(server.ask("GET /healthz", "").starts_with("HTTP/1.1 200"));
    assert!(server.ask("GET /v1/models", "").starts_with("HTTP/1.1 401"));
    let with = "GET /v1/models HTTP/1.1\r\nauthorization: Bearer a-secret\r\nx: ";
    assert!(server.ask(with, "").starts_with("HTTP/1.1 200"));
    assert!(!log(&room).contains("a-secret"));
}

/// The examples of the guide, as a shell runs them.
#[test]
#[cfg(unix)]
fn the_examples_of_the_guide_work() {
    let guide = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/serving.md");
    let guide = std::fs::read_to_string(guide).unwrap();
    let blocks: Vec<&str> =
        guide.split("<!-- run -->\n```sh\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert!(blocks.len() >= 9, "{} examples", blocks.len());
    if Command::new("curl").arg("--version").output().is_err() {
        eprintln!("skipped: there is no curl");
        return;
    }
    let room = Room::new();
    save_text(&room.path().join("dictionary"));
    save_images(&room.path().join("emoji"));
    let server = Server::start(&room, &["dictionary", "emoji", "--addr", "127.0.0.1:0"]);
    room.write(".curlrc", "fail-with-body\nsilent\nshow-error\n");
    for block in blocks {
        let script = format!("set -euo pipefail\n{}", block.replace("127.0.0.1:8080", &server.addr));
        let mut bash = Command::new("bash");
        bash.arg("-c").arg(&script).current_dir(room.path()).env("CURL_HOME", room.path());
        let output = bash.output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{script}\n{said}\n{error}");
        assert!(!said.contains("\"error\""), "{script}\n{said}");
        if block.contains("\"stream\": true") {
            assert!(
                said.ends_with("data: [DONE]\n\n") && said.matches("data: ").count() > 3,
                "{script}\n{said}"
            );
        }
    }
    let picture = image::open(room.path().join("emoji.png")).unwrap();
    assert_eq!((picture.width(), picture.height()), (32, 32));
}
