//! `POST /v1/predict`: what the network says of a sequence that is masked in part.

use axum::extract::State;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use submask::Session;
use submask::denoiser::{States, Wanted};
use submask::model::MaskedSequence;
use submask::order;
use utoipa::ToSchema;

use super::json;
use crate::common::{blocking, check_size};
use crate::engine::Deadline;
use crate::error::{ApiError, ErrorBody};
use crate::extract::ApiJson;
use crate::sampling::{LabelField, class_of, refusal};
use crate::settings::ServerSettings;
use crate::state::AppState;

/// Most tokens of a request.
const MAX_TOKENS: usize = 64;
/// Most probable tokens told of each, at most and unless given.
const MAX_TOP: usize = 20;
const TOP: usize = 5;

/// A sequence that is masked in part, and the tokens that are predicted.
#[derive(Clone, Debug, Default, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PredictRequest {
    /// Name of the model.
    pub model: String,
    /// Of every token its digits, null where one is masked.
    pub digits: Vec<Vec<Option<u32>>>,
    /// Places of the tokens that are predicted, at most 64.
    pub tokens: Vec<usize>,
    /// How many most probable tokens are told of each, 1 to 20, 5 unless given.
    #[serde(default)]
    pub top: Option<usize>,
    /// Class of the sequence, for a model that reads classes.
    #[serde(default)]
    pub label: Option<LabelField>,
}

/// What the network says.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct PredictAnswer {
    /// Name of the model.
    pub model: String,
    /// The time t at which so many of the digits are masked in expectation.
    pub time: f64,
    /// The tokens that were asked for.
    pub predictions: Vec<Prediction>,
}

/// What the network says of a token.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct Prediction {
    /// Its place.
    pub token: usize,
    /// How many of its digits are known.
    pub known: usize,
    /// How many it has.
    pub of: usize,
    /// How many tokens agree with those that are known.
    pub possible: usize,
    /// The most probable tokens, the most probable first.
    pub top: Vec<Probable>,
}

/// A token and its probability.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct Probable {
    /// The token.
    pub token: u32,
    /// Its text; null for models of anything but text.
    pub text: Option<String>,
    /// Its probability.
    pub probability: f64,
}

/// Predicts tokens.
#[utoipa::path(
    post,
    path = "/v1/predict",
    tag = "text",
    request_body = PredictRequest,
    responses(
        (status = 200, description = "The predictions", body = PredictAnswer),
        (status = "4XX", description = "What is wrong with the request", body = ErrorBody),
        (status = "5XX", description = "What is wrong with the server", body = ErrorBody)
    )
)]
pub async fn create(
    State(state): State<AppState>,
    ApiJson(request, room): ApiJson<PredictRequest>,
) -> Result<Response, ApiError> {
    let deadline = Deadline::after(state.settings.timeout);
    let model = state.model(&request.model)?;
    tracing::Span::current().record("model", model.name.as_str());
    let (session, own) = (model.session.clone(), state.clone());
    let asked = move || {
        let _room = room;
        Asked::of(request, &session, &own.settings)
    };
    let asked = blocking(&state, asked).await?;
    let name = model.name.clone();
    let predict = move |_: usize, session: &Session, _: Wanted| asked.predicted(session, name.clone());
    let answers = model.engine.predict(deadline, 1, predict).await?;
    json(&answers.first())
}

/// A request, checked.
struct Asked {
    sequence: MaskedSequence,
    tokens: Vec<usize>,
    top: usize,
}

impl Asked {
    fn of(request: PredictRequest, session: &Session, settings: &ServerSettings) -> Result<Self, ApiError> {
        if session.is_autoregressive() {
            let message = "model: an autoregressive model predicts the sub-token after those that are known and no other; this needs a diffusion model";
            return Err(ApiError::invalid("model", message));
        }
        let PredictRequest { digits, tokens, top, label, .. } = request;
        let top = top.unwrap_or(TOP);
        if !(1..=MAX_TOP).contains(&top) {
            return Err(ApiError::refused("top", top, format!("1 to {MAX_TOP}")));
        }
        if !(1..=MAX_TOKENS).contains(&tokens.len()) {
            return Err(ApiError::refused(
                "tokens",
                format!("{} tokens", tokens.len()),
                format!("1 to {MAX_TOKENS}"),
            ));
        }
        let architecture = session.architecture();
        let codes = architecture.predictive().codes();
        let (len, count) = (codes.subtoken_len(), digits.len());
        check_size(settings, 1, "digits", count)?;
        if let Some((place, token)) = digits.iter().enumerate().find(|(_, token)| token.len() != len) {
            let given = format!("{} digits", token.len());
            return Err(ApiError::refused(
                &format!("digits[{place}]"),
                given,
                format!("{len}, null for a masked one"),
            ));
        }
        if let Some(token) = tokens.iter().find(|token| **token >= count) {
            return Err(ApiError::refused(
                "tokens",
                token,
                format!("places below {count}, the length of digits"),
            ));
        }
        let class = match &label {
            None => None,
            Some(label) => Some(
                class_of(label, architecture.config())?
                    .ok_or_else(|| ApiError::refused("label", "mixture", "one class"))?,
            ),
        };
        let sequence = MaskedSequence { digits: digits.concat(), time: None, label: class };
        session.check_masked(&sequence).map_err(|error| refusal(error.rename_field(field_of)))?;
        let asked = Self { sequence, tokens, top };
        asked.check_tokens(session)?;
        Ok(asked)
    }

    /// Refuses digits that no token has, and with blocks tokens that are predicted once earlier ones are known.
    fn check_tokens(&self, session: &Session) -> Result<(), ApiError> {
        let architecture = session.architecture();
        let predictive = architecture.predictive();
        let y = self.y(session);
        let len = predictive.codes().subtoken_len();
        let impossible = y.chunks(len).position(|digits| predictive.consistent(digits).is_empty());
        if let Some(place) = impossible {
            let given = format!("{:?}", &self.sequence.digits[place * len..(place + 1) * len]);
            return Err(ApiError::refused(&format!("digits[{place}]"), given, "digits that some token has"));
        }
        let block_len = architecture.config().network.block_len();
        let first =
            self.sequence.digits.iter().position(Option::is_none).map_or(usize::MAX, |digit| digit / len);
        if block_len == 0 || first == usize::MAX {
            return Ok(());
        }
        let end = (first / block_len + 1) * block_len;
        match self.tokens.iter().find(|token| **token >= end) {
            Some(token) => {
                let allowed = format!(
                    "places below {end}: later blocks are predicted once that of token {first} is known"
                );
                Err(ApiError::refused("tokens", token, allowed))
            }
            None => Ok(()),
        }
    }

    /// The sub-tokens, the mask being b.
    fn y(&self, session: &Session) -> Vec<u32> {
        let mask = session.architecture().predictive().codes().mask_id();
        self.sequence.digits.iter().map(|digit| digit.unwrap_or(mask)).collect()
    }

    fn predicted(&self, session: &Session, model: String) -> Result<PredictAnswer, ApiError> {
        let architecture = session.architecture();
        let predictive = architecture.predictive();
        let (len, mask) = (predictive.codes().subtoken_len(), predictive.codes().mask_id());
        let network = session.denoiser()?;
        let y = self.y(session);
        let masked = y.iter().filter(|digit| **digit == mask).count();
        let time = order::time(&architecture.schedule(), masked, y.len());
        let labels = network.spec().labels(std::iter::once(self.sequence.label));
        let states = States { y_t: &y, t: &[time], labels: labels.as_deref() };
        let mut predictions = Vec::with_capacity(self.tokens.len());
        network.evaluate(&states, &self.tokens, &mut |rows, logits| {
            for (token, logits) in
                self.tokens[rows].iter().zip(logits.chunks(predictive.codes().vocab_size()))
            {
                let digits = &y[token * len..(token + 1) * len];
                let p = predictive.distribution(logits, digits);
                if !p.is_proper() {
                    let needed = "a distribution over the possible tokens";
                    return Err(submask::Error::NonFinite { what: "logits", needed });
                }
                let mut all = Vec::new();
                p.for_each_probability(|token, probability| all.push((token, probability)));
                all.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
                all.truncate(self.top);
                let probable = |(token, probability): (u32, f64)| {
                    let text =
                        architecture.tokenizer().map(|tokenizer| tokenizer.token_text(token)).transpose()?;
                    Ok(Probable { token, text, probability })
                };
                predictions.push(Prediction {
                    token: *token,
                    known: digits.iter().filter(|digit| **digit != mask).count(),
                    of: len,
                    possible: predictive.consistent(digits).len(),
                    top: all.into_iter().map(probable).collect::<submask::Result<_>>()?,
                });
            }
            Ok(())
        })?;
        Ok(PredictAnswer { model, time, predictions })
    }
}

/// What the library calls them, and the fields.
fn field_of(name: &str) -> String {
    match name {
        "digit" | "number of digits" | "sequence length" | "token given" => "digits",
        other => other,
    }
    .to_owned()
}
