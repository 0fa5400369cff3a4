//! The training loop.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::agree::{compare_requests, compare_starts};
use super::best::best_after;
use super::checkpoint;
use super::clip::ClipChoice;
use super::event::{ClipRecord, Event, Observer, Record, StepRecord, ValidationRecord};
use super::exchange::{Ranks, Traffic};
use super::search::IntervalSearch;
use super::settings::{RunSettings, TrainSettings};
use super::state::{Reached, TrainState};
use super::stepper::{self, Stepper};
use super::task::{self, Task};
use super::validate::{EvaluationSize, Validation};
use crate::compute::Compute;
use crate::durable::write_atomically;
use crate::likelihood::Figure;
use crate::model::BestValidation;
use crate::shard::Peers;
use crate::{Error, Result};

/// File of a run with its resolved settings.
pub const SETTINGS_FILE: &str = "settings.toml";

/// File of a run with one record per line.
pub const METRICS_FILE: &str = "metrics.jsonl";

/// What to train, and where.
#[derive(Clone, Debug)]
pub struct RunRequest {
    /// Everything that determines the run.
    pub settings: RunSettings,
    /// Folder of the run.
    pub out: PathBuf,
    /// Whether to resume from the newest checkpoint; otherwise the folder must not hold a run.
    pub resume: bool,
    /// Model whose weights are the start.
    pub init: Option<PathBuf>,
    /// Where and how to compute. A run resumes bit for bit only on the same device, in the same precision.
    pub compute: Compute,
}

/// How a run ended.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// All steps are done, or the run ended early.
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
    pub validation: Validation,
    /// Folder of the last checkpoint.
    pub checkpoint: PathBuf,
    /// Steps done.
    pub step: u64,
    /// Whether the run ended before its last step, since no validation was better for too long (`train.patience`).
    pub early: bool,
    /// The best validation, where they are compared (`train.keep_best`, `train.patience`).
    pub best: Option<BestValidation>,
    /// What every rank of the run has sent to others.
    pub traffic: Vec<Traffic>,
}

/// Trains.
///
/// The run is a function of its settings, the corpus and the device: the same again gives the same
/// weights bit for bit on the CPU device, however often it was interrupted, whatever the number of threads.
///
/// # Errors
/// Settings, files and corpora that do not go together, each naming what is wrong, before anything is
/// allocated where that is possible; [`Error::NotFinite`] when the loss or a gradient stops being a number, which a GPU
/// reports at the next record, validation or checkpoint: the last checkpoint stays.
pub fn run(request: &RunRequest, observer: &mut dyn Observer, stop: &AtomicBool) -> Result<Outcome> {
    run_among(request, &Ranks::alone(), observer, stop)
}

/// Trains as one of `ranks`, which all call this with the same request, but for the name of the folder, which all see. The
/// results are those of [`run()`] to the last bit, whatever the number of ranks.
///
/// Rank 0 prepares the data and writes metrics, checkpoints and samples. All stop where any is asked to. After an error a
/// rank is of no use to the others, which wait for it: whoever calls this ends them with [`Ranks::abort`].
///
/// # Errors
/// As [`run()`]; [`Error::Differ`] where program, settings, data or start are not the same on all ranks, [`Error::Invalid`]
/// naming `train.accumulate` where there are more ranks than micro-batches, and `device` on GPUs that cannot exchange
/// gradients, and [`Error::Lost`] where the connection is.
pub fn run_among(
    request: &RunRequest,
    ranks: &Ranks,
    observer: &mut dyn Observer,
    stop: &AtomicBool,
) -> Result<Outcome> {
    request.settings.validate()?;
    compare_requests(request, ranks)?;
    check_ranks(request, ranks)?;
    if ranks.is_first() || request.resume {
        check_folder(request)?;
    }
    let place = Place {
        settings: &request.settings.train,
        out: &request.out,
        resume: request.resume,
        init: request.init.as_deref(),
        compute: &request.compute,
        ranks,
    };
    let open = |observer: &mut dyn Observer| task::open(request, ranks, observer);
    run_task(&place, open, request.settings.to_toml(), observer, stop)
}

/// Checks that there is a slot for every rank.
fn check_ranks(request: &RunRequest, ranks: &Ranks) -> Result<()> {
    let (ranks, slots) = (ranks.count(), request.settings.train.accumulate);
    match ranks <= slots {
        true => Ok(()),
        false => {
            let allowed = format!("at least {ranks} on {ranks} ranks: each computes one micro-batch or more");
            Err(Error::invalid("train.accumulate", slots, allowed))
        }
    }
}

/// Where and how a run is made, whatever it trains.
pub(super) struct Place<'a> {
    pub settings: &'a TrainSettings,
    pub out: &'a Path,
    pub resume: bool,
    pub init: Option<&'a Path>,
    pub compute: &'a Compute,
    pub ranks: &'a Ranks,
}

/// Trains what `open` opens; `settings` are what is written to [`SETTINGS_FILE`].
pub(super) fn run_task(
    place: &Place,
    open: impl FnOnce(&mut dyn Observer) -> Result<Task>,
    settings: std::result::Result<String, String>,
    observer: &mut dyn Observer,
    stop: &AtomicBool,
) -> Result<Outcome> {
    let existed = place.out.exists();
    let prepared = prepare_run(place, open, settings, observer);
    if prepared.is_err() && !existed && place.ranks.is_first() {
        // A run that never began leaves nothing behind; the error to report is the first one.
        let _ = fs::remove_dir_all(place.out);
    }
    let (mut run, started) = prepared?;
    observer.notify(&started);
    run.train(observer, stop)
}

/// Everything up to the first step.
fn prepare_run<'a>(
    place: &'a Place<'a>,
    open: impl FnOnce(&mut dyn Observer) -> Result<Task>,
    settings: std::result::Result<String, String>,
    observer: &mut dyn Observer,
) -> Result<(Run<'a>, Event)> {
    if place.ranks.is_first() {
        fs::create_dir_all(place.out).map_err(Error::io(place.out))?;
        if !place.resume {
            checkpoint::remove_first(place.out)?;
        }
    }
    let task = open_in_turn(place, open, observer)?;
    let (train_tokens, valid_tokens, fidelity) = (task.train_tokens, task.valid_tokens, task.fidelity);
    let mut run = Run::new(place, task)?;
    if !place.resume {
        // The settings come last: a folder that holds them holds a checkpoint to resume from.
        run.checkpoint(observer)?;
    }
    if place.ranks.is_first() {
        let path = place.out.join(SETTINGS_FILE);
        let text = settings.map_err(|error| Error::format(&path, error))?;
        write_atomically(&path, text.as_bytes())?;
    }
    let started = Event::Started {
        parameters: run.task.parameters.iter().map(|parameter| parameter.len() as u64).sum(),
        train_tokens,
        valid_tokens,
        fidelity,
        step: run.reached.step,
        steps: run.settings.steps,
    };
    Ok((run, started))
}

/// Opens data on rank 0 first, which prepares them; the others find them there.
fn open_in_turn(
    place: &Place,
    open: impl FnOnce(&mut dyn Observer) -> Result<Task>,
    observer: &mut dyn Observer,
) -> Result<Task> {
    if place.ranks.is_first() {
        let task = open(observer)?;
        place.ranks.barrier()?;
        return Ok(task);
    }
    place.ranks.barrier()?;
    if !place.out.is_dir() {
        let allowed = "a folder that all ranks see: rank 0 has made it";
        return Err(Error::invalid("out", place.out.display(), allowed));
    }
    open(observer)
}

/// Refuses to overwrite a run, and to resume one with other settings.
fn check_folder(request: &RunRequest) -> Result<()> {
    let path = request.out.join(SETTINGS_FILE);
    if !request.resume {
        return check_unused(&request.out);
    }
    let saved = RunSettings::read(&path)?;
    saved.first_difference(&request.settings).map_or(Ok(()), |section| Err(changed(section, &path)))
}

/// Refuses a folder that holds a run.
pub(super) fn check_unused(out: &Path) -> Result<()> {
    if !out.join(SETTINGS_FILE).exists() {
        return Ok(());
    }
    let allowed = "a folder that holds no run yet; resume the run in it, or choose another";
    Err(Error::invalid("out", out.display(), allowed))
}

/// The error of a `section` that is otherwise than in the settings saved at `path`.
pub(super) fn changed(section: &str, path: &Path) -> Error {
    let problem = format!("cannot be changed when a run is resumed: its settings are in {}", path.display());
    Error::Conflict { field: section.to_owned(), problem }
}

struct Run<'a> {
    place: &'a Place<'a>,
    settings: &'a TrainSettings,
    task: Task,
    stepper: Box<dyn Stepper>,
    reached: Reached,
    /// On rank 0.
    metrics: Option<fs::File>,
    /// Time spent in steps since the last record; validations and checkpoints do not count.
    time: Duration,
}

impl<'a> Run<'a> {
    fn new(place: &'a Place<'a>, mut task: Task) -> Result<Self> {
        let settings = place.settings;
        let (reached, state) = start(place, &task)?;
        task.slots.seek(reached.cursor)?;
        if let Some(interval) = reached.clip_interval {
            task.slots.loss_mut().set_interval(interval);
        }
        compare_starts(&task, reached, &state, place.ranks)?;
        let metrics = match place.ranks.is_first() {
            true => {
                let kept = kept_validations(settings, reached);
                Some(open_metrics(&place.out.join(METRICS_FILE), reached.step, kept)?)
            }
            false => None,
        };
        let stepper = stepper::open_among(settings, &task.parameters, state, place.compute, place.ranks)?;
        Ok(Self { place, settings, task, stepper, reached, metrics, time: Duration::ZERO })
    }

    fn train(&mut self, observer: &mut dyn Observer, stop: &AtomicBool) -> Result<Outcome> {
        let settings = self.settings;
        while self.reached.step < settings.steps && !self.ends_early() {
            if self.place.ranks.any(stop.load(Ordering::Relaxed))? {
                let checkpoint = self.checkpoint(observer)?;
                return Ok(Outcome::Stopped { step: self.reached.step, checkpoint });
            }
            self.step()?;
            let step = self.reached.step;
            let last = step == settings.steps;
            if last || step.is_multiple_of(settings.log_every) {
                self.record_steps(observer)?;
            }
            if !last && step.is_multiple_of(settings.validate_every) {
                let validation = self.validate(self.usual_size(), settings.validate_samples, observer)?;
                self.compare(&validation.figures);
                if self.ends_early() && !step.is_multiple_of(settings.log_every) {
                    self.record_steps(observer)?;
                }
            }
            // After the last step, too: the run may be resumed with more steps.
            if step.is_multiple_of(settings.validate_every) {
                self.search_interval(observer)?;
            }
            if last && settings.compares_validations() {
                self.compare_last()?;
            }
            let best = settings.kept(self.reached.best) == Some(step);
            if !last && (best || step.is_multiple_of(settings.checkpoint_every)) {
                self.checkpoint(observer)?;
            }
        }
        self.finish(observer, stop)
    }

    /// Whether too many validations were not better than the best.
    fn ends_early(&self) -> bool {
        self.settings.ends_early(self.reached.best)
    }

    /// What every validation but the last evaluates.
    fn usual_size(&self) -> EvaluationSize {
        let TrainSettings { validate_sequences, validate_draws, .. } = *self.settings;
        EvaluationSize { sequences: validate_sequences, draws: validate_draws }
    }

    /// Notes whether a validation is the best so far.
    fn compare(&mut self, figures: &[Figure]) {
        if self.settings.compares_validations() {
            self.reached.best = best_after(self.reached.best, self.reached.step, figures);
        }
    }

    /// The last validation is of other sequences and draws than the others: to be compared, the last step is evaluated on
    /// theirs, too.
    fn compare_last(&mut self) -> Result<()> {
        self.sync()?;
        let (size, step) = (self.usual_size(), self.reached.step);
        let validation = self.task.model.validate(self.stepper.average()?, size, 0, step)?;
        self.compare(&validation.figures);
        Ok(())
    }

    /// The interval of times from here on, where it is searched for.
    fn search_interval(&mut self, observer: &mut dyn Observer) -> Result<()> {
        if self.settings.clip_interval != ClipChoice::Search {
            return Ok(());
        }
        self.sync()?;
        let (step, Task { slots, model, .. }) = (self.reached.step, &mut self.task);
        let seq_len = slots.seq_len();
        let Some(masking) = slots.loss_mut().masking() else { return Ok(()) };
        let search = IntervalSearch { masking, step, seq_len };
        let found = model.search(self.stepper.average()?, self.settings.validate_sequences, &search)?;
        slots.loss_mut().set_interval(found.interval);
        self.reached.clip_interval = Some(found.interval);
        let record = ClipRecord { step, interval: found.interval, variance: found.variance };
        self.write(&Record::Clip(record.clone()))?;
        observer.notify(&Event::Clip(record));
        Ok(())
    }

    fn step(&mut self) -> Result<()> {
        let started = Instant::now();
        let step = self.reached.step + 1;
        self.stepper.step(step, &self.task.slots)?;
        self.task.slots.advance();
        self.reached = Reached { step, cursor: self.task.slots.cursor(), ..self.reached };
        self.time += started.elapsed();
        Ok(())
    }

    /// Waits for the steps so far, as part of their time.
    fn sync(&mut self) -> Result<()> {
        let started = Instant::now();
        self.stepper.sync()?;
        self.time += started.elapsed();
        Ok(())
    }

    fn record_steps(&mut self, observer: &mut dyn Observer) -> Result<()> {
        self.sync()?;
        let report = self.stepper.report()?;
        let time = std::mem::take(&mut self.time);
        let step = self.reached.step;
        let per_step = self.task.slots.tokens_per_step();
        let record = StepRecord {
            step,
            loss_nats_per_token: report.loss / report.steps as f64,
            objective: self.task.slots.loss_name().to_owned(),
            gradient_norm: report.gradient_norm,
            learning_rate: self.settings.learning_rate_at(step),
            tokens: per_step * step,
            tokens_per_second: (per_step * report.steps) as f64 / time.as_secs_f64(),
        };
        self.write(&Record::Step(record.clone()))?;
        observer.notify(&Event::Step(record));
        Ok(())
    }

    fn write(&mut self, record: &Record) -> Result<()> {
        let Some(metrics) = &mut self.metrics else { return Ok(()) };
        let path = self.place.out.join(METRICS_FILE);
        let mut line =
            serde_json::to_string(record).map_err(|error| Error::format(&path, error.to_string()))?;
        line.push('\n');
        metrics.write_all(line.as_bytes()).map_err(Error::io(path))
    }

    /// Figures and samples of the averaged weights, recorded.
    fn validate(
        &mut self,
        size: EvaluationSize,
        samples: usize,
        observer: &mut dyn Observer,
    ) -> Result<Validation> {
        self.sync()?;
        let step = self.reached.step;
        let samples = if self.place.ranks.is_first() { samples } else { 0 };
        let validation = self.task.model.validate(self.stepper.average()?, size, samples, step)?;
        let record = ValidationRecord {
            step,
            figures: validation.figures.clone(),
            samples: validation.samples.clone(),
        };
        self.write(&Record::Validation(record.clone()))?;
        observer.notify(&Event::Validation(record));
        Ok(validation)
    }

    fn checkpoint(&mut self, observer: &mut dyn Observer) -> Result<PathBuf> {
        self.sync()?;
        let Self { place, task, stepper, reached, .. } = self;
        let state = stepper.state()?;
        if !place.ranks.is_first() {
            return Ok(checkpoint::folder(place.out, reached.step));
        }
        let path = checkpoint::save(place.out, *reached, state, &task.parameters, &mut |folder| {
            task.model.save(&state.average, folder)
        })?;
        let best = self.settings.kept(self.reached.best);
        checkpoint::prune(self.place.out, self.settings.keep_checkpoints, best)?;
        observer.notify(&Event::Checkpoint(path.clone()));
        Ok(path)
    }

    fn finish(&mut self, observer: &mut dyn Observer, stop: &AtomicBool) -> Result<Outcome> {
        let train = self.settings;
        let size = EvaluationSize { sequences: train.final_sequences, draws: train.final_draws };
        let Reached { step, best, .. } = self.reached;
        let early = step < train.steps;
        if let Some(best) = best.filter(|_| early) {
            observer.notify(&Event::EndsEarly { step, best });
        }
        let checkpoint = self.checkpoint(observer)?;
        let stops = vec![u8::from(stop.load(Ordering::Relaxed))];
        if self.place.ranks.all(stops)?.contains(&vec![1]) {
            return Ok(Outcome::Stopped { step, checkpoint });
        }
        let validation = self.validate(size, train.final_samples, observer)?;
        let traffic = self.place.ranks.traffic()?;
        Ok(Outcome::Finished(Box::new(Summary { validation, checkpoint, step, early, best, traffic })))
    }
}

/// The newest checkpoint, or the weights that a run begins with: another model's, or drawn.
fn start(place: &Place, task: &Task) -> Result<(Reached, TrainState)> {
    let (settings, parameters) = (place.settings, &task.parameters);
    if place.resume {
        let newest = checkpoint::newest(place.out)?;
        let (mut reached, state) = checkpoint::load(&newest, parameters, settings.adamw)?;
        if !settings.compares_validations() {
            // Validations from here on are not counted: what was the best before says nothing later.
            reached.best = None;
        }
        let searched =
            if settings.clip_interval == ClipChoice::Search { reached.clip_interval } else { None };
        reached.clip_interval = searched;
        return Ok((reached, state));
    }
    let state = match place.init {
        Some(folder) => TrainState::new(task.model.init_weights(folder)?, settings.adamw, parameters),
        None => TrainState::drawn(settings.seed, settings.adamw, parameters),
    };
    Ok((Reached::default(), state))
}

/// How many validations of the step that a run has reached stay in its metrics. The last one of a run that is done comes
/// after its checkpoint and is made again; the one that ended a run early stands before it, and is not.
fn kept_validations(settings: &TrainSettings, reached: Reached) -> usize {
    let Reached { step, best, .. } = reached;
    match (step >= settings.steps, settings.ends_early(best)) {
        (true, _) => 0,
        (false, true) => usize::from(step.is_multiple_of(settings.validate_every)),
        (false, false) => usize::MAX,
    }
}

/// Opens the metrics for appending, without records of steps after `step`, which will be taken again, without validations
/// at `step` but the first `kept`, and without a last line that was not written to its end.
fn open_metrics(path: &Path, step: u64, kept: usize) -> Result<fs::File> {
    if path.exists() {
        let bytes = fs::read(path).map_err(Error::io(path))?;
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
        let mut validations = 0;
        let mut again = |record: &Record| {
            let is_validation = record.step() == step && matches!(record, Record::Validation(_));
            validations += usize::from(is_validation);
            record.step() > step || is_validation && validations > kept
        };
        let mut later =
            |line: &[u8]| serde_json::from_slice::<Record>(line).is_ok_and(|record| again(&record));
        let kept: Vec<&[u8]> =
            bytes[..whole].split_inclusive(|byte| *byte == b'\n').filter(|line| !later(line)).collect();
        write_atomically(path, &kept.concat())?;
    }
    fs::OpenOptions::new().create(true).append(true).open(path).map_err(Error::io(path))
}
