//! A request for completions, checked and encoded.

use std::ops::Range;
use std::sync::Arc;

use submask::Session;
use submask::data::Tokenizer;
use submask::model::{Estimator, EvaluateRequest, Request, TextLayout, TextPrompt};

use super::request::{CompletionRequest, PromptText};
use super::stop::Stops;
use crate::common::{check_bytes, check_choices, check_tokens_in_all, seed};
use crate::error::ApiError;
use crate::routes::score::check_cost;
use crate::sampling::{refusal, refusal_of_logprobs};
use crate::settings::ServerSettings;

/// What is to be written.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The prompts, in order.
    pub prompts: Vec<PlannedPrompt>,
    /// Completions of each.
    pub n: usize,
    /// Seed of all draws.
    pub seed: u64,
    /// Before which texts completions end.
    pub stops: Arc<Stops>,
    /// What the library is asked for, prompt by prompt; nothing where nothing is to be written.
    pub requests: Vec<Request>,
    /// Log-probabilities with so many other tokens.
    pub logprobs: Option<usize>,
    /// Whether everything that happens to a sequence is followed, and not its end alone.
    pub follows: bool,
    /// Whether a text may lose tokens that were written, where its last ones are too much alike.
    pub may_shrink: bool,
}

/// A prompt of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedPrompt {
    /// What stands before a completion that it is repeated in; empty unless asked for.
    pub echo: String,
    /// Its tokens, and those of the suffix.
    pub tokens: usize,
    /// Where the tokens that are written stand in the sequence.
    pub hole: Range<usize>,
}

impl Plan {
    /// Checks a request and works it out.
    ///
    /// # Errors
    /// 400 and 422 naming the field.
    pub fn of(
        request: &CompletionRequest,
        session: &Session,
        settings: &ServerSettings,
    ) -> Result<Self, ApiError> {
        request.check()?;
        let (stops, n, prompts) = (Stops::new(&request.stops()?), request.n()?, request.prompts()?);
        check_choices(settings, prompts.len().saturating_mul(n))?;
        let texts = prompts.iter().map(PromptText::bytes).chain([request.suffix().map_or(0, str::len)]);
        check_bytes(settings, "prompt", texts.sum())?;
        let tokenizer = tokenizer(session)?;
        let writer = Writer { request, session, tokenizer };
        writer.check_model()?;
        let suffix =
            tokenizer.encode(request.suffix().unwrap_or_default()).map_err(|error| named("suffix", error))?;
        let seed = seed(request.seed);
        let sampled =
            Request { seed, num: n, log_probs: request.logprobs, ..request.sampling().request(session)? };
        let (mut planned, mut requests, mut tokens) = (Vec::new(), Vec::new(), 0);
        let (mut scored_tokens, mut evaluated) = (0, 0_u64);
        for (place, prompt) in prompts.iter().enumerate() {
            let given = writer.encode(prompt)?;
            let own = writer.planned(prompt, &given, &suffix)?;
            tokens = n.saturating_mul(own.hole.end + suffix.len()).saturating_add(tokens);
            check_tokens_in_all(settings, "max_tokens", tokens)?;
            planned.push(own);
            if request.scores_prompts() {
                let scored = writer.scored(&given)?;
                scored_tokens += given.len() as u64;
                evaluated = evaluated.saturating_add(scored);
            }
            if request.max_tokens() > 0 {
                let prompt = writer.digits(given, &suffix)?;
                let first_sequence = (place * n) as u64;
                requests.push(Request { prompt, first_sequence, ..sampled.clone() });
            }
        }
        requests.iter().try_for_each(|request| {
            let prepared = session.prepare(request).map(drop);
            prepared.map_err(|error| refusal_of_logprobs(error, request, session))
        })?;
        check_cost("prompt", scored_tokens, evaluated, settings)?;
        let may_shrink = requests.iter().any(|request| request.sampling.min_entropy > 0.0);
        let follows = request.stream() || request.logprobs.is_some() || !stops.is_empty();
        Ok(Self {
            prompts: planned,
            n,
            seed,
            stops: Arc::new(stops),
            requests,
            logprobs: request.logprobs,
            follows,
            may_shrink,
        })
    }
}

struct Writer<'a> {
    request: &'a CompletionRequest,
    session: &'a Session,
    tokenizer: &'a Tokenizer,
}

impl Writer<'_> {
    /// Refuses what the model cannot do.
    fn check_model(&self) -> Result<(), ApiError> {
        let several = self.session.architecture().predictive().codes().subtoken_len() > 1;
        let top = self.request.logprobs.filter(|top| *top > 0 && self.request.scores_prompts());
        if let Some(top) = top.filter(|_| self.session.is_autoregressive() && several) {
            let allowed = "0 for an autoregressive model of several sub-tokens per token, which says one after the other";
            return Err(ApiError::refused("logprobs", top, allowed));
        }
        if self.session.is_autoregressive() && self.request.suffix().is_some() {
            let message =
                "suffix has no meaning with an autoregressive model, which knows what stands before alone";
            return Err(ApiError::invalid("suffix", message));
        }
        Ok(())
    }

    fn encode(&self, prompt: &PromptText) -> Result<Vec<u32>, ApiError> {
        match prompt {
            PromptText::Text(text) => self.tokenizer.encode(text).map_err(|error| named("prompt", error)),
            PromptText::Tokens(tokens) => {
                check_tokens("prompt", tokens, self.tokenizer.vocab_size())?;
                Ok(tokens.clone())
            }
        }
    }

    /// On how many tokens the network is run to score a prompt.
    fn scored(&self, prompt: &[u32]) -> Result<u64, ApiError> {
        let architecture = self.session.architecture();
        let passage = architecture.passage_of_tokens(TextLayout::default(), &[], prompt, false);
        let passage = passage.map_err(|error| named("prompt", error))?;
        let request = EvaluateRequest::new(Estimator::LEFT_TO_RIGHT);
        Ok(self.session.tokens_to_evaluate(&request, passage.sequences()))
    }

    /// The sequence of a prompt, whose length is checked.
    fn planned(&self, prompt: &PromptText, given: &[u32], suffix: &[u32]) -> Result<PlannedPrompt, ApiError> {
        let beginning = usize::from(self.tokenizer.end_of_text().is_some());
        let new = self.request.max_tokens();
        let start = beginning + given.len();
        let length = start.saturating_add(new).saturating_add(suffix.len());
        let longest = self.session.architecture().config().longest_text();
        if length > longest {
            let others = match (beginning, suffix.len()) {
                (0, 0) => String::new(),
                (0, behind) => format!("{behind} of the suffix and "),
                (before, 0) => format!("{before} at the beginning and "),
                (before, behind) => format!("{before} at the beginning, {behind} of the suffix and "),
            };
            let message = format!(
                "prompt has {} tokens; with {others}{new} to write (max_tokens) that is {length}, and this model takes {longest}",
                given.len()
            );
            // Whose fault it is, if one token is written at least.
            let field = if start + suffix.len() < longest { "max_tokens" } else { "prompt" };
            return Err(ApiError::too_long(field, message));
        }
        let echo = match (self.request.echo(), prompt) {
            (false, _) => String::new(),
            (true, PromptText::Text(text)) => text.clone(),
            (true, PromptText::Tokens(tokens)) => self.tokenizer.decode(tokens, "").map_err(refusal)?,
        };
        Ok(PlannedPrompt { echo, tokens: given.len() + suffix.len(), hole: start..start + new })
    }

    fn digits(&self, given: Vec<u32>, suffix: &[u32]) -> Result<Vec<Option<u32>>, ApiError> {
        let beginning = usize::from(self.tokenizer.end_of_text().is_some());
        let new = self.request.max_tokens();
        let length = beginning + given.len() + new + suffix.len();
        let prompt = TextPrompt::new().tokens(given).hole(new).tokens(suffix.to_vec());
        self.session.prompt(&prompt, Some(length)).map_err(|error| {
            let block_len = self.session.architecture().config().network.block_len();
            match error {
                submask::Error::Conflict { .. } if block_len > 0 && !suffix.is_empty() => {
                    beyond_block(block_len, length - suffix.len(), length)
                }
                error => refusal(error),
            }
        })
    }
}

/// The error of a suffix that a model with blocks does not see: the hole ends at `written`, the suffix at `length`.
fn beyond_block(block_len: usize, written: usize, length: usize) -> ApiError {
    let block = |end: usize| end.div_ceil(block_len);
    let message = format!(
        "suffix is not allowed here: this model writes blocks of {block_len} tokens from left to right, and a suffix has to \
         end in the block in which the completion ends; the completion ends in block {}, the suffix in block {}",
        block(written),
        block(length)
    );
    ApiError::invalid("suffix", message)
}

/// That a model's tokens are.
///
/// # Errors
/// 400 naming the first that is none.
fn check_tokens(field: &str, tokens: &[u32], vocab_size: usize) -> Result<(), ApiError> {
    match tokens.iter().find(|token| **token as usize >= vocab_size) {
        Some(token) => Err(ApiError::refused(
            field,
            format!("token {token}"),
            format!("tokens from 0 to {}", vocab_size - 1),
        )),
        None => Ok(()),
    }
}

/// The tokenizer of a model of text.
///
/// # Errors
/// 400 for other models.
pub fn tokenizer(session: &Session) -> Result<&Tokenizer, ApiError> {
    let refused = || ApiError::invalid("model", "the model is no model of text");
    session.architecture().tokenizer().ok_or_else(refused)
}

/// What the library says of a text, with the field that it stands in.
pub fn named(field: &str, error: submask::Error) -> ApiError {
    refusal(error.rename_field(|_| field.to_owned()))
}
