//! Serves models of submask over HTTP: completions as OpenAI's clients ask for them, and what diffusion adds: holes with
//! partial states, likelihoods, pictures, and a page on which one sees a text resolve.
//!
//! [`serve`] opens models and serves them until the process is told to end; `submask serve` is that. [`app`] is the
//! routes alone, for a server of one's own.
//!
//! | module | is |
//! |---|---|
//! | [`settings`] | where, for whom, and within which limits |
//! | [`registry`] | the models, opened once |
//! | [`state`] | what all requests share |
//! | [`extract`], [`error`], [`sse`] | how requests are read and answered |
//! | [`room`] | how much of large bodies is in memory at once |
//! | `engine` | one thread per model, in which requests share network evaluations as they come and go |
//! | `routes` | one file per route |
//! | `connection`, `middleware` | limits, access, and what is counted and logged |

mod common;
mod connection;
mod engine;
pub mod error;
pub mod extract;
pub mod logs;
pub mod metrics;
mod middleware;
mod page;
mod patience;
pub mod registry;
pub mod room;
mod routes;
mod sampling;
mod server;
pub mod settings;
pub mod sse;
pub mod state;
pub mod token;
mod wording;

use axum::Router;
use axum::http::header::RETRY_AFTER;
use axum::http::{HeaderName, HeaderValue, Method};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::cors::{AllowHeaders, AllowOrigin, CorsLayer};

use error::ApiError;
use state::AppState;

pub use registry::{ModelSource, OpenModel};
pub use server::{Ended, StartError, serve, serve_on};
pub use settings::ServerSettings;
pub use token::Token;

/// All routes, with everything that happens before and after them but the limits of connections.
pub fn app(state: AppState) -> Router {
    let router = routes::router()
        .layer(from_fn_with_state(state.clone(), middleware::check_access))
        .layer(CatchPanicLayer::custom(after_panic));
    let router = match state.settings.cors.is_empty() {
        true => router,
        false => router.layer(cors(&state.settings.cors)),
    };
    router.layer(from_fn_with_state(state.clone(), middleware::observe)).with_state(state)
}

/// What browsers let pages of other origins do.
fn cors(origins: &[String]) -> CorsLayer {
    let allowed = match origins.iter().any(|origin| origin == "*") {
        true => AllowOrigin::any(),
        false => AllowOrigin::list(origins.iter().filter_map(|origin| HeaderValue::from_str(origin).ok())),
    };
    CorsLayer::new()
        .allow_origin(allowed)
        .allow_methods([Method::GET, Method::POST])
        .allow_headers(AllowHeaders::mirror_request())
        .expose_headers([RETRY_AFTER, HeaderName::from_static("x-request-id")])
        .max_age(std::time::Duration::from_secs(3600))
}

/// A handler that panicked is a defect, which one request sees and no other.
fn after_panic(panic: Box<dyn std::any::Any + Send>) -> Response {
    let message = panic.downcast_ref::<String>().map(String::as_str);
    let message = message.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("of no known kind");
    tracing::error!(panic = message, "a request panicked");
    ApiError::internal("the server failed; its log says more").into_response()
}
