//! Models of prompts and completions.

use std::fs;

use serde_json::{Value, json};

use super::Room;
use super::formats::gzip;
use super::rounds::{json as parsed, stdout};

/// Settings of a run on pairs that takes a moment.
const SMALL: &[&str] = &[
    "tokenizer.kind=bytes",
    "model.hidden=16",
    "model.heads=2",
    "model.blocks=1",
    "model.seq_len=16",
    "train.batch_size=4",
    "train.checkpoint_every=2",
    "train.final_sequences=0",
    "train.final_draws=1",
    "train.final_samples=2",
];

const PAIRS: &[&str] = &["data.prompt_field=q", "data.completion_field=a"];

/// A room with `pairs.jsonl`: 40 pairs that fit into 16 tokens, one that does not, and one without a completion.
fn room() -> Room {
    let room = Room::new();
    let pair = |q: &str, a: Value| format!("{}\n", json!({ "q": q, "a": a, "other": 1 }));
    let mut lines: String = (10..50).map(|n| pair(&format!("{n} is"), json!(format!(" n{n}")))).collect();
    lines += &pair("a question that is", json!(" too long"));
    lines += &pair("nothing", Value::Null);
    room.write("pairs.jsonl", &lines);
    room
}

fn train(room: &Room, out: &str, network: &str, more: &[&str]) -> String {
    let kind = ["--data", "pairs.jsonl", "--set", network];
    let sizes: &[&str] = match network {
        "model.network=diffusion" => &["model.cond_dim=8"],
        "model.network=encoder" => &["model.embedding=per-digit-summed"],
        _ => &[],
    };
    room.call(&[&["train", "--out", out], more, &kind, SMALL, PAIRS, sizes].concat())
}

#[test]
fn pairs_are_trained_on_evaluated_and_answered() {
    let room = room();
    for network in ["diffusion", "encoder", "autoregressive"] {
        let out = format!("run-{network}");
        let said = train(&room, &out, &format!("model.network={network}"), &["--steps", "4"]);
        let report = stdout(&said);
        assert!(
            said.contains("data  pairs: 40, one per sequence of 16 tokens; left out: 1 that are too long; left out: 1 without"),
            "{said}"
        );
        assert!(said.contains("of 40 pairs, chosen by hash"), "{said}");
        // Samples answer prompts that are held out.
        assert!(report.matches(" is").count() >= 2, "{report}");

        let model = parsed(&room.call(&["info", &format!("{out}/checkpoints/step-4"), "--json"]));
        assert_eq!(model["config"]["subject"]["pairs"], true, "{model}");
        let data = parsed(&room.call(&["info", &format!("{out}/data"), "--json"]));
        assert_eq!(data["pairs"], json!({ "pairs": 40, "too_long": 1, "cut": 0, "empty": 1 }), "{data}");

        let held_out = parsed(&room.call(&["eval", &out, "--json"]));
        assert!(held_out["sequences"].as_u64().unwrap() >= 1, "{held_out}");
        let all = parsed(&room.call(&["eval", &out, "--data", "pairs.jsonl", "--json"]));
        assert_eq!(all["sequences"], 40, "{all}");
        let values = all["by_sequence"].as_array().unwrap();
        // Four bytes and the end of text; what fills the sequence is in the nats, and is not counted.
        assert!(values.iter().all(|value| value["tokens"] == 5 && value["characters"] == 4), "{all}");
        let nats: f64 = values.iter().map(|value| value["nats"].as_f64().unwrap()).sum();
        let figure = |unit: &str| {
            let figures = all["figures"].as_array().unwrap();
            figures.iter().find(|figure| figure["unit"] == unit).unwrap_or_else(|| panic!("{unit}: {all}"))
        };
        // Exact values, too, are of one way to fill the sequence.
        assert_eq!(figure("nats per token")["kind"], "upper_bound");
        let per_token = figure("nats per token")["value"].as_f64().unwrap();
        assert!((per_token - nats / 200.0).abs() < 1e-9 * per_token, "{all}");
        let bits = figure("bits per character")["value"].as_f64().unwrap();
        assert!((bits - nats / 160.0 / std::f64::consts::LN_2).abs() < 1e-9 * bits, "{all}");
        let again = room.call(&["eval", &out, "--data", "pairs.jsonl", "--batch", "1", "--json"]);
        assert_eq!(parsed(&again), all, "batches change nothing");

        let said = room.call(&["sample", &out, "--length", "9"]);
        assert!(said.contains("note: the model was trained to answer prompts, and none is given"), "{said}");
        assert!(said.contains("note: the model was trained on sequences of 16 tokens"), "{said}");
        room.write("prompts.jsonl", "{\"prompt\": \"17 is\"}\n");
        let said = room.call(&["sample", &out, "--prompts", "prompts.jsonl"]);
        assert!(stdout(&said).starts_with("17 is") && !said.contains("note:"), "{said}");
        let said = room.call(&["sample", &out, "--prompt", "17 is", "--num", "2", "--json"]);
        assert!(!said.contains("note:"), "{said}");
        let samples = parsed(&said);
        for sample in samples["samples"].as_array().unwrap() {
            // The length of its training; a text that is written from left to right stops at its end.
            let tokens = sample["tokens"].as_array().unwrap();
            let stops = network == "autoregressive" && tokens.last() == Some(&json!(256));
            assert!(tokens.len() == 16 || (stops && tokens.len() < 16), "{said}");
            assert!(sample["text"].as_str().unwrap().starts_with("17 is"), "{said}");
        }
    }
}

#[test]
fn runs_on_pairs_resume_to_the_same_weights() {
    let room = room();
    let set = ["--set", "train.decay=constant"];
    stdout(&train(&room, "straight", "model.network=diffusion", &[&["--steps", "4"], &set[..]].concat()));
    stdout(&train(&room, "longer", "model.network=diffusion", &[&["--steps", "2"], &set[..]].concat()));
    fs::remove_file(room.path().join("pairs.jsonl")).unwrap();
    stdout(&room.call(&["train", "--out", "longer", "--resume", "--steps", "4"]));
    let weights =
        |run: &str| fs::read(room.path().join(run).join("checkpoints/step-4/model.safetensors")).unwrap();
    assert!(weights("straight") == weights("longer"));
}

#[test]
fn prepared_pairs_and_long_ones_are_told() {
    let room = room();
    let prepare = |more: &[&str]| {
        let sizes = ["tokenizer.kind=bytes", "model.seq_len=16"];
        let first = ["data", "prepare", "--data", "pairs.jsonl", "--out", "data", "--rebuild", "--set"];
        room.call(&[&first, PAIRS, &sizes, more].concat())
    };
    let said = prepare(&["data.truncate=true"]);
    assert!(said.contains("left out: 1 that are too long; left out: 1 without a completion\n"), "{said}");
    let said =
        room.call(&["train", "--out", "run", "--data", "data", "--steps", "2", "--set", "model.seq_len=20"]);
    assert!(said.starts_with("exit code: 2\n"), "{said}");
    assert!(
        said.contains("model.seq_len = 20 is not allowed: 16: the pairs in data were prepared for it"),
        "{said}"
    );
    let set = [
        "--set",
        "model.hidden=16",
        "model.heads=2",
        "model.blocks=1",
        "model.cond_dim=8",
        "model.seq_len=16",
    ];
    let more = ["train.final_sequences=2", "train.final_draws=1", "train.final_samples=0"];
    let said =
        room.call(&[&["train", "--out", "run", "--data", "data", "--steps", "2"][..], &set, &more].concat());
    stdout(&said);
    assert!(said.contains("data  pairs: 40, one per sequence of 16 tokens"), "{said}");
    stdout(&room.call(&["data", "info", "data", "--verify"]));
    // Other pairs are read as these were: the one that is too long is cut.
    let said = room.call(&["eval", "run", "--data", "pairs.jsonl", "--sequences", "2"]);
    assert!(
        said.contains("prompt_field = q (as data/data.json), completion_field = a (as data/data.json)"),
        "{said}"
    );
    stdout(&said);
    let message = "data.prompt_field = \"a\" is not allowed: \"\" or \"q\" with the prepared data in data";
    let both = ["data.prompt_field=a", "data.completion_field=a"];
    let set = [&["train", "--out", "other", "--data", "data", "--set"][..], &both].concat();
    let said = room.call(&set);
    assert!(said.starts_with("exit code: 2\n") && said.contains(message), "{said}");
    // A completion is cut where there is room for a part of it.
    room.write("pairs.jsonl", "{\"q\": \"1234567890\", \"a\": \"123456\"}\n{\"q\": \"a\", \"a\": \"b\"}\n");
    let said = prepare(&["data.truncate=true", "data.valid_fraction=0.1"]);
    assert!(
        said.contains("data  pairs: 2, one per sequence of 16 tokens; completions that are cut: 1\n"),
        "{said}"
    );
    assert!(said.contains("warning: what is held out is small"), "{said}");
}

#[test]
fn what_does_not_fit_pairs_is_refused_by_name() {
    let room = room();
    room.write("text.txt", &"the ship is small\n\n".repeat(30));
    let both = PAIRS.join(" ");
    for (settings, message) in [
        (
            "data.prompt_field=q",
            "data.completion_field = \"\" is not allowed: a field, since data.prompt_field is given",
        ),
        ("data.completion_field=a", "data.prompt_field = \"\" is not allowed"),
        ("data.truncate=true", "data.truncate = true is not allowed"),
        (&format!("{both} data.block_ends=true"), "data.block_ends = true"),
        (&format!("{both} data.valid_rule=share"), "data.valid_rule = share"),
        (&format!("{both} tokenizer.kind=text8"), "end-of-text token"),
        (
            &format!("{both} tokenizer.kind=bytes model.seq_len=4"),
            "model.seq_len = 4 is not allowed: no pair is left for training: 41 too long for 4 tokens",
        ),
    ] {
        let set = ["train", "--out", "run", "--data", "pairs.jsonl", "--set"];
        let said = room.call(&set.into_iter().chain(settings.split(' ')).collect::<Vec<_>>());
        assert!(said.starts_with("exit code: 2\n") && said.contains(message), "{said}");
        assert!(!room.path().join("run").exists(), "nothing half-written: {said}");
    }
    for (field, message) in
        [("b", "pairs.jsonl: line 1: no field \"b\"; present: a, other, q"), ("other", "is a number")]
    {
        let completion = format!("data.completion_field={field}");
        let set =
            ["train", "--out", "run", "--data", "pairs.jsonl", "--set", "data.prompt_field=q", &completion];
        let said = room.call(&set);
        assert!(said.starts_with("exit code: 1\n") && said.contains(message), "{said}");
    }
    stdout(&train(&room, "pairs", "model.network=diffusion", &["--steps", "2"]));
    let said = room.call(&["eval", "pairs", "--data", "pairs.jsonl", "--field", "a"]);
    assert!(said.starts_with("exit code: 2\n") && said.contains("no meaning for a model of pairs"), "{said}");
    let said = room.call(&["eval", "pairs", "--data", "text.txt"]);
    assert!(
        said.starts_with("exit code: 1\n") && said.contains("text.txt: it has no fields for prompts"),
        "{said}"
    );
    let text = ["train", "--out", "text", "--data", "text.txt", "--steps", "2", "--set", "model.cond_dim=8"];
    stdout(&room.call(&[&text[..], SMALL].concat()));
    let said = room.call(&["eval", "text", "--data", "pairs.jsonl", "--prompt-field", "q"]);
    assert!(said.starts_with("exit code: 2\n") && said.contains("was not trained on pairs"), "{said}");
    let said = room.call(&["eval", "text", "--data", "pairs/data"]);
    assert!(said.contains("prepared text: these are pairs"), "{said}");
    let said = room.call(&["eval", "pairs", "--data", "text/data"]);
    assert!(said.contains("prepared pairs: these are texts"), "{said}");
}

/// The records of `pairs.jsonl` in other formats, under the names of fields that `PAIRS` has.
fn write_other_formats(room: &Room) {
    let lines = fs::read_to_string(room.path().join("pairs.jsonl")).unwrap();
    let records: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    room.write("array.json", &serde_json::to_string_pretty(&records).unwrap());
    fs::write(room.path().join("pairs.jsonl.gz"), gzip(lines.as_bytes())).unwrap();
    let cell = |value: &Value| value.as_str().map_or_else(String::new, |text| format!("\"{text}\""));
    let row = |record: &Value| format!("{},7,{}\n", cell(&record["a"]), cell(&record["q"]));
    room.write("table.csv", &("a,other,q\n".to_owned() + &records.iter().map(row).collect::<String>()));
}

#[test]
fn pairs_are_read_from_every_format_and_from_pipes() {
    let room = room();
    stdout(&train(&room, "run", "model.network=diffusion", &["--steps", "2"]));
    write_other_formats(&room);
    let evaluate = |data: &str, more: &[&str], input: &[u8]| {
        let said = room.call_with(&[&["eval", "run", "--data", data, "--json"], more].concat(), input);
        let mut result = parsed(&said);
        assert!(said.contains("data  pairs: 40, one per sequence of 16 tokens; left out: 1"), "{said}");
        result.as_object_mut().unwrap().remove("data");
        result
    };
    let expected = evaluate("pairs.jsonl", &[], b"");
    for data in ["array.json", "pairs.jsonl.gz", "table.csv"] {
        assert_eq!(evaluate(data, &[], b""), expected, "{data}");
    }
    let lines = fs::read(room.path().join("pairs.jsonl")).unwrap();
    assert_eq!(evaluate("-", &[], &lines), expected);
    let table = fs::read(room.path().join("table.csv")).unwrap();
    assert_eq!(evaluate("-", &["--format", "csv"], &table), expected);

    // A run on a pipe keeps its tokens, and is the run on the file.
    let call = ["train", "--out", "piped", "--data", "-", "--steps", "2", "--set", "model.cond_dim=8"];
    stdout(&room.call_with(&[&call[..], SMALL, PAIRS].concat(), &lines));
    let weights = |run: &str| fs::read(room.path().join(run).join("checkpoints/step-2/model.safetensors"));
    assert!(weights("run").unwrap() == weights("piped").unwrap());
    stdout(&room.call(&["train", "--out", "piped", "--resume", "--steps", "2"]));
}

#[test]
fn bad_records_of_pairs_are_skipped_only_if_asked() {
    let room = room();
    let lines = fs::read_to_string(room.path().join("pairs.jsonl")).unwrap();
    room.write("pairs.jsonl", &(lines + "{\"q\": 3, \"a\": \"b\"}\noops\n"));
    let prepare =
        ["data", "prepare", "--data", "pairs.jsonl", "--out", "data", "--set", "tokenizer.kind=bytes"];
    let said = room.call(&[&prepare[..], PAIRS].concat());
    assert!(said.starts_with("exit code: 1\n"), "{said}");
    assert!(said.contains("pairs.jsonl: line 43: field \"q\" is a number"), "{said}");
    assert!(!room.path().join("data").exists(), "{said}");
    let said = room.call(&[&prepare[..], PAIRS, &["data.skip_bad=true", "model.seq_len=16"]].concat());
    stdout(&said);
    let skipped = "data  2 records were skipped, the first is pairs.jsonl: line 43: field \"q\" is a number";
    assert!(said.contains(skipped), "{said}");
    for (settings, message) in [
        ("data.separator=x", "data.separator = \"x\" is not allowed: \"\" with pairs"),
        ("data.format=text", "data.format = text is not allowed: json, csv, tsv or parquet with pairs"),
        ("data.format=uint16", "data.format = uint16 is not allowed"),
    ] {
        let said = room.call(&[&prepare[..], PAIRS, &[settings]].concat());
        assert!(said.starts_with("exit code: 2\n") && said.contains(message), "{said}");
    }
}

#[test]
fn a_pair_is_scored_as_it_is_evaluated() {
    let room = room();
    let numbers = |text: &str| -> Vec<f64> {
        let values = text.split("\"nats\":").skip(1);
        values
            .map(|rest| rest.trim_start().split([',', '}', '\n']).next().unwrap().parse().unwrap())
            .collect()
    };
    let pair = |n: usize| json!({ "prompt": format!("{n} is"), "completion": format!(" n{n}") });
    let lines: Vec<String> = (10..50).map(|n| pair(n).to_string()).collect();
    room.write("questions.jsonl", &(lines.join("\n") + "\n"));
    for network in ["diffusion", "autoregressive"] {
        stdout(&train(&room, network, &format!("model.network={network}"), &["--steps", "2"]));
        let evaluated = room.call(&["eval", network, "--data", "pairs.jsonl", "--by-document", "--json"]);
        let by_document = stdout(&evaluated).split("\"by_document\"").nth(1).unwrap();
        let said = room.call(&["score", network, "--data", "questions.jsonl"]);
        let scores = numbers(stdout(&said));
        assert_eq!((scores.len(), &scores), (40, &numbers(by_document)));
        let result = parsed(&evaluated);
        let figures = result["figures"].as_array().unwrap();
        let place = figures.iter().position(|figure| figure["unit"] == "nats in total").unwrap();
        let total = stdout(&evaluated).split("\"value\":").nth(place + 1).unwrap();
        let total: f64 = total.trim_start().split([',', '\n']).next().unwrap().parse().unwrap();
        assert_eq!(scores.iter().sum::<f64>(), total);
        assert!(figures.iter().all(|figure| figure["kind"] == "upper_bound"), "{evaluated}");
        // Four bytes, and the end of text; what fills the sequence is not counted.
        assert_eq!((&result["tokens"], &result["characters"]), (&json!(200), &json!(160)));
        let line: Value = serde_json::from_str(stdout(&said).lines().next().unwrap()).unwrap();
        assert_eq!(
            (&line["tokens"], &line["characters"], &line["windows"]),
            (&json!(5), &json!(4), &json!(1))
        );
        assert_eq!(line["kind"], "upper_bound");
        let one = room.call(&["score", network, "--prompt", "10 is", "--completion", " n10"]);
        assert_eq!(numbers(stdout(&one)), scores[..1]);
        for verb in [&["score", network, "--text", "a"][..], &["eval", network, "--by-document"]] {
            for flag in [&["--end"][..], &["--stride", "3"]] {
                let said = room.call(&[verb, flag].concat());
                let message = format!("{} has no meaning for a model of pairs", flag[0]);
                assert!(said.starts_with("exit code: 2\n") && said.contains(&message), "{said}");
            }
        }
        let long = room.call(&["score", network, "--prompt", "a question", "--completion", " too long"]);
        let message = "--completion = 21 tokens with what is given and its end is not allowed: at most 16";
        assert!(long.starts_with("exit code: 2\n") && long.contains(message), "{long}");
    }
    // By token, what fills the sequence is there too, and adds up.
    let said =
        room.call(&["score", "autoregressive", "--prompt", "10 is", "--completion", " n10", "--by-token"]);
    let nats = numbers(stdout(&said));
    assert_eq!(nats.len(), 1 + 16 - 6, "{said}");
    let sum: f64 = nats[1..].iter().sum();
    assert!((sum - nats[0]).abs() < 1e-9 * nats[0], "{said}");
}
