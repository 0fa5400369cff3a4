//! Pairs in JSON and in tables.

use serde_json::Value;
use serde_json::value::RawValue;

use super::{FilePairs, Pair, PairSource};
use crate::data::csv_file::Table;
use crate::data::field::{Step, steps};
use crate::data::input::Input;
use crate::data::json_file::{Object, kind, with_object};
use crate::data::json_records::JsonRecords;
use crate::data::reader::{Fault, Given};
use crate::error::{Error, Result};

/// The pairs of JSON: lines, or the elements of one array.
///
/// # Errors
/// As [`Input::text`].
pub(in crate::data) fn in_json(input: Input, source: &PairSource) -> Result<FilePairs> {
    let (path, limit) = (input.path().to_path_buf(), input.record_limit());
    let mut records = JsonRecords::new(input.text()?.0, &path, limit);
    let source = source.clone();
    let mut next = move || -> Given<Option<Pair>> {
        if !records.advance()? {
            return Ok(None);
        }
        let pair = with_object(records.bytes(), |object| pair_of(object, &source));
        let pair = pair.unwrap_or_else(|no_object| Err(no_object.said(records.are_lines())));
        let problem = |problem| Error::format(&path, format!("{}: {problem}", records.place()));
        pair.map(Some).map_err(|found| Fault::Record(problem(found)))
    };
    Ok(Box::new(std::iter::from_fn(move || next().transpose())))
}

/// The pairs of a table, in two columns of texts.
///
/// # Errors
/// As [`Table::new`].
pub(in crate::data) fn in_table(input: Input, separator: u8, source: &PairSource) -> Result<FilePairs> {
    let PairSource { prompt_field, completion_field, .. } = source;
    let is_chat = prompt_field == completion_field;
    let mut table = Table::new(input, separator, &[prompt_field, completion_field])?;
    let mut next = move || -> Given<Option<Pair>> {
        if !table.advance()? {
            return Ok(None);
        }
        let (prompt, completion) = (table.text(0)?.to_owned(), table.text(1)?.to_owned());
        match is_chat {
            true => Err(Fault::Record(table.problem(&format!("a column {ONE_TEXT}")))),
            false => Ok(Some(Pair { prompt, completion })),
        }
    };
    Ok(Box::new(std::iter::from_fn(move || next().transpose())))
}

/// What is wrong with one text in the place of a chat.
const ONE_TEXT: &str = "holds one text: where data.prompt_field and data.completion_field are the same, it must hold a \
                        list of chat messages";

/// The texts that a field holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Held {
    /// One text; empty where the field is null.
    Text(String),
    /// The turns of a chat.
    Turns(Vec<String>),
}

impl Held {
    /// As a prompt: behind every turn stands what joins the texts of a list.
    fn prompt(self, join: &str) -> String {
        match self {
            Self::Text(text) => text,
            Self::Turns(turns) => turns.iter().flat_map(|turn| [turn, join]).collect(),
        }
    }

    /// As a completion: it stands between turns.
    fn completion(self, join: &str) -> String {
        match self {
            Self::Text(text) => text,
            Self::Turns(turns) => turns.join(join),
        }
    }

    fn turns(self) -> Vec<String> {
        match self {
            Self::Text(text) => vec![text],
            Self::Turns(turns) => turns,
        }
    }

    /// A prompt and a completion of fields of their own.
    pub(super) fn pair(prompt: Self, completion: Self, join: &str) -> Pair {
        Pair { prompt: prompt.prompt(join), completion: completion.completion(join) }
    }

    /// A chat, whose last turn is the completion; or what is wrong with it.
    pub(super) fn chat(self, join: &str) -> std::result::Result<Pair, String> {
        let Self::Turns(mut turns) = self else {
            return Err(ONE_TEXT.to_owned());
        };
        let completion = turns.pop().unwrap_or_default();
        Ok(Pair { prompt: Self::Turns(turns).prompt(join), completion })
    }
}

/// The pair of a JSON object, or what is wrong with it.
fn pair_of(object: &Object, source: &PairSource) -> std::result::Result<Pair, String> {
    let PairSource { prompt_field, completion_field, reading, .. } = source;
    if prompt_field == completion_field {
        let held = field(object, prompt_field)?;
        return held.chat(&reading.join).map_err(|problem| format!("field {prompt_field:?} {problem}"));
    }
    Ok(Held::pair(field(object, prompt_field)?, field(object, completion_field)?, &reading.join))
}

/// What a field holds: its name, or one with dots between fields and `[]` behind lists.
fn field(object: &Object, name: &str) -> std::result::Result<Held, String> {
    match object.get(name) {
        Some(value) => held(value, name),
        None => inside(object, &steps(name), name),
    }
}

/// What the steps lead to from an object.
fn inside(object: &Object, steps: &[Step], name: &str) -> std::result::Result<Held, String> {
    let [Step::Field(first), inner @ ..] = steps else { return Err(format!("no field {name:?}")) };
    let value = object.get(first).ok_or_else(|| {
        let present: Vec<_> = object.keys().map(String::as_str).collect();
        let missing = if first == name { String::new() } else { format!(": {first:?} is missing") };
        format!("no field {name:?}{missing}; present: {}", present.join(", "))
    })?;
    below(value, inner, name)
}

/// What the steps lead to from a value.
fn below(value: &RawValue, steps: &[Step], name: &str) -> std::result::Result<Held, String> {
    let wrong = |needed: &str| format!("no field {name:?}: {} stands where {needed}", kind(value));
    match steps {
        _ if kind(value) == "null" => Ok(Held::Text(String::new())),
        [] => held(value, name),
        [Step::Field(inner), ..] => {
            let object: Object =
                serde_json::from_str(value.get()).map_err(|_| wrong(&format!("{inner:?} is a field")))?;
            inside(&object, steps, name)
        }
        [Step::Each, inner @ ..] => {
            let elements: Vec<&RawValue> =
                serde_json::from_str(value.get()).map_err(|_| wrong("a list is named"))?;
            let held = elements.into_iter().map(|element| below(element, inner, name));
            let held = held.collect::<std::result::Result<Vec<_>, _>>()?;
            Ok(Held::Turns(held.into_iter().flat_map(Held::turns).collect()))
        }
    }
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
    use std::path::PathBuf;

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
            (
                "{\"q\": \"a\", \"b\": \"c\"}",
                ["q.text", "b"],
                "no field \"q.text\": a string stands where \"text\" is a field",
            ),
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
        assert!(error.contains("pairs.txt: it has no fields for prompts"), "{error}");
        let none: [PathBuf; 0] = [];
        assert!(PairSource::new(none).pairs().is_err());
    }
}
