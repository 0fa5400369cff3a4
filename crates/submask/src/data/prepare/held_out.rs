//! What is held out, and whether that is enough to measure a model by.

use super::info::{DataInfo, PartInfo};
use super::split::{HeldOutBy, LEAST_SEQUENCES};
use crate::data::blocks::BlockLayout;

/// What prepared data hold out for validation, in sequences of a model.
#[derive(Clone, Debug, PartialEq)]
pub struct HeldOutReport {
    /// How it was chosen.
    pub by: HeldOutBy,
    /// Whether the documents are pairs, each a sequence.
    pub pairs: bool,
    /// Documents, or parts of documents, that are held out.
    pub documents: u64,
    /// Those of them that are the end of a document whose beginning is trained on.
    pub parts: u64,
    /// Documents of the corpus.
    pub of_documents: u64,
    /// Tokens held out.
    pub tokens: u64,
    /// Tokens to train on.
    pub train_tokens: u64,
    /// Whole sequences held out.
    pub sequences: u64,
    /// Whole sequences to train on.
    pub train_sequences: u64,
    /// Tokens per sequence.
    pub seq_len: usize,
}

impl HeldOutReport {
    pub(super) fn of(info: &DataInfo, layout: BlockLayout) -> Option<Self> {
        let valid = info.valid.as_ref()?;
        let ends = if layout.block_ends { 2 } else { 0 };
        let stride = layout.seq_len.saturating_sub(ends).max(1) as u64;
        let sequences = |part: &PartInfo| match part.pairs {
            Some(_) => part.documents,
            None => part.tokens / stride,
        };
        Some(Self {
            by: info.split.by,
            pairs: valid.pairs.is_some(),
            documents: valid.documents,
            parts: info.split.split_by_position.min(valid.documents),
            of_documents: info.split.documents,
            tokens: valid.tokens,
            train_tokens: info.train.tokens,
            sequences: sequences(valid),
            train_sequences: sequences(&info.train),
            seq_len: layout.seq_len,
        })
    }

    /// Its share of all tokens, in [0, 1].
    pub fn share(&self) -> f64 {
        self.tokens as f64 / (self.tokens + self.train_tokens).max(1) as f64
    }

    /// Whether it has fewer than 16 sequences, too few for figures that can be trusted.
    pub fn is_small(&self) -> bool {
        self.sequences < LEAST_SEQUENCES
    }

    /// Whether fewer sequences than that are left to train on.
    pub fn leaves_little(&self) -> bool {
        self.train_sequences < LEAST_SEQUENCES
    }

    /// Whether it is made of several ends of documents that have fewer than 16 sequences in the mean: text that goes on
    /// where the model has learnt the beginning, and begins and ends in the midst.
    pub fn is_cut_to_pieces(&self) -> bool {
        let least = LEAST_SEQUENCES.saturating_mul(self.seq_len as u64);
        self.parts > 1 && self.tokens / self.documents.max(1) < least
    }
}
