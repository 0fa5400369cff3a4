//! Texts with what is given before them, one per line of JSON.

use std::collections::{BTreeMap, BTreeSet};
use std::io::BufRead;
use std::path::Path;

use serde_json::Value;
use serde_json::value::RawValue;

use super::input::{BYTE_ORDER_MARK, utf_16};
use super::json_file::{kind, without_numbers_that_are_none};
use crate::error::{Error, Result};

/// A text, and what is given before it.
#[derive(Clone, Debug)]
pub struct TextRecord {
    /// The line on which it stands, from 1.
    pub line: u64,
    /// What the caller calls it: any JSON, as it is written.
    pub id: Option<Box<RawValue>>,
    /// What is given before the text; empty where nothing is.
    pub prompt: String,
    /// The text.
    pub text: String,
}

/// The lines of a file of texts.
#[derive(Clone, Debug, Default)]
pub struct TextRecords {
    /// One per line that is not blank.
    pub records: Vec<TextRecord>,
    /// Names of the fields that were not read.
    pub unread: BTreeSet<String>,
}

type Object<'a> = BTreeMap<String, &'a RawValue>;

impl TextRecords {
    /// Reads lines of JSON, each an object with either `text`, or `prompt` and `completion`, and possibly an `id`. Other fields
    /// are not looked into. Blank lines and a byte-order mark are skipped. `name` is what errors call the file.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Format`] naming the first line that is no such object, and for no line at all.
    pub fn read(mut lines: impl BufRead, name: &Path) -> Result<Self> {
        let mut all = Self::default();
        let mut bytes = Vec::new();
        for line in 1.. {
            bytes.clear();
            if lines.read_until(b'\n', &mut bytes).map_err(Error::io(name))? == 0 {
                break;
            }
            if let Some(encoding) = utf_16(&bytes).filter(|_| line == 1) {
                return Err(Error::format(name, format!("{encoding} text: convert it to UTF-8")));
            }
            let start =
                if line == 1 && bytes.starts_with(BYTE_ORDER_MARK) { BYTE_ORDER_MARK.len() } else { 0 };
            if !bytes[start..].trim_ascii().is_empty() {
                let record = all.record(line, &bytes[start..]);
                let problem = |problem| Error::format(name, format!("line {line}: {problem}"));
                all.records.push(record.map_err(problem)?);
            }
        }
        match all.records.is_empty() {
            true => Err(Error::format(name, "no line with a text")),
            false => Ok(all),
        }
    }

    /// The record of a line, or what is wrong with it.
    fn record(&mut self, line: u64, bytes: &[u8]) -> std::result::Result<TextRecord, String> {
        let no_object = |problem: String| format!("not a JSON object: {problem}");
        let json = std::str::from_utf8(bytes)
            .map_err(|error| no_object(format!("not UTF-8 at byte {}", error.valid_up_to() + 1)))?;
        let repaired;
        let object: Object = match serde_json::from_str(json) {
            Ok(object) => object,
            Err(error) => {
                repaired = without_numbers_that_are_none(json);
                serde_json::from_str(&repaired).map_err(|_| no_object(error.to_string()))?
            }
        };
        const READ: [&str; 4] = ["text", "prompt", "completion", "id"];
        self.unread.extend(object.keys().filter(|key| !READ.contains(&key.as_str())).cloned());
        let string = |field: &str| object.get(field).map(|value| string(field, value)).transpose();
        let (prompt, text) = match (string("text")?, string("prompt")?, string("completion")?) {
            (Some(text), None, None) => (String::new(), text),
            (None, Some(prompt), Some(completion)) => (prompt, completion),
            _ => {
                let present: Vec<_> = object.keys().map(String::as_str).collect();
                let needed = "needed is either \"text\", or \"prompt\" and \"completion\"";
                return Err(format!("{needed}; present: {}", present.join(", ")));
            }
        };
        let id = object.get("id").copied();
        if let Some(id) = id {
            // Half a surrogate pair would be read by nobody else either.
            serde_json::from_str::<Value>(id.get()).map_err(|error| format!("field \"id\": {error}"))?;
        }
        let id = id.map(RawValue::to_owned);
        Ok(TextRecord { line, id, prompt, text })
    }
}

fn string(field: &str, value: &RawValue) -> std::result::Result<String, String> {
    match kind(value) {
        "a string" => {
            serde_json::from_str(value.get()).map_err(|error| format!("field {field:?} is no text: {error}"))
        }
        other => Err(format!("field {field:?} is {other}, not a string")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(lines: &[u8]) -> Result<TextRecords> {
        TextRecords::read(lines, Path::new("a.jsonl"))
    }

    #[test]
    fn texts_stand_alone_or_behind_a_prompt() {
        let lines = "\u{feff}{\"text\": \"a\"}\n\n{\"prompt\": \"p\", \"completion\": \"c\", \"id\": [1e2, 98765432109876543210987]}\r\n\
            {\"text\": \"\", \"id\": null, \"score\": NaN, \"bad\": \"\\ud800\"}";
        let TextRecords { records, unread } = read(lines.as_bytes()).unwrap();
        let shown: Vec<_> = records.iter().map(|r| (r.line, r.prompt.as_str(), r.text.as_str())).collect();
        assert_eq!(shown, [(1, "", "a"), (3, "p", "c"), (4, "", "")]);
        let ids: Vec<_> = records.iter().map(|record| record.id.as_deref().map(RawValue::get)).collect();
        assert_eq!(ids, [None, Some("[1e2, 98765432109876543210987]"), Some("null")]);
        assert_eq!(unread.into_iter().collect::<Vec<_>>(), ["bad", "score"]);
    }

    #[test]
    fn a_bad_line_is_named_by_number() {
        for (lines, message) in [
            (&b""[..], "no line with a text"),
            (b"\n \n", "no line with a text"),
            (b"{\"text\": \"a\"}\n{oops\n", "line 2: not a JSON object"),
            (b"[\"a\"]", "line 1: not a JSON object"),
            (b"{\"text\": \"\xff\"}", "line 1: not a JSON object: not UTF-8 at byte 11"),
            (b"{\"text\": 3}", "line 1: field \"text\" is a number, not a string"),
            (b"{\"text\": null}", "line 1: field \"text\" is null, not a string"),
            (br#"{"text": "a\ud83d"}"#, "line 1: field \"text\" is no text: "),
            (b"{\"prompt\": \"a\", \"id\": 1}", "line 1: needed is either \"text\", or \"prompt\""),
            (b"{\"text\": \"a\", \"prompt\": \"b\"}", "present: prompt, text"),
            (b"{\"completion\": \"a\"}", "present: completion"),
            (br#"{"text": "a", "id": "\ud800"}"#, "line 1: field \"id\": "),
            (b"\xff\xfe{\0", "UTF-16 (little-endian) text: convert it to UTF-8"),
        ] {
            let error = read(lines).unwrap_err().to_string();
            assert!(error.starts_with("a.jsonl: ") && error.contains(message), "{error}");
        }
    }
}
