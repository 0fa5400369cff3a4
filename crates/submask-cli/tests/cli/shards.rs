//! Work that several calls share: merging what `--shard 0/n` to `--shard n−1/n` computed gives what one call gives, byte for
//! byte, on standard output and in files.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::Room;
use super::rounds::{ENCODER, json, stdout, trained};

const PRIME: &[&str] = &["--subtokens", "2"];
const BLOCKS: &[&str] = &["--subtokens", "2", "--set", "model.block_len=4"];
const BASELINE: &[&str] = &["--set", "model.network=autoregressive"];

const TEXTS: &str = "{\"id\": 1.50, \"text\": \"the sea is wide\"}\n{\"text\": \"a\"}\n\
    {\"id\": \"x\", \"text\": \"the ship is small and the sea is wide, and no one is on it\"}\n{\"text\": \"né\"}\n";

const PROMPTS: &str =
    "{\"prompt\": \"the \", \"length\": 9, \"id\": 1.0e1}\n{\"prompt\": \"sea\"}\n{\"prompt\": \"\"}\n";

/// Writes the parts of a call, each with a batch and a number of threads of its own, and gives the arguments that merge them.
fn parts(room: &Room, call: &[&str], count: usize) -> Vec<String> {
    let mut merge = vec!["merge".to_owned()];
    for index in 0..count {
        let (shard, file) = (format!("{index}/{count}"), format!("parts/{index}.part"));
        let threads = (index % 2 + 1).to_string();
        let said =
            room.call(&[call, &["--shard", &shard, "--shard-file", &file, "--threads", &threads]].concat());
        assert_eq!(stdout(&said), format!("{file}\n"), "{said}");
        merge.insert(1, file);
    }
    merge
}

fn merged(room: &Room, merge: &[String]) -> String {
    room.call(&merge.iter().map(String::as_str).collect::<Vec<_>>())
}

/// That the parts of a call make what one call makes: what it prints, and the `files` that it writes.
fn check(room: &Room, call: &[&str], counts: &[usize], files: &[&str]) {
    fs::create_dir_all(room.path().join("parts")).unwrap();
    let read = || -> Vec<Vec<u8>> {
        files.iter().map(|file| fs::read(room.path().join(file)).unwrap_or_default()).collect()
    };
    let said = room.call(call);
    let (whole, written) = (stdout(&said), read());
    assert!(!whole.is_empty() && written.iter().all(|bytes| !bytes.is_empty()), "{call:?}: {said}");
    for count in counts {
        files.iter().for_each(|file| fs::remove_file(room.path().join(file)).unwrap());
        let merge = parts(room, call, *count);
        assert!(files.iter().all(|file| !room.path().join(file).exists()), "a share writes no result");
        assert_eq!(stdout(&merged(room, &merge)), whole, "{call:?} of {count} shares");
        assert!(read() == written, "{files:?} of {call:?} of {count} shares");
    }
}

/// Every verb on a model of text.
fn check_text(network: &[&str], evals: &[&[&str]], samples: &[&[&str]]) {
    let (room, said) = trained(network);
    assert!(said.starts_with("exit code: 0\n"), "{said}");
    room.write("texts.jsonl", TEXTS);
    room.write("prompts.jsonl", PROMPTS);
    for flags in evals {
        check(&room, &[&["eval", "run", "--json"], *flags].concat(), &[3], &[]);
    }
    check(&room, &["eval", "run"], &[1, 2, 40], &[]);
    for flags in [&["--by-document"][..], &["--by-document", "--stride", "3", "--sequences", "3"]] {
        check(&room, &[&["eval", "run", "--json", "--data", "texts.jsonl"], flags].concat(), &[2, 6], &[]);
    }
    check(&room, &["score", "run", "--data", "texts.jsonl"], &[3, 5], &[]);
    check(&room, &["score", "run", "--text", "the sea", "--text", "ship", "--end"], &[2], &[]);
    for flags in samples {
        check(&room, &[&["sample", "run", "--num", "4", "--seed", "3"], *flags].concat(), &[3], &[]);
    }
    let prompts =
        ["sample", "run", "--num", "2", "--prompts", "prompts.jsonl", "--json", "--first-sequence", "7"];
    check(&room, &prompts, &[3, 9], &[]);
}

#[test]
fn masked_diffusion_on_text() {
    let evals: &[&[&str]] =
        &[&[], &["--draws", "3", "--sequences", "5"], &["--estimator", "joint-objective"]];
    check_text(&[], evals, &[&[], &["--json"], &["--trace"]]);
}

#[test]
fn sub_tokens_on_text() {
    let evals: &[&[&str]] = &[
        &["--estimator", "nelbo-token"],
        &["--estimator", "path", "--steps", "4"],
        &["--estimator", "exact", "--order", "confidence", "--per-step", "2", "--sequences", "3"],
        &["--estimator", "orders", "--draws", "2", "--sequences", "3"],
    ];
    let samples: &[&[&str]] = &[
        &["--json", "--steps", "first-hitting"],
        &["--json", "--order", "entropy", "--unit", "token"],
        &["--json", "--corrector", "2,1,0", "--top-p", "0.9"],
        &["--trace"],
    ];
    check_text(PRIME, evals, samples);
    check_text(ENCODER, &[&[]], &[&["--json"]]);
}

#[test]
fn blocks_of_text() {
    let evals: &[&[&str]] = &[&["--draws", "2"], &["--estimator", "exact", "--sequences", "4"]];
    let samples: &[&[&str]] = &[&["--length", "30"], &["--length", "30", "--json"], &["--trace"]];
    check_text(BLOCKS, evals, samples);
}

#[test]
fn the_autoregressive_baseline_on_text() {
    let (room, _) = trained(BASELINE);
    check(
        &room,
        &["score", "run", "--text", "the sea", "--text", "a", "--text", "no", "--by-token"],
        &[2],
        &[],
    );
    check_text(BASELINE, &[&[]], &[&["--json"], &[]]);
}

#[test]
fn prompts_and_completions() {
    let room = Room::new();
    let pair = |n: usize| format!("{{\"prompt\": \"{n} is\", \"completion\": \" n{n}\"}}\n");
    room.write("pairs.jsonl", &(10..50).map(pair).collect::<String>());
    for network in ["diffusion", "autoregressive"] {
        let network_key = format!("model.network={network}");
        let sizes: &[&str] = if network == "diffusion" { &["model.cond_dim=8"] } else { &[] };
        let call =
            ["train", "--data", "pairs.jsonl", "--out", network, "--steps", "1", "--set", &network_key];
        let settings = [
            "tokenizer.kind=bytes",
            "model.hidden=16",
            "model.heads=2",
            "model.blocks=1",
            "model.seq_len=16",
            "train.batch_size=4",
            "train.final_sequences=0",
            "train.final_samples=0",
            "data.prompt_field=prompt",
            "data.completion_field=completion",
        ];
        stdout(&room.call(&[&call[..], &settings, sizes].concat()));
        check(&room, &["eval", network, "--json"], &[3, 9], &[]);
        check(&room, &["eval", network, "--json", "--data", "pairs.jsonl", "--sequences", "7"], &[3], &[]);
        check(&room, &["eval", network, "--json", "--by-document"], &[2, 9], &[]);
        check(&room, &["score", network, "--data", "pairs.jsonl"], &[3], &[]);
    }
}

#[test]
fn images() {
    let room = Room::new();
    let settings = [
        "data.height=8",
        "data.width=8",
        "train.batch_size=2",
        "train.validate_samples=0",
        "train.final_sequences=0",
        "train.final_samples=0",
        "sample.steps=4",
    ];
    let train = ["train", "--preset", "emoji", "--out", "run", "--steps", "1", "--set"];
    stdout(&room.call(&[&train[..], &settings].concat()));
    check(&room, &["eval", "run", "--json", "--sequences", "5", "--draws", "2"], &[3, 7], &[]);
    check(&room, &["sample", "run", "--num", "5"], &[3], &["samples.png"]);
    let traced = ["sample", "run", "--num", "4", "--out", "a.png", "--trace"];
    check(&room, &traced, &[3, 6], &["a.png", "a-trace.png"]);
    let measured = ["metrics", "run", "--num", "6", "--sequences", "7", "--save-statistics", "real.npz"];
    check(&room, &measured, &[3, 8], &["real.npz"]);
    check(&room, &[&measured[..], &["--json"]].concat(), &[2], &["real.npz"]);
    let with_statistics = ["metrics", "run", "--num", "5", "--statistics", "real.npz", "--json"];
    check(&room, &with_statistics, &[3], &[]);
    // Other statistics than those that the parts were made with.
    let merge = parts(&room, &with_statistics, 2);
    fs::write(room.path().join("real.npz"), "other").unwrap();
    let said = merged(&room, &merge);
    assert!(said.starts_with("exit code: 1\n") && said.contains("real.npz"), "{said}");
}

#[test]
fn images_of_classes() {
    let room = Room::new();
    for (n, class) in ["ant", "bee", "cat"].iter().cycle().enumerate().take(30) {
        let path = room.path().join(format!("pictures/{class}/{n}.png"));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let bytes: Vec<u8> = (0..192).map(|at| (at * (n + 1)) as u8).collect();
        image::save_buffer(path, &bytes, 8, 8, image::ExtendedColorType::Rgb8).unwrap();
    }
    let settings = [
        "data.set=pictures",
        "data.labelled=true",
        "model.class_conditional=true",
        "data.valid_fraction=0.3",
        "data.height=8",
        "data.width=8",
        "train.batch_size=2",
        "train.validate_samples=0",
        "train.final_sequences=0",
        "train.final_samples=0",
        "sample.steps=3",
    ];
    let train = ["train", "--preset", "emoji", "--data", "pictures", "--out", "run", "--steps", "1", "--set"];
    stdout(&room.call(&[&train[..], &settings].concat()));
    check(&room, &["eval", "run", "--json", "--draws", "2"], &[3, 20], &[]);
    check(&room, &["sample", "run", "--num", "7", "--json"], &[3], &["samples.png"]);
    check(&room, &["sample", "run", "--num", "3", "--label", "bee", "--json"], &[2], &["samples.png"]);
}

#[test]
fn points_of_a_picture() {
    let room = Room::new();
    let bytes: Vec<u8> = (0..16).map(|at| if at == 5 || at == 10 { 0 } else { 255 }).collect();
    image::save_buffer(room.path().join("two.png"), &bytes, 4, 4, image::ExtendedColorType::L8).unwrap();
    let train = ["train", "--preset", "toy", "--image", "two.png", "--out", "run", "--steps", "2", "--set"];
    let settings = ["data.cells=4", "model.hidden=32", "train.batch_size=8", "train.final_samples=4"];
    stdout(&room.call(&[&train[..], &settings].concat()));
    check(&room, &["eval", "run", "--json", "--sequences", "20"], &[3, 30], &[]);
    check(&room, &["sample", "run", "--num", "10", "--json"], &[3, 12], &["samples.png"]);
}

/// The files of a folder.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    entries.map(|e| (e.file_name().into_string().unwrap(), fs::read(e.path()).unwrap())).collect()
}

#[test]
fn prepared_data() {
    let room = Room::new();
    room.write("text.txt", &"the sea is wide\n\nthe ship is small\n\n".repeat(60));
    let prepare = |out: &str| {
        let call = ["data", "prepare", "--data", "text.txt", "--out", out, "--set", "tokenizer.kind=bytes"];
        call.map(str::to_owned).to_vec()
    };
    let call = |arguments: &[String]| room.call(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
    let whole = call(&prepare("data"));
    let written = files(&room.path().join("data"));
    for count in [1, 3, 200] {
        fs::remove_dir_all(room.path().join("data")).unwrap();
        let mut merge = vec!["merge".to_owned()];
        for index in 0..count {
            let said = call(&[prepare("data"), vec!["--shard".into(), format!("{index}/{count}")]].concat());
            merge.push(format!("data-prepare-{index}-of-{count}.part"));
            assert_eq!(stdout(&said), format!("{}\n", merge[index + 1]), "{said}");
            assert!(!room.path().join("data").exists());
        }
        let said = call(&merge);
        assert_eq!(stdout(&said), stdout(&whole));
        assert!(files(&room.path().join("data")) == written, "{count} shares");
    }
    // What is trained on it is the same, and a tokenizer that is made of the corpus is asked for by name.
    let bpe = [
        "data",
        "prepare",
        "--data",
        "text.txt",
        "--out",
        "bpe",
        "--shard",
        "0/2",
        "--set",
        "tokenizer.kind=bpe",
    ];
    let said = room.call(&bpe);
    assert!(said.starts_with("exit code: 2\n") && said.contains("tokenizer.kind = bpe"), "{said}");
    assert!(!room.path().join("data-prepare-0-of-2.part").exists());
}

#[test]
fn parts_that_do_not_belong_together_are_refused_by_name() {
    let (room, _) = trained(&[]);
    fs::create_dir_all(room.path().join("parts")).unwrap();
    let eval = ["eval", "run", "--json"];
    let merge = parts(&room, &eval, 3);
    let refused = |arguments: &[&str], message: &str| {
        let said = room.call(&[&["merge"], arguments].concat());
        assert!(!said.starts_with("exit code: 0\n") && said.contains(message), "{message}: {said}");
        assert!(said.contains("----- stdout -----\n----- stderr -----"), "nothing is printed: {said}");
    };
    let [a, b, c] = ["parts/0.part", "parts/1.part", "parts/2.part"];
    stdout(&merged(&room, &merge));
    refused(&[a, c], "1/3 is missing");
    refused(&[a, b, c, b], "parts/1.part: part 1/3 is there twice");
    refused(&[a, b, "parts/3.part"], "parts/3.part");
    refused(&[a, b, "text.txt"], "text.txt: no part of");
    let shard = |name: &str, more: &[&str]| {
        let file = format!("parts/{name}.part");
        stdout(&room.call(&[more, &["--shard", "2/3", "--shard-file", &file]].concat()));
        file
    };
    let draws = shard("draws", &[&eval[..], &["--draws", "2"]].concat());
    refused(
        &[a, b, &draws],
        "parts/draws.part: of other work than parts/0.part: its draws is 2, and there 1",
    );
    let data = shard("data", &["eval", "run", "--json", "--data", "text.txt"]);
    refused(&[a, b, &data], "parts/data.part");
    let verb = shard("verb", &["sample", "run", "--json"]);
    refused(&[a, b, &verb], "its verb is \"sample\", and there \"eval\"");
    let table = shard("table", &["eval", "run"]);
    refused(&[a, b, &table], "its json is false, and there true");
    // Another model in the same place.
    let weights = room.path().join("run/checkpoints/step-4");
    fs::rename(room.path().join("run/checkpoints/step-2"), room.path().join("kept")).unwrap();
    fs::rename(&weights, room.path().join("newer")).unwrap();
    fs::rename(room.path().join("kept"), &weights).unwrap();
    let model = shard("model", &eval);
    refused(&[a, b, &model], "its model.weights is ");
    fs::rename(&weights, room.path().join("run/checkpoints/step-2")).unwrap();
    fs::rename(room.path().join("newer"), &weights).unwrap();
    let bytes = fs::read(room.path().join(c)).unwrap();
    fs::write(room.path().join(c), &bytes[..bytes.len() - 1]).unwrap();
    refused(&[a, b, c], "parts/2.part: truncated");
    fs::write(room.path().join(c), &bytes).unwrap();
    stdout(&merged(&room, &merge));
    // A share that fails leaves the part that is there.
    let failed = room.call(&["eval", "run", "--data", "no.txt", "--shard", "2/3", "--shard-file", c]);
    assert!(failed.starts_with("exit code: 1\n"), "{failed}");
    assert!(fs::read(room.path().join(c)).unwrap() == bytes);
}

#[test]
fn shares_are_written_as_i_of_n() {
    let (room, _) = trained(&[]);
    for wrong in ["3/3", "1", "a/b", "1/0", "-1/2"] {
        let said = room.call(&["eval", "run", &format!("--shard={wrong}")]);
        assert!(said.starts_with("exit code: 2\n") && said.contains("i/n with 0 <= i < n"), "{said}");
    }
    let said = room.call(&["eval", "run", "--shard-file", "a.part"]);
    assert!(said.starts_with("exit code: 2\n") && said.contains("--shard"), "{said}");
    let said = room.call(&["eval", "run", "--shard", "0/1", "--shard-file", "no/such/a.part"]);
    assert!(said.starts_with("exit code: 1\n") && said.contains("no/such/a.part"), "{said}");
    assert_eq!(stdout(&room.call(&["eval", "run", "--json", "--shard", "0/1"])), "eval-0-of-1.part\n");
    let whole = json(&room.call(&["eval", "run", "--json"]));
    assert_eq!(json(&room.call(&["merge", "eval-0-of-1.part"])), whole);
}
