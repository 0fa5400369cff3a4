//! Prompts of which nothing is written: they are given back, with what each of their tokens costs where that is asked for.

use axum::response::Response;
use submask::Session;
use submask::denoiser::Wanted;
use submask::model::TextLayout;
use submask::sampler::TokenLogProb;

use super::answer::{CompletionChoice, FinishReason, Logprobs};
use super::listener::Head;
use super::logprobs::TokenLog;
use super::plan::{Plan, named, tokenizer};
use super::request::{CompletionRequest, PromptText};
use crate::common::Usage;
use crate::engine::Deadline;
use crate::error::ApiError;
use crate::routes::json;
use crate::sse;
use crate::state::{AppState, ServedModel};

/// Answers with the prompts themselves.
pub async fn answer(
    state: &AppState,
    model: &ServedModel,
    request: &CompletionRequest,
    plan: Plan,
    head: Head,
    deadline: Deadline,
) -> Result<Response, ApiError> {
    let given = plan.prompts.iter().map(|prompt| prompt.tokens as u64).sum();
    let usage = Usage::given(given);
    let logprobs = match request.logprobs {
        None => vec![None; plan.prompts.len()],
        Some(top) => {
            let prompts = request.prompts()?;
            let scored = move |place: usize, session: &Session, wanted: Wanted| {
                scored(&prompts[place], top, session, wanted).map(Some)
            };
            model.engine.score(deadline, plan.prompts.len(), scored).await?
        }
    };
    usage.record(&model.metrics, &tracing::Span::current());
    let choice = |index: usize| CompletionChoice {
        text: plan.prompts[index / plan.n].echo.clone(),
        index,
        logprobs: logprobs[index / plan.n].clone(),
        finish_reason: Some(FinishReason::Length),
    };
    let choices: Vec<CompletionChoice> = (0..plan.prompts.len() * plan.n).map(choice).collect();
    if !request.stream() {
        return json(&head.answer(choices, usage));
    }
    let (events, response) = sse::channel(state);
    for choice in choices {
        // Who has gone misses nothing.
        let _ = events.send(&head.chunk(vec![choice], None));
    }
    if request.include_usage() {
        let _ = events.send(&head.chunk(Vec::new(), Some(usage)));
    }
    events.done();
    Ok(response)
}

/// Log-probabilities of the tokens of a prompt, from left to right.
fn scored(prompt: &PromptText, top: usize, session: &Session, wanted: Wanted) -> Result<Logprobs, ApiError> {
    let architecture = session.architecture();
    let tokens = match prompt {
        PromptText::Text(text) => tokenizer(session)?.encode(text).map_err(|error| named("prompt", error))?,
        PromptText::Tokens(tokens) => tokens.clone(),
    };
    let passage = architecture.passage_of_tokens(TextLayout::default(), &[], &tokens, false);
    let passage = passage.map_err(|error| named("prompt", error))?;
    let scores = session.score_left_to_right(&[passage], top, wanted);
    let scores = scores.map_err(|error| named("prompt", error))?;
    let terms = scores.into_iter().flat_map(|score| score.by_token.unwrap_or_default()).enumerate();
    let told: Vec<TokenLogProb> =
        terms.map(|(token, term)| TokenLogProb { token, nats: term.nats, top: term.top }).collect();
    let mut log = TokenLog::new(architecture, top, 0);
    log.note(&told);
    Ok(log.take(&tokens, None)?)
}
