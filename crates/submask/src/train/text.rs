//! Training on text.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use burn::tensor::Tensor;

use super::event::{Event, Observer};
use super::run::RunRequest;
use super::settings::{RunSettings, TextData};
use super::step::{LossFunction, MicroBatch};
use super::task::{Judgement, Task};
use super::validate::{EvaluationSize, Validator};
use crate::backbone::weights::{Parameter, Weights, are_alike};
use crate::compute::Compute;
use crate::data::{Batcher, Blocks, Cursor, DATA_FILE, Outdated, PreparedData, Tokenizer, prepare};
use crate::model::{Architecture, Model, NetworkConfig, Session, Subject, TextSubject};
use crate::{Error, Result};

/// A text model, its corpus and its loss.
pub(super) struct TextTask {
    batch_size: usize,
    loss: LossFunction,
    batcher: Batcher,
    architecture: Arc<Architecture>,
    validator: Validator,
    compute: Compute,
    tokens: (u64, u64),
}

impl TextTask {
    /// Opens or prepares the corpus.
    ///
    /// # Errors
    /// Files and settings that do not go together.
    pub fn open(
        text: &TextData,
        settings: &RunSettings,
        request: &RunRequest,
        observer: &mut dyn Observer,
    ) -> Result<Self> {
        let data = open_data(text, settings, request, observer)?;
        data.train.verify()?;
        data.valid.as_ref().map_or(Ok(()), |store| store.verify())?;
        let subject = Subject::Text(TextSubject {
            vocab_size: data.tokenizer.vocab_size(),
            tokenizer: data.tokenizer.kind().clone(),
        });
        let architecture =
            Arc::new(Architecture::new(settings.config(subject), Some(data.tokenizer.clone()))?);
        let layout = text.layout(architecture.config().seq_len());
        let blocks = Blocks::new(data.train.clone(), &data.tokenizer, layout)?;
        let loss = LossFunction::new(
            architecture.network(request.compute.kernels())?,
            architecture.predictive().clone(),
            architecture.schedule(),
            settings.train.clone(),
            settings.network.dropout(),
        )?;
        Ok(Self {
            batch_size: settings.train.batch_size,
            loss,
            batcher: Batcher::new(blocks, settings.train.seed),
            architecture,
            validator: Validator::new(&data, layout, settings.train.seed)?,
            compute: request.compute.clone(),
            tokens: (data.train.tokens(), data.valid.as_ref().map_or(0, |store| store.tokens())),
        })
    }
}

impl Task for TextTask {
    fn parameters(&self) -> Vec<Parameter> {
        self.architecture.parameters().to_vec()
    }

    fn tokens(&self) -> (Option<u64>, Option<u64>) {
        (Some(self.tokens.0), Some(self.tokens.1))
    }

    fn loss_name(&self) -> &'static str {
        self.loss.name()
    }

    fn seq_len(&self) -> usize {
        self.architecture.config().seq_len()
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
        self.architecture.save(average, folder)
    }

    fn judge(
        &mut self,
        average: &[Vec<f32>],
        size: EvaluationSize,
        samples: usize,
        _step: u64,
    ) -> Result<Judgement> {
        let session = Session::new(self.architecture.clone(), average, &self.compute)?;
        let figures = self.validator.figures(&session, size)?;
        let generated = self.validator.samples(&session, samples)?;
        Ok(Judgement { figures, samples: generated.texts, report: generated.report })
    }

    fn weights_of(&self, folder: &Path) -> Result<Vec<Vec<f32>>> {
        let init = Model::open(folder)?;
        let fingerprint = |tokenizer: Option<&Tokenizer>| tokenizer.map(Tokenizer::fingerprint);
        if fingerprint(init.tokenizer()) != fingerprint(self.architecture.tokenizer()) {
            let given = format!("a tokenizer of {} tokens", self.architecture.config().vocab_size());
            return Err(Error::invalid("tokenizer", given, "the tokenizer of the model given by --init"));
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

/// Weights mean the same only in the same network over the same codes; dropout may differ.
pub(super) fn check_same_network(init: &Architecture, ours: &Architecture) -> Result<()> {
    let (theirs, own) = (init.config(), ours.config());
    let kind = |network: &NetworkConfig| match network {
        NetworkConfig::Diffusion(sizes) => (sizes.heads, Some(sizes.embedding), sizes.time_conditioning),
        NetworkConfig::Encoder(sizes) => (sizes.heads, Some(sizes.embedding), false),
        NetworkConfig::Autoregressive(sizes) => (sizes.heads, None, false),
        NetworkConfig::Unet(_) | NetworkConfig::Toy(_) => (0, None, false),
    };
    let (their_kind, own_kind) = (kind(&theirs.network), kind(&own.network));
    let codes =
        |architecture: &Architecture| architecture.predictive().codes().permutation().map(<[u32]>::to_vec);
    let keys = [
        ("model.network", theirs.network.name() == own.network.name()),
        ("codes.subtokens", theirs.codes.subtokens == own.codes.subtokens),
        ("codes.assignment", codes(init) == codes(ours)),
        ("model.heads", their_kind.0 == own_kind.0),
        ("model.embedding", their_kind.1 == own_kind.1),
        ("model.time_conditioning", their_kind.2 == own_kind.2),
        (
            "data (size or number of the tokens)",
            own.subject.seq_len().is_none()
                || theirs.vocab_size() == own.vocab_size() && theirs.seq_len() == own.seq_len(),
        ),
        ("model (sizes)", are_alike(init.parameters(), ours.parameters())),
    ];
    match keys.iter().find(|(_, same)| !same) {
        Some((key, _)) => Err(super::task::unlike_the_start(key)),
        None => Ok(()),
    }
}
