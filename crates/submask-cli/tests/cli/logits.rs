//! Logits of partly masked sequences, in a file for other programs.

use std::collections::BTreeMap;
use std::fs;

use serde_json::Value;
use submask::denoiser::States;
use submask::model::Model;
use submask::{Compute, Session};

use super::Room;
use super::rounds::{stdout, trained};

/// Name, type, shape and bytes of every tensor.
type Tensors = BTreeMap<String, (String, Vec<usize>, Vec<u8>)>;

fn read(room: &Room, name: &str) -> Tensors {
    let bytes = fs::read(room.path().join(name)).unwrap();
    let data = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    assert_eq!(data % 8, 0);
    let header: BTreeMap<String, Value> = serde_json::from_slice(&bytes[8..data]).unwrap();
    let mut end = 0;
    let mut tensors = Tensors::new();
    let number = |value: &Value| value.as_u64().unwrap() as usize;
    let offsets = |entry: &Value| (number(&entry["data_offsets"][0]), number(&entry["data_offsets"][1]));
    let mut entries: Vec<_> = header.into_iter().collect();
    entries.sort_by_key(|(_, entry)| offsets(entry));
    for (name, entry) in entries {
        let (begin, next) = offsets(&entry);
        let shape: Vec<usize> = entry["shape"].as_array().unwrap().iter().map(number).collect();
        let dtype = entry["dtype"].as_str().unwrap().to_owned();
        let size = if dtype == "F32" { 4 } else { 8 };
        assert_eq!((begin, next - begin, begin % size), (end, size * shape.iter().product::<usize>(), 0));
        tensors.insert(name, (dtype, shape, bytes[data + begin..data + next].to_vec()));
        end = next;
    }
    assert_eq!(data + end, bytes.len());
    tensors
}

fn floats((dtype, _, bytes): &(String, Vec<usize>, Vec<u8>)) -> Vec<f32> {
    assert_eq!(dtype, "F32");
    bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
}

fn digits((dtype, _, bytes): &(String, Vec<usize>, Vec<u8>)) -> Vec<u32> {
    assert_eq!(dtype, "I64");
    bytes.as_chunks().0.iter().map(|bytes| i64::from_le_bytes(*bytes) as u32).collect()
}

fn session(room: &Room) -> Session {
    Model::open(room.path().join("run")).unwrap().session(&Compute::cpu()).unwrap()
}

/// The networks of 257 tokens have b = 17 for ℓ = 2.
const SEQUENCES: &str = r#"{"digits": [3, null, null, 16, 17, 17], "time": 0.25}
{"tokens": [256, 97, null]}

{"prompt": "sea [[2]]", "length": 7}
{"tokens": [null, null, null, null]}
"#;

#[test]
fn the_file_holds_what_the_network_says() {
    let (room, _) = trained(&["--subtokens", "2", "--set", "model.time_conditioning=true"]);
    room.write("states.jsonl", SEQUENCES);
    let call = ["logits", "run", "--sequences", "states.jsonl", "--out"];
    let said = room.call(&[&call[..], &["states.safetensors"]].concat());
    assert_eq!(stdout(&said), "states.safetensors\n");
    let tensors = read(&room, "states.safetensors");
    assert_eq!(tensors.len(), 12);
    let expected: [&[u32]; 4] = [
        &[3, 17, 17, 16, 17, 17],
        &[15, 1, 5, 12, 17, 17],
        &[15, 1, 6, 13, 5, 16, 5, 12, 1, 15, 17, 17, 17, 17],
        &[17; 8],
    ];
    // Of the linear schedule the time is the masked share, where none is given.
    let times = [0.25, 1.0 / 3.0, 4.0 / 14.0, 1.0];
    let session = session(&room);
    let network = session.denoiser().unwrap();
    for (i, y) in expected.into_iter().enumerate() {
        assert_eq!(digits(&tensors[&format!("digits.{i}")]), y);
        let (dtype, shape, time) = &tensors[&format!("time.{i}")];
        assert_eq!((dtype.as_str(), shape.len()), ("F64", 0));
        let time = f64::from_le_bytes(time[..].try_into().unwrap());
        assert!((time - times[i]).abs() < 1e-12, "{time}");
        let entry = &tensors[&format!("logits.{i}")];
        let len = y.len() / 2;
        assert_eq!(entry.1, [len, 257]);
        let states = States { y_t: y, t: &[time], labels: None };
        let mut logits = Vec::new();
        let positions: Vec<usize> = (0..len).collect();
        network
            .evaluate(&states, &positions, &mut |_, rows| {
                logits.extend_from_slice(rows);
                Ok(())
            })
            .unwrap();
        assert_eq!(floats(entry), logits, "{i}");
    }
    for more in [["--batch", "1", "--threads", "1"], ["--batch", "3", "--threads", "2"]] {
        room.call(&[&call[..], &["other.safetensors"], &more].concat());
        assert_eq!(read(&room, "other.safetensors"), tensors, "batch and threads change nothing");
    }
    let alone = room.call(&["logits", "run", "--prompt", "sea [[11]]", "--out", "alone.safetensors"]);
    assert_eq!(stdout(&alone), "alone.safetensors\n");
    assert_eq!(read(&room, "alone.safetensors")["logits.0"].1, [16, 257]);
}

#[test]
fn the_baseline_says_what_follows_every_digit() {
    let (room, _) = trained(&["--subtokens", "2", "--set", "model.network=autoregressive"]);
    let whole = r#"{"tokens": [256, 97, 98]}"#;
    let begun = r#"{"digits": [15, 1, 5, null, null, null]}"#;
    room.write("states.jsonl", &format!("{whole}\n{begun}\n"));
    let said = room.call(&["logits", "run", "--sequences", "states.jsonl", "--out", "states.safetensors"]);
    assert_eq!(stdout(&said), "states.safetensors\n");
    let tensors = read(&room, "states.safetensors");
    assert_eq!(tensors["logits.0"].1, [6, 17]);
    assert_eq!(tensors["logits.1"].1, [4, 17]);
    let (whole, begun) = (floats(&tensors["logits.0"]), floats(&tensors["logits.1"]));
    for (a, b) in whole.iter().zip(&begun) {
        assert!((a - b).abs() < 1e-5, "what stands behind does not matter");
    }
    let session = session(&room);
    let logits = session.autoregressive().unwrap().logits(&[17, 15, 1, 5, 12, 5], 1).unwrap();
    assert_eq!(whole, logits);
}

#[test]
fn sequences_that_are_none_are_refused_by_line_and_nothing_is_written() {
    let (room, _) = trained(&["--subtokens", "2"]);
    for (line, code, problem) in [
        (r#"{"digits": [1]}"#, 2, "number of digits = 1 is not allowed: 2 for each token"),
        (r#"{"digits": [18, 0]}"#, 2, "digit = 18 is not allowed: 0 to 16, or a masked one"),
        (r#"{"tokens": [257]}"#, 2, "token = 257 is not allowed: 0 to 256"),
        (r#"{"tokens": []}"#, 2, "number of digits = 0"),
        (
            r#"{"tokens": [1], "time": 0.5}"#,
            2,
            "time = 0.5 is not allowed: none: the network does not read it",
        ),
        (r#"{"tokens": [1], "label": 0}"#, 2, "the network takes no labels"),
        (r#"{"tokens": [1], "digits": [1, 2]}"#, 2, "one of the fields"),
        (r#"{"tokens": [1], "length": 2}"#, 2, "\"length\" goes with \"prompt\" only"),
        (r#"{"prompt": "[[99]]"}"#, 2, "prompt takes 100 tokens"),
        (r#"{"prompt": "[[0]]"}"#, 2, "bad prompt"),
        (r#"{"tokens": [-1]}"#, 1, "invalid value"),
        (r#"{"token": [1]}"#, 1, "unknown field `token`"),
    ] {
        room.write("states.jsonl", &format!("{{\"tokens\": [1]}}\n\n{line}\n"));
        let said = room.call(&["logits", "run", "--sequences", "states.jsonl", "--out", "out"]);
        assert!(said.starts_with(&format!("exit code: {code}\n")), "{said}");
        assert!(said.contains("states.jsonl: line 3") && said.contains(problem), "{said}");
        assert!(!room.path().join("out").exists() && !room.path().join("out.tmp").exists());
    }
    let too_long = format!("{{\"tokens\": [{}]}}", vec!["1"; 17].join(", "));
    room.write("states.jsonl", &too_long);
    let said = room.call(&["logits", "run", "--sequences", "states.jsonl", "--out", "out"]);
    assert!(said.contains("sequence length = 17 is not allowed: 1 to 16 tokens"), "{said}");
    let said = room.call(&["logits", "run", "--out", "out"]);
    assert!(said.starts_with("exit code: 2\n"), "{said}");
    let said = room.call(&["logits", "run", "--prompt", "a", "--out", "no/folder/out"]);
    assert!(said.starts_with("exit code: 1\n") && said.contains("no/folder/out: "), "{said}");
}
