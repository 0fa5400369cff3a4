//! Arguments of `submask serve`.

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use clap::Args;
use clap::builder::UnknownArgumentValueParser;
use submask::model::CheckpointChoice;

/// Serve models over HTTP: completions, holes, scores, pictures, and a page that shows how they resolve
///
/// Speaks OpenAI's completions, and more: docs/serving.md says what. The page stands at /. Ctrl-C lets requests
/// under way finish; a second one gives them up.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct ServeArgs {
    /// Model folder, run (its newest checkpoint) or checkpoint folder, with the name by which clients ask for it
    /// [default name: the folder's]
    #[arg(value_name = "[NAME=]MODEL", required = true)]
    pub models: Vec<ModelArg>,
    /// Which checkpoint of runs: newest, best (of a run with train.keep_best), or its number of steps
    #[arg(long, value_name = "WHICH", default_value_t)]
    pub checkpoint: CheckpointChoice,
    /// Address to listen on; port 0 takes one that is free
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:8080")]
    pub addr: AddrArg,
    /// File with the token that clients have to show, needed for any address that other machines reach
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Let everybody in who reaches the address, without a token
    #[arg(long, conflicts_with = "token_file")]
    pub insecure: bool,
    /// Let web pages of this origin call the server from a browser, such as `https://example.org`, or * for all; may be
    /// given several times
    #[arg(long, value_name = "ORIGIN")]
    pub cors: Vec<String>,
    /// Write the texts of users into the logs
    #[arg(long)]
    pub log_texts: bool,
    #[command(flatten)]
    pub limits: LimitArgs,
    /// What other servers call the address, which is answered with the flag of this one.
    #[arg(long, hide = true, value_parser = UnknownArgumentValueParser::suggest_arg("--addr"))]
    port: Option<String>,
    /// What other servers call the token, which does not belong on a command line.
    #[arg(long, hide = true, value_parser = UnknownArgumentValueParser::suggest_arg("--token-file"))]
    token: Option<String>,
}

/// What one request, or all of them together, may take.
#[derive(Args, Debug)]
#[command(next_help_heading = "Limits")]
pub struct LimitArgs {
    /// Sequences evaluated together, per model
    #[arg(long, value_name = "B", default_value = "16")]
    pub max_batch: usize,
    /// Requests that wait, per model, beyond those that are computed
    #[arg(long, value_name = "Q", default_value = "64")]
    pub max_queue: usize,
    /// Tokens of a request in all, those given and those to be written
    #[arg(long, value_name = "N", default_value = "65536")]
    pub max_tokens: usize,
    /// Choices of a request in all
    #[arg(long, value_name = "N", default_value = "128")]
    pub max_choices: usize,
    /// Size of a body, in bytes, KiB or MiB
    #[arg(long, value_name = "SIZE", default_value = "1MiB")]
    pub max_body: SizeArg,
    /// Size of a body with pictures or with texts to score
    #[arg(long, value_name = "SIZE", default_value = "16MiB")]
    pub max_large_body: SizeArg,
    /// Clients connected at once
    #[arg(long, value_name = "N", default_value = "256")]
    pub max_connections: usize,
    /// Seconds that a request may take
    #[arg(long, value_name = "S", default_value = "600")]
    pub timeout: SecondsArg,
    /// Seconds that the head of a request may take to come
    #[arg(long, value_name = "S", default_value = "10")]
    pub header_timeout: SecondsArg,
    /// Seconds that the body of a request may take to come
    #[arg(long, value_name = "S", default_value = "30")]
    pub body_timeout: SecondsArg,
    /// Seconds that a client may take to read the next 16 KiB
    #[arg(long, value_name = "S", default_value = "10")]
    pub slow_reader: SecondsArg,
    /// What may wait of a stream for a client that reads slowly
    #[arg(long, value_name = "SIZE", default_value = "4MiB")]
    pub stream_buffer: SizeArg,
}

/// `[NAME=]MODEL`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelArg {
    /// The name, if one is given.
    pub name: Option<String>,
    /// The folder.
    pub path: PathBuf,
}

impl FromStr for ModelArg {
    type Err = String;

    /// What exists as it is written is a path, and so is what has a / before its =.
    fn from_str(text: &str) -> Result<Self, String> {
        let whole = || Ok(Self { name: None, path: text.into() });
        match text.split_once('=') {
            _ if text.is_empty() => Err("expected a folder, or NAME=FOLDER".to_owned()),
            Some((name, _)) if name.contains(['/', '\\']) => whole(),
            Some(_) if Path::new(text).exists() => whole(),
            Some((name, path)) if name.is_empty() || path.is_empty() => {
                Err("expected NAME=FOLDER, with something on both sides".to_owned())
            }
            Some((name, path)) => Ok(Self { name: Some(name.to_owned()), path: path.into() }),
            None => whole(),
        }
    }
}

/// `HOST:PORT`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddrArg(pub SocketAddr);

impl FromStr for AddrArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || "expected HOST:PORT, such as 127.0.0.1:8080, localhost:0 or [::1]:8080".to_owned();
        if let Ok(addr) = text.parse() {
            return Ok(Self(addr));
        }
        let (host, port) = text.rsplit_once(':').ok_or_else(expected)?;
        let port: u16 = port.parse().map_err(|_| expected())?;
        if host.is_empty() || host.contains(':') {
            return Err(expected());
        }
        let unknown = |problem: &dyn std::fmt::Display| format!("the host {host} is not known: {problem}");
        let found: Vec<_> = (host, port).to_socket_addrs().map_err(|error| unknown(&error))?.collect();
        // Where a name has addresses of both kinds, the older kind is the one that every client tries.
        let chosen = found.iter().find(|addr| addr.is_ipv4()).or(found.first());
        chosen.copied().map(Self).ok_or_else(|| unknown(&"it has no address"))
    }
}

/// A number of seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SecondsArg(pub Duration);

impl FromStr for SecondsArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let seconds = text.parse().ok().filter(|seconds: &f64| *seconds > 0.0);
        let time = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        time.map(Self).ok_or_else(|| "expected a number of seconds above 0".to_owned())
    }
}

/// A number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SizeArg(pub usize);

impl FromStr for SizeArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let units = [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];
        let unit =
            units.iter().find_map(|(unit, size)| text.strip_suffix(unit).map(|number| (number, *size)));
        let (number, size) = unit.unwrap_or((text, 1));
        let number: Option<usize> = number.trim().parse().ok();
        let bytes = number.filter(|number| *number > 0).and_then(|number| number.checked_mul(size));
        bytes
            .map(Self)
            .ok_or_else(|| "expected a size of at least 1 byte, such as 4096, 512KiB or 1MiB".to_owned())
    }
}

const EXAMPLES: &str = "\
Examples:
  submask serve runs/dictionary
  submask serve words=runs/dictionary runs/emoji --addr 127.0.0.1:0
  submask serve runs/dictionary --addr 0.0.0.0:8080 --token-file token.txt";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_has_a_name_or_a_path_alone() {
        let model = |text: &str| text.parse::<ModelArg>().map(|model| (model.name, model.path));
        let named = |name: &str, path: &str| Ok((Some(name.to_owned()), path.into()));
        assert_eq!(model("words=runs/a"), named("words", "runs/a"));
        assert_eq!(model("a=b=c"), named("a", "b=c"));
        assert_eq!(model("runs/a"), Ok((None, "runs/a".into())));
        assert_eq!(model("./a=b"), Ok((None, "./a=b".into())));
        assert!(["=a", "a=", "", "="].into_iter().all(|text| model(text).is_err()));
    }

    #[test]
    fn addresses_are_numbers_or_names() {
        let addr = |text: &str| text.parse::<AddrArg>().map(|AddrArg(addr)| addr.to_string());
        assert_eq!(addr("127.0.0.1:0").as_deref(), Ok("127.0.0.1:0"));
        assert_eq!(addr("[::1]:80").as_deref(), Ok("[::1]:80"));
        assert_eq!(addr("localhost:80").as_deref(), Ok("127.0.0.1:80"));
        for wrong in ["", "8080", "127.0.0.1", ":80", "127.0.0.1:70000", "::1:80", "localhost:x"] {
            assert!(addr(wrong).unwrap_err().contains("HOST:PORT"), "{wrong}");
        }
    }

    #[test]
    fn sizes_and_times_are_above_zero() {
        let size = |text: &str| text.parse::<SizeArg>().map(|SizeArg(bytes)| bytes);
        assert_eq!((size("12"), size("2KiB"), size("3 MiB")), (Ok(12), Ok(2048), Ok(3 << 20)));
        assert!(
            ["0", "-1", "MiB", "1MB", "1e3", "", "99999999999999GiB"].iter().all(|text| size(text).is_err())
        );
        let time = |text: &str| text.parse::<SecondsArg>().map(|SecondsArg(time)| time.as_millis());
        assert_eq!((time("600"), time("0.5")), (Ok(600_000), Ok(500)));
        assert!(["0", "-1", "NaN", "inf", "1e300", "s", ""].iter().all(|text| time(text).is_err()));
    }
}
