//! Tokenizers of other programs: files, folders, and the token that ends a text.

use serde_json::{Value, json};

use super::Room;
use super::rounds::{json as parsed, stdout};

/// A tokenizer of a few words and of these special tokens.
fn words(specials: &[&str]) -> String {
    let special = |(i, content): (usize, &&str)| {
        json!({"id": 5 + i, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true})
    };
    let specials: Vec<Value> = specials.iter().enumerate().map(special).collect();
    json!({
        "version": "1.0", "truncation": null, "padding": null, "post_processor": null, "decoder": null,
        "normalizer": null, "added_tokens": specials, "pre_tokenizer": {"type": "WhitespaceSplit"},
        "model": {"type": "WordLevel", "unk_token": "?", "vocab": {"?": 0, "the": 1, "sea": 2, "is": 3, "wide": 4}}
    })
    .to_string()
}

const SMALL: &[&str] = &[
    "model.hidden=8",
    "model.heads=1",
    "model.blocks=1",
    "model.cond_dim=8",
    "model.seq_len=8",
    "train.steps=2",
    "train.final_samples=1",
    "train.final_draws=1",
    "data.split=line",
    "data.valid_fraction=0.2",
];
const LLAMA: [&str; 3] = ["<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>"];
const WARNING: &str = "warning: the tokenizer has no end of text";

/// A room with a text, a folder `tok` with a tokenizer and what is said beside it, and one without an end of text.
fn room() -> Room {
    let room = Room::new();
    room.write("text.txt", &"the sea is wide\n".repeat(60));
    room.write("tok/tokenizer.json", &words(&LLAMA));
    room.write("tok/tokenizer_config.json", r#"{"eos_token": "<|eot_id|>"}"#);
    room.write("endless.json", &words(&["<x>"]));
    room
}

fn train(room: &Room, out: &str, settings: &[&str]) -> String {
    let call = ["train", "--data", "text.txt", "--out", out, "--subtokens", "1", "--set"];
    room.call(&[&call[..], SMALL, settings].concat())
}

/// The tokenizer of a run's model.
fn tokenizer_of(room: &Room, run: &str) -> Value {
    let info = parsed(&room.call(&["info", &format!("{run}/checkpoints/step-2"), "--json"]));
    info["config"]["subject"]["tokenizer"].clone()
}

#[test]
fn a_folder_is_a_tokenizer_and_what_stands_in_it_names_the_end_of_text() {
    let room = room();
    let said = train(&room, "run", &["tokenizer.path=tok"]);
    assert!(stdout(&said).starts_with("run/checkpoints/step-2\n") && !said.contains(WARNING), "{said}");
    assert_eq!(tokenizer_of(&room, "run"), json!({"kind": "tokenizer_json", "end_of_text": "<|eot_id|>"}));
    let settings = parsed(&room.call(&["info", "run", "--json"]))["settings"]["tokenizer"].clone();
    assert_eq!((&settings["kind"], &settings["path"]), (&json!("tokenizer-json"), &json!("tok")));

    let said = train(&room, "named", &["tokenizer.path=tok", "tokenizer.end_of_text=<|begin_of_text|>"]);
    stdout(&said);
    assert_eq!(tokenizer_of(&room, "named")["end_of_text"], "<|begin_of_text|>");
    // A run keeps what it has, whatever is said beside the file afterwards.
    room.write("tok/tokenizer_config.json", r#"{"eos_token": "<|end_of_text|>"}"#);
    stdout(&room.call(&["train", "--out", "run", "--resume", "--steps", "2"]));
    assert_eq!(tokenizer_of(&room, "run")["end_of_text"], "<|eot_id|>");

    let info = parsed(&room.call(&["info", "tok", "--json"]));
    assert_eq!((&info["kind"], &info["end_of_text"]), (&json!("tokenizer"), &json!("<|end_of_text|>")));
    assert_eq!((&info["vocab_size"], &info["lossless"]), (&json!(8), &json!(false)));
    assert_eq!(parsed(&room.call(&["info", "endless.json", "--json"]))["end_of_text"], Value::Null);
}

#[test]
fn a_tokenizer_without_an_end_of_text_is_warned_of() {
    let room = room();
    let said = train(&room, "run", &["tokenizer.path=endless.json"]);
    assert!(said.contains(WARNING) && said.contains("tokenizer.end_of_text"), "{said}");
    let prepare = ["data", "prepare", "--data", "text.txt", "--out", "prepared", "--set", "data.split=line"];
    let said = room.call(&[&prepare[..], &["tokenizer.path=endless.json"]].concat());
    assert!(said.contains(WARNING), "{said}");
    stdout(&said);
    let said = train(&room, "ended", &["tokenizer.path=endless.json", "tokenizer.end_of_text=<x>"]);
    stdout(&said);
    assert!(!said.contains(WARNING), "{said}");
}

#[test]
fn settings_of_a_tokenizer_that_are_not_used_are_errors() {
    let room = room();
    for (settings, parts) in [
        (
            &["tokenizer.path=tok", "tokenizer.kind=gpt2"][..],
            &[
                "`tokenizer.path` = \"tok\" in --set tokenizer.path=tok has no effect",
                "tokenizer.kind is gpt2",
            ][..],
        ),
        (
            &["tokenizer.kind=bytes", "tokenizer.vocab_size=300"],
            &["`tokenizer.vocab_size` = 300", "no effect"],
        ),
        (&["tokenizer.end_of_text=</s>"], &["`tokenizer.end_of_text`", "tokenizer.kind is bpe"]),
        (
            &["tokenizer.path=gone"],
            &["tokenizer.path: gone does not exist", "a tokenizer.json, or the folder"],
        ),
        (
            &["tokenizer.path=tok", "tokenizer.end_of_text=</s>"],
            &["tokenizer.end_of_text = \"</s>\" is not allowed", "such as \"<|begin_of_text|>\""],
        ),
    ] {
        let said = train(&room, "run", settings);
        assert!(said.starts_with("exit code: 2\n"), "{said}");
        parts.iter().for_each(|part| assert!(said.contains(part), "no {part} in {said}"));
        assert!(!said.contains("panicked"), "{said}");
    }
    let said = train(&room, "run", &["tokenizer.path=text.txt"]);
    assert!(said.starts_with("exit code: 1\n") && said.contains("text.txt: not a tokenizer.json"), "{said}");
    assert!(!room.path().join("run/settings.toml").exists());
}

#[test]
fn prepared_data_keep_their_tokenizer() {
    let room = room();
    let prepare = ["data", "prepare", "--data", "text.txt", "--out", "prepared", "--set", "data.split=line"];
    stdout(&room.call(&[&prepare[..], &["tokenizer.path=tok"]].concat()));
    let call = |settings: &[&str]| {
        let train = ["train", "--data", "prepared", "--out", "run", "--subtokens", "1", "--set"];
        room.call(&[&train[..], SMALL, settings].concat())
    };
    for wrong in
        ["tokenizer.kind=gpt2", "tokenizer.end_of_text=<|end_of_text|>", "tokenizer.path=endless.json"]
    {
        let said = call(&[wrong]);
        assert!(
            said.starts_with("exit code: 2\n") && said.contains("the prepared data prepared have"),
            "{said}"
        );
    }
    stdout(&call(&["tokenizer.path=tok"]));
}

#[test]
fn import_takes_the_same_tokenizers() {
    let room = room();
    stdout(&train(&room, "run", &["tokenizer.path=endless.json"]));
    stdout(&room.call(&["export", "run", "--to", "theirs"]));
    room.write("theirs/config.json", r#"{"n_heads": 1, "model_length": 8}"#);
    let import = |to: &str, more: &[&str]| room.call(&[&["import", "theirs", "--to", to][..], more].concat());
    let said = import("a", &["--tokenizer", "endless.json"]);
    assert!(stdout(&said).contains("tokenizer: as given; it has no end of text"), "{said}");
    let said = import("b", &["--tokenizer", "endless.json", "--end-of-text", "<x>"]);
    assert!(stdout(&said).contains("tokenizer: as given; texts end with \"<x>\""), "{said}");
    let said = import("c", &["--tokenizer", "endless.json", "--end-of-text", "</s>"]);
    assert!(said.starts_with("exit code: 2\n") && said.contains("--end-of-text = \"</s>\""), "{said}");
    let said = import("d", &["--tokenizer", "bytes", "--end-of-text", "</s>"]);
    assert!(
        said.starts_with("exit code: 2\n") && said.contains("--tokenizer bytes is no tokenizer.json"),
        "{said}"
    );
    let said = import("e", &["--tokenizer", "tok"]);
    assert!(said.starts_with("exit code: 2\n") && said.contains("--tokenizer = one of 8 tokens"), "{said}");
    assert!(["c", "d", "e"].iter().all(|name| !room.path().join(name).exists()));
}
