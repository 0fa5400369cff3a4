//! The bound over random orders, mixed before the logarithm: the importance-weighted bound (math.md §6.5; arXiv
//! 1509.00519).

use super::estimate::{Estimate, UpperBound};
use super::levels::Levels;
use super::query::{Charge, Layout, Problem, Query};
use super::sequences::{LikelihoodSettings, Sequences, Target};
use crate::Result;
use crate::denoiser::Denoiser;
use crate::predictive::Predictive;
use crate::random::{Draws, Purpose};
use crate::schedule::RevealUnit;

/// −log of the mean, over K = `settings.draws` random orders, of the chain-rule probability of x_0 along the order: in
/// expectation an upper bound of −log p(x_0) for generation in random order, one unit per step. It does not rise with K:
/// K = 1 estimates [`nelbo_subtoken`], or [`nelbo_token`] by tokens, and K → ∞ the value itself.
///
/// Takes K·n network evaluations per sequence of n units. Of a partly given token the missing digits are charged jointly
/// when the unit is the token. A network that reads the time gets the k-th smallest of n uniform levels where k units
/// are masked, as in [`nelbo_subtoken`].
///
/// K orders make one value per sequence, whose expectation depends on K. So there is no error over draws
/// (`draw_errors` are not numbers), and the standard errors of the figures are over sequences only.
///
/// # Errors
/// As [`nelbo_subtoken`].
///
/// [`nelbo_subtoken`]: super::nelbo_subtoken
/// [`nelbo_token`]: super::nelbo_token
pub fn bound_k(
    network: &dyn Denoiser,
    predictive: &Predictive,
    sequences: &Sequences,
    unit: RevealUnit,
    settings: &LikelihoodSettings,
) -> Result<Estimate<UpperBound>> {
    let draws = Draws::new(settings.seed, Purpose::Likelihood);
    let build = |target: &Target, draw: usize, event: usize| {
        let units = target.units(unit);
        let still = units.len().checked_sub(event).filter(|still| *still > 0)?;
        let levels = Levels::draw(&draws, target, &units, draw);
        let level = levels.smallest(still);
        let next = levels.at(level)?;
        let y_t = target.masked(unit, levels.up_to(level));
        let t = settings.schedule.inverse_alpha(1.0 - level);
        let charges = Charge::of_units(unit, &[next], target.subtoken_len);
        Some(Query { y_t, t, weight: 1.0, charges })
    };
    sequences.by_length(network.spec(), predictive.codes(), |group| {
        let problem = Problem::new(network, predictive, group, settings)?;
        let layout = Layout { draws: settings.draws, terms: problem.encoded.most_units(unit) };
        let mut orders = Vec::with_capacity(settings.draws);
        let mut nats = Vec::with_capacity(group.count());
        let evaluations = problem.for_each_draw(&layout, build, |value| {
            orders.push(value);
            if orders.len() == settings.draws {
                nats.push(minus_log_mean(&orders));
                orders.clear();
            }
        })?;
        Ok(problem.bound(nats, evaluations))
    })
}

/// −log of the mean of exp(−v).
fn minus_log_mean(nats: &[f64]) -> f64 {
    let least = nats.iter().copied().fold(f64::INFINITY, f64::min);
    if least == f64::INFINITY {
        return least;
    }
    least - (nats.iter().map(|nats| (least - nats).exp()).sum::<f64>() / nats.len() as f64).ln()
}
