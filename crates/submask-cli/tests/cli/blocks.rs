//! Models that write block by block: texts of any length, which are shown while they grow, and their likelihoods.

use serde_json::Value;

use super::rounds::{json, stdout, tiny, trained};
use super::{Room, submask};

/// Blocks of 4 of 16 tokens.
const BLOCKS: &[&str] = &["--subtokens", "2", "--set", "model.block_len=4"];

fn samples(said: &str) -> Vec<Value> {
    json(said)["samples"].as_array().unwrap().clone()
}

#[test]
fn texts_of_any_length_are_shown_as_they_are_in_json() {
    let (room, said) = trained(BLOCKS);
    assert!(said.contains("exit code: 0"), "{said}");
    for length in ["5", "16", "50"] {
        for flags in [
            &[][..],
            &["--window", "recomputed"],
            &["--order", "confidence", "--unit", "token"],
            &["--order", "left-to-right", "--per-step", "3"],
            &["--steps", "3"],
            &["--steps", "3", "--corrector", "2,1,0"],
            &["--temperature", "0", "--order", "margin"],
            &["--min-entropy", "1.9", "--entropy-window", "8", "--temperature", "0.1"],
        ] {
            let call = [&["sample", "run", "--num", "3", "--length", length], flags].concat();
            let shown = room.call(&call);
            let told = room.call(&[&call[..], &["--json"]].concat());
            let texts: Vec<String> =
                samples(&told).iter().map(|one| one["text"].as_str().unwrap().to_owned()).collect();
            assert_eq!(stdout(&shown), texts.join("\n---\n") + "\n", "{flags:?}");
            assert!(shown.contains("passes of written blocks") || length == "5", "{shown}");
            for (batch, threads) in [("1", "1"), ("2", "2")] {
                let again =
                    room.call(&[&call[..], &["--json", "--batch", batch, "--threads", threads]].concat());
                assert_eq!(again, told, "batch {batch}, {threads} threads, {flags:?}");
            }
            for one in samples(&told) {
                assert!(one["tokens"].as_array().unwrap().len() <= length.parse().unwrap());
            }
        }
    }
    // Up to the model's length the two windows are one generator; what was asked for beyond it is told.
    let of = |window, length: &str| {
        let call = ["sample", "run", "--num", "8", "--length", length, "--window", window, "--json"];
        let said = room.call(&call);
        assert_eq!(json(&said)["window"], window);
        samples(&said)
    };
    assert_eq!(of("cached", "16"), of("recomputed", "16"));
    assert_eq!(of("recomputed", "200").len(), 8);
}

#[test]
fn holes_before_given_text_of_a_later_block_are_refused() {
    let (room, _) = trained(BLOCKS);
    let within = room.call(&["sample", "run", "--prompt", "the sea[[2]]s wide", "--length", "17"]);
    assert!(within.contains("exit code: 2"), "{within}");
    let hole = room.call(&["sample", "run", "--prompt", "the [[1]]ea is wide[[3]]", "--length", "19"]);
    assert!(hole.contains("exit code: 2"), "{hole}");
    for part in
        ["prompt has text", "hole at token 5", "tokens 4 to 7", "tokens 8 to 11", "blocks of 4 tokens"]
    {
        assert!(hole.contains(part), "{part} in {hole}");
    }
    // The beginning is token 0: "the s" are tokens 1 to 5, and the hole's block ends with token 7.
    let filled = room.call(&["sample", "run", "--prompt", "the s[[1]]a", "--length", "8", "--json"]);
    let text = samples(&filled)[0]["tokens"].as_array().unwrap().len();
    assert_eq!(text, 8, "{filled}");
    let long = "the sea is wide and the ship is small ".repeat(3);
    let continued = room.call(&["sample", "run", "--prompt", &long, "--length", "140"]);
    assert!(stdout(&continued).starts_with(&long), "{continued}");
    let missing = room.call(&["sample", "run", "--prompt", &long]);
    assert!(missing.contains("exit code: 2") && missing.contains("--length N"), "{missing}");
    let far = room.call(&["sample", "run", "--length", "99999999"]);
    assert!(far.contains("exit code: 2") && far.contains("at most 1048576"), "{far}");
    let (other, _) = trained(&["--subtokens", "2"]);
    let said = other.call(&["sample", "run", "--window", "cached"]);
    assert!(said.contains("exit code: 2") && said.contains("model.block_len"), "{said}");
}

#[test]
fn one_block_as_long_as_the_model_writes_on_without_what_stands_before() {
    let room = Room::new();
    room.write("text.txt", &"the sea is wide and the ship is small\n".repeat(60));
    let train = ["train", "--data", "text.txt", "--out", "run", "--steps", "2", "--set"];
    let settings = tiny(&["model.block_len=16", "sample.steps=0"]);
    assert!(room.call(&[&train[..], &settings].concat()).contains("exit code: 0"));
    let note = "beyond 16 tokens each block is written without what stands before it";
    for (length, is_noted) in [("16", false), ("40", true)] {
        let said = room.call(&["sample", "run", "--length", length]);
        assert!(said.contains("exit code: 0") && said.contains(note) == is_noted, "{said}");
    }
    // Where nothing says the steps of the path bound, there are as many as a block has tokens.
    let blocks = ["train", "--data", "text.txt", "--out", "blocks", "--steps", "2", "--set"];
    let settings = tiny(&["model.block_len=4", "sample.steps=0"]);
    assert!(room.call(&[&blocks[..], &settings].concat()).contains("exit code: 0"));
    for (run, steps) in [("run", 16), ("blocks", 4)] {
        let said = room.call(&["eval", run, "--estimator", "path", "--sequences", "2", "--json"]);
        assert_eq!(json(&said)["steps"], steps, "{said}");
    }
}

#[test]
fn settings_of_sampling_that_no_text_could_follow_are_refused() {
    let train = ["train", "--set", "tokenizer.kind=bytes"];
    for (settings, said) in [
        (
            &["sample.window=recomputed"][..],
            "sample.window = \"recomputed\" is not allowed: \"cached\" where",
        ),
        (&["sample.min_entropy=2"], "sample.min_entropy = 2 is not allowed: 0, off"),
        (
            &["model.block_len=4", "sample.min_entropy=2.1", "sample.entropy_window=8"],
            "sample.min_entropy = 2.1 is not allowed: below ln(entropy_window) = 2.079",
        ),
        (
            &["model.block_len=4", "sample.min_entropy=5.6", "sample.entropy_window=1000"],
            "sample.min_entropy = 5.6 is not allowed: below ln(vocab_size) = 5.549",
        ),
    ] {
        let refused = submask(&[&train[..], settings].concat());
        assert!(refused.contains("exit code: 2") && refused.contains(said), "{refused}");
    }
}

#[test]
fn figures_and_scores_are_sums_over_blocks() {
    let (room, _) = trained(BLOCKS);
    let metrics = std::fs::read_to_string(room.path().join("run/metrics.jsonl")).unwrap();
    assert!(metrics.contains("nelbo_subtoken") && metrics.contains("joint_objective"), "{metrics}");
    let eval =
        |flags: &[&str]| json(&room.call(&[&["eval", "run", "--sequences", "2", "--json"], flags].concat()));
    // Two whole sequences: what is kept of them, and then every step or draw.
    for (flags, evaluations) in [
        (&["--draws", "3"][..], 1 + 3),
        (&["--estimator", "path", "--steps", "2"], 1 + 1),
        (&["--estimator", "exact"], 1 + 4),
        (&["--estimator", "exact", "--order", "margin", "--unit", "subtoken", "--per-step", "2"], 1 + 4),
        (&["--estimator", "orders", "--draws", "2"], 1 + 2 * 8),
        (&["--estimator", "joint-objective", "--draws", "2"], 1 + 2),
    ] {
        let all = eval(flags);
        assert_eq!(all["figures"][0]["evaluations"], 2 * evaluations, "{flags:?}");
        let other = eval(&[flags, &["--batch", "1", "--threads", "1"]].concat());
        assert_eq!(
            (&other["figures"], &other["by_sequence"]),
            (&all["figures"], &all["by_sequence"]),
            "{flags:?}"
        );
    }
    // The first text and the end of text before it are a block.
    let nats = |flags: &[&str]| {
        let call = ["score", "run", "--estimator", "exact", "--order", "entropy"];
        json(&room.call(&[&call[..], flags].concat()))["nats"].as_f64().unwrap()
    };
    let parts = nats(&["--text", "the"]) + nats(&["--prompt", "the", "--completion", " sea"]);
    assert!((nats(&["--text", "the sea"]) / parts - 1.0).abs() < 1e-12);
}
