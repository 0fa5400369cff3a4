//! Dropout alone.

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Cube, Dispatch, TensorMetadata, backend_extension};
use burn::tensor::{DType, Tensor};

use super::device::{Array, Launch, Source, contiguous, room, source};
use super::residual::with_dropout;
use crate::ops::Dropout;

static SOURCE: Source = source!("dropout.cu", "elements.cuh", "random.cuh", "dropout.cuh");

/// Threads of a block, and elements of a thread.
const BLOCK: usize = 256;
const ELEMENTS: usize = 4;

#[backend_extension(Cube, Autodiff)]
pub trait DropoutOp: Backend {
    fn submask_cuda_dropout(x: FloatTensor<Self>, dropout: Dropout) -> FloatTensor<Self>;
}

/// See [`crate::ops::Kernels::dropout`].
pub fn dropout<const D: usize>(x: Tensor<D>, dropout: Dropout) -> Tensor<D> {
    Tensor::from_dispatch(Dispatch::submask_cuda_dropout(x.into_dispatch(), dropout))
}

/// x in single precision, contiguous, times its elements' factors.
fn dropped(x: &Array, dropout: Dropout) -> Array {
    assert_eq!(x.dtype, DType::F32);
    let (out, count) = (room(x, x.shape(), DType::F32), x.shape().num_elements());
    let launch = Launch::new(&SOURCE, "drop").define("DROPOUT", 1).read(x).write(&out).size(count);
    with_dropout(launch, Some(dropout)).run(&out, [count.div_ceil(BLOCK * ELEMENTS), 1, 1], BLOCK);
    out
}

impl DropoutOp for Cube {
    fn submask_cuda_dropout(x: Array, dropout: Dropout) -> Array {
        dropped(&contiguous(x), dropout)
    }
}

impl<C: CheckpointStrategy> DropoutOp for Autodiff<Cube, C> {
    fn submask_cuda_dropout(x: FloatTensor<Self>, dropout: Dropout) -> FloatTensor<Self> {
        let node = x.node();
        let out = dropped(&contiguous(x.into_primitive()), dropout);
        match DropoutBackward.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => prepared.finish(dropout, out),
            OpsKind::UnTracked(prepared) => prepared.finish(out),
        }
    }
}

/// dx = g times the same factors, which are drawn again.
#[derive(Debug)]
struct DropoutBackward;

impl Backward<Cube, 1> for DropoutBackward {
    type State = Dropout;

    fn backward(self, ops: Ops<Dropout, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let g = contiguous(grads.consume::<Cube>(&ops.node));
        let [parent] = ops.parents;
        if let Some(parent) = parent {
            grads.register::<Cube>(parent.id, dropped(&g, ops.state));
        }
    }
}
