//! Parts of the columns of a matrix, whose gradients come together in one pass.

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::ops::FloatTensorOps;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Cube, Dispatch, TensorMetadata, backend_extension};
use burn::tensor::{DType, Slice, Tensor};

use super::columns::join_columns;
use super::device::{Array, room};
use super::several::{PartGradients, part};

#[backend_extension(Cube, Autodiff)]
pub trait SplitOp: Backend {
    /// `x` as the whole of parts.
    fn submask_cuda_whole(x: FloatTensor<Self>, gradients: PartGradients) -> FloatTensor<Self>;
    /// Part `place` of `count`.
    fn submask_cuda_part(
        whole: FloatTensor<Self>,
        gradients: PartGradients,
        place: usize,
        count: usize,
    ) -> FloatTensor<Self>;
}

/// See [`crate::ops::Kernels::split_columns`].
pub fn split_columns<const N: usize>(x: Tensor<2>) -> [Tensor<2>; N] {
    let gradients = PartGradients::of(N);
    let whole = Dispatch::submask_cuda_whole(x.into_dispatch(), gradients.clone());
    std::array::from_fn(|place| {
        Tensor::from_dispatch(Dispatch::submask_cuda_part(whole.clone(), gradients.clone(), place, N))
    })
}

/// Some of the columns: they stay where they are, if they begin at an address that operations may be given.
fn columns(whole: Array, place: usize, count: usize) -> Array {
    let [rows, width] = whole.shape().dims();
    let part = width / count;
    Cube::float_slice(whole, &[0..rows, place * part..(place + 1) * part].map(Slice::from))
}

impl SplitOp for Cube {
    fn submask_cuda_whole(x: Array, _: PartGradients) -> Array {
        x
    }

    fn submask_cuda_part(whole: Array, _: PartGradients, place: usize, count: usize) -> Array {
        columns(whole, place, count)
    }
}

impl<C: CheckpointStrategy> SplitOp for Autodiff<Cube, C> {
    fn submask_cuda_whole(x: FloatTensor<Self>, gradients: PartGradients) -> FloatTensor<Self> {
        let node = x.node();
        let x = x.into_primitive();
        match WholeBackward.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => prepared.finish((gradients, x.shape().dims()), x),
            OpsKind::UnTracked(prepared) => prepared.finish(x),
        }
    }

    fn submask_cuda_part(
        whole: FloatTensor<Self>,
        gradients: PartGradients,
        place: usize,
        count: usize,
    ) -> FloatTensor<Self> {
        let array = columns(whole.primitive().clone(), place, count);
        part::<C>(&whole, &gradients, place, array)
    }
}

/// The gradients of the parts beside each other.
#[derive(Debug)]
struct WholeBackward;

impl Backward<Cube, 1> for WholeBackward {
    type State = (PartGradients, [usize; 2]);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let (gradients, shape) = ops.state;
        let gradients = gradients.take();
        let [Some(parent)] = ops.parents else { return };
        let Some(some) = gradients.iter().flatten().next() else { return };
        let out = room(some, shape, DType::F32);
        join_columns(&gradients, &out);
        grads.register::<Cube>(parent.id, out);
    }
}
