//! Texts with what is given before them, one per object of JSON.

use std::collections::BTreeSet;
use std::io::Read;
use std::path::Path;

use serde_json::Value;
use serde_json::value::RawValue;

use super::input::Input;
use super::json_file::{Object, kind, with_object};
use super::json_records::JsonRecords;
use super::reader::Fault;
use crate::error::{Error, Result};

/// A text, and what is given before it.
#[derive(Clone, Debug)]
pub struct TextRecord {
    /// The line on which it begins, from 1.
    pub line: u64,
    /// What the caller calls it: any JSON, as it is written.
    pub id: Option<Box<RawValue>>,
    /// What is given before the text; empty where nothing is.
    pub prompt: String,
    /// The text.
    pub text: String,
}

/// The objects of a file of texts.
#[derive(Clone, Debug, Default)]
pub struct TextRecords {
    /// One per object.
    pub records: Vec<TextRecord>,
    /// Names of the fields that were not read.
    pub unread: BTreeSet<String>,
}

impl TextRecords {
    /// Reads JSON, compressed or not, as corpora are read: one object per line, or one array of objects. Each has either `text`,
    /// or `prompt` and `completion`, and possibly an `id`. Other fields are not looked into. `name` is what errors call the file.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Format`] naming the place of the first that is no such object, and for no object at all.
    pub fn read(bytes: impl Read + Send + 'static, name: &Path) -> Result<Self> {
        let input = Input::of_stream(Box::new(bytes), name)?;
        let limit = input.record_limit();
        let mut objects = JsonRecords::new(input.text()?.0, name, limit);
        let mut all = Self::default();
        while objects.advance().map_err(Fault::error)? {
            let record = with_object(objects.bytes(), |object| all.record(objects.first_line(), object));
            let record = record.unwrap_or_else(|no_object| Err(no_object.said(objects.are_lines())));
            let problem = |problem| Error::format(name, format!("{}: {problem}", objects.place()));
            all.records.push(record.map_err(problem)?);
        }
        match all.records.is_empty() {
            true => Err(Error::format(name, "no line with a text")),
            false => Ok(all),
        }
    }

    /// The record of an object that begins on a line, or what is wrong with it.
    fn record(&mut self, line: u64, object: &Object) -> std::result::Result<TextRecord, String> {
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
        TextRecords::read(std::io::Cursor::new(lines.to_vec()), Path::new("a.jsonl"))
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
    fn an_array_is_read_as_lines_are_and_what_is_compressed_as_it_was() {
        let array = b"[{\"text\": \"a\"},\n {\"prompt\": \"p\", \"completion\": \"c\"}]";
        let packed = crate::data::input::tests::compressed(array, 2);
        for bytes in packed.into_iter().map(|(_, bytes)| bytes).chain([array.to_vec()]) {
            let records = read(&bytes).unwrap().records;
            let shown: Vec<_> = records.iter().map(|r| (r.line, r.text.as_str())).collect();
            assert_eq!(shown, [(1, "a"), (2, "c")]);
        }
    }

    #[test]
    fn a_bad_line_is_named_by_number() {
        for (lines, message) in [
            (&b""[..], "no line with a text"),
            (b"\n \n", "no line with a text"),
            (b"{\"text\": \"a\"}\n{oops\n", "line 2: not a JSON object"),
            (b"[\"a\"]", "element 1 (line 1): not a JSON object"),
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
