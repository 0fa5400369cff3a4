//! Training on text.

use std::path::{Path, PathBuf};

use burn::tensor::{Device, Tensor};

use super::event::{Event, Observer};
use super::run::RunRequest;
use super::settings::Settings;
use super::step::{LossFunction, MicroBatch};
use super::task::{Judgement, Task};
use super::validate::{EvaluationSize, Validator};
use crate::backbone::weights::{Parameter, Weights, are_alike};
use crate::data::{Batcher, Blocks, Cursor, DATA_FILE, Outdated, PreparedData, prepare};
use crate::model::{FORMAT_VERSION, Model, ModelConfig};
use crate::ops::Kernels;
use crate::{Error, Result};

/// A text model, its corpus and its loss.
pub(super) struct TextTask {
    batch_size: usize,
    loss: LossFunction,
    batcher: Batcher,
    /// Holds the averaged weights whenever it is evaluated or saved.
    model: Model,
    validator: Validator,
    device: Device,
    tokens: (u64, u64),
}

impl TextTask {
    /// Opens or prepares the corpus.
    ///
    /// # Errors
    /// Files and settings that do not go together.
    pub fn open(settings: &Settings, request: &RunRequest, observer: &mut dyn Observer) -> Result<Self> {
        let data = open_data(settings, request, observer)?;
        data.train.verify()?;
        data.valid.as_ref().map_or(Ok(()), |store| store.verify())?;
        let config = ModelConfig {
            format_version: FORMAT_VERSION,
            vocab_size: data.tokenizer.vocab_size(),
            tokenizer: data.tokenizer.kind().clone(),
            model: settings.model.clone(),
            schedule: settings.schedule,
            sample: settings.sample,
        };
        let model = Model::new(config, data.tokenizer.clone(), Vec::new(), request.kernels)?;
        let blocks =
            Blocks::new(data.train.clone(), &data.tokenizer, settings.data.layout(settings.model.seq_len))?;
        let loss = LossFunction::new(
            model.network.clone(),
            model.predictive.clone(),
            model.schedule(),
            settings.train.clone(),
            settings.model.dropout,
        )?;
        Ok(Self {
            batch_size: settings.train.batch_size,
            loss,
            batcher: Batcher::new(blocks, settings.train.seed),
            model,
            validator: Validator::new(&data, settings)?,
            device: request.device.clone(),
            tokens: (data.train.tokens(), data.valid.as_ref().map_or(0, |store| store.tokens())),
        })
    }
}

impl Task for TextTask {
    fn parameters(&self) -> Vec<Parameter> {
        self.model.network.parameters()
    }

    fn tokens(&self) -> (Option<u64>, Option<u64>) {
        (Some(self.tokens.0), Some(self.tokens.1))
    }

    fn loss_name(&self) -> &'static str {
        self.loss.name()
    }

    fn seq_len(&self) -> usize {
        self.model.config.model.seq_len
    }

    fn cursor(&self) -> Cursor {
        self.batcher.cursor()
    }

    fn seek(&mut self, cursor: Cursor) -> Result<()> {
        self.batcher.seek(cursor)
    }

    fn next_loss(&mut self, weights: &Weights, step: u64, index: usize) -> Result<Option<Tensor<1>>> {
        let x_0 = self.batcher.next_batch(self.batch_size)?;
        self.loss.loss(weights, &MicroBatch { x_0: &x_0, step, index })
    }

    fn save(&mut self, average: &[Vec<f32>], folder: &Path) -> Result<()> {
        self.model.values = average.to_vec();
        self.model.save(folder)
    }

    fn judge(
        &mut self,
        average: &[Vec<f32>],
        size: EvaluationSize,
        samples: usize,
        _step: u64,
    ) -> Result<Judgement> {
        self.model.values = average.to_vec();
        let figures = self.validator.figures(&self.model, size, &self.device)?;
        let generated = self.validator.samples(&self.model, samples, &self.device)?;
        Ok(Judgement { figures, samples: generated.texts, report: generated.report })
    }

    fn weights_of(&self, folder: &Path) -> Result<Vec<Vec<f32>>> {
        let init = Model::load(folder, Kernels::Plain)?;
        if init.tokenizer.fingerprint() != self.model.tokenizer.fingerprint() {
            let given = format!("a tokenizer of {} tokens", self.model.tokenizer.vocab_size());
            return Err(Error::invalid("tokenizer", given, "the tokenizer of the model given by --init"));
        }
        check_same_network(&init, &self.model)?;
        Ok(init.values)
    }
}

/// Opens a folder that is prepared already, or prepares the corpus.
fn open_data(settings: &Settings, request: &RunRequest, observer: &mut dyn Observer) -> Result<PreparedData> {
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
        ("model (sizes)", are_alike(&init.network.parameters(), &model.network.parameters())),
    ];
    match keys.iter().find(|(_, same)| !same) {
        Some((key, _)) => Err(super::task::unlike_the_start(key)),
        None => Ok(()),
    }
}
