//! The gated residual connection with dropout.

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Cube, Dispatch, TensorMetadata, backend_extension};
use burn::tensor::{DType, Shape, Tensor};

use super::columns::sum_parts;
use super::device::{Array, Launch, Source, contiguous, name_of, reshaped, room, source};
use super::rows::{self, Rows, factor_type, stride, with_rows_apart};
use crate::ops::{Dropout, Precision};

static SOURCE: Source = source!("residual.cu", "elements.cuh", "random.cuh", "dropout.cuh");

/// Rows of a block of the forward and of the backward pass, as the kernels have it.
const FORWARD_ROWS: usize = 4;
const CHUNK: usize = 32;

#[backend_extension(Cube, Autodiff)]
pub trait ResidualOp: Backend {
    fn submask_cuda_gated_residual(
        x: FloatTensor<Self>,
        h: FloatTensor<Self>,
        gate: FloatTensor<Self>,
        dropout: Option<Dropout>,
        precision: Precision,
    ) -> FloatTensor<Self>;
}

/// See [`crate::ops::Kernels::gated_residual`]: of `h` in single precision or bfloat16. In bf16 its gradient is rounded to
/// what the products of a linear layer's backward pass take.
pub fn gated_residual(
    x: Tensor<3>,
    h: Tensor<3>,
    gate: Tensor<2>,
    dropout: Option<Dropout>,
    precision: Precision,
) -> Tensor<3> {
    let (x, h, gate) = (x.into_dispatch(), h.into_dispatch(), gate.into_dispatch());
    Tensor::from_dispatch(Dispatch::submask_cuda_gated_residual(x, h, gate, dropout, precision))
}

/// A launch of a kernel, and the columns that its threads have together.
fn launch(
    name: &'static str,
    width: usize,
    [h, dh]: [DType; 2],
    dropout: Option<Dropout>,
) -> (Launch, usize) {
    let pack = rows::pack(&[width]);
    let launch = Launch::new(&SOURCE, name)
        .define("ADDED", name_of(h))
        .define("GRADIENT", name_of(dh))
        .define("DROPOUT", u8::from(dropout.is_some()))
        .define("PACK", pack);
    (launch, pack)
}

/// Adds what determines the factors of dropout to the arguments.
pub(super) fn with_dropout(launch: Launch, dropout: Option<Dropout>) -> Launch {
    let words = dropout.map_or([0; 6], |dropout| {
        let [key_low, key_high, step_low, step_high] = dropout.draws.words(dropout.step);
        [key_low, key_high, step_low, step_high, dropout.layer, dropout.threshold()]
    });
    words.into_iter().fold(launch, Launch::int).float(dropout.map_or(1.0, |dropout| dropout.keep()))
}

/// The forward pass: of contiguous x and h, and gates whose rows may be apart.
fn added(x: &Array, h: &Array, gate: &Array, dropout: Option<Dropout>, precision: Precision) -> Array {
    let rows = Rows::of(x, gate);
    let out = room(x, x.shape(), DType::F32);
    let (launch, pack) = launch("gated_residual", rows.width, [h.dtype, factor_type(precision)], dropout);
    let launch = launch
        .read(x)
        .read(h)
        .read(gate)
        .write(&out)
        .int(rows.count)
        .int(rows.width)
        .int(rows.length)
        .int(stride(gate));
    let [blocks, threads] = rows::columns(rows.width, pack);
    with_dropout(launch, dropout).run(&out, [rows.count.div_ceil(FORWARD_ROWS), blocks, 1], threads);
    out
}

impl ResidualOp for Cube {
    fn submask_cuda_gated_residual(
        x: Array,
        h: Array,
        gate: Array,
        dropout: Option<Dropout>,
        precision: Precision,
    ) -> Array {
        added(&contiguous(x), &contiguous(h), &with_rows_apart(gate), dropout, precision)
    }
}

impl<C: CheckpointStrategy> ResidualOp for Autodiff<Cube, C> {
    fn submask_cuda_gated_residual(
        x: FloatTensor<Self>,
        h: FloatTensor<Self>,
        gate: FloatTensor<Self>,
        dropout: Option<Dropout>,
        precision: Precision,
    ) -> FloatTensor<Self> {
        let nodes = [x.node(), h.node(), gate.node()];
        let [x, h] = [x, h].map(|tensor| contiguous(tensor.into_primitive()));
        let has_gradient = is_tracked::<C>(&gate);
        let gate = with_rows_apart(gate.into_primitive());
        let out = added(&x, &h, &gate, dropout, precision);
        match ResidualBackward.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => {
                let added_type = h.dtype;
                let h = has_gradient.then_some(h);
                prepared.finish(State { h, added_type, gate, dropout, precision }, out)
            }
            OpsKind::UnTracked(prepared) => prepared.finish(out),
        }
    }
}

/// Whether a gradient of the tensor is asked for, or of what it was computed of.
pub(super) fn is_tracked<C: CheckpointStrategy>(x: &FloatTensor<Autodiff<Cube, C>>) -> bool {
    matches!(Probe.prepare::<C>([x.node()]).compute_bound().stateful(), OpsKind::Tracked(_))
}

/// An operation that is prepared, and never done.
#[derive(Debug)]
struct Probe;

impl Backward<Cube, 1> for Probe {
    type State = ();

    fn backward(self, _: Ops<(), 1>, _: &mut Gradients, _: &mut Checkpointer) {}
}

/// dx = g; the other formulas stand at the kernel.
#[derive(Debug)]
struct ResidualBackward;

#[derive(Clone, Debug)]
struct State {
    /// Where the gate's gradient is asked for.
    h: Option<Array>,
    added_type: DType,
    gate: Array,
    dropout: Option<Dropout>,
    precision: Precision,
}

impl Backward<Cube, 3> for ResidualBackward {
    type State = State;

    fn backward(self, ops: Ops<State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let g = contiguous(grads.consume::<Cube>(&ops.node));
        let State { h, added_type, gate, dropout, precision } = ops.state;
        let [for_x, for_h, for_gate] = ops.parents;
        let rows = Rows::of(&g, &gate);
        let (width, chunks) = (rows.width, rows.chunks(CHUNK));
        let dh = room(&g, g.shape(), factor_type(precision));
        let parts = h.as_ref().map(|_| room(&g, [rows.modulations * chunks, width], DType::F32));
        let (launch, pack) = launch("gated_residual_backward", width, [added_type, dh.dtype], dropout);
        let launch = launch
            .read(&g)
            .read_if(h.as_ref())
            .read(&gate)
            .write(&dh)
            .write_if(parts.as_ref())
            .int(rows.length)
            .int(chunks)
            .int(width)
            .int(stride(&gate));
        let [blocks, threads] = rows::columns(width, pack);
        with_dropout(launch, dropout).run(&dh, [rows.modulations * chunks, blocks, 1], threads);
        if let (Some(parent), Some(parts)) = (for_gate, parts) {
            let dgate = sum_parts(&parts, rows.modulations, chunks, width);
            grads.register::<Cube>(parent.id, reshaped(dgate, Shape::new([rows.modulations, width])));
        }
        if let Some(parent) = for_h {
            grads.register::<Cube>(parent.id, dh);
        }
        if let Some(parent) = for_x {
            grads.register::<Cube>(parent.id, g);
        }
    }
}
