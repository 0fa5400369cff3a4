//! SiLU, and the gate of SwiGLU.

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Cube, Dispatch, TensorMetadata, backend_extension};
use burn::tensor::{DType, Tensor};

use super::device::{Array, Launch, Source, contiguous, name_of, room, source};
use super::rows::factor_type;
use crate::ops::Precision;

static SOURCE: Source = source!("swiglu.cu", "elements.cuh");

/// Threads of a block, and elements of a thread.
const BLOCK: usize = 256;
const ELEMENTS: usize = 4;

#[backend_extension(Cube, Autodiff)]
pub trait SwigluOp: Backend {
    fn submask_cuda_swiglu(
        gate: FloatTensor<Self>,
        x: FloatTensor<Self>,
        precision: Precision,
    ) -> FloatTensor<Self>;
    fn submask_cuda_silu(x: FloatTensor<Self>, precision: Precision) -> FloatTensor<Self>;
}

/// See [`crate::ops::Kernels::swiglu`]: of two results of linear layers, of one type. In bf16 the result is rounded to what the
/// next product takes, and the gradients to what the products of the backward pass take.
pub fn swiglu(gate: Tensor<2>, x: Tensor<2>, precision: Precision) -> Tensor<2> {
    Tensor::from_dispatch(Dispatch::submask_cuda_swiglu(gate.into_dispatch(), x.into_dispatch(), precision))
}

/// See [`crate::ops::Kernels::silu`]: types are as above.
pub fn silu(x: Tensor<2>, precision: Precision) -> Tensor<2> {
    Tensor::from_dispatch(Dispatch::submask_cuda_silu(x.into_dispatch(), precision))
}

/// A launch of a kernel with its last argument to come: the number of elements.
fn launch(name: &'static str, input: DType, factor: DType, upstream: DType) -> Launch {
    let launch = Launch::new(&SOURCE, name).define("INPUT", name_of(input));
    launch
        .define("RESULT", name_of(factor))
        .define("UPSTREAM", name_of(upstream))
        .define("GRADIENT", name_of(factor))
}

fn run(launch: Launch, on: &Array) {
    let count = on.shape().num_elements();
    launch.size(count).run(on, [count.div_ceil(BLOCK * ELEMENTS), 1, 1], BLOCK);
}

fn forward(gate: &Array, x: &Array, precision: Precision) -> Array {
    assert_eq!((gate.shape(), gate.dtype), (x.shape(), x.dtype));
    let out = room(x, x.shape(), factor_type(precision));
    run(launch("swiglu", x.dtype, out.dtype, DType::F32).read(gate).read(x).write(&out), &out);
    out
}

fn silu_of(x: &Array, precision: Precision) -> Array {
    let out = room(x, x.shape(), factor_type(precision));
    run(launch("silu", x.dtype, out.dtype, DType::F32).read(x).write(&out), &out);
    out
}

impl SwigluOp for Cube {
    fn submask_cuda_swiglu(gate: Array, x: Array, precision: Precision) -> Array {
        forward(&contiguous(gate), &contiguous(x), precision)
    }

    fn submask_cuda_silu(x: Array, precision: Precision) -> Array {
        silu_of(&contiguous(x), precision)
    }
}

impl<C: CheckpointStrategy> SwigluOp for Autodiff<Cube, C> {
    fn submask_cuda_swiglu(
        gate: FloatTensor<Self>,
        x: FloatTensor<Self>,
        precision: Precision,
    ) -> FloatTensor<Self> {
        let nodes = [gate.node(), x.node()];
        let [gate, x] = [gate, x].map(|tensor| contiguous(tensor.into_primitive()));
        let out = forward(&gate, &x, precision);
        match SwigluBackward.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => prepared.finish((gate, x, precision), out),
            OpsKind::UnTracked(prepared) => prepared.finish(out),
        }
    }

    fn submask_cuda_silu(x: FloatTensor<Self>, precision: Precision) -> FloatTensor<Self> {
        let node = x.node();
        let x = contiguous(x.into_primitive());
        let out = silu_of(&x, precision);
        match SiluBackward.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => prepared.finish((x, precision), out),
            OpsKind::UnTracked(prepared) => prepared.finish(out),
        }
    }
}

/// The formulas stand at the kernel.
#[derive(Debug)]
struct SwigluBackward;

impl Backward<Cube, 2> for SwigluBackward {
    type State = (Array, Array, Precision);

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let g = contiguous(grads.consume::<Cube>(&ops.node));
        let (gate, x, precision) = ops.state;
        let factor = factor_type(precision);
        let gradients = [(); 2].map(|()| room(&x, x.shape(), factor));
        let launch = launch("swiglu_backward", x.dtype, factor, g.dtype).read(&gate).read(&x).read(&g);
        run(launch.write(&gradients[0]).write(&gradients[1]), &x);
        for (parent, gradient) in ops.parents.into_iter().zip(gradients) {
            if let Some(parent) = parent {
                grads.register::<Cube>(parent.id, gradient);
            }
        }
    }
}

#[derive(Debug)]
struct SiluBackward;

impl Backward<Cube, 1> for SiluBackward {
    type State = (Array, Precision);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let g = contiguous(grads.consume::<Cube>(&ops.node));
        let (x, precision) = ops.state;
        let [Some(parent)] = ops.parents else { return };
        let factor = factor_type(precision);
        let gradient = room(&x, x.shape(), factor);
        run(launch("silu_backward", x.dtype, factor, g.dtype).read(&x).read(&g).write(&gradient), &x);
        grads.register::<Cube>(parent.id, gradient);
    }
}
