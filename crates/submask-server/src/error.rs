//! Errors of requests, in the shape in which OpenAI's clients read them.

use std::fmt::{self, Display};
use std::time::Duration;

use axum::Json;
use axum::http::header::{RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

/// What an error says, beside its status.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct ErrorDetail {
    /// What is wrong: the field, the value given and the values allowed.
    pub message: String,
    /// Which kind of error it is.
    #[serde(rename = "type")]
    pub kind: ErrorKind,
    /// The field of the request that it is about, such as `max_tokens` or `parts[1].hole`.
    pub param: Option<String>,
    /// A name that programs can look at, where there is one.
    pub code: Option<String>,
}

/// The body of every answer that is an error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct ErrorBody {
    /// The error.
    pub error: ErrorDetail,
}

/// Kinds of errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ErrorKind {
    /// The request cannot be done as it is.
    InvalidRequestError,
    /// The token is missing or wrong.
    AuthenticationError,
    /// There is no such model or path.
    NotFoundError,
    /// Too much is asked for at present.
    RateLimitError,
    /// The server is at fault, or about to end.
    ServerError,
    /// The time limit was reached.
    TimeoutError,
}

/// An error of a request, with its status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiError {
    status: StatusCode,
    detail: Box<ErrorDetail>,
}

/// Characters of a value, or a name, that an error repeats at most.
const REPEATED: usize = 100;

/// The beginning of what was given, where it is long.
pub fn shortened(given: impl Display) -> String {
    let mut given = given.to_string();
    if let Some((end, _)) = given.char_indices().nth(REPEATED) {
        given.truncate(end);
        given.push('…');
    }
    given
}

impl ApiError {
    fn new(status: StatusCode, kind: ErrorKind, message: impl Display) -> Self {
        let detail = ErrorDetail { message: message.to_string(), kind, param: None, code: None };
        Self { status, detail: Box::new(detail) }
    }

    fn bad(status: StatusCode, message: impl Display) -> Self {
        Self::new(status, ErrorKind::InvalidRequestError, message)
    }

    fn param(mut self, param: impl Into<String>) -> Self {
        self.detail.param = Some(shortened(param.into()));
        self
    }

    fn code(mut self, code: &str) -> Self {
        self.detail.code = Some(code.to_owned());
        self
    }

    /// 400: what is wrong with a field.
    pub fn invalid(param: impl Into<String>, message: impl Display) -> Self {
        Self::bad(StatusCode::BAD_REQUEST, message).param(param)
    }

    /// 400: a value that is not allowed.
    pub fn refused(param: &str, given: impl Display, allowed: impl Display) -> Self {
        let given = shortened(given);
        Self::invalid(param, format!("{param} = {given} is not allowed: {allowed}"))
    }

    /// 400: a field that other servers know, with a value that this one cannot honour.
    pub fn unsupported(param: &str, given: impl Display, allowed: impl Display) -> Self {
        let given = shortened(given);
        Self::invalid(param, format!("{param} = {given} is not supported: {allowed}"))
            .code("unsupported_parameter")
    }

    /// 400: more tokens than the model's sequences have.
    pub fn too_long(param: &str, message: impl Display) -> Self {
        Self::invalid(param, message).code("context_length_exceeded")
    }

    /// 400: a body that cannot be read.
    pub fn malformed(message: impl Display) -> Self {
        Self::bad(StatusCode::BAD_REQUEST, message)
    }

    /// 401.
    pub fn unauthorized(message: impl Display) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, ErrorKind::AuthenticationError, message).code("invalid_api_key")
    }

    /// 403.
    pub fn forbidden(message: impl Display) -> Self {
        Self::bad(StatusCode::FORBIDDEN, message)
    }

    /// 404: no such path.
    pub fn not_found(message: impl Display) -> Self {
        Self::new(StatusCode::NOT_FOUND, ErrorKind::NotFoundError, message)
    }

    /// 404: no such model, with the names of those that there are.
    pub fn no_model(name: &str, known: &[&str]) -> Self {
        let (name, known) = (shortened(name), known.join(", "));
        Self::not_found(format!("model = {name:?} is not served here: {known}"))
            .param("model")
            .code("model_not_found")
    }

    /// 405.
    pub fn method_not_allowed(method: impl Display, path: &str) -> Self {
        Self::bad(StatusCode::METHOD_NOT_ALLOWED, format!("{method} is not allowed for {path}"))
    }

    /// 408: a body that did not come in time.
    pub fn body_timeout(limit: Duration) -> Self {
        let limit = limit.as_secs_f64();
        Self::new(
            StatusCode::REQUEST_TIMEOUT,
            ErrorKind::TimeoutError,
            format!("the body was not received within {limit} s (--body-timeout)"),
        )
    }

    /// 413.
    pub fn body_too_large(limit: usize, flag: &str) -> Self {
        Self::bad(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("the body is larger than {limit} bytes, the limit of this route ({flag})"),
        )
    }

    /// 415.
    pub fn not_json(given: Option<&str>) -> Self {
        let given = given.map_or_else(|| "missing".to_owned(), |given| format!("{:?}", shortened(given)));
        Self::bad(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            format!("the header content-type is {given}: it has to be application/json"),
        )
    }

    /// 415: a body in a coding that is not read.
    pub fn encoded(given: &str) -> Self {
        let given = shortened(given);
        let message = format!("the header content-encoding is {given:?}: the body has to be sent as it is");
        Self::bad(StatusCode::UNSUPPORTED_MEDIA_TYPE, message)
    }

    /// 422: a request beyond a limit of this server, which a flag sets.
    pub fn beyond(param: &str, given: impl Display, limit: impl Display, flag: &str) -> Self {
        let message = format!("{param} = {given} is more than this server takes: at most {limit} ({flag})");
        Self::bad(StatusCode::UNPROCESSABLE_ENTITY, message).param(param).code("limit_exceeded")
    }

    /// 429: as many requests of a model as may be are computed or wait. `flags` say how many that are.
    pub fn queue_full(limit: usize, flags: &str) -> Self {
        let message =
            format!("{limit} such requests are computed or wait for this model, as many as may ({flags})");
        Self::new(StatusCode::TOO_MANY_REQUESTS, ErrorKind::RateLimitError, message).code("queue_full")
    }

    /// 429: too many requests wait to be checked.
    pub fn too_many_at_once() -> Self {
        let message = "too many requests wait to be checked";
        Self::new(StatusCode::TOO_MANY_REQUESTS, ErrorKind::RateLimitError, message).code("too_many_requests")
    }

    /// 429: large bodies take all the room that they have together.
    pub fn too_many_bodies() -> Self {
        let message = "large bodies of other requests take all the room that there is for them";
        Self::new(StatusCode::TOO_MANY_REQUESTS, ErrorKind::RateLimitError, message).code("too_many_bodies")
    }

    /// 503: the server is about to end.
    pub fn shutting_down() -> Self {
        let message = "the server is shutting down and takes no more requests";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, ErrorKind::ServerError, message).code("shutting_down")
    }

    /// 503: too many clients are connected.
    pub fn too_many_connections(limit: usize) -> Self {
        let message = format!("{limit} clients are connected, as many as may be (--max-connections)");
        Self::new(StatusCode::SERVICE_UNAVAILABLE, ErrorKind::RateLimitError, message)
            .code("too_many_connections")
    }

    /// 504: the time limit.
    pub fn timed_out(limit: Duration) -> Self {
        let message = format!("the time limit of {} s was reached (--timeout)", limit.as_secs_f64());
        Self::new(StatusCode::GATEWAY_TIMEOUT, ErrorKind::TimeoutError, message).code("timeout")
    }

    /// 500.
    pub fn internal(message: impl Display) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, ErrorKind::ServerError, message)
    }

    /// The status of an answer that is this error.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// What it says.
    pub fn detail(&self) -> &ErrorDetail {
        &self.detail
    }

    /// The error as an event of a stream that has begun.
    pub fn event(&self) -> Value {
        json!({ "error": *self.detail })
    }
}

impl Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail.message)
    }
}

impl std::error::Error for ApiError {}

/// The same error, in which only the beginning of a long value is repeated.
fn repeating_little(error: submask::Error) -> submask::Error {
    match error {
        submask::Error::Invalid { field, given, allowed } => {
            submask::Error::Invalid { field, given: shortened(given), allowed }
        }
        error => error,
    }
}

/// Values that the library refuses are the client's; everything else is the server's, and told in its log only: it may name
/// files.
impl From<submask::Error> for ApiError {
    fn from(error: submask::Error) -> Self {
        let error = repeating_little(error);
        match &error {
            submask::Error::Invalid { field, .. }
            | submask::Error::Needed { field, .. }
            | submask::Error::Conflict { field, .. } => {
                let first = field.split(", ").next().unwrap_or_default();
                Self::invalid(first, &error)
            }
            submask::Error::InvalidCode { .. } => Self::malformed(&error),
            submask::Error::NonFinite { .. } => {
                tracing::error!(error = %error, "the network gave numbers that are not finite");
                Self::internal(&error)
            }
            _ => {
                tracing::error!(error = %error, "a request failed");
                Self::internal("the server failed; its log says more")
            }
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = self.status;
        let mut response = (status, Json(ErrorBody { error: *self.detail })).into_response();
        let headers = response.headers_mut();
        match status {
            StatusCode::UNAUTHORIZED => {
                headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
            }
            _ => {}
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_the_library_name_their_field_and_hide_files() {
        let error = ApiError::from(submask::Error::invalid("top_p", 2, "a number in (0, 1]"));
        assert_eq!(error.status(), StatusCode::BAD_REQUEST);
        let expected = json!({"error": {
            "message": "top_p = 2 is not allowed: a number in (0, 1]", "type": "invalid_request_error",
            "param": "top_p", "code": null}});
        assert_eq!(error.event(), expected);
        let missing = std::io::Error::from(std::io::ErrorKind::NotFound);
        let error = ApiError::from(submask::Error::io("/secret/path")(missing));
        assert_eq!(error.status(), StatusCode::INTERNAL_SERVER_ERROR);
        assert!(!error.to_string().contains("secret"));
    }

    #[test]
    fn only_the_beginning_of_a_long_value_is_repeated() {
        let error = ApiError::from(submask::Error::invalid("warp", 1e300, "a number"));
        assert_eq!(error.to_string(), format!("warp = 1{}… is not allowed: a number", "0".repeat(99)));
        let error = ApiError::from(submask::Error::invalid("stop", "ö".repeat(100), "less"));
        assert!(error.to_string().contains(&format!("{} is", "ö".repeat(100))));
    }

    #[test]
    fn answers_say_how_to_go_on() {
        let header = |error: ApiError, name: &str| {
            let response = error.into_response();
            response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
        };
        assert_eq!(header(ApiError::unauthorized("no"), "www-authenticate").as_deref(), Some("Bearer"));
        assert_eq!(header(ApiError::queue_full(3, "--max-queue"), "retry-after").as_deref(), Some("1"));
        assert_eq!(header(ApiError::shutting_down(), "retry-after").as_deref(), Some("1"));
        assert_eq!(header(ApiError::invalid("n", "no"), "retry-after"), None);
    }
}
