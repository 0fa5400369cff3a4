//! Which token ends a text, of a tokenizer in a file.
//!
//! A `tokenizer.json` has no place for it. Where no setting names it, these are asked in turn, and the first that names
//! a token of the vocabulary is believed:
//!
//! 1. `data.json` or `config.json` of this program beside the file: a tokenizer that is kept with data or a model ends
//!    texts as it did there, or not at all;
//! 2. `eos_token` of `tokenizer_config.json`, then of `special_tokens_map.json`;
//! 3. `eos_token_id` of `generation_config.json`, then of `config.json`, if that is a special token: configurations have
//!    numbers there that nobody chose;
//! 4. the token that the file itself puts at the end of a text;
//! 5. the usual names ([`USUAL_NAMES`]).
//!
//! Files beside it count only for a file called `tokenizer.json`.

use std::fs;
use std::path::Path;

use serde_json::Value;

use super::TOKENIZER_FILE;
use crate::durable::lfs_pointer;
use crate::error::{Error, Result};

/// Names under which the end of text has always been looked for, the first one there wins.
const KEPT_NAMES: [&str; 4] = ["<|endoftext|>", "</s>", "[SEP]", "<eos>"];
/// Names under which it is looked for after [`KEPT_NAMES`].
const USUAL_NAMES: [&str; 14] = [
    "<|end_of_text|>",
    "<|im_end|>",
    "<|eot_id|>",
    "<end_of_turn>",
    "<|eos|>",
    "<|EOS|>",
    "<|end|>",
    "[EOS]",
    "<EOS>",
    "<|EOT|>",
    "<eot>",
    "[EOT]",
    "<end_of_text>",
    "<｜end▁of▁sentence｜>",
];
/// Special tokens that an error names.
const SHOWN: usize = 12;

/// Which token ends a text.
#[derive(Clone, Copy, Debug)]
pub(super) enum EndOfText<'a> {
    /// This one.
    Named(&'a str),
    /// The first of the names that have always been looked for: of tokenizers that were kept without one.
    Kept,
    /// What the file or its companions say, or else a usual name.
    Found,
}

/// The vocabulary of a file, and what the file says of its tokens.
pub(super) struct Vocabulary<'a> {
    pub tokenizer: &'a tokenizers::Tokenizer,
    pub file: &'a Value,
    pub path: &'a Path,
}

impl Vocabulary<'_> {
    /// The name and number of the token that ends a text.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a name that is no token; [`Error::Io`] and [`Error::Format`] for a companion that cannot be
    /// read, or that names a token which the vocabulary lacks.
    pub(super) fn end_of_text(&self, wanted: EndOfText<'_>) -> Result<Option<(String, u32)>> {
        match wanted {
            EndOfText::Kept => Ok(self.first_of(&KEPT_NAMES)),
            EndOfText::Named(name) => self.token(name).map(Some).ok_or_else(|| self.no_such_token(name)),
            EndOfText::Found => self.found(),
        }
    }

    /// The name that is found, if it is another than that of [`EndOfText::Kept`].
    pub(super) fn unlike_kept<'a>(&self, found: Option<&'a str>) -> Option<&'a str> {
        let kept = self.first_of(&KEPT_NAMES).map(|(name, _)| name);
        found.filter(|found| kept.as_deref() != Some(found))
    }

    fn found(&self) -> Result<Option<(String, u32)>> {
        if self.path.file_name().is_some_and(|name| name == TOKENIZER_FILE) {
            if let Some(kept) = kept_with(self.path)? {
                return kept.map_or(Ok(None), |name| self.end_of_text(EndOfText::Named(&name)));
            }
            if let Some(said) = self.said_beside()? {
                return Ok(Some(said));
            }
        }
        let own = last_of(&self.file["post_processor"]).and_then(|name| self.token(&name));
        Ok(own.or_else(|| self.first_of(&KEPT_NAMES)).or_else(|| self.first_of(&USUAL_NAMES)))
    }

    fn token(&self, name: &str) -> Option<(String, u32)> {
        self.tokenizer.token_to_id(name).map(|id| (name.to_owned(), id))
    }

    fn first_of(&self, names: &[&str]) -> Option<(String, u32)> {
        names.iter().find_map(|name| self.token(name))
    }

    /// The special tokens of the file, as they stand in it.
    fn specials(&self) -> impl Iterator<Item = &str> {
        let tokens = self.file["added_tokens"].as_array().into_iter().flatten();
        tokens.filter(|token| token["special"] == true).filter_map(|token| token["content"].as_str())
    }

    fn no_such_token(&self, name: &str) -> Error {
        let specials: Vec<String> = self.specials().take(SHOWN).map(|token| format!("{token:?}")).collect();
        let such =
            if specials.is_empty() { String::new() } else { format!(", such as {}", specials.join(", ")) };
        let allowed = format!("a token of {}{such}", self.path.display());
        Error::invalid("tokenizer.end_of_text", format!("{name:?}"), allowed)
    }

    /// What the files beside it say.
    fn said_beside(&self) -> Result<Option<(String, u32)>> {
        for file in ["tokenizer_config.json", "special_tokens_map.json"] {
            let path = self.path.with_file_name(file);
            let Some(json) = read_if_any(&path)? else { continue };
            let Some(name) = name_of(&json["eos_token"], &path)? else { continue };
            let token = self.token(&name).ok_or_else(|| {
                Error::format(
                    &path,
                    format!(
                        "eos_token is {name:?}, which is not one of the tokens of {}: name one by tokenizer.end_of_text \
                         (--end-of-text of import)",
                        self.path.display()
                    ),
                )
            });
            return token.map(Some);
        }
        for file in ["generation_config.json", "config.json"] {
            let Some(json) = read_if_any(&self.path.with_file_name(file))? else { continue };
            let ids = &json["eos_token_id"];
            let ids = ids.as_array().map_or(std::slice::from_ref(ids), Vec::as_slice);
            let special = |id: &Value| {
                let name = self.tokenizer.id_to_token(id.as_u64()?.try_into().ok()?)?;
                self.specials().any(|special| special == name).then(|| self.token(&name)).flatten()
            };
            if let Some(found) = ids.iter().find_map(special) {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }
}

/// What data or a model of this program say of the tokenizer that is kept with them: `None` where there are none beside
/// it, otherwise the name of its end of text, if it has one.
fn kept_with(path: &Path) -> Result<Option<Option<String>>> {
    for file in ["data.json", "config.json"] {
        let Some(json) = read_if_any(&path.with_file_name(file))? else { continue };
        if json.get("format_version").is_none() {
            continue;
        }
        for kind in [&json["tokenizer"], &json["subject"]["tokenizer"]] {
            if kind["kind"] == "tokenizer_json" {
                return Ok(Some(kind["end_of_text"].as_str().map(str::to_owned)));
            }
        }
    }
    Ok(None)
}

/// A JSON file that need not be there.
fn read_if_any(path: &Path) -> Result<Option<Value>> {
    if !path.is_file() {
        return Ok(None);
    }
    let text = fs::read(path).map_err(Error::io(path))?;
    let json = serde_json::from_slice(&text).map_err(|error| {
        Error::format(path, lfs_pointer(&text).unwrap_or_else(|| format!("not JSON: {error}")))
    })?;
    Ok(Some(json))
}

/// The name of a token: a text, or an object with the text as its `content`.
fn name_of(token: &Value, path: &Path) -> Result<Option<String>> {
    match token {
        Value::Null => Ok(None),
        Value::String(name) => Ok(Some(name.clone())),
        other => match other["content"].as_str() {
            Some(name) => Ok(Some(name.to_owned())),
            None => Err(Error::format(path, format!("eos_token is {other}, not the text of a token"))),
        },
    }
}

/// The token that a post-processor puts at the end of a text.
fn last_of(processor: &Value) -> Option<String> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    match processor["type"].as_str()? {
        "TemplateProcessing" => text(&processor["single"].as_array()?.last()?["SpecialToken"]["id"]),
        "BertProcessing" | "RobertaProcessing" => text(&processor["sep"][0]),
        "Sequence" => processor["processors"].as_array()?.iter().rev().find_map(last_of),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Tokenizer, TokenizerKind};
    use serde_json::json;

    /// A folder with a tokenizer of two words and these special tokens, numbered from 3 on.
    struct Folder(tempfile::TempDir);

    impl Folder {
        fn new(specials: &[&str], post_processor: Value) -> Self {
            let special = |(i, token): (usize, &&str)| {
                json!({"id": 3 + i, "content": token, "single_word": false, "lstrip": false, "rstrip": false,
                    "normalized": false, "special": true})
            };
            let file = json!({
                "version": "1.0", "truncation": null, "padding": null, "normalizer": null, "decoder": null,
                "added_tokens": specials.iter().enumerate().map(special).collect::<Vec<_>>(),
                "pre_tokenizer": {"type": "WhitespaceSplit"}, "post_processor": post_processor,
                "model": {"type": "WordLevel", "unk_token": "?", "vocab": {"?": 0, "a": 1, "b": 2}}
            });
            let folder = Self(tempfile::tempdir().unwrap());
            folder.write(TOKENIZER_FILE, &file);
            folder
        }

        fn write(&self, name: &str, json: &Value) {
            fs::write(self.0.path().join(name), json.to_string()).unwrap();
        }

        fn open(&self, end_of_text: Option<&str>) -> Result<Tokenizer> {
            Tokenizer::from_file(self.0.path(), end_of_text)
        }

        fn end_of_text(&self) -> Option<String> {
            match self.open(None).unwrap().kind() {
                TokenizerKind::TokenizerJson { end_of_text } => end_of_text.clone(),
                kind => panic!("{kind:?}"),
            }
        }
    }

    const LLAMA: [&str; 3] = ["<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>"];

    #[test]
    fn usual_names_are_known_and_the_ones_of_old_come_first() {
        assert_eq!(Folder::new(&LLAMA, Value::Null).end_of_text().unwrap(), "<|end_of_text|>");
        assert_eq!(Folder::new(&["<|im_end|>", "</s>"], Value::Null).end_of_text().unwrap(), "</s>");
        for name in KEPT_NAMES.iter().chain(&USUAL_NAMES) {
            assert_eq!(Folder::new(&["<x>", name], Value::Null).end_of_text().unwrap(), *name);
        }
        assert_eq!(Folder::new(&["<x>"], Value::Null).end_of_text(), None);
    }

    #[test]
    fn companions_are_asked_in_their_order() {
        let folder = Folder::new(&LLAMA, Value::Null);
        folder.write("config.json", &json!({"eos_token_id": 3}));
        assert_eq!(folder.end_of_text().unwrap(), "<|begin_of_text|>");
        folder.write("generation_config.json", &json!({"eos_token_id": [99, 1, 5, 4]}));
        assert_eq!(folder.end_of_text().unwrap(), "<|eot_id|>", "99 is no token, 1 no special one");
        folder.write("special_tokens_map.json", &json!({"eos_token": {"content": "<|end_of_text|>"}}));
        assert_eq!(folder.end_of_text().unwrap(), "<|end_of_text|>");
        folder.write("tokenizer_config.json", &json!({"eos_token": null}));
        assert_eq!(folder.end_of_text().unwrap(), "<|end_of_text|>");
        folder.write("tokenizer_config.json", &json!({"eos_token": "<|eot_id|>"}));
        assert_eq!(folder.end_of_text().unwrap(), "<|eot_id|>");
        // A setting comes before all of them, and a file of another name has no companions.
        let named = folder.open(Some("<|begin_of_text|>")).unwrap();
        assert_eq!(named.end_of_text(), Some(3));
        let other = folder.0.path().join("other.json");
        fs::copy(folder.0.path().join(TOKENIZER_FILE), &other).unwrap();
        assert_eq!(Tokenizer::from_file(other, None).unwrap().end_of_text(), Some(4));
    }

    #[test]
    fn what_companions_say_must_be_a_token() {
        let folder = Folder::new(&LLAMA, Value::Null);
        let error = |json: Value| {
            folder.write("tokenizer_config.json", &json);
            folder.open(None).unwrap_err().to_string()
        };
        let lacking = error(json!({"eos_token": "</s>"}));
        assert!(lacking.contains("tokenizer_config.json: eos_token is \"</s>\""), "{lacking}");
        assert!(lacking.contains("tokenizer.end_of_text"), "{lacking}");
        assert!(error(json!({"eos_token": 7})).contains("eos_token is 7, not the text of a token"));
        fs::write(folder.0.path().join("tokenizer_config.json"), "{").unwrap();
        assert!(folder.open(None).unwrap_err().to_string().contains("tokenizer_config.json: not JSON"));
        let unknown = folder.open(Some("</s>")).unwrap_err();
        assert!(matches!(unknown, Error::Invalid { .. }), "{unknown}");
        let unknown = unknown.to_string();
        assert!(unknown.starts_with("tokenizer.end_of_text = \"</s>\""), "{unknown}");
        assert!(unknown.contains("such as \"<|begin_of_text|>\", \"<|end_of_text|>\""), "{unknown}");
    }

    #[test]
    fn the_file_itself_may_end_texts() {
        let single =
            json!([{"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "<x>", "type_id": 0}}]);
        let special = json!({"<x>": {"id": "<x>", "ids": [4], "tokens": ["<x>"]}});
        let template = json!({"type": "TemplateProcessing", "single": single, "pair": single, "special_tokens": special});
        assert_eq!(Folder::new(&["</s>", "<x>"], template.clone()).end_of_text().unwrap(), "<x>");
        let level =
            json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
        let sequence = json!({"type": "Sequence", "processors": [template, level]});
        assert_eq!(Folder::new(&["</s>", "<x>"], sequence).end_of_text().unwrap(), "<x>");
        let bert = json!({"type": "BertProcessing", "sep": ["<x>", 4], "cls": ["</s>", 3]});
        assert_eq!(Folder::new(&["</s>", "<x>"], bert).end_of_text().unwrap(), "<x>");
    }

    #[test]
    fn a_tokenizer_that_is_kept_stays_as_it_is() {
        // One that was kept without an end of text has none, though its file has a usual name.
        let folder = Folder::new(&LLAMA, Value::Null);
        let kept = TokenizerKind::TokenizerJson { end_of_text: None };
        let loaded = Tokenizer::load(&kept, folder.0.path()).unwrap();
        assert_eq!((loaded.end_of_text(), loaded.kind()), (None, &kept));
        for (file, json) in [
            ("data.json", json!({"format_version": 1, "tokenizer": {"kind": "tokenizer_json"}})),
            (
                "config.json",
                json!({"format_version": 2, "subject": {"tokenizer": {"kind": "tokenizer_json"}}}),
            ),
        ] {
            folder.write(file, &json);
            let read = folder.open(None).unwrap();
            assert_eq!((read.end_of_text(), read.fingerprint()), (None, loaded.fingerprint()), "{file}");
            fs::remove_file(folder.0.path().join(file)).unwrap();
        }
        let named = TokenizerKind::TokenizerJson { end_of_text: Some("<|eot_id|>".to_owned()) };
        folder.write("data.json", &json!({"format_version": 1, "tokenizer": named}));
        let (read, loaded) = (folder.open(None).unwrap(), Tokenizer::load(&named, folder.0.path()).unwrap());
        assert_eq!((read.end_of_text(), read.fingerprint()), (Some(5), loaded.fingerprint()));
        // The fingerprint of old: of the file and the name.
        let json = fs::read(folder.0.path().join(TOKENIZER_FILE)).unwrap();
        let print = crate::data::hash::Fingerprint::new().part(b"tokenizer.json").part(&json);
        assert_eq!(read.fingerprint(), print.part(b"<|eot_id|>").value());
    }

    #[test]
    fn folders_without_the_file_say_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let error = || Tokenizer::from_file(folder.path(), None).unwrap_err().to_string();
        assert!(error().contains("an empty folder"), "{}", error());
        for (file, wanted) in [
            ("tokenizer.model", "tokenizer.model of sentencepiece"),
            ("vocab.txt", "vocab.txt"),
            ("vocab.json", "vocab.json and merges.txt"),
        ] {
            fs::write(folder.path().join(file), "{}").unwrap();
            assert!(error().contains(wanted) && error().contains("save_pretrained"), "{}", error());
            let alone = Tokenizer::from_file(folder.path().join(file), None).unwrap_err().to_string();
            assert!(alone.contains("save_pretrained"), "{alone}");
            fs::remove_file(folder.path().join(file)).unwrap();
        }
        fs::write(folder.path().join(TOKENIZER_FILE), "version https://git-lfs.github.com/spec/v1\nsize 9\n")
            .unwrap();
        assert!(error().contains("git lfs pull"), "{}", error());
    }
}
