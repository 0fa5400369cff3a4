//! Which documents are held out for validation.

use std::collections::{HashMap, HashSet};

use serde::{Deserialize, Serialize};

use super::survey::{KEPT_LENGTHS, Survey};
use crate::data::document::PIECE_BYTES;
use crate::data::hash::keyed;
use crate::error::Result;

/// Fewer sequences than this are too few to measure a model by.
pub(super) const LEAST_SEQUENCES: u64 = 16;

/// From so many documents on, whole ones are held out whatever their lengths are.
const ENOUGH_DOCUMENTS: u64 = 20;

/// How documents are chosen for validation. Prepared data and runs keep the rule that they were made by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ValidRule {
    /// The rule of data and runs that name none. Documents whose hash falls into the share; but long ones, and all of a
    /// corpus of few, are cut by position, however short the parts are.
    #[default]
    Share,
    /// Whole documents where that is possible; see [`prepare`](super::prepare).
    Documents,
}

impl ValidRule {
    /// Whether it is the one that is not written down.
    pub(super) fn is_first(&self) -> bool {
        *self == Self::Share
    }
}

/// How validation text came to be held out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HeldOutBy {
    /// By [`ValidRule::Share`].
    #[default]
    Share,
    /// Whole documents, chosen by hash.
    Documents,
    /// The ends of documents.
    Position,
    /// One document, because no choice of whole documents is near the share and no end is long enough.
    OneDocument,
    /// It stands in files of its own.
    Files,
}

impl HeldOutBy {
    /// Whether it is the one that is not written down.
    pub(super) fn is_first(&self) -> bool {
        *self == Self::Share
    }
}

/// Where a document goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Share {
    Train,
    Valid,
    /// The first so many bytes, or up to three more to the next character, for training and the rest
    /// for validation.
    ByPosition(u64),
}

/// Where every document of a corpus goes.
pub(super) struct Split {
    /// What is told of it.
    pub(super) by: HeldOutBy,
    whole: Whole,
    /// Documents that are cut, and where.
    cut: HashMap<u64, u64>,
}

/// Documents that are held out whole.
enum Whole {
    /// None.
    None,
    /// The one with the smallest hash, and those whose hash falls into the share, unless they are to be trained on.
    Hashed { fraction: f64, seed: u64, least: Option<u64>, trained: HashSet<u64> },
    /// These.
    Listed(HashSet<u64>),
}

impl Split {
    /// Nothing is held out, or it stands in files of its own.
    pub(super) fn none(by: HeldOutBy) -> Self {
        Self { by, whole: Whole::None, cut: HashMap::new() }
    }

    /// All of it is held out: it stands in files of its own.
    pub(super) fn all() -> Self {
        let all = Whole::Hashed { fraction: 1.0, seed: 0, least: None, trained: HashSet::new() };
        Self { by: HeldOutBy::Files, whole: all, cut: HashMap::new() }
    }

    /// By [`ValidRule::Share`].
    pub(super) fn by_share(survey: &Survey, fraction: f64, seed: u64) -> Self {
        const FEW_DOCUMENTS: u64 = 1000;
        let few = survey.documents <= FEW_DOCUMENTS && (survey.documents as f64) * fraction < 1.0;
        let is_cut = |length: u64| few || length > PIECE_BYTES as u64;
        let cut = survey.lengths.iter().filter(|(_, length)| is_cut(**length));
        let least = (0..survey.documents).min_by_key(|&index| keyed(seed, index));
        Self {
            by: HeldOutBy::Share,
            whole: Whole::Hashed { fraction, seed, least, trained: HashSet::new() },
            cut: cut.map(|(&index, &length)| (index, position(length, fraction))).collect(),
        }
    }

    /// By [`ValidRule::Documents`]. `least_bytes` gives the bytes that the end of a document must have to be held out;
    /// `None` where documents cannot be cut.
    ///
    /// # Errors
    /// Those of `least_bytes`.
    pub(super) fn by_documents(
        survey: &Survey,
        fraction: f64,
        seed: u64,
        least_bytes: Option<impl FnOnce() -> Result<f64>>,
    ) -> Result<Self> {
        let by = HeldOutBy::Documents;
        let corpus = Lengths { survey, fraction, seed };
        if survey.documents > KEPT_LENGTHS {
            return Ok(Self { by, whole: corpus.hashed(), cut: HashMap::new() });
        }
        let listed = |by, chosen: Vec<u64>| Self {
            by,
            whole: Whole::Listed(chosen.into_iter().collect()),
            cut: HashMap::new(),
        };
        let order = corpus.by_hash();
        if let Some(chosen) = corpus.near_the_share(&order) {
            return Ok(listed(by, chosen));
        }
        if survey.documents >= ENOUGH_DOCUMENTS {
            return Ok(listed(by, corpus.at_least_one(&order)));
        }
        let Some(least_bytes) = least_bytes else {
            return Ok(listed(HeldOutBy::OneDocument, corpus.nearest(&order)));
        };
        let least_bytes = least_bytes()?;
        let mut cut: HashMap<u64, u64> =
            survey.lengths.iter().map(|(&index, &length)| (index, position(length, fraction))).collect();
        if survey.documents > 1 {
            cut.retain(|index, position| (survey.lengths[index] - *position) as f64 >= least_bytes);
        }
        Ok(match cut.is_empty() {
            false => Self { by: HeldOutBy::Position, whole: Whole::None, cut },
            true => listed(HeldOutBy::OneDocument, corpus.nearest(&order)),
        })
    }

    /// Where document `index` goes.
    pub(super) fn share(&self, index: u64) -> Share {
        if let Some(&position) = self.cut.get(&index) {
            return Share::ByPosition(position);
        }
        let is_held_out = match &self.whole {
            Whole::None => false,
            Whole::Listed(documents) => documents.contains(&index),
            Whole::Hashed { fraction, seed, least, trained } => {
                (uniform(*seed, index) < *fraction || *least == Some(index)) && !trained.contains(&index)
            }
        };
        if is_held_out { Share::Valid } else { Share::Train }
    }
}

/// Where a document of so many bytes is cut.
fn position(length: u64, fraction: f64) -> u64 {
    let valid = (length as f64 * fraction).round() as u64;
    length - valid.min(length)
}

/// A number in [0, 1) for every document.
fn uniform(seed: u64, index: u64) -> f64 {
    keyed(seed, index) as f64 / 2f64.powi(64)
}

/// The documents of a corpus by length and hash.
struct Lengths<'a> {
    survey: &'a Survey,
    fraction: f64,
    seed: u64,
}

impl Lengths<'_> {
    /// Bytes of a document; 0 where they are not kept.
    fn of(&self, index: u64) -> u64 {
        self.survey.lengths.get(&index).copied().unwrap_or(0)
    }

    fn sum(&self, documents: &[u64]) -> u64 {
        documents.iter().map(|&index| self.of(index)).sum()
    }

    /// Bytes that come near the share: from half of it to five times as many, as long as no less is left to train on
    /// than half of what the share leaves.
    fn near(&self) -> std::ops::RangeInclusive<f64> {
        let (f, bytes) = (self.fraction, self.survey.bytes as f64);
        0.5 * f * bytes..=(5.0 * f).min(0.5 + 0.5 * f) * bytes
    }

    /// All documents, the smallest hash first.
    fn by_hash(&self) -> Vec<u64> {
        let mut order: Vec<u64> = (0..self.survey.documents).collect();
        order.sort_by_key(|&index| keyed(self.seed, index));
        order
    }

    /// Those whose hash falls into the share, at least one.
    fn in_share(&self, order: &[u64]) -> Vec<u64> {
        let count = order.iter().take_while(|&&index| uniform(self.seed, index) < self.fraction).count();
        order.iter().take(count.max(1)).copied().collect()
    }

    /// Documents that together come near the share, if any do: those whose hash falls into it, or else, in the order of
    /// hashes, those that fit.
    fn near_the_share(&self, order: &[u64]) -> Option<Vec<u64>> {
        let near = self.near();
        let is_near = |bytes: u64| near.contains(&(bytes as f64));
        let hashed = self.in_share(order);
        if is_near(self.sum(&hashed)) {
            return Some(hashed);
        }
        let (mut chosen, mut bytes) = (Vec::new(), 0);
        for &index in order {
            if bytes as f64 >= self.fraction * self.survey.bytes as f64 {
                break;
            }
            if (bytes + self.of(index)) as f64 <= *near.end() {
                bytes += self.of(index);
                chosen.push(index);
            }
        }
        match is_near(bytes) {
            true => Some(chosen),
            // Where they do not, one that did not fit may do alone.
            false => order.iter().find(|&&index| is_near(self.of(index))).map(|&index| vec![index]),
        }
    }

    /// Those whose hash falls into the share, without any that are too long, at least one.
    fn at_least_one(&self, order: &[u64]) -> Vec<u64> {
        let longest = *self.near().end();
        let hashed = self.in_share(order).into_iter();
        let chosen: Vec<u64> = hashed.filter(|&index| self.of(index) as f64 <= longest).collect();
        if chosen.is_empty() { self.nearest(order) } else { chosen }
    }

    /// The document whose length is nearest to the share, by ratio, and no more than half of the corpus where there is
    /// one.
    fn nearest(&self, order: &[u64]) -> Vec<u64> {
        let (bytes, wanted) = (self.survey.bytes as f64, self.fraction * self.survey.bytes as f64);
        let distance = |index: &u64| {
            let length = self.of(*index).max(1) as f64;
            (length > 0.5 * bytes, (length / wanted).ln().abs())
        };
        let nearest = order.iter().min_by(|a, b| {
            let ((a_long, a), (b_long, b)) = (distance(a), distance(b));
            a_long.cmp(&b_long).then(a.total_cmp(&b))
        });
        nearest.copied().into_iter().collect()
    }

    /// Of a corpus of very many documents: those whose hash falls into the share, without any that are too long.
    fn hashed(&self) -> Whole {
        let longest = *self.near().end();
        let long = self.survey.lengths.iter().filter(|(_, length)| **length as f64 > longest);
        let trained: HashSet<u64> = long.map(|(&index, _)| index).collect();
        let others = (0..self.survey.documents).filter(|index| !trained.contains(index));
        let least = others.min_by_key(|&index| keyed(self.seed, index));
        Whole::Hashed { fraction: self.fraction, seed: self.seed, least, trained }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::document::Document;

    /// A corpus of documents of these lengths.
    fn survey(lengths: &[usize]) -> Survey {
        let documents = lengths.iter().map(|&length| Ok(Document::whole("x".repeat(length))));
        Survey::of(documents, &mut |_| ()).unwrap()
    }

    /// Shares under the rule of whole documents, where ends need so many bytes.
    fn shared(lengths: &[usize], fraction: f64, seed: u64, least: f64) -> (HeldOutBy, Vec<Share>) {
        let split = Split::by_documents(&survey(lengths), fraction, seed, Some(|| Ok(least))).unwrap();
        (split.by, (0..lengths.len() as u64).map(|index| split.share(index)).collect())
    }

    /// The share of bytes that is held out whole.
    fn held_out(lengths: &[usize], shares: &[Share]) -> f64 {
        let valid: usize =
            lengths.iter().zip(shares).filter(|(_, s)| **s == Share::Valid).map(|(length, _)| length).sum();
        valid as f64 / lengths.iter().sum::<usize>() as f64
    }

    #[test]
    fn by_share_few_documents_and_long_ones_are_split_by_position() {
        let few = survey(&[10, 5]);
        let split = Split::by_share(&few, 0.2, 1);
        assert_eq!((split.share(0), split.share(1)), (Share::ByPosition(8), Share::ByPosition(4)));

        let mut many = vec![5; 2000];
        many[1500] = PIECE_BYTES + 1;
        let split = Split::by_share(&survey(&many), 0.5, 1);
        assert_eq!(split.share(1500), Share::ByPosition((PIECE_BYTES as u64).div_ceil(2)));
        assert!([Share::Train, Share::Valid].contains(&split.share(1499)));
    }

    #[test]
    fn by_share_the_share_of_documents_is_the_fraction_and_never_none() {
        let survey = survey(&[5; 10_000]);
        let count = |fraction, seed| {
            let split = Split::by_share(&survey, fraction, seed);
            (0..10_000).filter(|&index| split.share(index) == Share::Valid).count()
        };
        // 200 expected, standard deviation 14.
        assert!((130..270).contains(&count(0.02, 1)), "{}", count(0.02, 1));
        assert_eq!(count(0.02, 1), count(0.02, 1));
        assert_eq!(count(1e-12, 1), 1);
    }

    #[test]
    fn whole_documents_are_those_of_the_share_where_that_comes_near() {
        let lengths = [7; 3000];
        let survey = survey(&lengths);
        let by_share = Split::by_share(&survey, 0.02, 3);
        let (by, shares) = shared(&lengths, 0.02, 3, 1.0);
        assert_eq!(by, HeldOutBy::Documents);
        for (index, share) in shares.into_iter().enumerate() {
            assert_eq!(share, by_share.share(index as u64));
        }
    }

    #[test]
    fn forty_documents_hold_out_a_whole_one() {
        let lengths: Vec<usize> = (0..40).map(|i| 150 + 3 * i).collect();
        for seed in 0..20 {
            let (by, shares) = shared(&lengths, 0.02, seed, 512.0);
            assert_eq!(by, HeldOutBy::Documents);
            assert!(shares.iter().all(|share| [Share::Train, Share::Valid].contains(share)));
            assert!((0.01..=0.1).contains(&held_out(&lengths, &shares)));
        }
    }

    #[test]
    fn a_choice_near_the_share_is_found_where_there_is_one() {
        // The long document is never near 2 %; 24 short ones are 4.6 %.
        let mut lengths = vec![20; 24];
        lengths.push(10_000);
        for seed in 0..20 {
            let (by, shares) = shared(&lengths, 0.02, seed, 1.0);
            assert_eq!((by, shares[24]), (HeldOutBy::Documents, Share::Train));
            assert!((0.01..=0.1).contains(&held_out(&lengths, &shares)), "{}", held_out(&lengths, &shares));
        }
        // 10 and 490 of 10,000 together are more than 5 · 0.0099, and 10 alone are too few.
        for seed in 0..20 {
            let lengths = [10, 490, 9500];
            let (by, shares) = shared(&lengths, 0.0099, seed, 1.0);
            assert_eq!(by, HeldOutBy::Documents);
            assert_eq!(shares, [Share::Train, Share::Valid, Share::Train]);
        }
    }

    #[test]
    fn of_two_equal_documents_one_is_held_out_where_that_is_near() {
        let (by, shares) = shared(&[500, 500], 0.2, 1, 1.0);
        assert_eq!((by, held_out(&[500, 500], &shares)), (HeldOutBy::Documents, 0.5));
    }

    #[test]
    fn ends_are_held_out_of_documents_that_are_long_enough() {
        let lengths = [1000, 9000, 8000];
        let (by, shares) = shared(&lengths, 0.01, 1, 80.0);
        assert_eq!(by, HeldOutBy::Position);
        assert_eq!(shares, [Share::Train, Share::ByPosition(8910), Share::ByPosition(7920)]);
        // Where none is, one whole document is: the shortest comes nearest.
        let (by, shares) = shared(&lengths, 0.01, 1, 91.0);
        assert_eq!((by, shares), (HeldOutBy::OneDocument, vec![Share::Valid, Share::Train, Share::Train]));
    }

    #[test]
    fn a_single_document_is_cut_whatever_is_left() {
        assert_eq!(shared(&[100], 0.25, 1, 1e9), (HeldOutBy::Position, vec![Share::ByPosition(75)]));
    }

    #[test]
    fn twenty_documents_hold_out_one_whatever_the_lengths() {
        for seed in 0..20 {
            let (by, shares) = shared(&[100; 20], 0.001, seed, 1.0);
            assert_eq!((by, held_out(&[100; 20], &shares)), (HeldOutBy::Documents, 0.05));
            let mut lengths = vec![1; 20];
            lengths[7] = 1_000_000;
            let (by, shares) = shared(&lengths, 0.02, seed, 1.0);
            assert_eq!((by, shares[7]), (HeldOutBy::Documents, Share::Train));
            assert!(shares.contains(&Share::Valid));
        }
    }

    #[test]
    fn a_document_that_is_most_of_many_is_trained_on() {
        let count = KEPT_LENGTHS as usize + 500;
        let mut lengths = vec![1; count];
        lengths[count - 1] = PIECE_BYTES + 1;
        lengths[3] = 2 * PIECE_BYTES;
        let (by, shares) = shared(&lengths, 0.05, 1, 1.0);
        assert_eq!((by, shares[3], shares[count - 1]), (HeldOutBy::Documents, Share::Train, Share::Train));
        let valid = shares.iter().filter(|share| **share == Share::Valid).count();
        assert!((2500..4200).contains(&valid), "{valid}");
    }

    #[test]
    fn documents_that_cannot_be_cut_are_whole() {
        let survey = survey(&[500, 500]);
        let split = Split::by_documents(&survey, 0.001, 1, None::<fn() -> Result<f64>>).unwrap();
        assert_eq!(split.by, HeldOutBy::OneDocument);
        let shares = [split.share(0), split.share(1)];
        assert!(shares.contains(&Share::Train) && shares.contains(&Share::Valid), "{shares:?}");
    }
}
