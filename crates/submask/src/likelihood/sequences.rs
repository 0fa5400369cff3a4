//! What is charged, and how thoroughly.

use serde::{Deserialize, Serialize};

use crate::denoiser::Denoiser;
use crate::predictive::Predictive;
use crate::schedule::{RevealUnit, Schedule};
use crate::{Error, Result};

/// Clean sequences x_0 [n, L], and which of their sub-tokens are given.
#[derive(Clone, Copy, Debug)]
pub struct Sequences<'a> {
    pub(super) x_0: &'a [u32],
    pub(super) seq_len: usize,
    given: Option<&'a [bool]>,
    labels: Option<&'a [usize]>,
    first_index: u64,
}

impl<'a> Sequences<'a> {
    /// `x_0`: [n, L] tokens, row by row, L = `seq_len`.
    ///
    /// # Errors
    /// [`Error::Invalid`] when there is no sequence or no whole number of them.
    pub fn new(x_0: &'a [u32], seq_len: usize) -> Result<Self> {
        if seq_len == 0 || x_0.is_empty() || !x_0.len().is_multiple_of(seq_len) {
            return Err(Error::invalid(
                "tokens",
                x_0.len(),
                format!("a positive multiple of the length {seq_len}"),
            ));
        }
        Ok(Self { x_0, seq_len, given: None, labels: None, first_index: 0 })
    }

    /// Marks sub-tokens as given (a prompt): [n, L·ℓ], digit j of token i of sequence s at (s·L + i)·ℓ + j. Given
    /// sub-tokens are visible from the start and never charged: the figures are of the rest, given them.
    #[must_use]
    pub fn with_given(mut self, given: &'a [bool]) -> Self {
        self.given = Some(given);
        self
    }

    /// Labels the sequences, \[n\], for a network that reads classes: the figures are of sequences given their class.
    #[must_use]
    pub fn with_labels(mut self, labels: &'a [usize]) -> Self {
        self.labels = Some(labels);
        self
    }

    /// Numbers the sequences from `first_index` on (instead of 0): a corpus evaluated in pieces draws the same
    /// numbers as in one run.
    #[must_use]
    pub fn starting_at(mut self, first_index: u64) -> Self {
        self.first_index = first_index;
        self
    }

    /// Number of sequences n.
    pub fn count(&self) -> usize {
        self.x_0.len() / self.seq_len
    }

    /// How many sub-tokens at the beginning of every sequence are given, \[n\].
    ///
    /// # Errors
    /// [`Error::Invalid`] where something is given behind what is not.
    pub(super) fn beginnings(&self, subtoken_len: usize) -> Result<Vec<usize>> {
        let width = self.seq_len * subtoken_len;
        let Some(given) = self.given else { return Ok(vec![0; self.count()]) };
        if given.len() != self.count() * width {
            let allowed = format!("{} sub-tokens", self.count() * width);
            return Err(Error::invalid("given", given.len(), allowed));
        }
        let beginning = |own: &[bool]| {
            let first = own.iter().position(|given| !given).unwrap_or(width);
            match own[first..].contains(&true) {
                false => Ok(first),
                true => {
                    let allowed = "a beginning: an autoregressive network goes from left to right";
                    Err(Error::invalid("given", "sub-tokens behind others that are not", allowed))
                }
            }
        };
        given.chunks_exact(width).map(beginning).collect()
    }

    /// Checks everything against the network, and encodes.
    pub(super) fn encode(&self, network: &dyn Denoiser, predictive: &Predictive) -> Result<Encoded<'a>> {
        let codes = predictive.codes();
        network.spec().check_seq_len(self.seq_len)?;
        network.spec().check_codes(codes)?;
        if let Some(labels) = self.labels.filter(|labels| labels.len() != self.count()) {
            let allowed = format!("one for each of {} sequences", self.count());
            return Err(Error::invalid("labels", labels.len(), allowed));
        }
        let y_0 = codes.encode(self.x_0)?;
        match self.given {
            Some(given) if given.len() != y_0.len() => {
                return Err(Error::invalid("given", given.len(), format!("{} sub-tokens", y_0.len())));
            }
            Some(given) if given.iter().all(|given| *given) => {
                return Err(Error::invalid("given", "every sub-token", "at least one to generate"));
            }
            _ => {}
        }
        Ok(Encoded { sequences: *self, y_0, subtoken_len: codes.subtoken_len(), mask_id: codes.mask_id() })
    }
}

/// How an estimate is made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LikelihoodSettings {
    /// Draws per sequence: of masks, of whole paths, or of the K orders of [`bound_k`](super::bound_k); at least 1. Exact
    /// values draw nothing.
    pub draws: usize,
    /// Seed of all draws.
    pub seed: u64,
    /// States (y_t, t) per network call; the result does not depend on it.
    pub batch: usize,
    /// Maps visible shares to times, for a network that reads the time.
    pub schedule: Schedule,
}

impl Default for LikelihoodSettings {
    fn default() -> Self {
        Self { draws: 64, seed: 0, batch: 32, schedule: Schedule::Linear }
    }
}

impl LikelihoodSettings {
    /// Checks the ranges.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming the field.
    pub fn validate(&self) -> Result<()> {
        if self.draws == 0 || self.draws > u32::MAX as usize {
            return Err(Error::invalid("draws", self.draws, format!("1 to {}", u32::MAX)));
        }
        if self.batch == 0 {
            return Err(Error::invalid("batch", self.batch, "at least 1"));
        }
        self.schedule.validate()
    }
}

/// Sequences as sub-tokens.
pub(super) struct Encoded<'a> {
    sequences: Sequences<'a>,
    y_0: Vec<u32>,
    subtoken_len: usize,
    mask_id: u32,
}

impl Encoded<'_> {
    pub(super) fn target(&self, s: usize) -> Target<'_> {
        let (tokens, width) = (self.sequences.seq_len, self.sequences.seq_len * self.subtoken_len);
        Target {
            index: self.sequences.first_index + s as u64,
            x_0: &self.sequences.x_0[s * tokens..(s + 1) * tokens],
            y_0: &self.y_0[s * width..(s + 1) * width],
            label: self.sequences.labels.map(|labels| labels[s]),
            given: self.sequences.given.map(|given| &given[s * width..(s + 1) * width]),
            subtoken_len: self.subtoken_len,
            mask_id: self.mask_id,
        }
    }

    /// The largest number of units that a sequence generates.
    pub(super) fn most_units(&self, unit: RevealUnit) -> usize {
        (0..self.sequences.count()).map(|s| self.target(s).units(unit).len()).max().unwrap_or(0)
    }
}

/// One clean sequence.
pub(super) struct Target<'a> {
    /// Its number, the key of its draws.
    pub(super) index: u64,
    pub(super) x_0: &'a [u32],
    pub(super) y_0: &'a [u32],
    /// Its class, where it has one.
    pub(super) label: Option<usize>,
    given: Option<&'a [bool]>,
    pub(super) subtoken_len: usize,
    pub(super) mask_id: u32,
}

impl Target<'_> {
    fn is_open(&self, digit: usize) -> bool {
        self.given.is_none_or(|given| !given[digit])
    }

    /// The units to generate, ascending: indices of digits, or of tokens with a digit to generate.
    pub(super) fn units(&self, unit: RevealUnit) -> Vec<usize> {
        match unit {
            RevealUnit::Digits => (0..self.y_0.len()).filter(|&digit| self.is_open(digit)).collect(),
            RevealUnit::Tokens => (0..self.x_0.len())
                .filter(|token| {
                    (token * self.subtoken_len..(token + 1) * self.subtoken_len)
                        .any(|digit| self.is_open(digit))
                })
                .collect(),
        }
    }

    /// The state in which `units` are masked (the open digits of a token) and all else is visible.
    pub(super) fn masked(&self, unit: RevealUnit, units: impl IntoIterator<Item = usize>) -> Vec<u32> {
        let mut y_t = self.y_0.to_vec();
        for index in units {
            match unit {
                RevealUnit::Digits => y_t[index] = self.mask_id,
                RevealUnit::Tokens => {
                    let digits = index * self.subtoken_len..(index + 1) * self.subtoken_len;
                    digits.filter(|&digit| self.is_open(digit)).for_each(|digit| y_t[digit] = self.mask_id);
                }
            }
        }
        y_t
    }
}
