//! Operations for GPUs, of tensor operations that every device has: attention keeps no probabilities for the backward
//! pass, the output layer and the loss exist for some rows at a time, and products may be of bfloat16 numbers.

#[cfg(any(feature = "wgpu", feature = "cuda"))]
use burn::backend::Cube;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, TensorMetadata, backend_extension};
use burn::tensor::{FloatDType, Slice, Tensor, TensorData};

use super::{AttentionMask, Precision, Rotary, RowLoss, plain};

/// Scores of a block of queries, in all sequences and heads together.
const BLOCK_SCORES: usize = 1 << 25;

/// Logits that exist at once in the training loss.
const CHUNK_LOGITS: usize = 1 << 25;

/// x·Wᵀ + bias.
pub fn linear(x: Tensor<2>, weight: Tensor<2>, bias: Option<Tensor<1>>, precision: Precision) -> Tensor<2> {
    if precision != Precision::Bf16 {
        return plain::linear(x, weight, bias);
    }
    let [x, weight] = [x, weight].map(|factor| factor.cast(FloatDType::BF16));
    let product = plain::linear(x, weight, None).cast(FloatDType::F32);
    match bias {
        Some(bias) => product + bias.unsqueeze(),
        None => product,
    }
}

/// See [`super::Kernels::attention`].
pub fn attention(
    qkv: Tensor<3>,
    heads: usize,
    rotary: &Rotary,
    mask: AttentionMask,
    precision: Precision,
) -> Tensor<3> {
    let (first, past) = (0, 0);
    let settings = BlockAttention { mask, first, past, precision, block_scores: BLOCK_SCORES };
    attention_in_blocks(qkv, heads, rotary, settings)
}

/// See [`super::Kernels::attention_with_past`]: of the parts of [`plain::with_placed`].
pub fn attention_with_past(
    parts: [Tensor<4>; 3],
    [past, first]: [usize; 2],
    mask: AttentionMask,
    precision: Precision,
) -> Tensor<3> {
    BlockAttention { mask, first, past, precision, block_scores: BLOCK_SCORES }.run(parts)
}

pub(super) fn attention_in_blocks(
    qkv: Tensor<3>,
    heads: usize,
    rotary: &Rotary,
    settings: BlockAttention,
) -> Tensor<3> {
    settings.run(plain::heads(qkv, heads, rotary, 0))
}

/// What attention in blocks is of, apart from its input.
#[derive(Clone, Copy, Debug)]
pub struct BlockAttention {
    /// Which keys a query reads.
    pub mask: AttentionMask,
    /// The position of the first query.
    pub first: usize,
    /// How many keys, the first ones, are of the past; the others are of the queries' positions.
    pub past: usize,
    /// Of the products.
    pub precision: Precision,
    /// See [`BLOCK_SCORES`].
    pub block_scores: usize,
}

#[backend_extension(Flex, Cube: cfg(any(feature = "wgpu", feature = "cuda")), Autodiff)]
pub trait BlockAttentionOp: Backend {
    /// softmax(qkᵀ)v of q [B, h, n, w], and k and v [B, h, past + n, w].
    fn submask_block_attention(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        settings: BlockAttention,
    ) -> FloatTensor<Self> {
        settings.forward::<Self>(q, k, v)
    }
}

impl BlockAttentionOp for Flex {}

#[cfg(any(feature = "wgpu", feature = "cuda"))]
impl BlockAttentionOp for Cube {}

impl<B: BlockAttentionOp, C: CheckpointStrategy> BlockAttentionOp for Autodiff<B, C> {
    fn submask_block_attention(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        settings: BlockAttention,
    ) -> FloatTensor<Self> {
        let nodes = [q.node(), k.node(), v.node()];
        let [q, k, v] = [q, k, v].map(|tensor| tensor.into_primitive());
        match settings.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => {
                let state = [q.clone(), k.clone(), v.clone()];
                prepared.finish(state, B::submask_block_attention(q, k, v, settings))
            }
            OpsKind::UnTracked(prepared) => prepared.finish(B::submask_block_attention(q, k, v, settings)),
        }
    }
}

/// With p the probabilities and g the gradient of the result: dv = pᵀ·g, and of the scores p∘(g·vᵀ − Σ of each row of
/// p∘(g·vᵀ)), from which dq and dk follow. Each block's probabilities are computed again.
impl<B: BlockAttentionOp> Backward<B, 3> for BlockAttention {
    type State = [FloatTensor<B>; 3];

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let g = grads.consume::<B>(&ops.node);
        let [q, k, v] = ops.state;
        let product = |a, b| product::<B>(a, b, self.precision);
        let (mut dq, mut dk, mut dv) = (Vec::new(), None, None);
        let add = |sum: Option<FloatTensor<B>>, x| {
            Some(match sum {
                Some(sum) => B::float_add(sum, x),
                None => x,
            })
        };
        for (first, count) in self.blocks(&q.shape()) {
            let (q, g) = (rows::<B>(&q, first, count), rows::<B>(&g, first, count));
            let p = self.probabilities::<B>(q.clone(), &k, first);
            dv = add(dv, product(B::float_transpose(p.clone()), g.clone()));
            let dp = product(g, B::float_transpose(v.clone()));
            let mean = B::float_sum_dim(B::float_mul(dp.clone(), p.clone()), 3);
            let scores = B::float_mul(p, B::float_sub(dp, mean));
            dq.push(product(scores.clone(), k.clone()));
            dk = add(dk, product(B::float_transpose(scores), q));
        }
        let gradients = [Some(B::float_cat(dq, 2)), dk, dv];
        for (parent, gradient) in ops.parents.into_iter().zip(gradients) {
            if let (Some(parent), Some(gradient)) = (parent, gradient) {
                grads.register::<B>(parent.id, gradient);
            }
        }
    }
}

impl BlockAttention {
    /// The attention of heads.
    fn run(self, [q, k, v]: [Tensor<4>; 3]) -> Tensor<3> {
        let scale = (q.dims()[3] as f32).sqrt();
        let [q, k, v] = [q / scale, k, v].map(Tensor::into_dispatch);
        plain::join_heads(Tensor::from_dispatch(Dispatch::submask_block_attention(q, k, v, self)))
    }

    /// First rows and lengths of the blocks of queries [B, h, n, w].
    fn blocks(&self, shape: &[usize]) -> impl Iterator<Item = (usize, usize)> + use<> {
        let length = shape[2];
        let scores = shape[0] * shape[1] * (self.past + length);
        let count = (self.block_scores / scores.max(1)).clamp(1, length.max(1));
        (0..length).step_by(count).map(move |first| (first, count.min(length - first)))
    }

    /// softmax(qkᵀ) of the queries from row `first` on.
    fn probabilities<B: Backend>(
        &self,
        q: FloatTensor<B>,
        k: &FloatTensor<B>,
        first: usize,
    ) -> FloatTensor<B> {
        let (count, length) = (q.shape()[2], k.shape()[2]);
        let mut scores = product::<B>(q, B::float_transpose(k.clone()), self.precision);
        if self.past > 0 || self.mask.block_len() < length {
            let unread = (first..first + count).flat_map(|row| {
                (0..length).map(move |column| if self.reads(row, column) { 0.0 } else { f32::NEG_INFINITY })
            });
            let unread = TensorData::new::<f32, _>(unread.collect(), [1, 1, count, length]);
            scores = B::float_add(scores.clone(), B::float_from_data(unread, &scores.device()));
        }
        let largest = B::float_max_dim(scores.clone(), 3);
        let weights = B::float_exp(B::float_sub(scores, largest));
        B::float_div(weights.clone(), B::float_sum_dim(weights, 3))
    }

    /// Whether the query of a row reads the key of a column.
    fn reads(&self, row: usize, column: usize) -> bool {
        match self.past {
            0 => column < self.mask.block_end(self.first + row),
            past => plain::reads(self.mask, self.first, past, row, column),
        }
    }

    fn forward<B: Backend>(self, q: FloatTensor<B>, k: FloatTensor<B>, v: FloatTensor<B>) -> FloatTensor<B> {
        let block = |(first, count)| {
            let p = self.probabilities::<B>(rows::<B>(&q, first, count), &k, first);
            product::<B>(p, v.clone(), self.precision)
        };
        B::float_cat(self.blocks(&q.shape()).map(block).collect(), 2)
    }
}

/// Some rows of [B, h, L, w].
fn rows<B: Backend>(x: &FloatTensor<B>, first: usize, count: usize) -> FloatTensor<B> {
    let [batch, heads, _, width] = x.shape().dims();
    let ranges = [0..batch, 0..heads, first..first + count, 0..width];
    B::float_slice(x.clone(), &ranges.map(Slice::from))
}

/// a·b.
fn product<B: Backend>(a: FloatTensor<B>, b: FloatTensor<B>, precision: Precision) -> FloatTensor<B> {
    match precision {
        Precision::Fp32 | Precision::Tf32 => B::float_matmul(a, b),
        Precision::Bf16 => {
            let [a, b] = [a, b].map(|factor| B::float_cast(factor, FloatDType::BF16));
            B::float_cast(B::float_matmul(a, b), FloatDType::F32)
        }
    }
}

/// See [`super::Kernels::head_loss`]: the gradients by hidden states, weight and bias are known when the loss is, since
/// the loss is one number; the backward pass only scales them.
pub fn head_loss(
    hidden: Tensor<2>,
    weight: Tensor<2>,
    bias: Tensor<1>,
    rows: &dyn RowLoss,
    precision: Precision,
) -> Tensor<1> {
    head_loss_in_chunks(hidden, weight, bias, rows, precision, CHUNK_LOGITS)
}

pub(super) fn head_loss_in_chunks(
    hidden: Tensor<2>,
    weight: Tensor<2>,
    bias: Tensor<1>,
    rows: &dyn RowLoss,
    precision: Precision,
    chunk_logits: usize,
) -> Tensor<1> {
    let size = (chunk_logits / bias.dims()[0]).max(1);
    let composed = rows.composed(&hidden.device());
    let device = hidden.device().inner();
    let loss_of =
        |hidden, weight, bias, chunk| composed(chunk, linear(hidden, weight, Some(bias), precision));
    let chunks = (0..rows.len()).step_by(size).map(|start| start..rows.len().min(start + size));
    let zero = Tensor::<1>::zeros([1], &hidden.device());
    if !hidden.is_autodiff() {
        return chunks.fold(zero, |total, chunk| {
            let hidden = hidden.clone().narrow(0, chunk.start, chunk.len());
            total + loss_of(hidden, weight.clone(), bias.clone(), chunk)
        });
    }
    let (mut loss, mut for_hidden) = (zero, Vec::new());
    let (mut for_weight, mut for_bias) =
        (Tensor::zeros(weight.dims(), &device), Tensor::zeros(bias.dims(), &device));
    let (w, b) = (weight.clone().detach().require_grad(), bias.clone().detach().require_grad());
    for chunk in chunks {
        let h = hidden.clone().narrow(0, chunk.start, chunk.len()).detach().require_grad();
        let part = loss_of(h.clone(), w.clone(), b.clone(), chunk);
        let gradients = part.backward();
        let told = "every leaf is part of the loss";
        loss = loss + part.detach();
        for_hidden.push(h.grad(&gradients).expect(told));
        for_weight = for_weight + w.grad(&gradients).expect(told);
        for_bias = for_bias + b.grad(&gradients).expect(told);
    }
    if !for_hidden.is_empty() {
        loss = loss + zero_with_gradient(hidden, Tensor::cat(for_hidden, 0));
    }
    loss + zero_with_gradient(weight, for_weight) + zero_with_gradient(bias, for_bias)
}

/// Zero, whose gradient by `x` is `gradient`.
fn zero_with_gradient<const D: usize>(x: Tensor<D>, gradient: Tensor<D>) -> Tensor<1> {
    let sum = (x * gradient).sum();
    sum.clone() - sum.detach()
}
