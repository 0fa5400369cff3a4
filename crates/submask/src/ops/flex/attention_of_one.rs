//! Attention of one query of every head, for networks that keep keys and values.

use burn::backend::tensor::FloatTensor;
use burn::backend::{Dispatch, Flex, backend_extension};
use burn::tensor::Tensor;
use burn_flex::FlexTensor;
use rayon::prelude::*;

use super::gemm::{Matrix, On, product, product_to};
use super::{contiguous, dims, tensor, values};
use crate::ops::{Precision, lanes};

#[backend_extension(Flex)]
pub trait AttentionOfOneOp: burn::backend::Backend {
    fn submask_attention_of_one(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
    ) -> FloatTensor<Self>;
}

/// See [`crate::ops::Kernels::attention_of_one`].
pub fn attention_of_one(q: Tensor<4>, k: Tensor<4>, v: Tensor<4>) -> Tensor<4> {
    let (q, k, v) = (q.into_dispatch(), k.into_dispatch(), v.into_dispatch());
    Tensor::from_dispatch(Dispatch::submask_attention_of_one(q, k, v))
}

impl AttentionOfOneOp for Flex {
    fn submask_attention_of_one(q: FlexTensor, k: FlexTensor, v: FlexTensor) -> FlexTensor {
        let [q, k, v] = [q, k, v].map(contiguous);
        let [batch, heads, past, width] = dims(&k);
        let mut out = vec![0.0; batch * heads * width];
        let keys = values(&k).par_chunks_exact((past * width).max(1));
        let all = keys.zip(values(&v).par_chunks_exact((past * width).max(1)));
        let queries = values(&q).par_chunks_exact(width.max(1)).zip(all);
        out.par_chunks_exact_mut(width.max(1)).zip(queries).for_each(|(out, (q, (k, v)))| {
            let [k, v] = [k, v].map(|all| Matrix::new(all, past, width));
            one_head(out, q, k, v);
        });
        tensor(out, [batch, heads, 1, width])
    }
}

/// softmax(qkᵀ/√w)v of one head.
fn one_head(out: &mut [f32], q: &[f32], k: Matrix, v: Matrix) {
    let (width, thread) = (q.len(), On::Thread(Precision::Fp32));
    let scale = 1.0 / (width as f32).sqrt();
    let mut weights = product(Matrix::new(q, 1, width), k.t(), scale, thread);
    product_to(out, Matrix::new(softmax(&mut weights), 1, k.rows()), v, 1.0, thread);
}

/// Turns scores into probabilities.
fn softmax(scores: &mut [f32]) -> &[f32] {
    lanes::vectorized(
        #[inline(always)]
        || {
            let max = lanes::max(scores);
            let inverse = 1.0 / lanes::map_sum(scores, |score| lanes::exp(score - max));
            scores.iter_mut().for_each(|score| *score *= inverse);
        },
    );
    scores
}
