//! Whether text survives its tokenizer.

use serde::{Deserialize, Serialize};

use super::tokenizer::Tokenizer;
use crate::error::Result;
use crate::parts::{Bytes, Fields};

/// What a tokenizer did to documents: how many of them decoding gives back, and how much of them it does not know.
///
/// A likelihood is one of text only where every document decodes to itself: otherwise many texts share the tokens that
/// are measured, and nats cannot be divided by characters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fidelity {
    /// Documents, or parts of documents.
    pub documents: u64,
    /// Those of them that come out of encoding and decoding otherwise than they went in.
    pub changed: u64,
    /// Their tokens.
    pub tokens: u64,
    /// Those of them that stand for text that the tokenizer does not know.
    pub unknown: u64,
}

impl Fidelity {
    /// That of one text, whose tokens are known. With a tokenizer of numbers, the space that ends every number may be
    /// missing behind the last.
    ///
    /// # Errors
    /// As [`Tokenizer::decode`].
    pub fn of(tokenizer: &Tokenizer, text: &str, tokens: &[u32]) -> Result<Self> {
        let unknown = tokenizer.unknown_token();
        let changed = !tokenizer.is_lossless() && {
            let decoded = tokenizer.decode(tokens, "")?;
            match tokenizer.is_of_numbers() {
                true => without_last_space(&decoded) != without_last_space(text),
                false => decoded != text,
            }
        };
        Ok(Self {
            documents: 1,
            changed: u64::from(changed),
            tokens: tokens.len() as u64,
            unknown: tokens.iter().filter(|token| Some(**token) == unknown).count() as u64,
        })
    }

    /// That of token numbers which others made: whether their text gives them again is known only where every text does.
    /// They are changed, too, where they decode to no text; in a piece, characters may be cut at both ends.
    ///
    /// # Errors
    /// As [`Tokenizer::decode`].
    pub(super) fn of_numbers(tokenizer: &Tokenizer, tokens: &[u32], is_whole: bool) -> Result<Self> {
        let unknown = tokenizer.unknown_token();
        let survives = tokenizer.is_lossless() && tokenizer.gives_text(tokens, is_whole)?;
        Ok(Self {
            documents: 1,
            changed: u64::from(!survives),
            tokens: tokens.len() as u64,
            unknown: tokens.iter().filter(|token| Some(**token) == unknown).count() as u64,
        })
    }

    /// Adds its numbers to a record of a part.
    pub(super) fn add_to(self, bytes: Bytes) -> Bytes {
        let Self { documents, changed, tokens, unknown } = self;
        bytes.u64(documents).u64(changed).u64(tokens).u64(unknown)
    }

    /// Its numbers in a record of a part.
    ///
    /// # Errors
    /// As [`Fields::u64`].
    pub(super) fn read(fields: &mut Fields) -> Result<Self> {
        let (documents, changed) = (fields.u64()?, fields.u64()?);
        Ok(Self { documents, changed, tokens: fields.u64()?, unknown: fields.u64()? })
    }

    /// Whether every document decodes to itself.
    pub fn is_lossless(self) -> bool {
        self.changed == 0
    }

    /// The share of unknown tokens, in [0, 1].
    pub fn unknown_share(self) -> f64 {
        self.unknown as f64 / self.tokens.max(1) as f64
    }
}

fn without_last_space(text: &str) -> &str {
    text.strip_suffix(' ').unwrap_or(text)
}

/// Sums what a tokenizer did to documents that come in pieces: each counts once, and is changed where a piece is.
#[derive(Clone, Copy, Debug, Default)]
pub struct FidelityCount {
    total: Fidelity,
    /// Whether a piece of the present document has come out otherwise.
    changed: bool,
}

impl FidelityCount {
    /// Adds a piece, which `ends` its document or does not.
    pub fn add(&mut self, piece: Fidelity, ends: bool) {
        self.changed |= !piece.is_lossless();
        let (documents, changed) = (u64::from(ends), u64::from(ends && self.changed));
        self.total = self.total + Fidelity { documents, changed, ..piece };
        self.changed &= !ends;
    }

    /// That of the documents that are complete.
    pub fn total(&self) -> Fidelity {
        self.total
    }
}

impl std::ops::Add for Fidelity {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            documents: self.documents + other.documents,
            changed: self.changed + other.changed,
            tokens: self.tokens + other.tokens,
            unknown: self.unknown + other.unknown,
        }
    }
}

impl std::iter::Sum for Fidelity {
    fn sum<I: Iterator<Item = Self>>(parts: I) -> Self {
        parts.fold(Self::default(), std::ops::Add::add)
    }
}
