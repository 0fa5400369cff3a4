//! What must be known of a corpus before it can be shared out.

use std::collections::HashMap;

use super::{Phase, Progress, Watched};
use crate::data::document::{Document, PIECE_BYTES};
use crate::data::hash::keyed;
use crate::error::Result;

/// A corpus of at most so many documents can count as one of few.
const FEW_DOCUMENTS: u64 = 1000;

/// Counts of a corpus.
pub(super) struct Survey {
    /// Documents.
    pub(super) documents: u64,
    /// Bytes of text.
    pub(super) bytes: u64,
    /// Bytes of the documents that may be split by position: long ones, and the first
    /// [`FEW_DOCUMENTS`], by index.
    lengths: HashMap<u64, u64>,
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

impl Survey {
    /// Reads the corpus once.
    pub(super) fn of(
        documents: impl Iterator<Item = Result<Document>>,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Self> {
        let mut survey = Self { documents: 0, bytes: 0, lengths: HashMap::new() };
        let mut length = 0;
        for piece in Watched::new(documents, Phase::Survey, None, progress) {
            let piece = piece?;
            length += piece.text.len() as u64;
            if !piece.continues {
                if length > PIECE_BYTES as u64 || survey.documents < FEW_DOCUMENTS {
                    survey.lengths.insert(survey.documents, length);
                }
                survey.documents += 1;
                survey.bytes += length;
                length = 0;
            }
        }
        Ok(survey)
    }

    /// The rule for all documents: see [`prepare`](super::prepare).
    pub(super) fn split(&self, valid_fraction: f64, seed: u64) -> Split<'_> {
        let few = self.documents <= FEW_DOCUMENTS && (self.documents as f64) * valid_fraction < 1.0;
        let least = (0..self.documents).min_by_key(|&index| keyed(seed, index));
        let least = least.filter(|_| valid_fraction > 0.0);
        Split { survey: self, few, least, valid_fraction, seed }
    }
}

/// Where every document of a corpus goes.
pub(super) struct Split<'a> {
    survey: &'a Survey,
    few: bool,
    least: Option<u64>,
    valid_fraction: f64,
    seed: u64,
}

impl Split<'_> {
    /// Where document `index` goes.
    pub(super) fn share(&self, index: u64) -> Share {
        if self.valid_fraction == 0.0 {
            return Share::Train;
        }
        if let Some(&length) = self.survey.lengths.get(&index)
            && (self.few || length > PIECE_BYTES as u64)
        {
            let valid = (length as f64 * self.valid_fraction).round() as u64;
            return Share::ByPosition(length - valid.min(length));
        }
        let uniform = keyed(self.seed, index) as f64 / 2f64.powi(64);
        let valid = uniform < self.valid_fraction || self.least == Some(index);
        if valid { Share::Valid } else { Share::Train }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn survey(documents: &[Document]) -> Survey {
        Survey::of(documents.iter().cloned().map(Ok), &mut |_| ()).unwrap()
    }

    #[test]
    fn few_documents_and_long_ones_are_split_by_position() {
        let few = survey(&[Document::whole("0123456789"), Document::whole("01234")]);
        let split = few.split(0.2, 1);
        assert_eq!((split.share(0), split.share(1)), (Share::ByPosition(8), Share::ByPosition(4)));

        let mut many = vec![Document::whole("short"); 2000];
        let long = "x".repeat(PIECE_BYTES);
        many[1500] = Document::whole(long + "x");
        let many = survey(&many);
        let split = many.split(0.5, 1);
        assert_eq!(split.share(1500), Share::ByPosition((PIECE_BYTES as u64).div_ceil(2)));
        assert!([Share::Train, Share::Valid].contains(&split.share(1499)));
    }

    #[test]
    fn pieces_are_one_document() {
        let pieces = ["abc", "de"].map(|text| Document::piece(text, true));
        let survey = survey(&[pieces[0].clone(), pieces[1].clone(), Document::whole("f")]);
        assert_eq!((survey.documents, survey.bytes), (1, 6));
    }

    #[test]
    fn the_share_of_validation_documents_is_the_fraction_and_never_none() {
        let survey = survey(&vec![Document::whole("short"); 10_000]);
        let count = |fraction, seed| {
            let split = survey.split(fraction, seed);
            (0..10_000).filter(|&index| split.share(index) == Share::Valid).count()
        };
        // 200 expected, standard deviation 14.
        assert!((130..270).contains(&count(0.02, 1)), "{}", count(0.02, 1));
        assert_eq!(count(0.02, 1), count(0.02, 1));
        assert_eq!(count(1e-12, 1), 1);
        assert_eq!(count(0.0, 1), 0);
    }
}
