//! The training loop.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use burn::tensor::Device;

use super::checkpoint::{self, TrainState};
use super::event::{Event, Observer, Record, StepRecord, ValidationRecord};
use super::optimizer::{AdamW, clip_global_norm, update_average};
use super::settings::Settings;
use super::step::{LossFunction, MicroBatch};
use super::validate::{EvaluationSize, Validator};
use crate::backbone::weights::Parameter;
use crate::data::{Batcher, Blocks, DATA_FILE, Outdated, PreparedData, prepare};
use crate::durable::write_atomically;
use crate::likelihood::Figure;
use crate::model::{FORMAT_VERSION, Generated, Model, ModelConfig};
use crate::{Error, Result};

/// File of a run with its resolved settings.
pub const SETTINGS_FILE: &str = "settings.toml";

/// File of a run with one record a line.
pub const METRICS_FILE: &str = "metrics.jsonl";

/// What to train, and where.
#[derive(Clone, Debug)]
pub struct RunRequest {
    /// Everything that determines the run.
    pub settings: Settings,
    /// Folder of the run.
    pub out: PathBuf,
    /// Whether to go on from the newest checkpoint; otherwise the folder must not hold a run.
    pub resume: bool,
    /// Model whose weights are the start.
    pub init: Option<PathBuf>,
}

/// How a run ended.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// All steps are done.
    Finished(Box<Summary>),
    /// The stop flag was set; a checkpoint holds everything.
    Stopped {
        /// Steps done.
        step: u64,
        /// Its folder.
        checkpoint: PathBuf,
    },
}

/// The last validation, with more draws.
#[derive(Clone, Debug)]
pub struct Summary {
    /// Valid bound or exact value, and the joint objective, of held-out text.
    pub figures: Vec<Figure>,
    /// Samples, with the evaluations and idle steps they took.
    pub samples: Generated,
    /// Folder of the last checkpoint.
    pub checkpoint: PathBuf,
}

/// Trains.
///
/// The run is a function of its settings, the corpus and the device: the same again gives the same
/// weights bit for bit on the CPU device, however often it was interrupted, whatever the number of threads.
///
/// # Errors
/// Settings, files and corpora that do not go together, each naming what is wrong, before anything is
/// allocated where that is possible; [`Error::NotFinite`] when the loss stops being a number: the last
/// checkpoint stays.
pub fn run(request: &RunRequest, observer: &mut dyn Observer, stop: &AtomicBool) -> Result<Outcome> {
    request.settings.validate()?;
    check_folder(request)?;
    let existed = request.out.exists();
    let prepared = prepare_run(request, observer);
    if prepared.is_err() && !existed {
        // A run that never began leaves nothing behind; the error to report is the first one.
        let _ = fs::remove_dir_all(&request.out);
    }
    let (mut run, started) = prepared?;
    observer.notify(&started);
    run.train(observer, stop)
}

/// Everything up to the first step.
fn prepare_run<'a>(request: &'a RunRequest, observer: &mut dyn Observer) -> Result<(Run<'a>, Event)> {
    let device = Device::flex();
    let init = request.init.as_deref().map(|path| Model::load(path, &device)).transpose()?;
    fs::create_dir_all(&request.out).map_err(Error::io(&request.out))?;
    let data = open_data(request, observer)?;
    data.train.verify()?;
    data.valid.as_ref().map_or(Ok(()), |store| store.verify())?;
    let mut run = Run::new(request, &data, init, device)?;
    if !request.resume {
        // The settings come last: a folder that holds them holds a checkpoint to go on from.
        run.checkpoint(observer)?;
    }
    write_settings(request)?;
    let started = Event::Started {
        parameters: run.parameters.iter().map(|parameter| parameter.len() as u64).sum(),
        train_tokens: data.train.tokens(),
        valid_tokens: data.valid.as_ref().map_or(0, |store| store.tokens()),
        step: run.state.step,
        steps: request.settings.train.steps,
    };
    Ok((run, started))
}

/// Refuses to overwrite a run, and to resume one with other settings.
fn check_folder(request: &RunRequest) -> Result<()> {
    let path = request.out.join(SETTINGS_FILE);
    if !request.resume {
        if path.exists() {
            return Err(Error::invalid(
                "out",
                request.out.display(),
                "a folder that holds no run yet; resume the run in it, or choose another",
            ));
        }
        return Ok(());
    }
    let text = fs::read_to_string(&path).map_err(Error::io(&path))?;
    let saved: Settings = toml::from_str(&text).map_err(|error| Error::format(&path, error.to_string()))?;
    let now = &request.settings;
    let same = [
        ("data", saved.data == now.data),
        ("tokenizer", saved.tokenizer == now.tokenizer),
        ("model", saved.model == now.model),
        ("schedule", saved.schedule == now.schedule),
        ("train.seed", saved.train.seed == now.train.seed),
        ("train.batch_size", saved.train.batch_size == now.train.batch_size),
        ("train.accumulate", saved.train.accumulate == now.train.accumulate),
    ];
    if let Some((section, _)) = same.iter().find(|(_, same)| !same) {
        let allowed = format!("the settings of the run, in {}", path.display());
        return Err(Error::invalid(*section, "changed", allowed));
    }
    Ok(())
}

fn write_settings(request: &RunRequest) -> Result<()> {
    let path = request.out.join(SETTINGS_FILE);
    let text = toml::to_string(&request.settings).map_err(|error| Error::format(&path, error.to_string()))?;
    write_atomically(&path, text.as_bytes())
}

/// Opens a folder that is prepared already, or prepares the corpus.
fn open_data(request: &RunRequest, observer: &mut dyn Observer) -> Result<PreparedData> {
    let settings = &request.settings;
    if let [path] = settings.data.paths.as_slice()
        && path.join(DATA_FILE).is_file()
    {
        return PreparedData::open(path);
    }
    let folder = match settings.data.cache.as_os_str() {
        empty if empty.is_empty() => request.out.join("data"),
        cache => PathBuf::from(cache),
    };
    if request.resume && folder.join(DATA_FILE).is_file() {
        // The tokens of the run are there; the corpus may have moved.
        return PreparedData::open(folder);
    }
    // What a run left that was killed before it began is of no use to one with other settings.
    let outdated =
        if settings.data.cache.as_os_str().is_empty() { Outdated::Rebuild } else { Outdated::Refuse };
    prepare(&settings.prepare(), &folder, outdated, &mut |progress| {
        observer.notify(&Event::Preparing(progress));
    })
}

struct Run<'a> {
    request: &'a RunRequest,
    parameters: Vec<Parameter>,
    loss: LossFunction,
    batcher: Batcher,
    state: TrainState,
    /// Holds the averaged weights whenever it is evaluated or saved.
    model: Model,
    validator: Validator,
    device: Device,
    metrics: fs::File,
}

/// Sums since the last record.
#[derive(Default)]
struct Window {
    /// Time spent in steps, validations and checkpoints not counted.
    time: Duration,
    loss: f64,
    steps: u64,
}

impl<'a> Run<'a> {
    fn new(
        request: &'a RunRequest,
        data: &PreparedData,
        init: Option<Model>,
        device: Device,
    ) -> Result<Self> {
        let settings = &request.settings;
        let config = ModelConfig {
            format_version: FORMAT_VERSION,
            vocab_size: data.tokenizer.vocab_size(),
            tokenizer: data.tokenizer.kind().clone(),
            model: settings.model.clone(),
            schedule: settings.schedule,
            sample: settings.sample,
        };
        let mut model = Model::new(config, data.tokenizer.clone(), Vec::new(), &device)?;
        let blocks =
            Blocks::new(data.train.clone(), &data.tokenizer, settings.data.layout(settings.model.seq_len))?;
        let mut batcher = Batcher::new(blocks, settings.train.seed);
        let parameters = model.network.parameters();
        let state = if request.resume {
            let folder = checkpoint::newest(&request.out)?;
            let average = Model::load(&folder, &device)?.values;
            let fresh = AdamW::new(settings.train.adamw, &parameters);
            checkpoint::load_state(&folder, &parameters, average, fresh)?
        } else {
            fresh_state(settings, &parameters, init, &model)?
        };
        batcher.seek(state.cursor)?;
        let loss = LossFunction::new(
            model.network.clone(),
            model.predictive.clone(),
            model.schedule(),
            settings.train.clone(),
            settings.model.dropout,
        )?;
        model.values = state.average.clone();
        let validator = Validator::new(data, settings)?;
        let metrics = open_metrics(&request.out.join(METRICS_FILE), state.step)?;
        Ok(Self { request, parameters, loss, batcher, state, model, validator, device, metrics })
    }

    fn train(&mut self, observer: &mut dyn Observer, stop: &AtomicBool) -> Result<Outcome> {
        let settings = &self.request.settings.train;
        let mut window = Window::default();
        while self.state.step < settings.steps {
            if stop.load(Ordering::Relaxed) {
                let checkpoint = self.checkpoint(observer)?;
                return Ok(Outcome::Stopped { step: self.state.step, checkpoint });
            }
            let norm = self.step(&mut window)?;
            let step = self.state.step;
            let last = step == settings.steps;
            if last || step.is_multiple_of(settings.log_every) {
                self.record_step(std::mem::take(&mut window), norm, observer)?;
            }
            if !last && step.is_multiple_of(settings.validate_every) {
                self.validate(observer)?;
            }
            if !last && step.is_multiple_of(settings.checkpoint_every) {
                self.checkpoint(observer)?;
            }
        }
        self.finish(observer, stop)
    }

    /// One optimiser step; returns the gradients' norm before clipping.
    fn step(&mut self, window: &mut Window) -> Result<f64> {
        let settings = &self.request.settings.train;
        let started = Instant::now();
        let step = self.state.step + 1;
        let share = 1.0 / settings.accumulate as f32;
        let mut loss = 0.0;
        let mut gradients: Vec<Vec<f32>> = Vec::new();
        for index in 0..settings.accumulate {
            let x_0 = self.batcher.next_batch(settings.batch_size)?;
            let batch = MicroBatch { x_0: &x_0, step, index };
            let (value, part) =
                self.loss.loss_and_gradients(&self.parameters, &self.state.raw, &self.device, &batch)?;
            loss += value / settings.accumulate as f64;
            accumulate(&mut gradients, part, share);
        }
        finite(step, "loss", loss)?;
        let norm = finite(step, "gradient norm", clip_global_norm(&mut gradients, settings.clip))?;
        let rate = settings.learning_rate_at(step);
        self.state.optimizer.step(&mut self.state.raw, &gradients, rate);
        update_average(&mut self.state.average, &self.state.raw, settings.ema_decay, step);
        self.state.step = step;
        self.state.cursor = self.batcher.cursor();
        window.time += started.elapsed();
        window.loss += loss;
        window.steps += 1;
        Ok(norm)
    }

    fn record_step(&mut self, window: Window, norm: f64, observer: &mut dyn Observer) -> Result<()> {
        let settings = &self.request.settings;
        let per_step =
            (settings.train.batch_size * settings.train.accumulate * settings.model.seq_len) as u64;
        let record = StepRecord {
            step: self.state.step,
            loss_nats_per_token: window.loss / window.steps as f64,
            objective: self.loss.name().to_owned(),
            gradient_norm: norm,
            learning_rate: settings.train.learning_rate_at(self.state.step),
            tokens: per_step * self.state.step,
            tokens_per_second: (per_step * window.steps) as f64 / window.time.as_secs_f64(),
        };
        self.write(&Record::Step(record.clone()))?;
        observer.notify(&Event::Step(record));
        Ok(())
    }

    fn write(&mut self, record: &Record) -> Result<()> {
        let path = self.request.out.join(METRICS_FILE);
        let mut line =
            serde_json::to_string(record).map_err(|error| Error::format(&path, error.to_string()))?;
        line.push('\n');
        self.metrics.write_all(line.as_bytes()).map_err(Error::io(path))
    }

    fn validate(&mut self, observer: &mut dyn Observer) -> Result<()> {
        let train = &self.request.settings.train;
        let size = EvaluationSize { sequences: train.validate_sequences, draws: train.validate_draws };
        let (figures, samples) = self.evaluate(size, train.validate_samples)?;
        self.report(figures, samples.texts, observer)
    }

    fn report(
        &mut self,
        figures: Vec<Figure>,
        samples: Vec<String>,
        observer: &mut dyn Observer,
    ) -> Result<()> {
        let record = ValidationRecord { step: self.state.step, figures, samples };
        self.write(&Record::Validation(record.clone()))?;
        observer.notify(&Event::Validation(record));
        Ok(())
    }

    /// Figures and samples of the averaged weights.
    fn evaluate(&mut self, size: EvaluationSize, samples: usize) -> Result<(Vec<Figure>, Generated)> {
        self.model.values.clone_from(&self.state.average);
        let figures = self.validator.figures(&self.model, size, &self.device)?;
        let texts = self.validator.samples(&self.model, samples, &self.device)?;
        Ok((figures, texts))
    }

    fn checkpoint(&mut self, observer: &mut dyn Observer) -> Result<PathBuf> {
        self.model.values.clone_from(&self.state.average);
        let path = checkpoint::save(&self.request.out, &self.state, &self.model)?;
        checkpoint::prune(&self.request.out, self.request.settings.train.keep_checkpoints)?;
        observer.notify(&Event::Checkpoint(path.clone()));
        Ok(path)
    }

    fn finish(&mut self, observer: &mut dyn Observer, stop: &AtomicBool) -> Result<Outcome> {
        let train = &self.request.settings.train;
        let size = EvaluationSize { sequences: train.final_sequences, draws: train.final_draws };
        let checkpoint = self.checkpoint(observer)?;
        if stop.load(Ordering::Relaxed) {
            return Ok(Outcome::Stopped { step: self.state.step, checkpoint });
        }
        let (figures, samples) = self.evaluate(size, train.final_samples)?;
        self.report(figures.clone(), samples.texts.clone(), observer)?;
        Ok(Outcome::Finished(Box::new(Summary { figures, samples, checkpoint })))
    }
}

fn finite(step: u64, what: &'static str, value: f64) -> Result<f64> {
    if value.is_finite() { Ok(value) } else { Err(Error::NotFinite { step, what, value }) }
}

fn accumulate(sum: &mut Vec<Vec<f32>>, part: Vec<Vec<f32>>, share: f32) {
    if share == 1.0 {
        *sum = part;
        return;
    }
    if sum.is_empty() {
        *sum = part.iter().map(|gradient| vec![0.0; gradient.len()]).collect();
    }
    for (sum, part) in sum.iter_mut().zip(&part) {
        crate::ops::lanes::add_scaled(sum, part, share);
    }
}

/// Initial weights, or those of `init`.
fn fresh_state(
    settings: &Settings,
    parameters: &[Parameter],
    init: Option<Model>,
    model: &Model,
) -> Result<TrainState> {
    let raw = match init {
        Some(init) => {
            if init.tokenizer.fingerprint() != model.tokenizer.fingerprint() {
                let given = format!("a tokenizer of {} tokens", model.tokenizer.vocab_size());
                return Err(Error::invalid("tokenizer", given, "the tokenizer of the model given by --init"));
            }
            check_same_network(&init, model)?;
            init.values
        }
        None => parameters
            .iter()
            .enumerate()
            .map(|(i, parameter)| parameter.initial(settings.train.seed, i))
            .collect(),
    };
    let optimizer = AdamW::new(settings.train.adamw, parameters);
    Ok(TrainState { step: 0, average: raw.clone(), raw, optimizer, cursor: Default::default() })
}

/// Weights mean the same only in the same network over the same codes; dropout may differ.
fn check_same_network(init: &Model, model: &Model) -> Result<()> {
    let (theirs, ours) = (&init.config.model, &model.config.model);
    let keys = [
        ("model.network", theirs.network == ours.network),
        ("model.subtokens", theirs.subtokens == ours.subtokens),
        ("model.codes", init.predictive.codes().permutation() == model.predictive.codes().permutation()),
        ("model.heads", theirs.heads == ours.heads),
        ("model.embedding", theirs.embedding == ours.embedding),
        ("model.time_conditioning", theirs.time_conditioning == ours.time_conditioning),
        ("model (sizes)", init.network.parameters() == model.network.parameters()),
    ];
    match keys.iter().find(|(_, same)| !same) {
        Some((key, _)) => Err(Error::invalid(*key, "different", "what the model given as the start has")),
        None => Ok(()),
    }
}

/// Opens the metrics for appending, without records of steps after `step`, which will be taken again, and without
/// a last line that was not written to its end.
fn open_metrics(path: &Path, step: u64) -> Result<fs::File> {
    if path.exists() {
        let bytes = fs::read(path).map_err(Error::io(path))?;
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
        let later =
            |line: &[u8]| serde_json::from_slice::<Record>(line).is_ok_and(|record| record.step() > step);
        let kept: Vec<&[u8]> =
            bytes[..whole].split_inclusive(|byte| *byte == b'\n').filter(|line| !later(line)).collect();
        write_atomically(path, &kept.concat())?;
    }
    fs::OpenOptions::new().create(true).append(true).open(path).map_err(Error::io(path))
}
