//! Documents that spell the tokenizer's end of text.

use super::info::Spelt;
use crate::data::document::{Content, Document};
use crate::data::pairs::Pair;
use crate::data::tokenizer::Tokenizer;
use crate::error::Result;

/// Documents whose text spells the tokenizer's end of text.
pub(super) struct Spelling {
    name: Option<String>,
    documents: u64,
    /// Whether a piece of the present document has spelt it.
    inside: bool,
}

impl Spelling {
    pub(super) fn new(tokenizer: &Tokenizer) -> Result<Self> {
        let name = tokenizer.end_of_text().map(|end| tokenizer.token_text(end)).transpose()?;
        Ok(Self { name: name.filter(|name| !name.trim().is_empty()), documents: 0, inside: false })
    }

    pub(super) fn note(&mut self, piece: &Document) {
        if piece.content == Content::Text {
            self.note_texts([&piece.text], piece.continues);
        }
    }

    pub(super) fn note_pair(&mut self, pair: &Pair) {
        self.note_texts([&pair.prompt, &pair.completion], false);
    }

    fn note_texts<const N: usize>(&mut self, texts: [&String; N], continues: bool) {
        let Some(name) = &self.name else { return };
        self.inside |= texts.iter().any(|text| text.contains(name));
        if !continues {
            self.documents += u64::from(std::mem::take(&mut self.inside));
        }
    }

    /// What was spelt, if anything was.
    pub(super) fn spelt(self) -> Option<Spelt> {
        let name = self.name.filter(|_| self.documents > 0)?;
        Some(Spelt { name, documents: self.documents })
    }
}
