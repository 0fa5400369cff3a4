//! A run whose state stays on the device comes to what a run in memory comes to.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use submask::backbone::autoregressive::AutoregressiveConfig;
use submask::model::{NetworkConfig, checkpoints};
use submask::ops::Engine;
use submask::train::event::Event;
use submask::train::settings::{RunData, RunSettings, TokenizerChoice};
use submask::train::{METRICS_FILE, Outcome, RunRequest, run};
use submask::{Compute, Device};

use crate::fixtures::{hold, places, tolerances};

fn preset(text: &str) -> RunSettings {
    toml::from_str(text).unwrap()
}

/// A run of twelve steps of two micro-batches each, validated and saved in the middle.
fn request(folder: &Path, name: &str, compute: Compute) -> RunRequest {
    let corpus = folder.join("corpus.txt");
    let words = ["sea", "water", "shore", "a wave", "the tide"];
    let lines: String = (0..400).map(|i| format!("{} and {}\n\n", words[i % 5], words[i / 5 % 5])).collect();
    fs::write(&corpus, lines).unwrap();
    let mut settings = preset(include_str!("../../../submask-cli/presets/dictionary.toml"));
    let RunData::Text(data) = &mut settings.data else { panic!("the preset is of text") };
    data.paths = vec![corpus];
    data.valid_fraction = 0.1;
    settings.tokenizer.as_mut().unwrap().kind = TokenizerChoice::Bytes;
    let NetworkConfig::Diffusion(model) = &mut settings.network else { panic!("a diffusion transformer") };
    (model.hidden, model.heads, model.blocks, model.cond_dim, model.seq_len) = (32, 2, 2, 8, 16);
    model.dropout = 0.1;
    let train = &mut settings.train;
    (train.steps, train.batch_size, train.accumulate) = (12, 4, 2);
    (train.log_every, train.validate_every, train.checkpoint_every) = (5, 6, 6);
    (train.validate_sequences, train.final_sequences, train.final_draws) = (4, 8, 1);
    (train.validate_samples, train.final_samples) = (1, 2);
    (train.warmup_steps, train.ema_decay) = (2, 0.5);
    settings.sample.steps = 8;
    RunRequest { settings, out: folder.join(name), resume: false, init: None, compute }
}

/// The losses, the norms and the figures that a run has recorded.
fn recorded(request: &RunRequest) -> Vec<f64> {
    let lines = fs::read_to_string(request.out.join(METRICS_FILE)).unwrap();
    let mut numbers = Vec::new();
    for line in lines.lines() {
        let record: serde_json::Value = serde_json::from_str(line).unwrap();
        let text = line.to_owned();
        let step =
            ["loss_nats_per_token", "gradient_norm"].map(|key| record.get(key).and_then(|x| x.as_f64()));
        numbers.extend(step.into_iter().flatten());
        let figures = record.get("figures").and_then(|figures| figures.as_array());
        let values = figures
            .into_iter()
            .flatten()
            .map(|figure| figure["value"].as_f64().unwrap_or_else(|| panic!("{text}")));
        numbers.extend(values);
    }
    numbers
}

/// Bytes of the last checkpoint's tensors: weights, their average, and the optimiser's moments.
fn state(request: &RunRequest) -> Vec<(String, Vec<u8>)> {
    let folder = checkpoints::folder(&request.out, request.settings.train.steps);
    let mut files: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|file| file.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "safetensors"))
        .map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), fs::read(path).unwrap()))
        .collect();
    files.sort();
    assert_eq!(files.len(), 4);
    files
}

fn finish(request: &RunRequest) {
    let outcome = run(request, &mut |_: &Event| {}, &AtomicBool::new(false)).unwrap();
    assert!(matches!(outcome, Outcome::Finished(_)));
}

#[test]
fn a_run_whose_state_stays_on_the_device_comes_to_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let plain = request(folder.path(), "plain", Compute::reference());
    finish(&plain);
    let expected = recorded(&plain);
    // Three records of steps, two numbers each, and two of validations, of four figures.
    assert_eq!(expected.len(), 3 * 2 + 2 * 4, "{expected:?}");
    for (index, (device, kernels)) in
        places().into_iter().enumerate().filter(|(_, place)| place.1.are_for_gpus())
    {
        // Compositions of a tensor library's operations may add in any order on a GPU.
        let has_fixed_order = device == Device::flex() || kernels.engine() != Engine::Gpu;
        let compute = Compute::with(device, kernels).unwrap();
        let whole = request(folder.path(), &format!("whole-{index}"), compute.clone());
        finish(&whole);
        // The same, stopped after six steps and resumed.
        let mut parts = request(folder.path(), &format!("parts-{index}"), compute);
        let stop = AtomicBool::new(false);
        let mut observe = |event: &Event| {
            if matches!(event, Event::Checkpoint(path) if path.ends_with("step-6")) {
                stop.store(true, Ordering::Relaxed);
            }
        };
        let outcome = run(&parts, &mut observe, &stop).unwrap();
        assert!(matches!(outcome, Outcome::Stopped { step: 6, .. }));
        parts.resume = true;
        finish(&parts);
        for ((name, whole), (_, parts)) in state(&whole).iter().zip(state(&parts)) {
            let same = *whole == parts || !has_fixed_order;
            hold(same, || format!("{name} of a resumed run has other bits, {kernels:?}"));
        }
        let allowed = 10.0 * tolerances(kernels).gradients;
        let agree = |ours: &[f64], theirs: &[f64]| {
            for (ours, theirs) in ours.iter().zip(theirs) {
                let near = (ours - theirs).abs() < allowed * theirs.abs();
                hold(near, || format!("{ours}, not {theirs}, {kernels:?}"));
            }
        };
        let [whole, parts] = [&whole, &parts].map(recorded);
        println!("whole {whole:?}\nin parts {parts:?}");
        assert_eq!((whole.len(), parts.len()), (expected.len(), expected.len()));
        agree(&whole, &expected);
        // A resumed run's first record is of its own steps.
        let last = expected.len() - 4;
        agree(&parts[last..], &expected[last..]);
    }
}

/// Runs of two steps of the networks that other tests do not train on a device: the autoregressive baseline, the U-Net, the
/// toy.
fn short_runs(folder: &Path, name: &str, compute: &Compute) -> [RunRequest; 3] {
    let of_settings = |kind: &str, mut settings: RunSettings| {
        let train = &mut settings.train;
        (train.steps, train.batch_size, train.accumulate, train.validate_every) = (2, 2, 2, 2);
        (train.log_every, train.checkpoint_every, train.warmup_steps) = (1, 2, 1);
        (train.validate_sequences, train.final_sequences, train.final_draws) = (2, 2, 1);
        (train.validate_samples, train.final_samples) = (0, 2);
        settings.sample.steps = 4;
        let out = folder.join(format!("{kind}-{name}"));
        RunRequest { settings, out, resume: false, init: None, compute: compute.clone() }
    };
    let mut text = request(folder, name, compute.clone()).settings;
    text.network = NetworkConfig::Autoregressive(AutoregressiveConfig {
        hidden: 32,
        heads: 2,
        blocks: 2,
        seq_len: 8,
        dropout: 0.1,
    });
    let mut images = preset(include_str!("../../../submask-cli/presets/emoji.toml"));
    let RunData::Images(data) = &mut images.data else { panic!("the preset is of images") };
    (data.height, data.width) = (8, 8);
    let NetworkConfig::Unet(unet) = &mut images.network else { panic!("a U-Net") };
    (unet.model_channels, unet.channel_mult, unet.res_blocks) = (96, vec![1], 1);
    unet.attention_resolutions = vec![1];
    let mut points = preset(include_str!("../../../submask-cli/presets/toy.toml"));
    let RunData::Density(data) = &mut points.data else { panic!("the preset is of a density") };
    data.image = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/toy.png");
    [of_settings("baseline", text), of_settings("images", images), of_settings("points", points)]
}

#[test]
fn short_runs_of_other_networks_come_to_the_same_on_the_device() {
    let folder = tempfile::tempdir().unwrap();
    let expected = short_runs(folder.path(), "plain", &Compute::reference()).map(|request| {
        finish(&request);
        recorded(&request)
    });
    for (index, (device, kernels)) in
        places().into_iter().enumerate().filter(|(_, place)| place.1.are_for_gpus())
    {
        // Of other GPUs a software device would compile shaders for minutes; its operations are those of the CPU's run.
        if device != Device::flex() && kernels.engine() == Engine::Gpu {
            continue;
        }
        let compute = Compute::with(device, kernels).unwrap();
        let requests = short_runs(folder.path(), &index.to_string(), &compute);
        for (request, expected) in requests.iter().zip(&expected) {
            finish(request);
            let found = recorded(request);
            println!("{}: {found:?}, in memory {expected:?}", request.out.display());
            assert_eq!(found.len(), expected.len());
            assert!(expected.len() > 4, "two steps and a figure: {expected:?}");
            let allowed = 10.0 * tolerances(kernels).gradients;
            for (ours, theirs) in found.iter().zip(expected) {
                let near = (ours - theirs).abs() < allowed * theirs.abs();
                hold(near, || format!("{}: {ours}, not {theirs}, {kernels:?}", request.out.display()));
            }
        }
    }
}
