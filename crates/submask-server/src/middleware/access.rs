//! Who may ask for what.

use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, HOST};
use axum::http::{HeaderMap, Method, Uri};
use axum::middleware::Next;
use axum::response::Response;

use crate::error::ApiError;
use crate::settings::ServerSettings;
use crate::state::AppState;

/// Lets a request pass that shows the token, or needs none, while the server takes requests.
///
/// # Errors
/// 401 without the token, 403 for a name that is not this machine's, 503 while the server is about to end.
pub async fn check_access(
    State(state): State<AppState>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    check_host(&state.settings, request.headers(), request.uri())?;
    if !is_open(request.uri().path()) {
        check_token(&state.settings, request.headers())?;
    }
    if request.method() == Method::POST {
        state.check_open()?;
    }
    Ok(next.run(request).await)
}

/// Whether a path is for everybody: the page, which holds nothing secret, and whether the server lives.
fn is_open(path: &str) -> bool {
    matches!(path, "/" | "/healthz" | "/readyz") || path.starts_with("/assets/")
}

fn check_token(settings: &ServerSettings, headers: &HeaderMap) -> Result<(), ApiError> {
    let Some(token) = &settings.token else { return Ok(()) };
    let mut given = headers.get_all(AUTHORIZATION).iter();
    let (Some(given), None) = (given.next(), given.next()) else {
        return Err(ApiError::unauthorized("this server asks for one header Authorization: Bearer TOKEN"));
    };
    match bearer(given.as_bytes()) {
        Some(given) if token.is(given) => Ok(()),
        Some(_) => Err(ApiError::unauthorized("the token is wrong")),
        None => Err(ApiError::unauthorized("the header Authorization has to be Bearer TOKEN")),
    }
}

/// The token of `Bearer TOKEN`, whose first word may be written in any case.
fn bearer(header: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = header.split_at_checked("Bearer".len())?;
    let is_spaced = token.first() == Some(&b' ');
    (scheme.eq_ignore_ascii_case(b"Bearer") && is_spaced).then(|| token.trim_ascii())
}

/// A web page may have its own name point to this machine, and so call a server that asks for no token. Its requests carry
/// that name.
fn check_host(settings: &ServerSettings, headers: &HeaderMap, uri: &Uri) -> Result<(), ApiError> {
    if settings.token.is_some() || settings.insecure {
        return Ok(());
    }
    let header = headers.get(HOST).map(|host| String::from_utf8_lossy(host.as_bytes()));
    let host = uri.authority().map(|authority| authority.as_str()).or(header.as_deref());
    match host {
        Some(host) if !is_own(host) => Err(ApiError::forbidden(format!(
            "the host {host:?} is not this machine's: without a token, this server answers to localhost and \
             loopback addresses only (--token-file, or --insecure)"
        ))),
        _ => Ok(()),
    }
}

/// Whether a host, with or without a port, means this machine whoever asks.
fn is_own(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    if let Some(address) = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')) {
        let address: Result<std::net::Ipv6Addr, _> = address.parse();
        return address.is_ok_and(|address| address.to_canonical().is_loopback());
    }
    let is_loopback = |address: std::net::Ipv4Addr| address.is_loopback();
    name == "localhost" || name.ends_with(".localhost") || name.parse().is_ok_and(is_loopback)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scheme_is_bearer() {
        assert_eq!(bearer(b"Bearer abc"), Some(&b"abc"[..]));
        assert_eq!(bearer(b"bearer  abc "), Some(&b"abc"[..]));
        for wrong in [&b""[..], b"Bearer", b"Bearerabc", b"Basic abc", b"abc"] {
            assert_eq!(bearer(wrong), None);
        }
    }

    #[test]
    fn own_names_are_loopback() {
        for own in
            ["localhost", "LOCALHOST:80", "a.localhost", "127.0.0.1:8080", "127.9.9.9", "[::1]:80", "[::1]"]
        {
            assert!(is_own(own), "{own}");
        }
        for other in
            ["example.org", "localhost.example.org", "127.0.0.1.nip.io", "10.0.0.1", "[::2]:80", "", "::1:x"]
        {
            assert!(!is_own(other), "{other}");
        }
    }

    #[test]
    fn the_page_is_open_and_the_rest_is_not() {
        assert!(["/", "/healthz", "/readyz", "/assets/app.js"].into_iter().all(is_open));
        let closed =
            ["/v1/models", "/metrics", "/openapi.json", "//", "/assets", "/healthz/", "/nothing", ""];
        assert!(!closed.into_iter().any(is_open));
    }
}
