//! `/v1/images`: pictures of the library's samples, and parts of pictures filled in.

use std::io::Cursor;

use axum::Router;
use axum::http::StatusCode;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use image::{GrayImage, ImageFormat, Luma};
use serde_json::{Value, json};
use submask::model::{Label, Request};
use submask::sampler::Unobserved;
use submask_server::{ServerSettings, app};

use crate::completions::events;
use crate::support::{self, get, post};

const PATH: &str = "/v1/images";
const SIDE: u32 = 8;

async fn ok(server: &Router, body: &Value) -> Value {
    let answer = post(server, PATH, body).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    answer.json()
}

/// The pixels of a picture.
fn pixels(png: &Value) -> Vec<u32> {
    let bytes = STANDARD.decode(png.as_str().unwrap()).unwrap();
    let picture = image::load_from_memory_with_format(&bytes, ImageFormat::Png).unwrap();
    picture.into_luma8().into_raw().into_iter().map(u32::from).collect()
}

fn png(of: impl Fn(u32, u32) -> u8) -> String {
    let mut bytes = Cursor::new(Vec::new());
    GrayImage::from_fn(SIDE, SIDE, |x, y| Luma([of(x, y)])).write_to(&mut bytes, ImageFormat::Png).unwrap();
    STANDARD.encode(bytes.into_inner())
}

#[tokio::test]
async fn pictures_are_the_samples_of_the_library() {
    let state = support::state(ServerSettings::default(), &["pictures"]);
    let server = app(state.clone());
    let session = support::session(&state, "pictures");
    for (label, own) in [
        (json!(null), Label::Every),
        (json!("square"), Label::Class(1)),
        (json!(0), Label::Class(0)),
        (json!("mixture"), Label::Mixture),
    ] {
        let body = json!({"model": "pictures", "n": 3, "seed": 8, "label": label, "steps": 6});
        let answer = ok(&server, &body).await;
        let mut request = Request { num: 3, seed: 8, label: own, ..session.request() };
        request.sampling.steps = 6;
        let own = session.generate(&request, &mut Unobserved).unwrap();
        for (index, tokens) in own.tokens.iter().enumerate() {
            assert_eq!(pixels(&answer["data"][index]["b64_json"]), *tokens, "{label}");
            assert_eq!(answer["data"][index]["index"], index);
        }
        assert_eq!(answer["usage"]["network_evaluations"], own.report.evaluations);
    }
}

#[tokio::test]
async fn what_is_not_masked_is_kept() {
    let server = support::server(ServerSettings::default(), &["pictures"]);
    let picture = png(|x, y| (x * 20 + y * 3) as u8);
    let mask = png(|x, _| if x < 3 { 255 } else { 0 });
    let body = json!({"model": "pictures", "image": picture, "mask": mask, "seed": 2, "n": 2, "label": 0, "steps": 5});
    let answer = ok(&server, &body).await;
    let (first, second) = (pixels(&answer["data"][0]["b64_json"]), pixels(&answer["data"][1]["b64_json"]));
    for place in 0..64 {
        let (x, y) = (place % 8, place / 8);
        if x >= 3 {
            assert_eq!((first[place as usize], second[place as usize]), (x * 20 + y * 3, x * 20 + y * 3));
        }
    }
    assert_ne!(first, second);
    assert_eq!(answer["usage"]["prompt_tokens"], 40);
}

/// A mask may have greys, as canvases draw edges.
#[tokio::test]
async fn a_pixel_is_drawn_anew_from_a_luminance_of_128_on() {
    let server = support::server(ServerSettings::default(), &["pictures"]);
    let mask = png(|x, _| if x < 4 { 127 } else { 128 });
    let mut body = json!({"model": "pictures", "image": png(|_, _| 7), "mask": mask, "steps": 3, "seed": 1});
    let answer = ok(&server, &body).await;
    assert_eq!(answer["usage"]["prompt_tokens"], 32);
    let kept = pixels(&answer["data"][0]["b64_json"]);
    assert!((0..64).filter(|place| place % 8 < 4).all(|place| kept[place] == 7));
    body.as_object_mut().unwrap().remove("mask");
    let message = post(&server, PATH, &body).await.message();
    assert_eq!(message, "mask is missing: white in it is drawn anew, black is kept");
}

#[tokio::test]
async fn streams_show_pictures_that_resolve() {
    let server = support::server(ServerSettings::default(), &["pictures"]);
    let mut body = json!({"model": "pictures", "seed": 2, "n": 2, "label": 1, "scale": 2});
    let whole = ok(&server, &body).await;
    assert_eq!(pixels(&whole["data"][0]["b64_json"]).len(), 16 * 16);
    body["stream"] = json!(true);
    let events = events(&post(&server, PATH, &body).await);
    for choice in 0..2 {
        let own: Vec<&Value> = events.iter().filter(|event| event["choice"] == choice).collect();
        assert_eq!((&own[0]["type"], &own[0]["evaluations_at_most"]), (&json!("started"), &json!(128)));
        assert!(pixels(&own[0]["b64_json"]).iter().all(|pixel| (127..=128).contains(pixel)));
        let pictures = &own[1..own.len() - 1];
        assert!((12..=24).contains(&pictures.len()), "{} pictures", pictures.len());
        let known: Vec<f64> = pictures.iter().map(|event| event["known"].as_f64().unwrap()).collect();
        assert!(known.is_sorted() && known[0] > 0.0 && *known.last().unwrap() <= 1.0);
        let last = own.last().unwrap();
        assert_eq!(
            (&last["type"], &last["b64_json"]),
            (&json!("finished"), &whole["data"][choice]["b64_json"])
        );
    }
    assert_eq!(events.last().unwrap()["usage"], whole["usage"]);
}

/// The model's images have 64 values of 2 digits each.
#[tokio::test]
async fn streams_count_the_values_that_are_masked_partial_and_clean() {
    let server = support::server(ServerSettings::default(), &["pictures"]);
    let mask = png(|x, _| if x < 3 { 255 } else { 0 });
    let picture = png(|x, y| (x * 20 + y * 3) as u8);
    for (more, given) in [(json!({}), 0), (json!({"image": picture, "mask": mask}), 40)] {
        for unit in ["digits", "tokens"] {
            let mut body = json!({"model": "pictures", "seed": 4, "label": 1, "unit": unit, "stream": true});
            body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            let events = events(&post(&server, PATH, &body).await);
            let count = |event: &Value, name: &str| event[name].as_u64().unwrap();
            let started = &events[0];
            assert_eq!(
                ["given", "masked", "partial", "clean"].map(|name| count(started, name)),
                [given, 64 - given, 0, 0]
            );
            assert_eq!(started["known"], given as f64 / 64.0);
            let pictures: Vec<&Value> = events.iter().filter(|event| event["type"] == "picture").collect();
            for event in &pictures {
                let (masked, partial, clean) =
                    (count(event, "masked"), count(event, "partial"), count(event, "clean"));
                assert_eq!((count(event, "given"), given + masked + partial + clean), (given, 64), "{event}");
                // A partial value has one of its two digits.
                let digits = 2 * (given + clean) + partial;
                assert_eq!(event["known"].as_f64().unwrap(), digits as f64 / 128.0, "{event}");
            }
            let partial = pictures.iter().filter(|event| count(event, "partial") > 0).count();
            assert_eq!(partial > pictures.len() / 2, unit == "digits", "{partial} of {}", pictures.len());
            assert!(unit == "digits" || partial == 0);
            let clean: Vec<u64> = pictures.iter().map(|event| count(event, "clean")).collect();
            assert!(clean.is_sorted() && clean[0] < *clean.last().unwrap());
        }
    }
    let document = get(&server, "/openapi.json").await.json();
    let described = &document["components"]["schemas"]["Known"]["properties"];
    for name in ["known", "given", "masked", "partial", "clean"] {
        assert!(described[name]["description"].is_string(), "{name}: {described}");
    }
}

#[tokio::test]
async fn bad_fields_are_refused_by_name() {
    let server = support::server(ServerSettings::default(), &["words", "pictures"]);
    let (small, right, dark) = ("iVBORw0KGgoAAAANSUhEUg==".to_owned(), png(|_, _| 9), png(|_, _| 0));
    for (more, param, status) in [
        (json!({"model": "words"}), "model", 400),
        (json!({"n": 0}), "n", 400),
        (json!({"n": 129}), "n", 422),
        (json!({"label": "oval"}), "label", 400),
        (json!({"label": 2}), "label", 400),
        (json!({"label": 1.5}), "label", 400),
        (json!({"sampler": "none such"}), "sampler", 400),
        (json!({"image": right}), "mask", 400),
        (json!({"mask": right}), "image", 400),
        (json!({"image": small, "mask": right}), "image", 400),
        (json!({"image": "%", "mask": right}), "image", 400),
        (json!({"image": right, "mask": dark}), "mask", 400),
        (json!({"format": "jpeg"}), "format", 400),
        (json!({"scale": 0}), "scale", 400),
        (json!({"scale": 100_000}), "scale", 400),
        (json!({"scale": 129, "stream": true}), "scale", 400),
        (json!({"scale": 91, "n": 128}), "scale", 400),
        (json!({"min_entropy": 1}), "min_entropy", 400),
        (json!({"steps": 0, "corrector": [1, 1, 0]}), "corrector", 400),
        (json!({"first_sequence": u64::MAX}), "first_sequence", 400),
    ] {
        let mut body = json!({"model": "pictures"});
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
