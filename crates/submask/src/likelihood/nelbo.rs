//! The NELBO of sub-tokens and of tokens, and the joint objective: one integral over time, three integrands.
//!
//! ∫ w(t) E Σ (…) dt over the masked units does not depend on the schedule. In the number k of masked units it
//! is the mean of N/k · Σ (…) over k uniform on 1..=N and a uniform subset of size k: no time is cut off.
//!
//! With blocks it is the sum of such integrals over the blocks, N being the units of a block, each given the tokens before
//! the block. A draw takes one k and one subset for every block, and evaluates all blocks in one state.

use super::charge::Charge;
use super::estimate::{Estimate, Meaning, Surrogate, UpperBound};
use super::levels::{Levels, stratified_rank};
use super::problem::{Layout, Problem};
use super::sequences::{LikelihoodSettings, Sequences};
use crate::Result;
use crate::denoiser::Denoiser;
use crate::predictive::Predictive;
use crate::random::{Draws, Purpose};
use crate::schedule::RevealUnit;

/// The sub-token NELBO ∫ w(t) E Σ_{masked ij} −log p(y_0^{ij} | y_t) dt with digit marginals (math.md §6.1): an
/// upper bound of −log p(x_0) for generation in random sub-token order.
///
/// Unbiased; one network evaluation per draw, and with several blocks one more per sequence. A network that reads the time
/// gets α⁻¹(1 − u), u ~ Beta(k, N−k+1).
///
/// With blocks generation is block after block, in random order inside each. Blocks of one unit have their exact value in
/// every draw.
///
/// # Errors
/// [`Error::Invalid`](crate::Error::Invalid) or [`Error::InvalidCode`](crate::Error::InvalidCode) for settings and
/// sequences that do not fit the network, [`Error::Invalid`](crate::Error::Invalid) for a network that has blocks and reads
/// the time where there are several, and what the network reports.
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
/// Unbiased; evaluations as of [`nelbo_subtoken`]. Of a partly given token the missing digits are charged jointly.
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
/// Unbiased; evaluations as of [`nelbo_subtoken`].
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
        problem.estimate(&Layout { draws: settings.draws, terms: 1, unit }, |block, draw, _| {
            let k = stratified_rank(&draws, block, draw, settings.draws);
            let levels = Levels::draw(&draws, block, draw);
            let level = levels.smallest(k);
            let t = settings.schedule.inverse_alpha(1.0 - level);
            let weight = block.units.len() as f64 / k as f64;
            Some(block.uniform(levels.up_to(level), t, weight, charge))
        })
    })
}
