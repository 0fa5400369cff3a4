//! Runs on points of a density.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{HeldOutData, Learnt, Opened, sequences_tokens};
use crate::data::image::{Grid, ImageShape};
use crate::data::{Batcher, Density, Points};
use crate::model::{Architecture, Generated, HeldOut, ModelConfig, PointSubject, Subject};
use crate::train::event::Observer;
use crate::train::run::RunRequest;
use crate::train::settings::{RunSettings, at_least_one};
use crate::{Error, Result};

/// How many times larger a picture of samples shows a cell.
const SCALE: usize = 3;

/// A distribution over the cells of a square.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DensityData {
    /// The picture: the darker a cell, the likelier it is.
    pub image: PathBuf,
    /// Number of rows, and of columns.
    pub cells: usize,
    /// Points that a validation evaluates at most; `train.validate_sequences` and `train.final_sequences` of 0 mean
    /// these.
    pub valid_points: u64,
}

impl DensityData {
    /// What the tokens of its points mean.
    pub fn subject(&self) -> Subject {
        Subject::Point(PointSubject { cells: self.cells })
    }
}

impl Learnt for DensityData {
    fn check(&self, _: &RunSettings) -> Result<Option<Subject>> {
        at_least_one("data.valid_points", self.valid_points)?;
        Ok(Some(self.subject()))
    }

    fn open(&self, request: &RunRequest, _joins: bool, _: &mut dyn Observer) -> Result<Opened> {
        let settings = &request.settings;
        let seed = settings.train.seed;
        let density = Density::of_picture(&self.image, self.cells)?;
        let config = settings.config(self.subject());
        config.validate()?;
        let points = Points::new(density.clone(), seed);
        Ok(Opened {
            architecture: Architecture::new(config, None)?,
            train_tokens: sequences_tokens(&points),
            valid_tokens: None,
            batcher: Batcher::new(points, seed)?,
            held_out: Box::new(HeldOutPoints { density, most: self.valid_points, seed }),
            fidelity: None,
        })
    }
}

/// Points of a density that are no training points.
struct HeldOutPoints {
    density: Density,
    /// Points that are drawn at most.
    most: u64,
    seed: u64,
}

impl HeldOutData for HeldOutPoints {
    fn sequences(&self, _: &ModelConfig, count: u64) -> Result<HeldOut> {
        let count = if count == 0 { self.most } else { count.min(self.most) };
        Ok(HeldOut::of_density(&self.density, count, self.seed))
    }

    fn show(&self, config: &ModelConfig, generated: Generated, path: &Path) -> Result<Vec<String>> {
        let Some(point) = config.subject.point() else {
            return Err(Error::internal("a model that is trained on points is of points")(&config.subject));
        };
        let shape = ImageShape { channels: 1, height: point.cells, width: point.cells };
        Grid { columns: 1, scale: SCALE }.write(path, &[point.picture(&generated.tokens)], shape)?;
        Ok(vec![path.display().to_string()])
    }
}
