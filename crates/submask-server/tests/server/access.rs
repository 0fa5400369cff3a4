//! Who may ask for what.

use axum::body::Body;
use axum::http::{Method, Request, StatusCode};
use submask_server::{ServerSettings, Token};

use super::support::{get, send, server};

fn with_token() -> ServerSettings {
    ServerSettings { token: Some(Token::new("the-secret").unwrap()), ..ServerSettings::default() }
}

/// Every path that there is, and whether it is for everybody.
const PATHS: [(&str, bool); 9] = [
    ("/", true),
    ("/assets/nothing", true),
    ("/healthz", true),
    ("/readyz", true),
    ("/metrics", false),
    ("/openapi.json", false),
    ("/v1/models", false),
    ("/v1/models/words", false),
    ("/v1/nothing", false),
];

#[tokio::test]
async fn without_the_token_only_the_page_and_health_answer() {
    let server = server(with_token(), &["words"]);
    for (path, is_open) in PATHS {
        let answer = get(&server, path).await;
        let is_refused = answer.status == StatusCode::UNAUTHORIZED;
        assert_eq!(is_refused, !is_open, "{path}: {}", answer.status);
        if is_refused {
            assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
            let error = &answer.json()["error"];
            assert_eq!(
                (&error["type"], &error["code"]),
                (&"authentication_error".into(), &"invalid_api_key".into())
            );
        }
    }
    for path in
        ["/v1/completions", "/v1/infill", "/v1/score", "/v1/predict", "/v1/images", "/v1/chat/completions"]
    {
        let request = Request::post(path).header("content-type", "application/json");
        let answer = send(&server, request.body(Body::from("{}")).unwrap()).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{path}");
    }
}

#[tokio::test]
async fn the_token_opens_everything_and_no_other_does() {
    let server = server(with_token(), &["words"]);
    let ask = async |path: &str, headers: &[&str]| {
        let mut request = Request::get(path).header("host", "example.org");
        for header in headers {
            request = request.header("authorization", *header);
        }
        send(&server, request.body(Body::empty()).unwrap()).await.status
    };
    for path in ["/v1/models", "/metrics", "/openapi.json"] {
        assert_eq!(ask(path, &["Bearer the-secret"]).await, StatusCode::OK, "{path}");
        assert_eq!(ask(path, &["bearer the-secret"]).await, StatusCode::OK, "{path}");
    }
    for wrong in
        ["Bearer the-secre", "Bearer the-secrets", "Bearer", "Bearer ", "Basic the-secret", "the-secret"]
    {
        assert_eq!(ask("/v1/models", &[wrong]).await, StatusCode::UNAUTHORIZED, "{wrong}");
    }
    let twice = ask("/v1/models", &["Bearer the-secret", "Bearer the-secret"]).await;
    assert_eq!(twice, StatusCode::UNAUTHORIZED);
}

/// A page of a stranger that has its name point to this machine.
#[tokio::test]
async fn a_server_without_a_token_answers_to_own_names_only() {
    let ask = async |settings: ServerSettings, host: &str| {
        let request = Request::get("/v1/models").header("host", host).body(Body::empty()).unwrap();
        send(&server(settings, &[]), request).await
    };
    for own in ["localhost:8080", "127.0.0.1:8080", "[::1]:8080"] {
        assert_eq!(ask(ServerSettings::default(), own).await.status, StatusCode::OK, "{own}");
    }
    let refused = ask(ServerSettings::default(), "rebound.example.org:8080").await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
    assert!(refused.message().contains("rebound.example.org") && refused.message().contains("--token-file"));
    let insecure = ServerSettings { insecure: true, ..ServerSettings::default() };
    assert_eq!(ask(insecure, "example.org").await.status, StatusCode::OK);
}

#[tokio::test]
async fn pages_of_allowed_origins_may_call() {
    let settings = ServerSettings { cors: vec!["https://app.example.org".to_owned()], ..with_token() };
    let server = server(settings, &[]);
    let preflight = async |origin: &str| {
        let request = Request::builder()
            .method(Method::OPTIONS)
            .uri("/v1/completions")
            .header("origin", origin)
            .header("access-control-request-method", "POST")
            .header("access-control-request-headers", "authorization,content-type,x-stainless-lang");
        send(&server, request.body(Body::empty()).unwrap()).await
    };
    let allowed = preflight("https://app.example.org").await;
    assert_eq!(allowed.status, StatusCode::OK, "it carries no token");
    assert_eq!(allowed.header("access-control-allow-origin"), Some("https://app.example.org"));
    assert!(allowed.header("access-control-allow-headers").unwrap().contains("authorization"));
    let other = preflight("https://other.example.org").await;
    assert_eq!(other.header("access-control-allow-origin"), None);
    let request = Request::get("/v1/models").header("origin", "https://app.example.org");
    let refused = send(&server, request.body(Body::empty()).unwrap()).await;
    assert_eq!(refused.status, StatusCode::UNAUTHORIZED);
    let origin = refused.header("access-control-allow-origin");
    assert_eq!(origin, Some("https://app.example.org"), "the page is to learn why");
}

#[tokio::test]
async fn without_cors_no_page_of_another_origin_may_call() {
    let server = server(ServerSettings::default(), &[]);
    let request = Request::get("/v1/models").header("origin", "https://app.example.org");
    let answer = send(&server, request.body(Body::empty()).unwrap()).await;
    assert_eq!(answer.header("access-control-allow-origin"), None);
    // What a page can send without asking first is not taken for JSON.
    let request = Request::post("/v1/completions").header("content-type", "text/plain");
    let answer = send(&server, request.body(Body::from("{}")).unwrap()).await;
    assert_eq!(answer.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
}
