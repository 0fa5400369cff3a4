//! JSON lines: one object a line, the text in a field of it.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::document::Document;
use crate::error::{Error, Result};

/// The documents of one JSON-lines file. Blank lines are skipped; empty texts are no documents.
pub(super) struct JsonLines {
    path: PathBuf,
    reader: BufReader<File>,
    field: String,
    line: u64,
    bytes: Vec<u8>,
}

impl JsonLines {
    /// Opens the file; `field` holds the text.
    pub(super) fn open(path: &Path, field: &str) -> Result<Self> {
        let file = File::open(path).map_err(Error::io(path))?;
        let reader = BufReader::with_capacity(1 << 16, file);
        Ok(Self { path: path.to_path_buf(), reader, field: field.to_owned(), line: 0, bytes: Vec::new() })
    }

    fn next_document(&mut self) -> Result<Option<Document>> {
        loop {
            self.bytes.clear();
            let read = self.reader.read_until(b'\n', &mut self.bytes).map_err(Error::io(&self.path))?;
            if read == 0 {
                return Ok(None);
            }
            self.line += 1;
            if self.bytes.trim_ascii().is_empty() {
                continue;
            }
            let text = self.text()?;
            if !text.is_empty() {
                return Ok(Some(Document::whole(text)));
            }
        }
    }

    /// The text of the line in `bytes`.
    fn text(&self) -> Result<String> {
        let mut object: Map<String, Value> = serde_json::from_slice(&self.bytes)
            .map_err(|error| self.problem(format!("not a JSON object: {error}")))?;
        match object.remove(&self.field) {
            Some(Value::String(text)) => Ok(text),
            Some(other) => {
                Err(self.problem(format!("field {:?} is {}, not a string", self.field, kind(&other))))
            }
            None => {
                let present: Vec<_> = object.keys().map(String::as_str).collect();
                let problem = format!("no field {:?}; present: {}", self.field, present.join(", "));
                Err(self.problem(problem))
            }
        }
    }

    fn problem(&self, problem: String) -> Error {
        Error::format(&self.path, format!("line {}: {problem}", self.line))
    }
}

impl Iterator for JsonLines {
    type Item = Result<Document>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_document().transpose()
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &[u8], field: &str) -> Result<Vec<Document>> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        JsonLines::open(file.path(), field)?.collect()
    }

    #[test]
    fn every_line_with_text_is_a_document() {
        let lines = b"{\"text\": \"a\\nb\", \"id\": 1}\n\n{\"text\": \"\"}\r\n{\"text\": \"c\"}";
        assert_eq!(read(lines, "text").unwrap(), [Document::whole("a\nb"), Document::whole("c")]);
        assert_eq!(read(b"{\"body\": \"x\"}", "body").unwrap(), [Document::whole("x")]);
    }

    #[test]
    fn a_bad_line_is_named_by_number() {
        let bad = [
            (&b"{\"text\": \"a\"}\n{oops\n"[..], "line 2: not a JSON object"),
            (b"[1]\n", "line 1: not a JSON object"),
            (b"{\"text\": \"\xff\"}\n", "line 1: not a JSON object"),
            (b"{\"text\": 3}\n", "line 1: field \"text\" is a number, not a string"),
            (b"{\"body\": \"x\", \"id\": 1}\n", "line 1: no field \"text\"; present: body, id"),
        ];
        for (lines, message) in bad {
            let error = read(lines, "text").unwrap_err().to_string();
            assert!(error.contains(message), "{error}");
        }
    }
}
