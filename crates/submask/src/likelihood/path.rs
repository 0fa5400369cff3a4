//! The bound for the very sampler that a user runs: T steps, several sub-tokens per step (math.md §6.3).
//!
//! For every step the set S_i of sub-tokens that token i reveals in it is charged −log p(y_0^{i,S_i} | y), jointly.
//! The bound is the mean over reveal plans of the sum over steps.

use super::estimate::{Estimate, UpperBound};
use super::levels::{Levels, stratified_rank};
use super::query::{Charge, Layout, Problem, Query};
use super::sequences::{LikelihoodSettings, Sequences, Target};
use crate::denoiser::Denoiser;
use crate::predictive::Predictive;
use crate::random::{Draws, Purpose};
use crate::schedule::{RevealSteps, RevealUnit};
use crate::{Error, Result};

/// Largest ℓ for which all 2^ℓ sets of a token's digits are averaged.
const MAX_SET_DIGITS: usize = 20;

/// The T-step path bound, one network evaluation per draw.
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
        problem.estimate(&Layout { draws: settings.draws, terms: 1 }, |target, draw, _| {
            let units = target.units(unit);
            if units.is_empty() {
                return None;
            }
            let levels = Levels::draw(&draws, target, &units, draw);
            let rank = stratified_rank(&draws, target, units.len(), draw, settings.draws);
            let step = steps.step_of(levels.smallest(rank));
            let masked: Vec<usize> = levels.up_to(steps.masked_before(step)).collect();
            let weight = units.len() as f64 / (steps.conditional(step) * masked.len() as f64);
            Some(step_query(target, steps, step, unit, &masked, weight))
        })
    })
}

/// The T-step path bound with every step of a drawn reveal plan evaluated: the plain Monte-Carlo estimate, up to T
/// network evaluations per draw.
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
        let terms = problem.encoded.most_units(unit).min(steps.count());
        problem.estimate(&Layout { draws: settings.draws, terms }, |target, draw, event| {
            let units = target.units(unit);
            let levels = Levels::draw(&draws, target, &units, draw);
            visited_step(target, steps, unit, &levels, event)
        })
    })
}

/// Visited step number `event` of the reveal plan that `levels` give.
fn visited_step(
    target: &Target,
    steps: &RevealSteps,
    unit: RevealUnit,
    levels: &Levels,
    event: usize,
) -> Option<Query> {
    let reveal_steps: Vec<usize> = levels.values().iter().map(|&level| steps.step_of(level)).collect();
    let mut visited = reveal_steps.clone();
    visited.sort_unstable();
    visited.dedup();
    let step = *visited.get(event)?;
    let at = |wanted: fn(&usize, &usize) -> bool| {
        let pairs = levels.units().iter().zip(&reveal_steps);
        target.masked(unit, pairs.filter(move |(_, k)| wanted(k, &step)).map(|(&u, _)| u))
    };
    let (before, after) = (at(usize::ge), at(usize::gt));
    let revealed = before.iter().zip(&after).map(|(b, a)| b != a).collect::<Vec<_>>();
    let charges = revealed.chunks(target.subtoken_len).enumerate().filter(|(_, token)| token.contains(&true));
    let set = |token: &[bool]| token.iter().enumerate().map(|(j, hit)| u64::from(*hit) << j).sum();
    let charges = charges.map(|(i, token)| (i, Charge::Set(set(token)))).collect();
    Some(Query { y_t: before, t: steps.time(step), weight: 1.0, charges })
}

/// Step `step` from the state in which `masked` units are masked, its charge averaged over what it reveals.
pub(super) fn step_query(
    target: &Target,
    steps: &RevealSteps,
    step: usize,
    unit: RevealUnit,
    masked: &[usize],
    weight: f64,
) -> Query {
    let y_t = target.masked(unit, masked.iter().copied());
    let share = steps.conditional(step);
    let (charge, weight) = match unit {
        RevealUnit::Digits => (Charge::RandomSet(share), weight),
        RevealUnit::Tokens => (Charge::Masked, weight * share),
    };
    Query::uniform(target, y_t, steps.time(step), weight, charge)
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
