//! Which tokenizer is asked for.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::end_of_text::EndOfText;
use super::{TOKENIZER_FILE, Tokenizer, files, train_bpe};
use crate::data::document::Document;
use crate::error::Result;

/// A tokenizer as settings ask for it; some kinds are made from the corpus.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum TokenizerSpec {
    /// The 256 bytes: [`Tokenizer::bytes`].
    Bytes,
    /// [`Tokenizer::characters`] with all the characters of the corpus.
    Characters,
    /// Space and a to z: [`Tokenizer::text8`].
    Text8,
    /// GPT-2's vocabulary: [`Tokenizer::gpt2`].
    Gpt2,
    /// Numbers: [`Tokenizer::numbers`].
    Numbers {
        /// How many tokens there are.
        vocab_size: usize,
    },
    /// A byte-level BPE trained on the corpus (on its first 256 MiB): ids 0 to 255 are the bytes, the
    /// last one is `<|endoftext|>`.
    Bpe {
        /// All ids, at least 257.
        vocab_size: usize,
    },
    /// A file of Hugging Face: [`Tokenizer::from_file`].
    TokenizerJson {
        /// The file, or its folder.
        path: PathBuf,
        /// Its end-of-text token; found by itself if not given, see [`Tokenizer::from_file`].
        #[serde(default, skip_serializing_if = "Option::is_none")]
        end_of_text: Option<String>,
    },
}

impl TokenizerSpec {
    /// Whether [`TokenizerSpec::build`] reads the corpus.
    pub fn needs_training(&self) -> bool {
        matches!(self, Self::Characters | Self::Bpe { .. })
    }

    /// The file of a tokenizer that has one.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io) and [`Error::Format`](crate::Error::Format) for a folder without it.
    pub(in crate::data) fn file(&self) -> Result<Option<PathBuf>> {
        match self {
            Self::TokenizerJson { path, .. } => files::tokenizer_file(path).map(Some),
            _ => Ok(None),
        }
    }

    /// The end of text that is found in the file and its companions now, where earlier versions found another or none.
    /// One that is given stands in the settings.
    ///
    /// # Errors
    /// As [`Tokenizer::from_file`].
    pub(in crate::data) fn newly_found_end(&self) -> Result<Option<String>> {
        let Self::TokenizerJson { path, end_of_text: None } = self else { return Ok(None) };
        Ok(Tokenizer::from_file(path, None)?.newly_found_end().map(str::to_owned))
    }

    /// Makes the tokenizer; `documents` is called only by kinds made from the corpus. The same
    /// documents in the same order always give the same tokenizer.
    ///
    /// # Errors
    /// Those of the constructors and of the documents; [`Error::Invalid`](crate::Error::Invalid) for a
    /// vocabulary size below 257, or larger than the corpus can give.
    pub fn build<I>(&self, documents: impl FnOnce() -> Result<I>) -> Result<Tokenizer>
    where
        I: IntoIterator<Item = Result<Document>>,
    {
        match self {
            Self::Bytes => Ok(Tokenizer::bytes()),
            Self::Text8 => Ok(Tokenizer::text8()),
            Self::Gpt2 => Tokenizer::gpt2(),
            Self::Numbers { vocab_size } => Tokenizer::numbers(*vocab_size),
            Self::Characters => {
                let mut characters = BTreeSet::new();
                for document in documents()? {
                    characters.extend(document?.text.chars());
                }
                Tokenizer::characters(&characters.into_iter().collect::<String>())
            }
            Self::Bpe { vocab_size } => {
                let json = train_bpe::train(*vocab_size, documents)?;
                // The trained one ends texts with the first of the names.
                Tokenizer::from_json(json, Path::new(TOKENIZER_FILE), EndOfText::Kept)
            }
            Self::TokenizerJson { path, end_of_text } => Tokenizer::from_file(path, end_of_text.as_deref()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn corpus(texts: &[&str]) -> Vec<Result<Document>> {
        texts.iter().map(|text| Ok(Document::whole(*text))).collect()
    }

    #[test]
    fn characters_are_those_of_the_corpus() {
        let tokenizer = TokenizerSpec::Characters.build(|| Ok(corpus(&["ba", "é"]))).unwrap();
        assert_eq!(tokenizer.encode("abé").unwrap(), [0, 1, 2]);
        assert!(TokenizerSpec::Characters.build(|| Ok(corpus(&[]))).is_err());
    }

    #[test]
    fn specs_stand_in_settings_files() {
        let spec: TokenizerSpec = toml::from_str("kind = \"bpe\"\nvocab_size = 2000").unwrap();
        assert_eq!(spec, TokenizerSpec::Bpe { vocab_size: 2000 });
        assert!(toml::from_str::<TokenizerSpec>("kind = \"bpe\"\nvocab = 2000").is_err());
        assert!(toml::from_str::<TokenizerSpec>("kind = \"bpe\"").is_err());
    }

    #[test]
    fn kinds_that_need_no_corpus_do_not_read_it() {
        let untouched = || -> Result<Vec<Result<Document>>> { unreachable!("the corpus was read") };
        assert_eq!(TokenizerSpec::Bytes.build(untouched).unwrap().vocab_size(), 257);
        assert!(!TokenizerSpec::Bytes.needs_training());
    }
}
