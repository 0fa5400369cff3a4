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
    /// Text for a tokenizer of numbers: decimal numbers with white space between them.
    WrittenNumbers,
    /// Numbers of tokens that others made: decimal, with white space between them, whatever the tokenizer is.
    TokenNumbers,
}

impl Content {
    /// What text is for this tokenizer; token numbers are the same for all.
    pub(super) fn for_tokenizer(self, tokenizer: &Tokenizer) -> Self {
        match self {
            Self::Text if tokenizer.is_of_numbers() => Self::WrittenNumbers,
            _ => self,
        }
    }

    /// The tokens of a whole text with this content, and what became of it.
    ///
    /// Token numbers stand for the text that they decode to, and count as a document that decoding changes where they
    /// decode to none: where their bytes are no UTF-8, and with a tokenizer of numbers. So they do where the tokenizer is
    /// not lossless by construction, and it is not known whether that text was the author's.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`] and [`Tokenizer::read_numbers`].
    pub fn encode(self, tokenizer: &Tokenizer, text: &str) -> Result<(Vec<u32>, Fidelity)> {
        self.encode_part(tokenizer, text, true)
    }

    /// The same of a piece, at both ends of which a character of token numbers may be cut, and which may begin with the
    /// space between two numbers.
    ///
    /// # Errors
    /// As [`Self::encode`].
    pub fn encode_piece(self, tokenizer: &Tokenizer, text: &str) -> Result<(Vec<u32>, Fidelity)> {
        self.encode_part(tokenizer, text, false)
    }

    /// # Errors
    /// As [`Self::encode`].
    pub(super) fn encode_part(
        self,
        tokenizer: &Tokenizer,
        text: &str,
        is_whole: bool,
    ) -> Result<(Vec<u32>, Fidelity)> {
        let (tokens, fidelity) = match self.for_tokenizer(tokenizer) {
            Self::TokenNumbers => {
                let tokens = tokenizer.read_numbers(text)?;
                let fidelity = Fidelity::of_numbers(tokenizer, &tokens, is_whole)?;
                (tokens, fidelity)
            }
            content => {
                let tokens = tokenizer.encode(text)?;
                let joined = content == Self::WrittenNumbers && !is_whole;
                let own = if joined { text.strip_prefix(' ').unwrap_or(text) } else { text };
                let fidelity = Fidelity::of(tokenizer, own, &tokens)?;
                (tokens, fidelity)
            }
        };
        Ok((tokens, fidelity))
    }

    /// The first place at or after `place` where the text may be cut in two: between characters, or between numbers.
    pub(super) fn cut(self, text: &str, place: usize) -> usize {
        let may_cut = |&at: &usize| match self {
            Self::Text => text.is_char_boundary(at),
            Self::WrittenNumbers | Self::TokenNumbers => {
                text.as_bytes().get(at).is_none_or(u8::is_ascii_whitespace)
            }
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
    fn token_numbers_that_decode_to_no_text_do_not_survive() {
        let bytes = Tokenizer::bytes();
        let changed = |numbers: &[u32], is_whole| {
            let text = written(numbers);
            Content::TokenNumbers.encode_part(&bytes, &text, is_whole).unwrap().1.changed
        };
        for (numbers, whole, piece) in [
            (&[0xe4, 0xb8, 0xad, 256, 97][..], 0, 0),
            // U+FFFD itself is a character like any other.
            (&[0xef, 0xbf, 0xbd], 0, 0),
            (&[200, 201, 202], 1, 1),
            (&[97, 0xe4, 256, 97], 1, 1),
            // Characters are cut at the ends.
            (&[0xb8, 0xad, 97, 0xe4], 1, 0),
            (&[0xb8], 1, 0),
            (&[97, 0xb8, 0xad, 97], 1, 1),
        ] {
            assert_eq!((changed(numbers, true), changed(numbers, false)), (whole, piece), "{numbers:?}");
        }
    }

    #[test]
    fn text_of_a_tokenizer_of_numbers_decodes_to_itself_or_does_not() {
        let tokenizer = Tokenizer::numbers(300).unwrap();
        let changed = |content: Content, text| content.encode(&tokenizer, text).unwrap().1.changed;
        for (text, expected) in
            [("7 299 0", 0), ("7 299 0 ", 0), ("7  299", 1), ("7\n299", 1), ("007", 1), (" 7", 1), ("7\n", 1)]
        {
            assert_eq!(changed(Content::Text, text), expected, "{text:?}");
            assert_eq!(changed(Content::TokenNumbers, text), 1, "without text there are no characters");
        }
        let (_, fidelity) = Content::WrittenNumbers.encode_piece(&tokenizer, " 7 299").unwrap();
        assert!(fidelity.is_lossless());
    }

    #[test]
    fn texts_are_cut_between_characters_and_numbers_between_numbers() {
        assert_eq!(Content::Text.cut("a中b", 2), 4);
        assert_eq!(Content::TokenNumbers.cut("12 345 6", 4), 6);
        assert_eq!((Content::TokenNumbers.cut("12 345", 4), Content::TokenNumbers.cut("12 345", 2)), (6, 2));
    }
}
