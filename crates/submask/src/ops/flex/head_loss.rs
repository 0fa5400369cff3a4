//! The output layer and the training loss in one operation, a chunk of rows at a time.

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

use super::gemm::{Matrix, Threads, multiply};
use super::linear::{affine, column_sums};
use super::{buffer, contiguous, dims, register, tensor, values};
use crate::objective::LossRows;
use crate::ops::lanes;

/// Logits that exist at once.
const CHUNK_LOGITS: usize = 1 << 22;

#[backend_extension(Flex, Autodiff)]
pub trait HeadLossOp: burn::backend::Backend {
    fn submask_head_loss(
        hidden: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        rows: Arc<LossRows>,
    ) -> FloatTensor<Self>;
}

/// See [`crate::ops::Kernels::head_loss`].
pub fn head_loss(hidden: Tensor<2>, weight: Tensor<2>, bias: Tensor<1>, rows: Arc<LossRows>) -> Tensor<1> {
    let (hidden, weight, bias) = (hidden.into_dispatch(), weight.into_dispatch(), bias.into_dispatch());
    Tensor::from_dispatch(Dispatch::submask_head_loss(hidden, weight, bias, rows))
}

/// Rows of a chunk: a multiple of 8, so that a chunk's product does not depend on where it begins.
fn chunk_rows(classes: usize) -> usize {
    (CHUNK_LOGITS / classes).next_multiple_of(8).max(8)
}

impl HeadLossOp for Flex {
    fn submask_head_loss(
        hidden: FlexTensor,
        weight: FlexTensor,
        bias: FlexTensor,
        rows: Arc<LossRows>,
    ) -> FlexTensor {
        let [hidden, weight, bias] = [hidden, weight, bias].map(contiguous);
        let ([count, width], classes) = (dims(&hidden), values(&bias).len());
        let mut loss = 0.0;
        for start in (0..count).step_by(chunk_rows(classes)) {
            let end = (start + chunk_rows(classes)).min(count);
            let part = &values(&hidden)[start * width..end * width];
            let mut logits = affine(part, values(&weight), values(&bias), end - start);
            loss += row_losses(&rows, start, &mut logits, classes);
        }
        tensor(vec![loss as f32], [1])
    }
}

/// Σ weight·loss of a chunk; its logits become the gradients.
fn row_losses(rows: &LossRows, start: usize, logits: &mut [f32], classes: usize) -> f64 {
    let losses: Vec<f64> = logits
        .par_chunks_mut(classes)
        .enumerate()
        .map(|(row, logits)| rows.loss_and_gradient(start + row, logits))
        .collect();
    losses.iter().sum()
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
    rows: &LossRows,
) -> (f64, HeadGradients) {
    let ([count, width], classes) = (dims(hidden), values(bias).len());
    let mut d_hidden = buffer(count * width);
    let mut d_weight = buffer(classes * width);
    let mut d_bias = vec![0.0; classes];
    let mut loss = 0.0;
    for start in (0..count).step_by(chunk_rows(classes)) {
        let size = chunk_rows(classes).min(count - start);
        let part = &values(hidden)[start * width..][..size * width];
        let mut logits = affine(part, values(weight), values(bias), size);
        loss += row_losses(rows, start, &mut logits, classes);
        let gradient = Matrix::new(&logits, size, classes);
        let out = &mut d_hidden[start * width..][..size * width];
        multiply(out, width, gradient, Matrix::new(values(weight), classes, width), 1.0, false, Threads::All);
        let part = Matrix::new(part, size, width);
        multiply(&mut d_weight, width, gradient.t(), part, 1.0, start > 0, Threads::All);
        lanes::add_scaled(&mut d_bias, &column_sums(&logits, classes), 1.0);
    }
    let gradients = HeadGradients {
        hidden: tensor(d_hidden, [count, width]),
        weight: tensor(d_weight, [classes, width]),
        bias: tensor(d_bias, [classes]),
    };
    (loss, gradients)
}

impl<C: CheckpointStrategy> HeadLossOp for Autodiff<Flex, C> {
    fn submask_head_loss(
        hidden: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        rows: Arc<LossRows>,
    ) -> FloatTensor<Self> {
        let nodes = [hidden.node(), weight.node(), bias.node()];
        let [hidden, weight, bias] = [hidden, weight, bias].map(|tensor| contiguous(tensor.into_primitive()));
        match HeadLossBackward.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => {
                let (loss, gradients) = loss_with_gradients(&hidden, &weight, &bias, &rows);
                prepared.finish(gradients, tensor(vec![loss as f32], [1]))
            }
            OpsKind::UnTracked(prepared) => {
                prepared.finish(Flex::submask_head_loss(hidden, weight, bias, rows))
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
