//! Tokenizers from which a text cannot always be had again: what is then said, and which figures there are.

use serde_json::{Value, json};

use super::Room;
use super::rounds::{json as parsed, stdout};

/// A tokenizer of five words, which makes letters small and does not know other words.
fn words() -> Value {
    let special = |id: u32, content: &str| {
        json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true})
    };
    json!({
        "version": "1.0", "truncation": null, "padding": null, "post_processor": null, "decoder": null,
        "added_tokens": [special(0, "[UNK]"), special(6, "</s>")],
        "normalizer": {"type": "Lowercase"},
        "pre_tokenizer": {"type": "WhitespaceSplit"},
        "model": {"type": "WordLevel", "unk_token": "[UNK]",
            "vocab": {"[UNK]": 0, "the": 1, "sea": 2, "is": 3, "wide": 4, "ship": 5, "</s>": 6}}
    })
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
    "tokenizer.kind=tokenizer-json",
    "tokenizer.path=words.json",
];

/// A room with a run `run` on a text of lines, and what training said.
fn trained(text: &str) -> (Room, String) {
    let room = Room::new();
    room.write("words.json", &words().to_string());
    room.write("text.txt", text);
    let call = ["train", "--data", "text.txt", "--out", "run", "--subtokens", "1", "--set"];
    let said = room.call(&[&call[..], SMALL].concat());
    stdout(&said);
    (room, said)
}

/// The units of the figures that `eval --json` prints.
fn units(said: &str) -> Vec<String> {
    let figures = parsed(said)["figures"].clone();
    figures.as_array().unwrap().iter().map(|figure| figure["unit"].as_str().unwrap().to_owned()).collect()
}

const PER_TOKEN: [&str; 2] =
    ["nats per token of the tokenised text", "perplexity per token of the tokenised text"];

#[test]
fn text_that_does_not_decode_to_itself_has_no_bits_per_character() {
    // Every second document has a large letter, every tenth an unknown word.
    let line = |i: usize| match i % 10 {
        0 => "the sea is deep",
        i if i % 2 == 1 => "The ship is wide",
        _ => "the sea is wide",
    };
    let text: String = (0..200).map(|i| line(i).to_owned() + "\n").collect();
    let (room, said) = trained(&text);
    let note = "120 of 200 documents do not decode to themselves, 2.50 % of the tokens are unknown text";
    assert!(said.contains(note), "{said}");
    assert!(!said.contains("per character)") && !said.contains("bits per character"), "{said}");
    for more in [&[][..], &["--data", "text.txt", "--split", "line"]] {
        let said = room.call(&[&["eval", "run", "--json"], more].concat());
        assert_eq!(units(&said), PER_TOKEN, "{said}");
        assert!(said.contains("documents do not decode to themselves"), "{said}");
        let said = room.call(&[&["eval", "run", "--json", "--estimator", "joint-objective"], more].concat());
        assert_eq!(units(&said), PER_TOKEN[..1], "{said}");
    }
    // The model says it of the text that it was trained on, and the prepared folder of its own.
    let model = parsed(&room.call(&["info", "run/checkpoints/step-2", "--json"]));
    let kept = &model["config"]["subject"]["fidelity"];
    assert_eq!((&kept["documents"], &kept["changed"]), (&json!(200), &json!(120)), "{model}");
    let data = parsed(&room.call(&["info", "run/data", "--json"]));
    for described in [&data, &model, &parsed(&room.call(&["info", "run", "--json"]))] {
        assert_eq!(described["documents_changed_by_tokenizer"], 120, "{described}");
        assert_eq!(described["unknown_share"], 0.025, "{described}");
    }
    assert_eq!(data["unknown_tokens"], 20, "{data}");
    // Other text may survive the same tokenizer.
    room.write("plain.txt", &"the sea is wide\n".repeat(40));
    let said = room.call(&["eval", "run", "--json", "--data", "plain.txt", "--split", "line"]);
    assert_eq!(units(&said)[0], "bits per character", "{said}");
    assert!(said.contains("all 40 documents decode to themselves; 0.00 %"), "{said}");
}

#[test]
fn text_that_survives_its_tokenizer_has_bits_per_character() {
    let (room, said) = trained(&"the ship is wide\nthe sea is wide\n".repeat(100));
    assert!(said.contains("all 200 documents decode to themselves; 0.00 %"), "{said}");
    assert!(said.contains("bits per character"), "{said}");
    assert_eq!(units(&room.call(&["eval", "run", "--json"]))[0], "bits per character");
    // One document among many is enough.
    room.write("other.txt", &("the sea is wide\n".repeat(40) + "the Sea is wide\n"));
    let said = room.call(&["eval", "run", "--json", "--data", "other.txt", "--split", "line"]);
    assert_eq!(units(&said), PER_TOKEN, "{said}");
    assert!(said.contains("1 of 41 documents do not decode to themselves"), "{said}");
    let said = room.call(&[
        "data",
        "prepare",
        "--out",
        "data",
        "--data",
        "other.txt",
        "--set",
        "tokenizer.kind=tokenizer-json",
        "tokenizer.path=words.json",
        "data.split=line",
        "data.valid_fraction=0.2",
    ]);
    assert!(said.contains("1 of 41 documents do not decode to themselves"), "{said}");
}

#[test]
fn characters_of_sequences_add_up_to_those_of_the_text() {
    // A space between two words is a character, wherever a sequence ends: 40 lines of 15 characters, 5 tokens each.
    let (room, _) = trained(&"the ship is wide\nthe sea is wide\n".repeat(100));
    room.write("plain.txt", &"the sea is wide\n".repeat(40));
    let said = parsed(&room.call(&["eval", "run", "--json", "--data", "plain.txt", "--split", "line"]));
    let values = said["by_sequence"].as_array().unwrap();
    let characters: u64 = values.iter().map(|value| value["characters"].as_u64().unwrap()).sum();
    // 201 tokens with the ends of text: the last one is a sequence of its own.
    assert_eq!((values.len(), characters), (26, 40 * 15));
    assert_eq!(
        (&said["tokens"], &said["characters"], &said["documents"]),
        (&json!(201), &json!(600), &json!(40))
    );
    let run = parsed(&room.call(&["eval", "run", "--json"]));
    let of_run = |key: &str| -> u64 {
        run["by_sequence"].as_array().unwrap().iter().map(|value| value[key].as_u64().unwrap()).sum()
    };
    let (characters, tokens) = (of_run("characters"), of_run("tokens"));
    // Lines of 15 and 16 characters have 5 tokens with their end: 3.0 to 3.2 characters per token.
    assert!((3.0..=3.2).contains(&(characters as f64 / tokens as f64)), "{characters} of {tokens} tokens");
}
