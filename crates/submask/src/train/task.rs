//! What a run trains: its micro-batches and what they cost, its model, and what is held out. The loop is the same for all.

use std::path::Path;

use super::event::Observer;
use super::run::RunRequest;
use super::settings::RunSettings;
use super::slot::Slots;
use super::validate::{EvaluationSize, Validation};
use super::{text, visual};
use crate::backbone::weights::Parameter;
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
pub(super) fn check_init(keys: &[(&str, bool)]) -> Result<()> {
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
    match &request.settings {
        RunSettings::Text(settings) => text::open(settings, request, observer),
        RunSettings::Visual(settings) => visual::open(settings, request),
    }
}
