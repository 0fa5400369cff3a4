//! Exact likelihood of generation from left to right (math.md §6.4).

use super::estimate::{Estimate, Exact};
use super::query::{Charge, Layout, Problem, Query};
use super::sequences::{LikelihoodSettings, Sequences};
use crate::Result;
use crate::denoiser::Denoiser;
use crate::predictive::Predictive;
use crate::schedule::RevealUnit;

/// −log p(x_0) = Σ −log p(unit | all units before it), the exact chain rule from left to right: whole tokens, or
/// sub-tokens with the most significant digit first. One network evaluation a unit; nothing is drawn.
///
/// A network that reads the time gets the t at which the masked share of the N units is expected: α_t = 1 − k/N
/// with k units still masked. The value is exact for the generator that does the same.
///
/// # Errors
/// As [`nelbo_subtoken`](super::nelbo_subtoken).
pub fn exact_left_to_right(
    network: &dyn Denoiser,
    predictive: &Predictive,
    sequences: &Sequences,
    unit: RevealUnit,
    settings: &LikelihoodSettings,
) -> Result<Estimate<Exact>> {
    let problem = Problem::new(network, predictive, sequences, settings)?;
    let terms = problem.encoded.most_units(unit);
    let estimate = problem.estimate(&Layout { draws: 1, terms }, |target, _, event| {
        let units = target.units(unit);
        let &next = units.get(event)?;
        let y_t = target.masked(unit, units[event..].iter().copied());
        let t = settings.schedule.inverse_alpha(event as f64 / units.len() as f64);
        let charge = match unit {
            RevealUnit::Tokens => (next, Charge::Masked),
            RevealUnit::Digits => {
                (next / target.subtoken_len, Charge::Set(1 << (next % target.subtoken_len)))
            }
        };
        Some(Query { y_t, t, weight: 1.0, charges: vec![charge] })
    })?;
    Ok(estimate.without_draws())
}
