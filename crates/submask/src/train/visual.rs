//! Training on images and points.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::image_stamp::ImageStamp;
use super::loss::LossFunction;
use super::run::RunRequest;
use super::settings::{DensityData, ImageData, RunSettings};
use super::slot::Slots;
use super::task::{Task, TrainedModel, check_same_network};
use super::validate::{EvaluationSize, Validation, validation_figures};
use crate::compute::Compute;
use crate::data::image::{Grid, ImageSet, ImageShape, TrainingImages};
use crate::data::{Batcher, Density, Points};
use crate::model::{Architecture, HeldOut, Model, Request, Session, Subject};
use crate::sampler::Unobserved;
use crate::{Error, Result};

/// States per network call.
const BATCH: usize = 16;
/// Images in a row of a picture of samples.
const COLUMNS: usize = 8;
/// Folder of a run that holds pictures of samples.
const SAMPLES: &str = "samples";

/// Reads the images, and puts the network together; a run that is resumed must find the same as when it began.
///
/// # Errors
/// Files and settings that do not go together.
pub(super) fn open_images(images: &ImageData, settings: &RunSettings, request: &RunRequest) -> Result<Task> {
    let seed = settings.train.seed;
    let (train, valid) = images.load(seed)?;
    let architecture = architecture(images.subject(train.shape(), train.class_names()), settings)?;
    let train = TrainingImages::new(train, seed).with_flips(images.flips);
    let train = train.with_super_tokens(images.super_tokens)?;
    let stamp = ImageStamp::of(&train, &valid);
    match request.resume {
        true => stamp.check(&request.out)?,
        false => stamp.write(&request.out)?,
    }
    task(architecture, Batcher::new(train, seed)?, Valid::Images(valid), settings, request)
}

/// Reads the picture of the density, and puts the network together.
///
/// # Errors
/// As [`open_images`].
pub(super) fn open_density(data: &DensityData, settings: &RunSettings, request: &RunRequest) -> Result<Task> {
    let seed = settings.train.seed;
    let density = Density::of_picture(&data.image, data.cells)?;
    let architecture = architecture(data.subject(), settings)?;
    let points = Points::new(density.clone(), seed);
    let valid = Valid::Points(density, data.valid_points);
    task(architecture, Batcher::new(points, seed)?, valid, settings, request)
}

fn architecture(subject: Subject, settings: &RunSettings) -> Result<Arc<Architecture>> {
    let config = settings.config(subject);
    config.validate()?;
    Architecture::new(config, None).map(Arc::new)
}

fn task(
    architecture: Arc<Architecture>,
    batcher: Batcher,
    valid: Valid,
    settings: &RunSettings,
    request: &RunRequest,
) -> Result<Task> {
    let tokens = |images: u64| images * architecture.config().seq_len() as u64;
    let valid_tokens = match &valid {
        Valid::Images(set) => Some(tokens(set.len() as u64)),
        Valid::Points(..) => None,
    };
    let train_tokens = batcher.data().epoch_len().map(tokens);
    Ok(Task {
        slots: Slots::new(batcher, LossFunction::of(&architecture, &settings.train, &request.compute)?),
        parameters: architecture.parameters().to_vec(),
        train_tokens,
        valid_tokens,
        model: Box::new(PictureModel {
            architecture,
            valid,
            seed: settings.train.seed,
            compute: request.compute.clone(),
            pictures: request.out.join(SAMPLES),
        }),
    })
}

/// What is held out.
enum Valid {
    Images(ImageSet),
    /// This many points of the density.
    Points(Density, u64),
}

/// A model of images or points, and its held-out data.
struct PictureModel {
    architecture: Arc<Architecture>,
    valid: Valid,
    seed: u64,
    compute: Compute,
    /// Folder of the pictures.
    pictures: PathBuf,
}

impl PictureModel {
    /// Held-out sequences; `count` 0: all.
    fn held_out(&self, count: u64) -> Result<HeldOut> {
        match &self.valid {
            Valid::Images(valid) => HeldOut::of_images(valid, self.architecture.config(), count),
            Valid::Points(density, valid_points) => {
                let count = if count == 0 { *valid_points } else { count.min(*valid_points) };
                Ok(HeldOut::of_density(density, count, self.seed))
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

impl TrainedModel for PictureModel {
    fn validate(
        &mut self,
        average: &[Vec<f32>],
        size: EvaluationSize,
        samples: usize,
        step: u64,
    ) -> Result<Validation> {
        let session = Session::new(self.architecture.clone(), average, &self.compute)?;
        let held_out = self.held_out(size.sequences)?;
        let figures = validation_figures(&session, &held_out, size, self.seed, BATCH)?;
        let mut validation = Validation { figures, ..Validation::default() };
        if samples > 0 {
            let request = Request { num: samples, seed: self.seed, batch: BATCH, ..session.request() };
            let generated = session.generate(&request, &mut Unobserved)?;
            validation.samples = vec![self.picture(&generated.tokens, step)?.display().to_string()];
            validation.report = generated.report;
        }
        Ok(validation)
    }

    fn save(&self, average: &[Vec<f32>], folder: &Path) -> Result<()> {
        self.architecture.save(average, folder)
    }

    fn init_weights(&self, folder: &Path) -> Result<Vec<Vec<f32>>> {
        let init = Model::open(folder)?;
        check_same_network(init.architecture(), &self.architecture)?;
        Ok(init.weights().to_vec())
    }
}
