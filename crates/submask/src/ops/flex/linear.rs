//! x·Wᵀ + bias.

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Dispatch, Flex, backend_extension};
use burn::tensor::Tensor;
use burn_flex::FlexTensor;
use rayon::prelude::*;

use super::gemm::{Matrix, Threads, add_product, product};
use super::{contiguous, dims, filled, register, room, tensor, values, write};
use crate::ops::lanes;

#[backend_extension(Flex, Autodiff)]
pub trait LinearOp: burn::backend::Backend {
    fn submask_linear(x: FloatTensor<Self>, weight: FloatTensor<Self>) -> FloatTensor<Self>;
    fn submask_linear_bias(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
    ) -> FloatTensor<Self>;
}

/// See [`crate::ops::Kernels::linear`].
pub fn linear(x: Tensor<2>, weight: Tensor<2>, bias: Option<Tensor<1>>) -> Tensor<2> {
    let (x, weight) = (x.into_dispatch(), weight.into_dispatch());
    Tensor::from_dispatch(match bias {
        Some(bias) => Dispatch::submask_linear_bias(x, weight, bias.into_dispatch()),
        None => Dispatch::submask_linear(x, weight),
    })
}

impl LinearOp for Flex {
    fn submask_linear(x: FlexTensor, weight: FlexTensor) -> FlexTensor {
        forward(x, weight, None)
    }

    fn submask_linear_bias(x: FlexTensor, weight: FlexTensor, bias: FlexTensor) -> FlexTensor {
        forward(x, weight, Some(bias))
    }
}

fn forward(x: FlexTensor, weight: FlexTensor, bias: Option<FlexTensor>) -> FlexTensor {
    let (x, weight) = (contiguous(x), contiguous(weight));
    let ([rows, inner], [outer, _]) = (dims(&x), dims(&weight));
    let bias = bias.map(contiguous);
    let out = product_rows(values(&x), values(&weight), bias.as_ref().map(values), [rows, inner, outer]);
    tensor(out, [rows, outer])
}

/// Rows of x·Wᵀ + bias, [rows, out]; also the head of [`super::head_loss`].
pub(super) fn affine(x: &[f32], weight: &[f32], bias: &[f32], rows: usize) -> Vec<f32> {
    product_rows(x, weight, Some(bias), [rows, weight.len() / bias.len(), bias.len()])
}

/// Rows of x·Wᵀ + bias for sizes [rows, in, out].
fn product_rows(
    x: &[f32],
    weight: &[f32],
    bias: Option<&[f32]>,
    [rows, inner, outer]: [usize; 3],
) -> Vec<f32> {
    let weight = Matrix::new(weight, outer, inner).t();
    let least = min_rows(inner, outer);
    let padded;
    let x = match (1..least).contains(&rows) {
        true => {
            padded = [&x[..rows * inner], &vec![0.0; (least - rows) * inner]].concat();
            Matrix::new(&padded, least, inner)
        }
        false => Matrix::new(x, rows, inner),
    };
    let mut out = match bias {
        Some(bias) => {
            let mut out = repeated(bias, x.rows());
            add_product(&mut out, x, weight, Threads::All);
            out
        }
        None => product(x, weight, 1.0, Threads::All),
    };
    out.truncate(rows * outer);
    out
}

/// So many copies of a row.
fn repeated(row: &[f32], count: usize) -> Vec<f32> {
    let mut out = room(count * row.len());
    out.par_chunks_mut(row.len()).for_each(|out| write(out, row));
    // SAFETY: the chunks are written whole.
    unsafe { filled(out) }
}

/// Fewest rows that are multiplied at once. The library takes other paths, in which the last bits of a row differ
/// from those of the same row in a larger batch: for results of at most 256 elements, for very few rows, and for at
/// most 64 × 64 results of inner dimensions above 512.
fn min_rows(inner: usize, outer: usize) -> usize {
    let beyond_tiny = 256 / outer + 1;
    let beyond_small = if outer <= 64 && inner > 512 { 65 } else { 8 };
    beyond_tiny.max(beyond_small)
}

impl<C: CheckpointStrategy> LinearOp for Autodiff<Flex, C> {
    fn submask_linear(x: FloatTensor<Self>, weight: FloatTensor<Self>) -> FloatTensor<Self> {
        match LinearBackward.prepare::<C>([x.node(), weight.node()]).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => {
                let state = (contiguous(x.into_primitive()), contiguous(weight.into_primitive()));
                prepared.finish(state.clone(), Flex::submask_linear(state.0, state.1))
            }
            OpsKind::UnTracked(prepared) => {
                prepared.finish(Flex::submask_linear(x.into_primitive(), weight.into_primitive()))
            }
        }
    }

    fn submask_linear_bias(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let nodes = [x.node(), weight.node(), bias.node()];
        let bias = bias.into_primitive();
        match LinearBackward.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => {
                let state = (contiguous(x.into_primitive()), contiguous(weight.into_primitive()));
                prepared.finish(state.clone(), Flex::submask_linear_bias(state.0, state.1, bias))
            }
            OpsKind::UnTracked(prepared) => {
                prepared.finish(Flex::submask_linear_bias(x.into_primitive(), weight.into_primitive(), bias))
            }
        }
    }
}

/// dx = g·W, dW = gᵀ·x, dbias = Σ_rows g; with two parents there is no bias.
#[derive(Debug)]
struct LinearBackward;

impl<const N: usize> Backward<Flex, N> for LinearBackward {
    type State = (FlexTensor, FlexTensor);

    fn backward(self, ops: Ops<Self::State, N>, grads: &mut Gradients, _: &mut Checkpointer) {
        let g = contiguous(grads.consume::<Flex>(&ops.node));
        let (x, weight) = ops.state;
        let ([rows, inner], [outer, _]) = (dims(&x), dims(&weight));
        let mut parents = ops.parents.into_iter();
        let g_matrix = Matrix::new(values(&g), rows, outer);
        register!(grads, parents.next().flatten(), {
            let weight = Matrix::new(values(&weight), outer, inner);
            tensor(product(g_matrix, weight, 1.0, Threads::All), [rows, inner])
        });
        register!(grads, parents.next().flatten(), {
            let x = Matrix::new(values(&x), rows, inner);
            tensor(product(g_matrix.t(), x, 1.0, Threads::All), [outer, inner])
        });
        register!(grads, parents.next().flatten(), tensor(column_sums(values(&g), outer), [outer]));
    }
}

/// Σ over rows, in row order.
pub(super) fn column_sums(x: &[f32], columns: usize) -> Vec<f32> {
    let mut sums = vec![0.0; columns];
    for row in x.chunks_exact(columns) {
        lanes::add_scaled(&mut sums, row, 1.0);
    }
    sums
}
