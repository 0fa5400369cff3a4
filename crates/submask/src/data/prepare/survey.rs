//! What must be known of a corpus before it can be shared out.

use std::collections::HashMap;

use super::{Phase, Progress, Watched};
use crate::data::document::{Document, PIECE_BYTES};
use crate::error::Result;

/// The lengths of so many documents are kept, by index; of later ones only those of long documents.
pub(super) const KEPT_LENGTHS: u64 = 1 << 16;

/// Counts of a corpus.
#[derive(Default)]
pub(super) struct Survey {
    /// Documents.
    pub(super) documents: u64,
    /// Pieces that they come in.
    pub(super) pieces: u64,
    /// Bytes of text.
    pub(super) bytes: u64,
    /// Bytes of documents, by index: of the first [`KEPT_LENGTHS`], and of those longer than [`PIECE_BYTES`].
    pub(super) lengths: HashMap<u64, u64>,
}

impl Survey {
    /// Reads the corpus once.
    pub(super) fn of(
        documents: impl Iterator<Item = Result<Document>>,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Self> {
        let mut survey = Self::default();
        let mut length = 0;
        for piece in Watched::new(documents, Phase::Survey, None, progress) {
            let piece = piece?;
            length += piece.text.len() as u64;
            survey.pieces += 1;
            if !piece.continues {
                survey.add(length);
                length = 0;
            }
        }
        Ok(survey)
    }

    /// Counts a document of so many bytes.
    pub(super) fn add(&mut self, length: u64) {
        if length > PIECE_BYTES as u64 || self.documents < KEPT_LENGTHS {
            self.lengths.insert(self.documents, length);
        }
        self.documents += 1;
        self.bytes += length;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_one_document() {
        let pieces = ["abc", "de"].map(|text| Document::piece(text, true));
        let documents = [pieces[0].clone(), pieces[1].clone(), Document::whole("f")];
        let survey = Survey::of(documents.into_iter().map(Ok), &mut |_| ()).unwrap();
        assert_eq!((survey.documents, survey.pieces, survey.bytes), (1, 3, 6));
        assert_eq!(survey.lengths, HashMap::from([(0, 6)]));
    }
}
