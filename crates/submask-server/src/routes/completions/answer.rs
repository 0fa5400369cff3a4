//! What `/v1/completions` answers.

use std::collections::BTreeMap;

use serde::Serialize;
use utoipa::ToSchema;

use crate::common::Usage;

/// Completions.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct CompletionAnswer {
    /// A name of this answer.
    pub id: String,
    /// `text_completion`.
    pub object: &'static str,
    /// When it was begun, in seconds of Unix.
    pub created: u64,
    /// Name of the model.
    pub model: String,
    /// Seed of all draws.
    pub seed: u64,
    /// The completions; choice i of prompt p has the index p·n + i, which is its number under the seed.
    pub choices: Vec<CompletionChoice>,
    /// What they cost.
    pub usage: Usage,
}

/// A piece of a stream of completions.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct CompletionChunk {
    /// A name of the answer, the same in all chunks.
    pub id: String,
    /// `text_completion`.
    pub object: &'static str,
    /// When the answer was begun, in seconds of Unix.
    pub created: u64,
    /// Name of the model.
    pub model: String,
    /// Seed of all draws.
    pub seed: u64,
    /// The completion of which something is new, with that alone; none in the chunk that tells the usage.
    pub choices: Vec<CompletionChoice>,
    /// What the completions cost, in the last chunk where that was asked for.
    pub usage: Option<Usage>,
}

/// A completion.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct CompletionChoice {
    /// The text.
    pub text: String,
    /// Its number.
    pub index: usize,
    /// Log-probabilities of its tokens, where asked for.
    pub logprobs: Option<Logprobs>,
    /// Why it ends; null in a stream as long as it does not.
    pub finish_reason: Option<FinishReason>,
}

/// Why a text ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum FinishReason {
    /// At its end, or before a text of `stop`.
    Stop,
    /// At the number of tokens that was asked for.
    Length,
}

/// Log-probabilities of tokens, in nats.
#[derive(Clone, Debug, Default, PartialEq, Serialize, ToSchema)]
pub struct Logprobs {
    /// The tokens as texts.
    pub tokens: Vec<String>,
    /// Of each, log p given everything that was known before it was written.
    pub token_logprobs: Vec<f64>,
    /// Of each, the most probable tokens in its place, and the token itself; null where none were asked for.
    pub top_logprobs: Option<Vec<BTreeMap<String, f64>>>,
    /// Characters of the text before each.
    pub text_offset: Vec<usize>,
}

impl Logprobs {
    /// Adds those of the tokens that follow.
    pub fn append(&mut self, other: Self) {
        self.tokens.extend(other.tokens);
        self.token_logprobs.extend(other.token_logprobs);
        self.text_offset.extend(other.text_offset);
        if let (Some(all), Some(new)) = (&mut self.top_logprobs, other.top_logprobs) {
            all.extend(new);
        }
    }
}
