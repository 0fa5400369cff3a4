//! The values that the estimators estimate, by enumerating every state of a short sequence: the measure of the
//! estimators, and exact where N is small. With blocks the states of one block are enumerated beside those of another.

use super::charge::Charge;
use super::estimate::{Estimate, Meaning, Surrogate, UpperBound};
use super::path::{check_subtoken_len, step_part};
use super::problem::{Layout, Problem};
use super::query::Block;
use super::sequences::{LikelihoodSettings, Sequences};
use crate::denoiser::Denoiser;
use crate::predictive::Predictive;
use crate::schedule::{RevealSteps, RevealUnit};
use crate::{Error, Result};

/// The most units (sub-tokens or tokens to generate) of a sequence, or of a block, whose subsets are enumerated.
pub const MAX_UNITS: usize = 16;

/// [`nelbo_subtoken`](super::nelbo_subtoken) over all masks.
///
/// # Errors
/// [`Error::Invalid`] for more than [`MAX_UNITS`] units, and for a network that reads the time (its values would
/// need an integral over t as well); else as the estimator.
pub fn nelbo_subtoken(
    network: &dyn Denoiser,
    predictive: &Predictive,
    sequences: &Sequences,
    settings: &LikelihoodSettings,
) -> Result<Estimate<UpperBound>> {
    all_masks(network, predictive, sequences, settings, RevealUnit::Digits, Charge::Marginals)
}

/// [`nelbo_token`](super::nelbo_token) over all masks.
///
/// # Errors
/// As [`nelbo_subtoken`].
pub fn nelbo_token(
    network: &dyn Denoiser,
    predictive: &Predictive,
    sequences: &Sequences,
    settings: &LikelihoodSettings,
) -> Result<Estimate<UpperBound>> {
    all_masks(network, predictive, sequences, settings, RevealUnit::Tokens, Charge::Masked)
}

/// [`joint_objective`](super::joint_objective) over all masks.
///
/// # Errors
/// As [`nelbo_subtoken`].
pub fn joint_objective(
    network: &dyn Denoiser,
    predictive: &Predictive,
    sequences: &Sequences,
    settings: &LikelihoodSettings,
) -> Result<Estimate<Surrogate>> {
    all_masks(network, predictive, sequences, settings, RevealUnit::Digits, Charge::Token)
}

/// [`path_bound`](super::path_bound) over all steps and masks; the network may read the time.
///
/// # Errors
/// [`Error::Invalid`] for more than [`MAX_UNITS`] units; else as the estimator.
pub fn path_bound(
    network: &dyn Denoiser,
    predictive: &Predictive,
    sequences: &Sequences,
    steps: &RevealSteps,
    unit: RevealUnit,
    settings: &LikelihoodSettings,
) -> Result<Estimate<UpperBound>> {
    check_subtoken_len(predictive, unit)?;
    sequences.by_length(network.spec(), predictive.codes(), |group| {
        let problem = Problem::new(network, predictive, group, settings)?;
        let sets = 1 << checked_units(&problem, unit)?;
        let layout = Layout { draws: 1, terms: steps.count() * sets, unit };
        let estimate = problem.estimate(&layout, |block, _, term| {
            let (step, set) = (term / sets, term % sets);
            let masked = subset(block, set)?;
            let still = steps.masked_before(step);
            let visible = (block.units.len() - masked.len()) as i32;
            let weight = still.powi(masked.len() as i32) * (1.0 - still).powi(visible);
            (weight > 0.0).then(|| step_part(block, steps, step, unit, masked, weight))
        })?;
        Ok(estimate.without_draws())
    })
}

/// Σ over non-empty masks M of 1 / (|M| · C(N, |M|)) · charge: the time integral of α^(N−|M|) (1 − α)^|M| · w.
fn all_masks<K: Meaning>(
    network: &dyn Denoiser,
    predictive: &Predictive,
    sequences: &Sequences,
    settings: &LikelihoodSettings,
    unit: RevealUnit,
    charge: Charge,
) -> Result<Estimate<K>> {
    if network.spec().reads_time {
        return Err(Error::invalid(
            "network",
            "one that reads the time",
            "a network without time for enumeration",
        ));
    }
    sequences.by_length(network.spec(), predictive.codes(), |group| {
        let problem = Problem::new(network, predictive, group, settings)?;
        let sets = 1 << checked_units(&problem, unit)?;
        let estimate = problem.estimate(&Layout { draws: 1, terms: sets, unit }, |block, _, set| {
            let (masked, n) = (subset(block, set)?, block.units.len());
            let choices = (0..masked.len()).fold(1.0, |c, k| c * (n - k) as f64 / (k + 1) as f64);
            let weight = 1.0 / (masked.len() as f64 * choices);
            Some(block.uniform(masked, 0.0, weight, charge))
        })?;
        Ok(estimate.without_draws())
    })
}

fn checked_units(problem: &Problem, unit: RevealUnit) -> Result<usize> {
    match problem.most_units(unit) {
        units @ 0..=MAX_UNITS => Ok(units),
        units => {
            Err(Error::invalid("units to generate", units, format!("at most {MAX_UNITS} for enumeration")))
        }
    }
}

/// The units of a block in a set given as bits; `None` for the empty set and for bits beyond the units.
fn subset(block: &Block, set: usize) -> Option<Vec<usize>> {
    let units = &block.units;
    let inside = set > 0 && set >> units.len() == 0;
    inside.then(|| (0..units.len()).filter(|bit| set >> bit & 1 == 1).map(|bit| units[bit]).collect())
}
