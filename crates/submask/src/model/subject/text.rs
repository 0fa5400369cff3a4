//! Text: tokens of a tokenizer.

use serde::{Deserialize, Serialize};

use super::{Meaning, Unit};
use crate::Result;
use crate::data::{Tokenizer, TokenizerKind};

/// Sequences of tokens of a tokenizer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TextSubject {
    /// Number of token classes C.
    pub vocab_size: usize,
    /// How text becomes tokens.
    pub tokenizer: TokenizerKind,
}

impl Meaning for TextSubject {
    fn name(&self) -> &'static str {
        "text"
    }

    fn networks(&self) -> &'static [&'static str] {
        &["diffusion", "encoder", "autoregressive"]
    }

    fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    fn seq_len(&self) -> Option<usize> {
        None
    }

    fn validate(&self) -> Result<()> {
        Ok(())
    }

    fn units(&self) -> Vec<Unit> {
        vec![Unit::BitsPerCharacter, Unit::NatsPerToken, Unit::Perplexity]
    }
}

/// The text of a sample: from the first token that is no end of text, up to the first end of text after the first
/// `given` tokens, up to which something was given.
pub(in crate::model) fn text_of(tokenizer: &Tokenizer, tokens: &[u32], given: usize) -> Result<String> {
    let end = tokenizer.end_of_text();
    let start = tokens.iter().take_while(|token| Some(**token) == end).count();
    let given = given.max(start);
    let rest = tokens[given..].iter().position(|token| Some(*token) == end);
    tokenizer.decode(&tokens[start..rest.map_or(tokens.len(), |length| given + length)], "")
}
