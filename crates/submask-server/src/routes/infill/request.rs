//! What `/v1/infill` takes.

use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use submask::model::TextPrompt;
use submask::order::Order;
use submask::predictive::Nucleus;
use submask::sampler::{Draw, RevealUnit, Window};
use utoipa::ToSchema;

use crate::error::ApiError;
use crate::routes::score::EstimatorName;
use crate::sampling::{CorrectorField, SamplingFields, TemperatureField};

/// A text with holes. Fields that are absent or null have their defaults; those of sampling are the model's own.
#[derive(Clone, Debug, Default, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct InfillRequest {
    /// Name of the model.
    pub model: String,
    /// A text with holes: `[[5]]` is one of five tokens, `[[*]]` one up to the end, `\[[` stands for two brackets. A text without
    /// holes is continued.
    #[serde(default)]
    pub template: Option<String>,
    /// The same piece by piece, in the place of `template`; nothing is continued unless a hole says so.
    #[serde(default)]
    pub parts: Option<Vec<PartField>>,
    /// Tokens of the whole sequence, its beginning included; absent: as many as the holes ask for, up to the model's length.
    #[serde(default)]
    pub length: Option<usize>,
    /// How many samples, 1 unless given.
    #[serde(default)]
    pub n: Option<usize>,
    /// Seed of all draws. Absent: one is drawn, and told.
    #[serde(default)]
    pub seed: Option<u64>,
    /// Number of the first sample under the seed, 0 unless given.
    #[serde(default)]
    pub first_sequence: Option<u64>,
    /// Order in which masked units are revealed: `random`, `left-to-right`, `confidence`, `margin` or `entropy`.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub order: Option<Order>,
    /// What is revealed at once: `digits` or `tokens`.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub unit: Option<RevealUnit>,
    /// Steps of the time grid; 0 is first-hitting, without a grid.
    #[serde(default)]
    pub steps: Option<usize>,
    /// Units revealed per network evaluation, with an order other than `random`.
    #[serde(default)]
    pub per_step: Option<usize>,
    /// How the digits of a token are drawn: `joint` or `marginal`.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub draw: Option<Draw>,
    /// Temperature.
    #[serde(default)]
    pub temperature: Option<TemperatureField>,
    /// Mass of the most probable tokens that are kept, in (0, 1].
    #[serde(default)]
    pub top_p: Option<f64>,
    /// Most probable tokens that are kept; 0 keeps all.
    #[serde(default)]
    pub top_k: Option<usize>,
    /// Whether the token with which the sum crosses `top_p` is kept: `inclusive` or `exclusive`.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub nucleus: Option<Nucleus>,
    /// Warp [a, n, c] of the time grid.
    #[serde(default)]
    pub warp: Option<[f64; 3]>,
    /// Corrector.
    #[serde(default)]
    pub corrector: Option<CorrectorField>,
    /// Whether tokens that contradict a visible digit are excluded.
    #[serde(default)]
    pub carry_over: Option<bool>,
    /// What a model with blocks reads beyond its length: `cached` or `recomputed`.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub window: Option<Window>,
    /// Least entropy of the last tokens in nats, below which a text of a model with blocks stops; 0 is off.
    #[serde(default)]
    pub min_entropy: Option<f64>,
    /// How many last tokens that are.
    #[serde(default)]
    pub entropy_window: Option<usize>,
    /// Whether log-probabilities of the tokens that are written are told.
    #[serde(default)]
    pub logprobs: Option<bool>,
    /// Whether it is estimated how probable every finished text is: true or false, or an object that says how.
    #[serde(default)]
    pub score: Option<ScoreChoice>,
    /// Whether everything that happens is sent as it happens.
    #[serde(default)]
    pub stream: Option<bool>,
}

/// A piece of a text with holes.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "lowercase", try_from = "PartFields")]
pub enum PartField {
    /// A text that is given, whatever it says.
    Text(String),
    /// Tokens that are given.
    Tokens(Vec<u32>),
    /// A hole.
    Hole(HoleField),
    /// Tokens of which some digits are given, null standing for the others.
    Digits(Vec<Vec<Option<u32>>>),
}

/// The fields of a piece, of which one is to be there.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PartFields {
    text: Option<String>,
    tokens: Option<Vec<u32>>,
    hole: Option<HoleField>,
    digits: Option<Vec<Vec<Option<u32>>>>,
}

impl TryFrom<PartFields> for PartField {
    type Error = &'static str;

    fn try_from(fields: PartFields) -> Result<Self, Self::Error> {
        match fields {
            PartFields { text: Some(text), tokens: None, hole: None, digits: None } => Ok(Self::Text(text)),
            PartFields { text: None, tokens: Some(tokens), hole: None, digits: None } => {
                Ok(Self::Tokens(tokens))
            }
            PartFields { text: None, tokens: None, hole: Some(hole), digits: None } => Ok(Self::Hole(hole)),
            PartFields { text: None, tokens: None, hole: None, digits: Some(digits) } => {
                Ok(Self::Digits(digits))
            }
            _ => Err("an object with one of `text`, `tokens`, `hole` and `digits`"),
        }
    }
}

/// How large a hole is.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize, ToSchema)]
#[serde(untagged, expecting = "a number of tokens, or \"rest\"")]
pub enum HoleField {
    /// So many tokens.
    Size(usize),
    /// Up to the end of the sequence.
    Rest(Rest),
}

/// The word `rest`.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Rest {
    /// `rest`.
    Rest,
}

/// How the likelihood of a finished text is estimated.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ScoreField {
    /// What is estimated; absent: the model's usual one.
    #[serde(default)]
    pub estimator: Option<EstimatorName>,
    /// Monte Carlo draws per sequence, 32 unless given.
    #[serde(default)]
    pub draws: Option<usize>,
}

/// Whether the likelihood of a finished text is estimated, and how.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[serde(untagged)]
pub enum ScoreChoice {
    /// As usual, or not at all.
    Wanted(bool),
    /// In this way.
    How(ScoreField),
}

impl ScoreChoice {
    /// How, where it is estimated.
    pub fn how(&self) -> Option<ScoreField> {
        match self {
            Self::Wanted(is_wanted) => is_wanted.then(ScoreField::default),
            Self::How(field) => Some(field.clone()),
        }
    }
}

/// By hand, so that errors name the field inside.
impl<'de> Deserialize<'de> for ScoreChoice {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ScoreVisitor)
    }
}

struct ScoreVisitor;

impl<'de> Visitor<'de> for ScoreVisitor {
    type Value = ScoreChoice;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("true, false, or an object of estimator and draws")
    }

    fn visit_bool<E>(self, is_wanted: bool) -> Result<ScoreChoice, E> {
        Ok(ScoreChoice::Wanted(is_wanted))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<ScoreChoice, A::Error> {
        ScoreField::deserialize(MapAccessDeserializer::new(map)).map(ScoreChoice::How)
    }
}

impl InfillRequest {
    /// The name of the field that says what is given.
    pub fn prompt_field(&self) -> &'static str {
        if self.parts.is_some() { "parts" } else { "template" }
    }

    /// Bytes that are to be encoded.
    pub fn bytes(&self) -> usize {
        let of_part = |part: &PartField| match part {
            PartField::Text(text) => text.len(),
            PartField::Tokens(_) | PartField::Hole(_) | PartField::Digits(_) => 0,
        };
        let parts = self.parts.iter().flatten().map(of_part);
        parts.chain(self.template.as_ref().map(String::len)).sum()
    }

    /// What is given; without any field one hole of the model's length.
    ///
    /// # Errors
    /// 400 naming the field.
    pub fn prompt(&self) -> Result<TextPrompt, ApiError> {
        match (&self.template, &self.parts) {
            (Some(_), Some(_)) => Err(ApiError::invalid(
                "parts",
                "parts and template cannot both be given: they say the same in two ways",
            )),
            (Some(template), None) => template.parse().map_err(|error| self.refused(error)),
            (None, Some(parts)) => parts.iter().enumerate().try_fold(TextPrompt::new(), with_part),
            (None, None) => Ok(TextPrompt::default()),
        }
    }

    /// What the library says of a prompt.
    pub fn refused(&self, error: submask::Error) -> ApiError {
        let field = self.prompt_field();
        match error {
            submask::Error::Conflict { field: of, problem } if of == "prompt" => {
                ApiError::invalid(field, format!("{field} {problem}"))
            }
            submask::Error::Invalid { field: ref of, .. }
                if of.starts_with("prompt") || of.starts_with("digits") =>
            {
                ApiError::invalid(field, format!("{field}: {error}"))
            }
            submask::Error::InvalidCode { .. } => ApiError::invalid(field, format!("{field}: {error}")),
            error => crate::sampling::refusal(error),
        }
    }

    /// How it is sampled.
    pub fn sampling(&self) -> SamplingFields {
        SamplingFields {
            order: self.order,
            unit: self.unit,
            steps: self.steps,
            per_step: self.per_step,
            draw: self.draw,
            temperature: self.temperature,
            top_p: self.top_p,
            top_k: self.top_k,
            nucleus: self.nucleus,
            warp: self.warp,
            corrector: self.corrector,
            carry_over: self.carry_over,
            window: self.window,
            min_entropy: self.min_entropy,
            entropy_window: self.entropy_window,
            ..SamplingFields::default()
        }
    }
}

fn with_part(prompt: TextPrompt, (place, part): (usize, &PartField)) -> Result<TextPrompt, ApiError> {
    match part {
        PartField::Text(text) => Ok(prompt.text(text.as_str())),
        PartField::Tokens(tokens) => Ok(prompt.tokens(tokens.clone())),
        PartField::Digits(digits) => Ok(prompt.digits(digits.clone())),
        PartField::Hole(HoleField::Size(0)) => {
            Err(ApiError::refused(&format!("parts[{place}].hole"), 0, "at least 1 token, or \"rest\""))
        }
        PartField::Hole(HoleField::Size(size)) => Ok(prompt.hole(*size)),
        PartField::Hole(HoleField::Rest(_)) => Ok(prompt.rest()),
    }
}
