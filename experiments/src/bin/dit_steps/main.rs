//! Our side of the comparison of text networks in `bench/peers/`: training steps, sampling, likelihood bounds, and the
//! distribution of the samples of a small network.
//!
//! `dit_steps prepare CASE FOLDER` writes weights and a masked batch that both sides use. The other verbs print one
//! line of JSON: `train CASE COUNT` the losses of COUNT + 1 steps and the median time of the last COUNT;
//! `evaluate CASE` the sum of the squares of some logits; `sample CASE` the time of a step when the whole grid is gone
//! through; `sample CASE EVALUATIONS` the time of an evaluation when only so many are made; `draw CASE COUNT` how often
//! every sequence was drawn; `bound CASE COUNT` the time of one estimate of the sub-token bound, and the mean and the
//! standard deviation of COUNT. Times are in milliseconds.
//!
//! For a CASE with blocks a training step and `evaluate` read all tokens before a block, and an estimate of `bound` has
//! BLOCK_DRAWS draws per sequence. `evaluate-kept CASE` gives the sum of the squares of the logits of all blocks of a text of
//! 2L tokens, one block after the other, each after what is kept of those before it; `sample-long CASE` the time per token of
//! every quarter of L, of a text of 4L tokens.
//!
//! In the environment, `BF16=1` has matrix products of bfloat16 numbers, `BATCH` is another number of sequences per
//! training step, and `DEVICE` names a device as `--device` does, by default `cpu`. On a GPU weights, moments and gradients
//! stay there, as in a run: steps are clipped and averaged, no step waits for the one before it, and the time is that of
//! COUNT steps and a wait for the device over COUNT; the losses are those of WARM_UP + 1 steps before them. `ROUNDS=1` has
//! `train` and `sample` measure once for each line of standard input. With the cargo
//! feature `cuda`, `profile-train CASE` and `profile-sample CASE EVALUATIONS` print what kernels a GPU ran.

#[path = "../../../../crates/submask-cli/src/allocator.rs"]
mod allocator;

mod blocks;
mod case;

use std::path::Path;
use std::time::Instant;

use burn::tensor::{Device, Tensor};
use submask::backbone::LoadedBackbone;
use submask::backbone::weights::Weights;
use submask::denoiser::{Denoiser, States};
use submask::likelihood::{LikelihoodSettings, Sequences, nelbo_subtoken};
use submask::sampler::{Event, Prompt, SampleSettings, Sampler, Steps};
use submask::train::optimizer::{AdamW, AdamWConfig};
use submask::train::settings::{Decay, RunSettings, TrainSettings};
use submask::train::{Slot, SlotLoss, TrainState, stepper};
use submask_experiments::peers::{Outcome, descend, median};

use case::{Case, Size};

/// `evaluate` asks for one position in so many.
const ASKED: usize = 32;

/// Evaluations before the ones that are timed, and steps before them on a GPU, but for one.
const WARM_UP: usize = 2;

const LEARNING_RATE: f64 = 3e-4;

/// Sequences whose bound is estimated.
const HELD_OUT: usize = 32;

/// Draws per sequence of an estimate of the bound by blocks, which share what is kept of the sequence.
const BLOCK_DRAWS: usize = 8;

impl Case {
    /// Whether state and digits stay on a device.
    fn on_gpu(&self) -> bool {
        *self.compute.device() != Device::flex()
    }

    /// Losses of COUNT + 1 training steps, and the median time of the last COUNT.
    fn train(mut self, count: usize) -> Outcome<serde_json::Value> {
        if self.on_gpu() {
            return self.train_on_gpu(count);
        }
        let mut optimizer = AdamW::new(AdamWConfig::default(), &self.parameters);
        let mut losses = Vec::new();
        let ms = median(count, || {
            let weights = Weights::new(&self.parameters, &self.values, &Device::flex().autodiff());
            let loss = self.loss(&weights)?.ok_or("nothing is masked")?;
            losses.push(descend(loss, &weights, &mut self.values, &mut optimizer, LEARNING_RATE)?);
            Ok(())
        })?;
        Ok(serde_json::json!({ "ms": ms, "losses": losses }))
    }

    /// Losses of the first steps, and the time of one of COUNT after them.
    fn train_on_gpu(mut self, count: usize) -> Outcome<serde_json::Value> {
        let settings = gpu_settings()?;
        let state = TrainState::new(std::mem::take(&mut self.values), settings.adamw, &self.parameters);
        let mut stepper = stepper::open(&settings, &self.parameters, state, &self.compute);
        let (mut losses, mut waited, mut step) = (Vec::new(), Vec::new(), 0);
        let mut next = || {
            step += 1;
            step
        };
        for _ in 0..=WARM_UP {
            let start = Instant::now();
            stepper.step(next(), &self)?;
            losses.push(stepper.report()?.loss);
            waited.push(start.elapsed().as_secs_f64() * 1e3);
        }
        // The first has compiled the kernels.
        let ready = serde_json::json!({
            "losses": losses, "ms_first": waited.first(), "ms_waited": waited.last(),
            "device": self.compute.device_name(),
        });
        in_rounds(ready, || {
            let start = Instant::now();
            for _ in 0..count {
                stepper.step(next(), &self)?;
            }
            let ms_host = start.elapsed().as_secs_f64() * 1e3 / count as f64;
            stepper.sync()?;
            let ms = start.elapsed().as_secs_f64() * 1e3 / count as f64;
            Ok(serde_json::json!({ "ms": ms, "ms_host": ms_host, "device_mb": self.device_megabytes() }))
        })
    }

    /// Kernels of a training step: names, launches, and milliseconds.
    #[cfg(feature = "cuda")]
    fn profile_training(mut self) -> Outcome<serde_json::Value> {
        let settings = gpu_settings()?;
        let state = TrainState::new(std::mem::take(&mut self.values), settings.adamw, &self.parameters);
        let mut stepper = stepper::open(&settings, &self.parameters, state, &self.compute);
        for step in 1..=WARM_UP as u64 {
            stepper.step(step, &self)?;
            stepper.sync()?;
        }
        let launches = submask_experiments::launches::Launches::watch();
        stepper.step(1 + WARM_UP as u64, &self)?;
        stepper.sync()?;
        launches.finish()
    }

    /// Kernels of the first evaluations of the sampler.
    #[cfg(feature = "cuda")]
    fn profile_sampling(mut self, limit: usize) -> Outcome<serde_json::Value> {
        let network = self.loaded();
        self.values.clear();
        self.generate(&network, self.size.samples, 1, Some(limit))?;
        let launches = submask_experiments::launches::Launches::watch();
        self.generate(&network, self.size.samples, 1, Some(limit))?;
        launches.finish()
    }

    /// What the device's allocator has reserved, in MB. It gives nothing back, so that this is its peak.
    fn device_megabytes(&self) -> Option<f64> {
        Some(self.compute.device().memory_pool_usage()?.bytes_reserved as f64 / 1e6)
    }

    /// The sum of the squares of the logits at every 32nd position.
    fn evaluate(&self) -> Outcome<serde_json::Value> {
        let positions: Vec<usize> = (0..self.x_0.len()).step_by(ASKED).collect();
        let mut squares = 0.0;
        let states = States { y_t: &self.y_t, t: &self.sequence_times(), labels: None };
        let network = self.loaded();
        let mut add = |_, logits: &[f32]| {
            squares += sum_of_squares(logits);
            Ok(())
        };
        match network.by_blocks() {
            None => network.evaluate(&states, &positions, &mut add)?,
            Some(blocks) => {
                let kept = blocks.keep(&self.y_0, self.batch, None)?;
                blocks.evaluate_after(Some(&kept), 0, &states, &positions, &mut add)?;
            }
        }
        Ok(serde_json::json!({ "squares": squares }))
    }

    /// Samples `count` sequences, or stops after `limit` evaluations; gives the tokens, if it was not stopped.
    fn generate(
        &self,
        network: &LoadedBackbone,
        count: usize,
        seed: u64,
        limit: Option<usize>,
    ) -> Outcome<Option<Vec<u32>>> {
        let settings = SampleSettings {
            steps: Steps::Grid(self.size.steps),
            seed,
            batch: self.size.samples,
            ..SampleSettings::default()
        };
        let prompts = vec![Prompt::empty(&self.predictive, self.size.seq_len)?; count];
        let mut evaluations = 0;
        let samples = Sampler::new(network, &self.predictive, settings)?.sample_observed(
            &prompts,
            &mut |event: &Event| {
                evaluations += usize::from(matches!(event, Event::Progress(_)));
                if Some(evaluations) != limit {
                    return Ok(());
                }
                // The clock stops when the device is done.
                let waited = self.compute.device().sync().is_ok();
                assert!(waited, "the device failed");
                Err(submask::Error::Interrupted)
            },
        );
        match samples {
            Ok(samples) => Ok(Some(samples.tokens)),
            Err(submask::Error::Interrupted) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Time of a step of the whole grid, or of one of the first `limit` evaluations.
    fn sample(mut self, limit: Option<usize>) -> Outcome<serde_json::Value> {
        let network = self.loaded();
        self.values.clear();
        // A GPU's kernels depend on how many positions are asked for: the same ones as later are compiled.
        let (seed, warm_up) = if self.on_gpu() { (1, limit) } else { (0, Some(WARM_UP)) };
        self.generate(&network, self.size.samples, seed, warm_up)?;
        let ready = serde_json::json!({ "device": self.compute.device_name() });
        in_rounds(ready, || {
            let start = Instant::now();
            self.generate(&network, self.size.samples, 1, limit)?;
            let ms = start.elapsed().as_secs_f64() * 1e3 / limit.unwrap_or(self.size.steps) as f64;
            Ok(serde_json::json!({ "ms": ms, "device_mb": self.device_megabytes() }))
        })
    }

    /// Estimates of the sub-token bound with one draw per sequence, or some by blocks: time, mean in nats per token, deviation.
    fn bound(&self, count: usize) -> Outcome<serde_json::Value> {
        let (network, x_0) = (self.loaded(), self.held_out());
        let sequences = Sequences::new(&x_0, self.size.seq_len)?;
        let draws = if self.size.block_len == 0 { 1 } else { BLOCK_DRAWS };
        let (mut seed, mut estimates) = (0, Vec::new());
        let ms = median(count, || {
            let settings = LikelihoodSettings { draws, seed, batch: self.batch, ..Default::default() };
            seed += 1;
            let estimate = nelbo_subtoken(&network, &self.predictive, &sequences, &settings)?;
            estimates.push(estimate.nats_per_token().value);
            Ok(())
        })?;
        let mean = estimates.iter().sum::<f64>() / estimates.len() as f64;
        let squares: f64 = estimates.iter().map(|estimate| (estimate - mean).powi(2)).sum();
        let deviation = (squares / (estimates.len() - 1) as f64).sqrt();
        Ok(serde_json::json!({ "ms": ms, "mean": mean, "deviation": deviation }))
    }

    /// How often every one of the C^L sequences is drawn.
    fn draw(&self, count: usize) -> Outcome<serde_json::Value> {
        let Size { vocab_size, seq_len, .. } = *self.size;
        let outcomes = vocab_size.checked_pow(seq_len as u32).filter(|&outcomes| outcomes < 1 << 20);
        let mut counts = vec![0; outcomes.ok_or("too many sequences to count")?];
        let tokens = self.generate(&self.loaded(), count, 1, None)?.unwrap_or_default();
        for x_0 in tokens.chunks_exact(seq_len) {
            counts[x_0.iter().fold(0, |index, &token| index * vocab_size + token as usize)] += 1;
        }
        Ok(serde_json::json!({ "counts": counts }))
    }
}

fn sum_of_squares(x: &[f32]) -> f64 {
    x.iter().map(|x| f64::from(*x) * f64::from(*x)).sum()
}

/// One measurement, with what was known before. With `ROUNDS=1` in the environment what was known is printed, then one
/// measurement for each line of standard input, so that two programs can take turns without starting again.
fn in_rounds(
    ready: serde_json::Value,
    mut measure: impl FnMut() -> Outcome<serde_json::Value>,
) -> Outcome<serde_json::Value> {
    let with = |ready: &serde_json::Value, measured: serde_json::Value| {
        let mut all = ready.clone();
        if let (Some(all), serde_json::Value::Object(measured)) = (all.as_object_mut(), measured) {
            all.extend(measured);
        }
        all
    };
    if std::env::var("ROUNDS").is_ok_and(|value| value == "1") {
        println!("{ready}");
        for line in std::io::stdin().lines() {
            line?;
            println!("{}", with(&ready, measure()?));
        }
        std::process::exit(0);
    }
    Ok(with(&ready, measure()?))
}

/// Clipping and averaging as in a run; nothing is so long that it is clipped.
fn gpu_settings() -> Outcome<TrainSettings> {
    let preset = include_str!("../../../../crates/submask-cli/presets/dictionary.toml");
    Ok(TrainSettings {
        learning_rate: LEARNING_RATE,
        warmup_steps: 0,
        decay: Decay::Constant,
        clip: f64::from(f32::MAX),
        adamw: AdamWConfig::default(),
        ..toml::from_str::<RunSettings>(preset)?.train
    })
}

impl SlotLoss for Case {
    fn loss(&self, weights: &Weights, _: Slot) -> submask::Result<Option<Tensor<1>>> {
        self.loss(weights)
    }
}

fn main() -> Outcome<()> {
    allocator::keep_memory();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let line = match arguments[..] {
        ["prepare", case, folder] => return Case::new(case)?.write(Path::new(folder)),
        ["train", case, count] => Case::new(case)?.train(count.parse()?)?,
        ["evaluate", case] => Case::new(case)?.evaluate()?,
        ["sample", case] => Case::new(case)?.sample(None)?,
        ["sample", case, evaluations] => Case::new(case)?.sample(Some(evaluations.parse()?))?,
        #[cfg(feature = "cuda")]
        ["profile-train", case] => Case::new(case)?.profile_training()?,
        #[cfg(feature = "cuda")]
        ["profile-sample", case, evaluations] => Case::new(case)?.profile_sampling(evaluations.parse()?)?,
        ["evaluate-kept", case] => Case::new(case)?.evaluate_kept()?,
        ["sample-long", case] => Case::new(case)?.sample_long()?,
        ["draw", case, count] => Case::new(case)?.draw(count.parse()?)?,
        ["bound", case, count] => Case::new(case)?.bound(count.parse()?)?,
        _ => {
            return Err("dit_steps prepare CASE FOLDER | train CASE COUNT | evaluate CASE | \
                        sample CASE [EVALUATIONS] | draw CASE COUNT | bound CASE COUNT | evaluate-kept CASE | \
                        sample-long CASE"
                .into());
        }
    };
    println!("{line}");
    Ok(())
}
