//! The bound over random orders, mixed before the logarithm: the importance-weighted bound (math.md §6.5; arXiv
//! 1509.00519).

use super::estimate::{Estimate, UpperBound};
use super::levels::Levels;
use super::problem::{Layout, Problem};
use super::query::Block;
use super::sequences::{LikelihoodSettings, Sequences};
use crate::Result;
use crate::denoiser::Denoiser;
use crate::predictive::Predictive;
use crate::random::{Draws, Purpose};
use crate::schedule::RevealUnit;

/// −log of the mean, over K = `settings.draws` random orders, of the chain-rule probability of x_0 along the order: in
/// expectation an upper bound of −log p(x_0) for generation in random order, one unit per step. It does not rise with K:
/// K = 1 estimates [`nelbo_subtoken`], or [`nelbo_token`] by tokens, and K → ∞ the value itself.
///
/// With blocks the mean and the logarithm are taken block by block, and their sum is the value: given the tokens before
/// them blocks are independent, so this bounds −log p too, in expectation no looser than K orders of whole sequences do.
///
/// Takes K·n network evaluations per sequence of n units; with several blocks K·n + 1, n being those of the largest block.
/// Of a partly given token the missing digits are charged jointly when the unit is the token. A network that reads the
/// time gets the k-th smallest of n uniform levels where k units are masked, as in [`nelbo_subtoken`].
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
    let build = |block: &Block, draw: usize, event: usize| {
        let still = block.units.len().checked_sub(event).filter(|still| *still > 0)?;
        let levels = Levels::draw(&draws, block, draw);
        let level = levels.smallest(still);
        let next = levels.at(level)?;
        let t = settings.schedule.inverse_alpha(1.0 - level);
        Some(block.revealing(levels.up_to(level), &[next], t))
    };
    sequences.by_length(network.spec(), predictive.codes(), |group| {
        let problem = Problem::new(network, predictive, group, settings)?;
        let layout = Layout { draws: settings.draws, terms: problem.most_units(unit), unit };
        let mut orders: Vec<Vec<f64>> = Vec::with_capacity(settings.draws);
        let mut nats = Vec::with_capacity(group.count());
        let evaluations = problem.for_each_draw(&layout, build, |blocks| {
            orders.push(blocks.to_vec());
            if orders.len() == settings.draws {
                let of_block = |block| orders.iter().map(|order| order[block]).collect::<Vec<_>>();
                nats.push((0..blocks.len()).map(|block| minus_log_mean(&of_block(block))).sum());
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
