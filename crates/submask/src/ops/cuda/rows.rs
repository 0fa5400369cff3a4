//! Rows of tensors, and the modulations that they share.

use burn::backend::TensorMetadata;
use burn::tensor::DType;

use super::device::{Array, contiguous};
use crate::ops::Precision;

/// Threads of a block at most, where each has some columns.
const THREADS: usize = 256;

/// The type in which a product takes its factors.
pub(super) fn factor_type(precision: Precision) -> DType {
    match precision {
        Precision::Bf16 => DType::BF16,
        Precision::Fp32 | Precision::Tf32 => DType::F32,
    }
}

/// How many rows follow each other that share a modulation, of which there are one or one per sequence.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rows {
    /// All rows.
    pub count: usize,
    /// Rows that share a modulation.
    pub length: usize,
    pub width: usize,
    pub modulations: usize,
}

impl Rows {
    /// Of x [B, L, d] with modulations [B, d], or [1, d] for all.
    pub fn of(x: &Array, modulation: &Array) -> Self {
        let ([batch, length, width], [modulations, columns]) = (x.shape().dims(), modulation.shape().dims());
        assert_eq!(columns, width);
        assert!(modulations == 1 || modulations == batch, "a modulation per sequence, or one for all");
        let count = batch * length;
        Self { count, length: if modulations == 1 { count } else { length }, width, modulations }
    }

    /// Blocks of up to `chunk` rows that share a modulation.
    pub fn chunks(&self, chunk: usize) -> usize {
        self.length.div_ceil(chunk)
    }
}

/// A matrix whose rows may be apart, as those of a part of the columns of another one are; otherwise a copy.
pub(super) fn with_rows_apart(x: Array) -> Array {
    let strides = x.meta.strides();
    if x.shape()[1] == 1 || strides[1] == 1 { x } else { contiguous(x) }
}

/// What lies between the modulations of two sequences: 0 where all have the same.
pub(super) fn stride(modulation: &Array) -> usize {
    if modulation.shape()[0] == 1 { 0 } else { modulation.meta.strides()[0] }
}

/// Columns that a thread handles together, if all of these numbers of elements can be cut into as many.
pub(super) fn pack(sizes: &[usize]) -> usize {
    if sizes.iter().all(|size| size.is_multiple_of(4)) { 4 } else { 1 }
}

/// Blocks of columns beside each other, and their threads.
pub(super) fn columns(width: usize, pack: usize) -> [usize; 2] {
    let threads = width.div_ceil(pack).next_multiple_of(32).clamp(32, THREADS);
    [width.div_ceil(threads * pack), threads]
}
