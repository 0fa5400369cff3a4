//! Bodies of requests: JSON, read within limits of size and time, whose errors name the field.

use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{FromRequest, Request};
use axum::http::header::{CONTENT_ENCODING, CONTENT_TYPE, EXPECT};
use http_body_util::BodyExt;
use serde::de::DeserializeOwned;

use crate::common::blocking;
use crate::error::{ApiError, shortened};
use crate::room::{Room, SMALL};
use crate::state::AppState;
use crate::wording;

/// A body of JSON, of at most `max_body` bytes, and the room that it takes.
#[derive(Debug)]
pub struct ApiJson<T>(pub T, pub Room);

/// The same of at most `max_large_body` bytes: pictures and many texts.
#[derive(Debug)]
pub struct LargeApiJson<T>(pub T, pub Room);

impl<T: DeserializeOwned + Send + 'static> FromRequest<AppState> for ApiJson<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &AppState) -> Result<Self, ApiError> {
        let limit = Limit { bytes: state.settings.max_body, flag: "--max-body" };
        json_of(request, limit, state).await.map(|(body, room)| Self(body, room))
    }
}

impl<T: DeserializeOwned + Send + 'static> FromRequest<AppState> for LargeApiJson<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &AppState) -> Result<Self, ApiError> {
        let limit = Limit { bytes: state.settings.max_large_body, flag: "--max-large-body" };
        json_of(request, limit, state).await.map(|(body, room)| Self(body, room))
    }
}

/// How large a body may be, and which flag says so.
#[derive(Clone, Copy)]
struct Limit {
    bytes: usize,
    flag: &'static str,
}

async fn json_of<T: DeserializeOwned + Send + 'static>(
    request: Request,
    limit: Limit,
    state: &AppState,
) -> Result<(T, Room), ApiError> {
    let (time, mut room) = (state.settings.body_timeout, Room::new(&state.bodies));
    let (head, mut body) = request.into_parts();
    let kind = head.headers.get(CONTENT_TYPE).map(|value| String::from_utf8_lossy(value.as_bytes()));
    let coding = head.headers.get(CONTENT_ENCODING).map(|value| String::from_utf8_lossy(value.as_bytes()));
    let coding = coding.filter(|coding| !coding.trim().eq_ignore_ascii_case("identity"));
    let read = match kind.as_deref().is_some_and(is_json) {
        true if coding.is_some() => Ok(Err(ApiError::encoded(&coding.unwrap_or_default()))),
        true => tokio::time::timeout(time, read(&mut body, limit, &mut room)).await,
        false => Ok(Err(ApiError::not_json(kind.as_deref()))),
    };
    match read.map_err(|_| ApiError::body_timeout(time))? {
        Ok(body) if body.len() > SMALL => {
            blocking(state, move || parse(&body).map(|request| (request, room))).await
        }
        Ok(body) => parse(&body).map(|request| (request, room)),
        Err(error) => {
            drop(room);
            // Who asks first whether to send the body is told before.
            if !head.headers.contains_key(EXPECT) {
                discard(body, limit.bytes).await;
            }
            Err(error)
        }
    }
}

/// Whether a content type is that of JSON.
fn is_json(kind: &str) -> bool {
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    kind == "application/json" || (kind.starts_with("application/") && kind.ends_with("+json"))
}

async fn read(body: &mut Body, limit: Limit, room: &mut Room) -> Result<Bytes, ApiError> {
    let too_large = || ApiError::body_too_large(limit.bytes, limit.flag);
    if body.size_hint().lower() > limit.bytes as u64 {
        return Err(too_large());
    }
    let mut whole = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| ApiError::malformed("the body broke off, or its framing is wrong"))?;
        let Ok(data) = frame.into_data() else { continue };
        if whole.len() + data.len() > limit.bytes {
            return Err(too_large());
        }
        room.grow(whole.len() + data.len())?;
        whole.extend_from_slice(&data);
    }
    Ok(whole.into())
}

/// How long what is refused is read on.
const DISCARD: Duration = Duration::from_secs(2);

/// Reads on and forgets what comes, for a while: many clients read the answer only once they have sent everything, and
/// would otherwise find the connection broken.
async fn discard(mut body: Body, most: usize) {
    let read = async {
        let mut left = most.saturating_mul(8);
        while let Some(Ok(frame)) = body.frame().await {
            match frame.data_ref() {
                Some(data) if data.len() > left => break,
                Some(data) => left -= data.len(),
                None => {}
            }
        }
    };
    // Whether it came to an end does not matter.
    let _ = tokio::time::timeout(DISCARD, read).await;
}

/// The request that a body says.
///
/// # Errors
/// 400 naming the field.
pub fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    let mut json = serde_json::Deserializer::from_slice(body);
    // A list would be taken for the values of fields without their names.
    if body.trim_ascii_start().first().is_some_and(|first| *first != b'{') {
        let read: Result<serde::de::IgnoredAny, _> = serde_json::from_slice(body);
        return Err(read.map_or_else(
            |error| explained(".", &error),
            |_| ApiError::malformed("the body has to be an object of JSON"),
        ));
    }
    let parsed = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let path = error.path().to_string();
        let message = without_place(error.inner());
        match wording::allowed(&message) {
            Some(allowed) if path != "." => match wording::given(body, error.path()) {
                Some(given) => ApiError::refused(&path, given, allowed),
                None => ApiError::invalid(&path, format!("{path} is not allowed: {allowed}")),
            },
            _ => explained(&path, error.inner()),
        }
    })?;
    json.end().map_err(|error| explained(".", &error))?;
    Ok(parsed)
}

/// What is wrong at a place of a body.
fn explained(path: &str, error: &serde_json::Error) -> ApiError {
    let message = error.to_string();
    if error.is_syntax() || error.is_eof() || error.is_io() {
        return ApiError::malformed(format!("the body is not JSON: {message}"));
    }
    let message = &without_place(error);
    let field = named(message, "unknown field `").or(named(message, "missing field `"));
    let field = field.or(named(message, "duplicate field `"));
    let short = field.map(|field| {
        let short = shortened(field);
        (path.replacen(field, &short, 1), message.replacen(field, &short, 1), short)
    });
    let (path, message, field) = match &short {
        Some((path, message, field)) => (path.as_str(), message, Some(field.as_str())),
        None => (path, message, None),
    };
    match (path, field) {
        (".", None) => ApiError::malformed(format!("the body: {message}")),
        (".", Some(field)) => ApiError::invalid(field, message),
        (path, None) => ApiError::invalid(path, format!("{path}: {message}")),
        (path, Some(field)) if path == field || path.ends_with(&format!(".{field}")) => {
            ApiError::invalid(path, message)
        }
        (path, Some(field)) => ApiError::invalid(format!("{path}.{field}"), format!("{path}: {message}")),
    }
}

/// What an error says, without its line and column, which are of no use to who sent a field.
fn without_place(error: &serde_json::Error) -> String {
    let mut message = error.to_string();
    if let Some(place) = message.rfind(" at line ") {
        message.truncate(place);
    }
    message
}

/// The name after `before`, up to the next quote.
fn named<'a>(message: &'a str, before: &str) -> Option<&'a str> {
    message.strip_prefix(before)?.split('`').next()
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only how it is read is tested")]
    struct Whole {
        n: u32,
        parts: Option<Vec<Part>>,
        prompt: Option<Either>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only how it is read is tested")]
    struct Part {
        hole: u32,
    }

    #[derive(Debug, Deserialize)]
    #[serde(untagged, expecting = "a string or a list of strings")]
    #[expect(dead_code, reason = "only how it is read is tested")]
    enum Either {
        One(String),
        Many(Vec<String>),
    }

    #[test]
    fn errors_name_the_field() {
        let error = |body: &str| {
            let error = parse::<Whole>(body.as_bytes()).unwrap_err();
            (error.detail().param.clone().unwrap_or_default(), error.to_string())
        };
        for (body, param, message) in [
            (r#"{"n": "x"}"#, "n", "n = \"x\" is not allowed: a whole number from 0 to 4294967295"),
            (r#"{"n": -1}"#, "n", "n = -1 is not allowed: a whole number from 0 to 4294967295"),
            (r#"{"n": 1, "parts": 7}"#, "parts", "parts = 7 is not allowed: a list"),
            (r#"{"n": 1, "parts": [7]}"#, "parts[0]", "parts[0] = 7 is not allowed: an object"),
            (r#"{"n": 1, "m": 2}"#, "m", "unknown field `m`, expected one of `n`, `parts`, `prompt`"),
            (r#"{"n": 1, "n": 2}"#, "n", "duplicate field `n`"),
            ("{}", "n", "missing field `n`"),
            (
                r#"{"n": 1, "parts": [{"hole": 1}, {"hole": true}]}"#,
                "parts[1].hole",
                "parts[1].hole = true is not allowed: a whole number",
            ),
            (r#"{"n": 1, "parts": [{"hole": 1, "size": 1}]}"#, "parts[0].size", "unknown field `size`"),
            (r#"{"n": 1, "parts": [{}]}"#, "parts[0].hole", "missing field `hole`"),
            (r#"{"n": 1, "prompt": 3}"#, "prompt", "a string or a list of strings"),
            ("[", "", "the body is not JSON"),
            ("", "", "the body is not JSON"),
            ("[1]", "", "an object of JSON"),
            (" null", "", "an object of JSON"),
            (r#"{"n": 1} {}"#, "", "the body is not JSON: trailing characters"),
            (r#"{"n": 1e999}"#, "", "number out of range"),
            ("\u{1}\u{2}", "", "the body is not JSON"),
        ] {
            let (found, said) = error(body);
            assert_eq!(found, param, "{body}: {said}");
            assert!(said.contains(message), "{body}: {said}");
        }
        let deep = "[".repeat(100_000);
        assert!(parse::<serde_json::Value>(deep.as_bytes()).is_err());
        assert!(parse::<Whole>(b"{\"n\": 1, \"prompt\": \"\xff\"}").is_err());
    }

    #[test]
    fn content_types_of_json() {
        for json in ["application/json", "Application/JSON; charset=utf-8", "application/vnd.x+json"] {
            assert!(is_json(json), "{json}");
        }
        for other in ["", "text/plain", "application/x-www-form-urlencoded", "text/json", "application/jsonl"]
        {
            assert!(!is_json(other), "{other}");
        }
    }
}
