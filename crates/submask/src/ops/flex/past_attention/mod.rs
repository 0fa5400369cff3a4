//! Attention of positions that read their own block and a past of keys and values; the probabilities are computed again
//! in the backward pass, as in `attention`.

mod head;

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

use super::attention::{beside, rotate};
use super::gemm::Matrix;
use super::{contiguous, dims, register, tensor, values};
use head::{Head, HeadGradients};

use crate::ops::{AttentionMask, Past, Precision, Rotary, lanes};

/// Lengths of pasts are rounded up to multiples of this.
const STEP: usize = 64;

#[backend_extension(Flex, Autodiff)]
pub trait PastAttentionOp: burn::backend::Backend {
    fn submask_past_attention(
        qkv: FloatTensor<Self>,
        past: FloatTensor<Self>,
        settings: PastAttention,
    ) -> FloatTensor<Self>;
    /// The past is that of the positions themselves.
    fn submask_attention_of_blocks(qkv: FloatTensor<Self>, settings: PastAttention) -> FloatTensor<Self>;
}

/// Without gradients, for pasts that are read several times.
#[backend_extension(Flex)]
pub trait PlacedAttentionOp: burn::backend::Backend {
    fn submask_place(past: FloatTensor<Self>, settings: PastAttention) -> FloatTensor<Self>;
    fn submask_placed_attention(
        qkv: FloatTensor<Self>,
        placed: FloatTensor<Self>,
        settings: PastAttention,
    ) -> FloatTensor<Self>;
}

/// What attention with a past is of, apart from its inputs.
#[derive(Clone, Debug)]
pub struct PastAttention {
    pub first: usize,
    pub heads: usize,
    pub rotary: Arc<Rotary>,
    pub mask: AttentionMask,
    pub precision: Precision,
}

/// See [`crate::ops::Kernels::attention_with_past`].
pub fn attention_with_past(qkv: Tensor<3>, past: Past, settings: PastAttention) -> Tensor<3> {
    let (qkv, past) = (qkv.into_dispatch(), past.keys_values.into_dispatch());
    Tensor::from_dispatch(Dispatch::submask_past_attention(qkv, past, settings))
}

/// See [`crate::ops::Kernels::attention_of_blocks`].
pub fn attention_of_blocks(qkv: Tensor<3>, settings: PastAttention) -> Tensor<3> {
    Tensor::from_dispatch(Dispatch::submask_attention_of_blocks(qkv.into_dispatch(), settings))
}

/// See [`crate::ops::Kernels::place`].
pub fn place(keys_values: Tensor<3>, settings: PastAttention) -> Tensor<4> {
    Tensor::from_dispatch(Dispatch::submask_place(keys_values.into_dispatch(), settings))
}

/// See [`crate::ops::Kernels::attention_with_placed`].
pub fn attention_with_placed(qkv: Tensor<3>, placed: Tensor<4>, settings: PastAttention) -> Tensor<3> {
    let (qkv, placed) = (qkv.into_dispatch(), placed.into_dispatch());
    Tensor::from_dispatch(Dispatch::submask_placed_attention(qkv, placed, settings))
}

/// Where keys and values of the past are.
#[derive(Clone, Copy)]
enum Source<'a> {
    /// The positions are their own past.
    Own,
    /// The last columns of [B', P, 2d] or [B', P, 3d].
    Packed(&'a FlexTensor),
    /// What [`PastAttention::place`] gives.
    Placed(&'a FlexTensor),
}

impl PastAttention {
    /// Head width w.
    fn width(&self) -> usize {
        2 * self.rotary.half
    }

    /// The keys, rotated, and then the values of every head of some pasts, each followed by zeros: [B', h, 2P', w] with P' the
    /// length, rounded up.
    fn place(&self, past: &FlexTensor) -> FlexTensor {
        let [pasts, length, _] = dims(past);
        let double = 2 * length.next_multiple_of(STEP);
        let mut all = vec![0.0; pasts * self.heads * double * self.width()];
        all.par_chunks_mut((double * self.width()).max(1)).enumerate().for_each(|(index, out)| {
            self.place_head(past, index / self.heads, index % self.heads, out);
        });
        tensor(all, [pasts, self.heads, double, self.width()])
    }

    /// One head of [`place`](Self::place), to a place that is zero.
    fn place_head(&self, past: &FlexTensor, sequence: usize, head: usize, out: &mut [f32]) {
        let ([_, length, columns], width) = (dims(past), self.width());
        let past = &values(past)[sequence * length * columns..][..length * columns];
        let (keys, behind) = out.split_at_mut(out.len() / 2);
        for (part, out) in [keys, behind].into_iter().enumerate() {
            let first = columns - (2 - part) * self.heads * width + head * width;
            for (out, row) in out.chunks_exact_mut(width).zip(past.chunks_exact(columns)) {
                out.copy_from_slice(&row[first..][..width]);
            }
        }
        rotate(&mut out[..length * width], &self.rotary, 0, false);
    }

    /// Runs `work` on the heads of every sequence, in order.
    fn for_each_head<R: Send>(
        &self,
        qkv: &FlexTensor,
        source: Source,
        work: impl Fn(Head, usize, usize) -> R + Sync,
    ) -> Vec<R> {
        let ([batch, rows, triple], heads) = (dims(qkv), self.heads);
        let (width, head_width) = (triple / 3, self.width());
        assert_eq!(heads * head_width, width, "the heads share the width evenly");
        let head = |index: usize| {
            let (sequence, head) = (index / heads, index % heads);
            let qkv = &values(qkv)[sequence * rows * triple..][..rows * triple];
            let part = |part: usize| {
                let values = qkv.get(part * width + head * head_width..).unwrap_or_default();
                copied(Matrix::strided(values, rows, head_width, triple))
            };
            let [mut q, mut k, mut v] = [part(0), part(1), part(2)];
            rotate(&mut q, &self.rotary, self.first, false);
            rotate(&mut k, &self.rotary, self.first, false);
            let placed;
            let (past_k, past_v) = match source {
                Source::Own => {
                    let rounded = rows.next_multiple_of(STEP) * head_width;
                    k.resize(rounded, 0.0);
                    v.resize(rounded, 0.0);
                    (&k[..], &v[..])
                }
                Source::Packed(past) => {
                    let [pasts, length, _] = dims(past);
                    let rounded = length.next_multiple_of(STEP) * head_width;
                    let mut all = vec![0.0; 2 * rounded];
                    self.place_head(past, sequence * pasts / batch, head, &mut all);
                    placed = all;
                    placed.split_at(rounded)
                }
                Source::Placed(placed) => {
                    let [pasts, _, double, _] = dims(placed);
                    let (mine, len) = (sequence * pasts / batch * heads + head, double * head_width);
                    values(placed)[mine * len..][..len].split_at(len / 2)
                }
            };
            let own = rows * head_width;
            let head_of =
                Head { settings: self, width: head_width, q: &q, k: &k[..own], v: &v[..own], past_k, past_v };
            work(head_of, sequence, head)
        };
        (0..batch * heads).into_par_iter().map(head).collect()
    }

    fn forward(&self, qkv: &FlexTensor, source: Source) -> FlexTensor {
        let [batch, rows, triple] = dims(qkv);
        let heads = self.for_each_head(qkv, source, |head, _, _| vec![head.forward()]);
        let out = beside(&heads, self.heads, [rows, 1, self.width()]);
        tensor(out, [batch, rows, triple / 3])
    }

    /// Gradients of every head, from that of the result; the past is of `length` positions.
    fn backward(
        &self,
        qkv: &FlexTensor,
        source: Source,
        length: usize,
        g: &FlexTensor,
    ) -> Vec<HeadGradients> {
        let ([_, rows, triple], head_width) = (dims(qkv), self.width());
        let width = triple / 3;
        self.for_each_head(qkv, source, |head, sequence, index| {
            let all = values(g)[sequence * rows * width..].get(index * head_width..).unwrap_or_default();
            head.backward(&copied(Matrix::strided(all, rows, head_width, width)), length)
        })
    }
}

/// The rows of a matrix, one after the other.
fn copied(matrix: Matrix) -> Vec<f32> {
    let mut out = Vec::with_capacity(matrix.rows() * matrix.columns());
    (0..matrix.rows()).for_each(|row| out.extend_from_slice(matrix.row(row)));
    out
}

impl PastAttentionOp for Flex {
    fn submask_past_attention(qkv: FlexTensor, past: FlexTensor, settings: PastAttention) -> FlexTensor {
        settings.forward(&contiguous(qkv), Source::Packed(&contiguous(past)))
    }

    fn submask_attention_of_blocks(qkv: FlexTensor, settings: PastAttention) -> FlexTensor {
        settings.forward(&contiguous(qkv), Source::Own)
    }
}

impl PlacedAttentionOp for Flex {
    fn submask_place(past: FlexTensor, settings: PastAttention) -> FlexTensor {
        settings.place(&contiguous(past))
    }

    fn submask_placed_attention(qkv: FlexTensor, placed: FlexTensor, settings: PastAttention) -> FlexTensor {
        settings.forward(&contiguous(qkv), Source::Placed(&contiguous(placed)))
    }
}

impl<C: CheckpointStrategy> PastAttentionOp for Autodiff<Flex, C> {
    fn submask_past_attention(
        qkv: FloatTensor<Self>,
        past: FloatTensor<Self>,
        settings: PastAttention,
    ) -> FloatTensor<Self> {
        let nodes = [qkv.node(), past.node()];
        let [qkv, past] = [qkv, past].map(|tensor| contiguous(tensor.into_primitive()));
        let out = settings.forward(&qkv, Source::Packed(&past));
        match PastAttentionBackward.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => {
                assert_eq!(qkv.shape()[0], past.shape()[0], "draws that share a past have no gradients");
                prepared.finish((qkv, past, settings), out)
            }
            OpsKind::UnTracked(prepared) => prepared.finish(out),
        }
    }

    fn submask_attention_of_blocks(qkv: FloatTensor<Self>, settings: PastAttention) -> FloatTensor<Self> {
        let node = qkv.node();
        let qkv = contiguous(qkv.into_primitive());
        let out = settings.forward(&qkv, Source::Own);
        match BlocksBackward.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => prepared.finish((qkv, settings), out),
            OpsKind::UnTracked(prepared) => prepared.finish(out),
        }
    }
}

#[derive(Debug)]
struct PastAttentionBackward;

impl Backward<Flex, 2> for PastAttentionBackward {
    type State = (FlexTensor, FlexTensor, PastAttention);

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let g = contiguous(grads.consume::<Flex>(&ops.node));
        let (qkv, past, settings) = ops.state;
        let [for_qkv, for_past] = ops.parents;
        let ([_, rows, _], [_, length, columns]) = (dims(&qkv), dims(&past));
        let (heads, width) = (settings.heads, settings.width());
        // Packed behind queries, which are not read.
        let parts = columns / heads / width;
        let gradients = settings.backward(&qkv, Source::Packed(&past), length, &g).into_iter();
        let (own, of_past): (Vec<_>, Vec<_>) = gradients
            .map(|HeadGradients { own, mut past }| {
                (2..parts).for_each(|_| past.insert(0, vec![0.0; length * width]));
                (own, past)
            })
            .unzip();
        register!(grads, for_qkv, tensor(beside(&own, heads, [rows, 3, width]), qkv.shape()));
        register!(grads, for_past, tensor(beside(&of_past, heads, [length, parts, width]), past.shape()));
    }
}

#[derive(Debug)]
struct BlocksBackward;

impl Backward<Flex, 1> for BlocksBackward {
    type State = (FlexTensor, PastAttention);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let g = contiguous(grads.consume::<Flex>(&ops.node));
        let (qkv, settings) = ops.state;
        let [for_qkv] = ops.parents;
        let [_, rows, _] = dims(&qkv);
        register!(grads, for_qkv, {
            let gradients = settings.backward(&qkv, Source::Own, rows, &g).into_par_iter();
            let heads: Vec<_> = gradients
                .map(|HeadGradients { mut own, past }| {
                    for (own, past) in own[1..].iter_mut().zip(past) {
                        lanes::add_scaled(own, &past, 1.0);
                    }
                    own
                })
                .collect();
            tensor(beside(&heads, settings.heads, [rows, 3, settings.width()]), qkv.shape())
        });
    }
}
