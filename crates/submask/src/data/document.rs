//! One text, or one piece of a long one.

use super::fidelity::Fidelity;
use super::tokenizer::Tokenizer;
use crate::error::Result;

/// How many bytes of a long document come in one piece (1 MiB): nothing longer is held in memory
/// when it can be read piece by piece.
pub const PIECE_BYTES: usize = 1 << 20;

/// What the text of a document is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Content {
    /// Text, which a tokenizer encodes.
    #[default]
    Text,
    /// Numbers of tokens that others made: decimal, with white space between them, whatever the tokenizer is.
    TokenNumbers,
}

impl Content {
    /// The tokens of a text with this content, and what became of it.
    ///
    /// Token numbers stand for the text that they decode to. Where the tokenizer is not lossless by construction, it is not
    /// known whether that text was the author's, and they count as a document that decoding changes; so do numbers of a
    /// tokenizer of numbers, which stand for no text.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`] and [`Tokenizer::read_numbers`].
    pub fn encode(self, tokenizer: &Tokenizer, text: &str) -> Result<(Vec<u32>, Fidelity)> {
        match self {
            Self::Text if !tokenizer.is_of_numbers() => {
                let tokens = tokenizer.encode(text)?;
                let fidelity = Fidelity::of(tokenizer, text, &tokens)?;
                Ok((tokens, fidelity))
            }
            _ => {
                let tokens = tokenizer.read_numbers(text)?;
                let fidelity = Fidelity::of_numbers(tokenizer, &tokens);
                Ok((tokens, fidelity))
            }
        }
    }

    /// The first place at or after `place` where the text may be cut in two: between characters, or between numbers.
    pub(super) fn cut(self, text: &str, place: usize) -> usize {
        let may_cut = |&at: &usize| match self {
            Self::Text => text.is_char_boundary(at),
            Self::TokenNumbers => text.as_bytes().get(at).is_none_or(u8::is_ascii_whitespace),
        };
        (place..text.len()).find(may_cut).unwrap_or(text.len())
    }
}

/// A text of the corpus, or a piece of one.
///
/// Documents longer than [`PIECE_BYTES`] in text files come in pieces: all but the last have
/// `continues == true`, and the pieces put together are the document. A last piece may be empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// The text.
    pub text: String,
    /// What it is.
    pub content: Content,
    /// Whether the next item is the next piece of the same document.
    pub continues: bool,
}

impl Document {
    /// A whole document.
    pub fn whole(text: impl Into<String>) -> Self {
        Self::piece(text, false)
    }

    /// A piece of a document, which `continues` or ends it.
    pub fn piece(text: impl Into<String>, continues: bool) -> Self {
        Self { text: text.into(), content: Content::Text, continues }
    }

    /// A whole document of token numbers.
    pub fn numbers(numbers: &[u32]) -> Self {
        Self { content: Content::TokenNumbers, ..Self::whole(written(numbers)) }
    }
}

/// Numbers with a space between them.
pub(super) fn written(numbers: &[u32]) -> String {
    use std::fmt::Write;
    let mut text = String::with_capacity(numbers.len() * 6);
    for (n, number) in numbers.iter().enumerate() {
        let space = if n == 0 { "" } else { " " };
        // Writing to memory does not fail.
        let _ = write!(text, "{space}{number}");
    }
    text
}

impl From<String> for Document {
    fn from(text: String) -> Self {
        Self::whole(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_numbers_are_tokens_of_any_tokenizer() {
        let document = Document::numbers(&[104, 256, 7]);
        assert_eq!(document.text, "104 256 7");
        let (tokens, fidelity) = document.content.encode(&Tokenizer::bytes(), &document.text).unwrap();
        assert_eq!((tokens, fidelity.changed), (vec![104, 256, 7], 0));
        let (tokens, _) = Content::Text.encode(&Tokenizer::bytes(), &document.text).unwrap();
        assert_eq!(tokens.len(), 9);
        let error = document.content.encode(&Tokenizer::text8(), &document.text).unwrap_err().to_string();
        assert!(error.contains("\"104\"") && error.contains("0 to 26"), "{error}");
    }

    #[test]
    fn texts_are_cut_between_characters_and_numbers_between_numbers() {
        assert_eq!(Content::Text.cut("a中b", 2), 4);
        assert_eq!(Content::TokenNumbers.cut("12 345 6", 4), 6);
        assert_eq!((Content::TokenNumbers.cut("12 345", 4), Content::TokenNumbers.cut("12 345", 2)), (6, 2));
    }
}
