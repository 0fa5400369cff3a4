//! `POST /v1/completions`: texts continued, as OpenAI's clients ask for it.
//!
//! A completion is a hole of `max_tokens` behind the prompt, before the suffix where there is one. Choice i of prompt p has the
//! number p·n + i under the seed, so that it is the text that `submask sample` writes of it.

mod answer;
mod choice;
mod given;
mod listener;
mod logprobs;
mod plan;
mod request;
mod stop;

use axum::extract::State;
use axum::response::Response;
use tracing::Span;

pub use answer::FinishReason;
use answer::{CompletionAnswer, CompletionChunk};

pub use request::CompletionRequest;

use super::json;
use crate::common::{blocking, model_of};
use crate::engine::{Deadline, Job, Listen, answer};
use crate::error::{ApiError, ErrorBody};
use crate::extract::ApiJson;
use crate::sse;
use crate::state::{AppState, ServedModel};
use listener::{Client, CompletionListener, Head};
use plan::Plan;

/// Continues texts.
#[utoipa::path(
    post,
    path = "/v1/completions",
    tag = "text",
    request_body = CompletionRequest,
    responses(
        (status = 200, description = "The completions; with `stream` in chunks", content(
            (CompletionAnswer = "application/json"), (CompletionChunk = "text/event-stream"))),
        (status = "4XX", description = "What is wrong with the request", body = ErrorBody),
        (status = "5XX", description = "What is wrong with the server", body = ErrorBody)
    )
)]
pub async fn create(
    State(state): State<AppState>,
    ApiJson(request, _room): ApiJson<CompletionRequest>,
) -> Result<Response, ApiError> {
    let deadline = Deadline::after(state.settings.timeout);
    let model = model_of(&state, &request.model, "text")?;
    if state.settings.log_texts {
        tracing::info!(prompt = ?request.prompt, suffix = ?request.suffix, "completions are asked for");
    }
    let (session, own) = (model.session.clone(), state.clone());
    let (request, plan) = blocking(&state, move || {
        let plan = Plan::of(&request, &session, &own.settings)?;
        Ok((request, plan))
    })
    .await?;
    Span::current().record("choices", plan.prompts.len() * plan.n);
    let head = Head::new(&model.name, plan.seed);
    if plan.requests.is_empty() {
        return given::answer(&state, &model, &request, plan, head, deadline).await;
    }
    match request.stream() {
        true => {
            let (events, response) = sse::channel(&state);
            let client = Client::Stream { events, include_usage: request.include_usage() };
            submit(&model, plan, head, client, deadline)?;
            Ok(response)
        }
        false => {
            let (answerer, whole) = answer(deadline);
            submit(&model, plan, head, Client::Answer(answerer), deadline)?;
            json(&whole.wait().await?)
        }
    }
}

fn submit(
    model: &ServedModel,
    mut plan: Plan,
    head: Head,
    client: Client,
    deadline: Deadline,
) -> Result<(), ApiError> {
    let requests = std::mem::take(&mut plan.requests);
    let (metrics, span) = (model.metrics.clone(), Span::current());
    let listen: Listen = Box::new(move |session| {
        match CompletionListener::new(&plan, session, head, client, (metrics, span)) {
            Ok(listener) => Some(Box::new(listener)),
            Err((error, mut client)) => {
                client.fail(error);
                None
            }
        }
    });
    model.engine.submit(Job { requests, deadline, listen })
}
