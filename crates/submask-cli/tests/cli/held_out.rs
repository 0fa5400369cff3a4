//! Which text is held out, and what is said of it.

use serde_json::Value;

use super::Room;
use super::rounds::{json as parsed, stdout};

/// Settings of a run that takes a moment.
const SMALL: &[&str] = &[
    "tokenizer.kind=bytes",
    "model.hidden=8",
    "model.heads=1",
    "model.blocks=1",
    "model.cond_dim=8",
    "model.seq_len=8",
    "train.steps=2",
    "train.checkpoint_every=1",
    "train.final_sequences=4",
    "train.final_draws=1",
    "train.final_samples=0",
];

/// A room with `text.txt`, so many paragraphs of about 190 bytes.
fn room(paragraphs: usize) -> Room {
    let room = Room::new();
    let words = "the keeper wrote of wind and weather; ".repeat(5);
    let text: String = (0..paragraphs).map(|i| format!("note {i}: {words}\n\n")).collect();
    room.write("text.txt", &text);
    room
}

fn train(room: &Room, more: &[&str]) -> String {
    room.call(&[&["train", "--out", "run", "--subtokens", "1"], more, &["--set"], SMALL].concat())
}

/// What `info` says of how the run's text was split.
fn split(room: &Room) -> Value {
    parsed(&room.call(&["info", "run/data", "--json"]))["held_out"].clone()
}

#[test]
fn whole_documents_are_held_out_and_told() {
    let room = room(40);
    let said = train(&room, &["--data", "text.txt"]);
    stdout(&said);
    assert!(said.contains("data  held out: 2 of 40 documents, chosen by hash; "), "{said}");
    assert!(said.contains(" % of all, 50 sequences of 8\n") && !said.contains("warning"), "{said}");
    let split = split(&room);
    assert_eq!((&split["by"], &split["split_by_position"]), (&"documents".into(), &0.into()), "{split}");
    let prepare = ["data", "prepare", "--data", "text.txt", "--out", "data", "--set", "tokenizer.kind=bytes"];
    let said = room.call(&prepare);
    assert!(said.contains("data  held out: 2 of 40 documents, chosen by hash; "), "{said}");
    // The preset's sequences have 128 tokens.
    assert!(said.contains("warning: what is held out is small: "), "{said}");
}

#[test]
fn a_run_that_names_no_rule_holds_out_what_it_held_out() {
    let room = room(40);
    let said = train(&room, &["--data", "text.txt", "--set", "data.valid_rule=share"]);
    assert!(said.contains("held out: the ends of 40 of 40 documents"), "{said}");
    assert!(said.contains("warning: what is held out is cut to pieces"), "{said}");
    let before = split(&room);
    // As a run has it from before there was a choice, whose data are gone, too.
    let path = room.path().join("run/settings.toml");
    let settings = std::fs::read_to_string(&path).unwrap();
    let keys = ["valid_rule", "valid_paths"];
    let old = settings.lines().filter(|line| !keys.iter().any(|key| line.starts_with(key)));
    std::fs::write(&path, old.map(|line| line.to_owned() + "\n").collect::<String>()).unwrap();
    std::fs::remove_dir_all(room.path().join("run/data")).unwrap();
    let said = room.call(&["train", "--out", "run", "--resume", "--steps", "3"]);
    assert!(stdout(&said).starts_with("run/checkpoints/step-3\n"), "{said}");
    assert_eq!(split(&room), before);
    assert!(before.get("by").is_none(), "{before}");
}

#[test]
fn validation_text_may_be_given() {
    let room = room(30);
    room.write("held out.txt", &"the ship is small\n\n".repeat(20));
    let said = train(&room, &["--data", "text.txt", "--valid", "held out.txt"]);
    stdout(&said);
    assert!(said.contains("data  held out: 20 documents in files of their own; 361 tokens"), "{said}");
    let split = split(&room);
    assert_eq!((&split["by"], &split["documents"]), (&"files".into(), &30.into()), "{split}");
    // Both parts of the run are those that are prepared.
    let prepare = ["data", "prepare", "--out", "data", "--data", "text.txt", "--valid", "held out.txt"];
    let prepare = [&prepare[..], &["--set", "tokenizer.kind=bytes", "model.seq_len=8"]].concat();
    let said = room.call(&prepare);
    assert!(said.contains("held out: 20 documents in files of their own; 361 tokens"), "{said}");
    for part in ["train", "valid"] {
        let name = format!("{part}-00000.tokens");
        let read = |folder: &str| std::fs::read(room.path().join(folder).join(&name)).unwrap();
        assert!(read("run/data") == read("data"), "{name}");
    }
    let said = room.call(&["train", "--out", "other", "--data", "data", "--valid", "held out.txt"]);
    assert!(said.starts_with("exit code: 2\n"), "{said}");
    assert!(said.contains("data.valid_paths = held out.txt is not allowed: [] with prepared data"), "{said}");
    // The files belong to what was prepared.
    room.write("held out.txt", "another\n");
    let said = room.call(&prepare);
    assert!(said.contains("prepared with other settings or from other files"), "{said}");
}

#[test]
fn validation_text_that_is_not_there_is_named() {
    let room = room(30);
    for verb in [&["train", "--out", "run"][..], &["data", "prepare", "--out", "data"]] {
        let said = room.call(&[verb, &["--data", "text.txt", "--valid", "no.txt"]].concat());
        assert!(said.starts_with("exit code: 2\n"), "{said}");
        assert!(said.contains("data.valid_paths: no.txt does not exist"), "{said}");
    }
    let said = room.call(&["train", "--preset", "toy", "--image", "a.png", "--valid", "text.txt"]);
    assert!(said.contains("--valid has a meaning for text and images only"), "{said}");
    room.write("empty.txt", "");
    let said = train(&room, &["--data", "text.txt", "--valid", "empty.txt"]);
    assert!(said.starts_with("exit code: 1\n") && said.contains("empty.txt: an empty corpus"), "{said}");
    assert!(!room.path().join("run").exists(), "nothing half-written");
}
