//! Many requests at once, clients that go away, limits, and bodies that make no sense.

use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, StatusCode};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use submask_server::{ServerSettings, app};
use tower::ServiceExt;

use crate::support::{self, post, post_bytes};

/// A request, by its number: of several kinds, settings and lengths.
fn request(number: usize) -> (&'static str, Value) {
    let model = ["words", "blocks", "baseline"][number % 3];
    let tokens = 1 + number * 7 % 19;
    let mut body =
        json!({"model": model, "prompt": "ab", "max_tokens": tokens, "seed": number, "n": 1 + number % 3});
    let more = match number % 5 {
        0 => json!({}),
        1 => json!({"temperature": 0.5}),
        2 => json!({"order": "left-to-right", "logprobs": 0}),
        3 => json!({"top_k": 7}),
        _ => json!({"echo": true}),
    };
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    ("/v1/completions", body)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_is_the_same_alone_and_among_fifty_others() {
    let settings = || ServerSettings { max_batch: 5, ..ServerSettings::default() };
    let server = support::server(settings(), &["words", "blocks", "baseline"]);
    let mut alone = Vec::new();
    for number in 0..51 {
        let (path, body) = request(number);
        let answer = post(&server, path, &body).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
        alone.push(answer.json());
    }
    let tasks: Vec<_> = (0..51)
        .map(|number| {
            let server = server.clone();
            tokio::spawn(async move {
                let (path, body) = request(number);
                post(&server, path, &body).await.json()
            })
        })
        .collect();
    for (task, alone) in tasks.into_iter().zip(alone) {
        let together = task.await.unwrap();
        assert_eq!((&together["choices"], &together["usage"]), (&alone["choices"], &alone["usage"]));
    }
}

/// A stream that takes long: at temperature 0 the tiny model repeats itself, and does not come to an end.
fn long() -> Request<Body> {
    let body =
        json!({"model": "blocks", "prompt": "a", "max_tokens": 60_000, "temperature": 0, "stream": true});
    Request::post("/v1/completions")
        .header("content-type", "application/json")
        .body(Body::from(body.to_string()))
        .unwrap()
}

async fn short(server: &Router) -> support::Answer {
    post(server, "/v1/completions", &json!({"model": "blocks", "prompt": "a", "max_tokens": 2})).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_is_told_and_who_goes_away_makes_room() {
    let settings = ServerSettings { max_batch: 1, max_queue: 1, ..ServerSettings::default() };
    let server = support::server(settings, &["blocks"]);
    let mut first = server.clone().oneshot(long()).await.unwrap();
    let second = server.clone().oneshot(long()).await.unwrap();
    assert!(first.body_mut().frame().await.unwrap().unwrap().is_data());
    let full = short(&server).await;
    assert_eq!((full.status, full.header("retry-after")), (StatusCode::TOO_MANY_REQUESTS, Some("1")));
    assert_eq!(full.json()["error"]["type"], "rate_limit_error");
    drop((first, second));
    let accepted = async {
        while short(&server).await.status != StatusCode::OK {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), accepted).await.expect("streams that nobody reads go on");
}

/// What a short text is scored with: refused as long as another score is at work, where none may wait.
async fn score(server: &Router) -> StatusCode {
    post(server, "/v1/score", &json!({"model": "words", "texts": ["a"]})).await.status
}

/// A stream whose texts are written, and are being scored for minutes.
async fn scored_for_long(server: &Router) -> axum::response::Response {
    let body = json!({
        "model": "words", "template": "a[[20]]", "n": 40, "stream": true,
        "score": {"estimator": "orders", "draws": 4096}
    });
    loop {
        let request = Request::post("/v1/infill").header("content-type", "application/json");
        let request = request.body(Body::from(body.to_string())).unwrap();
        let mut stream = server.clone().oneshot(request).await.unwrap();
        let mut read = String::new();
        while read.matches("\"type\":\"finished\"").count() < 40 {
            let frame = stream.body_mut().frame().await.unwrap().unwrap();
            read += std::str::from_utf8(frame.data_ref().unwrap()).unwrap();
        }
        // Somebody's score is at work for longer than those that are asked for here.
        let mut refused = 0;
        while refused < 5 {
            refused = if score(server).await == StatusCode::OK { 0 } else { refused + 1 };
            // The place that it needs may be taken by the question: then it is refused, and begins anew.
            if tokio::time::timeout(Duration::from_millis(5), stream.body_mut().frame()).await.is_ok() {
                break;
            }
        }
        if refused == 5 {
            return stream;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_nobody_reads_scores_no_more() {
    // So much is allowed that the scores take far longer than is waited for.
    let settings = ServerSettings { max_queue: 0, max_tokens: 1 << 24, ..ServerSettings::default() };
    let server = support::server(settings, &["words"]);
    let begun = tokio::time::timeout(Duration::from_secs(120), scored_for_long(&server)).await;
    drop(begun.expect("the texts are scored at once"));
    let accepted = async {
        while score(&server).await != StatusCode::OK {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), accepted)
        .await
        .expect("texts that nobody reads are scored");
}

#[tokio::test(flavor = "multi_thread")]
async fn large_bodies_have_so_much_room_together() {
    let state = support::state(ServerSettings::default(), &["words"]);
    let server = app(state.clone());
    let body = |bytes: usize| json!({"model": "words", "texts": ["a"], "x": "b".repeat(bytes)});
    assert_eq!(state.bodies.available_permits(), 8 << 14);
    let others = state.bodies.clone().try_acquire_many_owned((8 << 14) - 100).unwrap();
    let ask = |bytes: usize| {
        let (server, body) = (server.clone(), body(bytes));
        async move { post(&server, "/v1/score", &body).await }
    };
    assert_eq!(ask(100 << 10).await.json()["error"]["code"], "too_many_bodies");
    assert_eq!(ask(60 << 10).await.status, StatusCode::BAD_REQUEST);
    assert_eq!(ask(90 << 10).await.json()["error"]["param"], "x");
    drop(others);
    assert_eq!(ask(100 << 10).await.json()["error"]["param"], "x");
    assert_eq!(state.bodies.available_permits(), 8 << 14);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_nobody_waits_for_makes_room() {
    let settings = ServerSettings { max_batch: 1, max_queue: 0, ..ServerSettings::default() };
    let server = support::server(settings, &["blocks"]);
    let body = json!({"model": "blocks", "prompt": "a", "max_tokens": 60_000, "temperature": 0});
    let given_up =
        tokio::time::timeout(Duration::from_millis(100), post(&server, "/v1/completions", &body)).await;
    assert!(given_up.is_err());
    let accepted = async {
        while short(&server).await.status != StatusCode::OK {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), accepted)
        .await
        .expect("an answer that nobody waits for is made");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_time_limit_ends_answers_and_streams() {
    let settings = ServerSettings { timeout: Duration::from_millis(80), ..ServerSettings::default() };
    let server = support::server(settings, &["blocks"]);
    let body = json!({"model": "blocks", "prompt": "a", "max_tokens": 60_000, "temperature": 0});
    let answer = post(&server, "/v1/completions", &body).await;
    assert_eq!(
        (answer.status, answer.json()["error"]["type"].clone()),
        (StatusCode::GATEWAY_TIMEOUT, json!("timeout_error"))
    );
    for (path, body) in [
        (
            "/v1/completions",
            json!({"model": "blocks", "prompt": "a", "max_tokens": 60_000, "temperature": 0, "stream": true}),
        ),
        ("/v1/infill", json!({"model": "blocks", "length": 60_000, "temperature": 0, "stream": true})),
    ] {
        let stream = post(&server, path, &body).await;
        assert_eq!(stream.status, StatusCode::OK);
        let last = stream
            .text()
            .trim_end()
            .rsplit("\n\n")
            .next()
            .unwrap()
            .strip_prefix("data: ")
            .unwrap()
            .to_owned();
        let last: Value = serde_json::from_str(&last).unwrap();
        assert_eq!(last["error"]["type"], "timeout_error", "{path}");
    }
    // Others are served; on a busy machine the limit may be too short for some of them.
    let served = async { while short(&server).await.status != StatusCode::OK {} };
    tokio::time::timeout(Duration::from_secs(60), served).await.expect("nobody is served any more");
}

/// Draws for bodies: a small generator of its own, so that a failure can be had again.
struct Draws(u64);

impl Draws {
    fn next(&mut self) -> u64 {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    fn one<'a, T: ?Sized>(&mut self, of: &[&'a T]) -> &'a T {
        of[self.below(of.len())]
    }

    /// Any value.
    fn value(&mut self, depth: usize) -> Value {
        let texts = [
            "",
            "a",
            "[[3]]",
            "[[*]]",
            "[[99999999999]]",
            "\u{0}",
            "größe",
            "off",
            "rest",
            "mixture",
            "exact",
            "path",
            "orders",
            "random",
            "left-to-right",
            "confidence",
            "margin",
            "entropy",
            "digits",
            "tokens",
            "cached",
            "inclusive",
            "exclusive",
            "marginal",
            "iVBORw0KGgo=",
            "words",
            "square",
            "\u{1f600}",
        ];
        match self.below(if depth == 0 { 8 } else { 11 }) {
            0 => Value::Null,
            1 => json!(self.next().is_multiple_of(2)),
            2 => json!(self.below(8)),
            3 => json!([0.0, -0.0, 0.5, 1.0, 1e-300, 1e300, -1.0, 2.5][self.below(8)]),
            4 => json!([0, 1, 127, 255, 256, 65_536, u64::MAX, u64::MAX / 2][self.below(8)]),
            5 => json!(-(self.below(9) as i64)),
            6 | 7 => json!(self.one(&texts)),
            8 | 9 => {
                let count = self.below(5);
                json!((0..count).map(|_| self.value(depth - 1)).collect::<Vec<_>>())
            }
            _ => {
                let names = [
                    "text",
                    "tokens",
                    "hole",
                    "digits",
                    "prompt",
                    "estimator",
                    "draws",
                    "include_usage",
                    "x",
                ];
                let count = self.below(3);
                let fields = (0..count).map(|_| (self.one(&names).to_owned(), self.value(depth - 1)));
                Value::Object(fields.collect())
            }
        }
    }

    /// A body for a path: a request that can be worked on, with some fields that may be anything.
    fn body(&mut self, path: &str) -> Vec<u8> {
        let names = [
            "prompt",
            "suffix",
            "max_tokens",
            "temperature",
            "top_p",
            "n",
            "seed",
            "stop",
            "echo",
            "stream",
            "stream_options",
            "logprobs",
            "user",
            "best_of",
            "presence_penalty",
            "logit_bias",
            "order",
            "unit",
            "steps",
            "per_step",
            "top_k",
            "nucleus",
            "carry_over",
            "window",
            "min_entropy",
            "entropy_window",
            "template",
            "parts",
            "length",
            "first_sequence",
            "draw",
            "warp",
            "corrector",
            "score",
            "digits",
            "tokens",
            "top",
            "label",
            "texts",
            "end",
            "stride",
            "estimator",
            "draws",
            "by_token",
            "image",
            "mask",
            "format",
            "scale",
            "sampler",
            "model",
            "x",
        ];
        let model = self.one(&["words", "blocks", "baseline", "pictures"]);
        let mut body = match path {
            "/v1/completions" => json!({"model": model, "prompt": "a", "max_tokens": 3}),
            "/v1/infill" => json!({"model": model, "template": "a[[2]]"}),
            "/v1/score" => json!({"model": model, "texts": ["ab"], "draws": 1}),
            "/v1/predict" => json!({"model": model, "digits": [[1, null], [null, 2]], "tokens": [0]}),
            _ => json!({"model": "pictures", "steps": 1}),
        };
        for _ in 0..self.below(4) {
            let name = self.one(&names);
            body[name] = self.value(3);
        }
        let mut bytes = body.to_string().into_bytes();
        if self.below(20) == 0 {
            let place = self.below(bytes.len());
            bytes[place] ^= 1 << self.below(8);
        }
        if self.below(40) == 0 {
            bytes.truncate(self.below(bytes.len()));
        }
        bytes
    }
}

/// Bodies from a seed on: `SUBMASK_FUZZED_BODIES` says how many, and `SUBMASK_FUZZED_SEED` where they begin.
#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_make_no_sense_are_no_fault_of_the_server() {
    let number = |name: &str, usual| std::env::var(name).map_or(usual, |text| text.parse::<u64>().unwrap());
    let usual = if cfg!(debug_assertions) { 5_000 } else { 100_000 };
    let (count, seed) = (number("SUBMASK_FUZZED_BODIES", usual), number("SUBMASK_FUZZED_SEED", 0));
    let settings = ServerSettings {
        max_tokens: 4096,
        max_choices: 16,
        timeout: Duration::from_secs(30),
        ..ServerSettings::default()
    };
    let state = support::state(settings, &["words", "blocks", "baseline", "pictures"]);
    let server = app(state);
    let paths = ["/v1/completions", "/v1/infill", "/v1/score", "/v1/predict", "/v1/images"];
    let mut statuses = std::collections::BTreeMap::new();
    for number in seed..seed + count {
        let mut draws = Draws(number);
        let path = draws.one(&paths);
        let body = draws.body(path);
        let answer = post_bytes(&server, path, body.clone()).await;
        let said = String::from_utf8_lossy(&answer.body).into_owned();
        let shown = String::from_utf8_lossy(&body).into_owned();
        assert!(answer.status.as_u16() < 500, "seed {number}, {path}: {} for {shown}: {said}", answer.status);
        assert!(!said.contains("server_error"), "seed {number}, {path}: {said} for {shown}");
        assert!(
            !said.contains("data: ") || said.contains("[DONE]") || said.contains("\"error\""),
            "seed {number}: {said}"
        );
        *statuses.entry(answer.status.as_u16()).or_insert(0) += 1;
    }
    assert!(statuses[&200] * 10 > count && statuses[&400] * 10 > count, "{statuses:?}");
    println!("{statuses:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn text_that_waits_for_a_slow_client_is_joined() {
    // Without joining, the chunks of this text alone are larger than what may wait.
    let settings = ServerSettings { stream_buffer: 40_000, ..ServerSettings::default() };
    let server = support::server(settings, &["blocks"]);
    let body = json!({"model": "blocks", "prompt": "a", "max_tokens": 4000, "temperature": 0, "seed": 1});
    let whole = post(&server, "/v1/completions", &body).await.json();
    let mut streamed = body;
    streamed["stream"] = json!(true);
    let request = Request::post("/v1/completions").header("content-type", "application/json");
    let response =
        server.clone().oneshot(request.body(Body::from(streamed.to_string())).unwrap()).await.unwrap();
    // The engine is through with it before anything is read.
    loop {
        let metrics = support::get(&server, "/metrics").await;
        if metrics.text().contains("submask_completion_tokens_total{model=\"blocks\"} 8000") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let read = response.into_body().collect().await.unwrap().to_bytes();
    let text = std::str::from_utf8(&read).unwrap();
    let events: Vec<Value> = text
        .split("\n\n")
        .filter_map(|line| line.strip_prefix("data: "))
        .filter(|data| *data != "[DONE]")
        .map(|data| serde_json::from_str(data).unwrap())
        .collect();
    let joined: String = events.iter().map(|chunk| chunk["choices"][0]["text"].as_str().unwrap()).collect();
    assert_eq!(whole["choices"][0]["text"], joined);
    assert!(read.len() <= 40_000 && text.ends_with("data: [DONE]\n\n"), "{} bytes", read.len());
}
