//! What `/v1/infill` answers.

use serde::Serialize;
use utoipa::ToSchema;

use crate::common::Usage;
use crate::routes::completions::FinishReason;
use crate::routes::score::ScoreValue;

/// Texts whose holes are filled.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct InfillAnswer {
    /// A name of this answer.
    pub id: String,
    /// `infill`.
    pub object: &'static str,
    /// When it was begun, in seconds of Unix.
    pub created: u64,
    /// Name of the model.
    pub model: String,
    /// Seed of all draws.
    pub seed: u64,
    /// The texts.
    pub choices: Vec<InfillChoice>,
    /// What they cost.
    pub usage: Usage,
}

/// A text whose holes are filled.
#[derive(Clone, Debug, Default, PartialEq, Serialize, ToSchema)]
pub struct InfillChoice {
    /// Its number.
    pub index: usize,
    /// The text.
    pub text: String,
    /// All tokens of its sequence.
    pub tokens: Vec<u32>,
    /// The text of each.
    pub pieces: Vec<String>,
    /// Which of them were given whole.
    pub given: Vec<bool>,
    /// Why the text ends.
    pub finish_reason: Option<FinishReason>,
    /// Where asked for, of every token log p in nats given everything that was known before it was written; null where nothing of
    /// it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub logprobs: Option<Vec<Option<f64>>>,
    /// Where asked for, how probable the whole text is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub score: Option<ScoreValue>,
}

/// An event of a stream. Applying the digits of all `revealed` in order to those of `started` gives the digits of the finished
/// tokens, and of a text that ended early masked ones behind them.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum InfillEvent {
    /// A sample begins.
    Started {
        /// Its number.
        choice: usize,
        /// Of every token its digits, null where one is masked.
        digits: Vec<Vec<Option<u32>>>,
        /// Of every token its text, null where it is not known.
        pieces: Vec<Option<String>>,
        /// Which tokens are given whole.
        given: Vec<bool>,
        /// Most network evaluations that it takes.
        evaluations_at_most: u64,
    },
    /// A network evaluation revealed digits.
    Revealed {
        /// Number of the sample.
        choice: usize,
        /// Number of the evaluation, from 1.
        evaluation: u64,
        /// Step on the grid, from 0; without a grid the number of the evaluation.
        step: usize,
        /// Time t, from 1 to 0.
        time: f64,
        /// [token, place, digit] of every digit that changed, null where it is masked again.
        digits: Vec<(usize, usize, Option<u32>)>,
        /// [token, text] of the changed tokens that are known now.
        pieces: Vec<(usize, String)>,
        /// [token, number of tokens that agree with the known digits] of the changed tokens that are not known.
        possible: Vec<(usize, usize)>,
        /// Tokens from the first on that nothing changes any more.
        settled: usize,
    },
    /// A sample is complete.
    Finished {
        /// Its number.
        choice: usize,
        /// The sample.
        #[serde(flatten)]
        sample: InfillChoice,
        /// What it cost.
        usage: Usage,
    },
    /// How probable the text of a sample is.
    Scored {
        /// Its number.
        choice: usize,
        /// The score; null for a text without tokens.
        score: Option<ScoreValue>,
    },
    /// All samples are complete.
    Done {
        /// Seed of all draws.
        seed: u64,
        /// What they cost together.
        usage: Usage,
    },
}
