//! The output layer and the training loss in one operation. Logits exist for a chunk of rows at a time, and where
//! visible digits leave few tokens possible, of those tokens only.

use std::borrow::Cow;
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

use super::gemm::{Matrix, On, add_product, product, product_to};
use super::linear::{affine, column_sums};
use super::{contiguous, dims, register, tensor, values};
use crate::ops::{Precision, RowLoss, lanes};

/// Logits that exist at once.
const CHUNK_LOGITS: usize = 1 << 22;

/// A support is small if it has at most one token in so many: then fewer products outweigh that they are not made in
/// blocks.
const NARROW: usize = 12;

/// Tokens whose gradients one task adds up.
const TOKENS: usize = 512;

#[backend_extension(Flex, Autodiff)]
pub trait HeadLossOp: burn::backend::Backend {
    fn submask_head_loss(
        hidden: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        rows: Arc<dyn RowLoss>,
        precision: Precision,
    ) -> FloatTensor<Self>;
}

/// See [`crate::ops::Kernels::head_loss`].
pub fn head_loss(
    hidden: Tensor<2>,
    weight: Tensor<2>,
    bias: Tensor<1>,
    rows: Arc<dyn RowLoss>,
    precision: Precision,
) -> Tensor<1> {
    let (hidden, weight, bias) = (hidden.into_dispatch(), weight.into_dispatch(), bias.into_dispatch());
    Tensor::from_dispatch(Dispatch::submask_head_loss(hidden, weight, bias, rows, precision))
}

/// Rows of a chunk.
fn chunk_rows(classes: usize) -> usize {
    (CHUNK_LOGITS / classes).next_multiple_of(8).max(8)
}

impl HeadLossOp for Flex {
    fn submask_head_loss(
        hidden: FlexTensor,
        weight: FlexTensor,
        bias: FlexTensor,
        rows: Arc<dyn RowLoss>,
        precision: Precision,
    ) -> FlexTensor {
        let [hidden, weight, bias] = [hidden, weight, bias].map(contiguous);
        tensor(vec![loss_with_gradients(&hidden, &weight, &bias, &*rows, precision).0 as f32], [1])
    }
}

/// Gradients of the loss by hidden states, weight and bias: known when the loss is, since the loss is one
/// number; the backward pass only scales them.
#[derive(Clone, Debug)]
struct HeadGradients {
    hidden: FlexTensor,
    weight: FlexTensor,
    bias: FlexTensor,
}

fn loss_with_gradients(
    hidden: &FlexTensor,
    weight: &FlexTensor,
    bias: &FlexTensor,
    rows: &dyn RowLoss,
    precision: Precision,
) -> (f64, HeadGradients) {
    let ([count, width], classes) = (dims(hidden), values(bias).len());
    let (states, weights, biases) = (values(hidden), values(weight), values(bias));
    let head = Head { width, hidden: states, weight: weights, bias: biases, rows, precision };
    let mut gradients =
        Gradient { hidden: vec![0.0; count * width], weight: Vec::new(), bias: vec![0.0; classes] };
    let (wide, narrow) = head.split();
    let loss = head.add_wide(&wide, &mut gradients) + head.add_narrow(&narrow, &mut gradients);
    let gradients = HeadGradients {
        hidden: tensor(gradients.hidden, [count, width]),
        weight: tensor(gradients.weight, [classes, width]),
        bias: tensor(gradients.bias, [classes]),
    };
    (loss, gradients)
}

/// The output layer, the hidden states of the rows, and the rows.
struct Head<'a> {
    width: usize,
    /// Hidden states of the rows, [n, d].
    hidden: &'a [f32],
    /// Weight of the output layer, [C, d].
    weight: &'a [f32],
    /// Bias of the output layer, \[C\].
    bias: &'a [f32],
    rows: &'a dyn RowLoss,
    /// Of the products of wide rows.
    precision: Precision,
}

/// Gradients by hidden states, weight and bias, of the shapes of these.
struct Gradient {
    hidden: Vec<f32>,
    weight: Vec<f32>,
    bias: Vec<f32>,
}

/// Rows of one small support, and what becomes of them.
struct Narrow {
    rows: Vec<usize>,
    /// The support, in increasing order.
    tokens: Vec<u32>,
}

/// The loss of the rows of a [`Narrow`], and its gradients by their logits [n, tokens] and hidden states [n, d].
struct NarrowLoss {
    loss: f64,
    logits: Vec<f32>,
    hidden: Vec<f32>,
}

impl Head<'_> {
    fn row(&self, row: usize) -> &[f32] {
        &self.hidden[row * self.width..][..self.width]
    }

    /// Hidden states of rows, [n, d]; `rows` is not empty.
    fn rows_of(&self, rows: &[usize]) -> Cow<'_, [f32]> {
        if are_consecutive(rows) {
            return Cow::Borrowed(&self.hidden[rows[0] * self.width..][..rows.len() * self.width]);
        }
        let mut found = Vec::with_capacity(rows.len() * self.width);
        rows.iter().for_each(|&row| found.extend_from_slice(self.row(row)));
        Cow::Owned(found)
    }

    fn token(&self, token: u32) -> &[f32] {
        &self.weight[token as usize * self.width..][..self.width]
    }

    /// Rows that may be any token or one of many, which matrix products suit, and rows of supports that are small
    /// enough to be gone through one by one.
    fn split(&self) -> (Vec<usize>, Vec<Narrow>) {
        let (mut wide, mut narrow) = (Vec::new(), Vec::new());
        for rows in self.rows.group_by_support() {
            let support = self.rows.support(rows[0]);
            if support.len() * NARROW > self.bias.len() {
                wide.extend(rows);
                continue;
            }
            let mut tokens = Vec::with_capacity(support.len());
            support.for_each(|x| tokens.push(x as u32));
            narrow.push(Narrow { rows, tokens });
        }
        wide.sort_unstable();
        (wide, narrow)
    }

    /// Adds the loss of wide rows, a chunk of them at a time.
    fn add_wide(&self, wide: &[usize], gradient: &mut Gradient) -> f64 {
        let (width, classes, pool) = (self.width, self.bias.len(), On::Pool(self.precision));
        let mut loss = 0.0;
        for (index, rows) in wide.chunks(chunk_rows(classes)).enumerate() {
            let hidden = self.rows_of(rows);
            let mut logits = affine(&hidden, self.weight, self.bias, rows.len(), self.precision);
            let losses: Vec<f64> = logits
                .par_chunks_mut(classes)
                .zip(rows)
                .map(|(logits, &row)| self.rows.loss_and_gradient(row, logits))
                .collect();
            loss += losses.iter().sum::<f64>();
            let by_logits = Matrix::new(&logits, rows.len(), classes);
            let weight = Matrix::new(self.weight, classes, width);
            if are_consecutive(rows) {
                let place = &mut gradient.hidden[rows[0] * width..][..rows.len() * width];
                product_to(place, by_logits, weight, 1.0, pool);
            } else {
                let by_hidden = product(by_logits, weight, 1.0, pool);
                for (&row, values) in rows.iter().zip(by_hidden.chunks_exact(width)) {
                    gradient.hidden[row * width..][..width].copy_from_slice(values);
                }
            }
            let hidden = Matrix::new(&hidden, rows.len(), width);
            match index {
                0 => gradient.weight = product(by_logits.t(), hidden, 1.0, pool),
                _ => add_product(&mut gradient.weight, by_logits.t(), hidden, pool),
            }
            lanes::add_scaled(&mut gradient.bias, &column_sums(&logits, classes), 1.0);
        }
        loss
    }

    /// Adds the loss of narrow rows: products of single rows of hidden states and weights.
    fn add_narrow(&self, narrow: &[Narrow], gradient: &mut Gradient) -> f64 {
        let width = self.width;
        // Zeros where there is no wide row.
        gradient.weight.resize(self.weight.len(), 0.0);
        let found: Vec<NarrowLoss> = narrow.par_iter().map(|narrow| self.narrow_loss(narrow)).collect();
        for (narrow, found) in narrow.iter().zip(&found) {
            for (&row, values) in narrow.rows.iter().zip(found.hidden.chunks_exact(width)) {
                gradient.hidden[row * width..][..width].copy_from_slice(values);
            }
        }
        let by_token = gradient.weight.par_chunks_mut(TOKENS * width);
        by_token.zip(gradient.bias.par_chunks_mut(TOKENS)).enumerate().for_each(|(chunk, (weight, bias))| {
            let start = (chunk * TOKENS) as u32;
            for (narrow, found) in narrow.iter().zip(&found) {
                lanes::vectorized(
                    #[inline(always)]
                    || self.add_tokens(narrow, found, start, weight, bias),
                );
            }
        });
        found.iter().map(|found| found.loss).sum()
    }

    fn narrow_loss(&self, narrow: &Narrow) -> NarrowLoss {
        let (count, width) = (narrow.tokens.len(), self.width);
        let mut logits = vec![0.0; narrow.rows.len() * count];
        lanes::vectorized(
            #[inline(always)]
            || {
                for (i, &token) in narrow.tokens.iter().enumerate() {
                    let (weight, bias) = (self.token(token), self.bias[token as usize]);
                    for (&row, logits) in narrow.rows.iter().zip(logits.chunks_exact_mut(count)) {
                        logits[i] = lanes::dot(self.row(row), weight) + bias;
                    }
                }
            },
        );
        let losses = narrow.rows.iter().zip(logits.chunks_exact_mut(count));
        let losses =
            losses.map(|(&row, logits)| self.rows.loss_and_gradient_within(row, &narrow.tokens, logits));
        let loss = losses.sum();
        let mut hidden = vec![0.0; narrow.rows.len() * width];
        lanes::vectorized(
            #[inline(always)]
            || {
                for (i, &token) in narrow.tokens.iter().enumerate() {
                    let rows = hidden.chunks_exact_mut(width).zip(logits.chunks_exact(count));
                    for (hidden, logits) in rows {
                        lanes::add_scaled(hidden, self.token(token), logits[i]);
                    }
                }
            },
        );
        NarrowLoss { loss, logits, hidden }
    }

    /// Adds the gradients by the rows of the weight and the elements of the bias from token `start` on.
    #[inline(always)]
    fn add_tokens(
        &self,
        narrow: &Narrow,
        found: &NarrowLoss,
        start: u32,
        weight: &mut [f32],
        bias: &mut [f32],
    ) {
        let count = narrow.tokens.len();
        let first = narrow.tokens.partition_point(|&token| token < start);
        for (i, &token) in narrow.tokens.iter().enumerate().skip(first) {
            let place = (token - start) as usize;
            if place >= bias.len() {
                break;
            }
            let weight = &mut weight[place * self.width..][..self.width];
            for (&row, logits) in narrow.rows.iter().zip(found.logits.chunks_exact(count)) {
                lanes::add_scaled(weight, self.row(row), logits[i]);
                bias[place] += logits[i];
            }
        }
    }
}

/// Whether each number is followed by the next.
fn are_consecutive(rows: &[usize]) -> bool {
    rows.is_sorted_by(|a, b| a + 1 == *b)
}

impl<C: CheckpointStrategy> HeadLossOp for Autodiff<Flex, C> {
    fn submask_head_loss(
        hidden: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        rows: Arc<dyn RowLoss>,
        precision: Precision,
    ) -> FloatTensor<Self> {
        let nodes = [hidden.node(), weight.node(), bias.node()];
        let [hidden, weight, bias] = [hidden, weight, bias].map(|tensor| contiguous(tensor.into_primitive()));
        match HeadLossBackward.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => {
                let (loss, gradients) = loss_with_gradients(&hidden, &weight, &bias, &*rows, precision);
                prepared.finish(gradients, tensor(vec![loss as f32], [1]))
            }
            OpsKind::UnTracked(prepared) => {
                prepared.finish(Flex::submask_head_loss(hidden, weight, bias, rows, precision))
            }
        }
    }
}

#[derive(Debug)]
struct HeadLossBackward;

impl Backward<Flex, 3> for HeadLossBackward {
    type State = HeadGradients;

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let upstream = values(&contiguous(grads.consume::<Flex>(&ops.node)))[0];
        let HeadGradients { hidden, weight, bias } = ops.state;
        for (parent, gradient) in ops.parents.into_iter().zip([hidden, weight, bias]) {
            register!(grads, parent, scaled(gradient, upstream));
        }
    }
}

fn scaled(mut x: FlexTensor, factor: f32) -> FlexTensor {
    if factor != 1.0 {
        x.storage_mut::<f32>().iter_mut().for_each(|x| *x *= factor);
    }
    x
}
