//! One token a character.

use std::collections::{BTreeSet, HashMap};

use super::table::TokenTable;
use crate::error::{Error, Result};

/// A sorted set of characters and their ids.
#[derive(Clone)]
pub(super) struct Alphabet {
    characters: Vec<char>,
    ids: HashMap<char, u32>,
}

impl Alphabet {
    /// The characters in order of their code points, each once.
    pub(super) fn sorted(characters: impl IntoIterator<Item = char>) -> Self {
        let characters: Vec<char> = characters.into_iter().collect::<BTreeSet<_>>().into_iter().collect();
        let ids = characters.iter().copied().zip(0..).collect();
        Self { characters, ids }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.characters.is_empty()
    }

    pub(super) fn characters(&self) -> &[char] {
        &self.characters
    }

    /// The table of the characters, and of end of text after them if asked.
    pub(super) fn table(&self, end_of_text: bool) -> TokenTable {
        let characters = self.characters.iter().map(|c| c.to_string().into_bytes());
        TokenTable::new(characters.chain(end_of_text.then(Vec::new)))
    }

    /// # Errors
    /// [`Error::Invalid`] naming a character that is not in the alphabet.
    pub(super) fn encode(&self, text: &str) -> Result<Vec<u32>> {
        text.chars().map(|c| self.ids.get(&c).copied().ok_or_else(|| self.unknown(c))).collect()
    }

    fn unknown(&self, character: char) -> Error {
        let given = format!("{character:?} (U+{:04X})", character as u32);
        let first: String = self.characters.iter().take(40).collect();
        let more = if self.characters.len() > 40 { "…" } else { "" };
        let allowed =
            format!("one of the {} characters of the tokenizer: {first:?}{more}", self.characters.len());
        Error::invalid("character", given, allowed)
    }
}
