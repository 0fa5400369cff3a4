//! What `/v1/completions` takes.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use submask::order::Order;
use submask::predictive::Nucleus;
use submask::sampler::{RevealUnit, Window};
use utoipa::ToSchema;

use crate::error::ApiError;
use crate::sampling::{SamplingFields, TemperatureField};

/// Most strings of `stop`.
const MAX_STOPS: usize = 4;
/// Most bytes of each.
const MAX_STOP: usize = 1 << 10;
/// Most alternatives that `logprobs` may ask for.
const MAX_LOGPROBS: usize = 5;
/// What `max_tokens` is where it is absent.
const MAX_TOKENS: usize = 16;

/// Texts to be completed. Fields that are absent or null have their defaults; those of sampling are the model's own.
#[derive(Clone, Debug, Default, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CompletionRequest {
    /// Name of the model.
    pub model: String,
    /// What is continued: a text, several, or tokens of one or several; absent: nothing.
    #[serde(default)]
    pub prompt: Option<PromptField>,
    /// Text behind the completion, which fills what is between.
    #[serde(default)]
    pub suffix: Option<String>,
    /// Tokens that are written at most, 16 unless given; 0 with `echo` alone.
    #[serde(default)]
    pub max_tokens: Option<usize>,
    /// Temperature of at least 0; 0 takes the most probable token.
    #[serde(default)]
    pub temperature: Option<f64>,
    /// Mass of the most probable tokens that are kept, in (0, 1].
    #[serde(default)]
    pub top_p: Option<f64>,
    /// Completions of every prompt, 1 unless given.
    #[serde(default)]
    pub n: Option<usize>,
    /// Seed of all draws. Absent: one is drawn, and told.
    #[serde(default)]
    pub seed: Option<u64>,
    /// A text, or up to four, before which a completion ends, of at most 1,024 bytes each.
    #[serde(default)]
    pub stop: Option<StopField>,
    /// Whether the prompt stands before the completion.
    #[serde(default)]
    pub echo: Option<bool>,
    /// Whether the text is sent while it is written.
    #[serde(default)]
    pub stream: Option<bool>,
    /// What a stream has besides.
    #[serde(default)]
    pub stream_options: Option<StreamOptions>,
    /// Log-probabilities of tokens, with so many of the most probable ones, 0 to 5.
    #[serde(default)]
    pub logprobs: Option<usize>,
    /// Taken, and of no influence.
    #[serde(default)]
    pub user: Option<String>,
    /// Not supported but for 1.
    #[serde(default)]
    pub best_of: Option<f64>,
    /// Not supported but for 0.
    #[serde(default)]
    pub presence_penalty: Option<f64>,
    /// Not supported but for 0.
    #[serde(default)]
    pub frequency_penalty: Option<f64>,
    /// Not supported but empty.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    pub logit_bias: Option<Map<String, Value>>,
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
    /// Most probable tokens that are kept; 0 keeps all.
    #[serde(default)]
    pub top_k: Option<usize>,
    /// Whether the token with which the sum crosses `top_p` is kept: `inclusive` or `exclusive`.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub nucleus: Option<Nucleus>,
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
}

/// What is continued.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, ToSchema)]
#[serde(untagged, expecting = "a string, a list of strings, a list of tokens, or a list of lists of tokens")]
pub enum PromptField {
    /// A text.
    Text(String),
    /// Texts.
    Texts(Vec<String>),
    /// The tokens of a text.
    Tokens(Vec<u32>),
    /// The tokens of texts.
    TokenLists(Vec<Vec<u32>>),
}

/// Where completions end.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, ToSchema)]
#[serde(untagged, expecting = "a string, or a list of up to 4 strings")]
pub enum StopField {
    /// Before this text.
    One(String),
    /// Before any of these.
    Several(Vec<String>),
}

/// What a stream has besides texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StreamOptions {
    /// Whether a last chunk without choices tells the usage.
    #[serde(default)]
    pub include_usage: Option<bool>,
}

/// A prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PromptText {
    /// As text.
    Text(String),
    /// As tokens.
    Tokens(Vec<u32>),
}

impl PromptText {
    /// Bytes that are to be encoded.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Tokens(_) => 0,
        }
    }
}

impl CompletionRequest {
    /// The prompts, in order; at least one.
    ///
    /// # Errors
    /// 400 for an empty list.
    pub fn prompts(&self) -> Result<Vec<PromptText>, ApiError> {
        let prompts = match self.prompt.clone() {
            None => vec![PromptText::Text(String::new())],
            Some(PromptField::Text(text)) => vec![PromptText::Text(text)],
            Some(PromptField::Tokens(tokens)) => vec![PromptText::Tokens(tokens)],
            Some(PromptField::Texts(texts)) => texts.into_iter().map(PromptText::Text).collect(),
            Some(PromptField::TokenLists(lists)) => lists.into_iter().map(PromptText::Tokens).collect(),
        };
        match prompts.is_empty() {
            true => {
                Err(ApiError::refused("prompt", "[]", "a text, tokens, or a list with at least one of them"))
            }
            false => Ok(prompts),
        }
    }

    /// Completions of every prompt.
    ///
    /// # Errors
    /// 400 for none.
    pub fn n(&self) -> Result<usize, ApiError> {
        match self.n.unwrap_or(1) {
            0 => Err(ApiError::refused("n", 0, "at least 1")),
            n => Ok(n),
        }
    }

    /// Tokens that are written at most.
    pub fn max_tokens(&self) -> usize {
        self.max_tokens.unwrap_or(MAX_TOKENS)
    }

    /// What stands behind the completion; an empty text is none.
    pub fn suffix(&self) -> Option<&str> {
        self.suffix.as_deref().filter(|suffix| !suffix.is_empty())
    }

    /// Whether the prompt stands before the completion.
    pub fn echo(&self) -> bool {
        self.echo.unwrap_or(false)
    }

    /// Whether log-probabilities of the prompts are told, of which nothing is written.
    pub fn scores_prompts(&self) -> bool {
        self.max_tokens() == 0 && self.logprobs.is_some()
    }

    /// Whether it is a stream.
    pub fn stream(&self) -> bool {
        self.stream.unwrap_or(false)
    }

    /// Whether the usage is the last chunk of a stream.
    pub fn include_usage(&self) -> bool {
        self.stream_options.and_then(|options| options.include_usage).unwrap_or(false)
    }

    /// The texts before which completions end.
    ///
    /// # Errors
    /// 400 for more than four, for an empty one, and for one that is too long.
    pub fn stops(&self) -> Result<Vec<String>, ApiError> {
        let stops = match self.stop.clone() {
            None => Vec::new(),
            Some(StopField::One(stop)) => vec![stop],
            Some(StopField::Several(stops)) => stops,
        };
        if stops.len() > MAX_STOPS {
            let given = format!("{} strings", stops.len());
            return Err(ApiError::refused("stop", given, format!("at most {MAX_STOPS}")));
        }
        if stops.iter().any(String::is_empty) {
            return Err(ApiError::refused("stop", "\"\"", "texts of at least one character"));
        }
        match stops.iter().map(String::len).find(|bytes| *bytes > MAX_STOP) {
            Some(bytes) => {
                let given = format!("a text of {bytes} bytes");
                Err(ApiError::refused("stop", given, format!("at most {MAX_STOP} bytes each")))
            }
            None => Ok(stops),
        }
    }

    /// Refuses what cannot be honoured, and fields that do not go together.
    ///
    /// # Errors
    /// 400 naming the field.
    pub fn check(&self) -> Result<(), ApiError> {
        self.check_unsupported()?;
        if self.include_usage() && !self.stream() {
            return Err(ApiError::invalid(
                "stream_options",
                "stream_options.include_usage = true has a meaning with stream = true only; other answers always tell the usage",
            ));
        }
        if let Some(logprobs) = self.logprobs.filter(|logprobs| *logprobs > MAX_LOGPROBS) {
            return Err(ApiError::refused("logprobs", logprobs, format!("0 to {MAX_LOGPROBS}")));
        }
        if self.max_tokens() == 0 && !self.echo() {
            return Err(ApiError::refused("max_tokens", 0, "at least 1, or 0 with echo = true"));
        }
        if self.max_tokens() == 0 && self.suffix().is_some() {
            return Err(ApiError::invalid(
                "suffix",
                "suffix has no meaning with max_tokens = 0: nothing is written before it",
            ));
        }
        if self.max_tokens() > 0 && self.echo() && self.logprobs.is_some() {
            let message = "logprobs with echo = true are those of the prompt and need max_tokens = 0; /v1/score tells what any text costs";
            return Err(ApiError::invalid("logprobs", message));
        }
        Ok(())
    }

    /// Fields that other servers honour.
    fn check_unsupported(&self) -> Result<(), ApiError> {
        if let Some(best_of) = self.best_of.filter(|best_of| *best_of != 1.0) {
            return Err(ApiError::unsupported("best_of", best_of, "1, or left out"));
        }
        let penalties =
            [("presence_penalty", self.presence_penalty), ("frequency_penalty", self.frequency_penalty)];
        if let Some((field, Some(given))) =
            penalties.into_iter().find(|(_, given)| given.is_some_and(|given| given != 0.0))
        {
            return Err(ApiError::unsupported(field, given, "0, or left out"));
        }
        match &self.logit_bias {
            Some(bias) if !bias.is_empty() => {
                let given = format!("an object of {} fields", bias.len());
                Err(ApiError::unsupported("logit_bias", given, "{}, or left out"))
            }
            _ => Ok(()),
        }
    }

    /// How it is sampled.
    pub fn sampling(&self) -> SamplingFields {
        SamplingFields {
            order: self.order,
            unit: self.unit,
            steps: self.steps,
            per_step: self.per_step,
            temperature: self.temperature.map(TemperatureField::Constant),
            top_p: self.top_p,
            top_k: self.top_k,
            nucleus: self.nucleus,
            carry_over: self.carry_over,
            window: self.window,
            min_entropy: self.min_entropy,
            entropy_window: self.entropy_window,
            ..SamplingFields::default()
        }
    }
}
