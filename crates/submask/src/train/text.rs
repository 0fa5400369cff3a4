//! Training on text.

use std::path::{Path, PathBuf};

use burn::tensor::Device;

use super::event::{Event, Observer};
use super::loss::LossFunction;
use super::run::RunRequest;
use super::settings::Settings;
use super::slot::Slots;
use super::task::{Task, TrainedModel, check_init};
use super::validate::{EvaluationSize, Validation, Validator};
use crate::backbone::weights::are_alike;
use crate::data::{Batcher, Blocks, DATA_FILE, Outdated, PreparedData, prepare};
use crate::model::{FORMAT_VERSION, Model, ModelConfig, ModelParts};
use crate::ops::Kernels;
use crate::{Error, Result};

/// Opens or prepares the corpus, and puts the network together.
///
/// # Errors
/// Files and settings that do not go together.
pub(super) fn open(settings: &Settings, request: &RunRequest, observer: &mut dyn Observer) -> Result<Task> {
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
    let layout = settings.data.layout(settings.model.seq_len);
    let blocks = Blocks::new(data.train.clone(), &data.tokenizer, layout)?;
    let loss = LossFunction::new(
        model.network.clone(),
        model.predictive.clone(),
        model.schedule(),
        settings.train.clone(),
        settings.model.dropout,
    )?;
    Ok(Task {
        slots: Slots::new(Batcher::new(blocks, settings.train.seed)?, loss),
        parameters: model.network.parameters(),
        train_tokens: Some(data.train.tokens()),
        valid_tokens: Some(data.valid.as_ref().map_or(0, |store| store.tokens())),
        model: Box::new(TextModel {
            model,
            validator: Validator::new(&data, settings)?,
            device: request.device.clone(),
        }),
    })
}

/// A text model, and its held-out text.
struct TextModel {
    model: Model,
    validator: Validator,
    device: Device,
}

impl TrainedModel for TextModel {
    fn validate(
        &mut self,
        average: &[Vec<f32>],
        size: EvaluationSize,
        samples: usize,
        _step: u64,
    ) -> Result<Validation> {
        let Self { model, validator, device } = self;
        model.values = average.to_vec();
        let figures = validator.figures(model, size, device)?;
        let generated = validator.samples(model, samples, device)?;
        model.values = Vec::new();
        Ok(Validation { figures, samples: generated.texts, report: generated.report })
    }

    fn save(&self, average: &[Vec<f32>], folder: &Path) -> Result<()> {
        let parts = ModelParts {
            config: &self.model.config,
            tokenizer: &self.model.tokenizer,
            codes: self.model.predictive.codes(),
            parameters: &self.model.network.parameters(),
            values: average,
        };
        parts.save(folder)
    }

    fn init_weights(&self, folder: &Path) -> Result<Vec<Vec<f32>>> {
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
    check_init(&[
        ("model.network", theirs.network == ours.network),
        ("model.subtokens", theirs.subtokens == ours.subtokens),
        ("model.codes", init.predictive.codes().permutation() == model.predictive.codes().permutation()),
        ("model.heads", theirs.heads == ours.heads),
        ("model.embedding", theirs.embedding == ours.embedding),
        ("model.time_conditioning", theirs.time_conditioning == ours.time_conditioning),
        ("model (sizes)", are_alike(&init.network.parameters(), &model.network.parameters())),
    ])
}
