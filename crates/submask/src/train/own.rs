//! Training a network and data of one's own, without a configuration of this library's.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use serde::{Deserialize, Serialize};

use super::clip::block_digits;
use super::event::Observer;
use super::exchange::Ranks;
use super::loss::LossFunction;
use super::run::{Outcome, Place, SETTINGS_FILE, changed, check_unused, run_task};
use super::search::{Found, IntervalSearch};
use super::settings::TrainSettings;
use super::slot::Slots;
use super::task::{Task, TrainedModel};
use super::validate::{EvaluationSize, Validation};
use crate::backbone::weights::{Weights, arrange};
use crate::backbone::{Backbone, LoadedBackbone};
use crate::compute::Compute;
use crate::data::hash::Fingerprint;
use crate::data::{Batcher, Dataset};
use crate::likelihood::{LikelihoodSettings, joint_objective, nelbo_subtoken};
use crate::model::{HeldOut, Network, WEIGHTS_FILE, read_safetensors, write_safetensors};
use crate::predictive::Predictive;
use crate::sampler::{Prompt, SampleSettings, Sampler, Steps};
use crate::schedule::Schedule;
use crate::{Error, Result};

/// States per network call.
const BATCH: usize = 32;

/// A diffusion network of one's own, with the codes of its tokens.
#[derive(Clone, Debug)]
pub struct OwnModel {
    /// The network; its operations are those of the [`Compute`] that it is used with.
    pub network: Arc<dyn Backbone>,
    /// Sub-tokens and the carry-over constraint.
    pub predictive: Arc<Predictive>,
    /// The noise schedule.
    pub schedule: Schedule,
}

/// A run of a network and data of one's own.
pub struct OwnRun {
    /// What is trained.
    pub model: OwnModel,
    /// What it learns from.
    pub dataset: Arc<dyn Dataset>,
    /// What it is validated on.
    pub held_out: HeldOut,
    /// The training loop.
    pub settings: TrainSettings,
    /// Dropout while training, in [0, 1).
    pub dropout: f64,
    /// Folder of the run.
    pub out: PathBuf,
    /// Whether to resume from the newest checkpoint; otherwise the folder must not hold a run.
    pub resume: bool,
    /// Where and how to compute.
    pub compute: Compute,
}

/// What a run of one's own is resumed with.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct OwnSettings {
    /// Of the dataset, 16 hexadecimal digits.
    fingerprint: String,
    /// Of the codes of all tokens, 16 hexadecimal digits.
    codes: String,
    carry_over: bool,
    dropout: f64,
    schedule: Schedule,
    train: TrainSettings,
}

impl OwnSettings {
    fn of(own: &OwnRun) -> Result<Self> {
        let predictive = &own.model.predictive;
        let tokens: Vec<u32> = (0..predictive.codes().vocab_size() as u32).collect();
        let digits = predictive.codes().encode(&tokens)?;
        let digits: Vec<u8> = digits.into_iter().flat_map(u32::to_le_bytes).collect();
        Ok(Self {
            fingerprint: format!("{:016x}", own.dataset.fingerprint()),
            codes: format!("{:016x}", Fingerprint::new().part(&digits).value()),
            carry_over: predictive.carry_over(),
            dropout: own.dropout,
            schedule: own.model.schedule,
            train: own.settings.clone(),
        })
    }
}

impl OwnModel {
    /// The network with the averaged weights of a checkpoint or a run.
    ///
    /// # Errors
    /// [`Error::Io`] and [`Error::Format`] naming the file, [`Error::Invalid`] for a network of other operations than
    /// those of `compute`.
    pub fn load(&self, path: &Path, compute: &Compute) -> Result<LoadedBackbone> {
        let folder = match path.join(WEIGHTS_FILE).is_file() {
            true => path.to_path_buf(),
            false => super::checkpoint::newest(path)?,
        };
        super::checkpoint::verify_if_any(&folder)?;
        self.loaded(&self.values(&folder)?, compute)
    }

    fn values(&self, folder: &Path) -> Result<Vec<Vec<f32>>> {
        let file = folder.join(WEIGHTS_FILE);
        arrange(self.network.parameters(), read_safetensors(&file)?, &file)
    }

    fn loaded(&self, values: &[Vec<f32>], compute: &Compute) -> Result<LoadedBackbone> {
        self.check_kernels(compute)?;
        let weights = Weights::new(self.network.parameters(), values, compute.device());
        Ok(LoadedBackbone { network: self.network.clone(), weights })
    }

    fn check_kernels(&self, compute: &Compute) -> Result<()> {
        let (ours, theirs) = (self.network.kernels(), compute.kernels());
        match ours == theirs {
            true => Ok(()),
            false => {
                Err(Error::invalid("operations of the network", format!("{ours:?}"), format!("{theirs:?}")))
            }
        }
    }
}

impl OwnRun {
    /// Before anything is computed or written.
    fn validate(&self) -> Result<()> {
        self.settings.validate()?;
        self.model.schedule.validate()?;
        if !(0.0..1.0).contains(&self.dropout) {
            return Err(Error::invalid("dropout", self.dropout, "a number in [0, 1)"));
        }
        self.model.check_kernels(&self.compute)?;
        let spec = self.model.network.spec();
        spec.check_codes(self.model.predictive.codes())?;
        spec.check_seq_len(self.dataset.seq_len())?;
        let digits = block_digits(self.dataset.seq_len(), spec.block_len, spec.subtoken_len);
        self.settings.clip_interval.check(&self.model.schedule, &digits)?;
        spec.check_seq_len(self.held_out.seq_len)?;
        self.held_out.lengths.iter().try_for_each(|len| spec.check_seq_len(*len))?;
        let sequences = self.held_out.sequences()?;
        self.held_out.given_digits(self.model.predictive.codes().subtoken_len())?;
        if spec.classes.is_some() && !self.held_out.labels.is_empty() {
            spec.check_labels(Some(&self.held_out.labels), sequences.count())?;
        }
        Ok(())
    }
}

/// Trains a network of one's own, as [`run`](super::run()) trains those of this library: with records, validations
/// (the sub-token bound and the joint objective, in nats per token), checkpoints, and bit-exact resuming. A checkpoint
/// holds the averaged weights as `model.safetensors`, which [`OwnModel::load`] reads.
///
/// # Errors
/// As [`run`](super::run()).
pub fn run_own(own: &OwnRun, observer: &mut dyn Observer, stop: &AtomicBool) -> Result<Outcome> {
    own.validate()?;
    let settings = OwnSettings::of(own)?;
    match own.resume {
        true => check_resumed(&settings, &own.out.join(SETTINGS_FILE))?,
        false => check_unused(&own.out)?,
    }
    let place = Place {
        settings: &own.settings,
        out: &own.out,
        resume: own.resume,
        init: None,
        compute: &own.compute,
        ranks: &Ranks::alone(),
    };
    let text = toml::to_string(&settings).map_err(|error| error.to_string());
    run_task(&place, |_| task(own), text, observer, stop)
}

fn check_resumed(settings: &OwnSettings, path: &Path) -> Result<()> {
    let text = std::fs::read_to_string(path).map_err(Error::io(path))?;
    let saved: OwnSettings = toml::from_str(&text).map_err(|error| Error::format(path, error.to_string()))?;
    let (ours, theirs) = (&settings.train, &saved.train);
    let keys = [
        ("dataset", settings.fingerprint == saved.fingerprint),
        ("codes", settings.codes == saved.codes),
        ("carry_over", settings.carry_over == saved.carry_over),
        ("dropout", settings.dropout == saved.dropout),
        ("schedule", settings.schedule == saved.schedule),
        ("train.seed", ours.seed == theirs.seed),
        ("train.batch_size", ours.batch_size == theirs.batch_size),
        ("train.accumulate", ours.accumulate == theirs.accumulate),
    ];
    let differs = keys.iter().find(|(_, same)| !same).map(|(key, _)| *key);
    differs.or_else(|| ours.incomparable(theirs)).map_or(Ok(()), |key| Err(changed(key, path)))
}

fn task(own: &OwnRun) -> Result<Task> {
    let OwnModel { network, predictive, schedule } = own.model.clone();
    let loss = LossFunction::new(
        Network::Diffusion(network.clone()),
        predictive,
        schedule,
        own.settings.clone(),
        own.dropout,
    )?;
    let seq_len = own.dataset.seq_len() as u64;
    Ok(Task {
        slots: Slots::new(Batcher::new(own.dataset.clone(), own.settings.seed)?, loss),
        parameters: network.parameters().to_vec(),
        train_tokens: own.dataset.epoch_len().map(|sequences| sequences * seq_len),
        valid_tokens: Some(own.held_out.x_0.len() as u64),
        fidelity: None,
        model: Box::new(Validated {
            model: own.model.clone(),
            held_out: own.held_out.clone(),
            seed: own.settings.seed,
            compute: own.compute.clone(),
        }),
    })
}

/// A model of one's own, and what it is validated on.
struct Validated {
    model: OwnModel,
    held_out: HeldOut,
    seed: u64,
    compute: Compute,
}

impl TrainedModel for Validated {
    fn validate(
        &mut self,
        average: &[Vec<f32>],
        size: EvaluationSize,
        samples: usize,
        _step: u64,
    ) -> Result<Validation> {
        let network = self.model.loaded(average, &self.compute)?;
        let held_out = self.held_out.spread(size.sequences);
        let mut sequences = held_out.sequences()?;
        if self.model.network.spec().classes.is_some() && !held_out.labels.is_empty() {
            sequences = sequences.with_labels(&held_out.labels);
        }
        let given = held_out.given_digits(self.model.predictive.codes().subtoken_len())?;
        if let Some(given) = &given {
            sequences = sequences.with_given(given);
        }
        let (predictive, schedule) = (&*self.model.predictive, self.model.schedule);
        let settings = LikelihoodSettings { draws: size.draws, seed: self.seed, batch: BATCH, schedule };
        let mut bound = nelbo_subtoken(&network, predictive, &sequences, &settings)?;
        let mut joint = joint_objective(&network, predictive, &sequences, &settings)?;
        if !held_out.counted.is_empty() {
            bound = bound.with_tokens(held_out.counted.clone());
            joint = joint.with_tokens(held_out.counted);
        }
        let figures = vec![
            bound.figure_of("nelbo_subtoken", "nats per token", bound.nats_per_token()),
            joint.figure_of("joint_objective", "nats per token", joint.nats_per_token()),
        ];
        let mut validation = Validation { figures, ..Validation::default() };
        if samples > 0 {
            let settings = SampleSettings {
                steps: Steps::FirstHitting,
                schedule,
                seed: self.seed,
                ..SampleSettings::default()
            };
            let prompts = vec![Prompt::empty(predictive, held_out.seq_len)?; samples];
            let drawn = Sampler::new(&network, predictive, settings)?.sample(&prompts)?;
            validation.samples = drawn.sequences().map(|tokens| format!("{tokens:?}")).collect();
            validation.report = drawn.report();
        }
        Ok(validation)
    }

    fn search(&mut self, average: &[Vec<f32>], sequences: u64, search: &IntervalSearch) -> Result<Found> {
        search.run(&self.model.loaded(average, &self.compute)?, &self.held_out.spread(sequences))
    }

    fn save(&self, average: &[Vec<f32>], folder: &Path) -> Result<()> {
        write_safetensors(&folder.join(WEIGHTS_FILE), self.model.network.parameters(), average)
    }

    fn init_weights(&self, folder: &Path) -> Result<Vec<Vec<f32>>> {
        self.model.values(folder)
    }
}
