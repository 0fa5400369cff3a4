//! JSON lines: one object per line, the text in a field of it.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use serde_json::value::RawValue;

use super::document::Document;
use super::text_file::{BYTE_ORDER_MARK, utf_16};
use crate::error::{Error, Result};

/// The fields of an object, whose values are looked into only where they are asked for.
type Object<'a> = BTreeMap<String, &'a RawValue>;

/// The documents of one JSON-lines file. Blank lines and a byte-order mark are skipped; empty texts and null are no
/// documents. What other fields hold does not matter, as far as Python's `json` writes it: NaN and infinities, too, and
/// halves of surrogate pairs.
pub(super) struct JsonLines {
    path: PathBuf,
    reader: BufReader<File>,
    field: String,
    line: u64,
    bytes: Vec<u8>,
}

impl JsonLines {
    /// Opens the file; `field` holds the text: a name, or names of fields in fields with dots between.
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
            if self.line == 1 {
                self.check_encoding()?;
            }
            if self.bytes.trim_ascii().is_empty() {
                continue;
            }
            match self.text()? {
                Some(text) if !text.is_empty() => return Ok(Some(Document::whole(text))),
                _ => {}
            }
        }
    }

    /// Removes a byte-order mark at the beginning, and refuses UTF-16.
    fn check_encoding(&mut self) -> Result<()> {
        if let Some(name) = utf_16(&self.bytes) {
            return Err(Error::format(&self.path, format!("{name} text: convert it to UTF-8")));
        }
        if self.bytes.starts_with(BYTE_ORDER_MARK) {
            self.bytes.drain(..BYTE_ORDER_MARK.len());
        }
        Ok(())
    }

    /// The text of the line in `bytes`; `None` where it is null.
    fn text(&self) -> Result<Option<String>> {
        let bytes = &self.bytes;
        let line = std::str::from_utf8(bytes).map_err(|error| {
            let column = error.valid_up_to() + 1;
            self.problem(format!("not a JSON object: not UTF-8 at byte {column}"))
        })?;
        match serde_json::from_str::<Object>(line) {
            Ok(object) => self.field_of(&object),
            Err(error) => {
                let repaired = without_numbers_that_are_none(line);
                let object = serde_json::from_str::<Object>(&repaired);
                self.field_of(&object.map_err(|_| self.problem(format!("not a JSON object: {error}")))?)
            }
        }
    }

    /// The text in the field, or in a field of fields.
    fn field_of(&self, object: &Object) -> Result<Option<String>> {
        if let Some(value) = object.get(&self.field) {
            return self.string(value);
        }
        let missing = || {
            let present: Vec<_> = object.keys().map(String::as_str).collect();
            self.problem(format!("no field {:?}; present: {}", self.field, present.join(", ")))
        };
        let (outer, inner) = self.field.split_once('.').ok_or_else(missing)?;
        let mut value = *object.get(outer).ok_or_else(missing)?;
        for name in inner.split('.') {
            let object: Object = serde_json::from_str(value.get()).map_err(|_| missing())?;
            value = *object.get(name).ok_or_else(missing)?;
        }
        self.string(value)
    }

    fn string(&self, value: &RawValue) -> Result<Option<String>> {
        match kind(value) {
            "null" => Ok(None),
            "a string" => serde_json::from_str(value.get())
                .map(Some)
                .map_err(|error| self.problem(format!("field {:?} is no text: {error}", self.field))),
            other => Err(self.problem(format!("field {:?} is {other}, not a string", self.field))),
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

/// What a JSON value is, in words.
pub(super) fn kind(value: &RawValue) -> &'static str {
    match value.get().as_bytes().first() {
        Some(b'n') => "null",
        Some(b't' | b'f') => "a boolean",
        Some(b'"') => "a string",
        Some(b'[') => "an array",
        Some(b'{') => "an object",
        _ => "a number",
    }
}

/// The line with null for NaN, Infinity and -Infinity outside strings, which JSON does not have and Python writes.
pub(super) fn without_numbers_that_are_none(line: &str) -> Cow<'_, str> {
    const WORDS: [&str; 3] = ["-Infinity", "Infinity", "NaN"];
    if !WORDS.iter().any(|word| line.contains(word)) {
        return Cow::Borrowed(line);
    }
    let (mut repaired, mut rest, mut inside) = (String::with_capacity(line.len()), line, false);
    while let Some(next) = rest.chars().next() {
        let word = WORDS.iter().find(|word| !inside && rest.starts_with(**word));
        let taken = match (word, next) {
            (Some(word), _) => {
                repaired.push_str("null");
                word.len()
            }
            // What is escaped ends no string.
            (None, '\\') if inside => {
                let taken = 1 + rest[1..].chars().next().map_or(0, char::len_utf8);
                repaired.push_str(&rest[..taken]);
                taken
            }
            (None, next) => {
                inside ^= next == '"';
                repaired.push(next);
                next.len_utf8()
            }
        };
        rest = &rest[taken..];
    }
    Cow::Owned(repaired)
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
    fn what_python_writes_in_other_fields_does_not_matter() {
        let lines = concat!(
            "\u{feff}{\"text\": \"a NaN\", \"score\": NaN}\n",
            r#"{"text": "b \" Infinity", "x": [-Infinity, Infinity], "y": "\ud83d"}"#,
            "\n{\"text\": null, \"id\": 3}\n{\"text\": \"c\", \"z\": \"\\\\\"}\n"
        );
        let expected = ["a NaN", "b \" Infinity", "c"].map(Document::whole);
        assert_eq!(read(lines.as_bytes(), "text").unwrap(), expected);
    }

    #[test]
    fn a_field_may_stand_in_others() {
        let lines = r#"{"meta": {"text": "a", "n": {"x": "b"}}, "meta.x": "c"}"#;
        for (field, text) in [("meta.text", "a"), ("meta.n.x", "b"), ("meta.x", "c")] {
            assert_eq!(read(lines.as_bytes(), field).unwrap(), [Document::whole(text)]);
        }
        for field in ["meta", "meta.n", "meta.o", "meta.text.a", "a.b"] {
            let error = read(lines.as_bytes(), field).unwrap_err().to_string();
            assert!(error.contains("line 1: ") && error.contains(&format!("{field:?}")), "{error}");
        }
    }

    #[test]
    fn a_bad_line_is_named_by_number() {
        let bad = [
            (&b"{\"text\": \"a\"}\n{oops\n"[..], "line 2: not a JSON object"),
            (b"[1]\n", "line 1: not a JSON object"),
            (b"{\"text\": \"\xff\"}\n", "line 1: not a JSON object"),
            (b"{\"text\": 3}\n", "line 1: field \"text\" is a number, not a string"),
            (b"{\"body\": \"x\", \"id\": 1}\n", "line 1: no field \"text\"; present: body, id"),
            (b"{\"text\": NaN, \"id\": }\n", "line 1: not a JSON object"),
            (br#"{"text": "a\ud83d"}"#, "line 1: field \"text\" is no text: unexpected end of hex escape"),
            (b"\xff\xfe{\0", "UTF-16 (little-endian) text: convert it to UTF-8"),
        ];
        for (lines, message) in bad {
            let error = read(lines, "text").unwrap_err().to_string();
            assert!(error.contains(message), "{error}");
        }
    }
}
