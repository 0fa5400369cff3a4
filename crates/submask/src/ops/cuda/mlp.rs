//! Two linear layers with GELU between them, so that GELU's derivative is taken where the gradient that needs it is written.

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Cube, Dispatch, backend_extension};
use burn::tensor::{DType, Tensor};

use super::device::{Array, contiguous};
use super::epilogue::Epilogue;
use super::linear::{factor, linear, linear_gelu, product, product_gelu, register_weight};
use super::product::{Matrix, Product, Rows};
use crate::ops::Precision;

const BF16: Precision = Precision::Bf16;

#[backend_extension(Cube, Autodiff)]
pub trait MlpOp: Backend {
    fn submask_cuda_mlp(
        x: FloatTensor<Self>,
        first: FloatTensor<Self>,
        first_bias: FloatTensor<Self>,
        second: FloatTensor<Self>,
        second_bias: FloatTensor<Self>,
    ) -> FloatTensor<Self>;
}

/// See [`crate::ops::Kernels::mlp`].
pub fn mlp(x: Tensor<2>, layers: [(Tensor<2>, Tensor<1>); 2], precision: Precision) -> Tensor<2> {
    let [(first, first_bias), (second, second_bias)] = layers;
    // GELU is the library's in bf16 alone, of rows whose lengths it takes.
    if precision != BF16 || !first.dims()[0].is_multiple_of(8) {
        return linear(linear_gelu(x, first, first_bias, precision), second, Some(second_bias), precision);
    }
    Tensor::from_dispatch(Dispatch::submask_cuda_mlp(
        x.into_dispatch(),
        first.into_dispatch(),
        first_bias.into_dispatch(),
        second.into_dispatch(),
        second_bias.into_dispatch(),
    ))
}

impl MlpOp for Cube {
    fn submask_cuda_mlp(
        x: Array,
        first: Array,
        first_bias: Array,
        second: Array,
        second_bias: Array,
    ) -> Array {
        let [x, first, second] = [x, first, second].map(|array| factor(array, BF16));
        let (hidden, _) = product_gelu(&x, &first, first_bias, BF16, false);
        product(&hidden, &second, Some(second_bias), BF16)
    }
}

impl<C: CheckpointStrategy> MlpOp for Autodiff<Cube, C> {
    fn submask_cuda_mlp(
        x: FloatTensor<Self>,
        first: FloatTensor<Self>,
        first_bias: FloatTensor<Self>,
        second: FloatTensor<Self>,
        second_bias: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let nodes = [x.node(), first.node(), first_bias.node(), second.node(), second_bias.node()];
        let [x, first, second] = [x, first, second].map(|tensor| factor(tensor.into_primitive(), BF16));
        let (hidden, before) = product_gelu(&x, &first, first_bias.into_primitive(), BF16, true);
        let out = product(&hidden, &second, Some(second_bias.into_primitive()), BF16);
        match MlpBackward.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => prepared.finish(State { x, first, second, before, hidden }, out),
            OpsKind::UnTracked(prepared) => prepared.finish(out),
        }
    }
}

/// With g the gradient of the result and h = GELU(a): dW₂ = gᵀ·h, da = (g·W₂)·GELU'(a), dW₁ = daᵀ·x, dx = da·W₁, and the
/// biases' are the sums of the columns of g and of da.
#[derive(Debug)]
struct MlpBackward;

/// Factors, and what GELU takes and gives.
#[derive(Clone, Debug)]
struct State {
    x: Array,
    first: Array,
    second: Array,
    before: Option<Array>,
    hidden: Array,
}

impl Backward<Cube, 5> for MlpBackward {
    type State = State;

    fn backward(self, ops: Ops<State, 5>, grads: &mut Gradients, _: &mut Checkpointer) {
        let State { x, first, second, before, hidden } = ops.state;
        let [for_x, for_first, for_first_bias, for_second, for_second_bias] =
            ops.parents.map(|parent| parent.map(|node| node.id));
        let g = factor(contiguous(grads.consume::<Cube>(&ops.node)), BF16);
        register_weight(grads, &g, &hidden, [for_second, for_second_bias], BF16);
        let Some(before) = before else { return };
        let product = Product {
            epilogue: Epilogue::GeluGradient { before },
            ..Product::new(Matrix::of(&g), Matrix::of(&second), Rows::Outer, BF16)
        };
        let g = product.run(DType::BF16);
        register_weight(grads, &g, &x, [for_first, for_first_bias], BF16);
        if let Some(parent) = for_x {
            let product = Product::new(Matrix::of(&g), Matrix::of(&first), Rows::Outer, BF16);
            grads.register::<Cube>(parent, product.run(DType::F32));
        }
    }
}
