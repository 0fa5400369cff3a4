//! Tokenizers in the `tokenizer.json` format of Hugging Face.

use std::path::{Path, PathBuf};

use serde_json::Value;
use tokenizers::{DecoderWrapper, PreTokenizerWrapper, SplitDelimiterBehavior};

use super::end_of_text::{EndOfText, Vocabulary};
use super::table::TokenTable;
use super::train_bpe::byte_of;
use crate::durable::lfs_pointer;
use crate::error::{Error, Result};

/// Names of the mask in tokenizers for masked models.
const MASKS: [&str; 2] = ["[MASK]", "<mask>"];

/// A `tokenizer.json` and the tokenizer that it describes.
#[derive(Clone)]
pub(super) struct HuggingFace {
    tokenizer: tokenizers::Tokenizer,
    json: String,
    path: PathBuf,
    vocab_size: usize,
    end_of_text: Option<(String, u32)>,
    /// Whether it is a byte-level one that knows every byte and leaves the text as it is.
    lossless: bool,
    unknown: Option<u32>,
    /// Whether the end of text is another than earlier versions would have found.
    newly_found: bool,
}

impl HuggingFace {
    /// Reads `json`, the content of the file `path`.
    pub(super) fn new(json: String, path: &Path, end_of_text: EndOfText<'_>) -> Result<Self> {
        let problem = |error: tokenizers::Error| {
            let problem =
                lfs_pointer(json.as_bytes()).unwrap_or_else(|| format!("not a tokenizer.json: {error}"));
            Error::format(path, problem)
        };
        let mut tokenizer = tokenizers::Tokenizer::from_bytes(json.as_bytes()).map_err(problem)?;
        tokenizer.with_truncation(None).map_err(problem)?;
        tokenizer.with_padding(None);
        tokenizer.set_encode_special_tokens(true);
        let Some(largest) = tokenizer.get_vocab(true).into_values().max() else {
            return Err(Error::format(path, "a tokenizer without any token"));
        };
        let file = serde_json::from_str(&json).unwrap_or_default();
        let vocabulary = Vocabulary { tokenizer: &tokenizer, file: &file, path };
        let end_of_text = vocabulary.end_of_text(end_of_text)?;
        let name = end_of_text.as_ref().map(|(name, _)| name.as_str());
        let newly_found = vocabulary.unlike_kept(name).is_some();
        let vocab_size = largest as usize + 1;
        let unknown = find_unknown(&tokenizer, &file);
        let (path, lossless) = (path.to_path_buf(), false);
        let mut found =
            Self { tokenizer, json, path, vocab_size, end_of_text, lossless, unknown, newly_found };
        found.lossless = has_plain_pieces(&file) && found.keeps_every_text();
        Ok(found)
    }

    /// The name of the end of text, if it is another than earlier versions would have found.
    pub(super) fn newly_found(&self) -> Option<&str> {
        self.end_of_text_name().filter(|_| self.newly_found)
    }

    /// A byte-level tokenizer keeps a text if it knows all 256 bytes and neither normalises nor puts a space first.
    fn keeps_every_text(&self) -> bool {
        let keeps = |part: &PreTokenizerWrapper| match part {
            PreTokenizerWrapper::ByteLevel(bytes) => Some(!bytes.add_prefix_space),
            PreTokenizerWrapper::Split(split) => Some(split.behavior != SplitDelimiterBehavior::Removed),
            PreTokenizerWrapper::Digits(_) => Some(true),
            _ => None,
        };
        let splits = match self.tokenizer.get_pre_tokenizer() {
            Some(PreTokenizerWrapper::Sequence(sequence)) => {
                sequence.as_ref().iter().all(|part| keeps(part) == Some(true))
            }
            Some(part) => keeps(part) == Some(true),
            None => false,
        };
        let Some(table) = self.table().filter(|_| splits && self.tokenizer.get_normalizer().is_none()) else {
            return false;
        };
        let ids = 0..self.vocab_size as u32;
        let mut known = [false; 256];
        ids.filter_map(|id| <[u8; 1]>::try_from(table.bytes(id)).ok()).for_each(|[byte]| {
            known[usize::from(byte)] = true;
        });
        known.iter().all(|known| *known)
    }

    pub(super) fn is_lossless(&self) -> bool {
        self.lossless
    }

    pub(super) fn unknown_token(&self) -> Option<u32> {
        self.unknown
    }

    pub(super) fn mask_token(&self) -> Option<u32> {
        MASKS.into_iter().find_map(|name| self.tokenizer.token_to_id(name))
    }

    pub(super) fn json(&self) -> &str {
        &self.json
    }

    pub(super) fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    pub(super) fn end_of_text(&self) -> Option<u32> {
        self.end_of_text.as_ref().map(|(_, id)| *id)
    }

    pub(super) fn end_of_text_name(&self) -> Option<&str> {
        self.end_of_text.as_ref().map(|(name, _)| name.as_str())
    }

    /// The bytes of all tokens, if the tokenizer is a byte-level one.
    pub(super) fn table(&self) -> Option<TokenTable> {
        let byte_level = match self.tokenizer.get_decoder() {
            Some(DecoderWrapper::ByteLevel(_)) => true,
            Some(DecoderWrapper::Sequence(sequence)) => {
                matches!(sequence.get_decoders(), [DecoderWrapper::ByteLevel(_)])
            }
            _ => false,
        };
        let bytes = |id| match self.tokenizer.id_to_token(id) {
            Some(_) if Some(id) == self.end_of_text() => Vec::new(),
            Some(token) => token.chars().map(byte_of).collect::<Option<_>>().unwrap_or(token.into_bytes()),
            None => Vec::new(),
        };
        byte_level.then(|| TokenTable::new((0..self.vocab_size as u32).map(bytes)))
    }

    /// The tokens of a text, never the end-of-text token.
    pub(super) fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let tokens = self.encode_part(text)?;
        match &self.end_of_text {
            Some((name, id)) if tokens.contains(id) => self.encode_around(text, name, *id),
            _ => Ok(tokens),
        }
    }

    /// Cuts the text inside every place where it spells end of text, which makes those ordinary text.
    fn encode_around(&self, text: &str, name: &str, id: u32) -> Result<Vec<u32>> {
        let first = name.chars().next().map_or(0, char::len_utf8);
        let mut tokens = Vec::new();
        let mut start = 0;
        for (at, _) in text.match_indices(name) {
            tokens.extend(self.encode_part(&text[start..at + first])?);
            start = at + first;
        }
        tokens.extend(self.encode_part(&text[start..])?);
        if tokens.contains(&id) {
            let allowed = "the tokenizer gives its end-of-text token for ordinary text; name another one";
            return Err(Error::invalid("end_of_text", format!("{name:?}"), allowed));
        }
        Ok(tokens)
    }

    fn encode_part(&self, text: &str) -> Result<Vec<u32>> {
        let encoding = self.tokenizer.encode_fast(text, false).map_err(|e| self.problem("encode", &e))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// The text of tokens without end of text between them.
    pub(super) fn decode(&self, tokens: &[u32]) -> Result<String> {
        self.tokenizer.decode(tokens, false).map_err(|error| self.problem("decode", &error))
    }

    fn problem(&self, verb: &str, error: &tokenizers::Error) -> Error {
        Error::format(&self.path, format!("the tokenizer cannot {verb}: {error}"))
    }
}

/// Whether tokens are pieces of the text as they stand: those of a BPE that marks neither the ends of words nor their
/// insides, beside added tokens that take in no space around them. Special ones are never made of text.
fn has_plain_pieces(file: &Value) -> bool {
    let is_set = |value: &Value| !matches!(value, Value::Null | Value::Bool(false)) && value != "";
    let model = &file["model"];
    let marks = ["continuing_subword_prefix", "end_of_word_suffix"];
    let is_plain = |token: &Value| {
        let ascii = token["content"].as_str().is_some_and(str::is_ascii);
        is_set(&token["special"])
            || (ascii
                && !["lstrip", "rstrip", "single_word", "normalized"].iter().any(|key| is_set(&token[key])))
    };
    model["type"] == "BPE"
        && !marks.iter().any(|key| is_set(&model[key]))
        && file["added_tokens"].as_array().is_none_or(|tokens| tokens.iter().all(is_plain))
}

/// The token for what the model of a file does not know: by name, or of a unigram model by number.
fn find_unknown(tokenizer: &tokenizers::Tokenizer, file: &Value) -> Option<u32> {
    let model = file.get("model")?;
    let by_name = model.get("unk_token").and_then(|name| tokenizer.token_to_id(name.as_str()?));
    by_name.or_else(|| model.get("unk_id")?.as_u64()?.try_into().ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Fidelity, Tokenizer};
    use serde_json::{Value, json};

    /// A word-level tokenizer that lower-cases, and truncates to 2 tokens as some files ask for.
    fn word_level(special: bool) -> Value {
        json!({
            "version": "1.0",
            "truncation": {"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0},
            "padding": null,
            "added_tokens": [{"id": 3, "content": "</s>", "single_word": false, "lstrip": false,
                "rstrip": false, "normalized": false, "special": special}],
            "normalizer": {"type": "Lowercase"},
            "pre_tokenizer": {"type": "WhitespaceSplit"},
            "post_processor": null,
            "decoder": null,
            "model": {"type": "WordLevel", "unk_token": "[UNK]",
                "vocab": {"[UNK]": 0, "a": 1, "b": 2, "</s>": 3, "<": 4, "/s>": 5}}
        })
    }

    fn load(json: &Value, end_of_text: Option<&str>) -> Result<Tokenizer> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), json.to_string()).unwrap();
        Tokenizer::from_file(file.path(), end_of_text)
    }

    #[test]
    fn a_foreign_file_is_used_without_its_truncation() {
        let tokenizer = load(&word_level(true), None).unwrap();
        assert_eq!((tokenizer.vocab_size(), tokenizer.end_of_text()), (6, Some(3)));
        assert_eq!(tokenizer.encode("a B c a").unwrap(), [1, 2, 0, 1]);
        assert_eq!(tokenizer.decode(&[1, 2, 3, 1], "|").unwrap(), "a b|a");
        assert_eq!(tokenizer.count_characters(&[1, 2, 3]).unwrap(), 3);
        assert_eq!(tokenizer.token_text(3).unwrap(), "</s>");
    }

    #[test]
    fn a_file_that_loses_text_says_so_document_by_document() {
        let tokenizer = load(&word_level(true), None).unwrap();
        assert_eq!((tokenizer.is_lossless(), tokenizer.unknown_token()), (false, Some(0)));
        let fidelity = |text: &str| Fidelity::of(&tokenizer, text, &tokenizer.encode(text).unwrap()).unwrap();
        let kept = fidelity("a b a");
        assert_eq!(kept, Fidelity { documents: 1, changed: 0, tokens: 3, unknown: 0 });
        assert_eq!(fidelity("a B"), Fidelity { documents: 1, changed: 1, tokens: 2, unknown: 0 });
        let unknown = fidelity("a c");
        assert_eq!(unknown, Fidelity { documents: 1, changed: 1, tokens: 2, unknown: 1 });
        let sum = kept + unknown;
        assert_eq!((sum.is_lossless(), sum.unknown_share()), (false, 0.2));
    }

    #[test]
    fn byte_level_files_that_lose_text_are_no_lossless_ones() {
        let bytes: serde_json::Map<String, Value> = (0..=255u8)
            .map(|byte| (super::super::train_bpe::character_of(byte).to_string(), json!(byte)))
            .collect();
        let level =
            json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
        let file = |model: Value, added: Value| {
            json!({"version": "1.0", "truncation": null, "padding": null, "normalizer": null,
                "pre_tokenizer": level, "post_processor": null, "decoder": level,
                "added_tokens": added, "model": model})
        };
        let bpe = |suffix: Value| json!({"type": "BPE", "vocab": bytes, "merges": [], "end_of_word_suffix": suffix});
        let added = |strip: bool| {
            json!([{"id": 256, "content": "sea", "single_word": false, "lstrip": strip, "rstrip": strip,
                "normalized": false, "special": false}])
        };
        let is_lossless = |file: Value| load(&file, None).unwrap().is_lossless();
        assert!(is_lossless(file(bpe(Value::Null), json!([]))));
        assert!(is_lossless(file(bpe(Value::Null), added(false))));
        assert!(!is_lossless(file(bpe(Value::Null), added(true))), "spaces around the token are lost");
        assert!(!is_lossless(file(bpe(json!("</w>")), json!([]))));
        let mut words = bytes.clone();
        words.insert("[UNK]".to_owned(), json!(256));
        let words = json!({"type": "WordLevel", "vocab": words, "unk_token": "[UNK]"});
        assert!(!is_lossless(file(words, json!([]))), "longer words are unknown");
    }

    #[test]
    fn spelled_end_of_text_is_ordinary_text_even_where_the_file_does_not_call_it_special() {
        for special in [false, true] {
            let tokenizer = load(&word_level(special), None).unwrap();
            assert_eq!(tokenizer.encode("a </s> b").unwrap(), [1, 4, 5, 2]);
        }
    }

    #[test]
    fn end_of_text_can_be_named() {
        assert_eq!(load(&word_level(true), Some("b")).unwrap().end_of_text(), Some(2));
        let error = load(&word_level(true), Some("<end>")).unwrap_err().to_string();
        assert!(error.contains("\"<end>\""), "{error}");
    }

    #[test]
    fn a_file_that_is_no_tokenizer_is_refused_by_name() {
        let error = load(&json!({"model": "none"}), None).unwrap_err().to_string();
        assert!(error.contains("not a tokenizer.json"), "{error}");
        assert!(matches!(Tokenizer::from_file("no/such.json", None), Err(Error::Io { .. })));
    }
}
