//! `POST /v1/score`: how probable a model finds given texts.

use axum::extract::State;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use submask::Session;
use submask::likelihood::Kind;
use submask::model::{Architecture, Estimator, EvaluateRequest, Passage, SCORE_DRAWS, Score, TextLayout};
use submask::order::Order;
use submask::sampler::RevealUnit;
use utoipa::ToSchema;

use super::json;
use crate::common::{blocking, check_tokens_in_all, model_of};
use crate::engine::{Check, Deadline};
use crate::error::{ApiError, ErrorBody};
use crate::extract::LargeApiJson;
use crate::sampling::refusal;
use crate::settings::ServerSettings;
use crate::state::AppState;

/// How often the network may run on as many tokens as a request may have.
const MAX_TIMES: u64 = 64;
/// Most draws per sequence, and steps of the sampler, that a request may ask for.
const MAX_DRAWS: usize = 1 << 12;
const MAX_STEPS: usize = 1 << 16;

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

/// A text after a prompt.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PromptedText {
    /// What stands before the text, given and not charged.
    pub prompt: String,
    /// The text.
    pub text: String,
}

/// What is estimated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum EstimatorName {
    /// Upper bound, sub-tokens masked one by one.
    NelboSubtoken,
    /// Upper bound, whole tokens masked together.
    NelboToken,
    /// Upper bound for the sampler with so many steps.
    Path,
    /// Exact likelihood for generation in a deterministic order.
    Exact,
    /// Upper bound for generation in random order, from so many whole orders per sequence.
    Orders,
    /// The training objective: a surrogate, not a likelihood.
    JointObjective,
}

impl EstimatorName {
    fn name(self) -> &'static str {
        match self {
            Self::NelboSubtoken => "nelbo-subtoken",
            Self::NelboToken => "nelbo-token",
            Self::Path => "path",
            Self::Exact => "exact",
            Self::Orders => "orders",
            Self::JointObjective => "joint-objective",
        }
    }
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
        let token =
            |one: submask::model::TokenScore| TokenValue { token: one.token, text: one.text, nats: one.nats };
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

/// How a likelihood is estimated.
#[derive(Clone, Copy, Debug, Default)]
pub struct ScoreSettings {
    /// What is estimated.
    pub estimator: Option<EstimatorName>,
    /// Draws per sequence.
    pub draws: Option<usize>,
    /// Steps of the sampler.
    pub steps: Option<usize>,
    /// Order of generation.
    pub order: Option<Order>,
    /// What is revealed at once.
    pub unit: Option<RevealUnit>,
    /// Units revealed per evaluation.
    pub per_step: Option<usize>,
    /// Seed of the draws.
    pub seed: u64,
    /// Whether the constraint holds.
    pub carry_over: Option<bool>,
}

impl ScoreSettings {
    /// What the library is asked for. Errors name fields after `before`, which is empty or ends with a dot.
    ///
    /// # Errors
    /// 400 for fields that have no meaning for the estimator or the model, 422 for more than the server takes.
    pub fn request(&self, session: &Session, before: &str) -> Result<EvaluateRequest, ApiError> {
        self.check(before)?;
        let estimator = self.estimator(session, before)?;
        if self.draws.is_some() && estimator.is_by_token() {
            return Err(self.without_meaning(before, "draws", "the estimator exact, which draws nothing"));
        }
        Ok(EvaluateRequest {
            estimator,
            draws: self.draws.unwrap_or(SCORE_DRAWS),
            seed: self.seed,
            carry_over: self.carry_over,
            ..session.score_request()
        })
    }

    fn without_meaning(&self, before: &str, field: &str, with: &str) -> ApiError {
        let field = format!("{before}{field}");
        ApiError::invalid(field.clone(), format!("{field} has no meaning with {with}"))
    }

    /// Refuses fields that mean nothing for the estimator, and numbers out of range.
    fn check(&self, before: &str) -> Result<(), ApiError> {
        use EstimatorName::{Exact, Orders, Path};

        let fields: [(&str, bool, &[EstimatorName]); 4] = [
            ("steps", self.steps.is_some(), &[Path]),
            ("order", self.order.is_some(), &[Exact]),
            ("per_step", self.per_step.is_some(), &[Exact]),
            ("unit", self.unit.is_some(), &[Exact, Orders]),
        ];
        let reads = |by: &[EstimatorName]| self.estimator.is_some_and(|estimator| by.contains(&estimator));
        if let Some((field, _, by)) = fields.into_iter().find(|(_, given, by)| *given && !reads(by)) {
            let names: Vec<&str> = by.iter().map(|one| one.name()).collect();
            let field = format!("{before}{field}");
            let message = format!("{field} has a meaning with estimator {} only", names.join(" or "));
            return Err(ApiError::invalid(field, message));
        }
        let numbers = [
            ("draws", self.draws, MAX_DRAWS),
            ("steps", self.steps, MAX_STEPS),
            ("per_step", self.per_step, usize::MAX),
        ];
        for (field, number, most) in numbers {
            let field = format!("{before}{field}");
            match number {
                Some(0) => return Err(ApiError::refused(&field, 0, "at least 1")),
                Some(number) if number > most => {
                    return Err(ApiError::beyond(&field, number, most, "per request"));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// The estimator asked for, or what fits the network.
    fn estimator(&self, session: &Session, before: &str) -> Result<Estimator, ApiError> {
        if session.is_autoregressive() && self.carry_over.is_some() {
            return Err(self.without_meaning(before, "carry_over", "an autoregressive model"));
        }
        let config = session.architecture().config();
        let estimator = match self.estimator {
            None => session.usual_estimator(),
            Some(EstimatorName::NelboSubtoken) => Estimator::NelboSubtoken,
            Some(EstimatorName::NelboToken) => Estimator::NelboToken,
            Some(EstimatorName::Path) => {
                let sampler = Some(config.sample.steps).filter(|&steps| steps > 0);
                let together = match config.network.block_len() {
                    0 => config.seq_len(),
                    block_len => block_len,
                };
                Estimator::Path { steps: self.steps.or(sampler).unwrap_or(together) }
            }
            Some(EstimatorName::Exact) => {
                let order = self.order.unwrap_or(Order::LeftToRight);
                if order == Order::Random {
                    let field = format!("{before}order");
                    let allowed =
                        format!("{}: the random order mixes all orders", Order::deterministic_names());
                    return Err(ApiError::refused(&field, order, allowed));
                }
                let unit = self.unit.unwrap_or(RevealUnit::Tokens);
                Estimator::Exact { order, unit, per_step: self.per_step.unwrap_or(1) }
            }
            Some(EstimatorName::Orders) => {
                Estimator::Orders { unit: self.unit.unwrap_or(RevealUnit::Digits) }
            }
            Some(EstimatorName::JointObjective) => Estimator::JointObjective,
        };
        if session.is_autoregressive() && estimator != Estimator::LEFT_TO_RIGHT {
            let name = self.estimator.map_or("exact", EstimatorName::name);
            let allowed = "exact from left to right, all that an autoregressive model has";
            return Err(ApiError::refused(&format!("{before}estimator"), name, allowed));
        }
        Ok(estimator)
    }
}

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
    LargeApiJson(request): LargeApiJson<ScoreRequest>,
) -> Result<Response, ApiError> {
    let deadline = Deadline::after(state.settings.timeout);
    let model = model_of(&state, &request.model, "text")?;
    if state.settings.log_texts {
        tracing::info!(texts = ?request.texts, "texts are scored");
    }
    let seed = request.seed.unwrap_or(0);
    let by_token = request.by_token.unwrap_or(false);
    let (session, own) = (model.session.clone(), state.clone());
    let (evaluate, passages) = blocking(move || prepared(&request, &session, &own.settings)).await?;
    tracing::Span::current().record("choices", passages.len());
    let scored =
        model.engine.score(deadline, move |session, check| scored(&evaluate, &passages, session, check));
    let scores = scored.await?.into_iter().map(|score| ScoreValue::of(score, by_token)).collect();
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
    let passages =
        request.texts.iter().enumerate().map(|(place, text)| passage(text, place, layout, session));
    let passages = passages.collect::<Result<Vec<_>, _>>()?;
    let tokens: u64 = passages.iter().map(Passage::tokens).sum();
    check_cost("texts", tokens, &evaluate, session, settings)?;
    Ok((evaluate, passages))
}

/// Refuses more tokens than the server takes, and estimates that run the network on them too often: while a text is scored nobody
/// asks whether somebody still waits.
///
/// # Errors
/// 422 naming the limit.
pub fn check_cost(
    field: &str,
    tokens: u64,
    request: &EvaluateRequest,
    session: &Session,
    settings: &ServerSettings,
) -> Result<(), ApiError> {
    check_tokens_in_all(settings, field, usize::try_from(tokens).unwrap_or(usize::MAX))?;
    let longest = session.architecture().config().seq_len() as u64;
    let times = match request.estimator {
        Estimator::Exact { .. } if session.is_autoregressive() => 1,
        // Once per token, or for digits more often.
        Estimator::Exact { .. } => longest.min(tokens),
        _ => request.draws as u64,
    };
    let (evaluated, limit) =
        (tokens.saturating_mul(times), MAX_TIMES.saturating_mul(settings.max_tokens as u64));
    match evaluated > limit {
        true => {
            let given = format!("{tokens} tokens in all, {times} times evaluated,");
            Err(ApiError::beyond(
                field,
                given,
                format!("{limit} evaluated tokens"),
                &format!("{MAX_TIMES} times --max-tokens"),
            ))
        }
        false => Ok(()),
    }
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

/// The scores, text by text: between two it is asked whether somebody still waits.
fn scored(
    request: &EvaluateRequest,
    passages: &[Passage],
    session: &Session,
    check: &Check,
) -> Result<Vec<Score>, ApiError> {
    let mut scores = Vec::with_capacity(passages.len());
    for passage in passages {
        check.check()?;
        scores.extend(session.score(request, std::slice::from_ref(passage)).map_err(refusal)?);
    }
    Ok(scores)
}
