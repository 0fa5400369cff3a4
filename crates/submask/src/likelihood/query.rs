//! What a network is asked: one state of a whole sequence, made of what is asked of each of its blocks.

use super::charge::{Charge, Term};
use super::sequences::Target;
use crate::schedule::RevealUnit;

/// A block of a sequence that has something to generate. Where a network has no blocks, the sequence is one.
pub(super) struct Block<'a> {
    pub(super) target: &'a Target<'a>,
    /// Its place among the blocks of the sequence.
    pub(super) number: usize,
    /// The units that it generates, ascending, at least one.
    pub(super) units: Vec<usize>,
    unit: RevealUnit,
}

impl<'a> Block<'a> {
    /// The blocks of `block_len` tokens of a sequence, without those that are given.
    pub(super) fn all(target: &'a Target<'a>, unit: RevealUnit, block_len: usize) -> Vec<Self> {
        let width = match unit {
            RevealUnit::Tokens => block_len,
            RevealUnit::Digits => block_len * target.subtoken_len,
        };
        let units = target.units(unit);
        let blocks = units.chunk_by(|a, b| a / width == b / width);
        let block = |units: &[usize]| Self { target, number: units[0] / width, units: units.to_vec(), unit };
        blocks.map(block).collect()
    }

    /// The state in which these units are `masked`, ascending, with the same charge at every token among them.
    pub(super) fn uniform(&self, masked: Vec<usize>, t: f64, weight: f64, charge: Charge) -> Part {
        debug_assert!(masked.is_sorted(), "charges are by token, each once");
        let mut tokens: Vec<usize> = match self.unit {
            RevealUnit::Tokens => masked.clone(),
            RevealUnit::Digits => masked.iter().map(|digit| digit / self.target.subtoken_len).collect(),
        };
        tokens.dedup();
        let charges = tokens.into_iter().map(|token| (token, charge)).collect();
        Part { block: self.number, masked, t, weight, charges }
    }

    /// The state in which these units are `masked`, with the charge of revealing some of them, ascending, at once.
    pub(super) fn revealing(&self, masked: Vec<usize>, revealed: &[usize], t: f64) -> Part {
        let charges = Charge::of_units(self.unit, revealed, self.target.subtoken_len);
        Part { block: self.number, masked, t, weight: 1.0, charges }
    }
}

/// What is asked of a block. Its value is `weight` times the sum of its charges.
pub(super) struct Part {
    /// The block's number.
    block: usize,
    /// Its masked units.
    masked: Vec<usize>,
    t: f64,
    weight: f64,
    /// (token position, charge), each position once.
    pub(super) charges: Vec<(usize, Charge)>,
}

/// A state of a sequence, and what is asked of its blocks.
pub(super) struct Query {
    pub(super) y_t: Vec<u32>,
    pub(super) t: f64,
    pub(super) parts: Vec<Part>,
}

impl Query {
    /// What is asked of the blocks of a sequence, in their order; `None` where it is nothing.
    pub(super) fn new(target: &Target, unit: RevealUnit, parts: Vec<Part>) -> Option<Self> {
        let masked = parts.iter().flat_map(|part| part.masked.iter().copied());
        // Networks that read the time have one block.
        Some(Self { y_t: target.masked(unit, masked), t: parts.first()?.t, parts })
    }

    /// The numbers of the first and the last block that something is asked of.
    pub(super) fn blocks(&self) -> Option<[usize; 2]> {
        Some([self.parts.first()?.block, self.parts.last()?.block])
    }

    /// (token position, charge), in the order of blocks.
    pub(super) fn charges(&self) -> impl Iterator<Item = (usize, Charge)> {
        self.parts.iter().flat_map(|part| part.charges.iter().copied())
    }
}

/// A query, and what it was charged.
pub(super) struct Charged<'a> {
    query: &'a Query,
    /// Of every charge.
    terms: &'a [Term],
}

impl<'a> Charged<'a> {
    /// The query with the first of `terms`, which are taken off.
    pub(super) fn first(query: &'a Query, terms: &mut &'a [Term]) -> Self {
        let (own, rest) = terms.split_at(query.charges().count());
        *terms = rest;
        Self { query, terms: own }
    }

    /// The value of every block that something is asked of, with the block's number.
    pub(super) fn values(&self) -> impl Iterator<Item = (usize, f64)> {
        let mut rest = self.terms;
        self.query.parts.iter().map(move |part| {
            let (own, others) = rest.split_at(part.charges.len());
            rest = others;
            (part.block, part.weight * own.iter().map(|term| term.nats).sum::<f64>())
        })
    }

    /// (token position, term) of every charge.
    pub(super) fn by_token(&self) -> impl Iterator<Item = (usize, &'a Term)> {
        self.query.charges().map(|(token, _)| token).zip(self.terms)
    }
}
