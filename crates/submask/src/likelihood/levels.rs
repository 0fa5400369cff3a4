//! Uniform levels: one number per unit gives a random order, a random subset of every size, and the time at which
//! exactly that subset is masked.

use super::sequences::Target;
use crate::random::Draws;

/// The event of the draw that stratifies over the draws of a sequence; levels use positions below it.
const STRATUM: u32 = u32::MAX;

/// One uniform level in (0, 1) for each unit; a unit is masked while its level is at most (1 − α_t) / (1 − α_1).
pub(super) struct Levels<'a> {
    units: &'a [usize],
    levels: Vec<f64>,
}

impl<'a> Levels<'a> {
    /// The levels of draw `draw` of a sequence.
    pub(super) fn draw(draws: &Draws, target: &Target, units: &'a [usize], draw: usize) -> Self {
        let levels = units.iter().map(|&unit| draws.uniform(target.key, unit as u32, draw as u32)).collect();
        Self { units, levels }
    }

    /// The k-th smallest level, k ≥ 1. It is Beta(k, N − k + 1), independent of which units lie at or below it,
    /// and these are a uniform subset of size k.
    pub(super) fn smallest(&self, k: usize) -> f64 {
        *self.levels.clone().select_nth_unstable_by(k - 1, f64::total_cmp).1
    }

    /// The units whose level is at most `level`.
    pub(super) fn up_to(&self, level: f64) -> impl Iterator<Item = usize> {
        self.units.iter().zip(&self.levels).filter(move |(_, other)| **other <= level).map(|(&unit, _)| unit)
    }

    /// The first unit with just this level.
    pub(super) fn at(&self, level: f64) -> Option<usize> {
        self.levels.iter().position(|other| *other == level).map(|index| self.units[index])
    }

    /// The units.
    pub(super) fn units(&self) -> &[usize] {
        self.units
    }

    /// The levels, one per unit.
    pub(super) fn values(&self) -> &[f64] {
        &self.levels
    }
}

/// A number k uniform on 1..=N, stratified over the `count` draws of a sequence: draw d takes its uniform number
/// from [d/D, (d+1)/D), so the mean over draws stays unbiased.
pub(super) fn stratified_rank(
    draws: &Draws,
    target: &Target,
    units: usize,
    draw: usize,
    count: usize,
) -> usize {
    let uniform = draws.uniform(target.key, STRATUM, draw as u32);
    let rank = ((draw as f64 + uniform) / count as f64 * units as f64) as usize;
    rank.min(units - 1) + 1
}
