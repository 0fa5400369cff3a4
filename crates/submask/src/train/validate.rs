//! Figures and samples of a model while it trains.

use crate::data::{BlockLayout, Blocks, PreparedData, ValidationBlock, ValidationBlocks};
use crate::likelihood::Figure;
use crate::model::{Estimator, EvaluateRequest, Generated, HeldOut, Request, Session};
use crate::sampler::{SampleReport, Unobserved};
use crate::{Error, Result};

/// Figures and samples of a model.
#[derive(Clone, Debug, Default)]
pub struct Validation {
    /// Valid bound or exact value, and the joint objective, of held-out data.
    pub figures: Vec<Figure>,
    /// Texts, or the paths of pictures.
    pub samples: Vec<String>,
    /// What the samples cost.
    pub report: SampleReport,
}

/// How much a validation evaluates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EvaluationSize {
    /// Held-out sequences; 0: all.
    pub sequences: u64,
    /// Monte Carlo draws per sequence.
    pub draws: usize,
}

/// States per network call.
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
    pub fn new(data: &PreparedData, layout: BlockLayout, seed: u64) -> Result<Self> {
        let Some(store) = &data.valid else {
            return Err(Error::invalid("data.valid_fraction", 0, "a number in (0, 1): nothing is held out"));
        };
        let blocks = Blocks::new(store.clone(), &data.tokenizer, layout)?;
        Ok(Self { blocks: ValidationBlocks::new(blocks, data.tokenizer.clone())?, seed })
    }

    /// The valid bound (exact value of an autoregressive model) and the joint objective.
    ///
    /// # Errors
    /// What reading and evaluating report.
    pub fn figures(&self, session: &Session, size: EvaluationSize) -> Result<Vec<Figure>> {
        let held_out = HeldOut::of_text(&self.read(size.sequences)?);
        validation_figures(session, &held_out, size, self.seed, BATCH)
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
    pub fn samples(&self, session: &Session, count: usize) -> Result<Generated> {
        let request = Request { num: count, seed: self.seed, ..session.request() };
        if count == 0 { Ok(Generated::default()) } else { session.generate(&request, &mut Unobserved) }
    }
}

/// The valid bound (exact value of an autoregressive model) and the joint objective, which only a diffusion network has.
pub(super) fn validation_figures(
    session: &Session,
    held_out: &HeldOut,
    size: EvaluationSize,
    seed: u64,
    batch: usize,
) -> Result<Vec<Figure>> {
    let usual = session.usual_estimator();
    let surrogate = (!session.is_autoregressive()).then_some(Estimator::JointObjective);
    let mut figures = Vec::new();
    for estimator in std::iter::once(usual).chain(surrogate) {
        let request = EvaluateRequest { draws: size.draws, seed, batch, ..EvaluateRequest::new(estimator) };
        figures.extend(session.evaluate(&request, held_out)?);
    }
    Ok(figures)
}
