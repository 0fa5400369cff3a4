//! Models of drawn weights, and requests to a server of them.

use std::path::Path;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt;
use serde_json::Value;
use submask::Compute;
use submask::backbone::Embedding;
use submask::backbone::autoregressive::AutoregressiveConfig;
use submask::backbone::dit::DitConfig;
use submask::backbone::weights::{Init, Parameter};
use submask::data::Tokenizer;
use submask::model::{
    Architecture, CodeSettings, FORMAT_VERSION, ImageSubject, ModelConfig, NetworkConfig, Sampling, Subject,
    TextSubject, UnetSettings,
};
use submask::schedule::Schedule;
use submask_server::state::AppState;
use submask_server::{ModelSource, OpenModel, ServerSettings, app};
use tower::ServiceExt;

/// Tokens of the texts of the tiny models.
pub const SEQ_LEN: usize = 24;

fn dit(block_len: usize) -> NetworkConfig {
    NetworkConfig::Diffusion(DitConfig {
        hidden: 16,
        heads: 2,
        blocks: 1,
        cond_dim: 8,
        seq_len: SEQ_LEN,
        dropout: 0.0,
        embedding: Embedding::Concatenated,
        time_conditioning: false,
        block_len,
    })
}

fn baseline() -> NetworkConfig {
    let (hidden, heads, blocks, seq_len, dropout) = (16, 2, 1, SEQ_LEN, 0.0);
    NetworkConfig::Autoregressive(AutoregressiveConfig { hidden, heads, blocks, seq_len, dropout })
}

fn unet() -> NetworkConfig {
    NetworkConfig::Unet(UnetSettings {
        class_conditional: true,
        model_channels: 32,
        channel_mult: vec![1],
        res_blocks: 1,
        attention_resolutions: Vec::new(),
        head_channels: 32,
        dropout: 0.0,
    })
}

fn text() -> Subject {
    Subject::Text(TextSubject::of(&Tokenizer::bytes()))
}

fn images() -> Subject {
    let class_names = vec!["round".to_owned(), "square".to_owned()];
    let (channels, height, width, levels) = (1, 8, 8, 256);
    Subject::Image(ImageSubject { channels, height, width, levels, super_tokens: false, class_names })
}

/// Writes a model with weights far from zero, drawn by a fixed seed, into a folder.
pub fn save(folder: &Path, subject: Subject, network: NetworkConfig) {
    let tokenizer = subject.text().map(|_| Tokenizer::bytes());
    let config = ModelConfig {
        format_version: FORMAT_VERSION,
        subject,
        network,
        codes: CodeSettings::plain(2, true),
        schedule: Schedule::Linear,
        sample: Sampling::default(),
    };
    let architecture = Architecture::new(config, tokenizer).unwrap();
    let drawn = |(index, parameter): (usize, &Parameter)| {
        Parameter { init: Init::Normal(0.3), ..parameter.clone() }.initial(1, index)
    };
    let values: Vec<_> = architecture.parameters().iter().enumerate().map(drawn).collect();
    architecture.save(&values, folder).unwrap();
}

/// One of the tiny models: `words`, `blocks`, `baseline` or `pictures`.
pub fn save_named(folder: &Path, name: &str) {
    match name {
        "words" => save(folder, text(), dit(0)),
        "blocks" => save(folder, text(), dit(4)),
        "baseline" => save(folder, text(), baseline()),
        "pictures" => save(folder, images(), unet()),
        other => panic!("there is no tiny model {other}"),
    }
}

/// The model `words` with longer sequences.
pub fn save_long(folder: &Path, seq_len: usize) {
    let NetworkConfig::Diffusion(config) = dit(0) else { unreachable!("dit is a diffusion model") };
    save(folder, text(), NetworkConfig::Diffusion(DitConfig { seq_len, ..config }));
}

/// The model `words` of pairs.
pub fn save_pairs(folder: &Path) {
    let subject = TextSubject { pairs: true, ..TextSubject::of(&Tokenizer::bytes()) };
    save(folder, Subject::Text(subject), dit(0));
}

/// Tiny models, opened.
pub fn models(names: &[&str]) -> Vec<OpenModel> {
    let place = tempfile::tempdir().unwrap();
    let open = |name: &&str| {
        let folder = place.path().join(name);
        std::fs::create_dir(&folder).unwrap();
        save_named(&folder, name);
        let source = ModelSource { name: (*name).to_owned(), folder, figures: Vec::new() };
        source.open(&Compute::cpu()).unwrap()
    };
    names.iter().map(open).collect()
}

/// The state of a server of tiny models.
pub fn state(settings: ServerSettings, names: &[&str]) -> AppState {
    AppState::new(settings, models(names)).unwrap()
}

/// A server of tiny models, in process.
pub fn server(settings: ServerSettings, names: &[&str]) -> Router {
    app(state(settings, names))
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    /// The message of an error.
    pub fn message(&self) -> String {
        self.json()["error"]["message"].as_str().unwrap().to_owned()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

/// Sends a request.
pub async fn send(server: &Router, request: Request<Body>) -> Answer {
    let response = server.clone().oneshot(request).await.unwrap();
    let (head, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes().to_vec();
    Answer { status: head.status, headers: head.headers, body }
}

/// Asks for a path.
pub async fn get(server: &Router, path: &str) -> Answer {
    send(server, Request::get(path).body(Body::empty()).unwrap()).await
}

/// Sends JSON to a path.
pub async fn post(server: &Router, path: &str, body: &Value) -> Answer {
    post_bytes(server, path, body.to_string().into_bytes()).await
}

/// Sends bytes that are said to be JSON to a path.
pub async fn post_bytes(server: &Router, path: &str, body: Vec<u8>) -> Answer {
    let request = Request::post(path).header("content-type", "application/json");
    send(server, request.body(Body::from(body)).unwrap()).await
}

/// A shared pointer, for tests that ask the library for the same.
pub fn session(state: &AppState, name: &str) -> Arc<submask::model::Session> {
    Arc::clone(&state.model(name).unwrap().session)
}
