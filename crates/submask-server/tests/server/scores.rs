//! `/v1/score`: what the library says of texts.

use axum::Router;
use axum::http::StatusCode;
use serde_json::{Value, json};
use submask::Compute;
use submask::model::{Estimator, EvaluateRequest, TextLayout};
use submask::sampler::RevealUnit;
use submask_server::state::AppState;
use submask_server::{ModelSource, ServerSettings, app};

use crate::ends;
use crate::support::{self, post};

const PATH: &str = "/v1/score";

async fn ok(server: &Router, body: Value) -> Value {
    let answer = post(server, PATH, &body).await;
    assert_eq!(answer.status, StatusCode::OK, "{body}: {}", answer.text());
    answer.json()
}

/// A number as it is read from an answer: the reader may change the last bit of long ones.
fn told(number: impl serde::Serialize) -> Value {
    serde_json::from_str(&serde_json::to_string(&number).unwrap()).unwrap()
}

#[tokio::test]
async fn scores_are_those_of_the_library() {
    let state = support::state(ServerSettings::default(), &["words", "blocks", "baseline"]);
    let server = app(state.clone());
    for name in ["words", "blocks", "baseline"] {
        let session = support::session(&state, name);
        let long = "a text that is longer than the model's sequences";
        let body =
            json!({"model": name, "texts": ["sea", {"prompt": "the ", "text": "sea"}, long], "seed": 4});
        let answer = ok(&server, body).await;
        let architecture = session.architecture();
        let passages: Vec<_> = [("", "sea"), ("the ", "sea"), ("", long)]
            .into_iter()
            .map(|(prompt, text)| architecture.passage(TextLayout::default(), prompt, text).unwrap())
            .collect();
        let request = EvaluateRequest { seed: 4, ..session.score_request() };
        let own = session.score(&request, &passages).unwrap();
        for (found, own) in answer["scores"].as_array().unwrap().iter().zip(&own) {
            assert_eq!(found["nats"], told(own.nats));
            assert_eq!(found["standard_error"], told(own.draw_error));
            assert_eq!(found["estimator"], own.estimator);
            assert_eq!((&found["tokens"], &found["windows"]), (&json!(own.tokens), &json!(own.windows)));
            assert_eq!(found["characters"], json!(own.characters));
            assert!(found["by_token"].is_null());
        }
        assert_eq!((&answer["object"], &answer["seed"]), (&json!("score"), &json!(4)));
        let kind = if name == "baseline" { "exact" } else { "upper_bound" };
        assert_eq!(answer["scores"][0]["kind"], kind, "{name}");
    }
}

#[tokio::test]
async fn estimators_are_chosen_as_by_the_program() {
    let state = support::state(ServerSettings::default(), &["words"]);
    let server = app(state.clone());
    let session = support::session(&state, "words");
    let passage = session.architecture().passage(TextLayout::default(), "", "deep sea").unwrap();
    let exact = |unit, per_step| Estimator::Exact { order: submask::order::Order::Margin, unit, per_step };
    for (more, estimator) in [
        (json!({"estimator": "nelbo-token", "draws": 3}), Estimator::NelboToken),
        (json!({"estimator": "path", "steps": 5, "draws": 3}), Estimator::Path { steps: 5 }),
        (json!({"estimator": "path", "draws": 3}), Estimator::Path { steps: support::SEQ_LEN }),
        (
            json!({"estimator": "orders", "draws": 3, "unit": "tokens"}),
            Estimator::Orders { unit: RevealUnit::Tokens },
        ),
        (json!({"estimator": "joint-objective", "draws": 3}), Estimator::JointObjective),
        (json!({"estimator": "exact"}), Estimator::LEFT_TO_RIGHT),
        (
            json!({"estimator": "exact", "order": "margin", "unit": "digits", "per_step": 2}),
            exact(RevealUnit::Digits, 2),
        ),
    ] {
        let mut body = json!({"model": "words", "texts": ["deep sea"]});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let draws = if estimator.is_by_token() { 1 } else { 3 };
        let request = EvaluateRequest { draws, ..EvaluateRequest::new(estimator) };
        let own = session.score(&request, std::slice::from_ref(&passage)).unwrap();
        assert_eq!(ok(&server, body).await["scores"][0]["nats"], told(own[0].nats), "{more}");
    }
}

#[tokio::test]
async fn tokens_and_ends_are_charged_where_asked_for() {
    let state = AppState::new(ServerSettings::default(), vec![ends::model(0)]).unwrap();
    let server = app(state);
    let ask = |end: bool| {
        ok(
            &server,
            json!({"model": "ends", "texts": ["the deep sea"], "estimator": "exact", "by_token": true, "end": end}),
        )
    };
    let (without, with) = (ask(false).await, ask(true).await);
    let tokens = |answer: &Value| answer["scores"][0]["by_token"].as_array().unwrap().len();
    assert_eq!((tokens(&without), tokens(&with)), (3, 4));
    let sum: f64 = with["scores"][0]["by_token"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["nats"].as_f64().unwrap())
        .sum();
    assert!((sum - with["scores"][0]["nats"].as_f64().unwrap()).abs() < 1e-9);
}

#[tokio::test]
async fn bad_fields_are_refused_by_name() {
    let server = support::server(
        ServerSettings { max_tokens: 100, ..ServerSettings::default() },
        &["words", "baseline", "pictures"],
    );
    for (more, param, status) in [
        (json!({"texts": []}), "texts", 400),
        (json!({"texts": ["a", ""]}), "texts[1]", 400),
        (json!({"texts": [{"prompt": "a", "text": ""}]}), "texts[0].text", 400),
        (json!({"texts": [{"prompt": "a"}]}), "texts[0]", 400),
        (json!({"texts": ["a".repeat(101)]}), "texts", 422),
        (json!({"texts": ["a".repeat(101), ""]}), "texts", 422),
        (json!({"stride": 24}), "stride", 400),
        (json!({"draws": 0}), "draws", 400),
        (json!({"draws": 1_000_000}), "draws", 422),
        (json!({"texts": ["a".repeat(90)], "draws": 80}), "texts", 422),
        (json!({"texts": ["a".repeat(90)], "stride": 1}), "texts", 422),
        (json!({"texts": ["a".repeat(90)], "estimator": "orders", "draws": 8}), "texts", 422),
        (json!({"estimator": "exact", "draws": 2}), "draws", 400),
        (json!({"estimator": "best"}), "estimator", 400),
        (json!({"steps": 4}), "steps", 400),
        (json!({"order": "margin"}), "order", 400),
        (json!({"estimator": "exact", "order": "random"}), "order", 400),
        (json!({"estimator": "exact", "per_step": 0}), "per_step", 400),
        (json!({"unit": "tokens"}), "unit", 400),
        (json!({"by_token": true}), "by_token", 400),
        (json!({"model": "baseline", "estimator": "nelbo-token"}), "estimator", 400),
        (json!({"model": "baseline", "carry_over": true}), "carry_over", 400),
        (json!({"model": "pictures"}), "model", 400),
    ] {
        let mut body = json!({"model": "words", "texts": ["a"]});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let answer = post(&server, PATH, &body).await;
        let error = answer.json()["error"].clone();
        assert_eq!(
            (answer.status.as_u16(), error["param"].as_str()),
            (status, Some(param)),
            "{more}: {error}"
        );
    }
}

#[tokio::test]
async fn texts_are_measured_before_they_are_encoded() {
    let settings = ServerSettings { max_tokens: 100, ..ServerSettings::default() };
    let server = support::server(settings, &["words"]);
    let texts = json!(["a".repeat(900), {"prompt": "b".repeat(300), "text": "c".repeat(401)}]);
    let answer = post(&server, PATH, &json!({"model": "words", "texts": texts})).await;
    assert_eq!(
        (answer.status, answer.message().as_str()),
        (
            StatusCode::UNPROCESSABLE_ENTITY,
            "texts = 1601 bytes in all is more than this server takes: at most 1600 bytes (16 per token of --max-tokens)"
        )
    );
    for more in [
        json!({"template": format!("[[*]]{}", "a".repeat(1600))}),
        json!({"parts": [{"hole": 1}, {"text": "a".repeat(800)}, {"text": "b".repeat(801)}]}),
    ] {
        let mut body = json!({"model": "words"});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let answer = post(&server, "/v1/infill", &body).await;
        assert!(answer.message().contains("at most 1600 bytes"), "{}", answer.text());
    }
}

/// What a score may cost is measured by what it costs.
#[test]
fn as_many_tokens_are_evaluated_as_are_said() {
    let state = support::state(ServerSettings::default(), &["words", "blocks", "baseline"]);
    for name in ["words", "blocks", "baseline"] {
        let session = support::session(&state, name);
        // All windows have the model's length.
        let layout = TextLayout::Alone { end: false, stride: Some(5) };
        let passage = session.architecture().passage(layout, "", &"deep sea".repeat(6)).unwrap();
        assert!(passage.sequences().all(|(tokens, _)| tokens == support::SEQ_LEN) && passage.windows() == 6);
        let exact = |order, unit, per_step| Estimator::Exact { order, unit, per_step };
        for estimator in [
            Estimator::LEFT_TO_RIGHT,
            exact(submask::order::Order::Margin, RevealUnit::Digits, 3),
            Estimator::NelboSubtoken,
            Estimator::Path { steps: 3 },
            Estimator::Orders { unit: RevealUnit::Digits },
        ] {
            if name == "baseline" && estimator != Estimator::LEFT_TO_RIGHT {
                continue;
            }
            let request = EvaluateRequest { draws: 2, ..EvaluateRequest::new(estimator) };
            let evaluation =
                session.evaluation_by_document(&request, std::slice::from_ref(&passage)).unwrap();
            assert_eq!(
                evaluation.figures[0].evaluations * support::SEQ_LEN as u64,
                session.tokens_to_evaluate(&request, passage.sequences()),
                "{name} {estimator:?}"
            );
        }
    }
}

#[tokio::test]
async fn what_fills_a_pair_is_paid_for() {
    let place = tempfile::tempdir().unwrap();
    support::save_pairs(place.path());
    let source = ModelSource { name: "pairs".to_owned(), folder: place.path().into(), figures: Vec::new() };
    let settings = ServerSettings { max_tokens: 100, ..ServerSettings::default() };
    let server = app(AppState::new(settings, vec![source.open(&Compute::cpu()).unwrap()]).unwrap());
    // Each is a sequence of 24 tokens, whatever it says, and 32 draws are made of it.
    let body = |texts: usize| json!({"model": "pairs", "texts": vec!["a"; texts]});
    ok(&server, body(8)).await;
    let refused = post(&server, PATH, &body(9)).await;
    assert_eq!(
        (refused.status, refused.message().as_str()),
        (
            StatusCode::UNPROCESSABLE_ENTITY,
            "texts = 6912 tokens to run the network on, in all evaluations together, is more than this server takes: at most \
             6400 (64 times --max-tokens)"
        )
    );
}
