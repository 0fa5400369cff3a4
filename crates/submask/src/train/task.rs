//! What a run trains: its data, its loss, and how it is judged. The loop is the same for all.

use std::path::Path;

use burn::tensor::Tensor;

use super::event::Observer;
use super::run::RunRequest;
use super::settings::RunData;
use super::text::TextTask;
use super::validate::EvaluationSize;
use super::visual::VisualTask;
use crate::backbone::weights::{Parameter, Weights};
use crate::data::Cursor;
use crate::likelihood::Figure;
use crate::sampler::SampleReport;
use crate::{Error, Result};

/// Figures and samples of a model.
#[derive(Clone, Debug, Default)]
pub struct Judgement {
    /// Valid bound or exact value, and the joint objective, of held-out data.
    pub figures: Vec<Figure>,
    /// Texts, or the paths of pictures.
    pub samples: Vec<String>,
    /// What the samples cost.
    pub report: SampleReport,
}

/// What is trained.
pub(super) trait Task {
    /// Names and shapes of the weights, in definition order.
    fn parameters(&self) -> Vec<Parameter>;

    /// Tokens to train on, and held out; `None` where there is no end of them.
    fn tokens(&self) -> (Option<u64>, Option<u64>);

    /// Name of the loss in records.
    fn loss_name(&self) -> &'static str;

    /// L.
    fn seq_len(&self) -> usize;

    /// Where the data go on.
    fn cursor(&self) -> Cursor;

    /// Goes on from a saved cursor.
    ///
    /// # Errors
    /// Of a cursor that is not of these data.
    fn seek(&mut self, cursor: Cursor) -> Result<()>;

    /// The loss of the next micro-batch of `step` in nats per token, \[1\]; `None` where nothing can cost anything.
    ///
    /// # Errors
    /// Of data that cannot be read, or are not what the network takes.
    fn next_loss(&mut self, weights: &Weights, step: u64, index: usize) -> Result<Option<Tensor<1>>>;

    /// Writes the model folder with the weights `average` into `folder`, which exists.
    ///
    /// # Errors
    /// [`crate::Error::Io`] naming the file.
    fn save(&mut self, average: &[Vec<f32>], folder: &Path) -> Result<()>;

    /// Evaluates and samples the weights `average`, after `step` steps.
    ///
    /// # Errors
    /// Of evaluating, sampling and writing pictures.
    fn judge(
        &mut self,
        average: &[Vec<f32>],
        size: EvaluationSize,
        samples: usize,
        step: u64,
    ) -> Result<Judgement>;

    /// The weights of the model in `folder`, which must be of the same network.
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] naming what differs.
    fn weights_of(&self, folder: &Path) -> Result<Vec<Vec<f32>>>;
}

/// The error of [`Task::weights_of`] for the setting `key` of a run whose weights start as those of another model.
pub(super) fn unlike_the_start(key: &str) -> Error {
    let problem = String::from("differs from that of the model whose weights are the start");
    Error::Conflict { field: key.to_owned(), problem }
}

/// Opens the data of a run and puts its network together.
///
/// # Errors
/// Settings, files and corpora that do not go together.
pub(super) fn open(request: &RunRequest, observer: &mut dyn Observer) -> Result<Box<dyn Task>> {
    let settings = &request.settings;
    match &settings.data {
        RunData::Text(text) => Ok(Box::new(TextTask::open(text, settings, request, observer)?)),
        RunData::Images(images) => Ok(Box::new(VisualTask::of_images(images, settings, request)?)),
        RunData::Density(density) => Ok(Box::new(VisualTask::of_density(density, settings, request)?)),
    }
}
