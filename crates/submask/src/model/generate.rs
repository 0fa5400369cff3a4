//! New text from a model, with holes filled wherever they are.

use burn::tensor::Device;

use super::{Model, Network};
use crate::predictive::Sharpening;
use crate::sampler::{
    AutoregressiveRequest, Event, Progress, Prompt, RevealUnit, SampleReport, SampleSettings, Sampler, Steps,
    Trajectory, sample_autoregressive,
};
use crate::{Error, Result};

/// Most samples of one request: their prompts and tokens are held in memory.
pub(super) const MAX_SAMPLES: usize = 1_000_000;

/// What is generated.
#[derive(Clone, Debug)]
pub struct GenerateRequest {
    /// Number of samples.
    pub num: usize,
    /// The sequence: given tokens and holes, all samples alike. A position that a text would begin at is given
    /// as the end-of-text token.
    pub prompt: Vec<Option<u32>>,
    /// Time steps; an autoregressive model has none.
    pub steps: Steps,
    /// What is revealed together.
    pub unit: RevealUnit,
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
pub struct Generated {
    /// The text of each sample, up to the first end of text after its beginning and after all that was given.
    pub texts: Vec<String>,
    /// The tokens of each sample, \[n\]\[L\].
    pub tokens: Vec<Vec<u32>>,
    /// What all samples cost together.
    pub report: SampleReport,
    /// How each sample came about; empty unless asked for.
    pub trajectories: Vec<Trajectory>,
}

impl GenerateRequest {
    /// One sample of the model's full length, by its default sampling, beginning where a text begins.
    pub fn new(model: &Model) -> Self {
        let defaults = model.config.sample;
        let mut prompt = vec![None; model.config.model.seq_len];
        if let Some(first) = prompt.first_mut() {
            *first = model.tokenizer.end_of_text();
        }
        Self {
            num: 1,
            prompt,
            steps: if defaults.steps == 0 { Steps::Exact } else { Steps::Grid(defaults.steps) },
            unit: RevealUnit::Digits,
            sharpening: defaults.sharpening(),
            seed: 0,
            batch: 8,
            trajectories: false,
        }
    }
}

impl Model {
    /// Generates samples.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a request that does not fit the model.
    pub fn generate(&self, request: &GenerateRequest, device: &Device) -> Result<Generated> {
        self.generate_observed(request, device, &mut |_| Ok(()))
    }

    /// The same; `observe` is called after every network call, and its error ends the work.
    ///
    /// # Errors
    /// As [`Self::generate`], and the first error of `observe`.
    pub fn generate_observed(
        &self,
        request: &GenerateRequest,
        device: &Device,
        observe: &mut dyn FnMut(Progress) -> Result<()>,
    ) -> Result<Generated> {
        if request.num == 0 || request.num > MAX_SAMPLES {
            return Err(Error::invalid("num", request.num, format!("1 to {MAX_SAMPLES} samples at once")));
        }
        let mut generated = match self.network {
            Network::Diffusion(_) => self.diffuse(request, device, observe)?,
            Network::Autoregressive(_) => self.continue_text(request, device)?,
        };
        generated.texts = generated
            .tokens
            .iter()
            .map(|tokens| self.text_of(tokens, &request.prompt))
            .collect::<Result<_>>()?;
        Ok(generated)
    }

    fn diffuse(
        &self,
        request: &GenerateRequest,
        device: &Device,
        observe: &mut dyn FnMut(Progress) -> Result<()>,
    ) -> Result<Generated> {
        let network = self.denoiser(device)?;
        let settings = SampleSettings {
            steps: request.steps.clone(),
            unit: request.unit,
            sharpening: request.sharpening,
            schedule: self.schedule(),
            seed: request.seed,
            first_sequence: 0,
            batch: request.batch,
            trajectories: request.trajectories,
            ..SampleSettings::default()
        };
        let prompt = Prompt::from_tokens(&self.predictive, &request.prompt)?;
        let sampler = Sampler::new(&network, &self.predictive, settings)?;
        let mut told = |event: &Event| match event {
            Event::Progress(progress) => observe(*progress),
            _ => Ok(()),
        };
        let samples = sampler.sample_observed(&vec![prompt; request.num], &mut told)?;
        Ok(Generated {
            texts: Vec::new(),
            tokens: samples.sequences().map(<[u32]>::to_vec).collect(),
            report: samples.report(),
            trajectories: samples.trajectories,
        })
    }

    fn continue_text(&self, request: &GenerateRequest, device: &Device) -> Result<Generated> {
        if request.trajectories {
            return Err(Error::invalid(
                "trace",
                "autoregressive",
                "a diffusion model: this one writes left to right",
            ));
        }
        let network = self.autoregressive(device)?;
        let tokens = sample_autoregressive(
            &network,
            &self.predictive,
            &AutoregressiveRequest {
                prompt: &request.prompt,
                count: request.num,
                first_index: 0,
                batch: request.batch,
                seed: request.seed,
                sharpening: request.sharpening,
            },
        )?;
        let digits = (request.prompt.len() * self.predictive.codes().subtoken_len()) as u64;
        let holes = request.prompt.iter().filter(|token| token.is_none()).count();
        let per_token = self.predictive.codes().subtoken_len();
        let report = SampleReport {
            sequences: request.num as u64,
            digits: (request.num * holes * per_token) as u64,
            evaluations: request.num as u64 * digits,
            positions: request.num as u64 * digits,
            steps_total: request.num as u64 * digits,
            ..SampleReport::default()
        };
        Ok(Generated { texts: Vec::new(), tokens, report, trajectories: Vec::new() })
    }

    /// The text from the first token that is no end of text, up to the first end of text after everything that
    /// was given.
    fn text_of(&self, tokens: &[u32], prompt: &[Option<u32>]) -> Result<String> {
        let end = self.tokenizer.end_of_text();
        let start = tokens.iter().take_while(|token| Some(**token) == end).count();
        let given = prompt.iter().rposition(Option::is_some).map_or(0, |last| last + 1).max(start);
        let rest = tokens[given..].iter().position(|token| Some(*token) == end);
        self.tokenizer.decode(&tokens[start..rest.map_or(tokens.len(), |length| given + length)], "")
    }
}
