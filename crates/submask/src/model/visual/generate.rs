//! New images or points from a model.

use burn::tensor::Device;

use super::VisualModel;
use crate::backbone::Denoiser;
use crate::model::generate::MAX_SAMPLES;
use crate::predictive::Predictive;
use crate::sampler::{
    ImageSampling, MixtureDenoiser, Progress, Prompt, SampleReport, SampleSettings, Sampler, Trajectory,
};
use crate::{Error, Result};

/// Of which class samples are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Label {
    /// Of none that is said.
    #[default]
    None,
    /// Of this one.
    Class(usize),
    /// Predictions are averaged over all classes (math.md §8).
    Mixture,
}

/// What is generated.
#[derive(Clone, Debug)]
pub struct VisualRequest {
    /// Number of samples.
    pub num: usize,
    /// The digits that are given, [L·ℓ]; all samples alike.
    pub given: Vec<Option<u32>>,
    /// The class of all samples, for a network that reads it.
    pub label: Label,
    /// Steps, draws, temperature, warp and corrector.
    pub sampling: ImageSampling,
    /// Whether tokens that contradict a visible digit are excluded; `None`: as the model says.
    pub carry_over: Option<bool>,
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
        Self {
            num: 1,
            given: vec![None; model.config.seq_len() * model.config.model.subtokens()],
            label: Label::None,
            sampling: model.config.sample.clone(),
            carry_over: None,
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
        let constraint = request.carry_over.unwrap_or(self.predictive.carry_over());
        let predictive = Predictive::new(self.predictive.codes().clone(), constraint);
        let settings = SampleSettings {
            seed: request.seed,
            batch: request.batch,
            trajectories: request.trajectories,
            ..request.sampling.settings(self.schedule())?
        };
        let prompts = vec![Prompt::from_digits(&predictive, &request.given)?; request.num];
        let networks = self.networks(request.label, device)?;
        let samples = match networks.as_slice() {
            [network] => {
                Sampler::new(&**network, &predictive, settings)?.sample_observed(&prompts, observe)?
            }
            several => {
                let several: Vec<&dyn Denoiser> = several.iter().map(|network| &**network).collect();
                // As the published sampler does: the temperature of every network, then the mean.
                let mixture = MixtureDenoiser::new(&several)?.with_temperature(request.sampling.temperature);
                let settings = SampleSettings { temperature_schedule: None, ..settings };
                Sampler::new(&mixture, &predictive, settings)?.sample_observed(&prompts, observe)?
            }
        };
        Ok(VisualGenerated {
            tokens: samples.sequences().map(<[u32]>::to_vec).collect(),
            report: samples.report(),
            trajectories: samples.trajectories,
        })
    }

    /// The network of a class, or one for every class that is averaged over.
    fn networks(&self, label: Label, device: &Device) -> Result<Vec<Box<dyn Denoiser>>> {
        let classes = self.config.classes();
        match (label, classes) {
            (Label::None, _) => Ok(vec![self.denoiser(device, None)]),
            (Label::Class(label), Some(classes)) if label < classes => {
                Ok(vec![self.denoiser(device, Some(label))])
            }
            (Label::Class(label), Some(classes)) => {
                Err(Error::invalid("label", label, format!("0 to {}", classes - 1)))
            }
            (Label::Mixture, Some(classes)) => {
                Ok((0..classes).map(|label| self.denoiser(device, Some(label))).collect())
            }
            (Label::Class(_) | Label::Mixture, None) => {
                Err(Error::invalid("label", "given", "none: the model does not read classes"))
            }
        }
    }
}
