//! x·Wᵀ + bias, and its GELU.

use std::mem::MaybeUninit;

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
use super::gemm::{Finish, Matrix, On, finished_product, product};
use super::packed::PackedWeight;
use super::{contiguous, dims, filled, register, room, tensor, values};
use crate::ops::plain::GELU;
use crate::ops::{Precision, lanes};

/// Rows that one task handles where columns are summed.
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

/// With weights of inference, which are packed.
#[backend_extension(Flex)]
pub trait PackedLinearOp: burn::backend::Backend {
    fn submask_packed_linear(x: FloatTensor<Self>, weight: PackedWeight) -> FloatTensor<Self>;
    fn submask_packed_linear_bias(
        x: FloatTensor<Self>,
        weight: PackedWeight,
        bias: FloatTensor<Self>,
        gelu: bool,
    ) -> FloatTensor<Self>;
}

/// [`linear`] without gradients.
pub fn packed_linear(x: Tensor<2>, weight: PackedWeight, bias: Option<Tensor<1>>) -> Tensor<2> {
    let x = x.into_dispatch();
    Tensor::from_dispatch(match bias {
        Some(bias) => Dispatch::submask_packed_linear_bias(x, weight, bias.into_dispatch(), false),
        None => Dispatch::submask_packed_linear(x, weight),
    })
}

/// [`linear_gelu`] without gradients.
pub fn packed_linear_gelu(x: Tensor<2>, weight: PackedWeight, bias: Tensor<1>) -> Tensor<2> {
    let (x, bias) = (x.into_dispatch(), bias.into_dispatch());
    Tensor::from_dispatch(Dispatch::submask_packed_linear_bias(x, weight, bias, true))
}

impl PackedLinearOp for Flex {
    fn submask_packed_linear(x: FlexTensor, weight: PackedWeight) -> FlexTensor {
        packed(x, &weight, None)
    }

    fn submask_packed_linear_bias(
        x: FlexTensor,
        weight: PackedWeight,
        bias: FlexTensor,
        gelu: bool,
    ) -> FlexTensor {
        let bias = contiguous(bias);
        assert_eq!(values(&bias).len(), weight.shape()[0]);
        match gelu {
            true => {
                packed(x, &weight, Some(&|_, column, out| add_bias_and_gelu(out, &values(&bias)[column..])))
            }
            false => packed(x, &weight, Some(&|_, column, out| add_bias(out, &values(&bias)[column..]))),
        }
    }
}

/// Rows of x·Wᵀ, finished.
fn packed(x: FlexTensor, weight: &PackedWeight, finish: Option<Finish>) -> FlexTensor {
    let x = contiguous(x);
    let ([rows, inner], [outer, _]) = (dims(&x), weight.shape());
    let x = Matrix::new(values(&x), rows, inner);
    tensor(finished_product(x, weight, 1.0, On::Pool(weight.precision()), finish), [rows, outer])
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
        let [x, weight, bias] = [x, weight, bias].map(contiguous);
        let ([rows, _], [outer, _]) = (dims(&x), dims(&weight));
        assert_eq!(values(&bias).len(), outer);
        let finish =
            |_: usize, column: usize, out: &mut [f32]| add_bias_and_gelu(out, &values(&bias)[column..]);
        tensor(product_rows(values(&x), matrix(&weight), rows, precision, Some(&finish)), [rows, outer])
    }
}

/// x·Wᵀ + bias, and its GELU.
fn before_and_after_gelu(
    x: &FlexTensor,
    weight: &FlexTensor,
    bias: &FlexTensor,
    precision: Precision,
) -> [Vec<f32>; 2] {
    let ([rows, _], [outer, _]) = (dims(x), dims(weight));
    let mut after = room(rows * outer);
    let shared = Room(after.as_mut_ptr());
    assert_eq!(values(bias).len(), outer);
    let finish = |row: usize, column: usize, before: &mut [f32]| {
        add_bias(before, &values(bias)[column..]);
        // SAFETY: every part of a row is finished once.
        let after = unsafe { shared.part(row * outer + column, before.len()) };
        for_each(
            after,
            before,
            #[inline(always)]
            |after, before| {
                after.write(gelu(before));
            },
        );
    };
    let before = product_rows(values(x), matrix(weight), rows, precision, Some(&finish));
    // SAFETY: all rows are finished.
    [before, unsafe { filled(after) }]
}

/// Room that many write to.
struct Room(*mut MaybeUninit<f32>);

// SAFETY: tasks write disjoint elements.
unsafe impl Sync for Room {}

impl Room {
    /// # Safety
    /// The elements are inside the room, and nobody else uses them.
    unsafe fn part<'a>(&self, start: usize, len: usize) -> &'a mut [MaybeUninit<f32>] {
        // SAFETY: the caller's.
        unsafe { std::slice::from_raw_parts_mut(self.0.add(start), len) }
    }
}

/// Calls `work` with the elements of `x` and as many first ones of `y`.
fn for_each<T>(x: &mut [T], y: &[f32], work: impl Fn(&mut T, f32)) {
    lanes::vectorized(
        #[inline(always)]
        || {
            for (x, y) in x.iter_mut().zip(y) {
                work(x, *y);
            }
        },
    );
}

/// Adds as many first elements of a bias.
fn add_bias(x: &mut [f32], bias: &[f32]) {
    for_each(
        x,
        bias,
        #[inline(always)]
        |x, bias| *x += bias,
    );
}

/// The GELU of [`add_bias`].
fn add_bias_and_gelu(x: &mut [f32], bias: &[f32]) {
    for_each(
        x,
        bias,
        #[inline(always)]
        |x, bias| *x = gelu(*x + bias),
    );
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

/// ½(1 + tanh u) = 1/(1 + e^(−2u)) of GELU's u.
#[inline(always)]
fn gelu_gate(x: f32) -> f32 {
    lanes::sigmoid(2.0 * GELU[0] * (x + GELU[1] * x * x * x))
}

#[inline(always)]
fn gelu(x: f32) -> f32 {
    x * gelu_gate(x)
}

/// Derivative of [`gelu`].
#[inline(always)]
fn gelu_slope(x: f32) -> f32 {
    let gate = gelu_gate(x);
    gate + x * gate * (1.0 - gate) * (2.0 * GELU[0] * (1.0 + 3.0 * GELU[1] * x * x))
}

fn forward(x: FlexTensor, weight: FlexTensor, bias: Option<FlexTensor>, precision: Precision) -> FlexTensor {
    let [x, weight] = [x, weight].map(contiguous);
    let ([rows, _], [outer, _]) = (dims(&x), dims(&weight));
    let out = match bias.map(contiguous) {
        Some(bias) => product_and_bias(values(&x), matrix(&weight), values(&bias), rows, precision),
        None => product_rows(values(&x), matrix(&weight), rows, precision, None),
    };
    tensor(out, [rows, outer])
}

/// The matrix of a contiguous weight.
fn matrix(weight: &FlexTensor) -> Matrix<'_> {
    let [rows, columns] = dims(weight);
    Matrix::new(values(weight), rows, columns)
}

/// Rows of x·Wᵀ + bias, [rows, out]; also the head of [`super::head_loss`].
pub(super) fn affine(x: &[f32], weight: &[f32], bias: &[f32], rows: usize, precision: Precision) -> Vec<f32> {
    let weight = Matrix::new(weight, bias.len(), weight.len() / bias.len());
    product_and_bias(x, weight, bias, rows, precision)
}

fn product_and_bias(x: &[f32], weight: Matrix, bias: &[f32], rows: usize, precision: Precision) -> Vec<f32> {
    assert_eq!(bias.len(), weight.rows());
    let finish = |_: usize, column: usize, out: &mut [f32]| add_bias(out, &bias[column..]);
    product_rows(x, weight, rows, precision, Some(&finish))
}

/// Rows of x·Wᵀ, [rows, out], finished.
fn product_rows(
    x: &[f32],
    weight: Matrix,
    rows: usize,
    precision: Precision,
    finish: Option<Finish>,
) -> Vec<f32> {
    let x = Matrix::new(x, rows, weight.columns());
    finished_product(x, weight.t(), 1.0, On::Pool(precision), finish)
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
                let shape = [dims::<2>(&x)[0], dims::<2>(&weight)[0]];
                let [before, after] =
                    before_and_after_gelu(&x, &weight, &bias, precision).map(|values| tensor(values, shape));
                prepared.finish((x, weight, before), after)
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
