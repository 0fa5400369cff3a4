//! New images or points from a model.

use burn::tensor::Device;

use super::VisualModel;
use crate::model::generate::MAX_SAMPLES;
use crate::predictive::Sharpening;
use crate::sampler::{
    Progress, Prompt, RevealUnit, SampleReport, SampleSettings, Sampler, Steps, Trajectory,
};
use crate::{Error, Result};

/// What is generated.
#[derive(Clone, Debug)]
pub struct VisualRequest {
    /// Number of samples.
    pub num: usize,
    /// The digits that are given, [L·ℓ]; all samples alike.
    pub given: Vec<Option<u32>>,
    /// The class of all samples, for a network that reads it.
    pub label: Option<usize>,
    /// Time steps.
    pub steps: Steps,
    /// Temperature, top-k, nucleus.
    pub sharpening: Sharpening,
    /// Seed of all draws.
    pub seed: u64,
    /// Sequences evaluated together; the samples do not depend on it.
    pub batch: usize,
    /// Whether trajectories are kept.
    pub trajectories: bool,
}

/// Samples and what they cost.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct VisualGenerated {
    /// Tokens of every sample, \[n\]\[L\].
    pub tokens: Vec<Vec<u32>>,
    /// What all samples cost together.
    pub report: SampleReport,
    /// How each sample came about; empty unless asked for.
    pub trajectories: Vec<Trajectory>,
}

impl VisualRequest {
    /// One sample by the model's default sampling, nothing given.
    pub fn new(model: &VisualModel) -> Self {
        let defaults = model.config.sample;
        Self {
            num: 1,
            given: vec![None; model.config.seq_len() * model.config.model.subtokens()],
            label: None,
            steps: if defaults.steps == 0 { Steps::Exact } else { Steps::Grid(defaults.steps) },
            sharpening: defaults.sharpening(),
            seed: 0,
            batch: 8,
            trajectories: false,
        }
    }
}

impl VisualModel {
    /// Generates samples; `observe` is called after every network call, and its error ends the work.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a request that does not fit the model, and the first error of `observe`.
    pub fn generate(
        &self,
        request: &VisualRequest,
        device: &Device,
        observe: &mut dyn FnMut(Progress) -> Result<()>,
    ) -> Result<VisualGenerated> {
        if request.num == 0 || request.num > MAX_SAMPLES {
            return Err(Error::invalid("num", request.num, format!("1 to {MAX_SAMPLES} samples at once")));
        }
        self.check_label(request.label)?;
        let network = self.denoiser(device, request.label);
        let settings = SampleSettings {
            steps: request.steps.clone(),
            unit: RevealUnit::Digits,
            sharpening: request.sharpening,
            schedule: self.schedule(),
            seed: request.seed,
            first_sequence: 0,
            batch: request.batch,
            trajectories: request.trajectories,
        };
        let prompt = Prompt::from_digits(&self.predictive, &request.given)?;
        let sampler = Sampler::new(&*network, &self.predictive, settings)?;
        let samples = sampler.sample_observed(&vec![prompt; request.num], observe)?;
        Ok(VisualGenerated {
            tokens: samples.sequences().map(<[u32]>::to_vec).collect(),
            report: samples.report(),
            trajectories: samples.trajectories,
        })
    }

    fn check_label(&self, label: Option<usize>) -> Result<()> {
        match (label, self.config.classes()) {
            (Some(label), Some(classes)) if label >= classes => {
                Err(Error::invalid("label", label, format!("0 to {}", classes - 1)))
            }
            (Some(label), None) => {
                Err(Error::invalid("label", label, "none: the model does not read classes"))
            }
            _ => Ok(()),
        }
    }
}
