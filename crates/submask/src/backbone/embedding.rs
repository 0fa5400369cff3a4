//! Tables of digits: the ℓ digits of a token become one vector.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::Digits;
use super::weights::{Init, Parameter, Weights};
use crate::ops::{Kernels, TableRows, integers, plain};
use crate::subtoken::SubTokenizer;

/// How digits are embedded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Embedding {
    /// One table for all digits, width d/ℓ each, concatenated (the published diffusion transformer).
    #[default]
    Concatenated,
    /// One table a digit, concatenated.
    PerDigitConcatenated,
    /// One table a digit, of width d each, summed.
    PerDigitSummed,
}

/// The input layer of a network: one table of b + 1 rows, or one a digit packed below each other, those of
/// digit j from row j·(b + 1) on.
#[derive(Clone, Debug)]
pub(super) struct DigitEmbedding {
    /// Name of the weight.
    name: &'static str,
    kind: Embedding,
    /// b + 1.
    digits: usize,
    subtoken_len: usize,
    /// d.
    hidden: usize,
}

impl DigitEmbedding {
    /// The layer that gives vectors of width `hidden` for the digits of `codes`.
    pub fn new(name: &'static str, kind: Embedding, codes: &SubTokenizer, hidden: usize) -> Self {
        let (digits, subtoken_len) = (codes.base() as usize + 1, codes.subtoken_len());
        Self { name, kind, digits, subtoken_len, hidden }
    }

    /// Width of a digit's vector: d where they are summed, ⌊d/ℓ⌋ where they are concatenated.
    pub fn width(&self) -> usize {
        match self.kind {
            Embedding::PerDigitSummed => self.hidden,
            Embedding::Concatenated | Embedding::PerDigitConcatenated => self.hidden / self.subtoken_len,
        }
    }

    /// Rows between the tables of two digits that follow each other.
    fn offset(&self) -> usize {
        match self.kind {
            Embedding::Concatenated => 0,
            Embedding::PerDigitConcatenated | Embedding::PerDigitSummed => self.digits,
        }
    }

    /// The table.
    pub fn parameter(&self, init: Init) -> Parameter {
        let rows = self.digits + (self.subtoken_len - 1) * self.offset();
        Parameter::new(self.name, &[rows, self.width()], init)
    }

    /// Vectors of the tokens whose digits are `y_t` [n·ℓ]: [n, d]. Concatenated vectors that do not fill d are
    /// followed by zeros.
    pub fn forward(&self, kernels: Kernels, weights: &Weights, y_t: Digits) -> Tensor<2> {
        let (len, summed) = (self.subtoken_len, self.kind == Embedding::PerDigitSummed);
        let offset = |j: usize| (j * self.offset()) as u32;
        let table = weights.get(self.name);
        match y_t {
            Digits::Host(y_t) => {
                let row = |(i, digit): (usize, &u32)| offset(i % len) + digit;
                let indices = y_t.iter().enumerate().map(row).collect();
                kernels.embedding(table, TableRows { indices, per_token: len, hidden: self.hidden, summed })
            }
            Digits::Device(y_t) => {
                let offsets = integers((0..len).map(offset), [1, len], &y_t.device());
                plain::embedding_of(table, y_t.clone() + offsets, self.hidden, summed)
            }
        }
    }
}
