//! Training on images and points.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use burn::tensor::Tensor;

use super::image_stamp::ImageStamp;
use super::run::RunRequest;
use super::settings::{DensityData, ImageData, RunSettings};
use super::step::{Masking, MicroBatch, dropout_of};
use super::task::{Judgement, Task};
use super::text::check_same_network;
use super::validate::{EvaluationSize, validation_figures};
use crate::backbone::weights::{Parameter, Weights};
use crate::compute::Compute;
use crate::data::image::{Grid, ImageBatch, ImageBatcher, ImageSet, ImageShape};
use crate::data::{Cursor, Density};
use crate::denoiser::States;
use crate::model::{Architecture, HeldOut, Model, Network, Request, Session, Subject};
use crate::random::{Draws, Purpose};
use crate::sampler::Event;
use crate::{Error, Result};

/// States of one network call.
const BATCH: usize = 16;
/// Images in a row of a picture of samples.
const COLUMNS: usize = 8;
/// Folder of a run that holds pictures of samples.
pub const SAMPLES: &str = "samples";

/// A model of images or points, its data and its loss.
pub(super) struct VisualTask {
    settings: RunSettings,
    data: Data,
    architecture: Arc<Architecture>,
    network: Network,
    compute: Compute,
    /// Folder of the pictures.
    pictures: PathBuf,
}

/// Where sequences come from.
enum Data {
    Images {
        batcher: ImageBatcher,
        valid: ImageSet,
    },
    Points {
        density: Density,
        /// Points given so far.
        given: u64,
        valid_points: u64,
    },
}

impl VisualTask {
    /// Reads the images.
    ///
    /// # Errors
    /// Files and settings that do not go together.
    pub fn of_images(images: &ImageData, settings: &RunSettings, request: &RunRequest) -> Result<Self> {
        let (train, valid) = images.load(settings.train.seed)?;
        let stamp = ImageStamp::of(&train, &valid);
        let subject = images.subject(train.shape(), train.class_names());
        let batcher = ImageBatcher::new(train, settings.train.seed, images.flips);
        let task = Self::new(Data::Images { batcher, valid }, subject, settings, request)?;
        match request.resume {
            true => stamp.check(&request.out)?,
            false => stamp.write(&request.out)?,
        }
        Ok(task)
    }

    /// Reads the picture of the density.
    ///
    /// # Errors
    /// As [`Self::of_images`].
    pub fn of_density(points: &DensityData, settings: &RunSettings, request: &RunRequest) -> Result<Self> {
        let density = Density::of_picture(&points.image, points.cells)?;
        let data = Data::Points { density, given: 0, valid_points: points.valid_points };
        Self::new(data, points.subject(), settings, request)
    }

    fn new(data: Data, subject: Subject, settings: &RunSettings, request: &RunRequest) -> Result<Self> {
        let config = settings.config(subject);
        config.validate()?;
        let architecture = Arc::new(Architecture::new(config, None)?);
        Ok(Self {
            settings: settings.clone(),
            data,
            network: architecture.network(request.compute.kernels())?,
            architecture,
            compute: request.compute.clone(),
            pictures: request.out.join(SAMPLES),
        })
    }

    /// The next sequences, as tokens.
    fn next_batch(&mut self) -> Result<ImageBatch> {
        let count = self.settings.train.batch_size;
        match &mut self.data {
            Data::Images { batcher, .. } => {
                let ImageBatch { x_0, labels } = batcher.next_batch(count)?;
                let x_0 = match self.architecture.config().subject.image() {
                    Some(image) => image.tokens_of(x_0)?,
                    None => x_0,
                };
                Ok(ImageBatch { x_0, labels })
            }
            Data::Points { density, given, .. } => {
                let draws = Draws::new(self.settings.train.seed, Purpose::Point);
                let points = (*given..*given + count as u64).map(|n| density.draw(draws.uniform(n, 0, 0)));
                let x_0 = points.flatten().collect();
                *given += count as u64;
                Ok(ImageBatch { x_0, labels: Vec::new() })
            }
        }
    }

    /// Held-out sequences; `count` 0: all.
    fn held_out(&self, count: u64) -> Result<HeldOut> {
        match &self.data {
            Data::Images { valid, .. } => HeldOut::of_images(valid, self.architecture.config(), count),
            Data::Points { density, valid_points, .. } => {
                let count = if count == 0 { *valid_points } else { count.min(*valid_points) };
                Ok(HeldOut::of_density(density, count, self.settings.train.seed))
            }
        }
    }

    /// Draws samples into a picture, and returns its path.
    fn picture(&self, tokens: &[Vec<u32>], step: u64) -> Result<PathBuf> {
        let path = self.pictures.join(format!("step-{step}.png"));
        match &self.architecture.config().subject {
            Subject::Image(image) => {
                let images = tokens.iter().map(|x_0| image.pixels_of(x_0)).collect::<Result<Vec<_>>>()?;
                Grid { columns: COLUMNS, scale: 2 }.write(&path, &images, image.shape())?;
            }
            Subject::Point(point) => {
                let shape = ImageShape { channels: 1, height: point.cells, width: point.cells };
                Grid { columns: 1, scale: 3 }.write(&path, &[point.picture(tokens)], shape)?;
            }
            Subject::Text(_) => return Err(Error::invalid("samples", "text", "images or points")),
        }
        Ok(path)
    }
}

impl Task for VisualTask {
    fn parameters(&self) -> Vec<Parameter> {
        self.architecture.parameters().to_vec()
    }

    fn tokens(&self) -> (Option<u64>, Option<u64>) {
        let per_image = self.architecture.config().seq_len() as u64;
        match &self.data {
            Data::Images { batcher, valid } => {
                let tokens = |set: &ImageSet| Some(set.len() as u64 * per_image);
                (tokens(batcher.set()), tokens(valid))
            }
            Data::Points { .. } => (None, None),
        }
    }

    fn loss_name(&self) -> &'static str {
        self.settings.train.objective.name()
    }

    fn seq_len(&self) -> usize {
        self.architecture.config().seq_len()
    }

    fn cursor(&self) -> Cursor {
        match &self.data {
            Data::Images { batcher, .. } => batcher.cursor(),
            Data::Points { given, .. } => Cursor { epoch: 0, position: *given },
        }
    }

    fn seek(&mut self, cursor: Cursor) -> Result<()> {
        match &mut self.data {
            Data::Images { batcher, .. } => batcher.seek(cursor),
            Data::Points { given, .. } => {
                *given = cursor.position;
                Ok(())
            }
        }
    }

    fn next_loss(&mut self, weights: &Weights, step: u64, index: usize) -> Result<Option<Tensor<1>>> {
        let ImageBatch { x_0, labels } = self.next_batch()?;
        let batch = MicroBatch { x_0: &x_0, step, index };
        let (schedule, train) = (self.architecture.schedule(), &self.settings.train);
        let predictive = self.architecture.predictive();
        let masked = Masking { predictive, schedule: &schedule, settings: train }.mask(&batch)?;
        let dropout = dropout_of(&batch, self.settings.network.dropout(), train.seed);
        let labels = self.architecture.config().classes().map(|_| labels.as_slice());
        let states = States { y_t: &masked.y_t, t: &masked.times, labels };
        self.network.loss(weights, &states, &masked.positions, masked.rows, dropout)
    }

    fn save(&mut self, average: &[Vec<f32>], folder: &Path) -> Result<()> {
        self.architecture.save(average, folder)
    }

    fn judge(
        &mut self,
        average: &[Vec<f32>],
        size: EvaluationSize,
        samples: usize,
        step: u64,
    ) -> Result<Judgement> {
        let session = Session::new(self.architecture.clone(), average, &self.compute)?;
        let held_out = self.held_out(size.sequences)?;
        let seed = self.settings.train.seed;
        let figures = validation_figures(&session, &held_out, size, seed, BATCH)?;
        if samples == 0 {
            return Ok(Judgement { figures, ..Judgement::default() });
        }
        let request = Request { num: samples, seed, batch: BATCH, ..session.request() };
        let generated = session.generate(&request, &mut |_: &Event| Ok(()))?;
        let picture = self.picture(&generated.tokens, step)?;
        Ok(Judgement { figures, samples: vec![picture.display().to_string()], report: generated.report })
    }

    fn weights_of(&self, folder: &Path) -> Result<Vec<Vec<f32>>> {
        let init = Model::open(folder)?;
        check_same_network(init.architecture(), &self.architecture)?;
        Ok(init.weights().to_vec())
    }
}
