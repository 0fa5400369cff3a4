//! LayerNorm with modulation, and RMSNorm.

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Cube, Dispatch, TensorMetadata, backend_extension};
use burn::tensor::{DType, Tensor};

use super::columns::{PART_COLUMNS, PART_THREADS, sum_parts};
use super::device::{Array, Launch, Source, contiguous, name_of, room, source};
use super::rows::{Rows, factor_type, stride, with_rows_apart};
use crate::ops::Precision;

static SOURCE: Source = source!("norm.cu", "elements.cuh", "parts.cuh", "row.cuh");

/// Rows of a block of the backward pass, as the kernel has it.
pub(super) const CHUNK: usize = 32;

/// Elements of a row per thread, at most, as the kernels have it.
const ROW_ELEMENTS: usize = 16;

#[backend_extension(Cube, Autodiff)]
pub trait NormOp: Backend {
    fn submask_cuda_modulated_norm(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        precision: Precision,
    ) -> FloatTensor<Self>;
    fn submask_cuda_rms_norm(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        precision: Precision,
    ) -> FloatTensor<Self>;
}

/// See [`crate::ops::Kernels::modulated_norm`]. In bf16 the result is rounded to what the next product takes.
pub fn modulated_norm(
    x: Tensor<3>,
    weight: Tensor<1>,
    shift: Tensor<2>,
    scale: Tensor<2>,
    precision: Precision,
) -> Tensor<3> {
    Tensor::from_dispatch(Dispatch::submask_cuda_modulated_norm(
        x.into_dispatch(),
        weight.into_dispatch(),
        shift.into_dispatch(),
        scale.into_dispatch(),
        precision,
    ))
}

/// See [`crate::ops::Kernels::rms_norm`]. In bf16 the result is rounded to what the next product takes.
pub fn rms_norm(x: Tensor<2>, weight: Tensor<1>, precision: Precision) -> Tensor<2> {
    Tensor::from_dispatch(Dispatch::submask_cuda_rms_norm(
        x.into_dispatch(),
        weight.into_dispatch(),
        precision,
    ))
}

/// How the kernels cut rows of a width: threads of a block, and rows that it has at once.
pub(super) fn block(width: usize) -> [usize; 2] {
    let warps = width.div_ceil(32 * ROW_ELEMENTS).next_power_of_two().clamp(1, 16);
    let threads = 32 * warps;
    [threads.max(128), (128 / threads).max(1)]
}

fn launch(name: &'static str, width: usize, [result, upstream]: [DType; 2]) -> Launch {
    let launch = Launch::new(&SOURCE, name).define("WIDTH", width);
    launch.define("RESULT", name_of(result)).define("UPSTREAM", name_of(upstream))
}

/// The forward pass: of contiguous x and weight, and modulations whose rows may be apart.
fn modulated(x: &Array, weight: &Array, shift: &Array, scale: &Array, precision: Precision) -> Array {
    let (rows, dtype) = (Rows::of(x, shift), factor_type(precision));
    let [threads, at_once] = block(rows.width);
    let out = room(x, x.shape(), dtype);
    launch("modulated_norm", rows.width, [dtype, DType::F32])
        .read(x)
        .read(weight)
        .read(shift)
        .read(scale)
        .write(&out)
        .int(rows.count)
        .int(rows.length)
        .int(stride(shift))
        .int(stride(scale))
        .run(&out, [rows.count.div_ceil(at_once), 1, 1], threads);
    out
}

fn rms(x: &Array, weight: &Array, precision: Precision) -> Array {
    let ([count, width], dtype) = (x.shape().dims(), factor_type(precision));
    let [threads, at_once] = block(width);
    let out = room(x, x.shape(), dtype);
    launch("rms_norm", width, [dtype, DType::F32]).read(x).read(weight).write(&out).int(count).run(
        &out,
        [count.div_ceil(at_once), 1, 1],
        threads,
    );
    out
}

impl NormOp for Cube {
    fn submask_cuda_modulated_norm(
        x: Array,
        weight: Array,
        shift: Array,
        scale: Array,
        precision: Precision,
    ) -> Array {
        let [x, weight] = [x, weight].map(contiguous);
        modulated(&x, &weight, &with_rows_apart(shift), &with_rows_apart(scale), precision)
    }

    fn submask_cuda_rms_norm(x: Array, weight: Array, precision: Precision) -> Array {
        rms(&contiguous(x), &contiguous(weight), precision)
    }
}

impl<C: CheckpointStrategy> NormOp for Autodiff<Cube, C> {
    fn submask_cuda_modulated_norm(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        precision: Precision,
    ) -> FloatTensor<Self> {
        let nodes = [x.node(), weight.node(), shift.node(), scale.node()];
        let [x, weight] = [x, weight].map(|tensor| contiguous(tensor.into_primitive()));
        let [shift, scale] = [shift, scale].map(|tensor| with_rows_apart(tensor.into_primitive()));
        let out = modulated(&x, &weight, &shift, &scale, precision);
        match NormBackward.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => prepared.finish(NormState { x, weight, scale, precision }, out),
            OpsKind::UnTracked(prepared) => prepared.finish(out),
        }
    }

    fn submask_cuda_rms_norm(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        precision: Precision,
    ) -> FloatTensor<Self> {
        let nodes = [x.node(), weight.node()];
        let [x, weight] = [x, weight].map(|tensor| contiguous(tensor.into_primitive()));
        let out = rms(&x, &weight, precision);
        match RmsNormBackward.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => prepared.finish((x, weight, precision), out),
            OpsKind::UnTracked(prepared) => prepared.finish(out),
        }
    }
}

/// The gradients of weight, shift and scale that are wanted, of the sums of chunks.
pub(super) fn modulation_sums(
    parts: &Array,
    weight: &Array,
    scale: &Array,
    rows: Rows,
    types: [DType; 2],
    wanted: [bool; 3],
) -> [Option<Array>; 3] {
    let Rows { width, modulations, .. } = rows;
    let shapes = [vec![width], vec![modulations, width], vec![modulations, width]];
    let mut shapes = shapes.into_iter().zip(wanted);
    let sums = [(); 3].map(|()| {
        let (shape, wanted) = shapes.next().expect("there are three");
        wanted.then(|| room(parts, shape, DType::F32))
    });
    if sums.iter().any(Option::is_some) {
        let launch = launch("modulated_norm_sums", width, types).read(parts).read(weight).read(scale);
        sums.iter()
            .fold(launch, |launch, sum| launch.write_if(sum.as_ref()))
            .int(modulations)
            .int(rows.chunks(CHUNK))
            .int(stride(scale))
            .run(parts, [modulations + 1, width.div_ceil(PART_COLUMNS), 1], PART_THREADS);
    }
    sums
}

/// The formulas stand at the kernels.
#[derive(Debug)]
struct NormBackward;

#[derive(Clone, Debug)]
struct NormState {
    x: Array,
    weight: Array,
    scale: Array,
    precision: Precision,
}

impl Backward<Cube, 4> for NormBackward {
    type State = NormState;

    fn backward(self, ops: Ops<NormState, 4>, grads: &mut Gradients, _: &mut Checkpointer) {
        let g = contiguous(grads.consume::<Cube>(&ops.node));
        let NormState { x, weight, scale, precision } = ops.state;
        let rows = Rows::of(&x, &scale);
        let (width, chunks, stride) = (rows.width, rows.chunks(CHUNK), stride(&scale));
        let types = [factor_type(precision), g.dtype];
        let dx = room(&x, x.shape(), DType::F32);
        let parts = room(&x, [rows.modulations * chunks * 2, width], DType::F32);
        launch("modulated_norm_backward", width, types)
            .read(&x)
            .read(&weight)
            .read(&scale)
            .read(&g)
            .write(&dx)
            .write(&parts)
            .int(rows.length)
            .int(chunks)
            .int(stride)
            .run(&dx, [rows.modulations * chunks, 1, 1], block(width)[0]);
        let [for_x, parents @ ..] = ops.parents;
        let wanted = parents.each_ref().map(Option::is_some);
        let [dweight, dshift, dscale] = modulation_sums(&parts, &weight, &scale, rows, types, wanted);
        let gradients = [Some(dx), dweight, dshift, dscale];
        for (parent, gradient) in [for_x].into_iter().chain(parents).zip(gradients) {
            if let (Some(parent), Some(gradient)) = (parent, gradient) {
                grads.register::<Cube>(parent.id, gradient);
            }
        }
    }
}

#[derive(Debug)]
struct RmsNormBackward;

impl Backward<Cube, 2> for RmsNormBackward {
    type State = (Array, Array, Precision);

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let g = contiguous(grads.consume::<Cube>(&ops.node));
        let (x, weight, precision) = ops.state;
        let [count, width] = x.shape().dims();
        let chunks = count.div_ceil(CHUNK);
        let dx = room(&x, x.shape(), DType::F32);
        let parts = room(&x, [chunks, width], DType::F32);
        launch("rms_norm_backward", width, [factor_type(precision), g.dtype])
            .read(&x)
            .read(&weight)
            .read(&g)
            .write(&dx)
            .write(&parts)
            .int(count)
            .run(&dx, [chunks, 1, 1], block(width)[0]);
        let [for_x, for_weight] = ops.parents;
        if let Some(parent) = for_weight {
            grads.register::<Cube>(parent.id, sum_parts(&parts, 1, chunks, width));
        }
        if let Some(parent) = for_x {
            grads.register::<Cube>(parent.id, dx);
        }
    }
}
