//! The same seed gives the same bytes: of weights, however often a run is killed, and of samples and figures,
//! whatever the batch size and the number of threads.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::Room;
use super::rounds::{ENCODER, tiny, trained};

/// How often a run is killed.
const KILLS: u32 = 20;

/// Checkpoints often enough that a kill may hit one being written; dropout, which draws in every step.
const SETTINGS: &[&str] =
    &["train.validate_every=60", "train.checkpoint_every=3", "train.decay=constant", "model.dropout=0.1"];

fn train(room: &Room, out: &str, more: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_submask"))
        .args(["train", "--data", "text.txt", "--out", out])
        .args(more)
        .arg("--set")
        .args(tiny(SETTINGS))
        .current_dir(room.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn finishes(child: Child) {
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}: {}", output.status, String::from_utf8_lossy(&output.stderr));
}

/// Weights, average and moments after 60 steps.
fn state(run: &Path) -> Vec<Vec<u8>> {
    ["raw.safetensors", "model.safetensors", "optimizer_first.safetensors", "optimizer_second.safetensors"]
        .map(|name| std::fs::read(run.join("checkpoints/step-60").join(name)).unwrap())
        .to_vec()
}

#[test]
fn a_run_killed_at_any_moment_resumes_to_the_same_weights() {
    let room = Room::new();
    room.write("text.txt", &"the sea is wide and the ship is small\n".repeat(60));
    let started = Instant::now();
    finishes(train(&room, "straight", &["--steps", "60"]));
    let whole = started.elapsed();
    let expected = state(&room.path().join("straight"));

    finishes(train(&room, "longer", &["--steps", "30"]));
    finishes(train(&room, "longer", &["--resume", "--steps", "60"]));
    assert!(state(&room.path().join("longer")) == expected, "30 steps and 30 more");

    let mut interrupted = 0;
    for kill in 0..KILLS {
        let out = format!("killed-{kill}");
        let mut child = train(&room, &out, &["--steps", "60"]);
        // The golden ratio's multiples spread the moments evenly over the whole run.
        let moment = whole.mul_f64(f64::from(kill + 1) * 0.618_034 % 1.0);
        std::thread::sleep(moment.max(Duration::from_millis(1)));
        interrupted += u32::from(child.try_wait().unwrap().is_none());
        child.kill().unwrap();
        child.wait().unwrap();
        let begun = room.path().join(&out).join("settings.toml").exists();
        let again: &[&str] = if begun { &["--resume", "--steps", "60"] } else { &["--steps", "60"] };
        finishes(train(&room, &out, again));
        assert!(state(&room.path().join(&out)) == expected, "killed after {moment:?} of {whole:?}");
    }
    assert!(interrupted >= KILLS / 2, "only {interrupted} of {KILLS} runs were still running when killed");
}

#[test]
fn another_number_of_threads_trains_the_same_weights() {
    let room = Room::new();
    room.write("text.txt", &"the sea is wide and the ship is small\n".repeat(60));
    finishes(train(&room, "one", &["--steps", "60", "--threads", "1"]));
    finishes(train(&room, "two", &["--steps", "60", "--threads", "2"]));
    assert!(state(&room.path().join("one")) == state(&room.path().join("two")));
}

/// The most bits of vectors that a child process is given: all that this processor has, then fewer. The variable is read
/// once by a process, so every length has its own.
const LENGTHS: [Option<&str>; 4] = [None, Some("512"), Some("256"), Some("128")];

#[test]
fn vectors_of_any_length_train_evaluate_and_sample_the_same_bits() {
    for network in [&[][..], ENCODER] {
        let results = LENGTHS.map(|bits| {
            let room = Room::new();
            room.write("text.txt", &"the sea is wide and the ship is small\n".repeat(60));
            let variables = bits.map(|bits| ("SUBMASK_VECTOR_BITS", bits));
            let call = |arguments: &[&str]| room.call_in(arguments, b"", variables.as_slice());
            let settings = tiny(SETTINGS);
            let train = ["train", "--data", "text.txt", "--steps", "60", "--out", "run"];
            let said = call(&[&train[..], network, &["--set"], &settings].concat());
            assert!(said.starts_with("exit code: 0\n"), "{said}");
            let evaluated = call(&["eval", "run", "--draws", "3", "--json"]);
            let sampled = call(&["sample", "run", "--num", "3", "--seed", "5", "--json"]);
            (state(&room.path().join("run")), evaluated, sampled)
        });
        for (bits, (weights, evaluated, sampled)) in LENGTHS.iter().zip(&results) {
            assert!(*weights == results[0].0, "weights with {bits:?}");
            assert!(evaluated.starts_with("exit code: 0\n"), "{evaluated}");
            assert_eq!(*evaluated, results[0].1, "{bits:?}");
            assert_eq!(*sampled, results[0].2, "{bits:?}");
        }
    }
}

#[test]
fn a_length_of_vectors_that_there_is_not_is_refused() {
    let room = Room::new();
    for bits in ["", "64", "AVX2"] {
        let said = room.call_in(&["bench"], b"", &[("SUBMASK_VECTOR_BITS", bits)]);
        assert!(said.starts_with("exit code: ") && !said.starts_with("exit code: 0"), "{said}");
        assert!(said.contains("SUBMASK_VECTOR_BITS") && said.contains("128, 256 or 512"), "{said}");
    }
}

#[test]
fn the_encoder_learns_and_resumes_to_the_same_weights() {
    let room = Room::new();
    room.write("text.txt", &"the sea is wide and the ship is small\n".repeat(60));
    let with = |more: &[&'static str]| [ENCODER, &["train.learning_rate=1e-2"], more].concat();
    finishes(train(&room, "straight", &with(&["--steps", "60", "--threads", "1"])));
    finishes(train(&room, "longer", &with(&["--steps", "30", "--threads", "2"])));
    finishes(train(&room, "longer", &with(&["--steps", "60", "--threads", "2", "--resume"])));
    let run = room.path().join("straight");
    assert!(state(&run) == state(&room.path().join("longer")), "30 steps and 30 more");

    let metrics = std::fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let losses: Vec<f64> = metrics
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).unwrap()["loss_nats_per_token"].as_f64())
        .collect();
    let mean = |losses: &[f64]| losses.iter().sum::<f64>() / losses.len() as f64;
    let (first, last) = (mean(&losses[..15]), mean(&losses[45..]));
    println!("mean loss of steps 1 to 15: {first:.3}, of steps 46 to 60: {last:.3} nats per token");
    assert!(losses.len() == 60 && last < 0.75 * first);
}

#[test]
fn samples_and_figures_depend_neither_on_the_batch_nor_on_the_threads() {
    let sample = ["sample", "run", "--num", "9", "--seed", "5", "--temperature", "0.9", "--json"];
    let evaluate = ["eval", "run", "--draws", "3", "--json"];
    for network in [&[], ENCODER] {
        let (room, _) = trained(network);
        for call in [&sample[..], &evaluate] {
            let with =
                |batch, threads| room.call(&[call, &["--batch", batch, "--threads", threads]].concat());
            let expected = with("1", "1");
            assert!(expected.starts_with("exit code: 0\n"), "{expected}");
            for (batch, threads) in [("8", "1"), ("1", "2"), ("8", "2"), ("3", "2")] {
                assert_eq!(with(batch, threads), expected, "batch {batch}, {threads} threads");
            }
        }
    }
}
