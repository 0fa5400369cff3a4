//! What `/v1/score` takes and answers.

use serde::{Deserialize, Serialize};
use submask::likelihood::Kind;
use submask::model::{Score, TokenScore};
use submask::order::Order;
use submask::sampler::RevealUnit;
use utoipa::ToSchema;

use super::settings::EstimatorName;

/// Texts to score. Fields that are absent or null have their defaults.
#[derive(Clone, Debug, Default, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ScoreRequest {
    /// Name of the model.
    pub model: String,
    /// The texts.
    pub texts: Vec<TextField>,
    /// Whether one end of text is charged after every text.
    #[serde(default)]
    pub end: Option<bool>,
    /// Of a text longer than the model's sequences, new tokens per window, given as many before them as fit; absent: as many new
    /// ones as fit, given the last token before them.
    #[serde(default)]
    pub stride: Option<usize>,
    /// What is estimated; absent: the model's usual one.
    #[serde(default)]
    pub estimator: Option<EstimatorName>,
    /// Monte Carlo draws per sequence, or orders of the estimator `orders`; 32 unless given.
    #[serde(default)]
    pub draws: Option<usize>,
    /// Steps of the sampler, of the estimator `path`; absent: the model's.
    #[serde(default)]
    pub steps: Option<usize>,
    /// Order of generation, of the estimator `exact`: `left-to-right` unless given, `confidence`, `margin` or `entropy`.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub order: Option<Order>,
    /// What is revealed at once, of the estimators `exact` (`tokens` unless given) and `orders` (`digits` unless given).
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub unit: Option<RevealUnit>,
    /// Units revealed per network evaluation, of the estimator `exact`; 1 unless given.
    #[serde(default)]
    pub per_step: Option<usize>,
    /// Seed of the draws, 0 unless given.
    #[serde(default)]
    pub seed: Option<u64>,
    /// Whether it is told what every token adds, of the estimator `exact`.
    #[serde(default)]
    pub by_token: Option<bool>,
    /// Whether tokens that contradict a visible digit are excluded; absent: as the model says.
    #[serde(default)]
    pub carry_over: Option<bool>,
}

/// A text to score.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, ToSchema)]
#[serde(untagged, expecting = "a string, or an object of \"prompt\" and \"text\"")]
pub enum TextField {
    /// Alone.
    Text(String),
    /// After a prompt.
    Prompted(PromptedText),
}

impl TextField {
    /// Bytes that are to be encoded.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Prompted(PromptedText { prompt, text }) => prompt.len() + text.len(),
        }
    }
}

/// A text after a prompt.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PromptedText {
    /// What stands before the text, given and not charged.
    pub prompt: String,
    /// The text.
    pub text: String,
}

/// What texts cost.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct ScoreAnswer {
    /// `score`.
    pub object: &'static str,
    /// Name of the model.
    pub model: String,
    /// Seed of the draws.
    pub seed: u64,
    /// The scores, in the order of the texts.
    pub scores: Vec<ScoreValue>,
}

/// What a text costs.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct ScoreValue {
    /// −log p of the text given what stands before it, a bound of it, or a surrogate: `kind` says which.
    pub nats: f64,
    /// What the value is: `exact`, `upper_bound` or `surrogate`.
    #[schema(value_type = String)]
    pub kind: Kind,
    /// `nats`.
    pub unit: &'static str,
    /// What was computed.
    pub estimator: String,
    /// Standard error of the value over draws; 0 where nothing is drawn, null where it is not known.
    pub standard_error: Option<f64>,
    /// Tokens that are charged.
    pub tokens: u64,
    /// Characters of the text, where it decodes to itself.
    pub characters: Option<u64>,
    /// Sequences that the text took.
    pub windows: u64,
    /// What every charged token adds, where asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by_token: Option<Vec<TokenValue>>,
}

/// What a token costs.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct TokenValue {
    /// The token.
    pub token: u32,
    /// Its text.
    pub text: String,
    /// −log p given the tokens before it in the order.
    pub nats: f64,
}

impl ScoreValue {
    /// A score of the library.
    pub fn of(score: Score, by_token: bool) -> Self {
        let token = |one: TokenScore| TokenValue { token: one.token, text: one.text, nats: one.nats };
        let tokens = score.by_token.filter(|_| by_token);
        Self {
            nats: score.nats,
            kind: score.kind,
            unit: "nats",
            estimator: score.estimator,
            standard_error: score.draw_error,
            tokens: score.tokens,
            characters: score.characters,
            windows: score.windows,
            by_token: tokens.map(|tokens| tokens.into_iter().map(token).collect()),
        }
    }
}
