//! Held-out text under a model: figures that say what they are.

use burn::tensor::Device;
use serde::{Deserialize, Serialize};

use super::{Model, Network};
use crate::data::ValidationBlock;
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
        /// T ≥ 1.
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

    /// Its name in figures.
    pub fn name(self) -> &'static str {
        match self {
            Self::NelboSubtoken => "nelbo_subtoken",
            Self::NelboToken => "nelbo_token",
            Self::Path { .. } => "path_bound",
            Self::Exact { order: Order::Random, .. } => "exact_random",
            Self::Exact { order: Order::LeftToRight, .. } => "exact_left_to_right",
            Self::Exact { order: Order::Confidence, .. } => "exact_confidence",
            Self::Exact { order: Order::Margin, .. } => "exact_margin",
            Self::Exact { order: Order::Entropy, .. } => "exact_entropy",
            Self::Orders { .. } => "bound_k",
            Self::JointObjective => "joint_objective",
        }
    }
}

/// What an estimator gave, of whichever meaning.
pub(super) enum Estimated {
    /// An exact value.
    Exact(Estimate<Exact>),
    /// An upper bound.
    UpperBound(Estimate<UpperBound>),
    /// No likelihood.
    Surrogate(Estimate<Surrogate>),
}

impl Estimator {
    /// Estimates with a diffusion network.
    ///
    /// # Errors
    /// Those of the estimators in [`crate::likelihood`].
    pub(super) fn estimate(
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

/// The one figure of the joint objective.
pub(super) fn surrogate_figure(name: &str, estimate: &Estimate<Surrogate>) -> Figure {
    estimate.figure_of(name, "nats per token", estimate.nats_per_token())
}

/// Most sub-tokens a token for which all subsets of digits are summed at once.
const MAX_SUBSET_DIGITS: usize = 12;

impl Model {
    /// Evaluates `blocks`, which all have the same length.
    ///
    /// Likelihoods are given per character of text, per token and as a perplexity; the joint objective, which
    /// is none, in nats per token only.
    ///
    /// # Errors
    /// [`Error::Invalid`] when there are no blocks, or the estimator does not fit the network.
    pub fn evaluate(
        &self,
        device: &Device,
        estimator: Estimator,
        blocks: &[ValidationBlock],
        settings: &LikelihoodSettings,
    ) -> Result<Vec<Figure>> {
        let tokens: Vec<u32> = blocks.iter().flat_map(|block| block.tokens.iter().copied()).collect();
        let seq_len = blocks.first().map_or(0, |block| block.tokens.len());
        let sequences = Sequences::new(&tokens, seq_len)?;
        let characters: Vec<u64> = blocks.iter().map(|block| block.characters).collect();
        let name = estimator.name();
        if let Network::Autoregressive(_) = self.network {
            if estimator != Estimator::LEFT_TO_RIGHT {
                let allowed =
                    "exact, left to right by tokens: an autoregressive model has an exact likelihood";
                return Err(Error::invalid("estimator", name, allowed));
            }
            let network = self.autoregressive(device)?;
            let estimate = exact_autoregressive(&network, &self.predictive, &sequences, settings)?;
            return likelihood_figures(name, &estimate, &characters);
        }
        let network = self.denoiser(device)?;
        match estimator.estimate(&network, &self.predictive, &sequences, settings)? {
            Estimated::Exact(estimate) => likelihood_figures(name, &estimate, &characters),
            Estimated::UpperBound(estimate) => likelihood_figures(name, &estimate, &characters),
            Estimated::Surrogate(estimate) => Ok(vec![surrogate_figure(name, &estimate)]),
        }
    }
}

fn likelihood_figures<K: Meaning>(
    name: &str,
    estimate: &Estimate<K>,
    characters: &[u64],
) -> Result<Vec<Figure>>
where
    Estimate<K>: Likelihood,
{
    Ok(vec![
        estimate.figure_of(name, "bits per character", estimate.bits_per_character(characters)?),
        estimate.figure_of(name, "nats per token", estimate.nats_per_token()),
        estimate.figure_of(name, "perplexity per token", estimate.perplexity()),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exact_figures_are_named_after_their_order() {
        for order in Order::ALL {
            let estimator = Estimator::Exact { order, unit: RevealUnit::Digits, per_step: 2 };
            assert_eq!(estimator.name(), format!("exact_{order}").replace('-', "_"));
        }
    }
}
