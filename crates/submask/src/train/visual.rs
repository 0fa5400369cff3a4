//! Training on images and points.

use std::path::{Path, PathBuf};

use burn::tensor::{Device, Tensor};

use super::image_stamp::ImageStamp;
use super::run::RunRequest;
use super::step::{Masking, MicroBatch, dropout_of};
use super::task::{Judgement, Task};
use super::validate::EvaluationSize;
use super::visual_settings::{VisualData, VisualRunSettings};
use crate::Result;
use crate::backbone::weights::{Parameter, Weights, are_alike};
use crate::backbone::{self, Digits, Inputs};
use crate::data::image::{Grid, ImageBatch, ImageBatcher, ImageSet, ImageShape};
use crate::data::{Cursor, Density};
use crate::likelihood::LikelihoodSettings;
use crate::model::Estimator;
use crate::model::visual::{HeldOut, VisualModel, VisualRequest};
use crate::ops::Kernels;
use crate::random::{Draws, Purpose};

/// States of one network call.
const BATCH: usize = 16;
/// Images in a row of a picture of samples.
const COLUMNS: usize = 8;
/// Folder of a run that holds pictures of samples.
pub const SAMPLES: &str = "samples";

/// A model of images or points, its data and its loss.
pub(super) struct VisualTask {
    settings: VisualRunSettings,
    data: Data,
    /// Holds the averaged weights whenever it is evaluated or saved.
    model: VisualModel,
    device: Device,
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
    /// Reads the images, or the picture of the density.
    ///
    /// # Errors
    /// Files and settings that do not go together.
    pub fn open(settings: &VisualRunSettings, request: &RunRequest) -> Result<Self> {
        let mut stamp = None;
        let (data, shape, class_names) = match &settings.data {
            VisualData::Images(images) => {
                let (train, valid) = images.load(settings.train.seed)?;
                stamp = Some(ImageStamp::of(&train, &valid));
                let (shape, names) = (train.shape(), train.class_names().to_vec());
                let batcher = ImageBatcher::new(train, settings.train.seed, images.flips);
                (Data::Images { batcher, valid }, Some(shape), names)
            }
            VisualData::Density(points) => {
                let density = Density::of_picture(&points.image, points.cells)?;
                let valid_points = points.valid_points;
                (Data::Points { density, given: 0, valid_points }, None, Vec::new())
            }
        };
        let config = settings.config(shape, &class_names);
        config.validate()?;
        match stamp {
            Some(stamp) if request.resume => stamp.check(&request.out)?,
            Some(stamp) => stamp.write(&request.out)?,
            None => {}
        }
        Ok(Self {
            settings: settings.clone(),
            data,
            model: VisualModel::new(config, Vec::new(), request.kernels)?,
            device: request.device.clone(),
            pictures: request.out.join(SAMPLES),
        })
    }

    /// The next sequences, as tokens.
    fn next_batch(&mut self) -> Result<ImageBatch> {
        let count = self.settings.train.batch_size;
        match &mut self.data {
            Data::Images { batcher, .. } => {
                let ImageBatch { x_0, labels } = batcher.next_batch(count)?;
                Ok(ImageBatch { x_0: self.model.config.tokens_of(x_0)?, labels })
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
            Data::Images { valid, .. } => HeldOut::of_images(valid, &self.model.config, count),
            Data::Points { density, valid_points, .. } => {
                let count = if count == 0 { *valid_points } else { count.min(*valid_points) };
                Ok(HeldOut::of_density(density, count, self.settings.train.seed))
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

impl Task for VisualTask {
    fn parameters(&self) -> Vec<Parameter> {
        self.model.network.parameters()
    }

    fn tokens(&self) -> (Option<u64>, Option<u64>) {
        let per_image = self.model.config.seq_len() as u64;
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
        self.model.config.seq_len()
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
        let (schedule, train) = (self.model.schedule(), &self.settings.train);
        let masked = Masking { predictive: &self.model.predictive, schedule: &schedule, settings: train }
            .mask(&batch)?;
        let dropout = dropout_of(&batch, self.model.config.model.dropout(), train.seed);
        let labels = self.model.config.classes().map(|_| labels.as_slice());
        let inputs = Inputs { y_t: Digits::Host(&masked.y_t), t: &masked.times, labels };
        let network = &*self.model.network.0;
        backbone::loss(network, weights, &inputs, &masked.positions, masked.rows, Some(dropout))
    }

    fn save(&mut self, average: &[Vec<f32>], folder: &Path) -> Result<()> {
        self.model.values = average.to_vec();
        self.model.save(folder)
    }

    fn judge(
        &mut self,
        average: &[Vec<f32>],
        size: EvaluationSize,
        samples: usize,
        step: u64,
    ) -> Result<Judgement> {
        self.model.values = average.to_vec();
        let held_out = self.held_out(size.sequences)?;
        let settings = LikelihoodSettings {
            draws: size.draws,
            seed: self.settings.train.seed,
            batch: BATCH,
            schedule: self.model.schedule(),
        };
        let mut figures = Vec::new();
        for estimator in [Estimator::NelboSubtoken, Estimator::JointObjective] {
            figures.extend(self.model.evaluate(&self.device, estimator, &held_out, None, &settings)?);
        }
        if samples == 0 {
            return Ok(Judgement { figures, ..Judgement::default() });
        }
        let seed = self.settings.train.seed;
        let request = VisualRequest { num: samples, seed, batch: BATCH, ..VisualRequest::new(&self.model) };
        let generated = self.model.generate(&request, &self.device, &mut |_| Ok(()))?;
        let picture = self.picture(&generated.tokens, step)?;
        Ok(Judgement { figures, samples: vec![picture.display().to_string()], report: generated.report })
    }

    fn weights_of(&self, folder: &Path) -> Result<Vec<Vec<f32>>> {
        let init = VisualModel::load(folder, Kernels::Plain)?;
        let (theirs, ours) = (&init.config, &self.model.config);
        let keys = [
            ("model.subtokens", theirs.model.subtokens() == ours.model.subtokens()),
            (
                "data (size or number of the tokens)",
                theirs.vocab_size() == ours.vocab_size() && theirs.seq_len() == ours.seq_len(),
            ),
            ("model (sizes)", are_alike(&init.network.parameters(), &self.model.network.parameters())),
        ];
        match keys.iter().find(|(_, same)| !same) {
            Some((key, _)) => Err(super::task::unlike_the_start(key)),
            None => Ok(init.values),
        }
    }
}
