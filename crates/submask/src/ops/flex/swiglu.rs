//! The gate of SwiGLU.

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Dispatch, Flex, TensorMetadata, backend_extension};
use burn::tensor::Tensor;
use burn_flex::FlexTensor;
use rayon::prelude::*;

use super::{contiguous, filled, register, room, tensor, values};
use crate::ops::lanes;

/// Elements that one task handles.
const CHUNK: usize = 16_384;

#[backend_extension(Flex, Autodiff)]
pub trait SwigluOp: burn::backend::Backend {
    fn submask_swiglu(gate: FloatTensor<Self>, x: FloatTensor<Self>) -> FloatTensor<Self>;
}

/// See [`crate::ops::Kernels::swiglu`].
pub fn swiglu(gate: Tensor<2>, x: Tensor<2>) -> Tensor<2> {
    Tensor::from_dispatch(Dispatch::submask_swiglu(gate.into_dispatch(), x.into_dispatch()))
}

/// f(a_i, b_i) of two contiguous tensors of one shape.
fn zip_map(a: &FlexTensor, b: &FlexTensor, f: impl Fn(f32, f32) -> f32 + Sync) -> Vec<f32> {
    assert_eq!(a.shape(), b.shape());
    let mut out = room(values(a).len());
    let inputs = values(a).par_chunks(CHUNK).zip(values(b).par_chunks(CHUNK));
    out.par_chunks_mut(CHUNK).zip(inputs).for_each(|(out, (a, b))| {
        lanes::vectorized(
            #[inline(always)]
            || {
                for ((out, &a), &b) in out.iter_mut().zip(a).zip(b) {
                    out.write(f(a, b));
                }
            },
        );
    });
    // SAFETY: all three have one shape, so that every chunk is written whole.
    unsafe { filled(out) }
}

impl SwigluOp for Flex {
    fn submask_swiglu(gate: FlexTensor, x: FlexTensor) -> FlexTensor {
        let (gate, x) = (contiguous(gate), contiguous(x));
        tensor(zip_map(&gate, &x, silu_times), x.shape())
    }
}

impl<C: CheckpointStrategy> SwigluOp for Autodiff<Flex, C> {
    fn submask_swiglu(gate: FloatTensor<Self>, x: FloatTensor<Self>) -> FloatTensor<Self> {
        let nodes = [gate.node(), x.node()];
        let (gate, x) = (contiguous(gate.into_primitive()), contiguous(x.into_primitive()));
        match SwigluBackward.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => {
                let out = Flex::submask_swiglu(gate.clone(), x.clone());
                prepared.finish((gate, x), out)
            }
            OpsKind::UnTracked(prepared) => prepared.finish(Flex::submask_swiglu(gate, x)),
        }
    }
}

/// SiLU(a)·x.
#[inline(always)]
fn silu_times(a: f32, x: f32) -> f32 {
    a * lanes::sigmoid(a) * x
}

/// upstream·∂SiLU(a)/∂a.
#[inline(always)]
fn through_silu(a: f32, upstream: f32) -> f32 {
    let s = lanes::sigmoid(a);
    upstream * s * (1.0 + a * (1.0 - s))
}

/// With s = sigmoid(a): dx = g·a·s, da = g·x·s·(1 + a·(1 − s)).
#[derive(Debug)]
struct SwigluBackward;

impl Backward<Flex, 2> for SwigluBackward {
    type State = (FlexTensor, FlexTensor);

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let g = contiguous(grads.consume::<Flex>(&ops.node));
        let (gate, x) = ops.state;
        let [for_gate, for_x] = ops.parents;
        register!(grads, for_gate, {
            let upstream = tensor(zip_map(&g, &x, |g, x| g * x), x.shape());
            tensor(zip_map(&gate, &upstream, through_silu), x.shape())
        });
        register!(grads, for_x, tensor(zip_map(&gate, &g, silu_times), x.shape()));
    }
}
