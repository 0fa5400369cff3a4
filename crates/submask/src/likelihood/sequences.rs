//! What is charged, and how thoroughly.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::estimate::{Estimate, Meaning};
use crate::denoiser::Spec;
use crate::schedule::{RevealUnit, Schedule};
use crate::subtoken::SubTokenizer;
use crate::{Error, Result};

/// Clean sequences x_0, of one length or of several, and which of their sub-tokens are given.
#[derive(Clone, Copy, Debug)]
pub struct Sequences<'a> {
    x_0: &'a [u32],
    lengths: Lengths<'a>,
    given: Option<&'a [bool]>,
    labels: Option<&'a [usize]>,
    keys: Keys<'a>,
}

/// Tokens per sequence.
#[derive(Clone, Copy, Debug)]
enum Lengths<'a> {
    Equal(usize),
    Each(&'a [usize]),
}

/// What the draws of a sequence are keyed by.
#[derive(Clone, Copy, Debug)]
enum Keys<'a> {
    /// Its number, counted from here.
    From(u64),
    Each(&'a [u64]),
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
        Ok(Self { x_0, lengths: Lengths::Equal(seq_len), given: None, labels: None, keys: Keys::From(0) })
    }

    /// Sequences of different lengths, \[n\], one after the other in `x_0`. Those of one length are evaluated together, and
    /// no value depends on the others.
    ///
    /// # Errors
    /// [`Error::Invalid`] when there is no sequence, one without tokens, or another number of tokens than of the lengths
    /// together.
    pub fn of_lengths(x_0: &'a [u32], lengths: &'a [usize]) -> Result<Self> {
        if lengths.is_empty() || lengths.contains(&0) {
            let given = if lengths.is_empty() { "no sequence" } else { "0 tokens" };
            return Err(Error::invalid("lengths", given, "at least one sequence, of at least 1 token each"));
        }
        let tokens = lengths.iter().fold(0_usize, |sum, len| sum.saturating_add(*len));
        if tokens != x_0.len() {
            return Err(Error::invalid("tokens", x_0.len(), format!("{tokens}, the sum of the lengths")));
        }
        Ok(Self { lengths: Lengths::Each(lengths), ..Self::new(x_0, 1)? })
    }

    /// Marks sub-tokens as given (a prompt), one after the other as the tokens are: of sequences of one length L [n, L·ℓ],
    /// digit j of token i of sequence s at (s·L + i)·ℓ + j. Given sub-tokens are visible from the start and never charged:
    /// the figures are of the rest, given them. With blocks every charge is given those of its own block and of earlier ones
    /// only: what is given in later blocks is not read.
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
        self.keys = Keys::From(first_index);
        self
    }

    /// Keys the draws of every sequence, \[n\], in the place of its number. Only the lower 56 bits count.
    #[must_use]
    pub fn with_keys(mut self, keys: &'a [u64]) -> Self {
        self.keys = Keys::Each(keys);
        self
    }

    /// Number of sequences n.
    pub fn count(&self) -> usize {
        match self.lengths {
            Lengths::Equal(seq_len) => self.x_0.len() / seq_len,
            Lengths::Each(lengths) => lengths.len(),
        }
    }

    /// What `estimate` makes of the sequences of every length, in the order of all. All of them are checked against the
    /// network first.
    pub(super) fn by_length<K: Meaning>(
        &self,
        spec: &Spec,
        codes: &SubTokenizer,
        estimate: impl Fn(&Group) -> Result<Estimate<K>>,
    ) -> Result<Estimate<K>> {
        self.check(spec, codes)?;
        let lengths = match self.lengths {
            Lengths::Equal(seq_len) => return estimate(&self.whole(seq_len)),
            Lengths::Each(lengths) => lengths,
        };
        let starts = lengths.iter().scan(0, |next, len| {
            *next += len;
            Some(*next - len)
        });
        let mut places = BTreeMap::<usize, Vec<Place>>::new();
        for (index, (start, len)) in starts.zip(lengths).enumerate() {
            places.entry(*len).or_default().push(Place { index, start });
        }
        let mut groups = Vec::with_capacity(places.len());
        for (seq_len, places) in places {
            let group = estimate(&self.group(seq_len, &places, codes.subtoken_len()))?;
            groups.push((places.into_iter().map(|place| place.index).collect(), group));
        }
        Ok(Estimate::gathered(groups))
    }

    fn check(&self, spec: &Spec, codes: &SubTokenizer) -> Result<()> {
        match self.lengths {
            Lengths::Equal(seq_len) => spec.check_seq_len(seq_len)?,
            Lengths::Each(lengths) => lengths.iter().try_for_each(|len| spec.check_seq_len(*len))?,
        }
        spec.check_codes(codes)?;
        let count = self.count();
        if let Some(labels) = self.labels.filter(|labels| labels.len() != count) {
            let allowed = format!("one for each of {count} sequences");
            return Err(Error::invalid("labels", labels.len(), allowed));
        }
        if let Keys::Each(keys) = self.keys
            && keys.len() != count
        {
            return Err(Error::invalid("keys", keys.len(), format!("one for each of {count} sequences")));
        }
        let digits = self.x_0.len() * codes.subtoken_len();
        match self.given {
            Some(given) if given.len() != digits => {
                Err(Error::invalid("given", given.len(), format!("{digits} sub-tokens")))
            }
            Some(given) if given.iter().all(|given| *given) => {
                Err(Error::invalid("given", "every sub-token", "at least one to generate"))
            }
            _ => Ok(()),
        }
    }

    fn key(&self, index: usize) -> u64 {
        match self.keys {
            Keys::From(first) => first + index as u64,
            Keys::Each(keys) => keys[index],
        }
    }

    /// All of them, of one length.
    fn whole(&self, seq_len: usize) -> Group<'_> {
        Group {
            x_0: self.x_0.into(),
            seq_len,
            given: self.given.map(Into::into),
            labels: self.labels.map(Into::into),
            keys: (0..self.count()).map(|index| self.key(index)).collect(),
        }
    }

    /// Those of length `seq_len`, which stand at `places`; a token has `subtoken_len` sub-tokens.
    fn group(&self, seq_len: usize, places: &[Place], subtoken_len: usize) -> Group<'_> {
        let tokens = |place: &Place| self.x_0[place.start..place.start + seq_len].iter().copied();
        let digits = |place: &Place| place.start * subtoken_len..(place.start + seq_len) * subtoken_len;
        let given = |given: &[bool]| places.iter().flat_map(|place| given[digits(place)].to_vec()).collect();
        let labels = |labels: &[usize]| places.iter().map(|place| labels[place.index]).collect();
        Group {
            x_0: places.iter().flat_map(tokens).collect(),
            seq_len,
            given: self.given.map(given),
            labels: self.labels.map(labels),
            keys: places.iter().map(|place| self.key(place.index)).collect(),
        }
    }
}

/// Where a sequence stands: its number, and its first token.
struct Place {
    index: usize,
    start: usize,
}

/// Sequences of one length, x_0 [n, L].
pub(super) struct Group<'a> {
    x_0: Cow<'a, [u32]>,
    pub(super) seq_len: usize,
    given: Option<Cow<'a, [bool]>>,
    labels: Option<Cow<'a, [usize]>>,
    keys: Vec<u64>,
}

impl Group<'_> {
    /// Number of sequences n.
    pub(super) fn count(&self) -> usize {
        self.keys.len()
    }

    /// The sequences as sub-tokens.
    pub(super) fn encode(&self, codes: &SubTokenizer) -> Result<Encoded<'_>> {
        let y_0 = codes.encode(&self.x_0)?;
        Ok(Encoded { group: self, y_0, subtoken_len: codes.subtoken_len(), mask_id: codes.mask_id() })
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
    /// States (y_t, t) per network call, at most; the result does not depend on it.
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
    group: &'a Group<'a>,
    y_0: Vec<u32>,
    subtoken_len: usize,
    mask_id: u32,
}

impl Encoded<'_> {
    pub(super) fn target(&self, s: usize) -> Target<'_> {
        let group = self.group;
        let (tokens, width) = (group.seq_len, group.seq_len * self.subtoken_len);
        let digits = s * width..(s + 1) * width;
        Target {
            key: group.keys[s],
            x_0: &group.x_0[s * tokens..(s + 1) * tokens],
            y_0: &self.y_0[digits.clone()],
            label: group.labels.as_ref().map(|labels| labels[s]),
            given: group.given.as_ref().map(|given| &given[digits]),
            subtoken_len: self.subtoken_len,
            mask_id: self.mask_id,
        }
    }

    /// The digits of some sequences, one after the other.
    pub(super) fn digits(&self, sequences: Range<usize>) -> &[u32] {
        let width = self.group.seq_len * self.subtoken_len;
        &self.y_0[sequences.start * width..sequences.end * width]
    }
}

/// One clean sequence.
pub(super) struct Target<'a> {
    /// The key of its draws.
    pub(super) key: u64,
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

    /// Whether anything is to be generated.
    pub(super) fn generates(&self) -> bool {
        (0..self.y_0.len()).any(|digit| self.is_open(digit))
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
