//! What every route has in common: errors, models, metrics, the description of the routes, the end.

use std::collections::BTreeSet;

use axum::body::Body;
use axum::http::{Method, Request, StatusCode};
use serde_json::json;
use submask_server::{ServerSettings, app};

use super::support::{get, post, send, server, state};

#[tokio::test]
async fn models_say_what_they_are() {
    let server = server(ServerSettings::default(), &["words", "blocks", "baseline", "pictures"]);
    let list = get(&server, "/v1/models").await.json();
    assert_eq!(list["object"], "list");
    let names: Vec<&str> =
        list["data"].as_array().unwrap().iter().map(|it| it["id"].as_str().unwrap()).collect();
    assert_eq!(names, ["words", "blocks", "baseline", "pictures"]);
    for (place, name) in names.iter().enumerate() {
        let one = get(&server, &format!("/v1/models/{name}")).await;
        assert_eq!(one.json(), list["data"][place]);
        assert_eq!((&one.json()["object"], &one.json()["owned_by"]), (&json!("model"), &json!("submask")));
        assert!(one.json()["created"].as_u64().unwrap() > 1_700_000_000, "{}", one.text());
    }
    let of = |place: usize, field: &str| list["data"][place]["submask"][field].clone();
    assert_eq!((of(0, "kind"), of(0, "network")), (json!("text"), json!("diffusion")));
    assert_eq!((of(0, "seq_len"), of(0, "block_len"), of(1, "block_len")), (json!(24), json!(0), json!(4)));
    assert_eq!((of(0, "subtokens"), of(0, "base"), of(0, "vocab_size")), (json!(2), json!(17), json!(257)));
    assert_eq!((of(0, "longest_text"), of(1, "longest_text")), (json!(24), json!(1 << 20)));
    assert_eq!(of(0, "orders"), json!(["random", "left-to-right", "confidence", "margin", "entropy"]));
    assert_eq!((of(2, "network"), of(2, "orders")), (json!("autoregressive"), json!(["left-to-right"])));
    assert_eq!((of(0, "image"), of(0, "classes"), of(0, "figures")), (json!(null), json!(null), json!([])));
    assert_eq!((of(3, "kind"), of(3, "tokenizer")), (json!("images"), json!(null)));
    assert_eq!(of(3, "image"), json!({"width": 8, "height": 8, "channels": 1}));
    assert_eq!(of(3, "classes"), json!(["round", "square"]));
    assert_eq!(of(0, "sampling")["temperature"], json!(1.0));
    assert!(of(0, "parameters").as_u64().unwrap() > 1000 && of(0, "tokenizer").is_object());
}

#[tokio::test]
async fn what_is_not_there_is_said_so() {
    let server = server(ServerSettings::default(), &["words"]);
    let answer = get(&server, "/v1/models/wrds").await;
    let expected = json!({"error": {
        "message": "model = \"wrds\" is not served here: words", "type": "not_found_error", "param": "model",
        "code": "model_not_found"}});
    assert_eq!((answer.status, answer.json()), (StatusCode::NOT_FOUND, expected));
    for (method, path, says) in [
        (Method::GET, "/v1/nothing", "there is no GET /v1/nothing"),
        (Method::GET, "/v1/models/", "there is no GET"),
        (Method::POST, "/v1/embeddings", "there is no POST /v1/embeddings"),
        (Method::POST, "/v1/chat/completions", "/v1/completions"),
        (Method::GET, "/v1/chat/completions", "/v1/completions"),
        (Method::GET, "/assets/nothing.js", "nothing.js"),
    ] {
        let request = Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
        let answer = send(&server, request).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{path}");
        assert!(answer.message().contains(says), "{path}: {}", answer.message());
        assert_eq!(answer.json()["error"]["type"], "not_found_error");
    }
    for (method, path, allowed) in [
        (Method::GET, "/v1/completions", "POST"),
        (Method::DELETE, "/v1/models", "GET,HEAD"),
        (Method::POST, "/healthz", "GET,HEAD"),
    ] {
        let request = Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
        let answer = send(&server, request).await;
        assert_eq!(
            (answer.status, answer.header("allow")),
            (StatusCode::METHOD_NOT_ALLOWED, Some(allowed)),
            "{path}"
        );
        assert_eq!(answer.json()["error"]["type"], "invalid_request_error");
    }
}

const COMPUTING: [&str; 5] = ["/v1/completions", "/v1/infill", "/v1/predict", "/v1/score", "/v1/images"];

#[tokio::test]
async fn bodies_that_cannot_be_read_are_refused_by_every_route() {
    let settings = ServerSettings { max_body: 2000, max_large_body: 4000, ..ServerSettings::default() };
    let server = server(settings, &["words"]);
    for path in COMPUTING {
        let with = async |kind: Option<&str>, body: &[u8]| {
            let mut request = Request::post(path);
            if let Some(kind) = kind {
                request = request.header("content-type", kind);
            }
            send(&server, request.body(Body::from(body.to_vec())).unwrap()).await
        };
        for kind in [None, Some("text/plain"), Some("application/x-www-form-urlencoded")] {
            let answer = with(kind, b"{}").await;
            assert_eq!(answer.status, StatusCode::UNSUPPORTED_MEDIA_TYPE, "{path}");
            assert!(answer.message().contains("application/json"));
        }
        let request = Request::post(path).header("content-type", "application/json");
        let packed = request.header("content-encoding", "gzip").body(Body::from("{}")).unwrap();
        let answer = send(&server, packed).await;
        assert_eq!(answer.status, StatusCode::UNSUPPORTED_MEDIA_TYPE, "{path}");
        assert!(answer.message().contains("content-encoding is \"gzip\""), "{}", answer.message());
        let answer = with(Some("application/json"), &[b' '; 4001]).await;
        assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE, "{path}");
        assert!(answer.message().contains("--max-"), "{}", answer.message());
        for body in [&b""[..], b"{", b"[]", b"null", b"\xff", b"{\"model\"}", b"{} {}"] {
            let answer = with(Some("application/json"), body).await;
            assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{path}: {}", answer.text());
        }
        let answer = with(Some("application/json"), br#"{"model": "words", "no_such_field": 1}"#).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{path}");
        assert_eq!(answer.json()["error"]["param"], "no_such_field", "{}", answer.text());
        assert!(answer.message().contains("`model`"), "the known ones: {}", answer.message());
    }
}

#[tokio::test]
async fn requests_are_counted_measured_and_named() {
    let server = server(ServerSettings::default(), &["words"]);
    let id = |answer: &super::support::Answer| answer.header("x-request-id").unwrap().to_owned();
    let first = get(&server, "/healthz").await;
    assert_ne!(id(&first), id(&get(&server, "/healthz").await));
    assert_eq!(first.header("x-content-type-options"), Some("nosniff"));
    get(&server, "/v1/models/words").await;
    get(&server, "/v1/models/other").await;
    get(&server, "/nothing").await;
    let head = Request::head("/healthz").body(Body::empty()).unwrap();
    assert_eq!(send(&server, head).await.body, b"");
    let answer = get(&server, "/metrics").await;
    assert!(answer.header("content-type").unwrap().contains("openmetrics-text"));
    let text = answer.text();
    for line in [
        "submask_requests_total{route=\"/healthz\",status=\"200\"} 3",
        "submask_requests_total{route=\"/v1/models/{model}\",status=\"200\"} 1",
        "submask_requests_total{route=\"/v1/models/{model}\",status=\"404\"} 1",
        "submask_requests_total{route=\"(none)\",status=\"404\"} 1",
        "submask_request_duration_seconds_count{route=\"/healthz\"} 3",
        "submask_first_output_seconds_count{route=\"/healthz\"} 2",
        "submask_queue_length{model=\"words\"} 0",
        "submask_network_evaluations_total{model=\"words\"} 0",
        "submask_batch_fill_count{model=\"words\"} 0",
        "submask_connections 0",
        "submask_slow_readers_total 0",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is missing in\n{text}");
    }
    assert!(!text.contains("submask_cancelled_requests_total{"), "nobody went away:\n{text}");
    assert!(text.ends_with("# EOF\n"));
}

#[tokio::test]
async fn the_description_names_every_route_and_only_these() {
    let server = server(ServerSettings::default(), &[]);
    let document = get(&server, "/openapi.json").await.json();
    assert!(document["openapi"].as_str().unwrap().starts_with("3."), "{}", document["openapi"]);
    let mut paths: Vec<(&str, Vec<&str>)> = document["paths"]
        .as_object()
        .unwrap()
        .iter()
        .map(|(path, methods)| {
            (path.as_str(), methods.as_object().unwrap().keys().map(String::as_str).collect())
        })
        .collect();
    paths.sort();
    let get_paths = ["/healthz", "/metrics", "/openapi.json", "/readyz", "/v1/models", "/v1/models/{model}"];
    let mut expected: Vec<(&str, Vec<&str>)> = get_paths.map(|path| (path, vec!["get"])).to_vec();
    expected.extend(COMPUTING.map(|path| (path, vec!["post"])));
    expected.sort();
    assert_eq!(paths, expected);
    let operations =
        document["paths"].as_object().unwrap().values().flat_map(|it| it.as_object().unwrap().values());
    let ids: BTreeSet<&str> = operations.map(|it| it["operationId"].as_str().unwrap()).collect();
    assert!(ids.len() == expected.len() && ids.contains("post_v1_completions"), "{ids:?}");
    // Every reference leads somewhere.
    let text = document.to_string();
    for (start, reference) in text.match_indices("\"$ref\":\"#") {
        let rest = &text[start + reference.len()..];
        let pointer = &rest[..rest.find('"').unwrap()];
        assert!(document.pointer(pointer).is_some(), "{pointer}");
    }
    assert_eq!(document["components"]["securitySchemes"]["token"]["scheme"], "bearer");
    assert_eq!(document["paths"]["/healthz"]["get"]["security"], json!([{}]));
    assert_eq!(document["security"], json!([{"token": []}]));
}

#[tokio::test]
async fn a_server_that_is_about_to_end_takes_nothing_new() {
    let state = state(ServerSettings::default(), &["words"]);
    let server = app(state.clone());
    assert_eq!(get(&server, "/readyz").await.status, StatusCode::OK);
    state.shutdown.cancel();
    assert_eq!(get(&server, "/healthz").await.status, StatusCode::OK);
    let refused = get(&server, "/readyz").await;
    assert_eq!((refused.status, refused.header("retry-after")), (StatusCode::SERVICE_UNAVAILABLE, Some("1")));
    for path in COMPUTING {
        let refused = post(&server, path, &json!({"model": "words"})).await;
        assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE, "{path}");
        assert_eq!(refused.json()["error"]["code"], "shutting_down");
    }
}
