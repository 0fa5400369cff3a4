//! Figures and samples of a model while it trains.

use burn::tensor::Device;

use super::settings::Settings;
use crate::data::{Blocks, PreparedData, ValidationBlock, ValidationBlocks};
use crate::likelihood::{Figure, LikelihoodSettings};
use crate::model::{Estimator, GenerateRequest, Generated, Model, Network};
use crate::{Error, Result};

/// How much an evaluation looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EvaluationSize {
    /// Held-out sequences; 0: all.
    pub sequences: u64,
    /// Draws a sequence.
    pub draws: usize,
}

/// States of one network call.
const BATCH: usize = 32;

/// Evaluates a model on held-out text.
pub struct Validator {
    blocks: ValidationBlocks,
    seed: u64,
}

impl Validator {
    /// For the held-out part of `data`.
    ///
    /// # Errors
    /// [`Error::Invalid`] when nothing is held out, or less than one sequence.
    pub fn new(data: &PreparedData, settings: &Settings) -> Result<Self> {
        let Some(store) = &data.valid else {
            return Err(Error::invalid("data.valid_fraction", 0, "a number in (0, 1): nothing is held out"));
        };
        let layout = settings.data.layout(settings.model.seq_len);
        let blocks = Blocks::new(store.clone(), &data.tokenizer, layout)?;
        Ok(Self { blocks: ValidationBlocks::new(blocks, data.tokenizer.clone())?, seed: settings.train.seed })
    }

    /// The valid bound (exact value of an autoregressive model) and the joint objective.
    ///
    /// # Errors
    /// What reading and evaluating report.
    pub fn figures(&self, model: &Model, size: EvaluationSize, device: &Device) -> Result<Vec<Figure>> {
        let blocks = self.read(size.sequences)?;
        let settings = LikelihoodSettings {
            draws: size.draws,
            seed: self.seed,
            batch: BATCH,
            schedule: model.schedule(),
        };
        let estimators: &[Estimator] = match model.network {
            Network::Diffusion(_) => &[Estimator::NelboSubtoken, Estimator::JointObjective],
            Network::Autoregressive(_) => &[Estimator::LEFT_TO_RIGHT],
        };
        let mut figures = Vec::new();
        for estimator in estimators {
            figures.extend(model.evaluate(device, *estimator, &blocks, &settings)?);
        }
        Ok(figures)
    }

    /// Blocks spread evenly over the held-out text; `count` 0: all.
    fn read(&self, count: u64) -> Result<Vec<ValidationBlock>> {
        let all = self.blocks.blocks().len();
        let count = if count == 0 { all } else { count.min(all) };
        (0..count).map(|i| self.blocks.block(i * all / count)).collect()
    }

    /// A few samples by the model's default sampling, beginning where a text begins.
    ///
    /// # Errors
    /// What the sampler reports.
    pub fn samples(&self, model: &Model, count: usize, device: &Device) -> Result<Generated> {
        let request = GenerateRequest { num: count, seed: self.seed, ..GenerateRequest::new(model) };
        if count == 0 { Ok(Generated::default()) } else { model.generate(&request, device) }
    }
}
