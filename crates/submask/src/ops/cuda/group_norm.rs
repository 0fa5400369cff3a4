//! GroupNorm with a scale and a shift per channel, followed by SiLU or by nothing.

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Cube, Dispatch, TensorMetadata, backend_extension};
use burn::tensor::{DType, Shape, Tensor};

use super::columns::column_sums;
use super::device::{Array, Launch, Source, contiguous, name_of, reshaped, room, source};
use super::rows::{pack, stride, with_rows_apart};
use crate::ops::GroupNorm;

static SOURCE: Source = source!("group_norm.cu", "elements.cuh");

/// Threads of a block.
const BLOCK: usize = 256;

/// Bytes of shared memory that a group may have.
const HELD: usize = 48 << 10;

#[backend_extension(Cube, Autodiff)]
pub trait GroupNormOp: Backend {
    fn submask_cuda_group_norm(
        x: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        norm: GroupNorm,
    ) -> FloatTensor<Self>;
}

/// See [`crate::ops::Kernels::group_norm`].
pub fn group_norm(x: Tensor<4>, scale: Tensor<2>, shift: Tensor<2>, norm: GroupNorm) -> Tensor<4> {
    let (x, scale, shift) = (x.into_dispatch(), scale.into_dispatch(), shift.into_dispatch());
    Tensor::from_dispatch(Dispatch::submask_cuda_group_norm(x, scale, shift, norm))
}

/// Contiguous images, and modulations whose rows may be apart, by as much.
#[derive(Clone, Debug)]
struct State {
    x: Array,
    scale: Array,
    shift: Array,
    norm: GroupNorm,
}

impl State {
    fn new(x: Array, scale: Array, shift: Array, norm: GroupNorm) -> Self {
        let [mut scale, mut shift] = [scale, shift].map(with_rows_apart);
        if stride(&scale) != stride(&shift) {
            [scale, shift] = [scale, shift].map(contiguous);
        }
        Self { x: contiguous(x), scale, shift, norm }
    }

    /// Runs a kernel with `arrays` after the images and their modulation.
    fn run(&self, name: &'static str, upstream: DType, arrays: impl FnOnce(Launch) -> Launch) {
        let [batch, channels, height, width] = self.x.shape().dims();
        let (groups, pixels) = (self.norm.groups, height * width);
        let share = channels / groups;
        let bytes = share * pixels * DType::F32.size();
        let holds = bytes <= HELD;
        let launch = Launch::new(&SOURCE, name)
            .define("RESULT", name_of(DType::F32))
            .define("UPSTREAM", name_of(upstream))
            .define("SILU", u8::from(self.norm.silu))
            .define("PACK", pack(&[pixels]))
            .read(&self.x)
            .read(&self.scale)
            .read(&self.shift);
        arrays(launch)
            .int(groups)
            .int(share)
            .int(pixels)
            .int(stride(&self.scale))
            .int(u32::from(holds))
            .shared(if holds { bytes } else { 0 })
            .run(&self.x, [batch * groups, 1, 1], BLOCK);
    }

    fn forward(&self) -> Array {
        let out = room(&self.x, self.x.shape(), DType::F32);
        self.run("group_norm", DType::F32, |launch| launch.write(&out));
        out
    }
}

impl GroupNormOp for Cube {
    fn submask_cuda_group_norm(x: Array, scale: Array, shift: Array, norm: GroupNorm) -> Array {
        State::new(x, scale, shift, norm).forward()
    }
}

impl<C: CheckpointStrategy> GroupNormOp for Autodiff<Cube, C> {
    fn submask_cuda_group_norm(
        x: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        norm: GroupNorm,
    ) -> FloatTensor<Self> {
        let nodes = [x.node(), scale.node(), shift.node()];
        let [x, scale, shift] = [x, scale, shift].map(|tensor| tensor.into_primitive());
        let state = State::new(x, scale, shift, norm);
        let out = state.forward();
        match GroupNormBackward.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => prepared.finish(state, out),
            OpsKind::UnTracked(prepared) => prepared.finish(out),
        }
    }
}

/// The formulas stand at the kernel.
#[derive(Debug)]
struct GroupNormBackward;

impl Backward<Cube, 3> for GroupNormBackward {
    type State = State;

    fn backward(self, ops: Ops<State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let g = contiguous(grads.consume::<Cube>(&ops.node));
        let (state, [batch, channels, ..]) = (ops.state, g.shape().dims::<4>());
        let dx = room(&g, g.shape(), DType::F32);
        let modulations = [(); 2].map(|()| room(&g, [batch, channels], DType::F32));
        state.run("group_norm_backward", g.dtype, |launch| {
            launch.read(&g).write(&dx).write(&modulations[0]).write(&modulations[1])
        });
        let [for_x, for_scale, for_shift] = ops.parents;
        if let Some(parent) = for_x {
            grads.register::<Cube>(parent.id, dx);
        }
        for (parent, gradient) in [for_scale, for_shift].into_iter().zip(modulations) {
            let Some(parent) = parent else { continue };
            let shared = state.scale.shape()[0] == 1 && batch != 1;
            let gradient =
                if shared { reshaped(column_sums(&gradient), Shape::new([1, channels])) } else { gradient };
            grads.register::<Cube>(parent.id, gradient);
        }
    }
}
