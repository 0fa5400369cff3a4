//! Prompts in a file of JSON lines.

use std::collections::BTreeSet;
use std::fmt;
use std::num::NonZeroUsize;
use std::path::Path;

use serde::de::{Error as _, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use submask::Error;
use submask::model::TextPrompt;

use crate::failure::Failure;
use crate::json_lines;

/// What is said of a prompt that cannot be read.
pub const HOLES: &str =
    "[[5]] is a hole of five tokens, [[*]] one to the end of the sequence, \\[[ two brackets";

/// A prompt of a file.
#[derive(Clone, Debug)]
pub struct PromptLine {
    /// Its line in the file, from 1.
    pub line: usize,
    /// What the file calls it, as it is written there.
    pub id: Option<Box<RawValue>>,
    /// The text with its holes.
    pub prompt: TextPrompt,
    /// Tokens of the sequence, where the line says it.
    pub length: Option<usize>,
}

/// The prompts of a file, or of standard input by `-`; blank lines hold none. Fields that are not read are named on
/// standard error.
pub fn read(path: &Path) -> Result<Vec<PromptLine>, Failure> {
    let (prompts, unread) = read_all(path)?;
    if !unread.is_empty() {
        let names = unread.iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ");
        eprintln!(
            "note: fields that are not read: {names}; those of a prompt are \"prompt\", \"length\" and \"id\""
        );
    }
    Ok(prompts)
}

/// The prompts, and the names of the other fields.
fn read_all(path: &Path) -> Result<(Vec<PromptLine>, BTreeSet<String>), Failure> {
    let mut unread = BTreeSet::new();
    let lines = json_lines::read::<Fields>(path)?.into_iter().map(|(line, fields)| {
        unread.extend(fields.unread);
        let place = || json_lines::place(path, line);
        let prompt = fields.prompt.parse().map_err(|error| bad_prompt(error).context(place()))?;
        Ok(PromptLine { line, id: fields.id, prompt, length: fields.length.map(Into::into) })
    });
    let prompts = lines.collect::<Result<_, Failure>>()?;
    Ok((prompts, unread))
}

/// A prompt whose holes cannot be read.
pub fn bad_prompt(error: Error) -> Failure {
    let problem = match error {
        Error::Conflict { problem, .. } => problem,
        error => error.to_string(),
    };
    Failure::usage(format!("bad prompt: {problem}")).hint(HOLES)
}

/// The fields of a line.
struct Fields {
    prompt: String,
    length: Option<NonZeroUsize>,
    id: Option<Box<RawValue>>,
    /// Names of the others, whatever they hold.
    unread: Vec<String>,
}

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_map(Reader)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Fields;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("an object with a field `prompt`")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
        let (mut prompt, mut length, mut id, mut unread) = (None, None, None, Vec::new());
        while let Some(name) = map.next_key::<String>()? {
            match name.as_str() {
                "prompt" => prompt = Some(map.next_value()?),
                "length" => length = map.next_value()?,
                "id" => id = map.next_value()?,
                _ => {
                    map.next_value::<IgnoredAny>()?;
                    unread.push(name);
                }
            }
        }
        let missing = || match unread.is_empty() {
            true => A::Error::missing_field("prompt"),
            false => A::Error::custom(format!("no field \"prompt\"; present: {}", unread.join(", "))),
        };
        let prompt = prompt.ok_or_else(missing)?;
        Ok(Fields { prompt, length, id, unread })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &[u8]) -> Result<(Vec<PromptLine>, BTreeSet<String>), Failure> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        read_all(file.path())
    }

    #[test]
    fn lines_keep_their_numbers_and_names() {
        let text = "\u{feff}{\"prompt\": \"a [[2]]\", \"length\": 7}\r\n\n{\"id\": [1], \"prompt\": \"\"}";
        let (prompts, unread) = read_text(text.as_bytes()).unwrap();
        let facts = prompts.iter().map(|one| (one.line, one.length, one.id.as_deref().map(RawValue::get)));
        assert_eq!(facts.collect::<Vec<_>>(), [(1, Some(7), None), (3, None, Some("[1]"))]);
        assert_eq!(prompts[0].prompt, "a [[2]]".parse().unwrap());
        assert_eq!(prompts[1].prompt, TextPrompt::default());
        assert!(unread.is_empty());
    }

    #[test]
    fn other_fields_are_named_whatever_they_hold() {
        let text = br#"{"prompt": "a", "lenght": 3, "answer": "\ud83d", "id": null}"#;
        let (prompts, unread) = read_text(text).unwrap();
        assert!(prompts[0].length.is_none() && prompts[0].id.is_none());
        assert_eq!(unread.into_iter().collect::<Vec<_>>(), ["answer", "lenght"]);
    }

    #[test]
    fn bad_lines_are_named() {
        for (line, problem) in [
            (&b"{\"prompt\": 3}"[..], "line 2: invalid type: integer `3`, expected a string at byte 12"),
            (b"{\"lenght\": 3}", "line 2: no field \"prompt\"; present: lenght"),
            (b"{\"prompt\": \"a\", \"length\": 0}", "line 2: invalid value: integer `0`"),
            (b"{}", "line 2: missing field `prompt`"),
            (b"\"a\"", "line 2: invalid type: string \"a\", expected an object"),
            (b"{\"prompt\": \"\xff\"}", "line 2: not UTF-8 at byte 13"),
            (b"{\"prompt\": \"[[x]]\"}", "line 2\n  caused by: bad prompt: `[[x]]` is not a hole"),
        ] {
            let error = read_text(&[b"{\"prompt\": \"\"}\n", line].concat()).unwrap_err().to_string();
            assert!(error.contains(problem), "{error}");
        }
        assert!(read_text(b"\n \n").unwrap_err().to_string().contains("nothing in it"));
        assert!(read(Path::new("no/such")).unwrap_err().to_string().contains("no/such"));
    }
}
