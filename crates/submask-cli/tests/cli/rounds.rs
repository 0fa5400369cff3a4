//! A whole round: train, stop, resume, describe, evaluate, sample, plot. Figures differ between machines in
//! their last digits, so what is compared is their form.

use serde_json::Value;

use super::Room;

/// Settings of a run that takes a moment.
const TINY: &[&str] = &[
    "tokenizer.kind=bytes",
    "model.hidden=16",
    "model.heads=2",
    "model.blocks=1",
    "model.cond_dim=8",
    "model.seq_len=16",
    "data.valid_fraction=0.2",
    "train.batch_size=4",
    "train.log_every=1",
    "train.validate_every=4",
    "train.validate_sequences=4",
    "train.final_sequences=4",
    "train.checkpoint_every=2",
    "train.warmup_steps=1",
    "sample.steps=8",
];

/// Arguments of `train` for an encoder: 16 is no multiple of 3, and two heads share a key and a value.
pub const ENCODER: &[&str] = &[
    "--subtokens",
    "3",
    "--set",
    "model.network=encoder",
    "model.embedding=per-digit-concatenated",
    "model.query_groups=1",
    "model.intermediate=24",
];

/// The tiny settings and `more`, which take the place of those with the same key.
pub fn tiny<'a>(more: &[&'a str]) -> Vec<&'a str> {
    let key = |setting: &'a str| setting.split_once('=').map_or(setting, |(key, _)| key);
    let kept = TINY.iter().copied().filter(|setting| !more.iter().any(|other| key(other) == key(setting)));
    kept.chain(more.iter().copied()).collect()
}

/// A folder with a run of four steps in `run`, and what training it said.
pub fn trained(more: &[&str]) -> (Room, String) {
    let room = Room::new();
    room.write("text.txt", &"the sea is wide and the ship is small\n".repeat(60));
    let mut arguments = vec!["train", "--data", "text.txt", "--out", "run", "--steps", "4"];
    arguments.extend(more);
    arguments.push("--set");
    arguments.extend(TINY);
    let said = room.call(&arguments);
    (room, said)
}

/// Standard output, after a call that succeeded.
pub fn stdout(said: &str) -> &str {
    let rest = said.strip_prefix("exit code: 0\n----- stdout -----\n");
    rest.and_then(|rest| rest.split_once("----- stderr -----\n")).unwrap_or_else(|| panic!("{said}")).0
}

pub fn json(said: &str) -> Value {
    serde_json::from_str(stdout(said)).unwrap()
}

/// Every figure has all its fields; the two parts of its error are there both or not at all.
fn check_figures(result: &Value) {
    let figures = result["figures"].as_array().unwrap();
    assert!(!figures.is_empty());
    for figure in figures {
        let mut fields: Vec<_> = figure.as_object().unwrap().keys().map(String::as_str).collect();
        let (all, parts) = (fields.len(), ["draw_error", "sequence_error"]);
        fields.retain(|field| !parts.contains(field));
        assert_eq!(fields, ["evaluations", "kind", "name", "standard_error", "unit", "value"]);
        assert!([0, 2].contains(&(all - fields.len())), "{figure}");
        assert!(["exact", "upper_bound", "surrogate"].contains(&figure["kind"].as_str().unwrap()));
    }
}

#[test]
fn a_run_from_start_to_sample() {
    let (room, said) = trained(&[]);
    assert!(stdout(&said).starts_with("run/checkpoints/step-4\n\nMeans over "), "{said}");
    for line in ["\nstart  ", "\nstep  4/4  loss ", "\nvalid  4/4  nelbo_subtoken ", "\nsample  4/4  "] {
        assert!(said.contains(line), "{line} in {said}");
    }
    assert!(said.contains("surrogate, no likelihood"), "{said}");

    // The run has its tokens: the corpus may be gone.
    std::fs::remove_file(room.path().join("text.txt")).unwrap();
    let said = room.call(&["train", "--out", "run", "--resume", "--steps", "6"]);
    assert!(stdout(&said).starts_with("run/checkpoints/step-6\n"), "{said}");
    assert!(said.contains("step 4/6\n"), "{said}");

    let info = json(&room.call(&["info", "run", "--json"]));
    assert_eq!((&info["kind"], &info["step"], &info["steps"]), (&"run".into(), &6.into(), &6.into()));
    check_figures(&info);
    assert_eq!(json(&room.call(&["info", "run/checkpoints/step-6", "--json"]))["kind"], "model");

    let said = room.call(&["plot", "run"]);
    assert!(stdout(&said).contains("run/plots/validation-joint-objective-nats-per-token.svg\n"), "{said}");
}

#[test]
fn a_run_that_gets_worse_ends_early_and_keeps_its_best() {
    let worse = [
        "train.keep_best=true",
        "train.patience=2",
        "train.validate_every=1",
        "train.validate_samples=0",
        "train.keep_checkpoints=1",
        "train.learning_rate=0.5",
        "train.ema_decay=0.1",
    ];
    let (room, _) = trained(&[]);
    let arguments = ["train", "--data", "text.txt", "--out", "worse", "--steps", "20", "--set"];
    let said = room.call(&[&arguments[..], &tiny(&worse)].concat());
    assert!(stdout(&said).contains("Finished early, after step "), "{said}");
    assert!(
        said.contains("\nearly  ") && said.contains(": submask sample worse --checkpoint best\n"),
        "{said}"
    );

    let info = json(&room.call(&["info", "worse", "--json"]));
    let (step, best) = (info["step"].as_u64().unwrap(), info["best"]["step"].as_u64().unwrap());
    assert_eq!((&info["finished_early"], &info["best"]["validations_since"]), (&true.into(), &2.into()));
    assert_eq!((step, &info["checkpoints"]), (best + 2, &serde_json::json!([step, best])));
    assert_eq!(info["best"]["checkpoint"], format!("worse/checkpoints/step-{best}"));

    let eval = |model: &str, which: &str| json(&room.call(&["eval", model, "--checkpoint", which, "--json"]));
    let folder = format!("worse/checkpoints/step-{best}");
    assert_eq!(eval("worse", "best"), eval(&folder, "newest"));
    assert_eq!(eval("worse", "best"), eval("worse", &best.to_string()));
    assert_ne!(eval("worse", "best")["figures"], eval("worse", "newest")["figures"]);
    for (model, which, problem) in [
        ("worse", "99", "--checkpoint = 99 is not allowed: one that is kept: "),
        (&*folder, "best", "--checkpoint = best is not allowed: nothing: "),
    ] {
        let said = room.call(&["export", model, "--checkpoint", which, "--to", "out"]);
        assert!(said.starts_with("exit code: 2\n") && said.contains(problem), "{said}");
    }
    // Nothing more is done until there is more patience.
    let said = room.call(&["train", "--out", "worse", "--resume"]);
    assert!(stdout(&said).contains(&format!("Finished early, after step {step} of 20")), "{said}");
    let said = room.call(&["train", "--out", "worse", "--resume", "--set", "train.patience=0"]);
    assert!(stdout(&said).starts_with("worse/checkpoints/step-20\n"), "{said}");
}

#[test]
fn every_estimator_says_what_it_is() {
    let (room, _) = trained(&["--subtokens", "2"]);
    for (estimator, kind) in [
        ("nelbo-subtoken", "upper_bound"),
        ("nelbo-token", "upper_bound"),
        ("path", "upper_bound"),
        ("exact", "exact"),
        ("orders", "upper_bound"),
        ("joint-objective", "surrogate"),
    ] {
        let said = room.call(&["eval", "run", "--estimator", estimator, "--sequences", "3", "--json"]);
        let result = json(&said);
        check_figures(&result);
        assert_eq!(result["sequences"], 3);
        assert!(result["figures"].as_array().unwrap().iter().all(|figure| figure["kind"] == kind));
        // One value per sequence, whose sum is that of the figure.
        let values = result["by_sequence"].as_array().unwrap();
        let sum = |key: &str| values.iter().map(|value| value[key].as_f64().unwrap()).sum::<f64>();
        let mut per_token = result["figures"].as_array().unwrap().iter();
        let per_token = per_token.find(|figure| figure["unit"] == "nats per token").unwrap();
        let ratio = sum("nats") / sum("tokens");
        assert!((ratio - per_token["value"].as_f64().unwrap()).abs() < 1e-9 * ratio, "{result}");
        assert_eq!((values.len(), values[2]["index"].as_u64()), (3, Some(2)));
        let perplexity = stdout(&said).contains("perplexity");
        assert_eq!(perplexity, kind != "surrogate", "the joint objective is no likelihood");
    }
}

#[test]
fn orders_have_samples_and_likelihoods() {
    let (room, _) = trained(&["--subtokens", "2"]);
    for order in ["left-to-right", "confidence", "margin", "entropy"] {
        let units = ["--order", order, "--unit", "subtoken", "--per-step", "3"];
        let exact = ["eval", "run", "--estimator", "exact", "--sequences", "2", "--json"];
        let result = json(&room.call(&[&exact[..], &units].concat()));
        check_figures(&result);
        let name = format!("exact_{}", order.replace('-', "_"));
        assert_eq!(result["figures"][0]["name"].as_str().unwrap().split(' ').next(), Some(&*name));
        assert_eq!(
            (&result["unit"], &result["per_step"]),
            (&serde_json::json!("subtoken"), &serde_json::json!(3))
        );

        let sample = ["sample", "run", "--num", "3", "--length", "8", "--json"];
        let together = json(&room.call(&[&sample[..], &units].concat()));
        let alone = json(&room.call(&[&sample[..], &units, &["--batch", "1", "--threads", "1"]].concat()));
        assert_eq!(together, alone, "a text does not depend on its neighbours");
        // 14 sub-tokens behind the end of text, 3 at once.
        assert_eq!(together["cost"]["evaluations"], 3 * 5);
    }
    let random = ["eval", "run", "--estimator", "exact", "--order", "random"];
    for (arguments, problem) in [
        (&random[..], "--order random has no exact likelihood"),
        (&["eval", "run", "--order", "margin"], "--order"),
        (&["sample", "run", "--per-step", "2"], "--per-step has no meaning with --order random"),
        (
            &["sample", "run", "--order", "margin", "--steps", "4"],
            "--steps has no meaning with --order margin",
        ),
        (&["sample", "run", "--order", "best"], "--order <ORDER>"),
        (&["sample", "run", "--order", "margin", "--per-step", "0"], "--per-step <N>"),
    ] {
        let said = room.call(arguments);
        assert!(said.starts_with("exit code: 2\n") && said.contains(problem), "{said}");
    }
    let (room, _) = trained(&["--set", "model.network=autoregressive"]);
    let said = room.call(&["sample", "run", "--order", "entropy"]);
    assert!(said.starts_with("exit code: 2\n") && said.contains("writes from left to right"), "{said}");
    for arguments in [
        &["sample", "run", "--per-step", "2"][..],
        &["eval", "run", "--estimator", "exact", "--per-step", "2"],
    ] {
        let said = room.call(arguments);
        assert!(said.starts_with("exit code: 2\n") && said.contains("an autoregressive model"), "{said}");
    }
    let steps = u64::MAX.to_string();
    let (room, _) = trained(&[]);
    let said = room.call(&["eval", "run", "--estimator", "path", "--steps", &steps]);
    assert!(said.starts_with("exit code: 2\n") && said.contains("--steps = "), "{said}");
}

#[test]
fn every_way_of_sampling_is_one_of_texts_too() {
    let (room, _) = trained(&["--subtokens", "2", "--set", "sample.steps=8", "sample.corrector=[4, 0.5, 1]"]);
    let sample = |flags: &[&str]| room.call(&[&["sample", "run", "--length", "8", "--json"], flags].concat());
    let cost = |flags: &[&str]| json(&sample(flags))["cost"].clone();
    // A corrector looks at every step, and whole tokens are revealed without one only.
    assert_eq!(cost(&[])["evaluations"], 8);
    assert_eq!(cost(&["--corrector", "off", "--unit", "token", "--draw", "marginal"])["jumps"], 0);
    cost(&["--warp", "1,0.5,0", "--temperature", "-0.2,2,1", "--carry-over", "false", "--top-p", "0.9"]);
    // A nucleus without the crossing token leaves the first of these tokens alone.
    let tokens = |flags: &[&str]| json(&sample(flags))["samples"].clone();
    let exclusive = tokens(&["--top-p", "0.000001", "--nucleus", "exclusive"]);
    assert_eq!(exclusive, tokens(&["--top-p", "0.000001", "--nucleus", "inclusive"]));
    assert_ne!(tokens(&["--top-p", "0.9", "--nucleus", "exclusive"]), exclusive);
    for (flags, message) in [
        (&["--unit", "token"][..], "--corrector = given is not allowed"),
        (&["--warp", "1,2,3"], "--warp = [1.0, 2.0, 3.0] is not allowed"),
        (&["--top-p", "0"], "--top-p = 0 is not allowed"),
        (&["--top-p", "1", "--nucleus", "exclusive"], "--nucleus has no meaning with --top-p 1"),
        (&["--min-entropy", "-1"], "--min-entropy = -1 is not allowed"),
        (
            &["--min-entropy", "4"],
            "--min-entropy = 4 is not allowed: 0, off: texts are stopped after a block",
        ),
        (&["--min-entropy", "4", "--entropy-window", "0"], "--entropy-window = 0 is not allowed"),
        (&["--entropy-window", "9"], "--entropy-window has no meaning with --min-entropy 0"),
        (&["--temperature", "-1"], "--temperature = -1 is not allowed"),
        (&["--sampler", "cifar10-prime-l2-nfe512"], "--sampler has a meaning for images and points only"),
        (&["--label", "3"], "--label has a meaning for images only"),
    ] {
        let said = sample(flags);
        assert!(said.starts_with("exit code: 2\n") && said.contains(message), "{flags:?}: {said}");
    }
    let said = room.call(&["train", "--out", "run", "--resume", "--preset", "emoji"]);
    assert!(said.contains("--preset emoji is of images, and run is of text"), "{said}");
    let said = room.call(&["train", "--init", "run", "--preset", "toy", "--out", "new"]);
    assert!(said.contains("--preset toy is of points, and run is of text"), "{said}");
}

#[test]
fn given_text_is_read_as_the_run_read_its_own() {
    let (room, _) = trained(&["--set", "data.split=line"]);
    let eval = |model: &str, more: &[&str]| {
        room.call(&[&["eval", model, "--data", "text.txt", "--sequences", "2"], more].concat())
    };
    let said = eval("run", &[]);
    assert!(stdout(&said).starts_with("nelbo_subtoken "), "{said}");
    let run = "run/settings.toml";
    assert!(said.contains(&format!("data  split = line (as {run}), field = text (as {run})\n")), "{said}");
    assert!(!said.contains("sequences are cut"), "{said}");
    let said = eval("run", &["--split", "paragraph", "--field", "body"]);
    assert!(said.contains("data  split = paragraph (--split), field = body (--field)\n"), "{said}");

    // A copy of the model knows neither.
    std::fs::create_dir(room.path().join("model")).unwrap();
    for name in ["config.json", "model.safetensors"] {
        let from = room.path().join("run/checkpoints/step-4").join(name);
        std::fs::copy(from, room.path().join("model").join(name)).unwrap();
    }
    let said = eval("model", &["--split", "line"]);
    assert!(stdout(&said).starts_with("nelbo_subtoken "), "{said}");
    assert!(
        said.contains("split = line (--split), field = text (default: the model is in no run)"),
        "{said}"
    );
    assert!(said.contains("data  sequences are cut without end of text at their ends: "), "{said}");

    for (arguments, problem) in [
        (&["eval", "run", "--split", "line"][..], "--data <PATH>"),
        (
            &["eval", "run", "--data", "run/data", "--split", "line"],
            "--split has no meaning for prepared data",
        ),
    ] {
        let said = room.call(arguments);
        assert!(said.starts_with("exit code: 2\n") && said.contains(problem), "{said}");
    }
}

#[test]
fn samples_fill_the_holes_of_a_prompt() {
    let (room, _) = trained(&[]);
    let sample = |more: &[&str]| room.call(&[&["sample", "run"], more].concat());
    let result = json(&sample(&["--prompt", "sea [[3]] ship", "--num", "3", "--json"]));
    let cost = result["cost"].as_object().unwrap();
    let names: Vec<_> = cost.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        ["evaluations", "idle_steps", "jumps", "jumps_dropped", "positions", "redraws", "sequences", "steps"]
    );
    let count = |name: &str| cost[name].as_u64().unwrap();
    assert_eq!((count("sequences"), count("steps")), (3, 24));
    assert_eq!(count("evaluations") + count("idle_steps"), count("steps"), "idle steps cost nothing");
    let texts: Vec<_> =
        result["samples"].as_array().unwrap().iter().map(|one| one["text"].as_str().unwrap()).collect();
    assert_eq!(texts.len(), 3);
    assert!(texts.iter().all(|text| text.starts_with("sea ")), "{texts:?}");
    let alone = json(&sample(&["--prompt", "sea [[3]] ship", "--num", "1", "--batch", "1", "--json"]));
    assert_eq!(alone["samples"][0]["text"], texts[0], "a text depends neither on --num nor on --batch");

    let said = sample(&["--prompt", "sea [[3]] ship", "--trace", "--steps", "first-hitting"]);
    let traced = stdout(&said);
    assert!(traced.starts_with("evaluation 0/6: 10 clean, 0 partial, 3 masked\n"), "{traced}");
    assert!(
        traced.contains("sea ▁▁▁▁▁▁▁▁▁ ship\n\nevaluation 1/6: 10 clean, 1 partial, 2 masked\n"),
        "{traced}"
    );
    assert!(traced.contains("░1/2░"), "{traced}");

    for (arguments, problem) in [
        (["--prompt", "a [[99]]"], "at most 16 are allowed"),
        (["--prompt", "no hole [[1]] [[*]] "], "nothing can follow"),
        (["--length", "17"], "--length 17 is too long: at most 16"),
        (["--temperature", "-1"], "temperature = -1 is not allowed"),
    ] {
        let said = sample(&arguments);
        assert!(said.starts_with("exit code: 2\n") && said.contains(problem), "{said}");
    }
}

#[test]
fn the_encoder_is_evaluated_and_sampled_as_every_diffusion_model() {
    let (room, said) = trained(ENCODER);
    assert!(stdout(&said).starts_with("run/checkpoints/step-4\n\nMeans over "), "{said}");
    let info = json(&room.call(&["info", "run/checkpoints/step-4", "--json"]));
    assert_eq!(info["config"]["model"]["query_groups"], 1);
    // lm_head, wte and ln_f; in the block two norms, two queries, key and value of width 8, proj, and SwiGLU.
    let parameters = 257 * 16 + 8 * 3 * 5 + 16 + 2 * 16 + 4 * 8 * 16 + 16 * 16 + 3 * 16 * 24;
    assert_eq!(info["parameters"], parameters);

    let result = json(&room.call(&["eval", "run", "--sequences", "2", "--json"]));
    assert_eq!(result["estimator"], "nelbo_subtoken");
    check_figures(&result);
    let sample = ["sample", "run", "--prompt", "sea [[3]] ship", "--num", "2", "--json"];
    let result = json(&room.call(&sample));
    let texts = result["samples"].as_array().unwrap();
    assert!(texts.len() == 2 && texts.iter().all(|text| text["text"].as_str().unwrap().starts_with("sea ")));
}

#[test]
fn the_autoregressive_baseline_is_measured_exactly_and_continues_text() {
    let (room, said) = trained(&["--set", "model.network=autoregressive"]);
    assert!(stdout(&said).contains("(exact, "), "{said}");
    let result = json(&room.call(&["eval", "run", "--sequences", "2", "--json"]));
    assert!(result["figures"].as_array().unwrap().iter().all(|figure| figure["kind"] == "exact"));
    let said = room.call(&["eval", "run", "--draws", "2"]);
    assert!(said.starts_with("exit code: 2\n") && said.contains("nothing is drawn"), "{said}");
    assert!(stdout(&room.call(&["sample", "run", "--prompt", "the"])).starts_with("the"));
    let said = room.call(&["sample", "run", "--prompt", "a [[2]] b"]);
    assert!(said.starts_with("exit code: 2\n") && said.contains("cannot fill a hole"), "{said}");
}

#[test]
fn a_best_checkpoint_that_was_not_kept_is_not_named() {
    let (room, _) = trained(&["--set", "train.patience=9", "train.ema_decay=0"]);
    let resume = |more: &[&str]| {
        stdout(&room.call(&[&["train", "--out", "run", "--resume", "--set"], more].concat())).to_owned()
    };
    // Steps that are too small to change a weight: the validation after step 4 stays the best.
    resume(&["train.steps=8", "train.learning_rate=1e-30", "train.keep_checkpoints=1"]);
    let said = resume(&["train.keep_best=true"]);
    assert!(said.contains("sample it: ") && !said.contains("--checkpoint best"), "{said}");
    let run = json(&room.call(&["info", "run", "--json"]));
    assert_eq!((&run["best"]["step"], &run["best"]["checkpoint"]), (&Value::from(4), &Value::Null), "{run}");
    let said = room.call(&["sample", "run", "--checkpoint", "best"]);
    assert!(said.contains("after step 4, whose checkpoint was not kept"), "{said}");
}
