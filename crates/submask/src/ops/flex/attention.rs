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

use super::gemm::{Matrix, On, finished_product, product, product_to};
use super::{contiguous, dims, filled, register, room, tensor, values, write};
use crate::ops::{AttentionMask, Precision, Rotary, lanes};

#[backend_extension(Flex, Autodiff)]
pub trait AttentionOp: burn::backend::Backend {
    fn submask_attention(
        qkv: FloatTensor<Self>,
        heads: usize,
        rotary: Arc<Rotary>,
        mask: AttentionMask,
        precision: Precision,
    ) -> FloatTensor<Self>;
}

/// See [`crate::ops::Kernels::attention`].
pub fn attention(
    qkv: Tensor<3>,
    heads: usize,
    rotary: Arc<Rotary>,
    mask: AttentionMask,
    precision: Precision,
) -> Tensor<3> {
    Tensor::from_dispatch(Dispatch::submask_attention(qkv.into_dispatch(), heads, rotary, mask, precision))
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
    mask: AttentionMask,
    precision: Precision,
}

/// Buffers of one head, used again for the next.
#[derive(Default)]
struct Scratch {
    /// Rotated, [L, w].
    q: Vec<f32>,
    k: Vec<f32>,
    /// e^(score − the row's largest), [L, L], and 1/Σ of each row.
    weights: Vec<f32>,
    inverses: Vec<f32>,
}

impl Head<'_> {
    /// q (part 0), k (1) or v (2), [L, w].
    fn part(&self, part: usize) -> Matrix<'_> {
        let stride = 3 * self.width;
        Matrix::strided(&self.qkv[part * self.width + self.column..], self.length, self.head_width, stride)
    }

    /// Copies a part, rotated by the positions' angles.
    fn rotated(&self, part: usize, out: &mut Vec<f32>) {
        let part = self.part(part);
        out.clear();
        (0..self.length).for_each(|row| out.extend_from_slice(part.row(row)));
        self.rotate(out, false);
    }

    /// Rotates [L, w] by the positions' angles, or back for the gradients.
    fn rotate(&self, x: &mut [f32], back: bool) {
        rotate(x, self.rotary, 0, back);
    }

    fn on(&self) -> On {
        On::Thread(self.precision)
    }

    fn scale(&self) -> f32 {
        1.0 / (self.head_width as f32).sqrt()
    }

    /// Fills the scratch, from which softmax(qkᵀ/√w) is each row of weights times its inverse.
    fn fill(&self, scratch: &mut Scratch) {
        let (length, width) = (self.length, self.head_width);
        self.rotated(0, &mut scratch.q);
        self.rotated(1, &mut scratch.k);
        scratch.weights.resize(length * length, 0.0);
        scratch.inverses.resize(length, 0.0);
        let (q, k) = (Matrix::new(&scratch.q, length, width), Matrix::new(&scratch.k, length, width));
        product_to(&mut scratch.weights, q, k.t(), self.scale(), self.on());
        let rows = scratch.weights.chunks_exact_mut(length).zip(&mut scratch.inverses);
        lanes::vectorized(
            #[inline(always)]
            || {
                for (position, (row, inverse)) in rows.enumerate() {
                    let seen = self.mask.block_end(position).min(length);
                    let (row, future) = row.split_at_mut(seen);
                    future.fill(0.0);
                    let max = lanes::max(row);
                    *inverse = 1.0 / lanes::map_sum(row, |score| lanes::exp(score - max));
                }
            },
        );
    }

    /// The result [L, w] of this head.
    fn forward(&self, scratch: &mut Scratch) -> Vec<f32> {
        self.fill(scratch);
        let weights = Matrix::new(&scratch.weights, self.length, self.length);
        let inverses = &scratch.inverses;
        let normalize = |row: usize, _: usize, out: &mut [f32]| {
            out.iter_mut().for_each(|x| *x *= inverses[row]);
        };
        finished_product(weights, self.part(2), 1.0, self.on(), Some(&normalize))
    }

    /// Gradients of q, k and v, [3][L, w], from that of the output, [L, w].
    fn backward(&self, scratch: &mut Scratch, d_scores: &mut Vec<f32>, g: &[f32]) -> [Vec<f32>; 3] {
        self.fill(scratch);
        let (length, width) = (self.length, self.head_width);
        let g = Matrix::new(g, length, width);
        lanes::vectorized(
            #[inline(always)]
            || {
                for (row, inverse) in scratch.weights.chunks_exact_mut(length).zip(&scratch.inverses) {
                    row.iter_mut().for_each(|x| *x *= inverse);
                }
            },
        );
        let p = Matrix::new(&scratch.weights, length, length);
        let dv = product(p.t(), g, 1.0, self.on());
        d_scores.resize(length * length, 0.0);
        product_to(d_scores, g, self.part(2).t(), 1.0, self.on());
        let rows = d_scores.chunks_exact_mut(length).zip(scratch.weights.chunks_exact(length));
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
        let mut dq = product(ds, Matrix::new(&scratch.k, length, width), self.scale(), self.on());
        let mut dk = product(ds.t(), Matrix::new(&scratch.q, length, width), self.scale(), self.on());
        self.rotate(&mut dq, true);
        self.rotate(&mut dk, true);
        [dq, dk, dv]
    }
}

/// Rotates [n, w] by the angles of the positions from `first` on, or back for the gradients.
pub(super) fn rotate(x: &mut [f32], rotary: &Rotary, first: usize, back: bool) {
    let half = rotary.half;
    lanes::vectorized(
        #[inline(always)]
        || {
            for (position, row) in x.chunks_exact_mut(2 * half).enumerate() {
                let (left, right) = row.split_at_mut(half);
                let angles = (first + position) * half..(first + position + 1) * half;
                let angles = rotary.cos[angles.clone()].iter().zip(&rotary.sin[angles]);
                for ((a, b), (cos, sin)) in left.iter_mut().zip(right).zip(angles) {
                    let sin = if back { -sin } else { *sin };
                    (*a, *b) = (*a * cos - *b * sin, *b * cos + *a * sin);
                }
            }
        },
    );
}

/// Puts the heads of every part beside each other.
///
/// # Shapes
/// - `heads`: for every sequence and head [parts][n, w]
/// - result: [B, n, parts·h·w]
pub(super) fn beside(
    heads: &[Vec<Vec<f32>>],
    count: usize,
    [rows, parts, head_width]: [usize; 3],
) -> Vec<f32> {
    let width = count * head_width;
    let mut out = room(heads.len() / count.max(1) * rows * parts * width);
    out.par_chunks_mut((rows * parts * width).max(1)).enumerate().for_each(|(sequence, out)| {
        for (head, result) in heads[sequence * count..][..count].iter().enumerate() {
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

/// What attention is of, apart from its input.
#[derive(Clone, Debug)]
struct Settings {
    heads: usize,
    rotary: Arc<Rotary>,
    mask: AttentionMask,
    precision: Precision,
}

/// Runs `work` on every (sequence, head) and writes its results [parts][L, w] into rows of parts·d.
fn for_each_head(
    qkv: &FlexTensor,
    settings: &Settings,
    parts: usize,
    work: impl Fn(&Head, usize, &mut Scratch) -> Vec<Vec<f32>> + Sync,
) -> Vec<f32> {
    let [batch, length, triple] = dims(qkv);
    let width = triple / 3;
    let Settings { heads, ref rotary, mask, precision } = *settings;
    let head_width = width / heads;
    assert_eq!(heads * head_width, width, "the heads share the width evenly");
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
                mask,
                precision,
            };
            work(&head, sequence, scratch)
        })
        .collect();
    beside(&results, heads, [length, parts, head_width])
}

fn forward(qkv: FlexTensor, settings: &Settings) -> FlexTensor {
    let qkv = contiguous(qkv);
    let [batch, length, triple] = dims(&qkv);
    let out = for_each_head(&qkv, settings, 1, |head, _, scratch| vec![head.forward(scratch)]);
    tensor(out, [batch, length, triple / 3])
}

impl AttentionOp for Flex {
    fn submask_attention(
        qkv: FlexTensor,
        heads: usize,
        rotary: Arc<Rotary>,
        mask: AttentionMask,
        precision: Precision,
    ) -> FlexTensor {
        forward(qkv, &Settings { heads, rotary, mask, precision })
    }
}

impl<C: CheckpointStrategy> AttentionOp for Autodiff<Flex, C> {
    fn submask_attention(
        qkv: FloatTensor<Self>,
        heads: usize,
        rotary: Arc<Rotary>,
        mask: AttentionMask,
        precision: Precision,
    ) -> FloatTensor<Self> {
        let settings = Settings { heads, rotary, mask, precision };
        match AttentionBackward.prepare::<C>([qkv.node()]).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => {
                let qkv = contiguous(qkv.into_primitive());
                let out = forward(qkv.clone(), &settings);
                prepared.finish((qkv, settings), out)
            }
            OpsKind::UnTracked(prepared) => prepared.finish(forward(qkv.into_primitive(), &settings)),
        }
    }
}

#[derive(Debug)]
struct AttentionBackward;

impl Backward<Flex, 1> for AttentionBackward {
    type State = (FlexTensor, Settings);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let g = contiguous(grads.consume::<Flex>(&ops.node));
        let (qkv, settings) = ops.state;
        let [parent] = ops.parents;
        register!(grads, parent, {
            let out = for_each_head(&qkv, &settings, 3, |head, sequence, scratch| {
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
