//! The routes.

mod completions;
mod health;
mod images;
mod infill;
mod models;
mod openapi;
mod predict;
mod score;

use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::http::{Method, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use serde::Serialize;

use crate::error::{ApiError, shortened};
use crate::page;
use crate::state::AppState;

/// Every route, and what is answered where there is none.
pub fn router() -> Router<AppState> {
    Router::new()
        .route("/", get(page::index))
        .route("/assets/{name}", get(page::asset))
        .route("/healthz", get(health::live))
        .route("/readyz", get(health::ready))
        .route("/metrics", get(health::metrics))
        .route("/openapi.json", get(openapi::document))
        .route("/v1/models", get(models::list))
        .route("/v1/models/{model}", get(models::one))
        .route("/v1/completions", post(completions::create))
        .route("/v1/chat/completions", any(no_chat))
        .route("/v1/infill", post(infill::create))
        .route("/v1/predict", post(predict::create))
        .route("/v1/score", post(score::create))
        .route("/v1/images", post(images::create))
        .fallback(no_route)
        .method_not_allowed_fallback(no_method)
}

/// The models complete text and have not learnt to talk.
async fn no_chat() -> ApiError {
    ApiError::not_found(
        "there is no chat here, since the models are not trained for it: use POST /v1/completions",
    )
}

async fn no_route(method: Method, uri: Uri) -> ApiError {
    let path = shortened(uri.path());
    ApiError::not_found(format!("there is no {method} {path}: GET /openapi.json says which routes there are"))
}

async fn no_method(method: Method, uri: Uri) -> ApiError {
    ApiError::method_not_allowed(method, &shortened(uri.path()))
}

/// An answer of JSON.
///
/// # Errors
/// 500 for what does not fit JSON, which is a defect.
pub fn json(body: &impl Serialize) -> Result<Response, ApiError> {
    let text = serde_json::to_string(body).map_err(|error| {
        tracing::error!(error = %error, "an answer does not fit JSON");
        ApiError::internal("the server failed; its log says more")
    })?;
    Ok(([(CONTENT_TYPE, "application/json")], text).into_response())
}
