//! What every route takes and gives, as OpenAPI says it.

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use utoipa::openapi::OpenApi as Document;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::{Modify, OpenApi};

use super::{completions, health, images, infill, models, predict, score};
use crate::error::{ApiError, ErrorBody};
use crate::state::AppState;

/// The document.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "submask serve",
        description = "Completions as OpenAI's clients ask for them, and what diffusion adds: holes, partial states, \
                       likelihoods and pictures. Every error has the shape of `ErrorBody`.",
    ),
    paths(
        models::list, models::one, completions::create, infill::create, predict::create, score::create,
        images::create, health::live, health::ready, health::metrics, document
    ),
    components(schemas(ErrorBody)),
    security(("token" = [])),
    modifiers(&Security, &Names),
    tags(
        (name = "models", description = "The models that are served"),
        (name = "text", description = "Models of text"),
        (name = "images", description = "Models of images"),
        (name = "operation", description = "How the server runs")
    )
)]
struct Described;

/// The token, which a server may ask for.
struct Security;

impl Modify for Security {
    fn modify(&self, document: &mut Document) {
        let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("token", SecurityScheme::Http(scheme));
    }
}

/// Names of operations, such as `post_v1_completions`: handlers of several routes have the same.
struct Names;

impl Modify for Names {
    fn modify(&self, document: &mut Document) {
        for (path, item) in &mut document.paths.paths {
            let words: Vec<&str> =
                path.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).collect();
            let named = [("get", &mut item.get), ("post", &mut item.post)];
            for (method, operation) in
                named.into_iter().filter_map(|(method, it)| Some((method, it.as_mut()?)))
            {
                operation.operation_id = Some(format!("{method}_{}", words.join("_")));
            }
        }
    }
}

/// This description of all routes.
///
/// # Errors
/// 500 for what cannot be written.
#[utoipa::path(get, path = "/openapi.json", tag = "operation",
    responses((status = 200, description = "The document", body = Object),
              (status = 401, description = "The token is missing or wrong", body = ErrorBody)))]
pub async fn document(State(_): State<AppState>) -> Result<Response, ApiError> {
    let text = Described::openapi().to_json().map_err(|error| {
        tracing::error!(error = %error, "the description does not fit JSON");
        ApiError::internal("the description cannot be written")
    })?;
    Ok(([(CONTENT_TYPE, "application/json")], text).into_response())
}
