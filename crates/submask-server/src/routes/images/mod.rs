//! `POST /v1/images`: images drawn, and filled in where a mask says so.

mod listener;
mod plan;
mod png;
mod request;

use axum::extract::State;
use axum::response::Response;
use tracing::Span;

pub use request::ImagesRequest;
use request::{ImageEvent, ImagesAnswer};

use super::json;
use crate::common::{blocking, model_of, now};
use crate::engine::{Deadline, Job, Listen, answer};
use crate::error::{ApiError, ErrorBody};
use crate::extract::LargeApiJson;
use crate::sse;
use crate::state::AppState;
use listener::{Client, Drawn, ImageListener, pictures};
use plan::Plan;

/// Draws images.
#[utoipa::path(
    post,
    path = "/v1/images",
    tag = "images",
    request_body = ImagesRequest,
    responses(
        (status = 200, description = "The images; with `stream` as events", content(
            (ImagesAnswer = "application/json"), (ImageEvent = "text/event-stream"))),
        (status = "4XX", description = "What is wrong with the request", body = ErrorBody),
        (status = "5XX", description = "What is wrong with the server", body = ErrorBody)
    )
)]
pub async fn create(
    State(state): State<AppState>,
    LargeApiJson(request, room): LargeApiJson<ImagesRequest>,
) -> Result<Response, ApiError> {
    let deadline = Deadline::after(state.settings.timeout);
    let model = model_of(&state, &request.model, "images")?;
    let (session, own) = (model.session.clone(), state.clone());
    let planned = move || {
        let _room = room;
        Plan::of(&request, &session, &own.settings)
    };
    let plan = blocking(&state, planned).await?;
    Span::current().record("choices", plan.request.num);
    let (requests, told) = (vec![plan.request.clone()], (model.metrics.clone(), Span::current()));
    if plan.stream {
        let (events, response) = sse::channel(&state);
        let listen: Listen = Box::new(move |session| {
            Some(Box::new(ImageListener::new(plan, session, Client::Stream(events), told)))
        });
        model.engine.submit(Job { requests, deadline, listen })?;
        return Ok(response);
    }
    let (answerer, whole) = answer(deadline);
    let own_plan = plan.clone();
    let listen: Listen = Box::new(move |session| {
        Some(Box::new(ImageListener::new(plan, session, Client::Answer(answerer), told)))
    });
    model.engine.submit(Job { requests, deadline, listen })?;
    let Drawn { tokens, usage } = whole.wait().await?;
    let (session, seed) = (model.session.clone(), own_plan.request.seed);
    let data = blocking(&state, move || pictures(&own_plan, &session, &tokens)).await?;
    json(&ImagesAnswer { created: now(), model: model.name.clone(), seed, data, usage })
}
