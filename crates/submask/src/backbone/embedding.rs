//! Tables of digits: the ℓ digits of a token become one vector.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::Digits;
use super::declaration::{Declaration, Handle};
use super::weights::{Init, Weights};
use crate::ops::{Kernels, TableRows, integers};
use crate::subtoken::SubTokenizer;

/// How digits are embedded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Embedding {
    /// One table for all digits, width d/ℓ each, concatenated (the published diffusion transformer).
    #[default]
    Concatenated,
    /// One table per digit, concatenated.
    PerDigitConcatenated,
    /// One table per digit, of width d each, summed.
    PerDigitSummed,
}

impl Embedding {
    /// Width of a digit's vector, given the width d of a token's and the digits per token ℓ: d where they are summed,
    /// ⌊d/ℓ⌋ where they are concatenated.
    pub fn width(self, hidden: usize, subtoken_len: usize) -> usize {
        match self {
            Self::PerDigitSummed => hidden,
            Self::Concatenated | Self::PerDigitConcatenated => hidden / subtoken_len,
        }
    }
}

/// The input layer of a network: one table of b + 1 rows, or one per digit packed below each other, those of
/// digit j from row j·(b + 1) on.
#[derive(Clone, Debug)]
pub struct DigitEmbedding {
    table: Handle<2>,
    /// Rows between the tables of two digits that follow each other.
    offset: usize,
    subtoken_len: usize,
    /// Width d of a token's vector.
    hidden: usize,
    summed: bool,
    kernels: Kernels,
}

impl DigitEmbedding {
    /// Declares the table `name` of the layer that makes vectors of width `hidden` of the digits of `codes`.
    pub fn declare(
        declaration: &mut Declaration,
        name: &str,
        kind: Embedding,
        codes: &SubTokenizer,
        hidden: usize,
        init: Init,
    ) -> Self {
        let (digits, subtoken_len) = (codes.base() as usize + 1, codes.subtoken_len());
        let offset = if kind == Embedding::Concatenated { 0 } else { digits };
        let shape = [digits + (subtoken_len - 1) * offset, kind.width(hidden, subtoken_len)];
        Self {
            table: declaration.weight(name, shape, init),
            offset,
            subtoken_len,
            hidden,
            summed: kind == Embedding::PerDigitSummed,
            kernels: declaration.kernels(),
        }
    }

    /// Vectors of tokens, given their digits [n·ℓ], 0..=b: [n, d]. Concatenated vectors that do not fill d are
    /// followed by zeros.
    pub fn forward(&self, weights: &Weights, y_t: Digits) -> Tensor<2> {
        let Self { subtoken_len: len, hidden, summed, .. } = *self;
        let offset = |j: usize| (j * self.offset) as u32;
        let table = weights.get(self.table);
        match y_t {
            Digits::Host(y_t) => {
                let row = |(i, digit): (usize, &u32)| offset(i % len) + digit;
                let indices = y_t.iter().enumerate().map(row).collect();
                self.kernels.embedding(table, TableRows { indices, per_token: len, hidden, summed })
            }
            Digits::Device(y_t) => {
                let offsets = integers((0..len).map(offset), [1, len], &y_t.device());
                self.kernels.embedding_of(table, y_t.clone() + offsets, hidden, summed)
            }
        }
    }
}
