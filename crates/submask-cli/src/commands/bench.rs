//! `submask bench`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;
use submask::Compute as Opened;
use submask::backbone::dit::DitConfig;
use submask::backbone::encoder::EncoderConfig;
use submask::data::{Batch, Batcher, Dataset, Tokenizer, TokenizerKind};
use submask::model::{
    Architecture, Estimator, EvaluateRequest, HeldOut, NetworkConfig, Request, Session, Subject, TextSubject,
};
use submask::random::{Draws, Purpose};
use submask::sampler::{SampleReport, Unobserved};
use submask::train::settings::{RunSettings, TrainSettings};
use submask::train::{LossFunction, Slots, TrainState, stepper};

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
    /// The GPUs that were found, and what CUDA lacks; `None` where this was built without GPUs.
    #[serde(skip_serializing_if = "Option::is_none")]
    gpus: Option<String>,
    vocab_size: usize,
    model: NetworkConfig,
    subtokens: usize,
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
    let vocab_size =
        settings.tokenizer.as_ref().and_then(|tokenizer| tokenizer.vocab_size()).ok_or_else(|| {
            Failure::usage(
                "tokenizer.kind: the vocabulary of this tokenizer is known only with its file or corpus",
            )
            .hint("--set tokenizer.kind=numbers tokenizer.vocab_size=N gives its size")
        })?;
    let compute = compute.open()?;
    let bench = Bench::new(&settings, vocab_size, &compute)?;
    let lines = vec![bench.training()?, bench.evaluation()?, bench.sampling()?];
    let result = BenchResult {
        version: env!("CARGO_PKG_VERSION"),
        device: compute.device_name(),
        precision: compute.precision().to_string(),
        threads: rayon::current_num_threads(),
        vectors: submask::ops::vector_instructions(),
        features: features(),
        gpus: submask::device::found(),
        vocab_size,
        model: settings.network.clone(),
        subtokens: settings.codes.subtokens,
        parameters: bench.architecture.parameters().iter().map(|parameter| parameter.len()).sum(),
        batch_size: settings.train.batch_size,
        lines,
        peak_memory_bytes: peak_memory(),
    };
    if args.json { output::write_json(&result) } else { output::write(&table(&result)) }
}

/// An architecture with drawn weights, and everything that its measurements share.
struct Bench<'a> {
    settings: &'a RunSettings,
    compute: &'a Opened,
    architecture: Arc<Architecture>,
    values: Vec<Vec<f32>>,
}

impl<'a> Bench<'a> {
    fn new(settings: &'a RunSettings, vocab_size: usize, compute: &'a Opened) -> Result<Self, Failure> {
        if matches!(settings.network, NetworkConfig::Autoregressive(_)) {
            return Err(Failure::usage("model.network: bench measures diffusion and encoder networks"));
        }
        let tokenizer = TokenizerKind::Numbers { vocab_size };
        let config = settings.config(Subject::Text(TextSubject {
            vocab_size,
            tokenizer,
            fidelity: None,
            pairs: false,
        }));
        let architecture = Architecture::new(config, Some(Tokenizer::numbers(vocab_size)?))?;
        let seed = settings.train.seed;
        let parameters = architecture.parameters().iter().enumerate();
        let values = parameters.map(|(i, parameter)| parameter.initial(seed, i)).collect();
        Ok(Self { settings, compute, architecture: Arc::new(architecture), values })
    }

    fn seq_len(&self) -> usize {
        self.architecture.config().seq_len()
    }

    /// Tokens of `sequences` sequences, drawn.
    fn tokens(&self, sequences: usize) -> Vec<u32> {
        let draws = Draws::new(self.settings.train.seed, Purpose::Point);
        let vocab_size = self.architecture.config().vocab_size() as u64;
        let count = (sequences * self.seq_len()) as u32;
        (0..count).map(|i| draws.below(vocab_size, 0, i, 0) as u32).collect()
    }

    fn session(&self) -> Result<Session, Failure> {
        Ok(Session::new(self.architecture.clone(), &self.values, self.compute)?)
    }

    /// A step of a run, whose micro-batch is the same every time.
    fn training(&self) -> Result<Line, Failure> {
        let train = TrainSettings { accumulate: 1, ..self.settings.train.clone() };
        let loss = LossFunction::of(&self.architecture, &train, self.compute)?;
        let sequences = Drawn { x_0: self.tokens(train.batch_size), seq_len: self.seq_len() };
        let tokens = sequences.x_0.len();
        let slots = Slots::new(Batcher::new(sequences, train.seed)?, loss);
        let parameters = self.architecture.parameters();
        let state = TrainState::new(self.values.clone(), train.adamw, parameters);
        let mut stepper = stepper::open(&train, parameters, state, self.compute);
        let mut step = 0;
        let time = median(|| {
            step += 1;
            stepper.step(step, &slots)?;
            Ok(stepper.sync()?)
        })?;
        Ok(Line::new(format!("training step, {} sequences", train.batch_size), time, tokens))
    }

    fn evaluation(&self) -> Result<Line, Failure> {
        let session = self.session()?;
        let characters = vec![1; EVALUATED];
        let x_0 = self.tokens(EVALUATED);
        let held_out = HeldOut { x_0, seq_len: self.seq_len(), characters, ..HeldOut::default() };
        let request = EvaluateRequest { batch: EVALUATED, ..EvaluateRequest::new(Estimator::NelboSubtoken) };
        let time = median(|| {
            session.evaluate(&request, &held_out)?;
            Ok(())
        })?;
        let name = format!("nelbo-subtoken, {EVALUATED} sequences, one draw");
        Ok(Line::new(name, time, held_out.x_0.len()))
    }

    fn sampling(&self) -> Result<Line, Failure> {
        let session = self.session()?;
        let grid = match self.settings.sample.steps {
            0 => "first-hitting steps".to_owned(),
            steps => format!("{steps} steps"),
        };
        let request = session.request();
        let request = Request { prompt: vec![None; request.prompt.len()], ..request };
        let mut report = SampleReport::default();
        let time = median(|| {
            report = session.generate(&request, &mut Unobserved)?.report;
            Ok(())
        })?;
        let line = Line::new(format!("sampling one sequence in {grid}"), time, self.seq_len());
        Ok(Line { evaluations: Some(report.evaluations), idle_steps: Some(report.steps_skipped), ..line })
    }
}

/// Sequences that mean nothing.
struct Drawn {
    /// Tokens, [n, L].
    x_0: Vec<u32>,
    seq_len: usize,
}

impl Dataset for Drawn {
    fn seq_len(&self) -> usize {
        self.seq_len
    }

    fn epoch_len(&self) -> Option<u64> {
        Some((self.x_0.len() / self.seq_len) as u64)
    }

    fn get(&self, _epoch: u64, index: u64, batch: &mut Batch) -> submask::Result<()> {
        let sequence = self.x_0.chunks(self.seq_len).nth(index as usize).unwrap_or_default();
        batch.push(sequence.iter().copied(), None);
        Ok(())
    }

    fn fingerprint(&self) -> u64 {
        0
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
    let sizes = match &result.model {
        NetworkConfig::Diffusion(DitConfig { hidden, blocks, heads, seq_len, .. })
        | NetworkConfig::Encoder(EncoderConfig { hidden, blocks, heads, seq_len, .. }) => {
            format!("d {hidden}, {blocks} blocks, {heads} heads, L {seq_len}")
        }
        other => other.name().to_owned(),
    };
    let gpus = result.gpus.as_ref().map_or_else(String::new, |gpus| format!("GPUs: {gpus}\n"));
    let mut text = format!(
        "submask {}, device {}, {}, {} threads, {}; features: {features}\n\
         {gpus}{sizes}, C {}, ℓ {}: {} parameters\n\n",
        result.version,
        result.device,
        result.precision,
        result.threads,
        result.vectors,
        result.vocab_size,
        result.subtokens,
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
