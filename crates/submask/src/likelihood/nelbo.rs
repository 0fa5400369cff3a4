//! The NELBO of sub-tokens and of tokens, and the joint objective: one integral over time, three integrands.
//!
//! ∫ w(t) E Σ (…) dt over the masked units does not depend on the schedule. In the number k of masked units it
//! is the mean of N/k · Σ (…) over k uniform on 1..=N and a uniform subset of size k: no time is cut off.

use super::estimate::{Estimate, Meaning, Surrogate, UpperBound};
use super::levels::{Levels, stratified_rank};
use super::query::{Charge, Layout, Problem, Query};
use super::sequences::{LikelihoodSettings, Sequences};
use crate::Result;
use crate::denoiser::Denoiser;
use crate::predictive::Predictive;
use crate::random::{Draws, Purpose};
use crate::schedule::RevealUnit;

/// The sub-token NELBO ∫ w(t) E Σ_{masked ij} −log p(y_0^{ij} | y_t) dt with digit marginals (math.md §6.1): an
/// upper bound of −log p(x_0) for generation in random sub-token order.
///
/// Unbiased; one network evaluation per draw. A network that reads the time gets α⁻¹(1 − u), u ~ Beta(k, N−k+1).
///
/// # Errors
/// [`Error::Invalid`](crate::Error::Invalid) or [`Error::InvalidCode`](crate::Error::InvalidCode) for settings and
/// sequences that do not fit the network, and what the network reports.
pub fn nelbo_subtoken(
    network: &dyn Denoiser,
    predictive: &Predictive,
    sequences: &Sequences,
    settings: &LikelihoodSettings,
) -> Result<Estimate<UpperBound>> {
    time_integral(network, predictive, sequences, settings, RevealUnit::Digits, Charge::Marginals)
}

/// The token NELBO: whole tokens masked together, ∫ w(t) E Σ_{masked i} −log p(x_0^i | y_t) dt (math.md §6.2): an
/// upper bound of −log p(x_0) for generation in random token order.
///
/// Unbiased; one network evaluation per draw. Of a partly given token the missing digits are charged jointly.
///
/// # Errors
/// As [`nelbo_subtoken`].
pub fn nelbo_token(
    network: &dyn Denoiser,
    predictive: &Predictive,
    sequences: &Sequences,
    settings: &LikelihoodSettings,
) -> Result<Estimate<UpperBound>> {
    time_integral(network, predictive, sequences, settings, RevealUnit::Tokens, Charge::Masked)
}

/// The joint objective ∫ w(t) E Σ_i −log p(x_0^i | y_t) dt of masked *sub-tokens*, over tokens that are not fully
/// visible (math.md §4): the training loss of the paper. It bounds nothing (math.md §5), hence the type.
///
/// Unbiased; one network evaluation per draw.
///
/// # Errors
/// As [`nelbo_subtoken`].
pub fn joint_objective(
    network: &dyn Denoiser,
    predictive: &Predictive,
    sequences: &Sequences,
    settings: &LikelihoodSettings,
) -> Result<Estimate<Surrogate>> {
    time_integral(network, predictive, sequences, settings, RevealUnit::Digits, Charge::Token)
}

fn time_integral<K: Meaning>(
    network: &dyn Denoiser,
    predictive: &Predictive,
    sequences: &Sequences,
    settings: &LikelihoodSettings,
    unit: RevealUnit,
    charge: Charge,
) -> Result<Estimate<K>> {
    let draws = Draws::new(settings.seed, Purpose::Likelihood);
    sequences.by_length(network.spec(), predictive.codes(), |group| {
        let problem = Problem::new(network, predictive, group, settings)?;
        problem.estimate(&Layout { draws: settings.draws, terms: 1 }, |target, draw, _| {
            let units = target.units(unit);
            if units.is_empty() {
                return None;
            }
            let k = stratified_rank(&draws, target, units.len(), draw, settings.draws);
            let levels = Levels::draw(&draws, target, &units, draw);
            let level = levels.smallest(k);
            let y_t = target.masked(unit, levels.up_to(level));
            let t = settings.schedule.inverse_alpha(1.0 - level);
            Some(Query::uniform(target, y_t, t, units.len() as f64 / k as f64, charge))
        })
    })
}
