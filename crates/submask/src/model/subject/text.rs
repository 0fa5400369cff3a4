//! Text: tokens of a tokenizer.

use serde::{Deserialize, Serialize};

use super::{Meaning, Unit};
use crate::Result;
use crate::data::{Fidelity, Tokenizer, TokenizerKind};
use crate::sampler::first_end;

/// Sequences of tokens of a tokenizer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TextSubject {
    /// Number of token classes C.
    pub vocab_size: usize,
    /// How text becomes tokens.
    pub tokenizer: TokenizerKind,
    /// What the tokenizer did to the documents of the run, where it is not lossless by construction; absent, too, in models
    /// of earlier versions and of other programs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fidelity: Option<Fidelity>,
    /// Whether the model was trained on pairs, one per sequence: see [`PairLayout`](crate::data::PairLayout).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub pairs: bool,
}

impl TextSubject {
    /// Of a tokenizer.
    pub fn of(tokenizer: &Tokenizer) -> Self {
        let (vocab_size, kind) = (tokenizer.vocab_size(), tokenizer.kind().clone());
        Self { vocab_size, tokenizer: kind, fidelity: None, pairs: false }
    }
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

    fn units(&self, is_lossless: bool) -> Vec<Unit> {
        match is_lossless {
            true => vec![Unit::BitsPerCharacter, Unit::NatsPerToken, Unit::Perplexity],
            false => vec![Unit::NatsPerTokenOfTokenised, Unit::PerplexityOfTokenised],
        }
    }
}

/// The text of a sample: from the first token that is no end of text, up to the first end of text after the first
/// `given` tokens, up to which something was given.
pub(in crate::model) fn text_of(tokenizer: &Tokenizer, tokens: &[u32], given: usize) -> Result<String> {
    let end = tokenizer.end_of_text();
    let start = tokens.iter().take_while(|token| Some(**token) == end).count();
    let place = first_end(tokens.iter().map(|token| Some(*token) == end), given);
    tokenizer.decode(&tokens[start..place.unwrap_or(tokens.len())], "")
}
