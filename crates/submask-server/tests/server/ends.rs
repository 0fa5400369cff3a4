//! Models of other tokens than bytes: of words, one of which ends a text, and of letters, none of which does.

use std::sync::Arc;

use serde_json::{Map, json};
use submask::Compute;
use submask::backbone::Embedding;
use submask::backbone::dit::DitConfig;
use submask::backbone::weights::{Init, Parameter};
use submask::data::Tokenizer;
use submask::model::{
    Architecture, CodeSettings, FORMAT_VERSION, ModelConfig, NetworkConfig, Sampling, Session, Subject,
    TextSubject,
};
use submask::schedule::Schedule;
use submask_server::OpenModel;

/// Tokens of its texts, their beginning included.
pub const SEQ_LEN: usize = 20;

/// Fifteen words, and the end of text.
fn tokenizer() -> Tokenizer {
    let words = [
        "sea", "wide", "light", "lamp", "of", "the", "a", "and", "deep", "old", "ship", "in", "sails", "to",
        ".",
    ];
    let mut vocab: Map<_, _> =
        words.iter().enumerate().map(|(id, word)| ((*word).to_owned(), json!(id))).collect();
    vocab.insert("<end>".to_owned(), json!(words.len()));
    let end = json!({
        "id": words.len(), "content": "<end>", "single_word": false, "lstrip": false, "rstrip": false,
        "normalized": false, "special": true
    });
    let file = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [end], "normalizer": null,
        "pre_tokenizer": {"type": "WhitespaceSplit"}, "post_processor": null, "decoder": null,
        "model": {"type": "WordLevel", "vocab": vocab, "unk_token": "."}
    });
    let path = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(path.path(), file.to_string()).unwrap();
    Tokenizer::from_file(path.path(), Some("<end>")).unwrap()
}

/// The model `ends` of words; with blocks of so many tokens, or 0.
pub fn model(block_len: usize) -> OpenModel {
    opened("ends", tokenizer(), block_len)
}

/// The model `letters`, which has no end of text.
pub fn letters() -> OpenModel {
    opened("letters", Tokenizer::text8(), 0)
}

fn opened(name: &str, tokenizer: Tokenizer, block_len: usize) -> OpenModel {
    let config = ModelConfig {
        format_version: FORMAT_VERSION,
        subject: Subject::Text(TextSubject::of(&tokenizer)),
        network: NetworkConfig::Diffusion(DitConfig {
            hidden: 16,
            heads: 2,
            blocks: 1,
            cond_dim: 8,
            seq_len: SEQ_LEN,
            dropout: 0.0,
            embedding: Embedding::Concatenated,
            time_conditioning: false,
            block_len,
        }),
        codes: CodeSettings::plain(2, true),
        schedule: Schedule::Linear,
        sample: Sampling::default(),
    };
    let architecture = Arc::new(Architecture::new(config, Some(tokenizer)).unwrap());
    let drawn = |(index, parameter): (usize, &Parameter)| {
        Parameter { init: Init::Normal(0.2), ..parameter.clone() }.initial(5, index)
    };
    let values: Vec<_> = architecture.parameters().iter().enumerate().map(drawn).collect();
    let session = Arc::new(Session::new(architecture, &values, &Compute::cpu()).unwrap());
    OpenModel { name: name.to_owned(), folder: name.into(), created: 0, figures: Vec::new(), session }
}
