//! Held-out data under a model: figures that say what they are.

use serde::{Deserialize, Serialize};

use super::estimator::{Estimated, Estimator};
use super::held_out::HeldOut;
use super::session::Session;
use super::subject::Unit;
use crate::Result;
use crate::denoiser::Wanted;
use crate::likelihood::{Estimate, Figure, Likelihood, Meaning, Sequences};

/// How an evaluation is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EvaluateRequest {
    /// What is computed.
    pub estimator: Estimator,
    /// Draws per sequence; exact values draw nothing.
    pub draws: usize,
    /// Seed of all draws.
    pub seed: u64,
    /// States per network call; the figures do not depend on it.
    pub batch: usize,
    /// Takes the place of the model's own carry-over constraint: a network trained without it has one more valid bound
    /// with it, that of the process in which digits that are visible stay (math.md §3). `None`: as the model says.
    pub carry_over: Option<bool>,
}

impl EvaluateRequest {
    /// One draw per sequence, seed 0, by the model's own constraint.
    pub fn new(estimator: Estimator) -> Self {
        Self { estimator, draws: 1, seed: 0, batch: 16, carry_over: None }
    }
}

/// Figures of held-out sequences, and the value of each.
#[derive(Clone, Debug, PartialEq)]
pub struct Evaluation {
    /// Figures of all together.
    pub figures: Vec<Figure>,
    /// Each, in the order in which they were evaluated.
    pub sequences: Vec<SequenceValue>,
}

/// −log p of one sequence, a bound of it, or a surrogate: the figures say which.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SequenceValue {
    /// Its place among the sequences that were given, from 0.
    pub index: usize,
    /// The value in nats.
    pub nats: f64,
    /// Its standard error over draws; `None` where it is not known, as with a single draw.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub draw_error: Option<f64>,
    /// Tokens that are charged; of a pair those of the completion up to the first end of text.
    pub tokens: u64,
    /// Characters of text that they stand for, where they do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub characters: Option<u64>,
}

/// What is known of the sequences that an estimate is of.
pub(super) struct Measure<'a> {
    /// The name of the figures.
    pub(super) name: String,
    /// Where every sequence stood among those that were given, \[n\].
    pub(super) places: &'a [usize],
    /// Characters of every sequence, \[n\]; empty where they stand for none in particular.
    pub(super) characters: &'a [u64],
    /// Whether there is text, and it can be had again from its tokens.
    pub(super) is_lossless: bool,
}

impl Measure<'_> {
    /// The value of every sequence.
    fn values<K: Meaning>(&self, estimate: &Estimate<K>) -> Vec<SequenceValue> {
        let value = |(s, index): (usize, &usize)| SequenceValue {
            index: *index,
            nats: estimate.nats()[s],
            draw_error: Some(estimate.draw_errors()[s]).filter(|error| error.is_finite()),
            tokens: estimate.tokens()[s],
            characters: self.characters.get(s).copied(),
        };
        self.places.iter().enumerate().map(value).collect()
    }

    /// The values, and figures in some units.
    fn evaluation<K: Meaning>(&self, estimate: &Estimate<K>, units: &[Unit]) -> Result<Evaluation>
    where
        Estimate<K>: Likelihood,
    {
        let figures = units.iter().map(|unit| self.figure(estimate, *unit)).collect::<Result<_>>()?;
        Ok(Evaluation { figures, sequences: self.values(estimate) })
    }

    /// A figure in a unit.
    fn figure<K: Meaning>(&self, estimate: &Estimate<K>, unit: Unit) -> Result<Figure>
    where
        Estimate<K>: Likelihood,
    {
        let measured = match unit {
            Unit::BitsPerCharacter => estimate.bits_per_character(self.characters)?,
            Unit::NatsPerToken | Unit::NatsPerTokenOfTokenised => estimate.nats_per_token(),
            Unit::Perplexity | Unit::PerplexityOfTokenised => estimate.perplexity(),
            Unit::BitsPerDimension(dimensions) => estimate.bits_per_dimension(dimensions)?,
            Unit::NatsPerSequence => estimate.nats_per_sequence(),
            Unit::Nats => estimate.total_nats(),
        };
        Ok(estimate.figure_of(&self.name, unit.name(), measured))
    }
}

impl Session {
    /// What is usually estimated: the bound, or the exact value where a network has one.
    pub fn usual_estimator(&self) -> Estimator {
        if self.is_autoregressive() { Estimator::LEFT_TO_RIGHT } else { Estimator::NelboSubtoken }
    }

    /// Evaluates held-out sequences.
    ///
    /// Likelihoods are given in the units of the subject: of text per character, per token and as a perplexity, or, where
    /// `held_out` has no characters, per token of the tokenised text only; of images and points per dimension (a colour
    /// channel of a pixel, or a coordinate) and per sequence. The joint objective, which is no likelihood, is given in nats
    /// per token only. A network that reads classes is told those of `held_out`: its figures are of sequences given their
    /// classes. Of pairs the completions are charged given their prompts, with what fills the sequences; figures are per token
    /// and per character of the completions, and at most upper bounds.
    ///
    /// # Errors
    /// [`Error::Invalid`](crate::Error::Invalid) when there is nothing to evaluate, or it or the estimator does not fit the network.
    pub fn evaluate(&self, request: &EvaluateRequest, held_out: &HeldOut) -> Result<Vec<Figure>> {
        Ok(self.evaluation(request, held_out)?.figures)
    }

    /// The same with the value of every sequence, by which two models can be compared on the same sequences.
    ///
    /// # Errors
    /// As [`Self::evaluate`].
    pub fn evaluation(&self, request: &EvaluateRequest, held_out: &HeldOut) -> Result<Evaluation> {
        self.evaluation_while(request, held_out, &|| Ok(()))
    }

    /// The same as long as it is `wanted`, which is asked before every evaluation of the network.
    ///
    /// # Errors
    /// As [`Self::evaluate`], and what `wanted` says.
    pub fn evaluation_while(
        &self,
        request: &EvaluateRequest,
        held_out: &HeldOut,
        wanted: Wanted,
    ) -> Result<Evaluation> {
        let by_class = self.architecture().config().classes().map(|classes| held_out.by_class(classes));
        let (held_out, places) = match &by_class {
            Some((held_out, places)) => (held_out, places.clone()),
            None => (held_out, (0..held_out.len()).collect()),
        };
        let mut sequences = held_out.sequences()?;
        if by_class.is_some() {
            sequences = sequences.with_labels(&held_out.labels);
        }
        let given = held_out.given_digits(self.architecture().predictive().codes().subtoken_len())?;
        if let Some(given) = &given {
            sequences = sequences.with_given(given);
        }
        let measure = Measure {
            name: request.estimator.name(),
            places: &places,
            characters: &held_out.characters,
            is_lossless: self.architecture().tokenizer().is_none() || !held_out.characters.is_empty(),
        };
        let estimated = self.estimate_while(request, &sequences, wanted)?.counted(&held_out.counted);
        self.figures(&estimated, &measure, &[])
    }

    /// The same of sequences that stand elsewhere in memory, which are not copied, with the `characters` of text that each of
    /// them stands for, \[n\], or none where they are no text or that is not known. A network that reads classes is told those of
    /// `sequences`.
    ///
    /// # Errors
    /// As [`Self::evaluate`], and what `wanted` says.
    pub fn evaluation_of_sequences(
        &self,
        request: &EvaluateRequest,
        sequences: &Sequences,
        characters: &[u64],
        wanted: Wanted,
    ) -> Result<Evaluation> {
        let measure = Measure {
            name: request.estimator.name(),
            places: &(0..sequences.count()).collect::<Vec<_>>(),
            characters,
            is_lossless: self.architecture().tokenizer().is_none() || !characters.is_empty(),
        };
        self.figures(&self.estimate_while(request, sequences, wanted)?, &measure, &[])
    }

    /// Figures in the units of the subject, and in `more`.
    pub(super) fn figures(
        &self,
        estimated: &Estimated,
        measure: &Measure,
        more: &[Unit],
    ) -> Result<Evaluation> {
        let mut units = self.architecture().config().subject.units(measure.is_lossless);
        units.extend(more);
        match estimated {
            Estimated::Exact(estimate) => measure.evaluation(estimate, &units),
            Estimated::UpperBound(estimate) => measure.evaluation(estimate, &units),
            // No likelihood: neither per character nor a perplexity.
            Estimated::Surrogate(estimate) => {
                let per_token = match measure.is_lossless {
                    true => Unit::NatsPerToken,
                    false => Unit::NatsPerTokenOfTokenised,
                };
                let figure = |unit: Unit, measured| estimate.figure_of(&measure.name, unit.name(), measured);
                let mut figures = vec![figure(per_token, estimate.nats_per_token())];
                if more.contains(&Unit::Nats) {
                    figures.push(figure(Unit::Nats, estimate.total_nats()));
                }
                Ok(Evaluation { figures, sequences: measure.values(estimate) })
            }
        }
    }
}
