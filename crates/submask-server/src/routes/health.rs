//! Whether the server lives, is ready, and what it has counted.

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};

use crate::error::{ApiError, ErrorBody};
use crate::metrics;
use crate::state::AppState;

/// Whether the process lives.
#[utoipa::path(get, path = "/healthz", tag = "operation", security(()),
    responses((status = 200, description = "It lives", body = String, content_type = "text/plain")))]
pub async fn live() -> &'static str {
    "ok"
}

/// Whether requests are taken: all models are loaded, and the server is not about to end.
///
/// # Errors
/// 503 while it is about to end.
#[utoipa::path(get, path = "/readyz", tag = "operation", security(()),
    responses((status = 200, description = "Requests are taken", body = String, content_type = "text/plain"),
              (status = 503, description = "The server is about to end", body = ErrorBody)))]
pub async fn ready(State(state): State<AppState>) -> Result<&'static str, ApiError> {
    state.check_open()?;
    Ok("ok")
}

/// What was counted and measured, for Prometheus.
///
/// # Errors
/// 500 for what cannot be written.
#[utoipa::path(get, path = "/metrics", tag = "operation",
    responses((status = 200, description = "Metrics in the text format of OpenMetrics", body = String,
               content_type = "application/openmetrics-text"),
              (status = 401, description = "The token is missing or wrong", body = ErrorBody)))]
pub async fn metrics(State(state): State<AppState>) -> Result<Response, ApiError> {
    Ok(([(CONTENT_TYPE, metrics::CONTENT_TYPE)], state.metrics.text()?).into_response())
}
