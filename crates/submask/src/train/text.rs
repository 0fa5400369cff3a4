//! Training on text.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::event::{Event, Observer};
use super::loss::LossFunction;
use super::run::RunRequest;
use super::settings::{RunSettings, TextData};
use super::slot::Slots;
use super::task::{Task, TrainedModel, check_same_network};
use super::validate::{EvaluationSize, Validation, Validator};
use crate::compute::Compute;
use crate::data::{Batcher, Blocks, DATA_FILE, Outdated, PreparedData, Tokenizer, prepare};
use crate::model::{Architecture, Model, Session, Subject, TextSubject};
use crate::{Error, Result};

/// Opens or prepares the corpus, and puts the network together.
///
/// # Errors
/// Files and settings that do not go together.
pub(super) fn open(
    text: &TextData,
    settings: &RunSettings,
    request: &RunRequest,
    observer: &mut dyn Observer,
) -> Result<Task> {
    let data = open_data(text, settings, request, observer)?;
    data.train.verify()?;
    data.valid.as_ref().map_or(Ok(()), |store| store.verify())?;
    let subject = Subject::Text(TextSubject {
        vocab_size: data.tokenizer.vocab_size(),
        tokenizer: data.tokenizer.kind().clone(),
    });
    let architecture = Arc::new(Architecture::new(settings.config(subject), Some(data.tokenizer.clone()))?);
    let layout = text.layout(architecture.config().seq_len());
    let blocks = Blocks::new(data.train.clone(), &data.tokenizer, layout)?;
    let loss = LossFunction::of(&architecture, &settings.train, &request.compute)?;
    Ok(Task {
        slots: Slots::new(Batcher::new(blocks, settings.train.seed)?, loss),
        parameters: architecture.parameters().to_vec(),
        train_tokens: Some(data.train.tokens()),
        valid_tokens: Some(data.valid.as_ref().map_or(0, |store| store.tokens())),
        model: Box::new(TextModel {
            architecture,
            validator: Validator::new(&data, layout, settings.train.seed)?,
            compute: request.compute.clone(),
        }),
    })
}

/// A text model, and its held-out text.
struct TextModel {
    architecture: Arc<Architecture>,
    validator: Validator,
    compute: Compute,
}

impl TrainedModel for TextModel {
    fn validate(
        &mut self,
        average: &[Vec<f32>],
        size: EvaluationSize,
        samples: usize,
        _step: u64,
    ) -> Result<Validation> {
        let session = Session::new(self.architecture.clone(), average, &self.compute)?;
        let figures = self.validator.figures(&session, size)?;
        let generated = self.validator.samples(&session, samples)?;
        Ok(Validation { figures, samples: generated.texts, report: generated.report })
    }

    fn save(&self, average: &[Vec<f32>], folder: &Path) -> Result<()> {
        self.architecture.save(average, folder)
    }

    fn init_weights(&self, folder: &Path) -> Result<Vec<Vec<f32>>> {
        let init = Model::open(folder)?;
        let fingerprint = |tokenizer: Option<&Tokenizer>| tokenizer.map(Tokenizer::fingerprint);
        if fingerprint(init.tokenizer()) != fingerprint(self.architecture.tokenizer()) {
            let given = format!("a tokenizer of {} tokens", self.architecture.config().vocab_size());
            return Err(Error::invalid(
                "tokenizer",
                given,
                "the tokenizer of the model whose weights are the start",
            ));
        }
        check_same_network(init.architecture(), &self.architecture)?;
        Ok(init.weights().to_vec())
    }
}

/// Opens a folder that is prepared already, or prepares the corpus.
fn open_data(
    text: &TextData,
    settings: &RunSettings,
    request: &RunRequest,
    observer: &mut dyn Observer,
) -> Result<PreparedData> {
    if let [path] = text.paths.as_slice()
        && path.join(DATA_FILE).is_file()
    {
        return PreparedData::open(path);
    }
    let folder = match text.cache.as_os_str() {
        empty if empty.is_empty() => request.out.join("data"),
        cache => PathBuf::from(cache),
    };
    if request.resume && folder.join(DATA_FILE).is_file() {
        // The tokens of the run are there; the corpus may have moved.
        return PreparedData::open(folder);
    }
    // What a run left that was killed before it began is of no use to one with other settings.
    let outdated = if text.cache.as_os_str().is_empty() { Outdated::Rebuild } else { Outdated::Refuse };
    let tokenizer = settings
        .tokenizer
        .as_ref()
        .ok_or_else(|| Error::invalid("tokenizer", "nothing", "a section: text is made of tokens"))?;
    prepare(&text.prepare(tokenizer, settings.train.seed), &folder, outdated, &mut |progress| {
        observer.notify(&Event::Preparing(progress));
    })
}
