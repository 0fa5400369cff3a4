//! `/v1/completions`: texts as the library writes them, in OpenAI's shape.

use axum::Router;
use axum::http::StatusCode;
use serde_json::{Value, json};
use submask::Compute;
use submask::model::{Estimator, EvaluateRequest, Generated, Request, Session, TextLayout};
use submask::order::Order;
use submask::sampler::{RevealUnit, Unobserved};
use submask_server::state::AppState;
use submask_server::{ModelSource, ServerSettings, app};

use crate::ends;
use crate::support::{self, Answer, post};

const PATH: &str = "/v1/completions";

fn server(names: &[&str]) -> (AppState, Router) {
    let state = support::state(ServerSettings::default(), names);
    let router = app(state.clone());
    (state, router)
}

fn with_ends(block_len: usize) -> (AppState, Router) {
    let state = AppState::new(ServerSettings::default(), vec![ends::model(block_len)]).unwrap();
    let router = app(state.clone());
    (state, router)
}

async fn ok(server: &Router, body: Value) -> Value {
    let answer = post(server, PATH, &body).await;
    assert_eq!(answer.status, StatusCode::OK, "{body}: {}", answer.text());
    answer.json()
}

/// The events of a stream, all but `[DONE]`, with which it has to end.
pub fn events(answer: &Answer) -> Vec<Value> {
    let lines = answer.text().split("\n\n").filter(|line| !line.is_empty());
    let mut events: Vec<&str> = lines.filter_map(|line| line.strip_prefix("data: ")).collect();
    assert_eq!(events.pop(), Some("[DONE]"), "{}", answer.text());
    events.into_iter().map(|event| serde_json::from_str(event).unwrap()).collect()
}

/// What the library writes in a hole after a prompt.
fn written(session: &Session, template: &str, change: impl FnOnce(Request) -> Request) -> Generated {
    let prompt = session.prompt(&template.parse().unwrap(), None).unwrap();
    let request = change(Request { prompt, ..session.request() });
    session.generate(&request, &mut Unobserved).unwrap()
}

#[tokio::test]
async fn choices_are_the_samples_of_the_library() {
    let (state, server) = server(&["words", "blocks", "baseline"]);
    for name in ["words", "blocks", "baseline"] {
        let session = support::session(&state, name);
        let body = json!({"model": name, "prompt": "sea", "max_tokens": 12, "n": 3, "seed": 7});
        let answer = ok(&server, body).await;
        let expected = written(&session, "sea[[12]]", |request| Request { num: 3, seed: 7, ..request });
        for (choice, text) in expected.texts.iter().enumerate() {
            let found = &answer["choices"][choice];
            assert_eq!(found["index"], choice);
            assert_eq!(format!("sea{}", found["text"].as_str().unwrap()), *text, "{name}");
            assert_eq!((&found["finish_reason"], &found["logprobs"]), (&json!("length"), &Value::Null));
        }
        let report = expected.report;
        let usage = json!({
            "prompt_tokens": 3, "completion_tokens": 36, "total_tokens": 39,
            "network_evaluations": report.evaluations, "idle_steps": report.steps_skipped,
            "clean_passes": report.clean_passes
        });
        assert_eq!(answer["usage"], usage, "{name}");
        assert_eq!(
            (&answer["object"], &answer["model"], &answer["seed"]),
            (&json!("text_completion"), &json!(name), &json!(7))
        );
    }
}

#[tokio::test]
async fn fields_of_sampling_reach_the_library() {
    let (state, server) = server(&["words"]);
    let session = support::session(&state, "words");
    let body = json!({
        "model": "words", "prompt": "ab", "max_tokens": 9, "seed": 1, "order": "confidence", "per_step": 2,
        "unit": "tokens", "temperature": 0.7, "top_p": 0.8, "top_k": 40, "nucleus": "exclusive", "carry_over": false
    });
    let answer = ok(&server, body).await;
    let expected = written(&session, "ab[[9]]", |mut request| {
        request.sampling.temperature = submask::model::Temperature::Constant(0.7);
        (request.sampling.top_p, request.sampling.top_k) = (0.8, 40);
        request.sampling.nucleus = submask::predictive::Nucleus::Exclusive;
        let (order, unit) = (Order::Confidence, RevealUnit::Tokens);
        Request { seed: 1, order, per_step: 2, unit, carry_over: Some(false), ..request }
    });
    assert_eq!(format!("ab{}", answer["choices"][0]["text"].as_str().unwrap()), expected.texts[0]);
    assert_eq!(answer["usage"]["network_evaluations"], 5);
}

#[tokio::test]
async fn prompts_are_texts_or_tokens_and_number_their_choices_on() {
    let (_, server) = server(&["words"]);
    let ask = |prompt: Value, n: usize| {
        ok(&server, json!({"model": "words", "prompt": prompt, "max_tokens": 5, "n": n, "seed": 3}))
    };
    let texts = ask(json!(["ab", "xyz"]), 2).await;
    assert_eq!(texts["choices"].as_array().unwrap().len(), 4);
    let tokens = ask(json!([[97, 98], [120, 121, 122]]), 2).await;
    assert_eq!(texts["choices"], tokens["choices"]);
    assert_eq!(texts["usage"]["prompt_tokens"], 5);
    let alone = ask(json!("ab"), 2).await;
    assert_eq!(alone["choices"][1], texts["choices"][1]);
    assert_eq!(ask(json!([97, 98]), 2).await["choices"], alone["choices"]);
    // Of the second prompt the numbers 2 and 3, which alone it does not have.
    assert_ne!(ask(json!("xyz"), 2).await["choices"][0]["text"], texts["choices"][2]["text"]);
    assert_eq!(ask(json!(null), 1).await["choices"], ask(json!(""), 1).await["choices"]);
}

#[tokio::test]
async fn a_seed_that_is_drawn_is_told_and_gives_the_same_again() {
    let (_, server) = server(&["words"]);
    let first = ok(&server, json!({"model": "words", "prompt": "a", "max_tokens": 8})).await;
    let again =
        ok(&server, json!({"model": "words", "prompt": "a", "max_tokens": 8, "seed": first["seed"]})).await;
    assert_eq!((&first["choices"], &first["seed"]), (&again["choices"], &again["seed"]));
    let other = ok(&server, json!({"model": "words", "prompt": "a", "max_tokens": 8})).await;
    assert_ne!(first["seed"], other["seed"]);
    assert_ne!(first["id"], other["id"]);
}

#[tokio::test]
async fn a_suffix_stands_behind_what_is_written() {
    let (state, server) = server(&["words", "baseline"]);
    let session = support::session(&state, "words");
    let body = json!({"model": "words", "prompt": "abc", "suffix": "xyz", "max_tokens": 6, "seed": 5});
    let answer = ok(&server, body.clone()).await;
    let expected = written(&session, "abc[[6]]xyz", |request| Request { seed: 5, ..request });
    let text = answer["choices"][0]["text"].as_str().unwrap();
    let whole = session.architecture().text_between(&expected.tokens[0], 4..10).unwrap().0;
    assert_eq!(text, whole);
    assert_eq!(answer["usage"]["prompt_tokens"], 6);
    let refused = post(&server, PATH, &json!({"model": "baseline", "prompt": "abc", "suffix": "xyz"})).await;
    assert_eq!(
        (refused.status, refused.json()["error"]["param"].clone()),
        (StatusCode::BAD_REQUEST, json!("suffix"))
    );
    // A text of another seed may end before its fourth token.
    let body = json!({"model": "baseline", "prompt": "abc", "suffix": "", "max_tokens": 4, "seed": 5});
    assert_eq!(ok(&server, body).await["usage"]["completion_tokens"], 4);
}

#[tokio::test]
async fn a_text_ends_where_its_end_stands() {
    for block_len in [0, 4] {
        let (state, server) = with_ends(block_len);
        let session = support::session(&state, "ends");
        let body = json!({"model": "ends", "prompt": "the sea", "max_tokens": 17, "n": 32, "seed": 11});
        let answer = ok(&server, body.clone()).await;
        let expected = written(&session, "the sea[[17]]", |request| Request { num: 32, seed: 11, ..request });
        let (mut stopped, mut tokens) = (0, 0);
        for (choice, own) in answer["choices"].as_array().unwrap().iter().zip(&expected.tokens) {
            let end = own[3..].iter().position(|token| *token == 15);
            let reason = if end.is_some() { "stop" } else { "length" };
            assert_eq!(choice["finish_reason"], reason);
            let (text, _) = session.architecture().text_between(own, 3..own.len()).unwrap();
            assert_eq!(choice["text"], text);
            stopped += usize::from(end.is_some());
            tokens += end.map_or(17, |end| end + 1);
        }
        assert!((4..32).contains(&stopped), "{stopped} of 32 texts end");
        assert_eq!(answer["usage"]["completion_tokens"], tokens);
        let mut streamed = body;
        streamed["stream"] = json!(true);
        same_as_stream(&server, &streamed, &answer).await;
    }
}

/// Checks that the chunks of a stream add up to an answer.
async fn same_as_stream(server: &Router, body: &Value, whole: &Value) {
    let answer = post(server, PATH, body).await;
    assert_eq!(answer.header("content-type").map(|kind| kind.starts_with("text/event-stream")), Some(true));
    let count = whole["choices"].as_array().unwrap().len();
    let mut texts = vec![String::new(); count];
    let mut reasons = vec![Value::Null; count];
    let mut logprobs: Vec<Vec<Value>> = vec![Vec::new(); count];
    for chunk in events(&answer) {
        assert_eq!(chunk["object"], "text_completion");
        for choice in chunk["choices"].as_array().unwrap() {
            let index = choice["index"].as_u64().unwrap() as usize;
            assert_eq!(reasons[index], Value::Null, "nothing follows the end of a choice");
            texts[index] += choice["text"].as_str().unwrap();
            reasons[index] = choice["finish_reason"].clone();
            logprobs[index]
                .extend(choice["logprobs"]["token_logprobs"].as_array().into_iter().flatten().cloned());
        }
    }
    for (index, choice) in whole["choices"].as_array().unwrap().iter().enumerate() {
        assert_eq!(choice["text"], texts[index]);
        assert_eq!(choice["finish_reason"], reasons[index]);
        if let Some(told) = choice["logprobs"]["token_logprobs"].as_array() {
            assert_eq!(*told, logprobs[index]);
        }
    }
}

#[tokio::test]
async fn streams_add_up_to_the_answer() {
    let (_, server) = server(&["words", "blocks", "baseline"]);
    for name in ["words", "blocks", "baseline"] {
        for more in [
            json!({}),
            json!({"echo": true, "n": 3}),
            json!({"steps": 5}),
            json!({"order": "left-to-right", "logprobs": 0}),
        ] {
            if name == "baseline" && more["steps"].is_u64() {
                continue;
            }
            let mut body = json!({"model": name, "prompt": "hé", "max_tokens": 14, "seed": 2});
            body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            let whole = ok(&server, body.clone()).await;
            body["stream"] = json!(true);
            same_as_stream(&server, &body, &whole).await;
        }
    }
}

#[tokio::test]
async fn streams_tell_the_usage_at_the_end_where_asked_for() {
    let (_, server) = server(&["blocks"]);
    let mut body =
        json!({"model": "blocks", "prompt": "a", "max_tokens": 15, "seed": 2, "order": "left-to-right"});
    let whole = ok(&server, body.clone()).await;
    body["stream"] = json!(true);
    let chunks = events(&post(&server, PATH, &body).await);
    assert!(chunks.iter().all(|chunk| chunk["usage"].is_null()));
    let told = chunks.iter().filter(|chunk| chunk["choices"][0]["text"] != "").count();
    assert!(told > 1, "{told} chunks of a text of several blocks");
    body["stream_options"] = json!({"include_usage": true});
    let chunks = events(&post(&server, PATH, &body).await);
    let last = chunks.last().unwrap();
    assert_eq!((&last["choices"], &last["usage"]), (&json!([]), &whole["usage"]));
    body["stream"] = json!(false);
    let refused = post(&server, PATH, &body).await;
    assert_eq!(refused.json()["error"]["param"], "stream_options");
}

#[tokio::test]
async fn a_text_is_cut_before_stop_in_streams_too() {
    let (_, server) = server(&["words", "blocks", "baseline"]);
    for name in ["words", "blocks", "baseline"] {
        let body = json!({"model": name, "prompt": "a", "max_tokens": 20, "seed": 4});
        let whole = ok(&server, body.clone()).await;
        let text = whole["choices"][0]["text"].as_str().unwrap();
        let characters: Vec<char> = text.chars().collect();
        for (from, until) in [(0, 1), (3, 5), (6, 9), (characters.len() - 2, characters.len())] {
            let stop: String = characters[from..until].iter().collect();
            let expected = &text[..text.find(&stop).unwrap()];
            let mut cut = body.clone();
            cut["stop"] = json!([stop, "never in it"]);
            let answer = ok(&server, cut.clone()).await;
            let choice = &answer["choices"][0];
            assert_eq!(
                (choice["text"].as_str(), &choice["finish_reason"]),
                (Some(expected), &json!("stop")),
                "{name} {stop:?}"
            );
            let tokens = answer["usage"]["completion_tokens"].as_u64().unwrap();
            assert!(tokens <= 20 && (tokens as usize) >= expected.chars().count().min(1));
            cut["stream"] = json!(true);
            same_as_stream(&server, &cut, &answer).await;
        }
        let mut other = body.clone();
        other["stop"] = json!("never in it");
        assert_eq!(ok(&server, other).await["choices"], whole["choices"]);
    }
}

#[tokio::test]
async fn an_early_stop_saves_evaluations() {
    let (_, server) = server(&["baseline"]);
    let body = json!({"model": "baseline", "prompt": "a", "max_tokens": 20, "seed": 4, "logprobs": 0});
    let whole = ok(&server, body.clone()).await;
    let first: String = whole["choices"][0]["text"].as_str().unwrap().chars().take(1).collect();
    let mut cut = body.clone();
    cut["stop"] = json!(first);
    let answer = ok(&server, cut).await;
    let evaluations = |answer: &Value| answer["usage"]["network_evaluations"].as_u64().unwrap();
    assert!(
        evaluations(&answer) < evaluations(&whole) / 2,
        "{} of {}",
        evaluations(&answer),
        evaluations(&whole)
    );
    assert_eq!(answer["choices"][0]["logprobs"]["tokens"], json!([]));
}

/// A completion that is cut has passed as many steps, idle or not, as the sampler had when the text came to the stop.
#[tokio::test]
async fn an_early_stop_tells_the_steps_that_were_passed() {
    let (_, server) = server(&["words"]);
    let mut earlier = 0;
    for seed in 0..12 {
        let asked = json!({"model": "words", "seed": seed, "steps": 64});
        let with = |more: Value| {
            let mut body = asked.clone();
            body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            body
        };
        let body = with(json!({"prompt": "a", "max_tokens": 8}));
        let whole = ok(&server, body.clone()).await;
        let stop: String = whole["choices"][0]["text"].as_str().unwrap().chars().take(1).collect();
        if stop.is_empty() {
            continue;
        }
        let mut cut = body;
        cut["stop"] = json!(stop);
        let usage = ok(&server, cut).await["usage"].clone();
        let stream = with(json!({"template": "a[[8]]", "stream": true}));
        let steps: Vec<u64> = events(&post(&server, "/v1/infill", &stream).await)
            .iter()
            .filter(|event| event["type"] == "revealed")
            .map(|event| event["step"].as_u64().unwrap() + 1)
            .collect();
        let number = |field: &str| usage[field].as_u64().unwrap();
        let evaluations = number("network_evaluations") as usize;
        // The last event completes the sequence, and the grid with it.
        let passed = if evaluations == steps.len() { 64 } else { steps[evaluations - 1] };
        assert_eq!(number("network_evaluations") + number("idle_steps"), passed, "seed {seed}");
        earlier += usize::from(evaluations < steps.len() && number("idle_steps") > 0);
    }
    assert!(earlier >= 4, "{earlier} texts are cut before their last evaluation");
}

#[tokio::test]
async fn echo_repeats_the_prompt() {
    let (_, server) = server(&["words"]);
    let body = json!({"model": "words", "prompt": ["ab", "c"], "max_tokens": 3, "seed": 4, "n": 2});
    let plain = ok(&server, body.clone()).await;
    let mut echoed = body;
    echoed["echo"] = json!(true);
    let echoed = ok(&server, echoed).await;
    for (index, prompt) in ["ab", "ab", "c", "c"].iter().enumerate() {
        let text = format!("{prompt}{}", plain["choices"][index]["text"].as_str().unwrap());
        assert_eq!(echoed["choices"][index]["text"], text);
    }
    let given =
        ok(&server, json!({"model": "words", "prompt": [104, 105], "max_tokens": 0, "echo": true})).await;
    assert_eq!(
        (&given["choices"][0]["text"], &given["usage"]["completion_tokens"]),
        (&json!("hi"), &json!(0))
    );
    let mut stream = json!({"model": "words", "prompt": "hi", "max_tokens": 0, "echo": true, "stream": true});
    let chunks = events(&post(&server, PATH, &stream).await);
    assert_eq!(chunks[0]["choices"][0]["text"], "hi");
    stream["echo"] = json!(false);
    assert_eq!(post(&server, PATH, &stream).await.json()["error"]["param"], "max_tokens");
}

fn sum(logprobs: &Value) -> f64 {
    logprobs["token_logprobs"].as_array().unwrap().iter().map(|value| value.as_f64().unwrap()).sum()
}

#[tokio::test]
async fn log_probabilities_add_up_to_the_score() {
    let (state, server) = server(&["words", "blocks", "baseline"]);
    for name in ["words", "blocks", "baseline"] {
        let session = support::session(&state, name);
        let body = json!({
            "model": name, "prompt": "sea", "max_tokens": 20, "seed": 3, "order": "left-to-right", "logprobs": 0
        });
        let mut tokens = body.clone();
        if name != "baseline" {
            tokens["unit"] = json!("tokens");
        }
        let answer = ok(&server, tokens).await;
        let logprobs = &answer["choices"][0]["logprobs"];
        let own = written(&session, "sea[[20]]", |request| {
            let unit = if name == "baseline" { RevealUnit::Digits } else { RevealUnit::Tokens };
            Request { seed: 3, order: Order::LeftToRight, unit, ..request }
        });
        // The end of another text stands at the beginning.
        let (prompt, text) = own.tokens[0][1..].split_at(3);
        let passage =
            session.architecture().passage_of_tokens(TextLayout::default(), prompt, text, false).unwrap();
        let request = EvaluateRequest::new(Estimator::LEFT_TO_RIGHT);
        let score = &session.score(&request, &[passage]).unwrap()[0];
        assert!(
            (sum(logprobs) + score.nats).abs() < 1e-4 * score.nats,
            "{name}: {} {}",
            sum(logprobs),
            score.nats
        );
        assert_eq!(logprobs["tokens"].as_array().unwrap().len(), text.len());
        assert_eq!(logprobs["top_logprobs"], Value::Null);
        // Offsets are characters of the text.
        let offsets: Vec<usize> = logprobs["text_offset"]
            .as_array()
            .unwrap()
            .iter()
            .map(|value| value.as_u64().unwrap() as usize)
            .collect();
        assert!(offsets[0] == 0 && offsets.is_sorted());
        assert!(*offsets.last().unwrap() <= answer["choices"][0]["text"].as_str().unwrap().chars().count());
    }
}

#[tokio::test]
async fn whole_tokens_have_others_beside_them() {
    let (_, server) = server(&["words"]);
    let mut body = json!({
        "model": "words", "prompt": "sea", "max_tokens": 6, "seed": 3, "order": "confidence", "unit": "tokens",
        "logprobs": 3
    });
    let answer = ok(&server, body.clone()).await;
    let logprobs = &answer["choices"][0]["logprobs"];
    let top = logprobs["top_logprobs"].as_array().unwrap();
    assert_eq!(top.len(), 6);
    for (place, top) in top.iter().enumerate() {
        let (top, own) = (top.as_object().unwrap(), logprobs["tokens"][place].as_str().unwrap());
        assert!((3..=4).contains(&top.len()), "{top:?}");
        let told = logprobs["token_logprobs"][place].as_f64().unwrap();
        assert!((top[own].as_f64().unwrap() - told).abs() < 1e-9);
        let most = top.values().map(|value| value.as_f64().unwrap()).fold(f64::MIN, f64::max);
        assert!(told <= most && most <= 0.0);
    }
    for (field, value) in [("unit", "digits"), ("order", "random")] {
        let before = std::mem::replace(&mut body[field], json!(value));
        let refused = post(&server, PATH, &body).await;
        assert_eq!(
            (refused.status, &refused.json()["error"]["param"]),
            (StatusCode::BAD_REQUEST, &json!("logprobs"))
        );
        assert!(refused.message().contains("/v1/score"), "{}", refused.message());
        body[field] = before;
    }
    (body["temperature"], body["order"], body["top_p"]) = (json!(0.5), json!("random"), json!(0.9));
    let refused = post(&server, PATH, &body).await;
    assert_eq!(refused.json()["error"]["param"], "logprobs");
    let message = "logprobs need an order other than random, unit tokens, temperature 1, top_p 1 and top_k 0: here are \
                   order random, unit tokens, temperature 0.5, top_p 0.9 and top_k 0; /v1/score tells what any text costs";
    assert_eq!(refused.message(), message);
}

#[tokio::test]
async fn a_suffix_of_a_model_with_blocks_ends_in_the_block_of_the_hole() {
    let (_, server) = server(&["blocks"]);
    // Of bytes and blocks of four: the beginning, "a", the hole and the suffix.
    ok(&server, json!({"model": "blocks", "prompt": "a", "suffix": "b", "max_tokens": 1})).await;
    let body = json!({"model": "blocks", "prompt": "a", "suffix": "bcdef", "max_tokens": 1});
    let refused = post(&server, PATH, &body).await;
    assert_eq!(
        (refused.status, &refused.json()["error"]["param"]),
        (StatusCode::BAD_REQUEST, &json!("suffix"))
    );
    let message = refused.message();
    assert!(message.contains("blocks of 4 tokens"), "{message}");
    assert!(message.contains("ends in block 1, the suffix in block 2"), "{message}");
}

#[tokio::test]
async fn a_prompt_alone_has_log_probabilities_as_score_says() {
    for (state, server) in [server(&["words"]), with_ends(0)] {
        let name = state.models[0].name.clone();
        let text = if name == "ends" { "the sea and a lamp" } else { "größe" };
        let body = json!({"model": name, "prompt": text, "max_tokens": 0, "echo": true, "logprobs": 1});
        let answer = ok(&server, body).await;
        let logprobs = &answer["choices"][0]["logprobs"];
        let scored = json!({"model": name, "texts": [text], "estimator": "exact", "by_token": true});
        let score = post(&server, "/v1/score", &scored).await.json()["scores"][0].clone();
        assert!((sum(logprobs) + score["nats"].as_f64().unwrap()).abs() < 1e-9);
        let count = score["tokens"].as_u64().unwrap() as usize;
        assert_eq!(logprobs["tokens"].as_array().unwrap().len(), count);
        assert_eq!(logprobs["text_offset"].as_array().unwrap().len(), count);
        assert_eq!(
            logprobs["text_offset"][count - 1],
            text.chars().count() - if name == "ends" { 5 } else { 1 }
        );
        assert_eq!(answer["choices"][0]["text"], text);
    }
}

/// The most probable tokens at a place, as `/v1/predict` says them of a text that is known up to there: (text, log p).
async fn predicted(server: &Router, session: &Session, tokens: &[u32], place: usize) -> Vec<(String, f64)> {
    let codes = session.architecture().predictive().codes();
    let token = |(i, token): (usize, &u32)| match i < place {
        true => codes.digits(*token).iter().map(|digit| json!(digit)).collect(),
        false => vec![Value::Null; codes.subtoken_len()],
    };
    let digits: Vec<Vec<Value>> = tokens.iter().enumerate().map(token).collect();
    let name = if session.architecture().config().network.block_len() > 0 { "blocks" } else { "words" };
    let body = json!({"model": name, "digits": digits, "tokens": [place], "top": 3});
    let answer = post(server, "/v1/predict", &body).await.json();
    let top = answer["predictions"][0]["top"].as_array().unwrap();
    let said =
        |one: &Value| (one["text"].as_str().unwrap().to_owned(), one["probability"].as_f64().unwrap().ln());
    top.iter().map(said).collect()
}

#[tokio::test]
async fn a_prompt_alone_has_the_most_probable_tokens_beside_its_own() {
    let (state, server) = server(&["words", "blocks"]);
    let text = "the deep sea";
    for name in ["words", "blocks"] {
        let session = support::session(&state, name);
        let mut body = json!({"model": name, "prompt": ["old", text, "a"], "max_tokens": 0, "echo": true, "logprobs": 3});
        let among_others = ok(&server, body.clone()).await["choices"][1].clone();
        body["prompt"] = json!(text);
        let answer = ok(&server, body.clone()).await;
        let logprobs = &answer["choices"][0]["logprobs"];
        assert_eq!(&among_others["logprobs"], logprobs);
        let scored = json!({"model": name, "texts": [text], "estimator": "exact"});
        let score = post(&server, "/v1/score", &scored).await.json()["scores"][0]["nats"].as_f64().unwrap();
        assert!((sum(logprobs) + score).abs() < 1e-9);
        let tokenizer = session.architecture().tokenizer().unwrap();
        let mut tokens: Vec<u32> = tokenizer.end_of_text().into_iter().collect();
        tokens.extend(tokenizer.encode(text).unwrap());
        let all = logprobs["top_logprobs"].as_array().unwrap();
        assert_eq!(all.len(), tokens.len() - 1);
        for (place, top) in all.iter().enumerate() {
            let (top, own) = (top.as_object().unwrap(), logprobs["tokens"][place].as_str().unwrap());
            assert_eq!(top[own], logprobs["token_logprobs"][place]);
            let predicted = predicted(&server, &session, &tokens, place + 1).await;
            let is_beside = usize::from(predicted.iter().all(|(text, _)| text != own));
            assert_eq!(top.len(), 3 + is_beside, "{top:?} {predicted:?}");
            for (text, log_prob) in predicted {
                assert!((top[&text].as_f64().unwrap() - log_prob).abs() < 1e-5, "{name} {place}: {top:?}");
            }
        }
        body["stream"] = json!(true);
        let chunks = events(&post(&server, PATH, &body).await);
        assert_eq!(&chunks[0]["choices"][0]["logprobs"], logprobs);
        body["logprobs"] = json!(0);
        let chunks = events(&post(&server, PATH, &body).await);
        assert_eq!(chunks[0]["choices"][0]["logprobs"]["top_logprobs"], Value::Null);
    }
}

#[tokio::test]
async fn a_text_has_the_same_tokens_beside_it_when_it_is_drawn_and_when_it_is_given() {
    let (state, server) = server(&["words", "blocks"]);
    for name in ["words", "blocks"] {
        let session = support::session(&state, name);
        let body = json!({
            "model": name, "prompt": "sea", "max_tokens": 12, "seed": 3, "order": "left-to-right", "unit": "tokens",
            "logprobs": 2
        });
        let drawn = ok(&server, body).await["choices"][0]["logprobs"].clone();
        let own = written(&session, "sea[[12]]", |request| Request {
            seed: 3,
            order: Order::LeftToRight,
            unit: RevealUnit::Tokens,
            ..request
        });
        let body = json!({
            "model": name, "prompt": own.tokens[0][1..], "max_tokens": 0, "echo": true, "logprobs": 2
        });
        let given = ok(&server, body).await["choices"][0]["logprobs"].clone();
        let drawn_top = drawn["top_logprobs"].as_array().unwrap();
        let given_top = given["top_logprobs"].as_array().unwrap();
        assert_eq!(given_top.len(), 3 + drawn_top.len());
        for (drawn, given) in drawn_top.iter().zip(&given_top[3..]) {
            let (drawn, given) = (drawn.as_object().unwrap(), given.as_object().unwrap());
            assert!(drawn.keys().eq(given.keys()), "{name}: {drawn:?} {given:?}");
            for (token, log_prob) in drawn {
                let difference = log_prob.as_f64().unwrap() - given[token].as_f64().unwrap();
                assert!(difference.abs() < 1e-5, "{name} {token}: {difference}");
            }
        }
    }
}

#[tokio::test]
async fn the_baseline_of_several_digits_has_no_tokens_beside_a_prompt() {
    let (_, server) = server(&["baseline"]);
    let mut body =
        json!({"model": "baseline", "prompt": "sea", "max_tokens": 0, "echo": true, "logprobs": 1});
    let refused = post(&server, PATH, &body).await;
    assert_eq!(
        (refused.status, &refused.json()["error"]["param"]),
        (StatusCode::BAD_REQUEST, &json!("logprobs"))
    );
    assert!(refused.message().starts_with("logprobs = 1 is not allowed: 0 for"), "{}", refused.message());
    body["logprobs"] = json!(0);
    let logprobs = ok(&server, body).await["choices"][0]["logprobs"].clone();
    assert_eq!(logprobs["token_logprobs"].as_array().unwrap().len(), 3);
    assert_eq!(logprobs["top_logprobs"], Value::Null);
}

#[tokio::test]
async fn bad_fields_are_refused_by_name() {
    let (_, server) = server(&["words", "baseline", "blocks", "pictures"]);
    for (more, param, status) in [
        (json!({"best_of": 2}), "best_of", 400),
        (json!({"presence_penalty": 0.5}), "presence_penalty", 400),
        (json!({"frequency_penalty": -0.5}), "frequency_penalty", 400),
        (json!({"logit_bias": {"5": 1}}), "logit_bias", 400),
        (json!({"n": 0}), "n", 400),
        (json!({"n": 129}), "n", 422),
        (json!({"max_tokens": 0}), "max_tokens", 400),
        (json!({"max_tokens": 24}), "max_tokens", 400),
        (json!({"max_tokens": u64::MAX}), "max_tokens", 400),
        (json!({"max_tokens": -1}), "max_tokens", 400),
        (json!({"prompt": 7}), "prompt", 400),
        (json!({"prompt": []}), "prompt", 400),
        (json!({"prompt": [257]}), "prompt", 400),
        (json!({"stop": ["a", "b", "c", "d", "e"]}), "stop", 400),
        (json!({"stop": ""}), "stop", 400),
        (json!({"stop": ["a", "b".repeat(1025)]}), "stop", 400),
        (json!({"stream_options": {"include_usage": true}}), "stream_options", 400),
        (json!({"logprobs": 6}), "logprobs", 400),
        (json!({"logprobs": 1, "echo": true}), "logprobs", 400),
        (json!({"temperature": -1}), "temperature", 400),
        (json!({"temperature": "warm"}), "temperature", 400),
        (json!({"top_p": 0}), "top_p", 400),
        (json!({"top_p": 1.5}), "top_p", 400),
        (json!({"nucleus": "exclusive"}), "nucleus", 400),
        (json!({"order": "backwards"}), "order", 400),
        (json!({"per_step": 2}), "per_step", 400),
        (json!({"order": "margin", "per_step": 0}), "per_step", 400),
        (json!({"order": "margin", "steps": 4}), "steps", 400),
        (json!({"steps": 16_777_216}), "steps", 422),
        (json!({"window": "cached"}), "window", 400),
        (json!({"min_entropy": 1}), "min_entropy", 400),
        (json!({"entropy_window": 5}), "entropy_window", 400),
        (json!({"max_token": 5}), "max_token", 400),
        (json!({"model": "wordz"}), "model", 404),
        (json!({"model": "pictures"}), "model", 400),
        (json!({"model": "baseline", "steps": 4}), "steps", 400),
        (json!({"model": "baseline", "order": "entropy"}), "order", 400),
        (json!({"model": "baseline", "carry_over": true}), "carry_over", 400),
        (json!({"model": "blocks", "prompt": "abcd", "suffix": "efgh", "max_tokens": 4}), "suffix", 400),
        (json!({"model": "blocks", "max_tokens": 70_000}), "max_tokens", 422),
    ] {
        let mut body = json!({"model": "words", "prompt": "a"});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let answer = post(&server, PATH, &body).await;
        let error = answer.json()["error"].clone();
        assert_eq!(
            (answer.status.as_u16(), error["param"].as_str()),
            (status, Some(param)),
            "{more}: {error}"
        );
        let message = error["message"].as_str().unwrap();
        assert!(message.contains(param), "{message}");
    }
}

#[tokio::test]
async fn neutral_values_change_nothing() {
    let (_, server) = server(&["words"]);
    let body = json!({"model": "words", "prompt": "a", "max_tokens": 5, "seed": 1});
    let plain = ok(&server, body.clone()).await;
    let mut neutral = body;
    neutral.as_object_mut().unwrap().extend(
        json!({
            "best_of": 1, "presence_penalty": 0, "frequency_penalty": 0.0, "logit_bias": {}, "suffix": null,
            "logprobs": null, "stop": null, "user": "somebody", "stream": false, "stream_options": null, "echo": false,
            "temperature": 1, "top_p": 1, "top_k": 0, "n": 1, "order": "random", "unit": "digits", "steps": 0
        })
        .as_object()
        .unwrap()
        .clone(),
    );
    assert_eq!(ok(&server, neutral).await["choices"], plain["choices"]);
}

#[tokio::test]
async fn texts_of_blocks_are_longer_than_the_model() {
    let (state, server) = server(&["blocks"]);
    let session = support::session(&state, "blocks");
    let answer = ok(&server, json!({"model": "blocks", "prompt": "ab", "max_tokens": 61, "seed": 6})).await;
    let prompt = session.prompt(&"ab[[61]]".parse().unwrap(), Some(64)).unwrap();
    let own = session.generate(&Request { prompt, seed: 6, ..session.request() }, &mut Unobserved).unwrap();
    assert_eq!(format!("ab{}", answer["choices"][0]["text"].as_str().unwrap()), own.texts[0]);
    assert_eq!(answer["usage"]["completion_tokens"], 61);
}

#[tokio::test]
async fn a_model_without_an_end_of_text_writes_from_the_first_token_on() {
    let state = AppState::new(ServerSettings::default(), vec![ends::letters()]).unwrap();
    let server = app(state.clone());
    let session = support::session(&state, "letters");
    for prompt in ["", "the sea"] {
        let body = json!({"model": "letters", "prompt": prompt, "max_tokens": 12, "seed": 2, "n": 2});
        let answer = ok(&server, body.clone()).await;
        let template = format!("{prompt}[[12]]");
        let own = written(&session, &template, |request| Request { num: 2, seed: 2, ..request });
        for (choice, text) in answer["choices"].as_array().unwrap().iter().zip(&own.texts) {
            assert_eq!(format!("{prompt}{}", choice["text"].as_str().unwrap()), *text);
            assert_eq!(choice["finish_reason"], "length");
        }
        let mut streamed = body;
        streamed["stream"] = json!(true);
        same_as_stream(&server, &streamed, &answer).await;
    }
    for (field, body) in [
        ("prompt", json!({"model": "letters", "prompt": "Größe"})),
        ("suffix", json!({"model": "letters", "prompt": "a", "suffix": "Größe"})),
    ] {
        let refused = post(&server, PATH, &body).await;
        assert_eq!(
            (refused.status, &refused.json()["error"]["param"]),
            (StatusCode::BAD_REQUEST, &json!(field))
        );
    }
    let body = json!({"model": "letters", "prompt": "", "max_tokens": 0, "echo": true, "logprobs": 0});
    assert_eq!(post(&server, PATH, &body).await.json()["error"]["param"], "prompt");
    let whole = json!({"model": "letters", "prompt": "a sea", "max_tokens": 15});
    assert_eq!(ok(&server, whole).await["usage"]["completion_tokens"], 15);
    let long = post(&server, PATH, &json!({"model": "letters", "prompt": "a sea", "max_tokens": 16})).await;
    assert_eq!(long.json()["error"]["code"], "context_length_exceeded");
    let message = "prompt has 5 tokens; with 16 to write (max_tokens) that is 21, and this model takes 20";
    assert_eq!((long.message().as_str(), &long.json()["error"]["param"]), (message, &json!("max_tokens")));
    let long =
        post(&server, PATH, &json!({"model": "letters", "prompt": "a".repeat(20), "suffix": "b"})).await;
    let message = "prompt has 20 tokens; with 1 of the suffix and 16 to write (max_tokens) that is 37, and this model takes 20";
    assert_eq!((long.message().as_str(), &long.json()["error"]["param"]), (message, &json!("prompt")));
}

#[tokio::test]
async fn a_text_that_may_lose_tokens_is_streamed_at_its_end() {
    let (state, server) = server(&["blocks"]);
    let session = support::session(&state, "blocks");
    let mut body = json!({
        "model": "blocks", "prompt": "a", "max_tokens": 200, "temperature": 0, "seed": 1, "min_entropy": 1.0,
        "entropy_window": 16
    });
    let whole = ok(&server, body.clone()).await;
    let prompt = session.prompt(&"a[[200]]".parse().unwrap(), Some(202)).unwrap();
    let mut request = Request { prompt, seed: 1, ..session.request() };
    request.sampling.temperature = submask::model::Temperature::Constant(0.0);
    (request.sampling.min_entropy, request.sampling.entropy_window) = (1.0, 16);
    let own = session.generate(&request, &mut Unobserved).unwrap();
    assert_eq!(own.report.monotonous, 1);
    assert_eq!(format!("a{}", whole["choices"][0]["text"].as_str().unwrap()), own.texts[0]);
    assert_eq!(whole["choices"][0]["finish_reason"], "length");
    body["stream"] = json!(true);
    same_as_stream(&server, &body, &whole).await;
}

#[tokio::test]
async fn tokens_of_all_choices_are_limited_together() {
    let settings = ServerSettings { max_tokens: 100, max_choices: 12, ..ServerSettings::default() };
    let server = support::server(settings, &["words"]);
    // The beginning, the prompt and 5 tokens to write: 8 + 7 per choice.
    let body = |n: usize| json!({"model": "words", "prompt": ["ab", "c"], "max_tokens": 5, "n": n});
    assert_eq!(post(&server, PATH, &body(6)).await.status, StatusCode::OK);
    let refused =
        post(&server, PATH, &json!({"model": "words", "prompt": ["ab", "c"], "max_tokens": 9, "n": 5})).await;
    assert_eq!(
        (refused.status, refused.json()["error"]["param"].clone()),
        (StatusCode::UNPROCESSABLE_ENTITY, json!("max_tokens"))
    );
    assert!(refused.message().contains("115 tokens in all"), "{}", refused.message());
    let refused = post(&server, PATH, &body(7)).await;
    assert_eq!(
        (refused.status, refused.json()["error"]["param"].clone()),
        (StatusCode::UNPROCESSABLE_ENTITY, json!("n"))
    );
}

#[tokio::test]
async fn stops_of_a_kibibyte_are_taken() {
    let (_, server) = server(&["words"]);
    let stops: Vec<String> = ["a", "b", "c", "d"].iter().map(|letter| letter.repeat(1024)).collect();
    ok(&server, json!({"model": "words", "prompt": "sea", "max_tokens": 3, "stop": stops})).await;
}

#[tokio::test]
async fn fields_that_say_nothing_new_are_taken() {
    let (_, server) = server(&["words"]);
    for options in [json!({}), json!({"include_usage": false}), json!({"include_usage": null})] {
        let body = json!({"model": "words", "prompt": "a", "max_tokens": 2, "best_of": 1.0, "stream_options": options});
        ok(&server, body).await;
    }
    let answer = post(&server, PATH, &json!({"model": "words", "prompt": "a", "best_of": 2})).await;
    assert_eq!(answer.message(), "best_of = 2 is not supported: 1, or left out");
}

#[tokio::test]
async fn prompts_are_measured_before_they_are_encoded() {
    let settings = ServerSettings { max_tokens: 100, ..ServerSettings::default() };
    let server = support::server(settings, &["words"]);
    let body = json!({"model": "words", "prompt": ["a".repeat(900), "b".repeat(700)], "suffix": "c"});
    let answer = post(&server, PATH, &body).await;
    assert_eq!(
        (answer.status, answer.message().as_str()),
        (
            StatusCode::UNPROCESSABLE_ENTITY,
            "prompt = 1601 bytes in all is more than this server takes: at most 1600 bytes (16 per token of --max-tokens)"
        )
    );
}

#[tokio::test]
async fn prompts_whose_log_probabilities_cost_too_much_are_refused() {
    let place = tempfile::tempdir().unwrap();
    support::save_long(place.path(), 96);
    let source = ModelSource { name: "long".to_owned(), folder: place.path().into(), figures: Vec::new() };
    let settings = ServerSettings { max_tokens: 96, ..ServerSettings::default() };
    let state = AppState::new(settings, vec![source.open(&Compute::cpu()).unwrap()]).unwrap();
    let server = app(state);
    let mut body = json!({"model": "long", "prompt": "a".repeat(90), "max_tokens": 0, "echo": true});
    ok(&server, body.clone()).await;
    body["logprobs"] = json!(0);
    let answer = post(&server, PATH, &body).await;
    assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{}", answer.text());
    assert_eq!(answer.json()["error"]["param"], "prompt");
    body["prompt"] = json!("a".repeat(60));
    ok(&server, body).await;
}

#[tokio::test]
async fn errors_repeat_the_beginning_of_what_was_given() {
    let (_, server) = server(&["words", "pictures"]);
    let long = "ä".repeat(5000);
    for (path, more) in [
        (PATH, json!({"model": long})),
        (PATH, json!({"order": long})),
        (PATH, json!({"max_tokens": long})),
        (PATH, json!({"prompt": {"x": long}})),
        (PATH, json!({"stop": [1, long]})),
    ] {
        let mut body = json!({"model": "words"});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let answer = post(&server, path, &body).await;
        assert!(answer.status.is_client_error(), "{}", answer.text());
        assert!(answer.body.len() < 1800, "{} bytes: {}", answer.body.len(), answer.text());
    }
}
