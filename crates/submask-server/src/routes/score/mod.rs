//! `POST /v1/score`: how probable a model finds given texts.

mod request;
mod settings;

use axum::extract::State;
use axum::response::Response;
use submask::Session;
use submask::denoiser::Wanted;
use submask::model::{Architecture, EvaluateRequest, Passage, TextLayout};

pub use request::{ScoreRequest, ScoreValue};
pub use settings::{EstimatorName, ScoreSettings, check_cost};

use super::json;
use crate::common::{blocking, check_bytes, model_of};
use crate::engine::Deadline;
use crate::error::{ApiError, ErrorBody};
use crate::extract::LargeApiJson;
use crate::sampling::refusal;
use crate::settings::ServerSettings;
use crate::state::AppState;
use request::{PromptedText, ScoreAnswer, TextField};

/// Scores texts.
#[utoipa::path(
    post,
    path = "/v1/score",
    tag = "text",
    request_body = ScoreRequest,
    responses(
        (status = 200, description = "The scores", body = ScoreAnswer),
        (status = "4XX", description = "What is wrong with the request", body = ErrorBody),
        (status = "5XX", description = "What is wrong with the server", body = ErrorBody)
    )
)]
pub async fn create(
    State(state): State<AppState>,
    LargeApiJson(request, room): LargeApiJson<ScoreRequest>,
) -> Result<Response, ApiError> {
    let deadline = Deadline::after(state.settings.timeout);
    let model = model_of(&state, &request.model, "text")?;
    if state.settings.log_texts {
        tracing::info!(texts = ?request.texts, "texts are scored");
    }
    let seed = request.seed.unwrap_or(0);
    let by_token = request.by_token.unwrap_or(false);
    let (session, own) = (model.session.clone(), state.clone());
    let prepared = move || {
        let _room = room;
        prepared(&request, &session, &own.settings)
    };
    let (evaluate, passages) = blocking(&state, prepared).await?;
    let count = passages.len();
    tracing::Span::current().record("choices", count);
    let score = move |place: usize, session: &Session, wanted: Wanted| {
        let scores = session
            .score_while(&evaluate, std::slice::from_ref(&passages[place]), wanted)
            .map_err(refusal)?;
        let score = scores.into_iter().next();
        let score = score.ok_or_else(|| ApiError::internal("a text has no score"))?;
        Ok(ScoreValue::of(score, by_token))
    };
    let scores = model.engine.score(deadline, count, score).await?;
    json(&ScoreAnswer { object: "score", model: model.name.clone(), seed, scores })
}

/// A request, checked and encoded.
fn prepared(
    request: &ScoreRequest,
    session: &Session,
    settings: &ServerSettings,
) -> Result<(EvaluateRequest, Vec<Passage>), ApiError> {
    let evaluate = ScoreSettings {
        estimator: request.estimator,
        draws: request.draws,
        steps: request.steps,
        order: request.order,
        unit: request.unit,
        per_step: request.per_step,
        seed: request.seed.unwrap_or(0),
        carry_over: request.carry_over,
    }
    .request(session, "")?;
    if request.by_token == Some(true) && !evaluate.estimator.is_by_token() {
        let message = format!(
            "by_token has no meaning with the estimator {}: a bound is no sum over tokens; exact is one",
            evaluate.estimator.name()
        );
        return Err(ApiError::invalid("by_token", message));
    }
    if request.texts.is_empty() {
        return Err(ApiError::refused("texts", "[]", "at least one text"));
    }
    let layout = layout(request, session.architecture())?;
    check_bytes(settings, "texts", request.texts.iter().map(TextField::bytes).sum())?;
    let (mut passages, mut tokens, mut evaluated) = (Vec::new(), 0, 0_u64);
    for (place, text) in request.texts.iter().enumerate() {
        let passage = passage(text, place, layout, session)?;
        tokens += passage.tokens();
        let more = session.tokens_to_evaluate(&evaluate, passage.sequences());
        evaluated = evaluated.saturating_add(more);
        // What is too much already is not encoded to its end.
        check_cost("texts", tokens, evaluated, settings)?;
        passages.push(passage);
    }
    Ok((evaluate, passages))
}

/// How texts stand in the model's sequences.
fn layout(request: &ScoreRequest, architecture: &Architecture) -> Result<TextLayout, ApiError> {
    if !architecture.config().pairs() {
        return Ok(TextLayout::Alone { end: request.end.unwrap_or(false), stride: request.stride });
    }
    let fields = [("end", request.end == Some(true)), ("stride", request.stride.is_some())];
    match fields.into_iter().find(|(_, given)| *given) {
        Some((field, _)) => {
            let message = format!(
                "{field} has no meaning with a model of pairs: a text is one sequence, and its end is always charged"
            );
            Err(ApiError::invalid(field, message))
        }
        None => Ok(TextLayout::Filled),
    }
}

fn passage(
    text: &TextField,
    place: usize,
    layout: TextLayout,
    session: &Session,
) -> Result<Passage, ApiError> {
    let (prompt, own) = match text {
        TextField::Text(text) => ("", text),
        TextField::Prompted(PromptedText { prompt, text }) => (prompt.as_str(), text),
    };
    let field = |name: &str| match (name, text) {
        ("text", TextField::Text(_)) => format!("texts[{place}]"),
        ("text" | "prompt", _) => format!("texts[{place}].{name}"),
        (name, _) => name.to_owned(),
    };
    let passage = session.architecture().passage(layout, prompt, own);
    passage.map_err(|error| refusal(error.rename_field(field)))
}
