//! The best checkpoint and the early end of a run are the same however often it was cut.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use submask::Compute;
use submask::model::{CheckpointChoice, Model, NetworkConfig};
use submask::train::event::Event;
use submask::train::settings::{RunData, RunSettings, TokenizerChoice};
use submask::train::{Outcome, RunRequest, SETTINGS_FILE, Summary, checkpoint, run};

const STEPS: u64 = 40;

/// A run whose learning rate is far too high, so that its validations become worse.
fn request(folder: &Path, name: &str) -> RunRequest {
    let corpus = folder.join("corpus.txt");
    let words = ["sea", "water", "shore", "a wave", "the tide"];
    let lines: String = (0..200).map(|i| format!("{} and {}\n\n", words[i % 5], words[i / 5 % 5])).collect();
    if !corpus.exists() {
        fs::write(&corpus, lines).unwrap();
    }
    let preset = include_str!("../../../submask-cli/presets/dictionary.toml");
    let mut settings: RunSettings = toml::from_str(preset).unwrap();
    let RunData::Text(data) = &mut settings.data else { panic!("the preset is of text") };
    data.paths = vec![corpus];
    data.valid_fraction = 0.1;
    settings.tokenizer.as_mut().unwrap().kind = TokenizerChoice::Bytes;
    let NetworkConfig::Diffusion(model) = &mut settings.network else { panic!("a diffusion transformer") };
    (model.hidden, model.heads, model.blocks, model.cond_dim, model.seq_len) = (16, 2, 1, 8, 16);
    let train = &mut settings.train;
    (train.steps, train.batch_size, train.warmup_steps, train.ema_decay) = (STEPS, 4, 1, 0.5);
    train.learning_rate = 0.3;
    (train.log_every, train.validate_every, train.checkpoint_every) = (1, 2, 3);
    (train.validate_sequences, train.final_sequences, train.final_draws) = (8, 8, 1);
    (train.validate_samples, train.final_samples, train.keep_checkpoints) = (0, 0, 1);
    (train.keep_best, train.patience) = (true, 3);
    RunRequest { settings, out: folder.join(name), resume: false, init: None, compute: Compute::reference() }
}

fn finish(request: &RunRequest, observer: &mut dyn FnMut(&Event)) -> Summary {
    match run(request, &mut |event: &Event| observer(event), &AtomicBool::new(false)).unwrap() {
        Outcome::Finished(summary) => *summary,
        Outcome::Stopped { step, .. } => panic!("stopped after step {step}"),
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let place = to.join(entry.file_name());
        match entry.path().is_dir() {
            true => copy(&entry.path(), &place),
            false => drop(fs::copy(entry.path(), place).unwrap()),
        }
    }
}

/// Where a run ended, which checkpoints it has, and their files.
fn end(request: &RunRequest, summary: &Summary) -> (u64, bool, Vec<u64>, Vec<Vec<u8>>) {
    let best = summary.best.unwrap();
    let steps = checkpoint::steps(&request.out).unwrap();
    assert_eq!(steps, [summary.step, best.step], "the newest and the best, and no other");
    let file = |step: u64, name| fs::read(checkpoint::folder(&request.out, step).join(name)).unwrap();
    let files =
        steps.iter().flat_map(|step| ["model.safetensors", "state.json"].map(|name| file(*step, name)));
    (summary.step, summary.early, steps.clone(), files.collect())
}

#[test]
fn the_best_checkpoint_and_the_early_end_are_the_same_however_a_run_is_cut() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let whole = request(folder, "whole");
    let mut values = Vec::new();
    let mut ends = 0;
    let summary = finish(&whole, &mut |event| {
        // What a kill right after this step leaves.
        match event {
            Event::Step(record) if whole.out.join(SETTINGS_FILE).exists() => {
                copy(&whole.out, &folder.join(format!("killed-{}", record.step)));
            }
            Event::Validation(record) => values.push((record.step, record.figures[0].value)),
            Event::EndsEarly { .. } => ends += 1,
            _ => {}
        }
    });
    let expected = end(&whole, &summary);
    let best = summary.best.unwrap();
    let (last, others) = values.split_last().unwrap();
    let smallest = others.iter().copied().min_by(|a, b| a.1.total_cmp(&b.1)).unwrap();
    println!("validations {values:?}, best {best:?}");
    assert_eq!((best.step, best.value), smallest);
    assert_eq!((summary.early, ends, best.since, last.0), (true, 1, 3, best.step + 6));
    assert!(best.step > 2 && summary.step < STEPS, "{summary:?}");

    let model = Model::open_checkpoint(&whole.out, CheckpointChoice::Best).unwrap();
    assert_eq!(model.weights(), Model::open(checkpoint::folder(&whole.out, best.step)).unwrap().weights());
    assert_ne!(model.weights(), Model::open(&whole.out).unwrap().weights());

    for step in 1..=summary.step {
        let killed = RunRequest { resume: true, ..request(folder, &format!("killed-{step}")) };
        let resumed = finish(&killed, &mut |_| {});
        assert!(end(&killed, &resumed) == expected, "killed after step {step}");
        // Stopped with a checkpoint after this step.
        let mut stopped = request(folder, &format!("stopped-{step}"));
        let stop = AtomicBool::new(false);
        let mut observe = |event: &Event| {
            if matches!(event, Event::Step(record) if record.step == step) {
                stop.store(true, Ordering::Relaxed);
            }
        };
        assert!(matches!(run(&stopped, &mut observe, &stop).unwrap(), Outcome::Stopped { .. }));
        stopped.resume = true;
        assert!(end(&stopped, &finish(&stopped, &mut |_| {})) == expected, "stopped after step {step}");
    }

    // A run that has ended is evaluated again, and the validation that ended it stays in the metrics.
    let metrics = || fs::read_to_string(whole.out.join("metrics.jsonl")).unwrap();
    let before = metrics();
    let again = RunRequest { resume: true, ..request(folder, "whole") };
    assert!(end(&again, &finish(&again, &mut |_| {})) == expected);
    let start = format!("{{\"kind\":\"validation\",\"step\":{},", summary.step);
    assert_eq!(before.lines().filter(|line| line.starts_with(&start)).count(), 2, "{before}");
    assert_eq!(metrics(), before);

    // More patience, and the run goes on.
    let mut longer = RunRequest { resume: true, ..request(folder, "whole") };
    longer.settings.train.patience = 4;
    let summary = finish(&longer, &mut |_| {});
    assert!(summary.step > expected.0, "{summary:?}");
    longer.settings.train.validate_draws = 2;
    let error = run(&longer, &mut |_: &Event| {}, &AtomicBool::new(false)).unwrap_err().to_string();
    assert!(error.starts_with("train.validate_draws cannot be changed"), "{error}");
}

#[test]
fn a_best_validation_is_forgotten_where_validations_are_not_compared() {
    let folder = tempfile::tempdir().unwrap();
    let mut request = request(folder.path(), "run");
    request.settings.train.steps = 4;
    assert!(finish(&request, &mut |_| {}).best.is_some());
    request.resume = true;
    let train = &mut request.settings.train;
    (train.steps, train.keep_best, train.patience) = (8, false, 0);
    let summary = finish(&request, &mut |_| {});
    let state = fs::read_to_string(summary.checkpoint.join("state.json")).unwrap();
    assert!(summary.best.is_none() && !state.contains("best"), "{state}");
    // Compared again, they are counted from here on.
    let train = &mut request.settings.train;
    (train.steps, train.patience) = (9, 1);
    let best = finish(&request, &mut |_| {}).best.unwrap();
    assert_eq!((best.step, best.since), (9, 0));
}

#[test]
fn the_last_step_may_be_the_best_and_a_run_without_these_settings_keeps_nothing_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut request = request(folder.path(), "run");
    let train = &mut request.settings.train;
    (train.learning_rate, train.steps, train.patience, train.validate_every) = (1e-2, 7, 0, 3);
    let summary = finish(&request, &mut |_| {});
    assert_eq!((summary.early, summary.best.unwrap().step), (false, 7));
    assert_eq!(checkpoint::steps(&request.out).unwrap(), [7]);

    let mut plain = RunRequest { out: folder.path().join("plain"), ..request };
    plain.settings.train.keep_best = false;
    let summary = finish(&plain, &mut |_| {});
    assert!(summary.best.is_none() && !summary.early);
    let state = fs::read_to_string(summary.checkpoint.join("state.json")).unwrap();
    assert!(!state.contains("best"), "{state}");
    let error = Model::open_checkpoint(&plain.out, CheckpointChoice::Best).unwrap_err().to_string();
    assert!(error.contains("train.keep_best"), "{error}");
    let error = Model::open_checkpoint(&plain.out, CheckpointChoice::Step(3)).unwrap_err().to_string();
    assert!(error.ends_with("one that is kept: 7"), "{error}");
    let error = Model::open_checkpoint(&summary.checkpoint, CheckpointChoice::Best).unwrap_err().to_string();
    assert!(error.contains("is one model"), "{error}");
}
