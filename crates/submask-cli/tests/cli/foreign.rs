//! Checkpoints of other programs, in the verbs that take models and in those that take checkpoints.

use serde_json::{Map, Value, json};

use super::Room;
use super::rounds::{json as parsed, stdout, trained};

/// The configuration of a model that another program wrote.
const CONFIG: &str = r#"{"model_type": "mdlm", "n_heads": 2, "model_length": 16, "vocab_size": 258}"#;
/// What stands in place of a file that was not fetched.
const POINTER: &str = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 123456\n";

/// A room with the model `run`, and with a folder `theirs` of its weights as other programs write them.
fn theirs() -> Room {
    let (room, _) = trained(&["--subtokens", "1"]);
    stdout(&room.call(&["export", "run", "--to", "theirs"]));
    room.write("theirs/config.json", CONFIG);
    room
}

/// Weights by name in a safetensors file: shapes, and the bytes of their numbers.
type Weights = Vec<(String, Vec<usize>, Vec<u8>)>;

/// The weights of the folder `theirs` under names with a prefix.
fn weights(room: &Room, prefix: &str) -> Weights {
    let bytes = std::fs::read(room.path().join("theirs/model.safetensors")).unwrap();
    let header = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let names: Map<String, Value> = serde_json::from_slice(&bytes[8..header]).unwrap();
    let tensors = names.iter().filter(|(name, _)| *name != "__metadata__").map(|(name, tensor)| {
        let shape = serde_json::from_value(tensor["shape"].clone()).unwrap();
        let [start, end]: [usize; 2] = serde_json::from_value(tensor["data_offsets"].clone()).unwrap();
        (format!("{prefix}{name}"), shape, bytes[header + start..header + end].to_vec())
    });
    tensors.collect()
}

fn write(room: &Room, file: &str, weights: &Weights) {
    let (mut header, mut bytes) = (Map::new(), Vec::<u8>::new());
    for (name, shape, numbers) in weights {
        let place = [bytes.len(), bytes.len() + numbers.len()];
        header.insert(name.clone(), json!({"dtype": "F32", "shape": shape, "data_offsets": place}));
        bytes.extend(numbers);
    }
    let header = Value::Object(header).to_string();
    let whole = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &bytes].concat();
    std::fs::write(room.path().join(file), whole).unwrap();
}

#[test]
fn a_foreign_model_has_to_be_imported_first() {
    let room = theirs();
    for call in [
        &["train", "--init", "theirs", "--data", "text.txt", "--out", "fine"][..],
        &["eval", "theirs", "--data", "text.txt"],
        &["sample", "theirs"],
        &["export", "theirs", "--to", "other"],
    ] {
        let said = room.call(call);
        assert!(said.starts_with("exit code: 1\n"), "{said}");
        assert!(
            said.contains("error: theirs is a checkpoint of another program, not a model folder\n"),
            "{said}"
        );
        assert!(said.contains("hint: import it first: submask import theirs --to models/theirs\n"), "{said}");
    }
    let said = room.call(&["train", "--init", "theirs/model.safetensors", "--out", "fine"]);
    assert!(said.contains("submask import theirs/model.safetensors --to models/model\n"), "{said}");
    assert!(!room.path().join("fine").exists() && !room.path().join("other").exists());

    let info = parsed(&room.call(&["info", "theirs", "--json"]));
    assert_eq!((&info["kind"], &info["needed_flags"]), (&json!("foreign checkpoint"), &json!([])));
    assert_eq!(info["settings"]["model.heads"], "2");
    stdout(&room.call(&["import", "theirs", "--to", "models/theirs", "--tokenizer", "bytes"]));
    let figures = |model: &str| {
        let evaluate = ["eval", model, "--data", "text.txt", "--split", "file", "--json"];
        parsed(&room.call(&evaluate))["figures"].clone()
    };
    assert_eq!(figures("models/theirs"), figures("run"));
}

#[test]
fn what_is_missing_is_named_by_its_flags() {
    let room = theirs();
    std::fs::remove_file(room.path().join("theirs/config.json")).unwrap();
    let said = room.call(&["import", "theirs", "--to", "model"]);
    assert!(said.starts_with("exit code: 2\n"), "{said}");
    let wanted = "error: --heads, --seq-len have to be given: theirs/model.safetensors does not say them\n\
                  hint: `submask info theirs` shows what is known of the file\n";
    assert!(said.ends_with(wanted), "{said}");
    let said = room.call(&["import", "theirs", "--to", "model", "--heads", "2"]);
    assert!(
        said.contains("error: --seq-len has to be given: theirs/model.safetensors does not say it\n"),
        "{said}"
    );
    assert!(!room.path().join("model").exists());
}

#[test]
fn info_describes_what_import_refuses() {
    let room = Room::new();
    write(&room, "other.safetensors", &vec![("conv.weight".to_owned(), vec![1, 2], vec![0; 8])]);
    room.write("pointer.safetensors", POINTER);
    room.write("shards/model.safetensors.index.json", r#"{"weight_map": {"a": "b.safetensors"}}"#);
    room.write("folder/config.json", CONFIG);
    for (path, problem, name, what) in [
        ("other.safetensors", "weights of no known network", "conv.weight", "tensor [1, 2] F32"),
        (
            "shards",
            "b.safetensors is not beside it",
            "model.safetensors.index.json: b.safetensors",
            "1 weights, missing",
        ),
        (
            "shards/model.safetensors.index.json",
            "b.safetensors is not beside it",
            "b.safetensors",
            "1 weights, missing",
        ),
        ("folder", "a folder without model.safetensors", "config.json", "75 bytes"),
    ] {
        let refused = room.call(&["import", path, "--to", "model"]);
        assert!(!refused.starts_with("exit code: 0") && refused.contains(problem), "{refused}");
        let info = parsed(&room.call(&["info", path, "--json"]));
        assert_eq!(info["kind"], "foreign checkpoint that cannot be imported");
        assert!(info["problem"].as_str().unwrap().contains(problem), "{info}");
        assert_eq!(info["contents"][name], what, "{info}");
    }
    let info = parsed(&room.call(&["info", "pointer.safetensors", "--json"]));
    assert!(info["what"].as_str().unwrap().contains("git lfs pull"), "{info}");
    assert!(!room.path().join("model").exists());
}

#[test]
fn a_damaged_model_of_our_own_is_none_of_another_program() {
    let (room, _) = trained(&[]);
    stdout(&room.call(&["export", "run", "--to", "mine"]));
    let config = std::fs::read_to_string(room.path().join("mine/config.json")).unwrap();
    for (file, text, wanted) in [
        ("mine/config.json", "{", "mine/config.json: EOF"),
        ("mine/config.json", POINTER, "mine/config.json: a pointer of Git LFS"),
        ("mine/config.json", config.as_str(), ""),
        ("mine/model.safetensors", POINTER, "mine/model.safetensors: a pointer of Git LFS"),
    ] {
        room.write(file, text);
        let said = room.call(&["eval", "mine", "--data", "text.txt"]);
        assert_eq!(said.starts_with("exit code: 0\n"), wanted.is_empty(), "{said}");
        assert!(said.contains(wanted) && !said.contains("another program"), "{said}");
    }
}

#[test]
fn names_as_the_hub_shows_them_are_answered_with_its_form() {
    let room = Room::new();
    room.write("here/file.txt", "text\n");
    for (given, form) in [
        ("owner/repo", "hub://owner/repo"),
        ("https://huggingface.co/owner/repo", "hub://owner/repo"),
        ("https://huggingface.co/owner/repo/tree/main", "hub://owner/repo"),
        ("https://huggingface.co/owner/repo/blob/v1/a/b.ckpt", "hub://owner/repo@v1/a/b.ckpt"),
    ] {
        for call in [&["import", given, "--to", "model"][..], &["info", given]] {
            let said = room.call(call);
            assert!(said.starts_with("exit code: 1\n"), "{said}");
            assert!(said.contains(&format!("{given} does not exist")), "{said}");
            assert!(said.contains(&format!("hint: a repository on the Hub is named {form}\n")), "{said}");
        }
        for call in [&["train", "--init", given, "--out", "run"][..], &["sample", given]] {
            let said = room.call(call);
            assert!(said.starts_with("exit code: 1\n"), "{said}");
            assert!(said.contains(&format!("import it first: submask import {form} --to models/")), "{said}");
        }
    }
    let said = room.call(&["sample", "hub://owner/repo"]);
    assert!(said.contains("submask import hub://owner/repo --to models/repo\n"), "{said}");
    // A path that is none on the Hub stays a path.
    for path in ["here/gone", "gone/last.ckpt", "gone/a/b"] {
        let said = room.call(&["info", path]);
        assert!(said.starts_with("exit code: 1\n") && !said.contains("hub://"), "{said}");
    }
}

#[test]
fn averages_and_prefixes_are_reported() {
    let room = theirs();
    let both = [weights(&room, "module."), weights(&room, "ema_model._orig_mod.")].concat();
    write(&room, "both.safetensors", &both);
    let call = ["import", "both.safetensors", "--to", "both", "--heads", "2", "--seq-len", "16"];
    let said = room.call(&[&call[..], &["--tokenizer", "bytes"]].concat());
    let taken_off = ["_orig_mod.", "ema_model.", "module."];
    let line = stdout(&said).lines().find(|line| line.contains("taken off the names of weights: ")).unwrap();
    taken_off.iter().for_each(|part| assert!(line.contains(part), "{line}"));
    assert!(said.contains("applied, averaged weights: "), "{said}");
    assert!(said.contains("ema_model._orig_mod.vocab_embed.embedding [258, 16]"), "{said}");
    let info = parsed(&room.call(&["info", "both.safetensors", "--json"]));
    assert_eq!(info["weights"], json!(["raw", "ema"]));
    let mut names: Vec<String> = serde_json::from_value(info["stripped"].clone()).unwrap();
    names.sort();
    assert_eq!(names, taken_off);
}
