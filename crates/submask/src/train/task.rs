//! What a run trains: its micro-batches and what they cost, its model, and what is held out. The loop is the same for all.

use std::path::Path;

use super::event::Observer;
use super::run::RunRequest;
use super::settings::RunData;
use super::slot::Slots;
use super::validate::{EvaluationSize, Validation};
use super::{text, visual};
use crate::backbone::weights::{Parameter, are_alike};
use crate::model::{Architecture, NetworkConfig};
use crate::{Error, Result};

/// Everything of a run that does not change from step to step, but for the place in the data.
pub(super) struct Task {
    pub slots: Slots,
    /// Names and shapes of the weights, in definition order.
    pub parameters: Vec<Parameter>,
    pub model: Box<dyn TrainedModel>,
    /// Tokens to train on; `None` where there is no end of them.
    pub train_tokens: Option<u64>,
    /// Tokens held out; `None` likewise.
    pub valid_tokens: Option<u64>,
}

/// The model of a run, for which the loop has weights. Its own are of no account.
pub(super) trait TrainedModel {
    /// Evaluates and samples the weights `average`, after `step` steps.
    ///
    /// # Errors
    /// Of evaluating, sampling and writing pictures.
    fn validate(
        &mut self,
        average: &[Vec<f32>],
        size: EvaluationSize,
        samples: usize,
        step: u64,
    ) -> Result<Validation>;

    /// Writes the model folder with the weights `average` into `folder`, which exists.
    ///
    /// # Errors
    /// [`Error::Io`] naming the file.
    fn save(&self, average: &[Vec<f32>], folder: &Path) -> Result<()>;

    /// The weights of the model in `folder`, which must be of the same network.
    ///
    /// # Errors
    /// [`Error::Invalid`] and [`Error::Conflict`] naming what differs.
    fn init_weights(&self, folder: &Path) -> Result<Vec<Vec<f32>>>;
}

/// Fails with the first of `keys` that is not the same in the model whose weights are the start.
///
/// # Errors
/// [`Error::Conflict`] naming the key.
fn check_init(keys: &[(&str, bool)]) -> Result<()> {
    let mismatch = |key: &str| Error::Conflict {
        field: key.to_owned(),
        problem: String::from("differs from that of the model whose weights are the start"),
    };
    keys.iter().find(|(_, same)| !same).map_or(Ok(()), |(key, _)| Err(mismatch(key)))
}

/// Opens the data of a run and puts its network together.
///
/// # Errors
/// Settings, files and corpora that do not go together.
pub(super) fn open(request: &RunRequest, observer: &mut dyn Observer) -> Result<Task> {
    let settings = &request.settings;
    match &settings.data {
        RunData::Text(text) => text::open(text, settings, request, observer),
        RunData::Images(images) => visual::open_images(images, settings, request),
        RunData::Density(density) => visual::open_density(density, settings, request),
    }
}

/// Fails where the weights of the model `init` do not mean the same in the network of `ours`: only in the same network
/// over the same codes they do; dropout may differ.
///
/// # Errors
/// [`Error::Conflict`] naming what differs.
pub(super) fn check_same_network(init: &Architecture, ours: &Architecture) -> Result<()> {
    let (theirs, own) = (init.config(), ours.config());
    let kind = |network: &NetworkConfig| match network {
        NetworkConfig::Diffusion(sizes) => (sizes.heads, Some(sizes.embedding), sizes.time_conditioning),
        NetworkConfig::Encoder(sizes) => (sizes.heads, Some(sizes.embedding), false),
        NetworkConfig::Autoregressive(sizes) => (sizes.heads, None, false),
        NetworkConfig::Unet(_) | NetworkConfig::Toy(_) => (0, None, false),
    };
    let (their_kind, own_kind) = (kind(&theirs.network), kind(&own.network));
    let permutation = |of: &Architecture| of.predictive().codes().permutation().map(<[u32]>::to_vec);
    let same_tokens = theirs.vocab_size() == own.vocab_size() && theirs.seq_len() == own.seq_len();
    check_init(&[
        ("model.network", theirs.network.name() == own.network.name()),
        ("codes.subtokens", theirs.codes.subtokens == own.codes.subtokens),
        ("codes.assignment", permutation(init) == permutation(ours)),
        ("model.heads", their_kind.0 == own_kind.0),
        ("model.embedding", their_kind.1 == own_kind.1),
        ("model.time_conditioning", their_kind.2 == own_kind.2),
        ("data (size or number of the tokens)", own.subject.seq_len().is_none() || same_tokens),
        ("model (sizes)", are_alike(init.parameters(), ours.parameters())),
    ])
}
