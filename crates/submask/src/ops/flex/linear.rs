//! x·Wᵀ + bias, and its GELU.

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Dispatch, Flex, backend_extension};
use burn::tensor::Tensor;
use burn_flex::FlexTensor;
use rayon::prelude::*;

use super::elementwise::total;
use super::gemm::{Matrix, On, add_product, product};
use super::{contiguous, dims, filled, register, room, tensor, values, write};
use crate::ops::plain::GELU;
use crate::ops::{Precision, lanes};

/// Rows that one task handles after a product.
const ROWS: usize = 64;

#[backend_extension(Flex, Autodiff)]
pub trait LinearOp: burn::backend::Backend {
    fn submask_linear(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        precision: Precision,
    ) -> FloatTensor<Self>;
    fn submask_linear_bias(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        precision: Precision,
    ) -> FloatTensor<Self>;
    fn submask_linear_gelu(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        precision: Precision,
    ) -> FloatTensor<Self>;
}

/// See [`crate::ops::Kernels::linear`].
pub fn linear(x: Tensor<2>, weight: Tensor<2>, bias: Option<Tensor<1>>, precision: Precision) -> Tensor<2> {
    let (x, weight) = (x.into_dispatch(), weight.into_dispatch());
    Tensor::from_dispatch(match bias {
        Some(bias) => Dispatch::submask_linear_bias(x, weight, bias.into_dispatch(), precision),
        None => Dispatch::submask_linear(x, weight, precision),
    })
}

/// See [`crate::ops::Kernels::linear_gelu`].
pub fn linear_gelu(x: Tensor<2>, weight: Tensor<2>, bias: Tensor<1>, precision: Precision) -> Tensor<2> {
    let (x, weight, bias) = (x.into_dispatch(), weight.into_dispatch(), bias.into_dispatch());
    Tensor::from_dispatch(Dispatch::submask_linear_gelu(x, weight, bias, precision))
}

impl LinearOp for Flex {
    fn submask_linear(x: FlexTensor, weight: FlexTensor, precision: Precision) -> FlexTensor {
        forward(x, weight, None, precision)
    }

    fn submask_linear_bias(
        x: FlexTensor,
        weight: FlexTensor,
        bias: FlexTensor,
        precision: Precision,
    ) -> FlexTensor {
        forward(x, weight, Some(bias), precision)
    }

    fn submask_linear_gelu(
        x: FlexTensor,
        weight: FlexTensor,
        bias: FlexTensor,
        precision: Precision,
    ) -> FlexTensor {
        let (x, weight, bias) = (contiguous(x), contiguous(weight), contiguous(bias));
        let ([rows, inner], [outer, _]) = (dims(&x), dims(&weight));
        let mut out = product_rows(values(&x), values(&weight), None, [rows, inner, outer], precision);
        out.par_chunks_mut(ROWS * outer).for_each(|out| {
            lanes::vectorized(
                #[inline(always)]
                || {
                    for out in out.chunks_exact_mut(outer) {
                        for (out, bias) in out.iter_mut().zip(values(&bias)) {
                            *out = gelu(*out + bias);
                        }
                    }
                },
            );
        });
        tensor(out, [rows, outer])
    }
}

/// Adds the bias to the rows `before`, and gives their GELU.
fn biased_gelu(before: &mut [f32], bias: &[f32]) -> Vec<f32> {
    let width = bias.len();
    let mut out = room(before.len());
    out.par_chunks_mut(ROWS * width).zip(before.par_chunks_mut(ROWS * width)).for_each(|(out, before)| {
        lanes::vectorized(
            #[inline(always)]
            || {
                for (out, before) in out.chunks_exact_mut(width).zip(before.chunks_exact_mut(width)) {
                    for (out, (before, bias)) in out.iter_mut().zip(before.iter_mut().zip(bias)) {
                        *before += bias;
                        out.write(gelu(*before));
                    }
                }
            },
        );
    });
    // SAFETY: the chunks of both are as long as each other, and their rows are written whole.
    unsafe { filled(out) }
}

/// The gradient of x·Wᵀ + bias from that of its GELU, and the sums of its columns.
fn gelu_backward(g: &[f32], before: &[f32], width: usize) -> (Vec<f32>, Vec<f32>) {
    let mut out = room(g.len());
    let inputs = before.par_chunks(ROWS * width).zip(g.par_chunks(ROWS * width));
    let sums: Vec<Vec<f32>> = out
        .par_chunks_mut(ROWS * width)
        .zip(inputs)
        .map(|(out, (before, g))| {
            let mut sums = vec![0.0; width];
            let rows = before.chunks_exact(width).zip(g.chunks_exact(width));
            lanes::vectorized(
                #[inline(always)]
                || {
                    for (out, (before, g)) in out.chunks_exact_mut(width).zip(rows) {
                        let elements = sums.iter_mut().zip(before.iter().zip(g));
                        for (out, (sum, (&before, &g))) in out.iter_mut().zip(elements) {
                            let gradient = g * gelu_slope(before);
                            *sum += gradient;
                            out.write(gradient);
                        }
                    }
                },
            );
            sums
        })
        .collect();
    // SAFETY: the chunks of all are as long as each other, and their rows are written whole.
    (unsafe { filled(out) }, total(&sums, width))
}

#[inline(always)]
fn gelu_tanh(x: f32) -> f32 {
    lanes::tanh(GELU[0] * (x + GELU[1] * x * x * x))
}

#[inline(always)]
fn gelu(x: f32) -> f32 {
    0.5 * x * (1.0 + gelu_tanh(x))
}

/// Derivative of [`gelu`].
#[inline(always)]
fn gelu_slope(x: f32) -> f32 {
    let t = gelu_tanh(x);
    0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * GELU[0] * (1.0 + 3.0 * GELU[1] * x * x)
}

fn forward(x: FlexTensor, weight: FlexTensor, bias: Option<FlexTensor>, precision: Precision) -> FlexTensor {
    let (x, weight) = (contiguous(x), contiguous(weight));
    let ([rows, inner], [outer, _]) = (dims(&x), dims(&weight));
    let bias = bias.map(contiguous);
    let bias = bias.as_ref().map(values);
    let out = product_rows(values(&x), values(&weight), bias, [rows, inner, outer], precision);
    tensor(out, [rows, outer])
}

/// Rows of x·Wᵀ + bias, [rows, out]; also the head of [`super::head_loss`].
pub(super) fn affine(x: &[f32], weight: &[f32], bias: &[f32], rows: usize, precision: Precision) -> Vec<f32> {
    product_rows(x, weight, Some(bias), [rows, weight.len() / bias.len(), bias.len()], precision)
}

/// Rows of x·Wᵀ + bias for sizes [rows, in, out].
fn product_rows(
    x: &[f32],
    weight: &[f32],
    bias: Option<&[f32]>,
    [rows, inner, outer]: [usize; 3],
    precision: Precision,
) -> Vec<f32> {
    let pool = On::Pool(precision);
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
            add_product(&mut out, x, weight, pool);
            out
        }
        None => product(x, weight, 1.0, pool),
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
    fn submask_linear(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        precision: Precision,
    ) -> FloatTensor<Self> {
        let nodes = [x.node(), weight.node()];
        let [x, weight] = [x, weight].map(|tensor| contiguous(tensor.into_primitive()));
        match LinearBackward(precision).prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => {
                prepared.finish((x.clone(), weight.clone()), Flex::submask_linear(x, weight, precision))
            }
            OpsKind::UnTracked(prepared) => prepared.finish(Flex::submask_linear(x, weight, precision)),
        }
    }

    fn submask_linear_bias(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        precision: Precision,
    ) -> FloatTensor<Self> {
        let nodes = [x.node(), weight.node(), bias.node()];
        let [x, weight, bias] = [x, weight, bias].map(|tensor| contiguous(tensor.into_primitive()));
        match LinearBackward(precision).prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => {
                let state = (x.clone(), weight.clone());
                prepared.finish(state, Flex::submask_linear_bias(x, weight, bias, precision))
            }
            OpsKind::UnTracked(prepared) => {
                prepared.finish(Flex::submask_linear_bias(x, weight, bias, precision))
            }
        }
    }

    fn submask_linear_gelu(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        precision: Precision,
    ) -> FloatTensor<Self> {
        let nodes = [x.node(), weight.node(), bias.node()];
        let [x, weight, bias] = [x, weight, bias].map(|tensor| contiguous(tensor.into_primitive()));
        match LinearGeluBackward(precision).prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => {
                let ([rows, inner], [outer, _]) = (dims(&x), dims(&weight));
                let sizes = [rows, inner, outer];
                let mut before = product_rows(values(&x), values(&weight), None, sizes, precision);
                let out = biased_gelu(&mut before, values(&bias));
                prepared.finish((x, weight, tensor(before, [rows, outer])), tensor(out, [rows, outer]))
            }
            OpsKind::UnTracked(prepared) => {
                prepared.finish(Flex::submask_linear_gelu(x, weight, bias, precision))
            }
        }
    }
}

/// dx = g·W, dW = gᵀ·x, dbias = Σ_rows g; with two parents there is no bias.
#[derive(Debug)]
struct LinearBackward(Precision);

impl<const N: usize> Backward<Flex, N> for LinearBackward {
    type State = (FlexTensor, FlexTensor);

    fn backward(self, ops: Ops<Self::State, N>, grads: &mut Gradients, _: &mut Checkpointer) {
        let g = contiguous(grads.consume::<Flex>(&ops.node));
        let (x, weight) = ops.state;
        let mut parents = ops.parents.into_iter();
        let mut next = || parents.next().flatten();
        let [outer, _] = dims(&weight);
        register!(grads, next(), by_x(values(&g), &weight, self.0));
        register!(grads, next(), by_weight(values(&g), &x, outer, self.0));
        register!(grads, next(), tensor(column_sums(values(&g), outer), [outer]));
    }
}

/// With g the gradient of x·Wᵀ + bias, by way of the slope of GELU there: those of [`LinearBackward`].
#[derive(Debug)]
struct LinearGeluBackward(Precision);

impl Backward<Flex, 3> for LinearGeluBackward {
    /// x, W, and x·Wᵀ + bias.
    type State = (FlexTensor, FlexTensor, FlexTensor);

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let g = contiguous(grads.consume::<Flex>(&ops.node));
        let (x, weight, before) = ops.state;
        let [outer, _] = dims(&weight);
        let (g, sums) = gelu_backward(values(&g), values(&before), outer);
        let [for_x, for_weight, for_bias] = ops.parents;
        register!(grads, for_x, by_x(&g, &weight, self.0));
        register!(grads, for_weight, by_weight(&g, &x, outer, self.0));
        register!(grads, for_bias, tensor(sums, [outer]));
    }
}

/// The gradient of x from that of x·Wᵀ.
fn by_x(g: &[f32], weight: &FlexTensor, precision: Precision) -> FlexTensor {
    let [outer, inner] = dims(weight);
    let g = Matrix::new(g, g.len() / outer, outer);
    let weight = Matrix::new(values(weight), outer, inner);
    tensor(product(g, weight, 1.0, On::Pool(precision)), [g.rows(), inner])
}

/// The gradient of W, which has `outer` rows, from that of x·Wᵀ.
fn by_weight(g: &[f32], x: &FlexTensor, outer: usize, precision: Precision) -> FlexTensor {
    let [rows, inner] = dims(x);
    let x = Matrix::new(values(x), rows, inner);
    tensor(product(Matrix::new(g, rows, outer).t(), x, 1.0, On::Pool(precision)), [outer, inner])
}

/// Σ over rows; parts of the rows are summed first, so that the number of threads does not matter.
pub(super) fn column_sums(x: &[f32], columns: usize) -> Vec<f32> {
    let parts: Vec<Vec<f32>> = x
        .par_chunks(ROWS * columns)
        .map(|rows| {
            let mut sums = vec![0.0; columns];
            for row in rows.chunks_exact(columns) {
                lanes::add_scaled(&mut sums, row, 1.0);
            }
            sums
        })
        .collect();
    total(&parts, columns)
}
