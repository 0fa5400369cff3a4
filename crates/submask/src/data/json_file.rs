//! JSON: records in lines or in one array, the text in a field of each.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use super::document::Document;
use super::field::{Step, steps};
use super::input::Input;
use super::json_records::JsonRecords;
use super::reader::{Fault, Found, Given, Rules};
use crate::error::{Error, Result};

/// The fields of an object, whose values are looked into only where they are asked for.
pub(super) type Object<'a> = BTreeMap<String, &'a RawValue>;

/// The documents of one file of JSON. Blank lines are skipped; empty texts and null are no documents. What other fields
/// hold does not matter, as far as Python's `json` writes it: NaN and infinities, too, and halves of surrogate pairs.
pub(super) struct JsonFile {
    path: PathBuf,
    records: JsonRecords,
    rules: Rules,
    steps: Vec<Step>,
}

impl JsonFile {
    /// The documents of a text.
    ///
    /// # Errors
    /// As [`Input::text`].
    pub(super) fn new(input: Input, rules: &Rules) -> Result<Self> {
        let (path, limit) = (input.path().to_path_buf(), input.record_limit());
        let records = JsonRecords::new(input.text()?.0, &path, limit);
        Ok(Self { path, records, rules: rules.clone(), steps: steps(&rules.field) })
    }

    /// What is missing in the first record, if that is an object without the field, or one that goes on in other lines, or no
    /// object at all: files that describe a corpus and lie beside it look like this.
    pub(super) fn missing_field(mut self) -> Option<Error> {
        if !self.records.advance().unwrap_or(false) {
            return None;
        }
        let record = String::from_utf8_lossy(self.records.bytes());
        match serde_json::from_str::<Object>(&without_numbers_that_are_none(&record)) {
            Ok(object) if object.contains_key(&self.rules.field) => None,
            Ok(object) => match self.steps.first() {
                Some(Step::Field(name)) if object.contains_key(name) => None,
                _ => Some(self.missing(&self.rules.field, &object)),
            },
            Err(error) => {
                let goes_on = error.is_eof() && self.records.are_lines();
                let is_other = serde_json::from_str::<IgnoredAny>(&record).is_ok();
                let said = NoObject::Json(error).said(self.records.are_lines());
                (goes_on || is_other).then(|| self.problem(said))
            }
        }
    }

    fn next_document(&mut self) -> Given<Option<Document>> {
        while self.records.advance()? {
            let found = self.found().map_err(Fault::Record)?;
            let document = self.rules.document(found, &self.path, &self.records.place())?;
            if document.is_some() {
                return Ok(document);
            }
        }
        Ok(None)
    }

    /// What the field of the present record holds.
    fn found(&self) -> Result<Found> {
        let found = with_object(self.records.bytes(), |object| self.field_of(object));
        found.map_err(|no_object| self.problem(no_object.said(self.records.are_lines())))?
    }

    /// What is in the field, or in a field of fields.
    fn field_of(&self, object: &Object) -> Result<Found> {
        let mut found = Found::default();
        match (object.get(&self.rules.field), self.steps.as_slice()) {
            (Some(value), _) => self.collect(value, &[], &mut found)?,
            (None, [Step::Field(name), inner @ ..]) => {
                let value = object.get(name).ok_or_else(|| self.missing(name, object))?;
                self.collect(value, inner, &mut found)?;
            }
            (None, _) => {}
        }
        Ok(found)
    }

    fn missing(&self, name: &str, object: &Object) -> Error {
        let present: Vec<_> = object.keys().map(String::as_str).collect();
        let field = match name == self.rules.field {
            true => format!("{name:?}"),
            false => format!("{:?}: {name:?} is missing", self.rules.field),
        };
        self.problem(format!("no field {field}; present: {}", present.join(", ")))
    }

    /// Adds the texts or numbers that the steps lead to from a value. Null is nothing.
    fn collect(&self, value: &RawValue, steps: &[Step], found: &mut Found) -> Result<()> {
        let json = value.get();
        match (kind(value), steps) {
            ("null", _) => {}
            ("an object", [Step::Field(name), inner @ ..]) => {
                let object: Object = serde_json::from_str(json).map_err(|error| self.no_text(&error))?;
                let value = object.get(name).ok_or_else(|| self.missing(name, &object))?;
                self.collect(value, inner, found)?;
            }
            ("an array", [Step::Each, inner @ ..]) => {
                let elements: Vec<&RawValue> =
                    serde_json::from_str(json).map_err(|error| self.no_text(&error))?;
                for element in elements {
                    match (kind(element), inner) {
                        ("a number", []) => found.numbers.push(self.number(element)?),
                        _ => self.collect(element, inner, found)?,
                    }
                }
            }
            ("a string", []) => {
                found.texts.push(serde_json::from_str(json).map_err(|error| self.no_text(&error))?);
            }
            ("an array", []) => match serde_json::from_str::<Vec<i64>>(json) {
                Ok(numbers) => found.numbers.extend(numbers),
                Err(_) => {
                    return Err(self.wrong_kind("an array", &[], "; {field}[] joins a list of strings"));
                }
            },
            (other, steps) => return Err(self.wrong_kind(other, steps, "")),
        }
        Ok(())
    }

    fn number(&self, value: &RawValue) -> Result<i64> {
        serde_json::from_str(value.get()).map_err(|_| {
            let problem = format!("field {:?} holds {}, no token's number", self.rules.field, value.get());
            self.problem(problem)
        })
    }

    fn no_text(&self, error: &serde_json::Error) -> Error {
        // Whatever else is wrong with a string is wrong with the record.
        let is_half = ["surrogate", "hex escape"].iter().any(|word| error.to_string().contains(word));
        let half = if is_half { "half of a surrogate pair, " } else { "" };
        self.problem(format!("field {:?} is no text: {half}{}", self.rules.field, reason(error)))
    }

    /// A value that is not what the next of the steps needs.
    fn wrong_kind(&self, kind: &str, steps: &[Step], hint: &str) -> Error {
        let field = &self.rules.field;
        let problem = match steps.first() {
            None => format!("field {field:?} is {kind}, not a string{}", hint.replace("{field}", field)),
            Some(Step::Each) => format!("no field {field:?}: {kind} stands where a list is named"),
            Some(Step::Field(name)) => format!("no field {field:?}: {kind} stands where {name:?} is a field"),
        };
        self.problem(problem)
    }

    fn problem(&self, problem: String) -> Error {
        Error::format(&self.path, format!("{}: {problem}", self.records.place()))
    }
}

impl Iterator for JsonFile {
    type Item = Given<Document>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_document().transpose()
    }
}

/// Why a record is no object.
pub(super) enum NoObject {
    /// The byte from which on it is not UTF-8, counted from 1.
    NotUtf8(usize),
    /// What a reader of JSON says.
    Json(serde_json::Error),
}

impl NoObject {
    /// In words; of a record that goes on in other lines, how records may stand, if they are lines.
    pub(super) fn said(&self, in_lines: bool) -> String {
        match self {
            Self::NotUtf8(byte) => format!("not a JSON object: not UTF-8 at byte {byte}"),
            Self::Json(error) => {
                let hint = match error.is_eof() && in_lines {
                    true => "; one object stands on each line, or all of them in one array",
                    false => "",
                };
                format!("not a JSON object: {}{hint}", reason(error))
            }
        }
    }
}

/// What `read` makes of the object that a record is, as far as Python's `json` writes one.
///
/// # Errors
/// Why it is none.
pub(super) fn with_object<R>(
    record: &[u8],
    read: impl FnOnce(&Object) -> R,
) -> std::result::Result<R, NoObject> {
    let json = std::str::from_utf8(record).map_err(|error| NoObject::NotUtf8(error.valid_up_to() + 1))?;
    match serde_json::from_str(json) {
        Ok(object) => Ok(read(&object)),
        Err(error) => {
            let repaired = without_numbers_that_are_none(json);
            let object = serde_json::from_str(&repaired).map_err(|_| NoObject::Json(error))?;
            Ok(read(&object))
        }
    }
}

/// What is wrong, and where in the record or the field.
fn reason(error: &serde_json::Error) -> String {
    let (text, column) = (error.to_string(), error.column());
    match text.strip_suffix(&format!(" at line 1 column {column}")) {
        Some(reason) => format!("{reason} at byte {column}"),
        None => text,
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
fn without_numbers_that_are_none(line: &str) -> Cow<'_, str> {
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

    fn open(text: &[u8], field: &str) -> Result<JsonFile> {
        let bytes = Box::new(std::io::Cursor::new(text.to_vec()));
        let rules = Rules::of_field(field);
        JsonFile::new(Input::of_stream(bytes, "a.json".as_ref())?, &rules)
    }

    fn read(text: &[u8], field: &str) -> Result<Vec<Document>> {
        open(text, field)?.map(|document| document.map_err(Fault::error)).collect()
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
    fn an_array_is_read_as_lines_are() {
        let array = b"[{\"text\": \"a\"},\n{\"text\": null}, {\"text\": \"b\", \"x\": NaN}]";
        assert_eq!(read(array, "text").unwrap(), ["a", "b"].map(Document::whole));
        let error = read(b"[{\"text\": \"a\"},\n{\"text\": 3}]", "text").unwrap_err().to_string();
        assert!(error.contains("element 2 (line 2): field \"text\" is a number, not a string"), "{error}");
        let error = read(b"{\n  \"text\": \"a\"\n}\n", "text").unwrap_err().to_string();
        assert!(error.contains("line 1: not a JSON object") && error.contains("in one array"), "{error}");
    }

    #[test]
    fn lists_are_joined() {
        let line = br#"{"s": ["a", null, "b"], "m": [{"c": "x"}, {"c": null}, {"c": "y"}], "n": [["p"], ["q"]], "e": []}"#;
        for (field, text) in [("s[]", "a\nb"), ("m[].c", "x\ny"), ("n[][]", "p\nq")] {
            assert_eq!(read(line, field).unwrap(), [Document::whole(text)], "{field}");
        }
        assert!(read(line, "e[]").unwrap().is_empty());
        for (field, problem) in [
            ("s", "field \"s\" is an array, not a string; s[] joins a list of strings"),
            ("m[]", "field \"m[]\" is an object, not a string"),
            ("m.c", "no field \"m.c\": an array stands where \"c\" is a field"),
            ("m[].d", "no field \"m[].d\": \"d\" is missing; present: c"),
            ("s[].d", "no field \"s[].d\": a string stands where \"d\" is a field"),
        ] {
            let error = read(line, field).unwrap_err().to_string();
            assert!(error.contains(problem), "{error}");
        }
    }

    #[test]
    fn lists_of_numbers_are_tokens() {
        let line = br#"{"ids": [3, 1, 2], "no": [1.5], "negative": [-1], "both": ["a", 1]}"#;
        for field in ["ids", "ids[]"] {
            assert_eq!(read(line, field).unwrap(), [Document::numbers(&[3, 1, 2])]);
        }
        for (field, problem) in [
            ("no[]", "holds 1.5, no token's number"),
            ("negative", "token -1"),
            ("both[]", "texts and numbers"),
        ] {
            let error = read(line, field).unwrap_err().to_string();
            assert!(error.contains("line 1: ") && error.contains(problem), "{error}");
        }
        let rules = Rules { vocab_size: Some(3), ..Rules::of_field("ids") };
        let bytes = Box::new(std::io::Cursor::new(line.to_vec()));
        let mut file = JsonFile::new(Input::of_stream(bytes, "a.json".as_ref()).unwrap(), &rules).unwrap();
        let Some(Err(Fault::File(error))) = file.next() else {
            panic!("a token out of range is no bad record")
        };
        assert!(
            error
                .to_string()
                .contains("line 1: token 3 is not a valid code: the vocabulary has the ids 0 to 2")
        );
    }

    #[test]
    fn reading_goes_on_behind_a_bad_record() {
        for text in [
            "{\"text\": \"a\"}\n{oops\n[1]\n{\"text\": \"b\"}",
            "[{\"text\": \"a\"}, oops, [1], {\"text\": \"b\"}]",
        ] {
            let documents: Vec<_> = open(text.as_bytes(), "text").unwrap().collect();
            assert_eq!(documents.len(), 4);
            assert!(documents[1..3].iter().all(|document| matches!(document, Err(Fault::Record(_)))));
        }
    }

    #[test]
    fn a_bad_line_is_named_by_number() {
        let bad = [
            (&b"{\"text\": \"a\"}\n{oops\n"[..], "line 2: not a JSON object"),
            (b"[1]\n", "element 1 (line 1): not a JSON object"),
            (b"{\"text\": \"\xff\"}\n", "line 1: not a JSON object"),
            (b"{\"text\": 3}\n", "line 1: field \"text\" is a number, not a string"),
            (b"{\"body\": \"x\", \"id\": 1}\n", "line 1: no field \"text\"; present: body, id"),
            (b"{\"text\": NaN, \"id\": }\n", "line 1: not a JSON object"),
            (
                br#"{"text": "a\ud83d"}"#,
                "line 1: field \"text\" is no text: half of a surrogate pair, unexpected end of hex escape at byte ",
            ),
            (b"\xff\xfe{\0", "UTF-16 (little-endian) text: convert it to UTF-8"),
        ];
        for (lines, message) in bad {
            let error = read(lines, "text").unwrap_err().to_string();
            assert!(error.contains(message), "{error}");
        }
    }
}
