//! What can be computed of sequences under a model, and the functions that do it.

use serde::{Deserialize, Serialize};

use super::evaluate::EvaluateRequest;
use super::session::Session;
use crate::denoiser::{Denoiser, Wanted, Watched, WatchedAutoregressor};
use crate::likelihood::{
    Estimate, Exact, Kind, LikelihoodSettings, Meaning, Sequences, Surrogate, UpperBound, bound_k,
    exact_autoregressive_with_top, exact_in_order, exact_left_to_right, joint_objective, nelbo_subtoken,
    nelbo_token, path_bound, path_bound_full,
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
        /// Steps of the sampler, T ≥ 1; with blocks, steps per block.
        steps: usize,
    },
    /// The exact likelihood of generation in a deterministic order.
    Exact {
        /// Any but [`Order::Random`].
        order: Order,
        /// What is ordered: sub-tokens or whole tokens.
        unit: RevealUnit,
        /// Units revealed per step N ≥ 1; with blocks, of every block.
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

    /// Whether a value is a sum over tokens, each given others: an exact value is one.
    pub fn is_by_token(self) -> bool {
        matches!(self, Self::Exact { .. })
    }

    /// What its values are.
    pub fn kind(self) -> Kind {
        match self {
            Self::Exact { .. } => Kind::Exact,
            Self::JointObjective => Kind::Surrogate,
            Self::NelboSubtoken | Self::NelboToken | Self::Path { .. } | Self::Orders { .. } => {
                Kind::UpperBound
            }
        }
    }

    /// Network evaluations at most of a sequence that generates so many tokens, of so many sub-tokens each, together: a block.
    fn evaluations(self, draws: u64, tokens: u64, subtoken_len: u64) -> u64 {
        let units = |unit| match unit {
            RevealUnit::Tokens => tokens,
            RevealUnit::Digits => tokens.saturating_mul(subtoken_len),
        };
        match self {
            Self::Exact { unit, per_step, .. } => units(unit).div_ceil(per_step.max(1) as u64),
            Self::Orders { unit } => draws.saturating_mul(units(unit)),
            Self::Path { steps } if subtoken_len > MAX_SUBSET_DIGITS as u64 => {
                draws.saturating_mul(units(RevealUnit::Digits).min(steps as u64))
            }
            Self::NelboSubtoken | Self::NelboToken | Self::Path { .. } | Self::JointObjective => draws,
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
pub(super) enum Estimated {
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
    pub(super) fn counted(self, counted: &[u64]) -> Self {
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

/// Sequences that are estimated at once, or part by part.
pub(super) trait Parts {
    /// The estimates of all parts, as one.
    fn estimate<K: Meaning>(&self, part: impl Fn(&Sequences) -> Result<Estimate<K>>) -> Result<Estimate<K>>;
}

impl Parts for Sequences<'_> {
    fn estimate<K: Meaning>(&self, part: impl Fn(&Sequences) -> Result<Estimate<K>>) -> Result<Estimate<K>> {
        part(self)
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
        parts: &impl Parts,
        settings: &LikelihoodSettings,
    ) -> Result<Estimated> {
        match self {
            Self::NelboSubtoken => parts
                .estimate(|sequences| nelbo_subtoken(network, predictive, sequences, settings))
                .map(Estimated::UpperBound),
            Self::NelboToken => parts
                .estimate(|sequences| nelbo_token(network, predictive, sequences, settings))
                .map(Estimated::UpperBound),
            Self::Path { steps } => {
                let steps = RevealSteps::even(&settings.schedule, steps)?;
                let few = predictive.codes().subtoken_len() <= MAX_SUBSET_DIGITS;
                let bound = if few { path_bound } else { path_bound_full };
                let unit = RevealUnit::Digits;
                parts
                    .estimate(|sequences| bound(network, predictive, sequences, &steps, unit, settings))
                    .map(Estimated::UpperBound)
            }
            Self::Exact { order, unit, per_step } => parts
                .estimate(|sequences| {
                    exact_in_order(network, predictive, sequences, order, unit, per_step, settings)
                })
                .map(Estimated::Exact),
            Self::Orders { unit } => parts
                .estimate(|sequences| bound_k(network, predictive, sequences, unit, settings))
                .map(Estimated::UpperBound),
            Self::JointObjective => parts
                .estimate(|sequences| joint_objective(network, predictive, sequences, settings))
                .map(Estimated::Surrogate),
        }
    }
}

impl Session {
    /// What the estimator of `request` makes of sequences, as long as it is `wanted`, which is asked before every evaluation.
    ///
    /// # Errors
    /// [`Error::Invalid`] when there is nothing to estimate, or it or the estimator does not fit the network, and what `wanted`
    /// says.
    pub(super) fn estimate_while(
        &self,
        request: &EvaluateRequest,
        parts: &impl Parts,
        wanted: Wanted,
    ) -> Result<Estimated> {
        if !self.is_autoregressive() {
            let predictive = self.architecture().predictive_with(request.carry_over);
            let network = Watched::new(self.denoiser()?, wanted);
            return request.estimator.estimate(
                &network,
                predictive,
                parts,
                &self.likelihood_settings(request),
            );
        }
        if request.estimator != Estimator::LEFT_TO_RIGHT {
            let allowed = "exact, left to right by tokens: an autoregressive model has an exact likelihood";
            return Err(Error::invalid("estimator", request.estimator.name(), allowed));
        }
        self.left_to_right(request, parts, 0, wanted).map(Estimated::Exact)
    }

    /// The exact values from left to right, token by token, with the `top` most probable tokens in the place of every token, as
    /// long as they are `wanted`. The estimator and the draws of `request` have no meaning here.
    ///
    /// # Errors
    /// As [`exact_left_to_right`] and [`exact_autoregressive_with_top`], and what `wanted` says.
    pub(super) fn left_to_right(
        &self,
        request: &EvaluateRequest,
        parts: &impl Parts,
        top: usize,
        wanted: Wanted,
    ) -> Result<Estimate<Exact>> {
        let (predictive, settings) =
            (self.architecture().predictive_with(request.carry_over), self.likelihood_settings(request));
        if !self.is_autoregressive() {
            let network = Watched::new(self.denoiser()?, wanted);
            return parts
                .estimate(|sequences| exact_left_to_right(&network, predictive, sequences, top, &settings));
        }
        let network = WatchedAutoregressor::new(self.autoregressive()?, wanted);
        parts.estimate(|sequences| {
            exact_autoregressive_with_top(&network, predictive, sequences, top, &settings)
        })
    }

    /// Tokens on which the network is run at most to estimate a sequence of `tokens`, `charged` of which are not given: in every
    /// evaluation on all of them.
    pub(super) fn evaluated_tokens(&self, request: &EvaluateRequest, tokens: usize, charged: usize) -> u64 {
        let config = self.architecture().config();
        let blocks = match config.network.block_len() {
            0 => 1,
            block_len => tokens.div_ceil(block_len),
        };
        let together = if blocks > 1 { config.network.block_len().min(charged) } else { charged };
        let subtoken_len = self.architecture().predictive().codes().subtoken_len() as u64;
        let evaluations = match self.is_autoregressive() {
            true => 1,
            false => request.estimator.evaluations(request.draws as u64, together as u64, subtoken_len),
        };
        // Of several blocks what the network keeps of known tokens takes one more.
        (tokens as u64).saturating_mul(evaluations.saturating_add(u64::from(blocks > 1)))
    }

    fn likelihood_settings(&self, request: &EvaluateRequest) -> LikelihoodSettings {
        let EvaluateRequest { draws, seed, batch, .. } = *request;
        LikelihoodSettings { draws, seed, batch, schedule: self.architecture().schedule() }
    }
}

/// Most sub-tokens per token for which all subsets of digits are summed at once.
const MAX_SUBSET_DIGITS: usize = 12;

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
