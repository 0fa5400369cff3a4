//! Bad input: its own message, a code that is not zero, and nothing half-written.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use super::Room;
use super::rounds::{tiny, trained};

/// Trains on `data` with more settings; the call must fail with `code` and say all of `words`, and leave no run.
fn refused(room: &Room, arguments: &[&str], settings: &[&str], code: i32, words: &[&str]) {
    let mut all = vec!["train", "--out", "run", "--steps", "4"];
    all.extend(arguments);
    all.push("--set");
    all.extend(tiny(settings));
    let said = room.call(&all);
    assert!(said.starts_with(&format!("exit code: {code}\n")), "{said}");
    for word in words {
        assert!(said.contains(word), "no `{word}` in: {said}");
    }
    assert!(!room.path().join("run").exists(), "a run was left behind: {said}");
}

fn sea() -> Room {
    let room = Room::new();
    room.write("text.txt", &"the sea is wide and the ship is small\n".repeat(60));
    room
}

#[test]
fn an_empty_corpus_is_refused() {
    let room = Room::new();
    room.write("empty.txt", "");
    refused(&room, &["--data", "empty.txt"], &[], 1, &["empty.txt", "no document"]);
}

#[test]
fn text_that_is_not_utf8_is_refused_with_its_place() {
    let room = Room::new();
    fs::write(room.path().join("latin.txt"), b"caf\xe9 au lait").unwrap();
    refused(&room, &["--data", "latin.txt"], &[], 1, &["latin.txt", "offset 3", "UTF-8"]);
}

#[test]
fn sizes_that_do_not_fit_are_refused_before_anything_is_written() {
    let room = sea();
    let data = ["--data", "text.txt"];
    refused(
        &room,
        &[&data[..], &["--subtokens", "63"]].concat(),
        &[],
        2,
        &["codes.subtokens = 63", "below 2^63"],
    );
    refused(
        &room,
        &[&data[..], &["--subtokens", "3"]].concat(),
        &[],
        2,
        &["model.hidden = 16", "multiple of"],
    );
    refused(&room, &data, &["model.seq_len=5000"], 2, &["seq_len = 5000", "tokens"]);
    refused(&room, &data, &["model.hiden=8"], 2, &["model.hiden", "model.hidden"]);
}

#[test]
fn a_sequence_longer_than_the_model_is_refused() {
    let (room, _) = trained(&[]);
    let said = room.call(&["sample", "run", "--length", "99"]);
    assert!(!said.starts_with("exit code: 0") && said.contains("99") && said.contains("16"), "{said}");
    let said = room.call(&["sample", "run", "--prompt", &"long ".repeat(9)]);
    assert!(!said.starts_with("exit code: 0") && said.contains("16"), "{said}");
}

fn newest(room: &Room, name: &str) -> PathBuf {
    room.path().join("run/checkpoints/step-4").join(name)
}

#[test]
fn truncated_and_altered_checkpoints_are_refused_by_name() {
    for name in
        ["model.safetensors", "raw.safetensors", "optimizer_first.safetensors", "state.json", "config.json"]
    {
        let (room, _) = trained(&[]);
        let path = newest(&room, name);
        let whole = fs::read(&path).unwrap();
        let mut flipped = whole.clone();
        let middle = flipped.len() / 2;
        flipped[middle] ^= 4;
        for broken in [&whole[..whole.len() - 1], &flipped[..]] {
            fs::write(&path, broken).unwrap();
            for call in [
                &["sample", "run"][..],
                &["eval", "run"],
                &["train", "--out", "run", "--resume", "--steps", "6"],
            ] {
                let said = room.call(call);
                assert!(said.starts_with("exit code: 1\n"), "{name}: {said}");
                assert!(said.contains(name) && said.contains("step-2"), "{name}: {said}");
            }
        }
    }
}

#[test]
fn truncated_and_altered_shards_are_refused_by_name() {
    let (room, _) = trained(&[]);
    let folder = room.path().join("run/data");
    let shard = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.to_string_lossy().contains("train"))
        .expect("a training shard");
    let whole = fs::read(&shard).unwrap();
    fs::write(&shard, &whole[..whole.len() - 3]).unwrap();
    let resume = ["train", "--out", "run", "--resume", "--steps", "8"];
    let said = room.call(&resume);
    let name = shard.file_name().unwrap().to_string_lossy().into_owned();
    assert!(said.starts_with("exit code: 1\n") && said.contains(&name), "{said}");
    let mut flipped = whole;
    let last = flipped.len() - 1;
    flipped[last] ^= 1;
    fs::write(&shard, flipped).unwrap();
    let said = room.call(&["data", "info", "run/data", "--verify"]);
    assert!(said.starts_with("exit code: 1\n") && said.contains(&name), "{said}");
}

#[test]
fn a_tokenizer_that_is_not_the_models_is_refused() {
    let (room, _) = trained(&[]);
    let path = newest(&room, "config.json");
    let config = fs::read_to_string(&path).unwrap();
    let other = config.replace("\"kind\": \"bytes\"", "\"kind\": \"text8\"");
    assert_ne!(config, other);
    let model = room.path().join("model");
    fs::create_dir(&model).unwrap();
    fs::write(model.join("config.json"), other).unwrap();
    fs::copy(newest(&room, "model.safetensors"), model.join("model.safetensors")).unwrap();
    let said = room.call(&["sample", "model"]);
    assert!(
        said.starts_with("exit code: 2\n") && said.contains("27 tokens") && said.contains("257"),
        "{said}"
    );
    // Fine-tuning needs the model's own tokenizer too.
    let mut call =
        vec!["train", "--data", "text.txt", "--out", "fine", "--init", "run", "--steps", "1", "--set"];
    call.extend(tiny(&["tokenizer.kind=characters"]));
    let said = room.call(&call);
    assert!(!said.starts_with("exit code: 0") && said.contains("tokenizer"), "{said}");
}

#[test]
fn a_loss_that_is_no_number_stops_and_keeps_the_last_good_checkpoint() {
    let (room, _) = trained(&[]);
    let mut call = vec!["train", "--out", "run", "--resume", "--steps", "40", "--set"];
    call.extend(["train.learning_rate=1e38", "train.checkpoint_every=100", "train.clip=1e30"]);
    let said = room.call(&call);
    assert!(said.starts_with("exit code: 1\n"), "{said}");
    assert!(said.contains("not a finite number") && said.contains("--resume"), "{said}");
    let said = room.call(&["sample", "run"]);
    assert!(said.starts_with("exit code: 0\n"), "{said}");
}

/// A file size limit stands for the full disk: writes fail in the middle.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_leaves_nothing_half_written() {
    let room = sea();
    let limited = |blocks: u32, arguments: &str| {
        let script = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$0\" {arguments}");
        let output = Command::new("bash")
            .args(["-c", &script, env!("CARGO_BIN_EXE_submask")])
            .current_dir(room.path())
            .output()
            .unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    // Too little for the shards, then too little for the weights: a run that cannot begin leaves nothing.
    let train = format!("train --data text.txt --out run --steps 4 --set {}", tiny(&[]).join(" "));
    for blocks in [1, 16] {
        let (code, said) = limited(blocks, &train);
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains("run/") && said.contains("too large"), "{said}");
        assert!(!room.path().join("run").exists(), "{said}");
    }
    // A run that has begun keeps its checkpoints, and no part of a new one.
    let said = room.call(&train.split(' ').collect::<Vec<_>>());
    assert!(said.starts_with("exit code: 0\n"), "{said}");
    let (code, said) = limited(16, "train --out run --resume --steps 8");
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("checkpoints") && said.contains("too large"), "{said}");
    let left = fs::read_dir(room.path().join("run/checkpoints")).unwrap();
    let mut left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["step-2", "step-4"]);
}
