//! The bound for the very sampler that a user runs: T steps, several sub-tokens per step (math.md §6.3).
//!
//! For every step the set S_i of sub-tokens that token i reveals in it is charged −log p(y_0^{i,S_i} | y), jointly.
//! The bound is the mean over reveal plans of the sum over steps.
//!
//! With blocks the sampler takes T steps per block, and the bound is the sum over the blocks. Every block draws a step and a
//! set of its own, and all blocks are evaluated in one state.

use super::charge::Charge;
use super::estimate::{Estimate, UpperBound};
use super::levels::{Levels, stratified_rank};
use super::problem::{Layout, Problem};
use super::query::{Block, Part};
use super::sequences::{LikelihoodSettings, Sequences};
use crate::denoiser::Denoiser;
use crate::predictive::Predictive;
use crate::random::{Draws, Purpose};
use crate::schedule::{RevealSteps, RevealUnit};
use crate::{Error, Result};

/// Largest ℓ for which all 2^ℓ sets of a token's digits are averaged.
const MAX_SET_DIGITS: usize = 20;

/// The T-step path bound, one network evaluation per draw, and with several blocks one more per sequence.
///
/// A draw takes a uniformly random unit, the step s in which it is revealed and the set M of units masked when s
/// begins: this (s, M) comes up with probability q_s·|M|/N · P(M masked at s), where q_s is the step's reveal
/// probability given masked. Its charge is averaged over the sets revealed in s in closed form (all subsets of the
/// masked digits of each token), so N / (q_s·|M|) times the mean charge is unbiased. T = 1 has no variance, and
/// T → ∞ is [`nelbo_subtoken`](super::nelbo_subtoken) draw by draw.
///
/// # Errors
/// As [`nelbo_subtoken`](super::nelbo_subtoken), and [`Error::Invalid`] for more than 20 sub-tokens per token (use
/// [`path_bound_full`]).
pub fn path_bound(
    network: &dyn Denoiser,
    predictive: &Predictive,
    sequences: &Sequences,
    steps: &RevealSteps,
    unit: RevealUnit,
    settings: &LikelihoodSettings,
) -> Result<Estimate<UpperBound>> {
    check_subtoken_len(predictive, unit)?;
    let draws = Draws::new(settings.seed, Purpose::Likelihood);
    sequences.by_length(network.spec(), predictive.codes(), |group| {
        let problem = Problem::new(network, predictive, group, settings)?;
        problem.estimate(&Layout { draws: settings.draws, terms: 1, unit }, |block, draw, _| {
            let levels = Levels::draw(&draws, block, draw);
            let rank = stratified_rank(&draws, block, draw, settings.draws);
            let step = steps.step_of(levels.smallest(rank));
            let masked = levels.up_to(steps.masked_before(step));
            let weight = block.units.len() as f64 / (steps.conditional(step) * masked.len() as f64);
            Some(step_part(block, steps, step, unit, masked, weight))
        })
    })
}

/// The T-step path bound with every step of a drawn reveal plan evaluated: the plain Monte-Carlo estimate, up to T
/// network evaluations per draw, and with several blocks one more per sequence.
///
/// # Errors
/// As [`nelbo_subtoken`](super::nelbo_subtoken).
pub fn path_bound_full(
    network: &dyn Denoiser,
    predictive: &Predictive,
    sequences: &Sequences,
    steps: &RevealSteps,
    unit: RevealUnit,
    settings: &LikelihoodSettings,
) -> Result<Estimate<UpperBound>> {
    let draws = Draws::new(settings.seed, Purpose::Likelihood);
    sequences.by_length(network.spec(), predictive.codes(), |group| {
        let problem = Problem::new(network, predictive, group, settings)?;
        let terms = problem.most_units(unit).min(steps.count());
        problem.estimate(&Layout { draws: settings.draws, terms, unit }, |block, draw, event| {
            visited_step(block, steps, &Levels::draw(&draws, block, draw), event)
        })
    })
}

/// Visited step number `event` of the reveal plan that `levels` give a block.
fn visited_step(block: &Block, steps: &RevealSteps, levels: &Levels, event: usize) -> Option<Part> {
    let reveal_steps: Vec<usize> = levels.values().iter().map(|&level| steps.step_of(level)).collect();
    let mut visited = reveal_steps.clone();
    visited.sort_unstable();
    visited.dedup();
    let step = *visited.get(event)?;
    let units = |wanted: fn(&usize, &usize) -> bool| -> Vec<usize> {
        let pairs = block.units.iter().zip(&reveal_steps);
        pairs.filter(|(_, own)| wanted(own, &step)).map(|(unit, _)| *unit).collect()
    };
    Some(block.revealing(units(usize::ge), &units(usize::eq), steps.time(step)))
}

/// Step `step` of a block from the state in which `masked` units are masked, its charge averaged over what it reveals.
pub(super) fn step_part(
    block: &Block,
    steps: &RevealSteps,
    step: usize,
    unit: RevealUnit,
    masked: Vec<usize>,
    weight: f64,
) -> Part {
    let share = steps.conditional(step);
    let (charge, weight) = match unit {
        RevealUnit::Digits => (Charge::RandomSet(share), weight),
        RevealUnit::Tokens => (Charge::Masked, weight * share),
    };
    block.uniform(masked, steps.time(step), weight, charge)
}

/// Refuses codes with too many sets of digits to average over.
pub(super) fn check_subtoken_len(predictive: &Predictive, unit: RevealUnit) -> Result<()> {
    let subtoken_len = predictive.codes().subtoken_len();
    if unit == RevealUnit::Digits && subtoken_len > MAX_SET_DIGITS {
        let allowed = format!("at most {MAX_SET_DIGITS}; path_bound_full has no such limit");
        return Err(Error::invalid("subtoken_len", subtoken_len, allowed));
    }
    Ok(())
}
