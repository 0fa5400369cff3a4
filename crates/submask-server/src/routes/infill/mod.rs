//! `POST /v1/infill`: texts with holes, filled while the client watches.

mod answer;
mod listener;
mod plan;
mod request;
mod sample;

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use submask::Session;
use submask::data::PairSequence;
use submask::denoiser::Wanted;
use submask::model::{Architecture, EvaluateRequest, Passage, TextLayout};
use tracing::{Instrument, Span};

use answer::{InfillAnswer, InfillChoice, InfillEvent};
pub(super) use plan::{check_numbers, evaluations_at_most};
pub use request::InfillRequest;

use super::json;
use crate::common::{blocking, id, model_of, now};
use crate::engine::{Answer, Deadline, Job, Listen, answer};
use crate::error::{ApiError, ErrorBody};
use crate::extract::ApiJson;
use crate::routes::score::ScoreValue;
use crate::sse::{self, EventSender};
use crate::state::{AppState, ServedModel};
use listener::{Filled, InfillListener};
use plan::Plan;
use sample::Text;

/// Fills holes of texts.
#[utoipa::path(
    post,
    path = "/v1/infill",
    tag = "text",
    request_body = InfillRequest,
    responses(
        (status = 200, description = "The texts; with `stream` as events", content(
            (InfillAnswer = "application/json"), (InfillEvent = "text/event-stream"))),
        (status = "4XX", description = "What is wrong with the request", body = ErrorBody),
        (status = "5XX", description = "What is wrong with the server", body = ErrorBody)
    )
)]
pub async fn create(
    State(state): State<AppState>,
    ApiJson(request, room): ApiJson<InfillRequest>,
) -> Result<Response, ApiError> {
    let deadline = Deadline::after(state.settings.timeout);
    let model = model_of(&state, &request.model, "text")?;
    if state.settings.log_texts {
        tracing::info!(template = ?request.template, parts = ?request.parts, "texts with holes are asked for");
    }
    let (session, own) = (model.session.clone(), state.clone());
    let planned = move || {
        let _room = room;
        Plan::of(&request, &session, &own.settings)
    };
    let plan = blocking(&state, planned).await?;
    Span::current().record("choices", plan.request.num);
    let (answerer, whole) = answer(deadline);
    let (stream, response) = match plan.stream {
        true => {
            let (events, response) = sse::channel(&state);
            (Some(events), Some(response))
        }
        false => (None, None),
    };
    let filling = Filling {
        model: Arc::clone(&model),
        score: plan.score,
        seed: plan.request.seed,
        deadline,
        given: plan.given.clone(),
    };
    let (requests, events) = (vec![plan.request.clone()], stream.clone());
    let listen: Listen =
        Box::new(move |session| Some(Box::new(InfillListener::new(&plan, session, events, answerer))));
    model.engine.submit(Job { requests, deadline, listen })?;
    let (Some(events), Some(response)) = (stream, response) else {
        return filling.answer(whole).await;
    };
    tokio::spawn(async move { filling.stream(whole, &events).await }.instrument(Span::current()));
    Ok(response)
}

/// A request whose samples are on their way.
struct Filling {
    model: Arc<ServedModel>,
    score: Option<EvaluateRequest>,
    seed: u64,
    deadline: Deadline,
    given: Vec<bool>,
}

impl Filling {
    /// The whole answer.
    async fn answer(self, whole: Answer<Filled>) -> Result<Response, ApiError> {
        let Filled { mut choices, usage } = whole.wait().await?;
        usage.record(&self.model.metrics, &Span::current());
        if self.score.is_some() {
            let scores = self.scores(&choices).await?;
            choices.iter_mut().zip(scores).for_each(|(choice, score)| choice.score = score);
        }
        json(&InfillAnswer {
            id: id("infill"),
            object: "infill",
            created: now(),
            model: self.model.name.clone(),
            seed: self.seed,
            choices,
            usage,
        })
    }

    /// Ends a stream whose events the listener sends: with scores where asked for.
    async fn stream(self, whole: Answer<Filled>, events: &EventSender) {
        let ended = async {
            let Filled { choices, usage } = whole.wait().await?;
            usage.record(&self.model.metrics, &Span::current());
            if self.score.is_some() {
                for (choice, score) in self.scores(&choices).await?.into_iter().enumerate() {
                    let _ = events.send(&InfillEvent::Scored { choice, score });
                }
            }
            let _ = events.send(&InfillEvent::Done { seed: self.seed, usage });
            Ok(())
        };
        let ended = tokio::select! {
            biased;
            ended = ended => ended,
            // Nobody reads any more: what is not scored yet never will be.
            () = events.closed() => return,
        };
        match ended {
            Ok(()) => events.done(),
            Err(error) => {
                let error: ApiError = error;
                events.fail(&error);
            }
        }
    }

    /// How probable every text is; none for one without tokens.
    async fn scores(&self, choices: &[InfillChoice]) -> Result<Vec<Option<ScoreValue>>, ApiError> {
        let Some(request) = self.score else { return Ok(Vec::new()) };
        let texts: Vec<Vec<u32>> = choices.iter().map(|choice| choice.tokens.clone()).collect();
        let given = self.given.clone();
        let count = texts.len();
        let score = move |place: usize, session: &Session, wanted: Wanted| {
            let passage = passage(session.architecture(), &texts[place], &given)?;
            let Some(passage) = passage else { return Ok(None) };
            let scores = session.score_while(&request, &[passage], wanted)?;
            Ok(scores.into_iter().next().map(|score| ScoreValue::of(score, false)))
        };
        self.model.engine.score(self.deadline, count, score).await
    }
}

/// A finished text as it is scored: whole; of a model of pairs what follows the tokens that are given at its beginning. None for
/// a text without tokens.
fn passage(architecture: &Architecture, tokens: &[u32], given: &[bool]) -> submask::Result<Option<Passage>> {
    let text = Text::of(architecture, tokens, given)?;
    let until = text.ends_at.unwrap_or(tokens.len());
    if !architecture.config().pairs() {
        let own = &tokens[text.begin..until];
        return match own.is_empty() {
            true => Ok(None),
            false => {
                let is_lossless = reads_back(architecture, own, &text.text);
                architecture.passage_of_tokens(TextLayout::default(), &[], own, is_lossless).map(Some)
            }
        };
    }
    let given = given.iter().take_while(|given| **given).count();
    if tokens.len() != architecture.config().seq_len() || given >= tokens.len() {
        return Ok(None);
    }
    let counted = text.ends_at.map_or(tokens.len(), |end| end + 1).saturating_sub(given) as u64;
    architecture
        .passage_of_pair(PairSequence { tokens: tokens.to_vec(), given, counted, characters: None })
        .map(Some)
}

/// Whether a text has the tokens that it is made of: then its characters can be counted.
fn reads_back(architecture: &Architecture, tokens: &[u32], text: &str) -> bool {
    let again = architecture.tokenizer().and_then(|tokenizer| tokenizer.encode(text).ok());
    again.is_some_and(|again| again == tokens)
}
