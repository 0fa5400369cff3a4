//! New images or points from a model.

use burn::tensor::Device;

use super::VisualModel;
use crate::denoiser::Denoiser;
use crate::model::generate::MAX_SAMPLES;
use crate::predictive::Predictive;
use crate::sampler::{
    Event, ImageSampling, MixtureDenoiser, Progress, Prompt, SampleReport, SampleSettings, Sampler,
    Trajectory,
};
use crate::{Error, Result};

/// Samples that are under way together at least: enough that few evaluations are of a batch that is not full.
const AT_ONCE: usize = 256;

/// Of which class samples are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Label {
    /// Equally many of every class, one class after the other; of none where the network reads no classes.
    #[default]
    Every,
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
            label: Label::Every,
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
        let Some(classes) = self.config.classes().filter(|_| request.label == Label::Every) else {
            return self.generate_alike(request, 0, device, observe);
        };
        let mut all = VisualGenerated::default();
        for class in 0..classes {
            // The first classes have one more where there is no even share.
            let num = (request.num + classes - 1 - class) / classes;
            if num == 0 {
                break;
            }
            let first = all.tokens.len() as u64;
            let part = VisualRequest { num, label: Label::Class(class), ..request.clone() };
            let part = self.generate_alike(&part, first, device, observe)?;
            all.tokens.extend(part.tokens);
            all.trajectories.extend(part.trajectories);
            all.report = [all.report, part.report].iter().sum();
        }
        Ok(all)
    }

    /// Generates samples of one label, numbered from `first_sequence` on, a part after the other, so that memory is
    /// taken for the finished ones only.
    fn generate_alike(
        &self,
        request: &VisualRequest,
        first_sequence: u64,
        device: &Device,
        observe: &mut dyn FnMut(Progress) -> Result<()>,
    ) -> Result<VisualGenerated> {
        let constraint = request.carry_over.unwrap_or(self.predictive.carry_over());
        let predictive = Predictive::new(self.predictive.codes().clone(), constraint);
        let prompt = Prompt::from_digits(&predictive, &request.given)?.with_label(self.class(request.label)?);
        let single = self.denoiser(device);
        let mixture;
        let mut settings = request.sampling.settings(self.schedule())?;
        let network: &dyn Denoiser = match request.label {
            Label::Mixture => {
                // As the published sampler does: the temperature of every prediction, then the mean.
                mixture =
                    MixtureDenoiser::of_classes(&*single)?.with_temperature(request.sampling.temperature);
                settings.temperature_schedule = None;
                &mixture
            }
            Label::Every | Label::Class(_) => &*single,
        };
        let digits_total = request.num * prompt.masked().len();
        let mut all = VisualGenerated::default();
        while all.tokens.len() < request.num {
            let done = all.tokens.len();
            let num = (request.num - done).min(request.batch.max(AT_ONCE));
            let settings = SampleSettings {
                seed: request.seed,
                first_sequence: first_sequence + done as u64,
                batch: request.batch,
                trajectories: request.trajectories,
                ..settings.clone()
            };
            let mut told = |event: &Event| {
                let Event::Progress(progress) = event else { return Ok(()) };
                let sequences = done + progress.sequences;
                let digits = done * prompt.masked().len() + progress.digits;
                observe(Progress { sequences, digits, digits_total })
            };
            let samples = Sampler::new(network, &predictive, settings)?
                .sample_observed(&vec![prompt.clone(); num], &mut told)?;
            all.tokens.extend(samples.sequences().map(<[u32]>::to_vec));
            all.report = [all.report, samples.report()].iter().sum();
            all.trajectories.extend(samples.trajectories);
        }
        Ok(all)
    }

    /// The class that a label means.
    fn class(&self, label: Label) -> Result<Option<usize>> {
        match (label, self.config.classes()) {
            (Label::Every, _) | (Label::Mixture, Some(_)) => Ok(None),
            (Label::Class(label), Some(classes)) if label < classes => Ok(Some(label)),
            (Label::Class(label), Some(classes)) => {
                Err(Error::invalid("label", label, format!("0 to {}", classes - 1)))
            }
            (Label::Class(_) | Label::Mixture, None) => {
                Err(Error::invalid("label", "given", "none: the model does not read classes"))
            }
        }
    }
}
