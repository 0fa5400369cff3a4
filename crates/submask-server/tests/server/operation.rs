//! What every route has in common: errors, models, metrics, the description of the routes, the end.

use axum::body::Body;
use axum::http::{Method, Request, StatusCode};
use serde_json::json;
use submask_server::{ServerSettings, app};

use super::support::{get, post, post_bytes, send, server, state};

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

/// Bodies of which one byte, field or value is not as it should be.
struct Bodies {
    random: u64,
}

impl Bodies {
    fn next(&mut self, below: usize) -> usize {
        // xorshift64*.
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        (self.random.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % below
    }

    /// A body, and the path that it is sent to: mostly its own.
    fn one(&mut self) -> (&'static str, Vec<u8>) {
        const WHOLE: [(&str, &str); 8] = [
            (
                "/v1/completions",
                r#"{"model":"words","prompt":"ab","max_tokens":3,"n":2,"seed":1,"stop":["c"],"temperature":0.5,"top_p":0.9}"#,
            ),
            (
                "/v1/completions",
                r#"{"model":"baseline","prompt":["ab",""],"max_tokens":2,"echo":true,"logprobs":2,"suffix":null}"#,
            ),
            (
                "/v1/completions",
                r#"{"model":"blocks","prompt":[[97,98]],"max_tokens":5,"stream":true,"order":"entropy","unit":"tokens"}"#,
            ),
            (
                "/v1/infill",
                r#"{"model":"words","template":"a[[2]]b[[*]]","length":9,"n":1,"steps":4,"corrector":null,"stream":true}"#,
            ),
            (
                "/v1/infill",
                r#"{"model":"words","parts":[{"text":"a"},{"hole":2},{"tokens":[98]},{"digits":[[1,null]]},{"hole":"rest"}]}"#,
            ),
            (
                "/v1/predict",
                r#"{"model":"words","digits":[[1,null],[null,null]],"tokens":[0,1],"top":3,"label":null}"#,
            ),
            (
                "/v1/score",
                r#"{"model":"words","texts":["ab",{"prompt":"a","text":"b"}],"end":true,"draws":2,"seed":3,"by_token":false}"#,
            ),
            (
                "/v1/images",
                r#"{"model":"pictures","n":1,"seed":1,"label":"round","steps":2,"image":null,"mask":null,"scale":2}"#,
            ),
        ];
        const VALUES: [&str; 16] = [
            "null",
            "-1",
            "0",
            "1e308",
            "1e-320",
            "18446744073709551616",
            "\"\"",
            "\"\\ud800\"",
            "[]",
            "{}",
            "true",
            "[[null]]",
            "\"[[999999999]]\"",
            "\"[[*]][[*]]\"",
            "4294967295",
            "\"\\u0000\"",
        ];
        let (own, whole) = WHOLE[self.next(WHOLE.len())];
        let path = if self.next(8) == 0 { COMPUTING[self.next(COMPUTING.len())] } else { own };
        let mut body = whole.as_bytes().to_vec();
        for _ in 0..self.next(4) {
            let place = self.next(body.len().max(1)).min(body.len().saturating_sub(1));
            match self.next(5) {
                0 => body.truncate(place),
                1 if !body.is_empty() => body[place] = self.next(256) as u8,
                2 => drop(body.splice(place..place, VALUES[self.next(VALUES.len())].bytes())),
                _ => self.replace_value(&mut body, VALUES),
            }
        }
        (path, body)
    }

    /// Puts another value after one of the colons.
    fn replace_value(&mut self, body: &mut Vec<u8>, values: [&str; 16]) {
        let colons: Vec<usize> = (0..body.len()).filter(|&place| body[place] == b':').collect();
        if colons.is_empty() {
            return;
        }
        let start = colons[self.next(colons.len())] + 1;
        let length = body[start..].iter().position(|byte| b",}".contains(byte)).unwrap_or(0);
        body.splice(start..start + length, values[self.next(values.len())].bytes());
    }
}

/// `SUBMASK_BODIES` says how many are sent.
#[tokio::test]
async fn no_body_makes_the_server_fail() {
    let settings = ServerSettings { max_tokens: 200, max_choices: 8, ..ServerSettings::default() };
    let server = server(settings, &["words", "blocks", "baseline", "pictures"]);
    let count = std::env::var("SUBMASK_BODIES").map_or(1500, |count| count.parse().unwrap());
    let mut bodies = Bodies { random: 0x5EED };
    let mut done = 0;
    for _ in 0..count {
        let (path, body) = bodies.one();
        let answer = post_bytes(&server, path, body.clone()).await;
        let sent = String::from_utf8_lossy(&body);
        assert!(answer.status.as_u16() < 500, "{path} {sent}: {}", answer.text());
        let text = String::from_utf8_lossy(&answer.body);
        assert!(!text.contains("\"server_error\""), "{path} {sent}: {text}");
        done += usize::from(answer.status.is_success());
        if !answer.status.is_success() {
            assert!(!answer.message().is_empty() && answer.message().len() < 2000 + body.len(), "{sent}");
        }
    }
    assert!(done > count / 10, "{done} of {count} were whole: what comes after reading is tried, too");
}
