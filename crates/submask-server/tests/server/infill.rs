//! `/v1/infill` and `/v1/predict`: holes, partial states, and what the network says of them.

use axum::Router;
use axum::http::StatusCode;
use serde_json::{Value, json};
use submask::model::{Estimator, EvaluateRequest, Request, TextLayout};
use submask::order::Order;
use submask::sampler::{RevealUnit, Unobserved};
use submask_server::state::AppState;
use submask_server::{ServerSettings, app};

use crate::completions::events;
use crate::ends;
use crate::support::{self, post};

const PATH: &str = "/v1/infill";

fn server(names: &[&str]) -> (AppState, Router) {
    let state = support::state(ServerSettings::default(), names);
    let router = app(state.clone());
    (state, router)
}

async fn ok(server: &Router, path: &str, body: &Value) -> Value {
    let answer = post(server, path, body).await;
    assert_eq!(answer.status, StatusCode::OK, "{body}: {}", answer.text());
    answer.json()
}

#[tokio::test]
async fn samples_are_those_of_the_library() {
    let (state, server) = server(&["words", "blocks", "baseline"]);
    for (name, template) in
        [("words", "a[[4]]b[[3]]"), ("blocks", "abcd[[9]]"), ("baseline", "ab[[*]]"), ("words", "")]
    {
        let session = support::session(&state, name);
        let body = json!({"model": name, "template": template, "n": 3, "seed": 9, "first_sequence": 5});
        let answer = ok(&server, PATH, &body).await;
        let prompt = session.prompt(&template.parse().unwrap(), None).unwrap();
        let request = Request { prompt, num: 3, seed: 9, first_sequence: 5, ..session.request() };
        let own = session.generate(&request, &mut Unobserved).unwrap();
        for (index, choice) in answer["choices"].as_array().unwrap().iter().enumerate() {
            assert_eq!(
                (&choice["text"], &choice["tokens"]),
                (&json!(own.texts[index]), &json!(own.tokens[index])),
                "{name}"
            );
            assert_eq!(choice["index"], index);
        }
        assert_eq!(answer["usage"]["network_evaluations"], own.report.evaluations);
    }
}

#[tokio::test]
async fn parts_say_the_same_as_a_template() {
    let (_, server) = server(&["words"]);
    let template = json!({"model": "words", "template": "a\\[[[[4]]c[[*]]", "seed": 1});
    let parts = json!({"model": "words", "seed": 1, "parts": [
        {"text": "a[["}, {"hole": 4}, {"tokens": [99]}, {"hole": "rest"}]});
    let whole = ok(&server, PATH, &template).await;
    assert_eq!(whole["choices"], ok(&server, PATH, &parts).await["choices"]);
    // The byte `a` is 5·17 + 12: one of its digits is given.
    let partly = json!({"model": "words", "seed": 1, "n": 16, "parts": [{"digits": [[5, null], [null, 12]]}, {"hole": 2}]});
    let answer = ok(&server, PATH, &partly).await;
    for choice in answer["choices"].as_array().unwrap() {
        let tokens: Vec<u64> =
            choice["tokens"].as_array().unwrap().iter().map(|token| token.as_u64().unwrap()).collect();
        assert_eq!((tokens[1] / 17, tokens[2] % 17), (5, 12));
        assert_eq!(choice["given"], json!([true, false, false, false, false]));
    }
}

/// How many of the 257 tokens agree with the digits of one that are known.
fn agreeing(digits: &[Value]) -> usize {
    let agrees = |token: &u64| {
        let own = [token / 17, token % 17];
        digits.iter().zip(own).all(|(digit, own)| digit.is_null() || *digit == own)
    };
    (0..257).filter(agrees).count()
}

/// Replays the events of a stream, and checks that they are those of the answer.
async fn replay(server: &Router, mut body: Value) {
    let whole = ok(server, PATH, &body).await;
    body["stream"] = json!(true);
    let answer = post(server, PATH, &body).await;
    let (mut states, mut evaluations): (Vec<Vec<Vec<Value>>>, Vec<u64>) = (Vec::new(), Vec::new());
    let count = whole["choices"].as_array().unwrap().len();
    states.resize(count, Vec::new());
    evaluations.resize(count, 0);
    let (mut most, mut finished) = (vec![0; count], 0);
    let events = events(&answer);
    for event in &events {
        let choice = event["choice"].as_u64().unwrap_or(0) as usize;
        match event["type"].as_str().unwrap() {
            "started" => {
                let digits = event["digits"].as_array().unwrap();
                states[choice] = digits.iter().map(|token| token.as_array().unwrap().clone()).collect();
                most[choice] = event["evaluations_at_most"].as_u64().unwrap();
                for (digits, piece) in states[choice].iter().zip(event["pieces"].as_array().unwrap()) {
                    assert_eq!(digits.iter().any(Value::is_null), piece.is_null());
                }
            }
            "revealed" => {
                evaluations[choice] += 1;
                assert_eq!(event["evaluation"], evaluations[choice]);
                for change in event["digits"].as_array().unwrap() {
                    let place = |at: usize| change[at].as_u64().unwrap() as usize;
                    states[choice][place(0)][place(1)] = change[2].clone();
                }
                for piece in event["pieces"].as_array().unwrap() {
                    let token = piece[0].as_u64().unwrap() as usize;
                    assert!(states[choice][token].iter().all(|digit| !digit.is_null()));
                    assert_eq!(piece[1], whole["choices"][choice]["pieces"][token]);
                }
                for possible in event["possible"].as_array().unwrap() {
                    let token = possible[0].as_u64().unwrap() as usize;
                    assert_eq!(possible[1], agreeing(&states[choice][token]));
                }
                let settled = event["settled"].as_u64().unwrap() as usize;
                assert!(states[choice][..settled].iter().flatten().all(|digit| !digit.is_null()));
            }
            "finished" => {
                let own = &whole["choices"][choice];
                for field in ["text", "tokens", "pieces", "given", "finish_reason", "logprobs"] {
                    assert_eq!(event[field], own[field], "{field}");
                }
                let tokens: Vec<u64> = states[choice]
                    .iter()
                    .map(|digits| digits.iter().fold(0, |token, digit| 17 * token + digit.as_u64().unwrap()))
                    .collect();
                assert_eq!(json!(tokens), own["tokens"]);
                assert!(evaluations[choice] <= most[choice], "{} of {}", evaluations[choice], most[choice]);
                finished += 1;
            }
            "done" => assert_eq!((&event["usage"], &event["seed"]), (&whole["usage"], &whole["seed"])),
            other => panic!("{other}"),
        }
    }
    assert_eq!(finished, count);
    assert_eq!(events.last().unwrap()["type"], "done");
}

#[tokio::test]
async fn streams_replay_to_the_final_texts() {
    let (_, server) = server(&["words", "blocks", "baseline"]);
    for more in [
        json!({"model": "words"}),
        json!({"model": "words", "n": 4}),
        json!({"model": "words", "steps": 6}),
        json!({"model": "words", "unit": "tokens", "order": "entropy", "per_step": 3, "logprobs": true}),
        json!({"model": "words", "order": "left-to-right", "logprobs": true}),
        json!({"model": "words", "steps": 8, "corrector": [4.0, 0.5, 0.0]}),
        json!({"model": "blocks", "n": 2}),
        json!({"model": "blocks", "steps": 3, "length": 50}),
        json!({"model": "blocks", "order": "confidence", "per_step": 2}),
        json!({"model": "baseline", "n": 2, "logprobs": true}),
    ] {
        let mut body = json!({"template": "ab[[*]]", "seed": 12});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let corrected = body["corrector"].is_array();
        if corrected {
            // A corrector masks again what was known, so that pieces are not those of the end.
            let whole = ok(&server, PATH, &body).await;
            body["stream"] = json!(true);
            let events = events(&post(&server, PATH, &body).await);
            let last = &events[events.len() - 2];
            assert_eq!(last["tokens"], whole["choices"][0]["tokens"]);
        } else {
            replay(&server, body).await;
        }
    }
}

#[tokio::test]
async fn a_text_has_its_likelihood_where_asked_for() {
    let (state, server) = server(&["words"]);
    let session = support::session(&state, "words");
    let mut body =
        json!({"model": "words", "template": "ab[[5]]", "seed": 3, "n": 2, "score": {"estimator": "exact"}});
    let answer = ok(&server, PATH, &body).await;
    for choice in answer["choices"].as_array().unwrap() {
        let tokens: Vec<u32> = serde_json::from_value(choice["tokens"].clone()).unwrap();
        let passage = session
            .architecture()
            .passage_of_tokens(TextLayout::default(), &[], &tokens[1..], false)
            .unwrap();
        let score = session.score(&EvaluateRequest::new(Estimator::LEFT_TO_RIGHT), &[passage]).unwrap();
        let difference = choice["score"]["nats"].as_f64().unwrap() - score[0].nats;
        assert!(difference.abs() < 1e-12 * score[0].nats, "{difference}");
        assert_eq!((&choice["score"]["kind"], &choice["score"]["unit"]), (&json!("exact"), &json!("nats")));
    }
    body["score"] = json!({"draws": 4});
    body["stream"] = json!(true);
    let events = events(&post(&server, PATH, &body).await);
    let scored: Vec<&Value> = events.iter().filter(|event| event["type"] == "scored").collect();
    assert_eq!(scored.len(), 2);
    assert!(scored.iter().all(|event| event["score"]["standard_error"].as_f64().unwrap() > 0.0));
}

#[tokio::test]
async fn log_probabilities_of_a_text_are_told_by_token() {
    let (_, server) = server(&["words"]);
    let body = json!({
        "model": "words", "template": "ab[[5]]c", "seed": 3, "order": "left-to-right", "unit": "tokens", "logprobs": true
    });
    let choice = ok(&server, PATH, &body).await["choices"][0].clone();
    let told: Vec<bool> = choice["logprobs"].as_array().unwrap().iter().map(|value| value.is_f64()).collect();
    assert_eq!(told, [false, false, false, true, true, true, true, true, false]);
    assert_eq!(choice["given"], json!([true, true, true, false, false, false, false, false, true]));
}

#[tokio::test]
async fn a_text_that_ends_is_told_to() {
    let state = AppState::new(ServerSettings::default(), vec![ends::model(0)]).unwrap();
    let server = app(state.clone());
    let body = json!({"model": "ends", "template": "the sea [[*]]", "n": 16, "seed": 1});
    let answer = ok(&server, PATH, &body).await;
    let session = support::session(&state, "ends");
    let prompt = session.prompt(&"the sea [[*]]".parse().unwrap(), None).unwrap();
    let request = Request { prompt, num: 16, seed: 1, ..session.request() };
    let own = session.generate(&request, &mut Unobserved).unwrap();
    for (choice, text) in answer["choices"].as_array().unwrap().iter().zip(&own.texts) {
        assert_eq!(choice["text"], *text);
        let ends = choice["tokens"].as_array().unwrap()[3..].contains(&json!(15));
        assert_eq!(choice["finish_reason"], if ends { "stop" } else { "length" });
    }
    assert_eq!(answer["usage"]["prompt_tokens"], 2);
}

#[tokio::test]
async fn bad_fields_are_refused_by_name() {
    let (_, server) = server(&["words", "baseline", "blocks", "pictures"]);
    for (body, param, status) in [
        (json!({"model": "words", "template": "[[x]]"}), "template", 400),
        (json!({"model": "words", "template": "a[[4]]", "parts": []}), "parts", 400),
        (json!({"model": "words", "parts": []}), "parts", 400),
        (json!({"model": "words", "parts": [{"text": "a"}]}), "parts", 400),
        (json!({"model": "words", "parts": [{"hole": 0}]}), "parts[0].hole", 400),
        (json!({"model": "words", "parts": [{}]}), "parts[0]", 400),
        (json!({"model": "words", "parts": [{"text": "a", "hole": 1}]}), "parts[0]", 400),
        (json!({"model": "words", "parts": [{"texts": "a"}]}), "parts[0].texts", 400),
        (json!({"model": "words", "score": "yes"}), "score", 400),
        (json!({"model": "words", "score": {"drws": 3}}), "score.drws", 400),
        (json!({"model": "words", "parts": [{"hole": "all"}]}), "parts[0].hole", 400),
        (json!({"model": "words", "parts": [{"hole": u64::MAX}]}), "parts", 400),
        (json!({"model": "words", "parts": [{"digits": [[1]]}]}), "parts", 400),
        (json!({"model": "words", "parts": [{"tokens": [257]}, {"hole": 1}]}), "parts", 400),
        (json!({"model": "words", "template": "[[30]]"}), "template", 400),
        (json!({"model": "words", "length": 30}), "length", 400),
        (json!({"model": "blocks", "length": 100_000}), "template", 422),
        (json!({"model": "words", "first_sequence": u64::MAX}), "first_sequence", 400),
        (json!({"model": "words", "n": 0}), "n", 400),
        (json!({"model": "words", "n": 1000}), "n", 422),
        (json!({"model": "words", "logprobs": true}), "logprobs", 400),
        (json!({"model": "words", "score": {"estimator": "exact", "draws": 3}}), "score.draws", 400),
        (json!({"model": "words", "score": {"draws": 0}}), "score.draws", 400),
        (json!({"model": "words", "corrector": "of"}), "corrector", 400),
        (json!({"model": "words", "corrector": [1, 2, 3]}), "corrector", 400),
        (json!({"model": "words", "warp": [1, 2]}), "warp", 400),
        (json!({"model": "words", "temperature": [1, 2]}), "temperature", 400),
        (json!({"model": "baseline", "template": "[[3]]a"}), "template", 400),
        (json!({"model": "pictures"}), "model", 400),
    ] {
        let answer = post(&server, PATH, &body).await;
        let error = answer.json()["error"].clone();
        assert_eq!(
            (answer.status.as_u16(), error["param"].as_str()),
            (status, Some(param)),
            "{body}: {error}"
        );
    }
}

#[tokio::test]
async fn errors_say_what_was_given_and_what_is_allowed_without_names_of_types() {
    let (_, server) = server(&["words"]);
    for (field, given, message) in [
        ("n", json!(-3), "n = -3 is not allowed: a whole number of at least 0, below 2^64"),
        ("n", json!("two"), "n = \"two\" is not allowed: a whole number of at least 0, below 2^64"),
        (
            "parts",
            json!([{}]),
            "parts[0] = {} is not allowed: an object with one of `text`, `tokens`, `hole` and `digits`",
        ),
        ("parts", json!({"text": "a"}), "parts = {\"text\":\"a\"} is not allowed: a list"),
        (
            "order",
            json!("up"),
            "order = \"up\" is not allowed: one of random, left-to-right, confidence, margin, entropy",
        ),
        ("unit", json!("bits"), "unit = \"bits\" is not allowed: one of digits, tokens"),
        ("score", json!(3), "score = 3 is not allowed: true, false, or an object of estimator and draws"),
        ("stream", json!("yes"), "stream = \"yes\" is not allowed: true or false"),
        ("warp", json!([1, 2]), "warp = [1,2] is not allowed: a list of 3"),
    ] {
        let mut body = json!({"model": "words"});
        body[field] = given;
        let answer = post(&server, PATH, &body).await;
        assert_eq!((answer.status, answer.message().as_str()), (StatusCode::BAD_REQUEST, message));
    }
}

#[tokio::test]
async fn a_score_can_be_asked_for_by_true() {
    let (_, server) = server(&["words"]);
    let mut body = json!({"model": "words", "template": "ab[[3]]", "length": 6, "seed": 3, "score": {}});
    let asked = ok(&server, PATH, &body).await["choices"][0]["score"].clone();
    assert!(asked["nats"].as_f64().unwrap() > 0.0, "{asked}");
    body["score"] = json!(true);
    assert_eq!(ok(&server, PATH, &body).await["choices"][0]["score"], asked);
    body["score"] = json!(false);
    assert_eq!(ok(&server, PATH, &body).await["choices"][0]["score"], json!(null));
}

#[tokio::test]
async fn predictions_are_distributions_over_what_is_possible() {
    let (_, server) = server(&["words", "blocks", "baseline", "pictures"]);
    let body = json!({
        "model": "words", "digits": [[6, 1], [6, null], [null, null], [null, 3]], "tokens": [1, 2, 3], "top": 20
    });
    let answer = ok(&server, "/v1/predict", &body).await;
    let predictions = answer["predictions"].as_array().unwrap();
    for (prediction, (known, possible)) in predictions.iter().zip([(1, 17), (0, 257), (1, 15)]) {
        assert_eq!(
            (&prediction["known"], &prediction["of"], &prediction["possible"]),
            (&json!(known), &json!(2), &json!(possible))
        );
        let top: Vec<f64> = prediction["top"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| one["probability"].as_f64().unwrap())
            .collect();
        assert!(top.is_sorted_by(|a, b| a >= b));
        let total: f64 = top.iter().sum();
        assert!(if possible < 20 {
            (total - 1.0).abs() < 1e-9 && top.len() == possible
        } else {
            total < 1.0 && top.len() == 20
        });
    }
    assert!(
        predictions[0]["top"].as_array().unwrap().iter().all(|one| one["token"].as_u64().unwrap() / 17 == 6)
    );
    let time = answer["time"].as_f64().unwrap();
    assert!((time - 0.5).abs() < 1e-9, "{time}: 4 of 8 digits are masked");
    let pixels = vec![json!([null, null]); 64];
    let picture = json!({"model": "pictures", "digits": pixels, "tokens": [63], "label": "square", "top": 1});
    assert_eq!(ok(&server, "/v1/predict", &picture).await["predictions"][0]["top"][0]["text"], Value::Null);
    for (body, param) in [
        (json!({"model": "words", "digits": [[1, 2, 3]], "tokens": [0]}), "digits[0]"),
        (json!({"model": "words", "digits": [], "tokens": [0]}), "tokens"),
        (json!({"model": "words", "digits": [[17, 0]], "tokens": [0]}), "digits"),
        (json!({"model": "words", "digits": [[1, null]], "tokens": [1]}), "tokens"),
        (json!({"model": "words", "digits": [[1, null]], "tokens": []}), "tokens"),
        (json!({"model": "words", "digits": vec![[0, 1]; 25], "tokens": [1]}), "digits"),
        (json!({"model": "words", "digits": [[1, null]], "tokens": [0], "top": 21}), "top"),
        (json!({"model": "words", "digits": [[1, null]], "tokens": [0], "label": 1}), "label"),
        (json!({"model": "baseline", "digits": [[1, null]], "tokens": [0]}), "model"),
        (json!({"model": "blocks", "digits": vec![json!([null, null]); 8], "tokens": [4]}), "tokens"),
        (
            json!({"model": "pictures", "digits": vec![json!([null, null]); 64], "tokens": [0], "label": "oval"}),
            "label",
        ),
    ] {
        let answer = post(&server, "/v1/predict", &body).await;
        let error = answer.json()["error"].clone();
        assert_eq!((answer.status.as_u16(), error["param"].as_str()), (400, Some(param)), "{body}: {error}");
    }
}

#[tokio::test]
async fn orders_and_units_reach_the_library() {
    let (state, server) = server(&["words"]);
    let session = support::session(&state, "words");
    for order in Order::deterministic() {
        let body = json!({"model": "words", "template": "a[[8]]b", "seed": 2, "order": order.name(), "unit": "tokens", "per_step": 3});
        let prompt = session.prompt(&"a[[8]]b".parse().unwrap(), None).unwrap();
        let request =
            Request { prompt, seed: 2, order, unit: RevealUnit::Tokens, per_step: 3, ..session.request() };
        let own = session.generate(&request, &mut Unobserved).unwrap();
        let answer = ok(&server, PATH, &body).await;
        assert_eq!(
            (&answer["choices"][0]["text"], &answer["usage"]["network_evaluations"]),
            (&json!(own.texts[0]), &json!(3))
        );
    }
}
