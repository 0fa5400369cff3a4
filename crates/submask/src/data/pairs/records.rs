//! Pairs in files: JSON lines and parquet.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use serde_json::Value;
use serde_json::value::RawValue;

use super::{Pair, PairSource};
use crate::data::folder::{self, Format};
use crate::data::jsonl::{kind, without_numbers_that_are_none};
use crate::data::text_file::{BYTE_ORDER_MARK, utf_16};
use crate::error::{Error, Result};

/// Pairs of one file.
pub(super) type FilePairs = Box<dyn Iterator<Item = Result<Pair>> + Send>;

/// The pairs of all files, up to the first error.
pub(super) fn read(source: &PairSource) -> Result<impl Iterator<Item = Result<Pair>> + Send + use<>> {
    let source = source.clone();
    let files = source.listed_files()?.into_iter();
    let mut failed = false;
    let pairs = files.flat_map(move |path| read_file(&path, &source));
    Ok(pairs.take_while(move |pair| !std::mem::replace(&mut failed, pair.is_err())))
}

impl PairSource {
    /// The files of the paths.
    pub(in crate::data) fn listed_files(&self) -> Result<Vec<PathBuf>> {
        match self.paths.as_slice() {
            [] => Err(Error::invalid("data.paths", "[]", "at least one file or folder of pairs")),
            paths => folder::files(paths),
        }
    }
}

fn read_file(path: &Path, source: &PairSource) -> FilePairs {
    let opened: Result<FilePairs> = match Format::of(path) {
        Format::JsonLines => JsonPairs::open(path, source).map(|pairs| Box::new(pairs) as _),
        Format::Parquet => super::parquet_columns::open(path, source),
        Format::Text => {
            Err(Error::format(path, "text has no fields: pairs are read from JSON lines and parquet"))
        }
    };
    opened.unwrap_or_else(|error| Box::new(std::iter::once(Err(error))))
}

/// The texts that a field holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Held {
    /// One text; empty where the field is null.
    Text(String),
    /// The turns of a chat.
    Turns(Vec<String>),
}

impl Held {
    /// As a prompt: every turn ends with a line break.
    fn prompt(self) -> String {
        match self {
            Self::Text(text) => text,
            Self::Turns(turns) => turns.iter().map(|turn| format!("{turn}\n")).collect(),
        }
    }

    /// As a completion: line breaks between turns.
    fn completion(self) -> String {
        match self {
            Self::Text(text) => text,
            Self::Turns(turns) => turns.join("\n"),
        }
    }

    /// A prompt and a completion of fields of their own.
    pub(super) fn pair(prompt: Self, completion: Self) -> Pair {
        Pair { prompt: prompt.prompt(), completion: completion.completion() }
    }

    /// A chat, whose last turn is the completion; or what is wrong with it.
    pub(super) fn chat(self) -> std::result::Result<Pair, String> {
        let Self::Turns(mut turns) = self else {
            let problem = "holds one text: where data.prompt_field and data.completion_field are the same, it must \
                           hold a list of chat messages";
            return Err(problem.to_owned());
        };
        let completion = turns.pop().unwrap_or_default();
        Ok(Pair { prompt: Self::Turns(turns).prompt(), completion })
    }
}

/// The pairs of one JSON-lines file.
struct JsonPairs {
    path: PathBuf,
    reader: BufReader<File>,
    source: PairSource,
    line: u64,
    bytes: Vec<u8>,
}

impl JsonPairs {
    fn open(path: &Path, source: &PairSource) -> Result<Self> {
        let file = File::open(path).map_err(Error::io(path))?;
        let reader = BufReader::with_capacity(1 << 16, file);
        let (path, source) = (path.to_path_buf(), source.clone());
        Ok(Self { path, reader, source, line: 0, bytes: Vec::new() })
    }

    /// The pair of the next line that is not blank.
    fn next_pair(&mut self) -> Result<Option<Pair>> {
        loop {
            self.bytes.clear();
            if self.reader.read_until(b'\n', &mut self.bytes).map_err(Error::io(&self.path))? == 0 {
                return Ok(None);
            }
            self.line += 1;
            if let Some(name) = utf_16(&self.bytes).filter(|_| self.line == 1) {
                return Err(Error::format(&self.path, format!("{name} text: convert it to UTF-8")));
            }
            let has_mark = self.line == 1 && self.bytes.starts_with(BYTE_ORDER_MARK);
            let record = &self.bytes[if has_mark { BYTE_ORDER_MARK.len() } else { 0 }..];
            if !record.trim_ascii().is_empty() {
                let problem = |problem| Error::format(&self.path, format!("line {}: {problem}", self.line));
                return pair_of(record, &self.source).map(Some).map_err(problem);
            }
        }
    }
}

impl Iterator for JsonPairs {
    type Item = Result<Pair>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_pair().transpose()
    }
}

/// The fields of an object, whose values are looked into only where they are asked for.
type Object<'a> = BTreeMap<String, &'a RawValue>;

/// The pair of a JSON object, or what is wrong with it.
fn pair_of(record: &[u8], source: &PairSource) -> std::result::Result<Pair, String> {
    let no_object = |problem: String| format!("not a JSON object: {problem}");
    let json = std::str::from_utf8(record)
        .map_err(|error| no_object(format!("not UTF-8 at byte {}", error.valid_up_to() + 1)))?;
    let repaired;
    let object: Object = match serde_json::from_str(json) {
        Ok(object) => object,
        Err(error) => {
            repaired = without_numbers_that_are_none(json);
            serde_json::from_str(&repaired).map_err(|_| no_object(error.to_string()))?
        }
    };
    let PairSource { prompt_field, completion_field, .. } = source;
    if prompt_field == completion_field {
        let held = field(&object, prompt_field)?;
        return held.chat().map_err(|problem| format!("field {prompt_field:?} {problem}"));
    }
    Ok(Held::pair(field(&object, prompt_field)?, field(&object, completion_field)?))
}

/// What a field holds, or a field in others, whose names have dots between.
fn field(object: &Object, name: &str) -> std::result::Result<Held, String> {
    let missing = || {
        let present: Vec<_> = object.keys().map(String::as_str).collect();
        format!("no field {name:?}; present: {}", present.join(", "))
    };
    if let Some(value) = object.get(name) {
        return held(value, name);
    }
    let (outer, inner) = name.split_once('.').ok_or_else(missing)?;
    let mut value = *object.get(outer).ok_or_else(missing)?;
    for name in inner.split('.') {
        let object: Object = serde_json::from_str(value.get()).map_err(|_| missing())?;
        value = *object.get(name).ok_or_else(missing)?;
    }
    held(value, name)
}

/// A text, null, or a list of texts or of chat messages.
fn held(value: &RawValue, name: &str) -> std::result::Result<Held, String> {
    let wrong = |found| format!("field {name:?} is {found}, neither a string nor a list of chat messages");
    let found = kind(value);
    if !["null", "a string", "an array"].contains(&found) {
        return Err(wrong(found));
    }
    let value = serde_json::from_str(value.get());
    match value.map_err(|error| format!("field {name:?} is no text: {error}"))? {
        Value::Null => Ok(Held::Text(String::new())),
        Value::String(text) => Ok(Held::Text(text)),
        Value::Array(messages) => {
            let turns = messages.into_iter().enumerate().map(|(n, message)| turn(message, n, name));
            turns.collect::<std::result::Result<_, _>>().map(Held::Turns)
        }
        _ => Err(wrong(found)),
    }
}

/// The text of a chat message.
fn turn(message: Value, n: usize, name: &str) -> std::result::Result<String, String> {
    let content = match message {
        Value::Object(mut message) => message.remove("content"),
        other => Some(other),
    };
    match content {
        Some(Value::String(text)) => Ok(text),
        Some(Value::Null) => Ok(String::new()),
        _ => Err(format!("field {name:?}: message {} has no \"content\" that is a string", n + 1)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The pairs of a file of JSON lines, as "prompt>completion".
    fn pairs(lines: &str, fields: [&str; 2]) -> Result<Vec<String>> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pairs.jsonl");
        std::fs::write(&path, lines).unwrap();
        let [prompt_field, completion_field] = fields.map(str::to_owned);
        let source = PairSource { prompt_field, completion_field, ..PairSource::new([&path]) };
        let shown = |pair: Result<Pair>| pair.map(|pair| format!("{}>{}", pair.prompt, pair.completion));
        source.pairs()?.map(shown).collect()
    }

    #[test]
    fn fields_are_texts_chats_or_null() {
        let lines = concat!(
            "\u{feff}{\"prompt\": \"a\", \"completion\": \"b\", \"score\": NaN}\n\n",
            "{\"prompt\": null, \"completion\": \"b\"}\n",
            "{\"prompt\": \"a\", \"completion\": null, \"x\": \"\\ud800\"}\n",
            "{\"prompt\": [{\"role\": \"system\", \"content\": \"s\"}, {\"role\": \"user\", \"content\": \"u\"}], ",
            "\"completion\": [{\"role\": \"assistant\", \"content\": \"c\"}]}"
        );
        assert_eq!(pairs(lines, ["prompt", "completion"]).unwrap(), ["a>b", ">b", "a>", "s\nu\n>c"]);
        let nested = "{\"q\": {\"text\": \"a\"}, \"answer\": \"b\"}";
        assert_eq!(pairs(nested, ["q.text", "answer"]).unwrap(), ["a>b"]);
    }

    #[test]
    fn the_last_turn_of_a_chat_is_the_completion() {
        let chat = |turns: &str| format!("{{\"messages\": [{turns}]}}\n");
        let [user, model] = ["u", "m"].map(|text| format!("{{\"role\": \"x\", \"content\": \"{text}\"}}"));
        let lines = chat(&format!("{user}, {model}")) + &chat(&format!("{user}, {model}, {user}, {model}"));
        let lines = lines + &chat(&model) + &chat("") + &chat("\"a\", \"b\"");
        assert_eq!(pairs(&lines, ["messages"; 2]).unwrap(), ["u\n>m", "u\nm\nu\n>m", ">m", ">", "a\n>b"]);
    }

    #[test]
    fn bad_records_are_named_by_line_and_field() {
        let fields = ["prompt", "completion"];
        for (lines, fields, message) in [
            ("{\"prompt\": \"a\", \"completion\": \"b\"}\n{oops", fields, "line 2: not a JSON object"),
            (
                "{\"prompt\": \"a\", \"answer\": \"b\"}",
                fields,
                "no field \"completion\"; present: answer, prompt",
            ),
            (
                "{\"prompt\": 3, \"completion\": \"b\"}",
                fields,
                "field \"prompt\" is a number, neither a string",
            ),
            (
                "{\"prompt\": [3], \"completion\": \"b\"}",
                fields,
                "field \"prompt\": message 1 has no \"content\"",
            ),
            (
                "{\"prompt\": [{\"role\": \"u\"}], \"completion\": \"b\"}",
                fields,
                "message 1 has no \"content\"",
            ),
            (
                "{\"prompt\": \"\\ud800\", \"completion\": \"b\"}",
                fields,
                "line 1: field \"prompt\" is no text",
            ),
            ("{\"text\": \"a\"}", ["text"; 2], "line 1: field \"text\" holds one text"),
            ("{\"q\": \"a\", \"b\": \"c\"}", ["q.text", "b"], "no field \"q.text\"; present: b, q"),
        ] {
            let error = pairs(lines, fields).unwrap_err().to_string();
            assert!(error.contains("pairs.jsonl: line ") && error.contains(message), "{error}");
        }
    }

    #[test]
    fn pairs_end_after_an_error_and_text_files_have_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pairs.jsonl");
        std::fs::write(&path, "bad\n{\"prompt\": \"a\", \"completion\": \"b\"}\n").unwrap();
        let all: Vec<_> = PairSource::new([&path]).pairs().unwrap().collect();
        assert!(all.len() == 1 && all[0].is_err(), "{all:?}");
        let path = folder.path().join("pairs.txt");
        std::fs::write(&path, "a").unwrap();
        let error = PairSource::new([&path]).pairs().unwrap().next().unwrap().unwrap_err().to_string();
        assert!(error.contains("pairs.txt: text has no fields"), "{error}");
        let none: [PathBuf; 0] = [];
        assert!(PairSource::new(none).pairs().is_err());
    }
}
