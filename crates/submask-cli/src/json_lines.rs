//! Files of JSON lines that say what a verb is to do.

use std::fs::File;
use std::io::{BufRead, BufReader, stdin};
use std::path::Path;

use serde::de::DeserializeOwned;
use submask::Error;

use crate::failure::Failure;

/// The values of a file, each with its line from 1, or of standard input by `-`. Blank lines and a byte-order mark are
/// skipped.
pub fn read<T: DeserializeOwned>(path: &Path) -> Result<Vec<(usize, T)>, Failure> {
    let reader: Box<dyn BufRead> = match path == Path::new("-") {
        true => Box::new(stdin().lock()),
        false => Box::new(BufReader::new(File::open(path).map_err(Error::io(path))?)),
    };
    let mut values = Vec::new();
    for (line, bytes) in (1..).zip(reader.split(b'\n')) {
        let bytes = bytes.map_err(Error::io(path))?;
        let bytes = match line {
            1 => bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(&bytes),
            _ => &bytes,
        };
        if !bytes.trim_ascii().is_empty() {
            values.push((line, parse(bytes, line, path)?));
        }
    }
    match values.is_empty() {
        true => Err(Failure::failed(format!("{}: nothing in it but blank lines", shown(path)))),
        false => Ok(values),
    }
}

fn parse<T: DeserializeOwned>(bytes: &[u8], line: usize, path: &Path) -> Result<T, Failure> {
    let problem = |problem: String| Failure::failed(format!("{}: {problem}", place(path, line)));
    let text = std::str::from_utf8(bytes)
        .map_err(|error| problem(format!("not UTF-8 at byte {}", error.valid_up_to() + 1)))?;
    // Every value is on a line of its own, so only the column is worth telling.
    serde_json::from_str(text).map_err(|error| {
        let text = error.to_string();
        problem(text.replace(
            &format!(" at line 1 column {}", error.column()),
            &format!(" at byte {}", error.column()),
        ))
    })
}

/// Where a value stands, before what is wrong with it.
pub fn place(path: &Path, line: usize) -> String {
    format!("{}: line {line}", shown(path))
}

fn shown(path: &Path) -> String {
    match path == Path::new("-") {
        true => "standard input".to_owned(),
        false => path.display().to_string(),
    }
}
