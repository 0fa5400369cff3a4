//! Training by blocks: what does not depend on them, what is the same however a run is cut, and where a run may begin.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use submask::backbone::dit::{Dit, DitConfig};
use submask::backbone::encoder::{Encoder, EncoderConfig};
use submask::backbone::weights::{Init, Weights};
use submask::backbone::{self, Backbone, Context, Digits, Embedding, Inputs, LoadedBackbone};
use submask::data::Batch;
use submask::denoiser::{BlockDenoiser, Denoiser, States};
use submask::model::{Model, Network, NetworkConfig};
use submask::ops::{Kernels, Precision};
use submask::predictive::Predictive;
use submask::random::{Draws, Purpose};
use submask::schedule::Schedule;
use submask::subtoken::SubTokenizer;
use submask::train::event::Event;
use submask::train::settings::{RunData, RunSettings, TokenizerChoice, TrainSettings};
use submask::train::{ClipChoice, LossFunction, Outcome, RunRequest, Slot, checkpoint, run};
use submask::{Compute, Device};

use crate::tiny_networks::{dit_config, encoder_config};

fn preset() -> RunSettings {
    toml::from_str(include_str!("../../../submask-cli/presets/dictionary.toml")).unwrap()
}

fn codes() -> SubTokenizer {
    SubTokenizer::new(20, 2).unwrap()
}

fn dit(block_len: usize, kernels: Kernels) -> Dit {
    let config = dit_config(12, block_len);
    let config = DitConfig { dropout: 0.2, embedding: Embedding::Concatenated, ..config };
    Dit::new(config, &codes(), kernels).unwrap()
}

fn encoder(block_len: usize, kernels: Kernels) -> Encoder {
    let config = EncoderConfig { dropout: 0.2, ..encoder_config(12, block_len) };
    Encoder::new(config, &codes(), kernels).unwrap()
}

fn networks(block_len: usize, kernels: Kernels) -> [Arc<dyn Backbone>; 2] {
    [Arc::new(dit(block_len, kernels)), Arc::new(encoder(block_len, kernels))]
}

/// Weights at which every part of a network matters, also those that are zero at first.
fn values(network: &dyn Backbone) -> Vec<Vec<f32>> {
    let draws = Draws::new(5, Purpose::Init);
    let parameters = network.parameters();
    let value = |p: usize, i: usize| {
        let z = draws.normal(p as u64, i as u32, 0) as f32;
        if parameters[p].init == Init::Ones { 1.0 + 0.2 * z } else { 0.3 * z }
    };
    (0..parameters.len()).map(|p| (0..parameters[p].len()).map(|i| value(p, i)).collect()).collect()
}

fn tokens(count: usize, seed: u64) -> Vec<u32> {
    let draws = Draws::new(seed, Purpose::Point);
    (0..count).map(|i| draws.below(20, 0, i as u32, 0) as u32).collect()
}

/// Loss and gradients of a slot, with dropout.
fn cost(
    network: Arc<dyn Backbone>,
    settings: &TrainSettings,
    batch: &Batch,
    slot: Slot,
) -> (f64, Vec<Vec<f32>>) {
    let (parameters, values) = (network.parameters().to_vec(), values(&*network));
    let predictive = Arc::new(Predictive::new(codes(), true));
    let network = Network::Diffusion(network);
    let loss = LossFunction::new(network, predictive, Schedule::Linear, settings.clone(), 0.2).unwrap();
    loss.loss_and_gradients(&parameters, &values, &Device::flex(), batch, slot).unwrap()
}

#[test]
fn a_block_as_long_as_the_sequence_is_no_block_to_the_bit() {
    let settings = TrainSettings { batch_size: 3, accumulate: 2, ..preset().train };
    for (given, seq_len) in [(vec![], 12), (vec![0, 4, 7], 12), (vec![], 9)] {
        let batch = Batch { x_0: tokens(3 * seq_len, 1), given, ..Batch::default() };
        for clip_interval in ["", "0.3..0.8"] {
            let clip_interval = ClipChoice::try_from(clip_interval.to_owned()).unwrap();
            let settings = TrainSettings { clip_interval, ..settings.clone() };
            let slot = Slot { step: 4, index: 1 };
            let [whole, none, parts] = [12, 0, 3].map(|block_len| {
                networks(block_len, Kernels::FUSED).map(|network| cost(network, &settings, &batch, slot))
            });
            assert!(whole == none, "{seq_len}");
            assert!(parts.iter().zip(&none).all(|(a, b)| a.0 != b.0 && a.1 != b.1), "{seq_len}");
            assert!(none.iter().all(|(loss, _)| loss.is_finite() && *loss > 0.0), "{none:?}");
        }
    }
}

#[test]
fn a_loss_by_blocks_is_the_same_by_all_operations_and_near_in_bf16() {
    let settings = TrainSettings { batch_size: 3, accumulate: 1, ..preset().train };
    let batch = Batch { x_0: tokens(36, 2), given: vec![0, 5, 12], ..Batch::default() };
    let slot = Slot { step: 1, index: 0 };
    let cost = |kernels| networks(4, kernels).map(|network| cost(network, &settings, &batch, slot));
    let [fused, plain] = [Kernels::FUSED, Kernels::PLAIN].map(cost);
    let bf16 = cost(Kernels::FUSED.with_precision(Precision::Bf16).unwrap());
    let off = |a: &[Vec<f32>], b: &[Vec<f32>]| {
        let largest = |x: &mut dyn Iterator<Item = f32>| x.fold(0f32, |most, x| most.max(x.abs()));
        let differences = a.iter().flatten().zip(b.iter().flatten()).map(|(a, b)| a - b);
        largest(&mut { differences }) / largest(&mut b.iter().flatten().copied())
    };
    for (name, other, tolerance) in [("plain", &plain, 1e-5), ("bf16", &bf16, 0.03)] {
        for (a, b) in other.iter().zip(&fused) {
            let off = [((a.0 - b.0) / b.0).abs() as f32, off(&a.1, &b.1)];
            println!("{name}: loss off by {:.1e}, gradients by {:.1e}", off[0], off[1]);
            assert!(off.iter().all(|off| *off < tolerance), "{name}: {off:?}");
        }
    }
    assert!(bf16[0].0 != fused[0].0 && bf16[1].0 != fused[1].0);
}

/// A noisy block reads the known tokens before it and nothing else: alone, among others, and in training.
#[test]
fn a_block_has_the_same_logits_with_a_cache_without_and_among_others() {
    for (kernels, exact) in [(Kernels::FUSED, true), (Kernels::PLAIN, false), (Kernels::GPU, false)] {
        for network in networks(4, kernels) {
            let weights = Weights::new(network.parameters(), &values(&*network), &Device::flex());
            let clean = codes().encode(&tokens(24, 3)).unwrap();
            let (mask, draws) = (codes().mask_id(), Draws::new(1, Purpose::Mask));
            let hidden = |i: usize| draws.uniform(0, i as u32, 0) < 0.6;
            let noisy: Vec<u32> =
                clean.iter().enumerate().map(|(i, digit)| if hidden(i) { mask } else { *digit }).collect();
            let all: Vec<usize> = (0..24).collect();
            let context = Context::Clean(Digits::Host(&clean));
            let inputs = Inputs { y_t: Digits::Host(&noisy), t: &[0.0; 2], labels: None, context };
            let trained = backbone::logits(&*network, &weights, &inputs, &all).unwrap().into_data();
            let trained: Vec<f32> = trained.try_into_vec().unwrap();
            let loaded = LoadedBackbone { network, weights };
            for (sequence, block) in [(0, 0), (0, 2), (1, 1)] {
                let digits = |from: &[u32], tokens: std::ops::Range<usize>| {
                    from[sequence * 24 + 2 * tokens.start..sequence * 24 + 2 * tokens.end].to_vec()
                };
                let (first, end) = (4 * block, 4 * block + 4);
                let own = digits(&noisy, first..end);
                let mut collected = [Vec::new(), Vec::new()];
                let [uncached, cached] = &mut collected;
                let y_t = [digits(&clean, 0..first), own.clone()].concat();
                let states = States { y_t: &y_t, t: &[0.0], labels: None };
                let gather = |into: &mut Vec<f32>, rows: &[f32]| {
                    into.extend_from_slice(rows);
                    Ok(())
                };
                let positions: Vec<usize> = (first..end).collect();
                loaded.evaluate(&states, &positions, &mut |_, rows| gather(uncached, rows)).unwrap();
                let kept = (block > 0).then(|| {
                    // In two parts: the first block, then the others.
                    let kept = loaded.keep(&digits(&clean, 0..4), 1, None).unwrap();
                    match block {
                        1 => kept,
                        _ => loaded.keep(&digits(&clean, 4..first), 1, Some(&kept)).unwrap(),
                    }
                });
                let states = States { y_t: &own, t: &[0.0], labels: None };
                let mut rows = |_: std::ops::Range<usize>, rows: &[f32]| gather(cached, rows);
                loaded.evaluate_after(kept.as_ref(), first, &states, &[0, 1, 2, 3], &mut rows).unwrap();
                let theirs = &trained[(sequence * 12 + first) * 20..(sequence * 12 + end) * 20];
                let near = |a: &[f32], b: &[f32]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-4);
                assert_eq!((collected[0].len(), collected[1].len()), (80, 80));
                match exact {
                    true => assert!(collected[0] == collected[1] && collected[0] == theirs, "{block}"),
                    false => assert!(near(&collected[0], &collected[1]) && near(&collected[0], theirs)),
                }
            }
        }
    }
}

/// A run of a tiny network that is never evaluated, unless `clip_interval` is searched for.
fn request(folder: &Path, name: &str, block_len: usize, clip_interval: &str) -> RunRequest {
    let corpus = folder.join("corpus.txt");
    if !corpus.exists() {
        let words = ["sea", "water", "shore", "a wave", "the tide"];
        let text: String =
            (0..200).map(|i| format!("{} and {}\n\n", words[i % 5], words[i / 5 % 5])).collect();
        fs::write(&corpus, text).unwrap();
    }
    let mut settings = preset();
    let RunData::Text(data) = &mut settings.data else { panic!("the preset is of text") };
    (data.paths, data.valid_fraction) = (vec![corpus], 0.1);
    settings.tokenizer.as_mut().unwrap().kind = TokenizerChoice::Bytes;
    let NetworkConfig::Diffusion(model) = &mut settings.network else { panic!("a diffusion transformer") };
    (model.hidden, model.heads, model.blocks, model.cond_dim, model.seq_len) = (16, 2, 1, 8, 16);
    (model.block_len, model.dropout) = (block_len, 0.1);
    let train = &mut settings.train;
    (train.steps, train.batch_size, train.accumulate, train.warmup_steps) = (STEPS, 2, 2, 1);
    (train.learning_rate, train.ema_decay) = (1e-2, 0.5);
    (train.log_every, train.validate_every, train.checkpoint_every) = (1, 3, 2);
    (train.validate_sequences, train.final_sequences, train.final_draws) = (8, 4, 1);
    (train.validate_samples, train.final_samples, train.keep_checkpoints) = (0, 0, 50);
    train.clip_interval = ClipChoice::try_from(clip_interval.to_owned()).unwrap();
    if clip_interval != "search" {
        train.validate_every = 1000;
    }
    RunRequest { settings, out: folder.join(name), resume: false, init: None, compute: Compute::reference() }
}

/// Steps of a run; they are stopped before the last validation.
const STEPS: u64 = 14;

/// Trains until `last`, and stops there.
fn train_until(request: &RunRequest, last: u64, observer: &mut dyn FnMut(&Event)) -> PathBuf {
    let stop = AtomicBool::new(false);
    let mut observe = |event: &Event| {
        observer(event);
        if matches!(event, Event::Step(record) if record.step == last) {
            stop.store(true, Ordering::Relaxed);
        }
    };
    match run(request, &mut observe, &stop).unwrap() {
        Outcome::Stopped { step, checkpoint } if step == last => checkpoint,
        other => panic!("{other:?}, not stopped after step {last}"),
    }
}

/// The files of a checkpoint that say all of a run's state, and its record of intervals.
fn state(request: &RunRequest, checkpoint: &Path) -> (Vec<Vec<u8>>, Vec<String>) {
    let names = ["raw.safetensors", "model.safetensors", "optimizer_first.safetensors", "state.json"];
    let metrics = fs::read_to_string(request.out.join("metrics.jsonl")).unwrap();
    let clips = metrics.lines().filter(|line| line.contains("\"clip\"")).map(str::to_owned).collect();
    (names.map(|name| fs::read(checkpoint.join(name)).unwrap()).to_vec(), clips)
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

/// A run that is killed after any of its steps, and resumed, ends with the same bits; so does one that is stopped.
fn is_the_same_however_it_is_cut(block_len: usize, clip_interval: &str) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let whole = request(folder, "whole", block_len, clip_interval);
    let last = STEPS - 1;
    let end = train_until(&whole, last, &mut |event| {
        // What a kill right after this step leaves.
        if let Event::Step(record) = event {
            copy(&whole.out, &folder.join(format!("killed-{}", record.step)));
        }
    });
    let expected = state(&whole, &end);
    for step in 1..last {
        for cut in ["killed", "stopped"] {
            let mut request = request(folder, &format!("{cut}-{step}"), block_len, clip_interval);
            if cut == "stopped" {
                train_until(&request, step, &mut |_| {});
            }
            request.resume = true;
            let end = train_until(&request, last, &mut |_| {});
            assert!(state(&request, &end) == expected, "{cut} after step {step}");
        }
    }
    expected.1
}

#[test]
fn a_run_by_blocks_is_the_same_however_it_is_cut() {
    assert!(is_the_same_however_it_is_cut(4, "").is_empty());
    assert!(is_the_same_however_it_is_cut(4, "0.3..0.8").is_empty());
}

#[test]
fn a_run_that_searches_for_its_interval_is_the_same_however_it_is_cut() {
    for block_len in [0, 4] {
        let clips = is_the_same_however_it_is_cut(block_len, "search");
        println!("{clips:#?}");
        assert_eq!(clips.len() as u64, (STEPS - 1) / 3);
        let of = |step: u64| format!("{{\"kind\":\"clip\",\"step\":{step},\"interval\":\"0.");
        assert!(clips.iter().zip(1..).all(|(line, n)| line.starts_with(&of(3 * n))), "{clips:?}");
        assert!(clips.iter().any(|line| !line.contains("\"0.001..1\"")), "{clips:?}");
    }
}

#[test]
fn the_interval_that_was_found_is_used_and_forgotten_where_none_is_searched_for() {
    let folder = tempfile::tempdir().unwrap();
    let mut request = request(folder.path(), "run", 0, "search");
    let mut found = Vec::new();
    let checkpoint = train_until(&request, 3, &mut |event| {
        if let Event::Clip(record) = event {
            found.push(record.interval.to_string());
        }
    });
    let saved = fs::read_to_string(checkpoint.join("state.json")).unwrap();
    assert_eq!(found.len(), 1);
    assert!(saved.contains(&format!("\"clip_interval\": \"{}\"", found[0])), "{saved}");
    let raw = |checkpoint: PathBuf| fs::read(checkpoint.join("raw.safetensors")).unwrap();
    request.resume = true;
    let copies = ["fixed", "whole"].map(|name| {
        copy(&request.out, &folder.path().join(name));
        RunRequest { out: folder.path().join(name), ..request.clone() }
    });
    let searched = raw(train_until(&request, 5, &mut |_| {}));
    let [fixed, whole] =
        [found[0].as_str(), "0.001..1"].map(|text| ClipChoice::try_from(text.to_owned()).unwrap());
    let [mut same, mut other] = copies;
    (same.settings.train.clip_interval, other.settings.train.clip_interval) = (fixed, whole);
    let end = train_until(&same, 5, &mut |_| {});
    assert!(!fs::read_to_string(end.join("state.json")).unwrap().contains("clip_interval"));
    assert!(raw(end) == searched);
    assert_ne!(found[0], "0.001..1", "another interval has less variance");
    assert!(raw(train_until(&other, 5, &mut |_| {})) != searched);
}

#[test]
fn a_run_by_blocks_begins_with_the_weights_of_one_without_and_the_other_way_round() {
    let folder = tempfile::tempdir().unwrap();
    for (from, to) in [(0, 4), (4, 0), (16, 8)] {
        let first = request(folder.path(), &format!("from-{from}-{to}"), from, "");
        let start = train_until(&first, 3, &mut |_| {});
        let second = RunRequest {
            init: Some(start.clone()),
            ..request(folder.path(), &format!("to-{from}-{to}"), to, "")
        };
        train_until(&second, 1, &mut |_| {});
        let begun = checkpoint::folder(&second.out, 0);
        let [averaged, raw, average] =
            [start.join("model.safetensors"), begun.join("raw.safetensors"), begun.join("model.safetensors")]
                .map(|file| fs::read(file).unwrap());
        assert!(averaged == raw && averaged == average, "{from} to {to}");
        let block_len = |folder: &Path| Model::open(folder).unwrap().config().network.block_len();
        assert_eq!((block_len(&start), block_len(&begun)), (from, to));
    }
    let mut timed = request(folder.path(), "timed", 0, "");
    let NetworkConfig::Diffusion(sizes) = &mut timed.settings.network else {
        panic!("a diffusion transformer")
    };
    sizes.time_conditioning = true;
    let start = train_until(&timed, 1, &mut |_| {});
    let blocks = RunRequest { init: Some(start), ..request(folder.path(), "blocks", 4, "") };
    let error = run(&blocks, &mut |_: &Event| {}, &AtomicBool::new(false)).unwrap_err().to_string();
    assert!(error.starts_with("model.time_conditioning differs"), "{error}");
    assert!(!blocks.out.exists());
    let NetworkConfig::Diffusion(sizes) = &mut timed.settings.network else {
        panic!("a diffusion transformer")
    };
    sizes.block_len = 4;
    let error = timed.settings.validate().unwrap_err().to_string();
    assert!(error.starts_with("model.time_conditioning = true is not allowed"), "{error}");
}
