//! The training loop.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::checkpoint::{self, TrainState};
use super::device::DeviceState;
use super::event::{Event, Observer, Record, StepRecord, ValidationRecord};
use super::optimizer::{AdamW, Average, StepSize, clip_factor, global_norm};
use super::settings::{RunSettings, TrainSettings};
use super::step::gradients;
use super::task::{self, Judgement, Task};
use super::validate::EvaluationSize;
use crate::backbone::weights::{Parameter, Weights};
use crate::compute::Compute;
use crate::durable::write_atomically;
use crate::{Error, Result};

/// File of a run with its resolved settings.
pub const SETTINGS_FILE: &str = "settings.toml";

/// File of a run with one record a line.
pub const METRICS_FILE: &str = "metrics.jsonl";

/// What to train, and where.
#[derive(Clone, Debug)]
pub struct RunRequest {
    /// Everything that determines the run.
    pub settings: RunSettings,
    /// Folder of the run.
    pub out: PathBuf,
    /// Whether to go on from the newest checkpoint; otherwise the folder must not hold a run.
    pub resume: bool,
    /// Model whose weights are the start.
    pub init: Option<PathBuf>,
    /// Where and how to compute. A run is resumed bit for bit on the same device, in the same precision, only.
    pub compute: Compute,
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
    /// Figures of held-out data, and samples, with the evaluations and idle steps they took.
    pub judgement: Judgement,
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
/// allocated where that is possible; [`Error::NotFinite`] when the loss or a gradient stops being a number, on a GPU
/// when that is next looked at: the last checkpoint stays.
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
    fs::create_dir_all(&request.out).map_err(Error::io(&request.out))?;
    let task = task::open(request, observer)?;
    let (train_tokens, valid_tokens) = task.tokens();
    let mut run = Run::new(request, task)?;
    if !request.resume {
        // The settings come last: a folder that holds them holds a checkpoint to go on from.
        run.checkpoint(observer)?;
    }
    write_settings(request)?;
    let started = Event::Started {
        parameters: run.parameters.iter().map(|parameter| parameter.len() as u64).sum(),
        train_tokens,
        valid_tokens,
        step: run.state.step,
        steps: run.settings.steps,
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
    let saved = RunSettings::read(&path)?;
    match saved.first_difference(&request.settings) {
        Some(section) => {
            let problem =
                format!("cannot be changed when a run is resumed: its settings are in {}", path.display());
            Err(Error::Conflict { field: section.to_owned(), problem })
        }
        None => Ok(()),
    }
}

fn write_settings(request: &RunRequest) -> Result<()> {
    let path = request.out.join(SETTINGS_FILE);
    let text = request.settings.to_toml().map_err(|error| Error::format(&path, error))?;
    write_atomically(&path, text.as_bytes())
}

struct Run<'a> {
    request: &'a RunRequest,
    settings: &'a TrainSettings,
    parameters: Vec<Parameter>,
    task: Box<dyn Task>,
    state: TrainState,
    /// On GPUs, the weights, moments and averages; `state` has copies of them when a run is evaluated or saved.
    on_device: Option<DeviceState>,
    metrics: fs::File,
    window: Window,
}

/// Sums since the last record.
#[derive(Default)]
struct Window {
    /// Time spent in steps, validations and checkpoints not counted.
    time: Duration,
    loss: f64,
    steps: u64,
    /// The gradients' norm of the last step, before clipping.
    norm: f64,
}

impl<'a> Run<'a> {
    fn new(request: &'a RunRequest, mut task: Box<dyn Task>) -> Result<Self> {
        let settings = &request.settings.train;
        let parameters = task.parameters();
        let state = if request.resume {
            let folder = checkpoint::newest(&request.out)?;
            checkpoint::load_state(&folder, &parameters, AdamW::new(settings.adamw, &parameters))?
        } else {
            let init = request.init.as_deref().map(|folder| task.weights_of(folder)).transpose()?;
            fresh_state(settings, &parameters, init)
        };
        task.seek(state.cursor)?;
        let metrics =
            open_metrics(&request.out.join(METRICS_FILE), state.step, state.step >= settings.steps)?;
        let on_device = request.compute.kernels().are_for_gpus();
        let on_device = on_device.then(|| DeviceState::new(&state, &parameters, request.compute.device()));
        let window = Window::default();
        Ok(Self { request, settings, parameters, task, state, on_device, metrics, window })
    }

    fn train(&mut self, observer: &mut dyn Observer, stop: &AtomicBool) -> Result<Outcome> {
        let settings = self.settings;
        while self.state.step < settings.steps {
            if stop.load(Ordering::Relaxed) {
                let checkpoint = self.checkpoint(observer)?;
                return Ok(Outcome::Stopped { step: self.state.step, checkpoint });
            }
            self.step()?;
            let step = self.state.step;
            let last = step == settings.steps;
            if last || step.is_multiple_of(settings.log_every) {
                self.record_steps(observer)?;
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

    /// One optimiser step.
    fn step(&mut self) -> Result<()> {
        let started = Instant::now();
        let step = self.state.step + 1;
        match &mut self.on_device {
            Some(on_device) => {
                let share = 1.0 / self.settings.accumulate as f32;
                for index in 0..self.settings.accumulate {
                    let weights = on_device.weights();
                    on_device.add(self.task.next_loss(&weights, step, index)?, &weights, share);
                }
                on_device.step(self.settings, step);
            }
            None => self.step_in_memory(step)?,
        }
        self.state.step = step;
        self.state.cursor = self.task.cursor();
        self.window.time += started.elapsed();
        self.window.steps += 1;
        Ok(())
    }

    fn step_in_memory(&mut self, step: u64) -> Result<()> {
        let settings = self.settings;
        let device = self.request.compute.device().clone().autodiff();
        let share = 1.0 / settings.accumulate as f32;
        let mut loss = 0.0;
        let mut sums: Vec<Vec<f32>> = Vec::new();
        for index in 0..settings.accumulate {
            let weights = Weights::new(&self.parameters, &self.state.raw, &device);
            let part = self.task.next_loss(&weights, step, index)?;
            let (value, part) = gradients(part, &weights, &self.parameters)?;
            loss += value / settings.accumulate as f64;
            accumulate(&mut sums, part, share);
        }
        self.window.loss += finite(step, "loss", loss)?;
        let norm = finite(step, "gradient norm", global_norm(&sums))?;
        self.window.norm = norm;
        let size = StepSize {
            learning_rate: settings.learning_rate_at(step),
            gradient_factor: clip_factor(norm, settings.clip),
        };
        let TrainState { raw, average, optimizer, .. } = &mut self.state;
        let average = Average { values: average, decay: settings.ema_decay };
        optimizer.step(raw, &sums, size, Some(average));
        Ok(())
    }

    /// Waits for the device, and checks what its steps since the last look came to.
    fn look(&mut self) -> Result<()> {
        let started = Instant::now();
        if let Some(looked) = self.on_device.as_mut().and_then(DeviceState::look) {
            self.window.loss += finite(self.state.step, "loss", looked.loss)?;
            finite(self.state.step, "sum of gradient norms", looked.norms)?;
            self.window.norm = looked.norm;
        }
        self.window.time += started.elapsed();
        Ok(())
    }

    fn record_steps(&mut self, observer: &mut dyn Observer) -> Result<()> {
        self.look()?;
        let window = std::mem::take(&mut self.window);
        let settings = self.settings;
        let per_step = (settings.batch_size * settings.accumulate * self.task.seq_len()) as u64;
        let record = StepRecord {
            step: self.state.step,
            loss_nats_per_token: window.loss / window.steps as f64,
            objective: self.task.loss_name().to_owned(),
            gradient_norm: window.norm,
            learning_rate: settings.learning_rate_at(self.state.step),
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
        let train = self.settings;
        let size = EvaluationSize { sequences: train.validate_sequences, draws: train.validate_draws };
        self.judge(size, train.validate_samples, observer).map(drop)
    }

    /// Figures and samples of the averaged weights, recorded.
    fn judge(
        &mut self,
        size: EvaluationSize,
        samples: usize,
        observer: &mut dyn Observer,
    ) -> Result<Judgement> {
        self.look()?;
        if let Some(on_device) = &self.on_device {
            on_device.copy_average_to(&mut self.state)?;
        }
        let judgement = self.task.judge(&self.state.average, size, samples, self.state.step)?;
        let record = ValidationRecord {
            step: self.state.step,
            figures: judgement.figures.clone(),
            samples: judgement.samples.clone(),
        };
        self.write(&Record::Validation(record.clone()))?;
        observer.notify(&Event::Validation(record));
        Ok(judgement)
    }

    fn checkpoint(&mut self, observer: &mut dyn Observer) -> Result<PathBuf> {
        self.look()?;
        if let Some(on_device) = &mut self.on_device {
            on_device.copy_to(&mut self.state)?;
        }
        let Self { request, parameters, task, state, .. } = self;
        let path = checkpoint::save(&request.out, state, parameters, &mut |folder| {
            task.save(&state.average, folder)
        })?;
        checkpoint::prune(&self.request.out, self.settings.keep_checkpoints)?;
        observer.notify(&Event::Checkpoint(path.clone()));
        Ok(path)
    }

    fn finish(&mut self, observer: &mut dyn Observer, stop: &AtomicBool) -> Result<Outcome> {
        let train = self.settings;
        let size = EvaluationSize { sequences: train.final_sequences, draws: train.final_draws };
        let checkpoint = self.checkpoint(observer)?;
        if stop.load(Ordering::Relaxed) {
            return Ok(Outcome::Stopped { step: self.state.step, checkpoint });
        }
        let judgement = self.judge(size, train.final_samples, observer)?;
        Ok(Outcome::Finished(Box::new(Summary { judgement, checkpoint })))
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

/// Initial weights, or `init`.
fn fresh_state(
    settings: &TrainSettings,
    parameters: &[Parameter],
    init: Option<Vec<Vec<f32>>>,
) -> TrainState {
    let drawn = || {
        let all = parameters.iter().enumerate();
        all.map(|(i, parameter)| parameter.initial(settings.seed, i)).collect()
    };
    let raw = init.unwrap_or_else(drawn);
    let optimizer = AdamW::new(settings.adamw, parameters);
    TrainState { step: 0, average: raw.clone(), raw, optimizer, cursor: Default::default() }
}

/// Opens the metrics for appending, without records of steps after `step`, which will be taken again, without the
/// validation at `step` where the run is `done`, since that comes after its checkpoint, and without a last line that was
/// not written to its end.
fn open_metrics(path: &Path, step: u64, done: bool) -> Result<fs::File> {
    if path.exists() {
        let bytes = fs::read(path).map_err(Error::io(path))?;
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
        let again = |record: &Record| {
            record.step() > step || done && record.step() == step && matches!(record, Record::Validation(_))
        };
        let later = |line: &[u8]| serde_json::from_slice::<Record>(line).is_ok_and(|record| again(&record));
        let kept: Vec<&[u8]> =
            bytes[..whole].split_inclusive(|byte| *byte == b'\n').filter(|line| !later(line)).collect();
        write_atomically(path, &kept.concat())?;
    }
    fs::OpenOptions::new().create(true).append(true).open(path).map_err(Error::io(path))
}
