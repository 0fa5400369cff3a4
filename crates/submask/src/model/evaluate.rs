//! Held-out data under a model: figures that say what they are.

use serde::{Deserialize, Serialize};

use super::estimator::Estimator;
use super::held_out::{HeldOut, HeldOutShare};
use super::session::Session;
use super::values::{Estimation, EvaluationValues};
use crate::Result;
use crate::denoiser::Wanted;
use crate::likelihood::{Figure, Kind, Sequences};
use crate::shard::Shard;

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
        // What is nothing is refused before it is divided into shares, which may be.
        held_out.sequences()?;
        let classes = self.architecture().config().classes();
        let values = self.values_while(request, &held_out.share(Shard::WHOLE, classes), wanted)?;
        values.evaluation(&self.architecture().config().subject)
    }

    /// The values of a share of the sequences, which may be none; figures are made of those of all
    /// ([`EvaluationValues::evaluation`]). Draws are keyed by the number of a sequence among all.
    ///
    /// # Errors
    /// As [`Self::evaluate`], and what `wanted` says.
    pub fn values_while(
        &self,
        request: &EvaluateRequest,
        share: &HeldOutShare,
        wanted: Wanted,
    ) -> Result<EvaluationValues> {
        let (held_out, places, name) = (share.sequences(), share.places(), request.estimator.name());
        if places.is_empty() {
            return Ok(self.no_values(request, name, false));
        }
        let mut sequences = held_out.sequences()?.starting_at(share.first());
        if self.architecture().config().classes().is_some() {
            sequences = sequences.with_labels(&held_out.labels);
        }
        let given = held_out.given_digits(self.architecture().predictive().codes().subtoken_len())?;
        if let Some(given) = &given {
            sequences = sequences.with_given(given);
        }
        let characters: Vec<Option<u64>> = held_out.characters.iter().copied().map(Some).collect();
        let estimated = self.estimate_while(request, &sequences, wanted)?.counted(&held_out.counted);
        let (by_document, characters) = (false, characters.as_slice());
        Ok(Estimation { name, by_document, places, characters, sequences: &[] }.values(&estimated))
    }

    /// Those of an empty share.
    pub(super) fn no_values(
        &self,
        request: &EvaluateRequest,
        name: String,
        by_document: bool,
    ) -> EvaluationValues {
        let kind = match request.estimator.kind() {
            Kind::Exact if self.architecture().config().pairs() => Kind::UpperBound,
            kind => kind,
        };
        EvaluationValues { name, kind, by_document, values: Vec::new(), evaluations: 0 }
    }

    /// The values of sequences that stand elsewhere in memory, which are not copied, with the `characters` of text that each of
    /// them stands for, \[n\], or none where they are no text or that is not known. A network that reads classes is told those of
    /// `sequences`.
    ///
    /// # Errors
    /// As [`Self::evaluate`], and what `wanted` says.
    pub fn values_of_sequences(
        &self,
        request: &EvaluateRequest,
        sequences: &Sequences,
        characters: &[u64],
        wanted: Wanted,
    ) -> Result<EvaluationValues> {
        let characters: Vec<Option<u64>> = characters.iter().copied().map(Some).collect();
        let estimation = Estimation {
            name: request.estimator.name(),
            by_document: false,
            places: &(0..sequences.count()).collect::<Vec<_>>(),
            characters: &characters,
            sequences: &[],
        };
        Ok(estimation.values(&self.estimate_while(request, sequences, wanted)?))
    }
}
