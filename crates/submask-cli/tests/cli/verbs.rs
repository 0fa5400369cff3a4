//! Verbs on things that are there, or not.

use insta::assert_snapshot;

use super::{Room, submask};

#[test]
fn missing_models() {
    assert_snapshot!(submask(&["sample", "nowhere"]), @r"
    exit code: 1
    ----- stdout -----
    ----- stderr -----
    error: there is no model in nowhere: it does not exist
    hint: give a model folder, a run or a checkpoint; `submask train` makes one
    ");
    let room = Room::new();
    room.write("folder/x.txt", "");
    assert_snapshot!(room.call(&["eval", "folder"]), @r"
    exit code: 1
    ----- stdout -----
    ----- stderr -----
    error: folder is neither a model, nor a run, nor a checkpoint
    hint: a model folder holds config.json, a run holds settings.toml and checkpoints
    ");
    room.write("run/settings.toml", "");
    assert_snapshot!(room.call(&["eval", "run"]), @r"
    exit code: 1
    ----- stdout -----
    ----- stderr -----
    error: the run run has no checkpoint yet
    ");
}

#[test]
fn bad_prompts() {
    assert_snapshot!(submask(&["sample", "m", "--prompt", "a [[x]]"]), @r"
    exit code: 2
    ----- stdout -----
    ----- stderr -----
    error: bad prompt: `[[x]]` is not a hole
    hint: [[5]] is a hole of five tokens, [[*]] one to the end of the sequence, \[[ two brackets
    ");
    assert_snapshot!(submask(&["sample", "m", "--prompt", "a [[3"]), @r"
    exit code: 2
    ----- stdout -----
    ----- stderr -----
    error: bad prompt: `[[` is not closed by `]]`
    hint: [[5]] is a hole of five tokens, [[*]] one to the end of the sequence, \[[ two brackets
    ");
    assert_snapshot!(submask(&["sample", "m", "--prompt", "[[*]] b"]), @r"
    exit code: 2
    ----- stdout -----
    ----- stderr -----
    error: bad prompt: nothing can follow `[[*]]`, which reaches to the end of the sequence
    hint: [[5]] is a hole of five tokens, [[*]] one to the end of the sequence, \[[ two brackets
    ");
    assert_snapshot!(submask(&["sample", "m", "--steps", "0"]), @r"
    exit code: 2
    ----- stdout -----
    ----- stderr -----
    error: invalid value '0' for '--steps <T|first-hitting>': expected a number of at least 1, or first-hitting

    For more information, try '--help'.
    ");
}

#[test]
fn plots_of_a_run() {
    let room = Room::new();
    assert_snapshot!(room.call(&["plot", "run"]), @r"
    exit code: 1
    ----- stdout -----
    ----- stderr -----
    error: cannot read run/metrics.jsonl: No such file or directory (os error 2)
    hint: give the folder of a run, as `submask train` names it
    ");
    let step = r#"{"kind":"step","step":1,"loss_nats_per_token":6.5,"objective":"joint","gradient_norm":1.5,"learning_rate":0.001,"tokens":20480,"tokens_per_second":4000.0}"#;
    room.write("run/metrics.jsonl", &format!("{step}\n"));
    assert_snapshot!(room.call(&["plot", "run"]), @r"
    exit code: 0
    ----- stdout -----
    run/plots/training-loss.png
    run/plots/training-loss.svg
    ----- stderr -----
    ");
    assert_snapshot!(room.call(&["plot", "run", "--out", "charts"]), @r"
    exit code: 0
    ----- stdout -----
    charts/training-loss.png
    charts/training-loss.svg
    ----- stderr -----
    ");
}

#[test]
fn a_run_is_described_by_its_newest_checkpoint() {
    let room = Room::new();
    room.write("run/settings.toml", "");
    room.write("run/checkpoints/step-3/state.json", "{}");
    let step = r#"{"kind":"step","step":5,"loss_nats_per_token":6.5,"objective":"joint","gradient_norm":1.5,"learning_rate":0.001,"tokens":20480,"tokens_per_second":4000.0}"#;
    room.write("run/metrics.jsonl", &format!("{step}\n"));
    let said = room.call(&["info", "run", "--json"]);
    assert!(said.starts_with("exit code: 0\n") && said.contains("\"step\": 3,"), "{said}");
    room.write("run/metrics.jsonl", "nonsense\n");
    let said = room.call(&["info", "run"]);
    assert!(said.starts_with("exit code: 1\n"), "{said}");
    assert!(said.contains("error: run/metrics.jsonl is damaged\n  caused by: line 1: "), "{said}");
}

#[test]
fn corpora_are_counted() {
    let room = Room::new();
    room.write("text.txt", "one\ntwo é\n");
    assert_snapshot!(room.call(&["data", "info", "text.txt"]), @r"
    exit code: 0
    ----- stdout -----
    kind        texts
    path        text.txt
    bytes       11
    characters  10
    documents   1
    ----- stderr -----
    ");
    assert_snapshot!(room.call(&["data", "info", "text.txt", "--json"]), @r#"
    exit code: 0
    ----- stdout -----
    [
      {
        "bytes": 11,
        "characters": 10,
        "documents": 1,
        "kind": "texts",
        "path": "text.txt"
      }
    ]
    ----- stderr -----
    "#);
    assert_snapshot!(room.call(&["data", "info", "no.txt"]), @r"
    exit code: 1
    ----- stdout -----
    ----- stderr -----
    error: no.txt: No such file or directory (os error 2)
    ");
}

#[test]
fn corpora_are_prepared_once() {
    let room = Room::new();
    room.write("text.txt", &"the sea is wide and the ship is small ".repeat(50));
    let prepare = ["data", "prepare", "--data", "text.txt", "--set", "tokenizer.kind=text8", "--out", "d"];
    assert_snapshot!(room.call(&prepare), @r"
    exit code: 0
    ----- stdout -----
    kind                           prepared data
    path                           d
    tokenizer_fingerprint          9ba5864df60fac41
    vocab_size                     27
    held_out.by                    position
    held_out.documents             1
    held_out.split_by_position     1
    held_out.whole_for_validation  0
    train.characters               1862
    train.documents                1
    train.shards                   1
    train.tokens                   1862
    valid.characters               38
    valid.documents                1
    valid.shards                   1
    valid.tokens                   38
    ----- stderr -----
    data  counting documents: 0 documents
    data  writing tokens: 0 documents, 0 %
    data  held out: the end of the only document; 38 tokens, 2.0 % of all, 0 sequences of 128
    data  warning: what is held out is small: figures of fewer than 16 sequences are rough; give more text, a larger data.valid_fraction, or files of its own by --valid
    data  warning: what is trained on is small: 14 sequences of 128
    ");
    assert_snapshot!(room.call(&prepare), @r"
    exit code: 0
    ----- stdout -----
    kind                           prepared data
    path                           d
    tokenizer_fingerprint          9ba5864df60fac41
    vocab_size                     27
    held_out.by                    position
    held_out.documents             1
    held_out.split_by_position     1
    held_out.whole_for_validation  0
    train.characters               1862
    train.documents                1
    train.shards                   1
    train.tokens                   1862
    valid.characters               38
    valid.documents                1
    valid.shards                   1
    valid.tokens                   38
    ----- stderr -----
    data  d was prepared already
    data  held out: the end of the only document; 38 tokens, 2.0 % of all, 0 sequences of 128
    data  warning: what is held out is small: figures of fewer than 16 sequences are rough; give more text, a larger data.valid_fraction, or files of its own by --valid
    data  warning: what is trained on is small: 14 sequences of 128
    ");
    assert_snapshot!(room.call(&["data", "info", "d", "--verify", "--json"]), @r#"
    exit code: 0
    ----- stdout -----
    [
      {
        "held_out": {
          "by": "position",
          "documents": 1,
          "split_by_position": 1,
          "whole_for_validation": 0
        },
        "kind": "prepared data",
        "path": "d",
        "tokenizer_fingerprint": "9ba5864df60fac41",
        "train": {
          "characters": 1862,
          "documents": 1,
          "shards": 1,
          "tokens": 1862
        },
        "valid": {
          "characters": 38,
          "documents": 1,
          "shards": 1,
          "tokens": 38
        },
        "vocab_size": 27
      }
    ]
    ----- stderr -----
    "#);
    assert_snapshot!(room.call(&["info", "d/train-00000.tokens"]), @r"
    exit code: 0
    ----- stdout -----
    kind                   token shard
    path                   d/train-00000.tokens
    characters             1862
    documents              1
    token_bytes            2
    tokenizer_fingerprint  9ba5864df60fac41
    tokens                 1862
    vocab_size             27
    ----- stderr -----
    ");
}

#[test]
fn settings_are_described() {
    let room = Room::new();
    room.write("my.toml", "[train]\nsteps = 5\n");
    let said = room.call(&["info", "my.toml"]);
    let steps = said.lines().find(|line| line.starts_with("settings.train.steps "));
    assert!(steps.is_some_and(|line| line.ends_with(" 5")), "{said}");
}

const SMALL: [&str; 9] = [
    "--set",
    "model.hidden=16",
    "model.heads=2",
    "model.blocks=1",
    "model.seq_len=8",
    "tokenizer.vocab_size=300",
    "model.cond_dim=8",
    "train.batch_size=2",
    "sample.steps=4",
];

#[test]
fn bench_measures_three_things() {
    let said = submask(&[&["bench", "--device", "cpu", "--json"][..], &SMALL].concat());
    let json = said.split_once("----- stdout -----\n").unwrap().1.split_once("----- stderr").unwrap().0;
    let result: serde_json::Value = serde_json::from_str(json).unwrap();
    assert_eq!(result["device"], "CPU");
    assert_eq!(result["vocab_size"], 300);
    let lines = result["lines"].as_array().unwrap();
    assert_eq!(lines.len(), 3);
    for line in lines {
        let [milliseconds, rate] =
            ["milliseconds", "tokens_per_second"].map(|key| line[key].as_f64().unwrap());
        let tokens = milliseconds * 1e-3 * rate;
        assert!(milliseconds > 0.0 && (tokens - tokens.round()).abs() < 1e-6, "{line}");
    }
    // A step of the grid either reveals something, which takes an evaluation, or is idle.
    let steps = ["evaluations", "idle_steps"].map(|key| lines[2][key].as_u64().unwrap());
    assert_eq!(steps.iter().sum::<u64>(), 4, "{}", lines[2]);
    assert!(submask(&[&["bench"][..], &SMALL].concat()).contains("300, ℓ 2: "));
}

#[test]
fn devices_that_are_not_there_are_refused() {
    let said = submask(&["bench", "--device", "gpu:99"]);
    assert!(
        said.starts_with("exit code: 2\n") && said.contains("device = gpu:99 is not allowed: auto"),
        "{said}"
    );
    let said = submask(&["bench", "--device", "tpu"]);
    assert!(said.starts_with("exit code: 2\n") && said.contains("auto, cpu, or gpu:N"), "{said}");
    let said = submask(&["bench", "--preset", "emoji"]);
    assert!(said.starts_with("exit code: 2\n") && said.contains("--preset emoji"), "{said}");
}

#[test]
fn a_precision_is_computed_in_or_refused() {
    let said = submask(&["bench", "--precision", "fp8"]);
    assert!(said.starts_with("exit code: 2\n") && said.contains("fp32, tf32 or bf16"), "{said}");
    let said = submask(&[&["bench", "--device", "cpu", "--precision", "tf32"][..], &SMALL].concat());
    assert!(
        said.starts_with("exit code: 2\n") && said.contains("tf32 is of NVIDIA's GPUs through CUDA"),
        "{said}"
    );
    // What happens depends on the processor, but it never computes in another precision than it says.
    let said = submask(&[&["bench", "--device", "cpu", "--precision", "bf16"][..], &SMALL].concat());
    let refused =
        said.starts_with("exit code: 2\n") && said.contains("precision = bf16 is not allowed: fp32");
    assert!(refused || said.contains("device CPU, bf16, "), "{said}");
    assert!(submask(&[&["bench", "--device", "cpu"][..], &SMALL].concat()).contains("device CPU, fp32, "));
}
