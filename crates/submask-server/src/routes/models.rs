//! Which models there are, and what each is.

use axum::extract::{Path, State};
use axum::response::Response;
use serde::Serialize;
use serde_json::Value;
use submask::likelihood::Figure;
use submask::model::{Architecture, ModelConfig, Subject};
use submask::order::Order;
use utoipa::ToSchema;

use super::json;
use crate::error::{ApiError, ErrorBody};
use crate::state::{AppState, ServedModel};

/// All models.
#[derive(Debug, Serialize, ToSchema)]
pub struct ModelList {
    /// Always `list`.
    pub object: &'static str,
    /// The models, in the order in which the server was given them.
    pub data: Vec<ModelObject>,
}

/// A model.
#[derive(Debug, Serialize, ToSchema)]
pub struct ModelObject {
    /// Its name.
    pub id: String,
    /// Always `model`.
    pub object: &'static str,
    /// When its weights were written, in seconds since 1970.
    pub created: u64,
    /// Always `submask`.
    pub owned_by: &'static str,
    /// What other servers do not say.
    pub submask: ModelDetail,
}

/// What a model is.
#[derive(Debug, Serialize, ToSchema)]
pub struct ModelDetail {
    /// What its sequences are.
    pub kind: ModelKind,
    /// Its network: `diffusion`, `encoder`, `autoregressive`, `unet` or `toy`.
    pub network: &'static str,
    /// Tokens per sequence L; of a model that writes block by block, as many as it reads at once.
    pub seq_len: usize,
    /// Tokens per block; 0 where it does not write block by block.
    pub block_len: usize,
    /// Sub-tokens (digits) per token ℓ.
    pub subtokens: usize,
    /// Values of a digit b.
    pub base: usize,
    /// Tokens that there are C.
    pub vocab_size: usize,
    /// Whether tokens that contradict a known digit are excluded.
    pub carry_over: bool,
    /// Number of weights.
    pub parameters: u64,
    /// Most tokens of a sequence that it writes.
    pub longest_text: usize,
    /// Whether it was trained on pairs of a prompt and its completion.
    pub pairs: bool,
    /// Names of the classes, if it reads classes.
    pub classes: Option<Vec<String>>,
    /// The size of its images, if it draws images.
    pub image: Option<ImageSize>,
    /// How text becomes tokens, if it writes text.
    #[schema(value_type = Option<Object>)]
    pub tokenizer: Option<Value>,
    /// How it is sampled by default, as in its config.json.
    #[schema(value_type = Object)]
    pub sampling: Value,
    /// Orders of revealing that requests may name.
    pub orders: Vec<&'static str>,
    /// What is known of its quality: of the validation of its run, each with its kind.
    #[schema(value_type = Vec<Object>)]
    pub figures: Vec<Figure>,
}

/// What the sequences of a model are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ModelKind {
    /// Texts.
    Text,
    /// Pictures.
    Images,
    /// Points of a plane.
    Points,
}

/// The size of an image.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
pub struct ImageSize {
    /// Width in pixels.
    pub width: usize,
    /// Height in pixels.
    pub height: usize,
    /// Colour channels.
    pub channels: usize,
}

/// The models that are served.
///
/// # Errors
/// 500 for what does not fit JSON.
#[utoipa::path(get, path = "/v1/models", tag = "models",
    responses((status = 200, description = "The models", body = ModelList),
              (status = 401, description = "The token is missing or wrong", body = ErrorBody)))]
pub async fn list(State(state): State<AppState>) -> Result<Response, ApiError> {
    let data = state.models.iter().map(|model| described(model)).collect::<Result<_, _>>()?;
    json(&ModelList { object: "list", data })
}

/// One of the models.
///
/// # Errors
/// 404 where there is no model of the name.
#[utoipa::path(get, path = "/v1/models/{model}", tag = "models",
    params(("model" = String, Path, description = "Its name")),
    responses((status = 200, description = "The model", body = ModelObject),
              (status = 401, description = "The token is missing or wrong", body = ErrorBody),
              (status = 404, description = "There is no model of this name", body = ErrorBody)))]
pub async fn one(State(state): State<AppState>, Path(name): Path<String>) -> Result<Response, ApiError> {
    json(&described(state.model(&name)?)?)
}

fn described(model: &ServedModel) -> Result<ModelObject, ApiError> {
    let architecture = model.session.architecture();
    Ok(ModelObject {
        id: model.name.clone(),
        object: "model",
        created: model.created,
        owned_by: "submask",
        submask: detail(architecture, &model.figures)?,
    })
}

fn detail(architecture: &Architecture, figures: &[Figure]) -> Result<ModelDetail, ApiError> {
    let config = architecture.config();
    let codes = architecture.predictive().codes();
    let image = config.subject.image();
    let image = image.map(|it| ImageSize { width: it.width, height: it.height, channels: it.channels });
    let tokenizer = config.subject.text().map(|text| to_json(&text.tokenizer)).transpose()?;
    Ok(ModelDetail {
        kind: kind(&config.subject)?,
        network: config.network.name(),
        seq_len: config.seq_len(),
        block_len: config.network.block_len(),
        subtokens: codes.subtoken_len(),
        base: codes.base() as usize,
        vocab_size: codes.vocab_size(),
        carry_over: config.codes.carry_over,
        parameters: architecture.parameters().iter().map(|parameter| parameter.len() as u64).sum(),
        longest_text: config.longest_text(),
        pairs: config.pairs(),
        classes: config.classes().map(|_| config.subject.class_names().to_vec()),
        image,
        tokenizer,
        sampling: to_json(&config.sample)?,
        orders: orders(config),
        figures: figures.to_vec(),
    })
}

fn kind(subject: &Subject) -> Result<ModelKind, ApiError> {
    match subject {
        Subject::Text(_) => Ok(ModelKind::Text),
        Subject::Image(_) => Ok(ModelKind::Images),
        Subject::Point(_) => Ok(ModelKind::Points),
        other => Err(ApiError::internal(format!("this server does not know {}", other.name()))),
    }
}

/// The baseline writes from left to right; diffusion models reveal in any order.
fn orders(config: &ModelConfig) -> Vec<&'static str> {
    let is_free = config.network.name() != "autoregressive";
    let allowed = Order::ALL.into_iter().filter(|order| is_free || *order == Order::LeftToRight);
    allowed.map(Order::name).collect()
}

fn to_json(value: &impl Serialize) -> Result<Value, ApiError> {
    serde_json::to_value(value).map_err(|error| {
        tracing::error!(error = %error, "what a model is does not fit JSON");
        ApiError::internal("the model cannot be described")
    })
}
