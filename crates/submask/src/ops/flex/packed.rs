//! Weights of linear layers, packed once for many products.

use std::sync::Arc;

use rayon::prelude::*;

use super::gemm::Matrix;
use super::{bf16, fp32};
use crate::ops::Precision;

/// A weight [out, in] of a linear layer, in the order in which products read it.
#[derive(Clone, Debug)]
pub struct PackedWeight {
    panels: Panels,
    outer: usize,
    inner: usize,
}

/// The elements of a weight.
#[derive(Clone, Debug)]
pub(super) enum Panels {
    /// The columns of the transpose, in single precision.
    Fp32(Arc<fp32::Columns>),
    /// The rows, rounded to bfloat16.
    Bf16(Arc<bf16::Weight>),
}

impl PackedWeight {
    /// Packs the elements of a weight, which stand row after row, rounded if the precision is that of bfloat16.
    pub fn new(values: &[f32], outer: usize, inner: usize, precision: Precision) -> Self {
        assert_eq!(values.len(), outer * inner);
        let matrix = Matrix::new(values, outer, inner);
        let panels = match precision {
            Precision::Fp32 | Precision::Tf32 => Panels::Fp32(Arc::new(fp32::Columns::new(matrix.t(), true))),
            Precision::Bf16 => Panels::Bf16(Arc::new(bf16::Weight::new(matrix, true))),
        };
        Self { panels, outer, inner }
    }

    pub(super) fn panels(&self) -> &Panels {
        &self.panels
    }

    /// The precision in which it is multiplied.
    pub fn precision(&self) -> Precision {
        match self.panels {
            Panels::Fp32(_) => Precision::Fp32,
            Panels::Bf16(_) => Precision::Bf16,
        }
    }

    /// Outputs and inputs of the layer, [out, in].
    pub fn shape(&self) -> [usize; 2] {
        [self.outer, self.inner]
    }

    /// The first `rows` rows.
    pub fn first(self, rows: usize) -> Self {
        assert!(rows <= self.outer);
        Self { outer: rows, ..self }
    }

    /// The elements as they are multiplied, row after row.
    pub fn unpacked(&self) -> Vec<f32> {
        let mut out = vec![0.0; self.outer * self.inner];
        out.par_chunks_exact_mut(self.inner.max(1)).enumerate().for_each(|(row, out)| {
            for (column, out) in out.iter_mut().enumerate() {
                *out = match &self.panels {
                    Panels::Fp32(columns) => columns.get(column, row),
                    Panels::Bf16(lanes) => lanes.get(row, column),
                };
            }
        });
        out
    }
}
