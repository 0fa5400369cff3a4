//! Uniform levels: one number per unit gives a random order, a random subset of every size, and the time at which
//! exactly that subset is masked.

use super::query::Block;
use crate::random::Draws;

/// The position of the draw that stratifies over the draws of the first block of a sequence. Those of the blocks after it
/// have the positions below; levels have the places of units, which begin at 0.
const STRATUM: u32 = u32::MAX;

/// One uniform level in (0, 1) for each unit of a block; a unit is masked while its level is at most
/// (1 − α_t) / (1 − α_1).
pub(super) struct Levels<'a> {
    units: &'a [usize],
    levels: Vec<f64>,
}

impl<'a> Levels<'a> {
    /// The levels of draw `draw` of a block.
    pub(super) fn draw(draws: &Draws, block: &'a Block, draw: usize) -> Self {
        let level = |unit: &usize| draws.uniform(block.target.key, *unit as u32, draw as u32);
        Self { units: &block.units, levels: block.units.iter().map(level).collect() }
    }

    /// The k-th smallest level, k ≥ 1. It is Beta(k, N − k + 1), independent of which units lie at or below it,
    /// and these are a uniform subset of size k.
    pub(super) fn smallest(&self, k: usize) -> f64 {
        *self.levels.clone().select_nth_unstable_by(k - 1, f64::total_cmp).1
    }

    /// The units whose level is at most `level`, ascending.
    pub(super) fn up_to(&self, level: f64) -> Vec<usize> {
        let units = self.units.iter().zip(&self.levels);
        units.filter(|(_, other)| **other <= level).map(|(&unit, _)| unit).collect()
    }

    /// The first unit with just this level.
    pub(super) fn at(&self, level: f64) -> Option<usize> {
        self.levels.iter().position(|other| *other == level).map(|index| self.units[index])
    }

    /// The levels, one per unit.
    pub(super) fn values(&self) -> &[f64] {
        &self.levels
    }
}

/// A number k uniform on 1..=N for the N units of a block, stratified over the `count` draws of a sequence: draw d takes
/// its uniform number from [d/D, (d+1)/D), so the mean over draws stays unbiased.
pub(super) fn stratified_rank(draws: &Draws, block: &Block, draw: usize, count: usize) -> usize {
    let uniform = draws.uniform(block.target.key, STRATUM - block.number as u32, draw as u32);
    let rank = ((draw as f64 + uniform) / count as f64 * block.units.len() as f64) as usize;
    rank.min(block.units.len() - 1) + 1
}
