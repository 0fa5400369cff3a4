//! `submask bench`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;
use submask::backbone::weights::{Parameter, Weights};
use submask::backbone::{Backbone, LoadedBackbone};
use submask::data::Cursor;
use submask::likelihood::{LikelihoodSettings, Sequences, nelbo_subtoken};
use submask::model::{ModelSettings, Network};
use submask::ops::Kernels;
use submask::predictive::Predictive;
use submask::random::{Draws, Purpose};
use submask::sampler::{Prompt, SampleReport, SampleSettings, Sampler, Steps};
use submask::schedule::Schedule;
use submask::train::DeviceState;
use submask::train::checkpoint::TrainState;
use submask::train::optimizer::{AdamW, Average, StepSize, clip_factor, global_norm};
use submask::train::settings::{Settings, TrainSettings};
use submask::train::step::{LossFunction, MicroBatch};
use submask::{Device, device};

use crate::args::BenchArgs;
use crate::compute::Compute;
use crate::failure::Failure;
use crate::{format, output, settings};

/// Sequences of an evaluation.
const EVALUATED: usize = 4;

/// What `bench --json` prints.
#[derive(Debug, Serialize)]
struct BenchResult {
    version: &'static str,
    device: String,
    precision: String,
    threads: usize,
    /// Instruction sets of the CPU that the kernels use.
    vectors: &'static str,
    /// Cargo features of this build.
    features: Vec<&'static str>,
    vocab_size: usize,
    model: ModelSettings,
    parameters: usize,
    batch_size: usize,
    lines: Vec<Line>,
    /// Of the whole program, in bytes; `None` where the system does not say.
    peak_memory_bytes: Option<u64>,
}

/// One thing that was measured.
#[derive(Debug, Serialize)]
struct Line {
    name: String,
    milliseconds: f64,
    tokens_per_second: f64,
    /// Network evaluations of the sampler, and the steps that needed none.
    #[serde(skip_serializing_if = "Option::is_none")]
    evaluations: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    idle_steps: Option<u64>,
}

/// Measures and prints.
pub fn run(args: &BenchArgs, compute: Compute) -> Result<(), Failure> {
    let settings = settings::for_bench(&args.settings)?;
    let vocab_size = settings.tokenizer.vocab_size().ok_or_else(|| {
        Failure::usage(
            "tokenizer.kind: the vocabulary of this tokenizer is known only with its file or corpus",
        )
        .hint("--set tokenizer.kind=numbers tokenizer.vocab_size=N gives its size")
    })?;
    let (device, kernels) = compute.open()?;
    let bench = Bench::new(&settings, vocab_size, &device, kernels)?;
    let lines = vec![bench.training()?, bench.evaluation()?, bench.sampling()?];
    let result = BenchResult {
        version: env!("CARGO_PKG_VERSION"),
        device: device::name(&device),
        precision: kernels.precision().to_string(),
        threads: rayon::current_num_threads(),
        vectors: vectors(),
        features: features(),
        vocab_size,
        model: settings.model.clone(),
        parameters: bench.parameters.iter().map(Parameter::len).sum(),
        batch_size: settings.train.batch_size,
        lines,
        peak_memory_bytes: peak_memory(),
    };
    if args.json { output::write_json(&result) } else { output::write(&table(&result)) }
}

/// A network with drawn weights, and everything that its measurements share.
struct Bench<'a> {
    settings: &'a Settings,
    device: &'a Device,
    network: Arc<dyn Backbone>,
    predictive: Arc<Predictive>,
    schedule: Schedule,
    parameters: Vec<Parameter>,
    values: Vec<Vec<f32>>,
}

impl<'a> Bench<'a> {
    fn new(
        settings: &'a Settings,
        vocab_size: usize,
        device: &'a Device,
        kernels: Kernels,
    ) -> Result<Self, Failure> {
        let codes = settings.model.codes(vocab_size)?;
        let Network::Diffusion(network) = Network::new(&settings.model, &codes, kernels)? else {
            return Err(Failure::usage("model.network: bench measures diffusion and encoder networks"));
        };
        let parameters = network.parameters().to_vec();
        let seed = settings.train.seed;
        let values = parameters.iter().enumerate().map(|(i, parameter)| parameter.initial(seed, i)).collect();
        let predictive = Arc::new(Predictive::new(codes, settings.model.carry_over));
        let schedule = settings.schedule.schedule();
        Ok(Self { settings, device, network, predictive, schedule, parameters, values })
    }

    /// Tokens of `sequences` sequences, drawn.
    fn tokens(&self, sequences: usize) -> Vec<u32> {
        let draws = Draws::new(self.settings.train.seed, Purpose::Point);
        let vocab_size = self.predictive.codes().vocab_size() as u64;
        let count = (sequences * self.settings.model.seq_len) as u32;
        (0..count).map(|i| draws.below(vocab_size, 0, i, 0) as u32).collect()
    }

    fn loaded(&self) -> LoadedBackbone {
        let weights = Weights::new(&self.parameters, &self.values, self.device);
        LoadedBackbone { network: self.network.clone(), weights }
    }

    /// Loss, gradients, clipping, AdamW and the averaged weights, as in a run.
    fn training(&self) -> Result<Line, Failure> {
        let train = TrainSettings { accumulate: 1, ..self.settings.train.clone() };
        let network = Network::Diffusion(self.network.clone());
        let dropout = self.settings.model.dropout;
        let loss =
            LossFunction::new(network, self.predictive.clone(), self.schedule, train.clone(), dropout)?;
        let x_0 = self.tokens(train.batch_size);
        let mut state = TrainState {
            step: 0,
            raw: self.values.clone(),
            average: self.values.clone(),
            optimizer: AdamW::new(train.adamw, &self.parameters),
            cursor: Cursor::default(),
        };
        let on_device = self.network.kernels().are_for_gpus();
        let mut on_device = on_device.then(|| DeviceState::new(&state, &self.parameters, self.device));
        let time = median(|| {
            state.step += 1;
            let batch = MicroBatch { x_0: &x_0, step: state.step, index: 0 };
            if let Some(on_device) = &mut on_device {
                let weights = on_device.weights();
                on_device.add(loss.loss(&weights, &batch)?, &weights, 1.0);
                on_device.step(&train, state.step);
                on_device.look();
                return Ok(());
            }
            let (_, gradients) =
                loss.loss_and_gradients(&self.parameters, &state.raw, self.device, &batch)?;
            let size = StepSize {
                learning_rate: train.learning_rate,
                gradient_factor: clip_factor(global_norm(&gradients), train.clip),
            };
            let average = Average { values: &mut state.average, decay: train.ema_decay };
            state.optimizer.step(&mut state.raw, &gradients, size, Some(average));
            Ok(())
        })?;
        Ok(Line::new(format!("training step, {} sequences", train.batch_size), time, x_0.len()))
    }

    fn evaluation(&self) -> Result<Line, Failure> {
        let network = self.loaded();
        let x_0 = self.tokens(EVALUATED);
        let sequences = Sequences::new(&x_0, self.settings.model.seq_len)?;
        let settings =
            LikelihoodSettings { draws: 1, schedule: self.schedule, ..LikelihoodSettings::default() };
        let time = median(|| {
            nelbo_subtoken(&network, &self.predictive, &sequences, &settings)?;
            Ok(())
        })?;
        Ok(Line::new(format!("nelbo-subtoken, {EVALUATED} sequences, one draw"), time, x_0.len()))
    }

    fn sampling(&self) -> Result<Line, Failure> {
        let network = self.loaded();
        let seq_len = self.settings.model.seq_len;
        let (steps, grid) = match self.settings.sample.steps {
            0 => (Steps::Exact, "first-hitting steps".to_owned()),
            steps => (Steps::Grid(steps), format!("{steps} steps")),
        };
        let settings = SampleSettings {
            steps,
            sharpening: self.settings.sample.sharpening(),
            schedule: self.schedule,
            ..SampleSettings::default()
        };
        let sampler = Sampler::new(&network, &self.predictive, settings)?;
        let prompts = [Prompt::empty(&self.predictive, seq_len)?];
        let mut report = SampleReport::default();
        let time = median(|| {
            report = sampler.sample(&prompts)?.report();
            Ok(())
        })?;
        let line = Line::new(format!("sampling one sequence in {grid}"), time, seq_len);
        Ok(Line { evaluations: Some(report.evaluations), idle_steps: Some(report.steps_skipped), ..line })
    }
}

impl Line {
    fn new(name: String, time: Duration, tokens: usize) -> Self {
        let seconds = time.as_secs_f64();
        Self {
            name,
            milliseconds: seconds * 1e3,
            tokens_per_second: tokens as f64 / seconds,
            evaluations: None,
            idle_steps: None,
        }
    }
}

/// Median time of at least three calls and of about two seconds of them, after one that is not counted.
fn median(mut call: impl FnMut() -> Result<(), Failure>) -> Result<Duration, Failure> {
    call()?;
    let (started, mut times) = (Instant::now(), Vec::new());
    while times.len() < 3 || (started.elapsed() < Duration::from_secs(2) && times.len() < 1000) {
        let start = Instant::now();
        call()?;
        times.push(start.elapsed());
    }
    times.sort();
    Ok(times[times.len() / 2])
}

/// Largest resident memory of this process.
fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

#[cfg(target_arch = "x86_64")]
fn vectors() -> &'static str {
    match () {
        () if is_x86_feature_detected!("avx512f") => "AVX-512",
        () if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") => "AVX2",
        () => "SSE2",
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn vectors() -> &'static str {
    std::env::consts::ARCH
}

fn features() -> Vec<&'static str> {
    let known = [
        ("cuda", cfg!(feature = "cuda")),
        ("hub", cfg!(feature = "hub")),
        ("vulkan", cfg!(feature = "vulkan")),
        ("wgpu", cfg!(feature = "wgpu")),
    ];
    known.into_iter().filter_map(|(name, enabled)| enabled.then_some(name)).collect()
}

fn table(result: &BenchResult) -> String {
    let features = match result.features.is_empty() {
        true => "none beside the defaults".to_owned(),
        false => result.features.join(", "),
    };
    let ModelSettings { hidden, blocks, heads, seq_len, subtokens, .. } = &result.model;
    let mut text = format!(
        "submask {}, device {}, {}, {} threads, {}; features: {features}\n\
         d {hidden}, {blocks} blocks, {heads} heads, L {seq_len}, C {}, ℓ {subtokens}: {} parameters\n\n",
        result.version,
        result.device,
        result.precision,
        result.threads,
        result.vectors,
        result.vocab_size,
        format::count(result.parameters as u64),
    );
    let width = result.lines.iter().map(|line| line.name.chars().count()).max().unwrap_or(0);
    for line in &result.lines {
        let rate = format::count(line.tokens_per_second as u64);
        text += &format!("{:width$}  {:>9.1} ms  {rate:>7} tokens/s", line.name, line.milliseconds);
        if let (Some(evaluations), Some(idle)) = (line.evaluations, line.idle_steps) {
            text += &format!("  {evaluations} evaluations, {idle} idle steps");
        }
        text.push('\n');
    }
    if let Some(bytes) = result.peak_memory_bytes {
        text += &format!("\npeak memory of the program: {} MB\n", bytes / 1_000_000);
    }
    text
}
