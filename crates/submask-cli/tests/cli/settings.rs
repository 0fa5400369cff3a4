//! What is refused before anything is done.

use insta::assert_snapshot;

use super::{Room, submask};

#[test]
fn a_temperature_is_a_number_or_three() {
    let room = Room::new();
    room.write("toy.toml", "[data]\nkind = \"density\"\n[sample]\ntemperature = 0.5\n");
    room.write("text.toml", "[sample]\ntemperature = [0.5, 2.0, 0.1]\n");
    for file in ["toy.toml", "text.toml"] {
        let said = room.call(&["info", file]);
        assert!(said.starts_with("exit code: 0\n"), "{said}");
    }
    room.write("text.toml", "[sample]\ntemperature = [0.5]\n");
    let said = room.call(&["info", "text.toml"]);
    assert!(said.starts_with("exit code: 2\n") && said.contains("`sample.temperature` = [0.5]"), "{said}");
}

#[test]
fn a_later_choice_replaces_that_of_a_file() {
    let room = Room::new();
    let file = "[schedule]\nkind = \"polynomial\"\nexponent = 2.0\n[model]\nnetwork = \"encoder\"\nintermediate = 64\nembedding = \"per-digit-summed\"\n";
    room.write("my.toml", file);
    let train = ["train", "--data", "missing.txt", "--config"];
    for choice in ["schedule.kind=cosine", "schedule.kind=log-linear", "model.network=diffusion"] {
        let said = room.call(&[&train[..], &["my.toml", "--set", choice]].concat());
        assert!(said.contains("missing.txt"), "{choice}: {said}");
    }
    room.write("linear.toml", "[schedule]\nkind = \"linear\"\n");
    let polynomial = ["linear.toml", "--set", "schedule.kind=polynomial", "schedule.exponent=2.5"];
    let said = room.call(&[&train[..], &polynomial].concat());
    assert!(said.contains("missing.txt"), "{said}");
}

#[test]
fn unknown_keys() {
    assert_snapshot!(submask(&["train", "--set", "train.stepz=3"]), @r"
    exit code: 2
    ----- stdout -----
    ----- stderr -----
    error: unknown key `train.stepz` in --set train.stepz=3
    hint: did you mean `train.steps`?
    ");
    assert_snapshot!(submask(&["train", "--set", "steps=3"]), @r"
    exit code: 2
    ----- stdout -----
    ----- stderr -----
    error: unknown key `steps` in --set steps=3
    hint: did you mean `sample.steps` or `train.steps`?
    ");
    let room = Room::new();
    room.write("my.toml", "[model]\nhiden = 64\n");
    assert_snapshot!(room.call(&["train", "--config", "my.toml"]), @r"
    exit code: 2
    ----- stdout -----
    ----- stderr -----
    error: unknown key `model.hiden` in my.toml
    hint: did you mean `model.hidden`?
    ");
}

#[test]
fn wrong_types_and_values() {
    assert_snapshot!(submask(&["train", "--set", "train.steps=many"]), @r#"
    exit code: 2
    ----- stdout -----
    ----- stderr -----
    error: `train.steps` = "many" in --set train.steps=many is text, not a whole number
    hint: write it like train.steps = 5000
    "#);
    assert_snapshot!(submask(&["train", "--set", "train.steps=-1"]), @r"
    exit code: 2
    ----- stdout -----
    ----- stderr -----
    error: `train.steps` = -1 in --set train.steps=-1: a whole number of at least 0 is expected
    ");
    assert_snapshot!(submask(&["train", "--set", "train.decay=linear"]), @r#"
    exit code: 2
    ----- stdout -----
    ----- stderr -----
    error: `train.decay` = "linear" in --set train.decay=linear: unknown variant `linear`, expected `constant` or `cosine`
    "#);
    assert_snapshot!(submask(&["train", "--set", "model=7"]), @r"
    exit code: 2
    ----- stdout -----
    ----- stderr -----
    error: `model` = 7 in --set model=7: this is a section, not a key
    hint: name a key of it, as in model.KEY
    ");
    assert_snapshot!(submask(&["train", "--steps", "0"]), @r"
    exit code: 2
    ----- stdout -----
    ----- stderr -----
    error: train.steps = 0 is not allowed: at least 1
    hint: train.steps stands in --steps 0
    ");
    assert_snapshot!(submask(&["train", "--subtokens", "5"]), @r"
    exit code: 2
    ----- stdout -----
    ----- stderr -----
    error: model.hidden = 192 is not allowed: a multiple of subtoken_len = 5
    ");
    assert_snapshot!(submask(&["train", "--set", "model.heads=5"]), @r"
    exit code: 2
    ----- stdout -----
    ----- stderr -----
    error: model.hidden = 192 is not allowed: a positive multiple of twice the heads (5): every head has an even width
    ");
    assert_snapshot!(submask(&["train", "--set", "model.network=encoder"]), @r"
    exit code: 2
    ----- stdout -----
    ----- stderr -----
    error: model.embedding = concatenated is not allowed: per-digit-summed or per-digit-concatenated: the encoder has one table a digit
    ");
    assert_snapshot!(submask(&["train", "--objective", "best"]), @"
    exit code: 2
    ----- stdout -----
    ----- stderr -----
    error: invalid value 'best' for '--objective <OBJECTIVE>'
      [possible values: joint, marginal, cross-entropy]

    For more information, try '--help'.
    ");
}

#[test]
fn tokenizers_that_cannot_be() {
    assert_snapshot!(submask(&["train", "--set", "tokenizer.kind=tokenizer-json"]), @r#"
    exit code: 2
    ----- stdout -----
    ----- stderr -----
    error: tokenizer.path = "" is not allowed: the file that tokenizer.kind = "tokenizer-json" reads
    "#);
    assert_snapshot!(submask(&["train", "--set", "tokenizer.vocab_size=256"]), @r"
    exit code: 2
    ----- stdout -----
    ----- stderr -----
    error: tokenizer.vocab_size = 256 is not allowed: at least 257: the 256 bytes and end of text
    ");
}

#[test]
fn forms_of_set() {
    assert_snapshot!(submask(&["train", "--set", "train.steps"]), @r"
    exit code: 2
    ----- stdout -----
    ----- stderr -----
    error: --set train.steps: there is no `=`
    hint: write --set KEY=VALUE, such as --set train.steps=100
    ");
    assert_snapshot!(submask(&["train", "--set", "=3"]), @r"
    exit code: 2
    ----- stdout -----
    ----- stderr -----
    error: --set =3: the key is not complete
    hint: write --set KEY=VALUE, such as --set train.steps=100
    ");
    assert_snapshot!(submask(&["train", "--set", "train.seed=1", "train.clip=0"]), @r"
    exit code: 2
    ----- stdout -----
    ----- stderr -----
    error: train.clip = 0 is not allowed: a number above 0
    hint: train.clip stands in --set train.clip=0
    ");
}

#[test]
fn settings_files() {
    let room = Room::new();
    assert_snapshot!(room.call(&["train", "--config", "no.toml"]), @r"
    exit code: 2
    ----- stdout -----
    ----- stderr -----
    error: cannot read the settings no.toml: No such file or directory (os error 2)
    ");
    room.write("bad.toml", "[train\nsteps = 1\n");
    assert_snapshot!(room.call(&["train", "--config", "bad.toml"]), @r"
    exit code: 2
    ----- stdout -----
    ----- stderr -----
    error: bad.toml is not valid TOML: TOML parse error at line 1, column 7
      |
    1 | [train
      |       ^
    unclosed table, expected `]`
    ");
    room.write("wrong.toml", "[train]\nclip = \"high\"\n");
    assert_snapshot!(room.call(&["train", "--config", "wrong.toml"]), @r#"
    exit code: 2
    ----- stdout -----
    ----- stderr -----
    error: `train.clip` = "high" in wrong.toml is text, not a number
    hint: write it like train.clip = 1.0
    "#);
}

#[test]
fn presets() {
    assert_snapshot!(submask(&["train", "--preset", "owt-tini"]), @"
    exit code: 2
    ----- stdout -----
    ----- stderr -----
    error: unknown preset `owt-tini`: there are dictionary, text8, owt-small, owt-tiny, dictionary-block, text8-block, owt-block, emoji, fashion, cifar10, toy
    hint: did you mean `owt-tiny`? A settings file of your own is given by --config
    ");
    assert_snapshot!(submask(&["train", "--preset", "text8"]), @r"
    exit code: 2
    ----- stdout -----
    ----- stderr -----
    error: the preset text8 needs a corpus: only the dictionary is built in
    hint: give files of text, JSON, tables or parquet by --data PATH
    ");
    let room = Room::new();
    room.write("my.toml", "[train]\nsteps = 5\n");
    let said = room.call(&["train", "--preset", "text8", "--config", "my.toml"]);
    assert!(said.contains("the preset text8 needs a corpus"), "{said}");
    assert_snapshot!(submask(&["train", "--data", "nowhere.txt"]), @r"
    exit code: 2
    ----- stdout -----
    ----- stderr -----
    error: data.paths: nowhere.txt does not exist
    hint: paths count from the folder in which submask is called
    ");
}

#[test]
fn blocks_and_intervals_of_times() {
    assert_snapshot!(submask(&["train", "--set", "model.block_len=5"]), @"
    exit code: 2
    ----- stdout -----
    ----- stderr -----
    error: model.block_len = 5 is not allowed: 0 for none, or a divisor of model.seq_len = 128
    hint: model.block_len stands in --set model.block_len=5
    ");
    assert_snapshot!(submask(&["train", "--set", "train.clip_interval=0.5..0.2"]), @r#"
    exit code: 2
    ----- stdout -----
    ----- stderr -----
    error: `train.clip_interval` = "0.5..0.2" in --set train.clip_interval=0.5..0.2: train.clip_interval = "0.5..0.2" is not allowed: "", "search", or an interval of times "a..b" with 0 < a ≤ b ≤ 1, such as "0.3..0.8"
    "#);
    let blocks = ["model.block_len=1", "codes.subtokens=1", "train.clip_interval=0.3..0.8"];
    assert_snapshot!(submask(&[&["train", "--set"], &blocks[..]].concat()), @"
    exit code: 2
    ----- stdout -----
    ----- stderr -----
    error: train.clip_interval = 0.3..0.8 is not allowed: an interval that holds a share k/N with k ≥ 1, where N = 1 is the number of sub-tokens of a block
    hint: train.clip_interval stands in --set train.clip_interval=0.3..0.8
    ");
    let schedule = ["train.clip_interval=search", "schedule.kind=cosine"];
    assert_snapshot!(submask(&[&["train", "--set"], &schedule[..]].concat()), @r#"
    exit code: 2
    ----- stdout -----
    ----- stderr -----
    error: train.clip_interval = search is not allowed: "" unless schedule.kind is "linear", where a time is the expected share of masked digits
    hint: train.clip_interval stands in --set train.clip_interval=search
    "#);
    let room = Room::new();
    room.write("my.toml", "[model]\nblock_len = 32\n[train]\nclip_interval = 'search'\n");
    let said = room.call(&["info", "my.toml"]);
    assert!(said.contains("block_len") && said.contains("32") && said.contains("search"), "{said}");
}

#[test]
fn contradictions() {
    assert_snapshot!(submask(&["train", "--steps", "5", "--set", "train.steps=6"]), @r"
    exit code: 2
    ----- stdout -----
    ----- stderr -----
    error: `--steps 5` and `--set train.steps=6` give train.steps two values: 5 and 6
    hint: leave out one of them
    ");
    assert_snapshot!(submask(&["train", "--resume", "--init", "a"]), @r"
    exit code: 2
    ----- stdout -----
    ----- stderr -----
    error: the argument '--resume' cannot be used with '--init <MODEL>'

    Usage: submask train --resume

    For more information, try '--help'.
    ");
    assert_snapshot!(submask(&["eval", "m", "--steps", "5"]), @r"
    exit code: 2
    ----- stdout -----
    ----- stderr -----
    error: --steps has no meaning without --estimator path
    hint: --estimator path gives the bound of the sampler with T steps
    ");
    assert_snapshot!(submask(&["eval", "m", "--estimator", "exact", "--draws", "5"]), @r"
    exit code: 2
    ----- stdout -----
    ----- stderr -----
    error: --draws has no meaning for --estimator exact: nothing is drawn
    hint: leave out --draws
    ");
    assert_snapshot!(submask(&["sample", "m", "--trace", "--json"]), @r"
    exit code: 2
    ----- stdout -----
    ----- stderr -----
    error: the argument '--trace' cannot be used with '--json'

    Usage: submask sample --trace <MODEL>

    For more information, try '--help'.
    ");
    assert_snapshot!(submask(&["train", "--tui"]), @r"
    exit code: 2
    ----- stdout -----
    ----- stderr -----
    error: --tui needs a terminal
    hint: leave it out: plain lines are written instead
    ");
}

#[test]
fn runs_are_not_overwritten() {
    let room = Room::new();
    room.write("runs/a/settings.toml", "");
    assert_snapshot!(room.call(&["train", "--out", "runs/a"]), @r"
    exit code: 2
    ----- stdout -----
    ----- stderr -----
    error: runs/a exists already
    hint: `submask train --out runs/a --resume` goes on with it; another --out starts anew
    ");
    assert_snapshot!(room.call(&["train", "--out", "runs/a", "--resume"]), @r"
    exit code: 2
    ----- stdout -----
    ----- stderr -----
    error: runs/a has no checkpoint to go on from
    hint: its checkpoints were removed: remove the rest and start again, or choose another --out
    ");
    room.write("runs/a/checkpoints/step-9/config.json", "{}");
    assert_snapshot!(room.call(&["train", "--out", "runs/a", "--resume", "--steps", "8"]), @r"
    exit code: 2
    ----- stdout -----
    ----- stderr -----
    error: train.steps = 8 is not allowed: runs/a has done 9 already
    hint: --steps gives the number of all steps, those done included
    ");
    assert_snapshot!(room.call(&["train", "--out", "runs/b", "--resume"]), @r"
    exit code: 2
    ----- stdout -----
    ----- stderr -----
    error: there is no run in runs/b to go on with
    hint: leave out --resume to start it
    ");
}
