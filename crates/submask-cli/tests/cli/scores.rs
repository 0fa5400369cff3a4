//! Given texts: what they cost, one by one, in a corpus, in parts, and however short or long they are.

use serde_json::Value;

use super::Room;
use super::rounds::{json, stdout, tiny, trained};

/// Texts of one token to several sequences of 16; two of them are equal.
const TEXTS: [&str; 7] = [
    "the sea is wide",
    "a",
    "the ship is small and the sea is wide, and no one is on it but a bird",
    "né",
    "the sea is wide",
    "and \"the\" sea",
    "ship",
];

const BASELINE: &[&str] = &["--set", "model.network=autoregressive"];

/// The numbers that stand after a key, read as exactly as they are written.
fn numbers(text: &str, key: &str) -> Vec<f64> {
    let key = format!("\"{key}\":");
    let after = text.split(&key).skip(1);
    after.map(|rest| rest.trim_start().split([',', '}', '\n']).next().unwrap().parse().unwrap()).collect()
}

/// The figure with a unit, of `eval --json`: its value as exactly as it is written, and its name.
fn figure(said: &str, unit: &str) -> (f64, String) {
    let figures = json(said)["figures"].as_array().unwrap().clone();
    let place = figures.iter().position(|figure| figure["unit"] == unit).unwrap();
    (numbers(stdout(said), "value")[place], figures[place]["name"].as_str().unwrap().to_owned())
}

/// JSON lines of texts, each with its number as `id`.
fn lines<'a>(texts: impl IntoIterator<Item = (usize, &'a &'a str)>) -> String {
    let line = |(id, text): (usize, &&str)| serde_json::json!({"id": id, "text": text}).to_string() + "\n";
    texts.into_iter().map(line).collect()
}

/// The objects that `score` printed.
fn scores(said: &str) -> Vec<Value> {
    stdout(said).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn the_scores_of_documents_sum_to_the_figure_by_document() {
    for (network, estimator) in [(&[][..], "nelbo_subtoken"), (BASELINE, "exact_left_to_right")] {
        let (room, _) = trained(network);
        room.write("texts.jsonl", &lines(TEXTS.iter().enumerate()));
        room.write("turned.jsonl", &lines(TEXTS.iter().enumerate().rev()));
        for more in [&[][..], &["--end"], &["--stride", "5"]] {
            let score = |file: &str, flags: &[&str]| {
                room.call(&[&["score", "run", "--data", file], more, flags].concat())
            };
            let said = score("texts.jsonl", &[]);
            let nats = numbers(stdout(&said), "nats");
            let evaluate = ["eval", "run", "--data", "texts.jsonl", "--by-document", "--json"];
            let evaluated = room.call(&[&evaluate, more].concat());
            let (total, name) = figure(&evaluated, "nats in total");
            assert_eq!((nats.iter().sum::<f64>(), nats.len()), (total, TEXTS.len()), "{evaluated}");
            assert_eq!(name, format!("{estimator}_by_document"));
            let result = json(&evaluated);
            let characters = TEXTS.iter().map(|text| text.chars().count()).sum::<usize>();
            assert_eq!(result["documents"], TEXTS.len());
            assert_eq!(result["characters"], characters);
            assert_eq!(result["by_document"].as_array().unwrap().len(), TEXTS.len());
            assert!(result.get("by_sequence").is_none());

            assert_eq!(nats[0], nats[4], "equal texts have equal scores");
            let first = stdout(&said).lines().next().unwrap();
            assert!(first.starts_with("{\"line\":1,\"id\":0,\"nats\":"), "{first}");
            for (batch, threads) in [("1", "1"), ("7", "2")] {
                let again = score("texts.jsonl", &["--batch", batch, "--threads", threads]);
                assert_eq!(stdout(&again), stdout(&said), "batch {batch}, {threads} threads");
            }
            let without_line = |line: &str| line.split_once(',').unwrap().1.to_owned();
            let mut turned: Vec<_> = stdout(&score("turned.jsonl", &[])).lines().map(without_line).collect();
            turned.reverse();
            assert_eq!(turned, stdout(&said).lines().map(without_line).collect::<Vec<_>>());
        }
        // One after the other in sequences is another figure, with another name.
        let packed = room.call(&["eval", "run", "--data", "texts.jsonl", "--json"]);
        assert_eq!(json(&packed)["figures"][0]["name"], estimator);
        assert!(
            json(&packed)["figures"].as_array().unwrap().iter().all(|one| one["unit"] != "nats in total")
        );
    }
}

#[test]
fn from_left_to_right_the_terms_of_a_completion_are_its_score_given_the_prompt() {
    let (prompt, completion) = ("the sea ", "is wide");
    let whole = format!("{prompt}{completion}");
    for (network, exact) in [(&["--subtokens", "2"][..], &["--estimator", "exact"][..]), (BASELINE, &[])] {
        let (room, _) = trained(network);
        let score = |arguments: &[&str]| {
            let said = room.call(&[&["score", "run"], exact, arguments].concat());
            scores(&said).remove(0)
        };
        let all = score(&["--by-token", "--text", &whole]);
        let given = score(&["--prompt", prompt, "--completion", completion]);
        let alone = score(&["--text", prompt]);
        let nats = |score: &Value| score["nats"].as_f64().unwrap();
        let terms = all["by_token"].as_array().unwrap();
        assert_eq!(terms.iter().map(|term| term["text"].as_str().unwrap()).collect::<String>(), whole);
        let sum: f64 = terms[prompt.len()..].iter().map(nats).sum();
        assert!((sum / nats(&given) - 1.0).abs() < 1e-9, "{all} {given}");
        assert!((terms.iter().map(nats).sum::<f64>() / nats(&all) - 1.0).abs() < 1e-9);
        assert_eq!((given["kind"].as_str(), given["tokens"].as_u64()), (Some("exact"), Some(7)));
        assert_eq!(given["characters"], 7);
        assert!(given.get("by_token").is_none(), "only where it is asked for");
        let together = nats(&alone) + nats(&given);
        match exact.is_empty() {
            true => assert!((together / nats(&all) - 1.0).abs() < 1e-9, "{together} {all}"),
            false => assert!((together / nats(&all) - 1.0).abs() > 1e-9, "{together} {all}"),
        }
    }
}

#[test]
fn every_length_is_evaluated_and_so_is_the_tail() {
    let (room, _) = trained(&[]);
    let eval = |more: &[&str]| room.call(&[&["eval", "run", "--json", "--data"], more].concat());
    room.write("short.txt", "né");
    let short = json(&eval(&["short.txt"]));
    // An end of text, three bytes, and another.
    let counted = ["sequences", "documents", "tokens", "characters"].map(|key| short[key].as_u64().unwrap());
    assert_eq!(counted, [1, 1, 5, 2], "{short}");
    let alone = json(&eval(&["short.txt", "--by-document"]));
    let counted = ["sequences", "documents", "tokens", "characters"].map(|key| alone[key].as_u64().unwrap());
    assert_eq!(counted, [1, 1, 3, 2], "{alone}");
    let said = room.call(&["eval", "run", "--data", "short.txt"]);
    assert!(stdout(&said).contains("\nevaluated       5 tokens, 2 characters in 1 sequence of 1 document\n"));

    // 38 bytes and two ends of text are two sequences of 16 and 8 more tokens.
    room.write("a.txt", "the sea is wide and the ship is small.");
    room.write("b.txt", "the sea is wide and the ship is xyzvw.");
    let (a, b) = (eval(&["a.txt"]), eval(&["b.txt"]));
    assert_eq!(numbers(stdout(&a), "nats").len(), 3);
    assert_eq!(numbers(stdout(&a), "nats")[..2], numbers(stdout(&b), "nats")[..2]);
    assert_ne!(numbers(stdout(&a), "value"), numbers(stdout(&b), "value"), "the tails differ");
    assert_eq!(json(&a)["by_sequence"][2]["tokens"], 8);
    // Some of the whole sequences are what they were without the tail.
    let two = ["--sequences", "2"];
    let (a, b) = (eval(&[&["a.txt"][..], &two].concat()), eval(&[&["b.txt"][..], &two].concat()));
    assert_eq!(numbers(stdout(&a), "value"), numbers(stdout(&b), "value"));
    assert_eq!(json(&a)["tokens"], 32);
    assert_eq!(json(&eval(&["a.txt", "--sequences", "3"]))["tokens"], 40);
}

#[test]
fn what_a_run_held_out_is_evaluated_document_by_document() {
    let settings = tiny(&["data.split=line", "train.steps=2"]);
    let room = Room::new();
    let letter = |i: usize| char::from(b'a' + (i % 26) as u8);
    let line = |i: usize| format!("ship {} is {}wide\n", letter(i), "small ".repeat(i % 7));
    room.write("text.txt", &(0..60).map(line).collect::<String>());
    let train = |run: &str, tokenizer: &str| {
        let call = ["train", "--data", "text.txt", "--out", run, "--set", tokenizer];
        let settings = settings.iter().copied().filter(|setting| !setting.starts_with("tokenizer.kind"));
        room.call(&call.into_iter().chain(settings).collect::<Vec<_>>())
    };
    stdout(&train("run", "tokenizer.kind=bytes"));
    let held_out = json(&room.call(&["info", "run/data", "--json"]))["valid"]["documents"].clone();
    let all = json(&room.call(&["eval", "run", "--by-document", "--json"]));
    assert_eq!(all["documents"], held_out, "{all}");
    let packed = json(&room.call(&["eval", "run", "--json"]));
    assert_eq!(packed["documents"], held_out, "{packed}");
    assert_eq!(packed["characters"], all["characters"]);
    let some = json(&room.call(&["eval", "run", "--by-document", "--sequences", "2", "--json"]));
    assert_eq!(some["documents"], 2);
    assert_eq!(some["by_document"][0], all["by_document"][0], "a document does not depend on the others");

    // Without end of text, only the files tell where a document ends.
    stdout(&train("letters", "tokenizer.kind=text8"));
    let said = room.call(&["eval", "letters", "--by-document"]);
    assert!(said.starts_with("exit code: 2\n") && said.contains("give the text by --data PATH"), "{said}");
    let said = room.call(&["eval", "letters", "--by-document", "--data", "text.txt", "--json"]);
    assert_eq!(json(&said)["documents"], 60);
}

#[test]
fn what_cannot_be_scored_is_refused_before_anything_is_printed() {
    let (room, _) = trained(&[]);
    room.write("texts.jsonl", "{\"text\": \"a\"}\n{\"text\": \"\"}\n");
    room.write("prompts.jsonl", "{\"prompt\": \"a\", \"text\": \"b\"}\n");
    room.write("not.jsonl", "the sea\n");
    room.write("fields.jsonl", "{\"text\": \"a\", \"author\": \"b\"}\n");
    let long = "the sea is wide and the ship is small";
    for (code, arguments, problem) in [
        (2, &[][..], "--text <TEXT>|--completion <TEXT>|--data <FILE>"),
        (2, &["--text", "a", "--data", "texts.jsonl"], "cannot be used with"),
        (2, &["--prompt", "a"], "--completion <TEXT>"),
        (2, &["--completion", "a"], "--prompt <TEXT>"),
        (2, &["--text", ""], "--text = of no tokens is not allowed"),
        (2, &["--prompt", "a", "--completion", ""], "--completion = of no tokens is not allowed"),
        (2, &["--prompt", long, "--completion", "a"], "--prompt = 38 tokens, its beginning included"),
        (2, &["--text", "a", "--by-token"], "--by-token has no meaning for nelbo_subtoken"),
        (2, &["--text", "a", "--stride", "16"], "--stride = 16 is not allowed: 1 to 15"),
        (2, &["--text", "a", "--steps", "4"], "--steps has no meaning without --estimator path"),
        (2, &["--data", "texts.jsonl"], "texts.jsonl: line 2"),
        (1, &["--data", "prompts.jsonl"], "prompts.jsonl: line 1: needed is either \"text\", or \"prompt\""),
        (1, &["--data", "not.jsonl"], "not.jsonl: line 1: not a JSON object"),
        (1, &["--data", "nowhere.jsonl"], "nowhere.jsonl"),
        (1, &["--data", "-"], "standard input: no line with a text"),
    ] {
        let said = room.call(&[&["score", "run"], arguments].concat());
        let start = format!("exit code: {code}\n----- stdout -----\n----- stderr -----\n");
        assert!(said.starts_with(&start) && said.contains(problem), "{arguments:?}: {said}");
    }
    for flags in [&["--end"][..], &["--stride", "4"]] {
        let said = room.call(&[&["eval", "run"], flags].concat());
        let problem = format!("{} has no meaning without --by-document", flags[0]);
        assert!(said.starts_with("exit code: 2\n") && said.contains(&problem), "{said}");
    }
    room.write("ids.jsonl", "{\"id\": 123456789012345678901234567890, \"text\": \"a\"}\n");
    let said = room.call(&["score", "run", "--data", "ids.jsonl"]);
    let start = "{\"line\":1,\"id\":123456789012345678901234567890,\"nats\":";
    assert!(stdout(&said).starts_with(start), "{said}");
    let newest = room.call(&["score", "run", "--text", "a"]);
    let score = |checkpoint: &str| room.call(&["score", "run", "--text", "a", "--checkpoint", checkpoint]);
    assert_eq!(score("4"), newest);
    assert_ne!(stdout(&score("2")), stdout(&newest));
    let said = score("best");
    assert!(
        said.starts_with("exit code: 2\n") && said.contains("--checkpoint = best is not allowed"),
        "{said}"
    );
    let said = room.call(&["score", "run", "--data", "fields.jsonl"]);
    assert!(stdout(&said).starts_with("{\"line\":1,\"nats\":"), "{said}");
    assert!(said.contains("note: fields that are not read: author\n"), "{said}");
    let said = room.call(&["score", "run", "--text", "-a", "--text", "b"]);
    assert_eq!(scores(&said).len(), 2, "{said}");
    assert!(said.contains("score  2 texts, nelbo_subtoken, 32 draws, seed 0\n"), "{said}");
}
