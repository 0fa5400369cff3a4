//! Training on images and points.

use std::path::{Path, PathBuf};

use burn::tensor::Device;

use super::image_stamp::ImageStamp;
use super::loss::LossFunction;
use super::run::RunRequest;
use super::slot::Slots;
use super::task::{Task, TrainedModel, check_init};
use super::validate::{EvaluationSize, Validation};
use super::visual_settings::{DensitySettings, ImageDataSettings, VisualData, VisualRunSettings};
use crate::Result;
use crate::backbone::weights::are_alike;
use crate::data::image::{Grid, ImageSet, ImageShape, TrainingImages};
use crate::data::{Batcher, Density, Points};
use crate::likelihood::LikelihoodSettings;
use crate::model::Estimator;
use crate::model::visual::{HeldOut, VisualConfig, VisualModel, VisualParts, VisualRequest};
use crate::ops::Kernels;

/// States per network call.
const BATCH: usize = 16;
/// Images in a row of a picture of samples.
const COLUMNS: usize = 8;
/// Folder of a run that holds pictures of samples.
pub const SAMPLES: &str = "samples";

/// Reads the images, or the picture of the density, and puts the network together.
///
/// # Errors
/// Files and settings that do not go together.
pub(super) fn open(settings: &VisualRunSettings, request: &RunRequest) -> Result<Task> {
    let (config, batcher, valid) = match &settings.data {
        VisualData::Images(images) => open_images(settings, images, request)?,
        VisualData::Density(density) => open_density(settings, density)?,
    };
    let model = VisualModel::new(config, Vec::new(), request.kernels)?;
    let tokens = |images: u64| images * model.config.seq_len() as u64;
    let valid_tokens = match &valid {
        Valid::Images(set) => Some(tokens(set.len() as u64)),
        Valid::Points(..) => None,
    };
    let train_tokens = batcher.data().epoch_len().map(tokens);
    Ok(Task {
        slots: Slots::new(batcher, LossFunction::of_visual(&model, settings.train.clone())),
        parameters: model.network.parameters(),
        train_tokens,
        valid_tokens,
        model: Box::new(ImageModel {
            model,
            valid,
            seed: settings.train.seed,
            device: request.device.clone(),
            pictures: request.out.join(SAMPLES),
        }),
    })
}

/// The images; a run that is resumed must find the same as when it began.
fn open_images(
    settings: &VisualRunSettings,
    images: &ImageDataSettings,
    request: &RunRequest,
) -> Result<(VisualConfig, Batcher, Valid)> {
    let seed = settings.train.seed;
    let (train, valid) = images.load(seed)?;
    let config = settings.config(Some(train.shape()), train.class_names());
    config.validate()?;
    let train = TrainingImages::new(train, seed).with_flips(images.flips);
    let train = train.with_super_tokens(config.model.super_tokens())?;
    let stamp = ImageStamp::of(&train, &valid);
    match request.resume {
        true => stamp.check(&request.out)?,
        false => stamp.write(&request.out)?,
    }
    Ok((config, Batcher::new(train, seed)?, Valid::Images(valid)))
}

fn open_density(
    settings: &VisualRunSettings,
    data: &DensitySettings,
) -> Result<(VisualConfig, Batcher, Valid)> {
    let seed = settings.train.seed;
    let density = Density::of_picture(&data.image, data.cells)?;
    let config = settings.config(None, &[]);
    config.validate()?;
    let points = Points::new(density.clone(), seed);
    Ok((config, Batcher::new(points, seed)?, Valid::Points(density, data.valid_points)))
}

/// What is held out.
enum Valid {
    Images(ImageSet),
    /// This many points of the density.
    Points(Density, u64),
}

/// A model of images or points, and its held-out data.
struct ImageModel {
    model: VisualModel,
    valid: Valid,
    seed: u64,
    device: Device,
    /// Folder of the pictures.
    pictures: PathBuf,
}

impl ImageModel {
    /// Held-out sequences; `count` 0: all.
    fn held_out(&self, count: u64) -> Result<HeldOut> {
        match &self.valid {
            Valid::Images(valid) => HeldOut::of_images(valid, &self.model.config, count),
            Valid::Points(density, valid_points) => {
                let count = if count == 0 { *valid_points } else { count.min(*valid_points) };
                Ok(HeldOut::of_density(density, count, self.seed))
            }
        }
    }

    /// Draws samples into a picture, and returns its path.
    fn picture(&self, tokens: &[Vec<u32>], step: u64) -> Result<PathBuf> {
        let path = self.pictures.join(format!("step-{step}.png"));
        match self.model.config.image_shape() {
            Some(shape) => {
                let images =
                    tokens.iter().map(|x_0| self.model.config.pixels_of(x_0)).collect::<Result<Vec<_>>>()?;
                Grid { columns: COLUMNS, scale: 2 }.write(&path, &images, shape)?;
            }
            None => {
                let cells = self.model.config.vocab_size();
                let shape = ImageShape { channels: 1, height: cells, width: cells };
                Grid { columns: 1, scale: 3 }.write(&path, &[density_picture(tokens, cells)], shape)?;
            }
        }
        Ok(path)
    }
}

/// The share of points in every cell, dark where there are many: 255 at none, 0 at the most.
pub fn density_picture(points: &[Vec<u32>], cells: usize) -> Vec<u8> {
    let mut counts = vec![0u32; cells * cells];
    points.iter().for_each(|point| counts[point[0] as usize * cells + point[1] as usize] += 1);
    let most = counts.iter().copied().max().unwrap_or(0).max(1);
    counts.iter().map(|count| 255 - (255 * count / most) as u8).collect()
}

impl TrainedModel for ImageModel {
    fn validate(
        &mut self,
        average: &[Vec<f32>],
        size: EvaluationSize,
        samples: usize,
        step: u64,
    ) -> Result<Validation> {
        self.model.values = average.to_vec();
        let held_out = self.held_out(size.sequences)?;
        let (seed, schedule) = (self.seed, self.model.schedule());
        let settings = LikelihoodSettings { draws: size.draws, seed, batch: BATCH, schedule };
        let mut figures = Vec::new();
        for estimator in [Estimator::NelboSubtoken, Estimator::JointObjective] {
            figures.extend(self.model.evaluate(&self.device, estimator, &held_out, None, &settings)?);
        }
        let mut validation = Validation { figures, ..Validation::default() };
        if samples > 0 {
            let request =
                VisualRequest { num: samples, seed, batch: BATCH, ..VisualRequest::new(&self.model) };
            let generated = self.model.generate(&request, &self.device, &mut |_| Ok(()))?;
            validation.samples = vec![self.picture(&generated.tokens, step)?.display().to_string()];
            validation.report = generated.report;
        }
        self.model.values = Vec::new();
        Ok(validation)
    }

    fn save(&self, average: &[Vec<f32>], folder: &Path) -> Result<()> {
        let parameters = self.model.network.parameters();
        VisualParts { config: &self.model.config, parameters: &parameters, values: average }.save(folder)
    }

    fn init_weights(&self, folder: &Path) -> Result<Vec<Vec<f32>>> {
        let init = VisualModel::load(folder, Kernels::Plain)?;
        let (theirs, ours) = (&init.config, &self.model.config);
        check_init(&[
            ("model.subtokens", theirs.model.subtokens() == ours.model.subtokens()),
            (
                "data (size or number of the tokens)",
                theirs.vocab_size() == ours.vocab_size() && theirs.seq_len() == ours.seq_len(),
            ),
            ("model (sizes)", are_alike(&init.network.parameters(), &self.model.network.parameters())),
        ])?;
        Ok(init.values)
    }
}
