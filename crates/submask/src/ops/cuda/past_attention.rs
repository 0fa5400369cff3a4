//! Attention of positions that read their own block and a past of keys and values, with the kernels of `attention`.

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Cube, Dispatch, TensorMetadata, backend_extension};
use burn::tensor::Tensor;

use super::attention::{Attention, Placed, State};
use super::device::{Array, contiguous};
use crate::ops::Past;

#[backend_extension(Cube, Autodiff)]
pub trait PastAttentionOp: Backend {
    fn submask_cuda_past_attention(
        qkv: FloatTensor<Self>,
        past: FloatTensor<Self>,
        settings: Attention,
    ) -> FloatTensor<Self>;
}

/// Without gradients, for pasts that are read several times.
#[backend_extension(Cube)]
pub trait PlacedAttentionOp: Backend {
    fn submask_cuda_place(past: FloatTensor<Self>, settings: Attention) -> FloatTensor<Self>;
    fn submask_cuda_placed_attention(
        qkv: FloatTensor<Self>,
        placed: FloatTensor<Self>,
        settings: Attention,
    ) -> FloatTensor<Self>;
}

/// See [`crate::ops::Kernels::attention_with_past`].
pub fn attention_with_past(qkv: Tensor<3>, past: Past, settings: Attention) -> Tensor<3> {
    let (qkv, past) = (qkv.into_dispatch(), past.keys_values.into_dispatch());
    Tensor::from_dispatch(Dispatch::submask_cuda_past_attention(qkv, past, settings))
}

/// See [`crate::ops::Kernels::place`]: [B', P, 2, heads · width of a placed head], in the type of factors.
pub fn place(keys_values: Tensor<3>, settings: Attention) -> Tensor<4> {
    Tensor::from_dispatch(Dispatch::submask_cuda_place(keys_values.into_dispatch(), settings))
}

/// See [`crate::ops::Kernels::attention_with_placed`].
pub fn attention_with_placed(qkv: Tensor<3>, placed: Tensor<4>, settings: Attention) -> Tensor<3> {
    let (qkv, placed) = (qkv.into_dispatch(), placed.into_dispatch());
    Tensor::from_dispatch(Dispatch::submask_cuda_placed_attention(qkv, placed, settings))
}

impl PastAttentionOp for Cube {
    fn submask_cuda_past_attention(qkv: Array, past: Array, settings: Attention) -> Array {
        let past = settings.place(&contiguous(past), 2, 0);
        let own = settings.place(&contiguous(qkv.clone()), 3, settings.first);
        settings.attend(&own, &past, qkv.dtype, false).0
    }
}

impl PlacedAttentionOp for Cube {
    fn submask_cuda_place(past: Array, settings: Attention) -> Array {
        settings.place(&contiguous(past), 2, 0).array
    }

    fn submask_cuda_placed_attention(qkv: Array, placed: Array, settings: Attention) -> Array {
        let [sequences, rows, parts, _] = placed.shape().dims();
        let past = Placed { array: contiguous(placed), sequences, rows, parts };
        let own = settings.place(&contiguous(qkv.clone()), 3, settings.first);
        settings.attend(&own, &past, qkv.dtype, false).0
    }
}

impl<C: CheckpointStrategy> PastAttentionOp for Autodiff<Cube, C> {
    fn submask_cuda_past_attention(
        qkv: FloatTensor<Self>,
        past: FloatTensor<Self>,
        settings: Attention,
    ) -> FloatTensor<Self> {
        let nodes = [qkv.node(), past.node()];
        let [qkv, past] = [qkv, past].map(|tensor| contiguous(tensor.into_primitive()));
        let (input, columns) = (qkv.dtype, past.shape()[2]);
        let [own, placed] = [settings.place(&qkv, 3, settings.first), settings.place(&past, 2, 0)];
        match PastAttentionBackward.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => {
                assert_eq!(own.sequences, placed.sequences, "draws that share a past have no gradients");
                assert_eq!(input, past.dtype, "gradients of one type");
                let (out, logarithms) = settings.attend(&own, &placed, input, true);
                let logarithms = logarithms.expect("they are kept");
                let own = State { own, out: out.clone(), logarithms, input };
                prepared.finish(PastState { own, past: placed, columns, settings }, out)
            }
            OpsKind::UnTracked(prepared) => prepared.finish(settings.attend(&own, &placed, input, false).0),
        }
    }
}

#[derive(Debug)]
struct PastAttentionBackward;

#[derive(Clone, Debug)]
struct PastState {
    own: State,
    past: Placed,
    /// Of what the past was placed from.
    columns: usize,
    settings: Attention,
}

impl Backward<Cube, 2> for PastAttentionBackward {
    type State = PastState;

    fn backward(self, ops: Ops<PastState, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let g = contiguous(grads.consume::<Cube>(&ops.node));
        let PastState { own, past, columns, settings } = ops.state;
        let (gradient, past_gradient) = settings.backward(&own, &g, Some((&past, columns)));
        let [for_qkv, for_past] = ops.parents;
        if let Some(parent) = for_qkv {
            grads.register::<Cube>(parent.id, gradient);
        }
        if let (Some(parent), Some(gradient)) = (for_past, past_gradient) {
            grads.register::<Cube>(parent.id, gradient);
        }
    }
}
