//! Held-out data under a model: figures that say what they are.

use serde::{Deserialize, Serialize};

use super::held_out::HeldOut;
use super::session::Session;
use super::subject::Unit;
use crate::denoiser::Denoiser;
use crate::likelihood::{
    Estimate, Exact, Figure, Likelihood, LikelihoodSettings, Meaning, Sequences, Surrogate, UpperBound,
    bound_k, exact_autoregressive, exact_in_order, joint_objective, nelbo_subtoken, nelbo_token, path_bound,
    path_bound_full,
};
use crate::order::Order;
use crate::predictive::Predictive;
use crate::schedule::{RevealSteps, RevealUnit};
use crate::{Error, Result};

/// What is computed (math.md §6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Estimator {
    /// The sub-token NELBO: an upper bound.
    NelboSubtoken,
    /// The token NELBO: an upper bound for the generator that reveals whole tokens.
    NelboToken,
    /// The bound of the sampler with this many steps.
    Path {
        /// Steps of the sampler, T ≥ 1.
        steps: usize,
    },
    /// The exact likelihood of generation in a deterministic order.
    Exact {
        /// Any but [`Order::Random`].
        order: Order,
        /// What is ordered: sub-tokens or whole tokens.
        unit: RevealUnit,
        /// Units revealed per step N ≥ 1.
        per_step: usize,
    },
    /// The bound over K random orders, K being the draws per sequence: an upper bound for generation in random order.
    Orders {
        /// What is ordered: sub-tokens or whole tokens.
        unit: RevealUnit,
    },
    /// The joint objective: no likelihood.
    JointObjective,
}

impl Estimator {
    /// The exact likelihood of generation from left to right, token by token.
    pub const LEFT_TO_RIGHT: Self =
        Self::Exact { order: Order::LeftToRight, unit: RevealUnit::Tokens, per_step: 1 };

    /// T of the path bound.
    pub fn steps(self) -> Option<u64> {
        match self {
            Self::Path { steps } => Some(steps as u64),
            _ => None,
        }
    }

    /// Its name in figures. Exact values are named after their order; the unit and N do not show in it.
    pub fn name(self) -> String {
        match self {
            Self::NelboSubtoken => "nelbo_subtoken".to_owned(),
            Self::NelboToken => "nelbo_token".to_owned(),
            Self::Path { .. } => "path_bound".to_owned(),
            Self::Exact { order, .. } => format!("exact_{}", order.name().replace('-', "_")),
            Self::Orders { .. } => "bound_k".to_owned(),
            Self::JointObjective => "joint_objective".to_owned(),
        }
    }
}

/// What an estimator gave, of whichever meaning.
enum Estimated {
    /// An exact value.
    Exact(Estimate<Exact>),
    /// An upper bound.
    UpperBound(Estimate<UpperBound>),
    /// No likelihood.
    Surrogate(Estimate<Surrogate>),
}

impl Estimated {
    /// The same of filled sequences, of which so many tokens count, \[n\]; unchanged where there are no numbers. An exact
    /// value of a completion with what fills its sequence is a bound for the completion.
    fn counted(self, counted: &[u64]) -> Self {
        if counted.is_empty() {
            return self;
        }
        match self {
            Self::Exact(estimate) => Self::UpperBound(estimate.with_tokens(counted.to_vec()).into_bound()),
            Self::UpperBound(estimate) => Self::UpperBound(estimate.with_tokens(counted.to_vec())),
            Self::Surrogate(estimate) => Self::Surrogate(estimate.with_tokens(counted.to_vec())),
        }
    }
}

impl Estimator {
    /// Estimates with a diffusion network.
    ///
    /// # Errors
    /// Those of the estimators in [`crate::likelihood`].
    fn estimate(
        self,
        network: &dyn Denoiser,
        predictive: &Predictive,
        sequences: &Sequences,
        settings: &LikelihoodSettings,
    ) -> Result<Estimated> {
        match self {
            Self::NelboSubtoken => {
                nelbo_subtoken(network, predictive, sequences, settings).map(Estimated::UpperBound)
            }
            Self::NelboToken => {
                nelbo_token(network, predictive, sequences, settings).map(Estimated::UpperBound)
            }
            Self::Path { steps } => {
                let steps = RevealSteps::even(&settings.schedule, steps)?;
                let few = predictive.codes().subtoken_len() <= MAX_SUBSET_DIGITS;
                let bound = if few { path_bound } else { path_bound_full };
                bound(network, predictive, sequences, &steps, RevealUnit::Digits, settings)
                    .map(Estimated::UpperBound)
            }
            Self::Exact { order, unit, per_step } => {
                exact_in_order(network, predictive, sequences, order, unit, per_step, settings)
                    .map(Estimated::Exact)
            }
            Self::Orders { unit } => {
                bound_k(network, predictive, sequences, unit, settings).map(Estimated::UpperBound)
            }
            Self::JointObjective => {
                joint_objective(network, predictive, sequences, settings).map(Estimated::Surrogate)
            }
        }
    }
}

/// Most sub-tokens per token for which all subsets of digits are summed at once.
const MAX_SUBSET_DIGITS: usize = 12;

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

/// The value of every sequence, of which `places` says where it stood.
fn values<K: Meaning>(estimate: &Estimate<K>, held_out: &HeldOut, places: &[usize]) -> Vec<SequenceValue> {
    let value = |(s, index): (usize, &usize)| SequenceValue {
        index: *index,
        nats: estimate.nats()[s],
        draw_error: Some(estimate.draw_errors()[s]).filter(|error| error.is_finite()),
        tokens: estimate.tokens()[s],
        characters: held_out.characters.get(s).copied(),
    };
    places.iter().enumerate().map(value).collect()
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
    /// [`Error::Invalid`] when there is nothing to evaluate, or it or the estimator does not fit the network.
    pub fn evaluate(&self, request: &EvaluateRequest, held_out: &HeldOut) -> Result<Vec<Figure>> {
        Ok(self.evaluation(request, held_out)?.figures)
    }

    /// The same with the value of every sequence, by which two models can be compared on the same sequences.
    ///
    /// # Errors
    /// As [`Self::evaluate`].
    pub fn evaluation(&self, request: &EvaluateRequest, held_out: &HeldOut) -> Result<Evaluation> {
        let architecture = self.architecture();
        let by_class = architecture.config().classes().map(|classes| held_out.by_class(classes));
        let (held_out, places) = match &by_class {
            Some((held_out, places)) => (held_out, places.clone()),
            None => (held_out, (0..held_out.len()).collect()),
        };
        let mut sequences = Sequences::new(&held_out.x_0, held_out.seq_len)?;
        if by_class.is_some() {
            sequences = sequences.with_labels(&held_out.labels);
        }
        let given = held_out.given_digits(architecture.predictive().codes().subtoken_len())?;
        if let Some(given) = &given {
            sequences = sequences.with_given(given);
        }
        let settings = LikelihoodSettings {
            draws: request.draws,
            seed: request.seed,
            batch: request.batch,
            schedule: architecture.schedule(),
        };
        let predictive = architecture.predictive_with(request.carry_over);
        let name = &request.estimator.name();
        if self.is_autoregressive() && request.estimator != Estimator::LEFT_TO_RIGHT {
            let allowed = "exact, left to right by tokens: an autoregressive model has an exact likelihood";
            return Err(Error::invalid("estimator", name, allowed));
        }
        let estimated = match self.is_autoregressive() {
            true => exact_autoregressive(self.autoregressive()?, &predictive, &sequences, &settings)
                .map(Estimated::Exact)?,
            false => request.estimator.estimate(self.denoiser()?, &predictive, &sequences, &settings)?,
        };
        match estimated.counted(&held_out.counted) {
            Estimated::Exact(estimate) => self.figures(name, &estimate, held_out, &places),
            Estimated::UpperBound(estimate) => self.figures(name, &estimate, held_out, &places),
            Estimated::Surrogate(estimate) => {
                let unit = match self.is_lossless(held_out) {
                    true => Unit::NatsPerToken,
                    false => Unit::NatsPerTokenOfTokenised,
                };
                let figures = vec![estimate.figure_of(name, unit.name(), estimate.nats_per_token())];
                Ok(Evaluation { figures, sequences: values(&estimate, held_out, &places) })
            }
        }
    }

    fn figures<K: Meaning>(
        &self,
        name: &str,
        estimate: &Estimate<K>,
        held_out: &HeldOut,
        places: &[usize],
    ) -> Result<Evaluation>
    where
        Estimate<K>: Likelihood,
    {
        let figure = |unit: Unit| {
            let measured = match unit {
                Unit::BitsPerCharacter => estimate.bits_per_character(&held_out.characters)?,
                Unit::NatsPerToken | Unit::NatsPerTokenOfTokenised => estimate.nats_per_token(),
                Unit::Perplexity | Unit::PerplexityOfTokenised => estimate.perplexity(),
                Unit::BitsPerDimension(dimensions) => estimate.bits_per_dimension(dimensions)?,
                Unit::NatsPerSequence => estimate.nats_per_sequence(),
            };
            Ok(estimate.figure_of(name, unit.name(), measured))
        };
        let units = self.architecture().config().subject.units(self.is_lossless(held_out));
        let figures = units.into_iter().map(figure).collect::<Result<_>>()?;
        Ok(Evaluation { figures, sequences: values(estimate, held_out, places) })
    }

    /// Whether the text of what is evaluated can be had again from its tokens.
    fn is_lossless(&self, held_out: &HeldOut) -> bool {
        self.architecture().tokenizer().is_none() || !held_out.characters.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exact_figures_are_named_after_their_order() {
        let name = |order| Estimator::Exact { order, unit: RevealUnit::Digits, per_step: 2 }.name();
        assert_eq!(name(Order::LeftToRight), "exact_left_to_right");
        assert_eq!(name(Order::Confidence), "exact_confidence");
    }
}
