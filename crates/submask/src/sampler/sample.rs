//! Sampling a number of prompts with the same settings.

use std::sync::Arc;

use super::observer::{Event, Observer};
use super::prompt::Prompt;
use super::recipe::Recipe;
use super::recorder::Recorder;
use super::report::Samples;
use super::settings::SampleSettings;
use super::stream::{FinishedSequence, SequenceRequest, Stream};
use crate::denoiser::Denoiser;
use crate::predictive::Predictive;
use crate::{Error, Result};

/// Draws sequences from a network.
pub struct Sampler<'a> {
    network: &'a dyn Denoiser,
    recipe: Arc<Recipe<'a>>,
    first_sequence: u64,
    batch: usize,
    trajectories: bool,
}

impl<'a> Sampler<'a> {
    /// A sampler for `network`, whose logits `predictive` turns into p_θ(x_0 | y_t).
    ///
    /// # Errors
    /// [`Error::Invalid`] for settings out of range or for other networks, and for codes that are not the network's.
    pub fn new(
        network: &'a dyn Denoiser,
        predictive: &'a Predictive,
        settings: SampleSettings,
    ) -> Result<Self> {
        network.spec().check_codes(predictive.codes())?;
        settings.check_network(network.spec())?;
        let recipe = Arc::new(Recipe::new(predictive, &settings)?);
        let SampleSettings { first_sequence, batch, trajectories, .. } = settings;
        Ok(Self { network, recipe, first_sequence, batch, trajectories })
    }

    /// One sequence for every prompt; all prompts have the same length.
    ///
    /// Sequence s depends on the network, its prompt, the settings other than the batch, and the number
    /// `first_sequence` + s; not on the other sequences, the batch size or the thread count.
    ///
    /// # Errors
    /// [`Error::Invalid`] for prompts of unequal or too great lengths and for logits that are not finite, and what the
    /// network reports.
    pub fn sample(&self, prompts: &[Prompt]) -> Result<Samples> {
        self.sample_observed(prompts, &mut |_: &Event| Ok(()))
    }

    /// The same; `observer` is told what happens, and its error (an interruption) ends the call.
    ///
    /// # Errors
    /// As [`Self::sample`], and the first error of `observer`.
    pub fn sample_observed(&self, prompts: &[Prompt], observer: &mut dyn Observer) -> Result<Samples> {
        let seq_len = self.check_prompts(prompts)?;
        if !self.trajectories {
            return self.run(prompts, seq_len, observer);
        }
        let mut recorder = Recorder::new(observer);
        let samples = self.run(prompts, seq_len, &mut recorder)?;
        Ok(Samples { trajectories: recorder.into_trajectories(), ..samples })
    }

    fn check_prompts(&self, prompts: &[Prompt]) -> Result<usize> {
        let width = prompts.first().map(|prompt| prompt.y().len());
        let Some(width) = width else {
            return Err(Error::invalid("prompts", 0, "at least 1"));
        };
        if let Some(other) = prompts.iter().find(|prompt| prompt.y().len() != width) {
            let allowed = format!("{width} sub-tokens, as the first of the call");
            return Err(Error::invalid("prompt length", other.y().len(), allowed));
        }
        Ok(width / self.recipe.predictive().codes().subtoken_len())
    }

    /// Samples without trajectories.
    fn run(&self, prompts: &[Prompt], seq_len: usize, observer: &mut dyn Observer) -> Result<Samples> {
        let mut stream = Stream::new(self.network, self.batch)?;
        for (s, prompt) in prompts.iter().enumerate() {
            let number = self.first_sequence + s as u64;
            let (prompt, recipe) = (prompt.clone(), Arc::clone(&self.recipe));
            stream.add(SequenceRequest { prompt, recipe, number })?;
        }
        let mut finished = Vec::with_capacity(prompts.len());
        while !stream.is_empty() {
            finished.extend(stream.round(observer)?);
        }
        finished.sort_by_key(|finished: &FinishedSequence| finished.sequence);
        let mut samples =
            Samples { tokens: Vec::new(), seq_len, reports: Vec::new(), trajectories: Vec::new() };
        for sequence in finished {
            samples.tokens.extend(sequence.tokens);
            samples.reports.push(sequence.report);
        }
        Ok(samples)
    }
}
