//! What a run trains: its micro-batches and what they cost, its model, and what is held out. The loop is the same for all.

use std::path::Path;
use std::sync::Arc;

use super::event::Observer;
use super::exchange::Ranks;
use super::loss::LossFunction;
use super::run::RunRequest;
use super::search::{Found, IntervalSearch};
use super::slot::Slots;
use super::subject::Opened;
use super::validate::{EvaluationSize, Validated, Validation};
use crate::backbone::weights::{Parameter, are_alike};
use crate::data::Fidelity;
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
    /// What the tokenizer of text did to its documents, where that had to be asked.
    pub fidelity: Option<Fidelity>,
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

    /// The interval of times that `search` finds best for the weights `average` on `sequences` held-out sequences; 0: all.
    ///
    /// # Errors
    /// Of evaluating.
    fn search(&mut self, average: &[Vec<f32>], sequences: u64, search: &IntervalSearch) -> Result<Found>;

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

/// Opens the data of a run and puts its network together; ranks behind the first find what that has written.
///
/// # Errors
/// Settings, files and corpora that do not go together.
pub(super) fn open(request: &RunRequest, ranks: &Ranks, observer: &mut dyn Observer) -> Result<Task> {
    let settings = &request.settings;
    let Opened { architecture, batcher, held_out, fidelity, train_tokens, valid_tokens } =
        settings.data.learnt().open(request, !ranks.is_first(), observer)?;
    let architecture = Arc::new(architecture);
    Ok(Task {
        slots: Slots::new(batcher, LossFunction::of(&architecture, &settings.train, &request.compute)?),
        parameters: architecture.parameters().to_vec(),
        train_tokens,
        valid_tokens,
        fidelity,
        model: Box::new(Validated {
            architecture,
            held_out,
            seed: settings.train.seed,
            compute: request.compute.clone(),
            out: request.out.clone(),
            ranks: ranks.clone(),
        }),
    })
}

/// Fails where the weights of the model `init` do not mean the same in the network of `ours`: only in the same network
/// over the same codes they do; dropout may differ, and so may blocks: weights mean the same with and without them.
///
/// # Errors
/// [`Error::Conflict`] naming what differs.
pub(super) fn check_same_network(init: &Architecture, ours: &Architecture) -> Result<()> {
    let (theirs, own) = (init.config(), ours.config());
    let permutation = |of: &Architecture| of.predictive().codes().permutation().map(<[u32]>::to_vec);
    let same_tokens = theirs.vocab_size() == own.vocab_size() && theirs.seq_len() == own.seq_len();
    check_init(&[
        ("model.network", theirs.network.name() == own.network.name()),
        ("codes.subtokens", theirs.codes.subtokens == own.codes.subtokens),
        ("codes.assignment", permutation(init) == permutation(ours)),
        ("data (size or number of the tokens)", own.subject.seq_len().is_none() || same_tokens),
    ])?;
    let sizes = sizes_that_differ(&theirs.network, &own.network);
    let key = match are_alike(init.parameters(), ours.parameters()) {
        // Of another shape are weights by any of the sizes, whichever comes first.
        false => Some(sizes.first().map_or("model", String::as_str)),
        true => sizes.iter().map(String::as_str).find(|key| MEANINGS.contains(key)),
    };
    key.map_or(Ok(()), |key| check_init(&[(key, false)]))
}

/// Keys that change what weights mean and not their shapes.
const MEANINGS: [&str; 4] =
    ["model.heads", "model.head_channels", "model.embedding", "model.time_conditioning"];

/// Keys in which networks of one kind differ, but for dropout, the longest sequence and blocks.
fn sizes_that_differ(theirs: &NetworkConfig, own: &NetworkConfig) -> Vec<String> {
    let keys = |network: &NetworkConfig| toml::Table::try_from(network).unwrap_or_default();
    let (theirs, own) = (keys(theirs), keys(own));
    let differ = own.iter().filter(|(key, value)| theirs.get(*key) != Some(value));
    differ
        .map(|(key, _)| key.as_str())
        .filter(|key| !["block_len", "dropout", "seq_len"].contains(key))
        .map(|key| format!("model.{key}"))
        .collect()
}
