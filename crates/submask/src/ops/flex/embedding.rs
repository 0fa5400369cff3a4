//! Rows of a table, several a token.

use std::sync::Arc;

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Dispatch, Flex, backend_extension};
use burn::tensor::Tensor;
use burn_flex::FlexTensor;
use rayon::prelude::*;

use super::{contiguous, dims, register, tensor, values};
use crate::ops::{TableRows, lanes};

/// Tokens that one task embeds.
const TOKENS: usize = 256;

/// Columns of the table whose gradients one task adds up.
const COLUMNS: usize = 32;

#[backend_extension(Flex, Autodiff)]
pub trait EmbeddingOp: burn::backend::Backend {
    fn submask_embedding(table: FloatTensor<Self>, rows: Arc<TableRows>) -> FloatTensor<Self>;
}

/// See [`crate::ops::Kernels::embedding`].
pub fn embedding(table: Tensor<2>, rows: Arc<TableRows>) -> Tensor<2> {
    Tensor::from_dispatch(Dispatch::submask_embedding(table.into_dispatch(), rows))
}

impl TableRows {
    /// Where the j-th row of a token goes in its vector.
    fn place(&self, j: usize, width: usize) -> usize {
        if self.summed { 0 } else { j * width }
    }
}

impl EmbeddingOp for Flex {
    fn submask_embedding(table: FlexTensor, rows: Arc<TableRows>) -> FlexTensor {
        let table = contiguous(table);
        let [_, width] = dims(&table);
        let (table, len, hidden) = (values(&table), rows.per_token, rows.hidden);
        let mut out = vec![0.0; rows.indices.len() / len * hidden];
        let tokens = rows.indices.par_chunks(TOKENS * len);
        out.par_chunks_mut(TOKENS * hidden).zip(tokens).for_each(|(out, indices)| {
            for (out, indices) in out.chunks_exact_mut(hidden).zip(indices.chunks_exact(len)) {
                for (j, &index) in indices.iter().enumerate() {
                    let out = &mut out[rows.place(j, width)..][..width];
                    lanes::add_scaled(out, &table[index as usize * width..][..width], 1.0);
                }
            }
        });
        tensor(out, [rows.indices.len() / len, hidden])
    }
}

impl<C: CheckpointStrategy> EmbeddingOp for Autodiff<Flex, C> {
    fn submask_embedding(table: FloatTensor<Self>, rows: Arc<TableRows>) -> FloatTensor<Self> {
        let node = table.node();
        let table = table.into_primitive();
        match EmbeddingBackward.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => {
                let state = (dims(&table), rows.clone());
                prepared.finish(state, Flex::submask_embedding(table, rows))
            }
            OpsKind::UnTracked(prepared) => prepared.finish(Flex::submask_embedding(table, rows)),
        }
    }
}

/// The gradient of a row of the table: the sum of those of its places, in the order of the tokens.
#[derive(Debug)]
struct EmbeddingBackward;

impl Backward<Flex, 1> for EmbeddingBackward {
    /// Shape of the table, and which rows were taken.
    type State = ([usize; 2], Arc<TableRows>);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let g = contiguous(grads.consume::<Flex>(&ops.node));
        let ([count, width], rows) = ops.state;
        let [parent] = ops.parents;
        register!(grads, parent, {
            let starts: Vec<usize> = (0..width).step_by(COLUMNS).collect();
            let blocks: Vec<Vec<f32>> = starts
                .par_iter()
                .map(|&start| columns_gradient(values(&g), &rows, [count, width], start))
                .collect();
            let mut out = vec![0.0; count * width];
            out.par_chunks_mut(width).enumerate().for_each(|(row, out)| {
                for (out, block) in out.chunks_mut(COLUMNS).zip(&blocks) {
                    let len = out.len();
                    out.copy_from_slice(&block[row * len..][..len]);
                }
            });
            tensor(out, [count, width])
        });
    }
}

/// The gradient of [`COLUMNS`] columns of the table from `start` on, or of those that are left.
fn columns_gradient(g: &[f32], rows: &TableRows, [count, width]: [usize; 2], start: usize) -> Vec<f32> {
    let len = COLUMNS.min(width - start);
    let mut sums = vec![0.0; count * len];
    for (g, indices) in g.chunks_exact(rows.hidden).zip(rows.indices.chunks_exact(rows.per_token)) {
        for (j, &index) in indices.iter().enumerate() {
            let g = &g[rows.place(j, width) + start..][..len];
            lanes::add_scaled(&mut sums[index as usize * len..][..len], g, 1.0);
        }
    }
    sums
}
