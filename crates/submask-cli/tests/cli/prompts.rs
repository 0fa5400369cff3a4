//! Many prompts in a file.

use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::Room;
use super::rounds::{json, stdout, trained};

const FILE: &str = "{\"prompt\": \"sea [[3]] ship\", \"id\": \"a\"}\n\n{\"prompt\": \"the \", \"length\": 9}\n\
    {\"prompt\": \"\"}\n{\"id\": {\"n\": 4}, \"length\": 12, \"prompt\": \"is[[*]]\"}\n";

/// The prompts and lengths of the file.
const PROMPTS: [(&str, &str); 4] = [("sea [[3]] ship", "13"), ("the ", "9"), ("", "16"), ("is[[*]]", "12")];

/// The beginnings alone, for the baseline.
const BEGINNINGS: [(&str, &str); 3] = [("the ", "9"), ("", "16"), ("is[[*]]", "12")];

fn samples(said: &str) -> Vec<Value> {
    json(said)["samples"].as_array().unwrap().clone()
}

/// Every text of the file is the one of its prompt alone, with the number that it has in the file.
fn check(room: &Room, file: &str, prompts: &[(&str, &str)], flags: &[&str]) -> Vec<Value> {
    let call = [&["sample", "run", "--prompts", file, "--num", "2", "--json"], flags].concat();
    let said = room.call(&call);
    let together = samples(&said);
    assert_eq!(together.len(), 2 * prompts.len());
    for more in [["--batch", "1", "--threads", "1"], ["--batch", "3", "--threads", "2"]] {
        assert_eq!(room.call(&[&call[..], &more].concat()), said, "batch and threads change nothing");
    }
    let mut evaluations = 0;
    for (i, (prompt, length)) in prompts.iter().enumerate() {
        let first = (2 * i).to_string();
        let alone = ["sample", "run", "--prompt", prompt, "--length", length, "--first-sequence", &first];
        let alone = room.call(&[&alone[..], &["--num", "2", "--json"], flags].concat());
        evaluations += json(&alone)["cost"]["evaluations"].as_u64().unwrap();
        for (n, alone) in samples(&alone).into_iter().enumerate() {
            let mut one = together[2 * i + n].clone();
            assert_eq!((&one["line"], &one["index"]), (&json!(i), &json!(2 * i + n)));
            for key in ["line", "id"] {
                one.as_object_mut().unwrap().remove(key);
            }
            assert_eq!(one, alone);
        }
    }
    assert_eq!(json(&said)["cost"]["evaluations"], evaluations);
    assert_eq!(json(&said)["cost"]["sequences"], 2 * prompts.len());
    together
}

#[test]
fn a_text_of_many_prompts_is_that_of_its_prompt_alone() {
    let (room, _) = trained(&["--subtokens", "2"]);
    room.write("prompts.jsonl", FILE);
    room.write("large.jsonl", "{\"id\": [123456789012345678901234567890, 1.50], \"prompt\": \"\"}\n");
    let said = room.call(&["sample", "run", "--prompts", "large.jsonl", "--json"]);
    assert!(stdout(&said).contains("\"id\": [123456789012345678901234567890, 1.50],"), "{said}");
    let texts = check(&room, "prompts.jsonl", &PROMPTS, &[]);
    assert!(texts[0]["text"].as_str().unwrap().starts_with("sea "), "{texts:?}");
    let ids: Vec<_> = texts.iter().step_by(2).map(|one| one.get("id").cloned()).collect();
    assert_eq!(ids, [Some(json!("a")), None, None, Some(json!({"n": 4}))]);
    check(&room, "prompts.jsonl", &PROMPTS, &["--order", "left-to-right", "--per-step", "3", "--seed", "4"]);

    let plain = room.call(&["sample", "run", "--prompts", "prompts.jsonl", "--num", "2"]);
    let shown: Vec<_> = texts.iter().map(|one| one["text"].as_str().unwrap()).collect();
    assert_eq!(stdout(&plain), shown.join("\n---\n") + "\n");

    let mut child = Command::new(env!("CARGO_BIN_EXE_submask"))
        .args(["sample", "run", "--prompts", "-", "--num", "2"])
        .current_dir(room.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(FILE.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), stdout(&plain));

    room.write("bad.jsonl", "{\"prompt\": \"a\"}\n{\"prompt\": \"[[99]]\"}\n");
    room.write("misspelt.jsonl", "{\"lenght\": 3}\n");
    room.write("more.jsonl", "{\"prompt\": \"a\", \"answer\": 3}\n");
    let said = room.call(&["sample", "run", "--prompts", "more.jsonl"]);
    assert!(said.contains("note: fields that are not read: \"answer\""), "{said}");
    for (arguments, code, problem) in [
        (&["--prompts", "bad.jsonl"][..], 2, "bad.jsonl: line 2\n  caused by: prompt takes 100 tokens"),
        (&["--prompts", "misspelt.jsonl"], 1, "misspelt.jsonl: line 1: no field \"prompt\"; present: lenght"),
        (&["--prompts", "no.jsonl"], 1, "no.jsonl: "),
        (&["--prompts", "bad.jsonl", "--prompt", "a"], 2, "cannot be used with"),
        (&["--first-sequence", "18446744073709551615"], 2, "--first-sequence = 18446744073709551615"),
        (&["--checkpoint", "best"], 2, "--checkpoint = best is not allowed: "),
        (&["--checkpoint", "oldest"], 2, "newest, best, or the number of steps"),
    ] {
        let said = room.call(&[&["sample", "run"], arguments].concat());
        assert!(said.starts_with(&format!("exit code: {code}\n")) && said.contains(problem), "{said}");
    }
}

#[test]
fn the_baseline_continues_prompts_of_different_lengths_and_stops_at_the_end_of_a_text() {
    let (room, _) = trained(&["--set", "model.network=autoregressive"]);
    let lines: Vec<&str> = FILE.lines().skip(1).collect();
    room.write("prompts.jsonl", &lines.join("\n"));
    check(&room, "prompts.jsonl", &BEGINNINGS, &["--top-k", "0", "--temperature", "1"]);
    room.write("hole.jsonl", "{\"prompt\": \"a\"}\n\n{\"prompt\": \"sea [[3]] ship\"}\n");
    for (arguments, problem) in [
        (
            ["--prompts", "hole.jsonl"],
            "hole.jsonl: line 3\n  caused by: prompt = given text after a hole is not",
        ),
        (
            ["--prompt", "sea [[3]] ship"],
            "--prompt = given text after a hole is not allowed: a beginning only",
        ),
    ] {
        let said = room.call(&[&["sample", "run"], &arguments[..]].concat());
        assert!(said.starts_with("exit code: 2\n") && said.contains(problem), "{said}");
    }
    // At a high temperature every digit is about as probable, so the end of text, 15 and 1 to the base 17, is 1 of 32.
    let flags = ["--num", "300", "--temperature", "100", "--top-k", "0", "--top-p", "1", "--json"];
    let said = json(&room.call(&[&["sample", "run"][..], &flags].concat()));
    let samples = said["samples"].as_array().unwrap();
    let lens: Vec<usize> = samples.iter().map(|one| one["tokens"].as_array().unwrap().len()).collect();
    let early = lens.iter().filter(|len| **len < 16).count();
    assert!((70..160).contains(&early), "{early} of 300 texts end early");
    assert_eq!(said["cost"]["evaluations"], lens.iter().map(|len| 2 * len).sum::<usize>());
    for one in samples.iter().filter(|one| one["tokens"].as_array().unwrap().len() < 16) {
        assert_eq!(one["tokens"].as_array().unwrap().last(), Some(&json!(256)), "an end of text");
    }
}
