//! The bytes of every token, for tokenizers whose texts are their tokens' bytes in a row.

/// Bytes and character counts by token id.
#[derive(Clone)]
pub(super) struct TokenTable {
    bytes: Vec<u8>,
    ends: Vec<u32>,
    characters: Vec<u32>,
}

impl TokenTable {
    /// A table of the tokens 0, 1, … ; end of text has no bytes.
    pub(super) fn new(tokens: impl IntoIterator<Item = Vec<u8>>) -> Self {
        let mut table = Self { bytes: Vec::new(), ends: Vec::new(), characters: Vec::new() };
        for token in tokens {
            table.bytes.extend_from_slice(&token);
            table.ends.push(table.bytes.len() as u32);
            table.characters.push(token.iter().filter(|&&byte| byte & 0xc0 != 0x80).count() as u32);
        }
        table
    }

    /// The number of tokens.
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// The bytes of a token.
    pub(super) fn bytes(&self, token: u32) -> &[u8] {
        let token = token as usize;
        let start = if token == 0 { 0 } else { self.ends[token - 1] as usize };
        &self.bytes[start..self.ends[token] as usize]
    }

    /// How many bytes of a token are the first of a character (not UTF-8 continuation bytes).
    pub(super) fn characters(&self, token: u32) -> u32 {
        self.characters[token as usize]
    }
}
