//! Models of other programs: imported, described, used like one of ours, and exported.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::Room;
use super::rounds::{json, stdout, trained};

/// The fixtures' files `NAME*/FILE`; none, said, where there are no fixtures.
fn fixtures(prefix: &str, file: &str) -> Vec<PathBuf> {
    let named = std::env::var_os("SUBMASK_FIXTURES").map(PathBuf::from);
    let folder =
        named.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/fixtures"));
    let Ok(entries) = std::fs::read_dir(&folder) else {
        println!("no fixtures in {}: nothing to import", folder.display());
        return Vec::new();
    };
    let named = entries.flatten().filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix));
    let mut files: Vec<_> =
        named.map(|entry| entry.path().join(file)).filter(|file| file.is_file()).collect();
    files.sort();
    files.iter().for_each(|file| println!("{}", file.display()));
    files
}

/// A text of numbers below 37, as tokens.
fn numbers() -> String {
    let line = |i: usize| (0..20).map(|j| format!("{} ", (i * 7 + j * j) % 37)).collect::<String>() + "\n";
    (0..80).map(line).collect()
}

/// The value of the first figure of an upper bound.
fn bound(result: &Value) -> f64 {
    let figures = result["figures"].as_array().unwrap();
    let bound = figures.iter().find(|figure| figure["kind"] == "upper_bound").unwrap();
    bound["value"].as_f64().unwrap()
}

#[test]
fn what_is_exported_can_be_imported_and_is_the_same_model() {
    let (room, _) = trained(&[]);
    let said = room.call(&["export", "run", "--format", "reference", "--to", "out"]);
    assert_eq!(stdout(&said), "out\n");
    let said = room.call(&["import", "out", "--to", "again"]);
    for part in
        ["model folder of submask", "missing: 0", "unused: 0", "wrote again", "a buffer, computed here"]
    {
        assert!(stdout(&said).contains(part), "{part} in {said}");
    }
    // The imported model is in no run that says what a document is.
    let call = ["--data", "text.txt", "--split", "file", "--json"];
    let eval = |model: &str| json(&room.call(&[&["eval", model], &call[..]].concat()))["figures"].clone();
    assert_eq!(eval("again"), eval("run"));
    let sample = |model: &str| stdout(&room.call(&["sample", model])).to_owned();
    assert_eq!(sample("again"), sample("run"));
    // Its settings and tokenizer go over to a new run.
    let call = ["train", "--init", "again", "--data", "text.txt", "--steps", "2", "--out", "fine", "--set"];
    let said =
        room.call(&[call.as_slice(), &["train.validate_sequences=2", "train.final_sequences=2"]].concat());
    assert!(stdout(&said).starts_with("fine/checkpoints/step-2\n"), "{said}");

    // Nothing is overwritten, and flags do not contradict the folder.
    let said = room.call(&["import", "out", "--to", "again"]);
    assert!(said.starts_with("exit code: 2\n") && said.contains("--to = again"), "{said}");
    let said = room.call(&["import", "out", "--to", "other", "--heads", "4"]);
    assert!(said.starts_with("exit code: 2\n") && said.contains("config.json says all"), "{said}");
    assert!(!room.path().join("other").exists());
}

#[test]
fn shuffled_codes_are_exported_as_a_table_that_import_reads() {
    let (room, _) = trained(&["--subtokens", "2", "--set", "codes.assignment.kind=shuffled"]);
    for format in ["safetensors", "reference"] {
        let said = room.call(&["export", "run", "--format", format, "--to", format]);
        assert!(said.starts_with("exit code: 0\n"), "{said}");
        let table = submask::import::read_permutation(&room.path().join(format).join("codes.safetensors"));
        // 257 tokens need base 17: 289 codes.
        assert_eq!(table.unwrap().len(), 289);
        // Another program has the weights and the table alone.
        let path = room.path().join(format);
        std::fs::rename(path.join("config.json"), room.path().join(format!("{format}.json"))).unwrap();
        let to = format!("{format}-again");
        let flags = ["--heads", "2", "--subtokens", "2", "--carry-over", "true", "--tokenizer", "bytes"];
        let seq_len = ["--seq-len", "16", "--permutation"];
        let weights = format!("{format}/model.safetensors");
        let table = format!("{format}/codes.safetensors");
        let call = [&["import", &*weights, "--to", &*to][..], &flags, &seq_len, &[&*table]].concat();
        let said = room.call(&call);
        assert!(said.starts_with("exit code: 0\n"), "{said}");
        let call = ["--data", "text.txt", "--split", "file", "--json"];
        let eval = |model: &str| json(&room.call(&[&["eval", model], &call[..]].concat()));
        assert_eq!(eval(&to)["figures"], eval("run")["figures"]);
    }
}

#[test]
fn a_checkpoint_of_the_reference_is_used_like_a_native_model() {
    for file in fixtures("ckpt_", "checkpoint.ckpt") {
        let room = Room::new();
        room.write("numbers.txt", &numbers());
        let file = file.to_str().unwrap();
        let info = json(&room.call(&["info", file, "--json"]));
        assert_eq!(info["weights"], serde_json::json!(["raw", "ema"]), "{info}");
        assert_eq!(info["needed_flags"], serde_json::json!([]), "{info}");
        let said = room.call(&["import", file, "--to", "model"]);
        for part in
            ["model.heads = 4  (by the shapes)", "averaged weights: 30", "missing: 0", "numbers 0 to 36"]
        {
            assert!(stdout(&said).contains(part), "{part} in {said}");
        }
        let report = json(&room.call(&["import", file, "--to", "raw", "--weights", "raw", "--json"]));
        assert_eq!((&report["weights"], report["applied"].as_array().unwrap().len()), (&"raw".into(), 30));

        let eval = ["eval", "model", "--data", "numbers.txt", "--json"];
        let before = json(&room.call(&eval));
        let said = room.call(&["sample", "model", "--num", "2"]);
        let words: Vec<&str> = stdout(&said).split_whitespace().filter(|word| *word != "---").collect();
        assert_eq!(words.len(), 32, "{said}");
        assert!(words.iter().all(|word| word.parse::<u32>().is_ok_and(|id| id < 37)), "{said}");

        let call =
            ["train", "--init", "model", "--data", "numbers.txt", "--steps", "30", "--out", "fine", "--set"];
        let set = ["train.validate_sequences=2", "train.final_sequences=2", "data.valid_fraction=0.2"];
        let said =
            room.call(&[call.as_slice(), &set, &["train.batch_size=8", "train.warmup_steps=1"]].concat());
        assert!(stdout(&said).starts_with("fine/checkpoints/step-30\n"), "{said}");
        let after = json(&room.call(&["eval", "fine", "--data", "numbers.txt", "--json"]));
        assert!(bound(&after) < bound(&before), "fine-tuning on the text lowers its bound: {before} {after}");
    }
}

#[test]
fn models_with_blocks_go_to_the_folder_that_is_published_and_back() {
    for file in fixtures("blockckpt_", "checkpoint.ckpt") {
        let room = Room::new();
        let file = file.to_str().unwrap();
        let info = json(&room.call(&["info", file, "--json"]));
        let block_len = info["settings"]["model.block_len"].as_str().unwrap();
        assert_ne!(block_len, "0", "{info}");
        let said = room.call(&["import", file, "--to", "model"]);
        let setting = format!("model.block_len = {block_len}  (by the file's configuration)");
        assert!(stdout(&said).contains(&setting), "{said}");
        stdout(&room.call(&["export", "model", "--format", "reference", "--to", "out"]));
        let said = room.call(&["import", "out", "--to", "again"]);
        for part in ["BD3-LM folder", &setting, "missing: 0", "unused: 0", "noise levels"] {
            assert!(stdout(&said).contains(part), "{part} in {said}");
        }
        let weights = |model: &str| std::fs::read(room.path().join(model).join("model.safetensors")).unwrap();
        assert!(weights("again") == weights("model"));
        // Nothing but an import reads the published form.
        let said = room.call(&["sample", "out"]);
        assert!(said.contains("import"), "{said}");
        let said = room.call(&["import", file, "--to", "other", "--block-len", "1000000"]);
        assert!(said.starts_with("exit code: 2\n") && said.contains("--block-len = 1000000"), "{said}");
        assert!(!room.path().join("other").exists());
    }
}

#[test]
fn what_a_file_does_not_say_has_to_be_given_and_may_not_contradict_it() {
    for file in fixtures("encoder_", "model.pth") {
        let room = Room::new();
        let file = file.to_str().unwrap();
        let said = room.call(&["import", file, "--to", "model"]);
        assert!(said.starts_with("exit code: 2\n"), "{said}");
        assert!(said.contains("error: --heads, --seq-len, --carry-over have to be given: "), "{said}");
        let flags = ["--heads", "4", "--seq-len", "10", "--carry-over", "true"];
        let wrong = [["import", file, "--to", "model"].as_slice(), &flags, &["--vocab-size", "41"]].concat();
        let said = room.call(&wrong);
        assert!(said.contains("--vocab-size = 41") && said.contains("40, as the shapes"), "{said}");
        assert!(!room.path().join("model").exists());
        let said = room.call(&[["import", file, "--to", "model"].as_slice(), &flags].concat());
        assert!(stdout(&said).contains("wrote model"), "{said}");
        let said = room.call(&["sample", "model"]);
        assert_eq!(stdout(&said).split_whitespace().count(), 10, "{said}");
    }
}

#[test]
fn files_that_are_no_checkpoint_are_refused_by_name() {
    let room = Room::new();
    room.write("text.pth", "no checkpoint at all\n");
    room.write("bad.safetensors", "\u{8}\0\0\0\0\0\0\0nonsense");
    std::fs::create_dir(room.path().join("empty")).unwrap();
    for name in ["text.pth", "bad.safetensors", "empty", "gone.ckpt"] {
        for call in [vec!["import", name, "--to", "model"], vec!["info", name]] {
            let said = room.call(&call);
            assert!(!said.starts_with("exit code: 0") && said.contains(name), "{call:?}: {said}");
            assert!(!said.contains("panicked"), "{said}");
        }
    }
    assert!(!room.path().join("model").exists());
}
