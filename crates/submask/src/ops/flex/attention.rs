//! Rotary positions and attention; the probabilities are computed again in the backward pass, so that no
//! [L, L] matrix is kept.

use std::sync::Arc;

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Dispatch, Flex, TensorMetadata, backend_extension};
use burn::tensor::Tensor;
use burn_flex::FlexTensor;
use rayon::prelude::*;

use super::gemm::{Matrix, On, product, product_to};
use super::{contiguous, dims, filled, register, room, tensor, values, write};
use crate::ops::{Rotary, lanes};

#[backend_extension(Flex, Autodiff)]
pub trait AttentionOp: burn::backend::Backend {
    fn submask_attention(
        qkv: FloatTensor<Self>,
        heads: usize,
        rotary: Arc<Rotary>,
        causal: bool,
    ) -> FloatTensor<Self>;
}

/// See [`crate::ops::Kernels::attention`].
pub fn attention(qkv: Tensor<3>, heads: usize, rotary: Arc<Rotary>, causal: bool) -> Tensor<3> {
    Tensor::from_dispatch(Dispatch::submask_attention(qkv.into_dispatch(), heads, rotary, causal))
}

/// What one (sequence, head) needs: its slices of the packed tensors, and scratch.
struct Head<'a> {
    length: usize,
    width: usize,
    head_width: usize,
    /// First column of this head in a row of d.
    column: usize,
    /// One sequence of qkv, [L, 3d].
    qkv: &'a [f32],
    rotary: &'a Rotary,
    causal: bool,
}

/// Buffers of one head, used again for the next.
#[derive(Default)]
struct Scratch {
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
    probabilities: Vec<f32>,
}

impl Head<'_> {
    /// Copies q (part 0), k (1) or v (2) to [L, w].
    fn gather(&self, part: usize, out: &mut Vec<f32>) {
        out.clear();
        for row in self.qkv.chunks_exact(3 * self.width) {
            out.extend_from_slice(&row[part * self.width + self.column..][..self.head_width]);
        }
    }

    /// Rotates [L, w] by the positions' angles, or back for the gradients.
    fn rotate(&self, x: &mut [f32], back: bool) {
        let half = self.rotary.half;
        for (position, row) in x.chunks_exact_mut(self.head_width).enumerate() {
            let (first, second) = row.split_at_mut(half);
            let (cos, sin) = (&self.rotary.cos[position * half..], &self.rotary.sin[position * half..]);
            for i in 0..half {
                let (a, b, sin) = (first[i], second[i], if back { -sin[i] } else { sin[i] });
                first[i] = a * cos[i] - b * sin;
                second[i] = b * cos[i] + a * sin;
            }
        }
    }

    fn scale(&self) -> f32 {
        1.0 / (self.head_width as f32).sqrt()
    }

    /// Fills the scratch: rotated q and k, v, and softmax(qkᵀ/√w).
    fn probabilities(&self, scratch: &mut Scratch) {
        let (length, width) = (self.length, self.head_width);
        self.gather(0, &mut scratch.q);
        self.gather(1, &mut scratch.k);
        self.gather(2, &mut scratch.v);
        self.rotate(&mut scratch.q, false);
        self.rotate(&mut scratch.k, false);
        scratch.probabilities.resize(length * length, 0.0);
        let (q, k) = (Matrix::new(&scratch.q, length, width), Matrix::new(&scratch.k, length, width));
        product_to(&mut scratch.probabilities, q, k.t(), self.scale(), On::Thread);
        lanes::vectorized(
            #[inline(always)]
            || {
                for (position, row) in scratch.probabilities.chunks_exact_mut(length).enumerate() {
                    let seen = if self.causal { position + 1 } else { length };
                    let (row, future) = row.split_at_mut(seen);
                    future.fill(0.0);
                    softmax(row);
                }
            },
        );
    }

    /// The result [L, w] of this head.
    fn forward(&self, scratch: &mut Scratch) -> Vec<f32> {
        self.probabilities(scratch);
        let p = Matrix::new(&scratch.probabilities, self.length, self.length);
        product(p, Matrix::new(&scratch.v, self.length, self.head_width), 1.0, On::Thread)
    }

    /// Gradients of q, k and v, [3][L, w], from that of the output, [L, w].
    fn backward(&self, scratch: &mut Scratch, d_scores: &mut Vec<f32>, g: &[f32]) -> [Vec<f32>; 3] {
        self.probabilities(scratch);
        let (length, width) = (self.length, self.head_width);
        let g = Matrix::new(g, length, width);
        let p = Matrix::new(&scratch.probabilities, length, length);
        let dv = product(p.t(), g, 1.0, On::Thread);
        d_scores.resize(length * length, 0.0);
        product_to(d_scores, g, Matrix::new(&scratch.v, length, width).t(), 1.0, On::Thread);
        let rows = d_scores.chunks_exact_mut(length).zip(scratch.probabilities.chunks_exact(length));
        lanes::vectorized(
            #[inline(always)]
            || {
                for (ds, p) in rows {
                    let mean = lanes::dot(ds, p);
                    for (ds, &p) in ds.iter_mut().zip(p) {
                        *ds = p * (*ds - mean);
                    }
                }
            },
        );
        let ds = Matrix::new(d_scores, length, length);
        let mut dq = product(ds, Matrix::new(&scratch.k, length, width), self.scale(), On::Thread);
        let mut dk = product(ds.t(), Matrix::new(&scratch.q, length, width), self.scale(), On::Thread);
        self.rotate(&mut dq, true);
        self.rotate(&mut dk, true);
        [dq, dk, dv]
    }
}

#[inline(always)]
fn softmax(row: &mut [f32]) {
    let max = lanes::max(row);
    for x in row.iter_mut() {
        *x = lanes::exp(*x - max);
    }
    let inverse = 1.0 / lanes::sum(row, |x| x);
    for x in row.iter_mut() {
        *x *= inverse;
    }
}

/// Runs `work` on every (sequence, head) and writes its results [parts][L, w] into rows of parts·d.
fn for_each_head(
    qkv: &FlexTensor,
    heads: usize,
    rotary: &Rotary,
    causal: bool,
    parts: usize,
    work: impl Fn(&Head, usize, &mut Scratch) -> Vec<Vec<f32>> + Sync,
) -> Vec<f32> {
    let [batch, length, triple] = dims(qkv);
    let width = triple / 3;
    let head_width = width / heads;
    assert_eq!(heads * head_width, width, "the heads share the width evenly");
    let mut out = room(batch * length * parts * width);
    let results: Vec<Vec<Vec<f32>>> = (0..batch * heads)
        .into_par_iter()
        .map_init(Scratch::default, |scratch, index| {
            let (sequence, head) = (index / heads, index % heads);
            let head = Head {
                length,
                width,
                head_width,
                column: head * head_width,
                qkv: &values(qkv)[sequence * length * triple..][..length * triple],
                rotary,
                causal,
            };
            work(&head, sequence, scratch)
        })
        .collect();
    out.par_chunks_mut(length * parts * width).enumerate().for_each(|(sequence, out)| {
        for (head, result) in results[sequence * heads..][..heads].iter().enumerate() {
            for (part, result) in result.iter().enumerate() {
                for (row, values) in out.chunks_exact_mut(parts * width).zip(result.chunks_exact(head_width))
                {
                    write(&mut row[part * width + head * head_width..][..head_width], values);
                }
            }
        }
    });
    // SAFETY: the heads of a row stand beside each other in every part and fill it.
    unsafe { filled(out) }
}

impl AttentionOp for Flex {
    fn submask_attention(qkv: FlexTensor, heads: usize, rotary: Arc<Rotary>, causal: bool) -> FlexTensor {
        let qkv = contiguous(qkv);
        let [batch, length, triple] = dims(&qkv);
        let out =
            for_each_head(&qkv, heads, &rotary, causal, 1, |head, _, scratch| vec![head.forward(scratch)]);
        tensor(out, [batch, length, triple / 3])
    }
}

impl<C: CheckpointStrategy> AttentionOp for Autodiff<Flex, C> {
    fn submask_attention(
        qkv: FloatTensor<Self>,
        heads: usize,
        rotary: Arc<Rotary>,
        causal: bool,
    ) -> FloatTensor<Self> {
        match AttentionBackward.prepare::<C>([qkv.node()]).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => {
                let qkv = contiguous(qkv.into_primitive());
                let out = Flex::submask_attention(qkv.clone(), heads, rotary.clone(), causal);
                prepared.finish((qkv, heads, rotary, causal), out)
            }
            OpsKind::UnTracked(prepared) => {
                prepared.finish(Flex::submask_attention(qkv.into_primitive(), heads, rotary, causal))
            }
        }
    }
}

#[derive(Debug)]
struct AttentionBackward;

impl Backward<Flex, 1> for AttentionBackward {
    type State = (FlexTensor, usize, Arc<Rotary>, bool);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let g = contiguous(grads.consume::<Flex>(&ops.node));
        let (qkv, heads, rotary, causal) = ops.state;
        let [parent] = ops.parents;
        register!(grads, parent, {
            let out = for_each_head(&qkv, heads, &rotary, causal, 3, |head, sequence, scratch| {
                let block = head.length * head.width;
                let mut upstream = Vec::with_capacity(head.length * head.head_width);
                for row in values(&g)[sequence * block..][..block].chunks_exact(head.width) {
                    upstream.extend_from_slice(&row[head.column..][..head.head_width]);
                }
                head.backward(scratch, &mut Vec::new(), &upstream).into()
            });
            tensor(out, qkv.shape())
        });
    }
}
