//! x·Wᵀ + bias, and its GELU.

use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Cube, Dispatch, TensorMetadata, backend_extension};
use burn::tensor::{DType, Tensor};

use super::columns::column_sums;
use super::device::{Array, Launch, Source, contiguous, name_of, room, source};
use super::epilogue::Epilogue;
use super::product::{Matrix, Product, Rows};
use crate::ops::Precision;

pub(super) static SOURCE: Source = source!("linear.cu", "elements.cuh");

/// Threads of a block, and elements of a thread.
const BLOCK: usize = 256;
const WIDTH: usize = 4;

#[backend_extension(Cube, Autodiff)]
pub trait LinearOp: burn::backend::Backend {
    fn submask_cuda_linear(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        precision: Precision,
    ) -> FloatTensor<Self>;
    fn submask_cuda_linear_bias(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        precision: Precision,
    ) -> FloatTensor<Self>;
    fn submask_cuda_linear_gelu(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        precision: Precision,
    ) -> FloatTensor<Self>;
}

/// See [`crate::ops::Kernels::linear`]: of `x` in single precision or, where it is a factor already, in bfloat16.
pub fn linear(x: Tensor<2>, weight: Tensor<2>, bias: Option<Tensor<1>>, precision: Precision) -> Tensor<2> {
    let (x, weight) = (x.into_dispatch(), weight.into_dispatch());
    Tensor::from_dispatch(match bias {
        Some(bias) => Dispatch::submask_cuda_linear_bias(x, weight, bias.into_dispatch(), precision),
        None => Dispatch::submask_cuda_linear(x, weight, precision),
    })
}

/// See [`crate::ops::Kernels::linear_gelu`]. In bf16 the result is rounded to what the next product takes, and so are the
/// bias and, for the backward pass, what GELU takes.
pub fn linear_gelu(x: Tensor<2>, weight: Tensor<2>, bias: Tensor<1>, precision: Precision) -> Tensor<2> {
    let (x, weight, bias) = (x.into_dispatch(), weight.into_dispatch(), bias.into_dispatch());
    Tensor::from_dispatch(Dispatch::submask_cuda_linear_gelu(x, weight, bias, precision))
}

/// `x` as a factor of products in a precision: contiguous, and rounded in bf16.
pub(super) fn factor(x: Array, precision: Precision) -> Array {
    let x = contiguous(x);
    match (precision, x.dtype) {
        (Precision::Bf16, DType::F32) => {
            let out = room(&x, x.shape(), DType::BF16);
            let launch = Launch::new(&SOURCE, "to_bf16").read(&x).write(&out);
            elementwise(launch, &out);
            out
        }
        (Precision::Bf16, DType::BF16) | (Precision::Fp32 | Precision::Tf32, DType::F32) => x,
        (precision, dtype) => panic!("factors of {precision} that are {dtype:?}"),
    }
}

/// Launches a kernel over the elements of `out`, whose number is its last parameter.
fn elementwise(launch: Launch, out: &Array) {
    let count = out.shape().num_elements();
    launch.size(count).run(out, [count.div_ceil(BLOCK * WIDTH), 1, 1], BLOCK);
}

/// x·Wᵀ + bias of factors, in single precision.
pub(super) fn product(x: &Array, weight: &Array, bias: Option<Array>, precision: Precision) -> Array {
    let mut product = Product::new(Matrix::of(x), Matrix::of(weight).transpose(), Rows::Outer, precision);
    if let Some(bias) = bias {
        product.epilogue = Epilogue::Bias(contiguous(bias));
    }
    product.run(DType::F32)
}

/// GELU(x·Wᵀ + bias) of factors, as the next product takes it, and what GELU takes, if `keeps`.
pub(super) fn product_gelu(
    x: &Array,
    weight: &Array,
    bias: Array,
    precision: Precision,
    keeps: bool,
) -> (Array, Option<Array>) {
    // The library's GELU is an approximation that rounding to bfloat16 hides.
    let [rows, columns] = [x.shape()[0], weight.shape()[0]];
    if precision == Precision::Bf16 && columns.is_multiple_of(8) {
        let before = keeps.then(|| room(x, [rows, columns], DType::BF16));
        let bias = factor(bias, precision);
        let product = Product {
            epilogue: Epilogue::BiasGelu { bias, before: before.clone() },
            ..Product::new(Matrix::of(x), Matrix::of(weight).transpose(), Rows::Outer, precision)
        };
        return (product.run(DType::BF16), before);
    }
    let before = product(x, weight, Some(bias), precision);
    let dtype = if precision == Precision::Bf16 { DType::BF16 } else { DType::F32 };
    let out = room(x, [rows, columns], dtype);
    elementwise(
        Launch::new(&SOURCE, "gelu_forward").define("STORED", name_of(dtype)).read(&before).write(&out),
        &out,
    );
    // The backward pass reads it in the type of the result.
    (out, keeps.then(|| factor(before, precision)))
}

impl LinearOp for Cube {
    fn submask_cuda_linear(x: Array, weight: Array, precision: Precision) -> Array {
        product(&factor(x, precision), &factor(weight, precision), None, precision)
    }

    fn submask_cuda_linear_bias(x: Array, weight: Array, bias: Array, precision: Precision) -> Array {
        product(&factor(x, precision), &factor(weight, precision), Some(bias), precision)
    }

    fn submask_cuda_linear_gelu(x: Array, weight: Array, bias: Array, precision: Precision) -> Array {
        product_gelu(&factor(x, precision), &factor(weight, precision), bias, precision, false).0
    }
}

impl<C: CheckpointStrategy> LinearOp for Autodiff<Cube, C> {
    fn submask_cuda_linear(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        precision: Precision,
    ) -> FloatTensor<Self> {
        let nodes = [x.node(), weight.node()];
        let [x, weight] = [x, weight].map(|tensor| factor(tensor.into_primitive(), precision));
        match LinearBackward.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => {
                let out = product(&x, &weight, None, precision);
                prepared.finish(State { x, weight, before: None, precision }, out)
            }
            OpsKind::UnTracked(prepared) => prepared.finish(product(&x, &weight, None, precision)),
        }
    }

    fn submask_cuda_linear_bias(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        precision: Precision,
    ) -> FloatTensor<Self> {
        let nodes = [x.node(), weight.node(), bias.node()];
        let [x, weight] = [x, weight].map(|tensor| factor(tensor.into_primitive(), precision));
        let out = product(&x, &weight, Some(bias.into_primitive()), precision);
        match LinearBackward.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => prepared.finish(State { x, weight, before: None, precision }, out),
            OpsKind::UnTracked(prepared) => prepared.finish(out),
        }
    }

    fn submask_cuda_linear_gelu(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        precision: Precision,
    ) -> FloatTensor<Self> {
        let nodes = [x.node(), weight.node(), bias.node()];
        let [x, weight] = [x, weight].map(|tensor| factor(tensor.into_primitive(), precision));
        let bias = bias.into_primitive();
        match LinearBackward.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => {
                let (out, before) = product_gelu(&x, &weight, bias, precision, true);
                prepared.finish(State { x, weight, before, precision }, out)
            }
            OpsKind::UnTracked(prepared) => {
                prepared.finish(product_gelu(&x, &weight, bias, precision, false).0)
            }
        }
    }
}

/// With g the gradient of the result, times GELU's derivative where there is one: dx = g·W, dW = gᵀ·x, and dbias the sums
/// of g's columns, in bf16 of rounded ones.
#[derive(Debug)]
struct LinearBackward;

/// Factors, and what GELU takes.
#[derive(Clone, Debug)]
struct State {
    x: Array,
    weight: Array,
    before: Option<Array>,
    precision: Precision,
}

impl<const N: usize> Backward<Cube, N> for LinearBackward {
    type State = State;

    fn backward(self, ops: Ops<State, N>, grads: &mut Gradients, _: &mut Checkpointer) {
        let State { x, weight, before, precision } = ops.state;
        let g = contiguous(grads.consume::<Cube>(&ops.node));
        let g = match before {
            Some(before) => {
                let out = room(&g, g.shape(), before.dtype);
                let launch = Launch::new(&SOURCE, "gelu_backward")
                    .define("STORED", name_of(before.dtype))
                    .define("UPSTREAM", name_of(g.dtype));
                elementwise(launch.read(&g).read(&before).write(&out), &out);
                out
            }
            None => g,
        };
        let g = factor(g, precision);
        let mut parents = ops.parents.into_iter().map(|parent| parent.map(|node| node.id));
        let [for_x, for_weight, for_bias] = [(); 3].map(|()| parents.next().flatten());
        if let Some(parent) = for_x {
            let product = Product::new(Matrix::of(&g), Matrix::of(&weight), Rows::Outer, precision);
            grads.register::<Cube>(parent, product.run(DType::F32));
        }
        register_weight(grads, &g, &x, [for_weight, for_bias], precision);
    }
}

/// Registers, of x·Wᵀ + bias given its gradient, those of the weight and of the bias, where these are asked for.
pub(super) fn register_weight(
    grads: &mut Gradients,
    g: &Array,
    x: &Array,
    [weight, bias]: [Option<NodeId>; 2],
    precision: Precision,
) {
    let Some(weight) = weight else {
        if let Some(bias) = bias {
            grads.register::<Cube>(bias, column_sums(g));
        }
        return;
    };
    let mut product = Product::new(Matrix::of(g).transpose(), Matrix::of(x), Rows::Inner, precision);
    let sums = bias.is_some().then(|| match (precision, g.shape()[0]) {
        // The library adds up rounded numbers alone.
        (Precision::Bf16, 1..) => {
            let sums = room(g, [g.shape()[1]], DType::F32);
            product.epilogue = Epilogue::BiasGradient { sums: sums.clone() };
            sums
        }
        _ => column_sums(g),
    });
    // The product comes first: to register is to add where there is a gradient, and reads the sums.
    grads.register::<Cube>(weight, product.run(DType::F32));
    if let Some((bias, sums)) = bias.zip(sums) {
        grads.register::<Cube>(bias, sums);
    }
}
