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
//! In the environment, `BF16=1` has matrix products of bfloat16 numbers, `BATCH` is another number of sequences per
//! training step, and `DEVICE` names a device as `--device` does, by default `cpu`. On a GPU weights, moments and gradients
//! stay there, as in a run: steps are clipped and averaged, no step waits for the one before it, and the time is that of
//! COUNT steps and a wait for the device over COUNT; the losses are those of WARM_UP + 1 steps before them. `ROUNDS=1` has
//! `train` and `sample` measure once for each line of standard input. With the cargo
//! feature `cuda`, `profile-train CASE` and `profile-sample CASE EVALUATIONS` print what kernels a GPU ran.

#[path = "../../../crates/submask-cli/src/allocator.rs"]
mod allocator;

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use burn::tensor::{Device, Tensor};
use submask::backbone::dit::{Dit, DitConfig};
use submask::backbone::weights::{Parameter, Weights};
use submask::backbone::{self, Backbone, Embedding, LoadedBackbone};
use submask::denoiser::{Denoiser, States};
use submask::forward::{mask_digits, stratified_times};
use submask::likelihood::{LikelihoodSettings, Sequences, nelbo_subtoken};
use submask::objective::{LossRows, Objective};
use submask::predictive::Predictive;
use submask::random::{Draws, Purpose};
use submask::sampler::{Event, Prompt, SampleSettings, Sampler, Steps};
use submask::schedule::Schedule;
use submask::subtoken::SubTokenizer;
use submask::train::optimizer::{AdamW, AdamWConfig};
use submask::train::settings::{Decay, RunSettings, TrainSettings};
use submask::train::{Slot, SlotLoss, TrainState, stepper};
use submask::{Compute, DeviceChoice, Precision};
use submask_experiments::peers::{Outcome, descend, drawn_values, floats, integers, median, write_case};

/// `evaluate` asks for one position in so many.
const ASKED: usize = 32;

/// Evaluations before the ones that are timed, and steps before them on a GPU, but for one.
const WARM_UP: usize = 2;

const LEARNING_RATE: f64 = 3e-4;

/// Sequences whose bound is estimated.
const HELD_OUT: usize = 32;

/// A network, a vocabulary, a batch and a grid.
struct Size {
    name: &'static str,
    vocab_size: usize,
    subtokens: usize,
    hidden: usize,
    heads: usize,
    blocks: usize,
    seq_len: usize,
    /// Sequences of a training step.
    batch: usize,
    /// Sequences that are sampled together.
    samples: usize,
    /// T.
    steps: usize,
    /// Radius of the weights that would start at zero.
    radius: f64,
}

static SIZES: [Size; 7] = [
    // That of the published models.
    Size {
        name: "published",
        vocab_size: 50_257,
        subtokens: 4,
        hidden: 768,
        heads: 12,
        blocks: 12,
        seq_len: 1024,
        batch: 16,
        samples: 16,
        steps: 512,
        radius: 0.05,
    },
    Size {
        name: "published-mdm",
        vocab_size: 50_257,
        subtokens: 1,
        hidden: 768,
        heads: 12,
        blocks: 12,
        seq_len: 1024,
        batch: 16,
        samples: 16,
        steps: 512,
        radius: 0.05,
    },
    // That of the preset `dictionary`.
    Size {
        name: "dictionary",
        vocab_size: 4096,
        subtokens: 2,
        hidden: 192,
        heads: 6,
        blocks: 4,
        seq_len: 128,
        batch: 4,
        samples: 4,
        steps: 128,
        radius: 0.05,
    },
    Size {
        name: "bytes",
        vocab_size: 256,
        subtokens: 2,
        hidden: 256,
        heads: 4,
        blocks: 6,
        seq_len: 256,
        batch: 16,
        samples: 4,
        steps: 256,
        radius: 0.05,
    },
    Size {
        name: "gpt2-vocabulary",
        vocab_size: 50_257,
        subtokens: 4,
        hidden: 384,
        heads: 6,
        blocks: 6,
        seq_len: 128,
        batch: 8,
        samples: 1,
        steps: 256,
        radius: 0.05,
    },
    Size {
        name: "gpt2-small",
        vocab_size: 50_257,
        subtokens: 4,
        hidden: 768,
        heads: 12,
        blocks: 12,
        seq_len: 256,
        batch: 1,
        samples: 1,
        steps: 256,
        radius: 0.05,
    },
    // 25 sequences of very unequal probability, and codes that no token has.
    Size {
        name: "tiny",
        vocab_size: 5,
        subtokens: 2,
        hidden: 32,
        heads: 2,
        blocks: 2,
        seq_len: 2,
        batch: 4,
        samples: 10_000,
        steps: 4,
        radius: 0.5,
    },
];

/// The network, its weights and a masked batch; everything is drawn, and drawn the same way every time.
struct Case {
    size: &'static Size,
    compute: Compute,
    /// Sequences of a training step.
    batch: usize,
    network: Arc<Dit>,
    predictive: Arc<Predictive>,
    parameters: Vec<Parameter>,
    values: Vec<Vec<f32>>,
    x_0: Vec<u32>,
    y_t: Vec<u32>,
    times: Vec<f64>,
}

impl Case {
    fn new(name: &str) -> Outcome<Self> {
        let size = SIZES.iter().find(|size| size.name == name).ok_or("no such case")?;
        let codes = SubTokenizer::new(size.vocab_size, size.subtokens)?;
        let config = DitConfig {
            block_len: 0,
            hidden: size.hidden,
            heads: size.heads,
            blocks: size.blocks,
            cond_dim: 128,
            seq_len: size.seq_len,
            dropout: 0.0,
            embedding: Embedding::Concatenated,
            time_conditioning: false,
        };
        let precision = match std::env::var("BF16").is_ok_and(|value| value == "1") {
            true => Precision::Bf16,
            false => Precision::Fp32,
        };
        let device: DeviceChoice = std::env::var("DEVICE").as_deref().unwrap_or("cpu").parse()?;
        let compute = Compute::open(device, precision)?;
        let batch = std::env::var("BATCH").map_or(Ok(size.batch), |batch| batch.parse())?;
        let network = Dit::new(config, &codes, compute.kernels())?;
        let parameters = network.parameters().to_vec();
        let values = drawn_values(&parameters, size.radius);
        let draws = Draws::new(2, Purpose::Mask);
        let tokens = 0..(batch * size.seq_len) as u32;
        let x_0: Vec<u32> = tokens.map(|i| draws.below(size.vocab_size as u64, 0, i, 0) as u32).collect();
        let uniforms = (0..).map(|b| draws.uniform(1 + batch as u64, b, 0));
        let times: Vec<f64> = stratified_times(batch, [1e-3, 1.0], uniforms).collect();
        let mut y_t = Vec::new();
        for (b, x_0) in x_0.chunks_exact(size.seq_len).enumerate() {
            let alpha = Schedule::Linear.alpha(times[b]);
            let uniforms = (0..).map(|digit| draws.uniform(1 + b as u64, digit, 0));
            y_t.extend(mask_digits(&codes.encode(x_0)?, alpha, codes.mask_id(), uniforms));
        }
        let predictive = Arc::new(Predictive::new(codes, true));
        let network = Arc::new(network);
        Ok(Self { size, compute, batch, network, predictive, parameters, values, x_0, y_t, times })
    }

    /// w(t) of every sequence over the number of tokens, which the loss is a mean over.
    fn loss_weights(&self) -> Vec<f32> {
        let tokens = self.x_0.len() as f64;
        self.times.iter().map(|t| (Schedule::Linear.weight(*t) / tokens) as f32).collect()
    }

    /// Writes `case.safetensors` and `case.json`.
    fn write(&self, folder: &Path) -> Outcome<()> {
        let Size { vocab_size, subtokens, seq_len, samples, steps, .. } = *self.size;
        let batch = self.batch;
        let others = [
            integers("x_0", &[batch, seq_len], &self.x_0),
            integers("y_t", &[batch, seq_len, subtokens], &self.y_t),
            floats("loss_weights", &[batch], &self.loss_weights()),
            integers("held_out", &[HELD_OUT, seq_len], &self.held_out()),
        ];
        let settings = serde_json::json!({
            "config": self.network.config(), "vocab_size": vocab_size, "subtokens": subtokens,
            "base": self.predictive.codes().base(), "asked": ASKED, "samples": samples, "steps": steps,
            "warm_up": WARM_UP,
        });
        write_case(folder, &self.parameters, &self.values, others, &settings)
    }

    /// Tokens of the sequences whose bound is estimated.
    fn held_out(&self) -> Vec<u32> {
        let draws = Draws::new(3, Purpose::Mask);
        let count = (HELD_OUT * self.size.seq_len) as u32;
        (0..count).map(|i| draws.below(self.size.vocab_size as u64, 0, i, 0) as u32).collect()
    }

    /// The network with its weights, ready to be evaluated.
    fn loaded(&self) -> LoadedBackbone {
        let weights = Weights::new(&self.parameters, &self.values, self.compute.device());
        LoadedBackbone { network: self.network.clone(), weights }
    }

    /// Whether state and digits stay on a device.
    fn on_gpu(&self) -> bool {
        *self.compute.device() != Device::flex()
    }

    /// The loss of the batch by `weights`. A fully visible token costs nothing and needs no logits.
    fn loss(&self, weights: &Weights) -> submask::Result<Option<Tensor<1>>> {
        let Size { seq_len, subtokens, .. } = *self.size;
        let loss_weights = self.loss_weights();
        let mask_id = self.predictive.codes().mask_id();
        let digits = |position: usize| &self.y_t[position * subtokens..(position + 1) * subtokens];
        let positions: Vec<usize> =
            (0..self.x_0.len()).filter(|&position| digits(position).contains(&mask_id)).collect();
        let rows = LossRows::new(
            self.predictive.clone(),
            Objective::Joint,
            positions.iter().map(|&position| self.x_0[position]).collect(),
            positions.iter().flat_map(|&position| digits(position).iter().copied()).collect(),
            positions.iter().map(|position| loss_weights[position / seq_len]).collect(),
        );
        let inputs = States { y_t: &self.y_t, t: &self.times, labels: None }.into();
        backbone::loss(&*self.network, weights, &inputs, &positions, rows, None)
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
        let states = States { y_t: &self.y_t, t: &self.times, labels: None };
        self.loaded().evaluate(&states, &positions, &mut |_, logits| {
            squares += logits.iter().map(|x| f64::from(*x) * f64::from(*x)).sum::<f64>();
            Ok(())
        })?;
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

    /// Estimates of the sub-token bound with one draw a sequence: time, mean in nats per token, deviation.
    fn bound(&self, count: usize) -> Outcome<serde_json::Value> {
        let (network, x_0) = (self.loaded(), self.held_out());
        let sequences = Sequences::new(&x_0, self.size.seq_len)?;
        let (mut seed, mut estimates) = (0, Vec::new());
        let ms = median(count, || {
            let settings = LikelihoodSettings { draws: 1, seed, batch: self.batch, ..Default::default() };
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
    let preset = include_str!("../../../crates/submask-cli/presets/dictionary.toml");
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
        ["draw", case, count] => Case::new(case)?.draw(count.parse()?)?,
        ["bound", case, count] => Case::new(case)?.bound(count.parse()?)?,
        _ => {
            return Err("dit_steps prepare CASE FOLDER | train CASE COUNT | evaluate CASE | \
                        sample CASE [EVALUATIONS] | draw CASE COUNT | bound CASE COUNT"
                .into());
        }
    };
    println!("{line}");
    Ok(())
}
