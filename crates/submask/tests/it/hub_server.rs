//! A server on this machine that speaks the Hub's routes, for tests of downloads.

use std::collections::{BTreeMap, VecDeque};
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// The commit of everything that it has.
pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// A hub with one repository, and how it misbehaves.
#[derive(Default)]
pub struct Repository {
    /// `owner/name`.
    pub name: &'static str,
    /// Contents by path.
    pub files: BTreeMap<&'static str, Vec<u8>>,
    /// Contents with more bytes than this lie on another server, to which it redirects.
    pub redirect_above: Option<usize>,
    /// After how many bytes it closes the connection: of the next content, the one after that, ….
    pub cuts: VecDeque<usize>,
    /// Whether it sends whole contents to who asks for a range of more than one byte.
    pub ignores_ranges: bool,
}

/// A running server; it ends with the process.
pub struct HubServer {
    /// Where it is reached.
    pub endpoint: String,
    repository: Arc<Mutex<Repository>>,
    requests: Arc<Mutex<Vec<String>>>,
}

impl HubServer {
    /// Starts a server.
    pub fn start(repository: Repository) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let repository = Arc::new(Mutex::new(repository));
        let requests = Arc::new(Mutex::new(Vec::new()));
        let server = Self { endpoint, repository, requests };
        let (endpoint, repository, requests) =
            (server.endpoint.clone(), server.repository.clone(), server.requests.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (endpoint, repository, requests) =
                    (endpoint.clone(), repository.clone(), requests.clone());
                std::thread::spawn(move || {
                    let _ = serve(&stream.unwrap(), &endpoint, &repository, &requests);
                });
            }
        });
        server
    }

    /// Changes what it has and does.
    #[allow(dead_code, reason = "not all tests that have a server change it")]
    pub fn change(&self, change: impl FnOnce(&mut Repository)) {
        change(&mut self.repository.lock().unwrap());
    }

    /// Downloads asked for since the last call: `path range`, without the looks at a file's size.
    pub fn downloads(&self) -> Vec<String> {
        let all = std::mem::take(&mut *self.requests.lock().unwrap());
        all.into_iter().filter(|request| !request.ends_with(" bytes=0-0")).collect()
    }
}

/// Answers the requests of one connection.
fn serve(
    stream: &TcpStream,
    endpoint: &str,
    repository: &Mutex<Repository>,
    requests: &Mutex<Vec<String>>,
) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
        let mut range = None;
        loop {
            let mut header = String::new();
            reader.read_line(&mut header)?;
            if header.trim().is_empty() {
                break;
            }
            let (name, value) = header.split_once(':').unwrap_or_default();
            if name.eq_ignore_ascii_case("range") {
                range = Some(value.trim().to_owned());
            }
        }
        let mut repository = repository.lock().unwrap();
        let resolve = format!("/{}/resolve/", repository.name);
        let info = format!("/api/models/{}/revision/", repository.name);
        if let Some(revision) = path.strip_prefix(&info) {
            let known = ["main", COMMIT].contains(&revision);
            let siblings: Vec<String> =
                repository.files.keys().map(|name| format!("{{\"rfilename\": \"{name}\"}}")).collect();
            let body = format!("{{\"sha\": \"{COMMIT}\", \"siblings\": [{}]}}", siblings.join(", "));
            answer(stream, if known { "200 OK" } else { "404 Not Found" }, &[], body.as_bytes(), None)?;
            continue;
        }
        let (place, redirected) = match path.strip_prefix("/elsewhere/") {
            Some(name) => (Some(name.to_owned()), true),
            None => {
                let place = path.strip_prefix(&resolve).and_then(|rest| rest.split_once('/'));
                let known = place.filter(|(revision, _)| ["main", COMMIT].contains(revision));
                (known.map(|(_, name)| name.to_owned()), false)
            }
        };
        let Some((name, content)) = place
            .and_then(|name| repository.files.get(name.as_str()).cloned().map(|content| (name, content)))
        else {
            answer(stream, "404 Not Found", &[("X-Error-Code", "EntryNotFound".into())], b"", None)?;
            continue;
        };
        let tag =
            format!("{:08x}", content.iter().fold(7u32, |sum, byte| sum.wrapping_mul(31) ^ u32::from(*byte)));
        let mut headers = vec![("X-Repo-Commit", COMMIT.to_owned())];
        if !redirected && repository.redirect_above.is_some_and(|most| content.len() > most) {
            headers.push(("X-Linked-ETag", format!("\"{tag}\"")));
            headers.push(("Location", format!("{endpoint}/elsewhere/{name}")));
            answer(stream, "302 Found", &headers, b"", None)?;
            continue;
        }
        requests.lock().unwrap().push(format!("{name} {}", range.as_deref().unwrap_or("-")));
        headers.push(("ETag", format!("\"{tag}\"")));
        let (from, to) = range
            .as_deref()
            .and_then(|range| range.strip_prefix("bytes=")?.split_once('-'))
            .map_or((0, content.len()), |(from, to)| {
                let to = to.parse().map_or(content.len(), |to: usize| (to + 1).min(content.len()));
                (from.parse().unwrap(), to)
            });
        if from >= content.len() {
            answer(stream, "416 Range Not Satisfiable", &headers, b"", None)?;
            continue;
        }
        if repository.ignores_ranges && to - from > 1 {
            answer(stream, "200 OK", &headers, &content, None)?;
            continue;
        }
        headers.push(("Content-Range", format!("bytes {from}-{}/{}", to - 1, content.len())));
        let cut = if to - from > 1 { repository.cuts.pop_front() } else { None };
        answer(stream, "206 Partial Content", &headers, &content[from..to], cut)?;
        if cut.is_some() {
            return stream.shutdown(std::net::Shutdown::Both);
        }
    }
}

/// Writes an answer; with `cut`, only so many bytes of what it promises.
fn answer(
    mut stream: &TcpStream,
    status: &str,
    headers: &[(&str, String)],
    body: &[u8],
    cut: Option<usize>,
) -> std::io::Result<()> {
    let mut text = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n", body.len());
    for (name, value) in headers {
        text += &format!("{name}: {value}\r\n");
    }
    stream.write_all(format!("{text}\r\n").as_bytes())?;
    stream.write_all(&body[..cut.unwrap_or(body.len())])
}
