//! The multi-order bound: random orders mixed before the logarithm (math.md §6.5).

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
/// expectation an upper bound of −log p(x_0) for generation in random order, from [`nelbo_subtoken`] (K = 1) down to the
/// value itself (K → ∞). K·N network evaluations a sequence.
///
/// A network that reads the time gets the k-th smallest of N uniform levels where k units are masked, as the sampler
/// without a grid does. `draw_errors` are not numbers: K orders make one value, whose expectation depends on K.
///
/// # Errors
/// As [`nelbo_subtoken`].
///
/// [`nelbo_subtoken`]: super::nelbo_subtoken
pub fn bound_k(
    network: &dyn Denoiser,
    predictive: &Predictive,
    sequences: &Sequences,
    unit: RevealUnit,
    settings: &LikelihoodSettings,
) -> Result<Estimate<UpperBound>> {
    let problem = Problem::new(network, predictive, sequences, settings)?;
    let draws = Draws::new(settings.seed, Purpose::Likelihood);
    let layout = Layout { draws: settings.draws, terms: problem.encoded.most_units(unit) };
    let build = |target: &Target, draw: usize, event: usize| {
        let units = target.units(unit);
        let still = units.len().checked_sub(event).filter(|still| *still > 0)?;
        let levels = Levels::draw(&draws, target, &units, draw);
        let level = levels.smallest(still);
        let next = levels.at(level)?;
        let y_t = target.masked(unit, levels.up_to(level));
        let t = settings.schedule.inverse_alpha(1.0 - level);
        let charge = match unit {
            RevealUnit::Tokens => (next, Charge::Masked),
            RevealUnit::Digits => {
                (next / target.subtoken_len, Charge::Set(1 << (next % target.subtoken_len)))
            }
        };
        Some(Query { y_t, t, weight: 1.0, charges: vec![charge] })
    };
    let mut orders = Vec::with_capacity(settings.draws);
    let mut nats = Vec::with_capacity(sequences.count());
    let evaluations = problem.for_each_draw(&layout, build, |value| {
        orders.push(value);
        if orders.len() == settings.draws {
            nats.push(minus_log_mean(&orders));
            orders.clear();
        }
    })?;
    Ok(problem.bound(nats, evaluations))
}

/// −log of the mean of exp(−v).
fn minus_log_mean(nats: &[f64]) -> f64 {
    let least = nats.iter().copied().fold(f64::INFINITY, f64::min);
    if least == f64::INFINITY {
        return least;
    }
    least - (nats.iter().map(|nats| (least - nats).exp()).sum::<f64>() / nats.len() as f64).ln()
}
