//! A residual connection and the norm that follows it.

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Cube, Dispatch, ExtensionType, TensorMetadata, backend_extension};
use burn::tensor::{DType, Shape, Tensor};

use super::columns::sum_parts;
use super::device::{Array, Launch, Source, contiguous, name_of, reshaped, room, source};
use super::norm::{CHUNK, block, modulation_sums};
use super::residual::{is_tracked, with_dropout};
use super::rows::{Rows, factor_type, stride, with_rows_apart};
use super::several::{PartGradients, part};
use crate::ops::{Addition, Dropout, Precision};

static SOURCE: Source = source!("residual_norm.cu", "elements.cuh", "random.cuh", "dropout.cuh", "row.cuh");

/// What is computed, apart from the tensors.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    dropout: Option<Dropout>,
    precision: Precision,
}

/// Results of a residual connection and the norm that follows it.
#[derive(ExtensionType)]
pub struct SumAndNorm<B: Backend> {
    /// x + gate·dropout(h).
    pub sum: FloatTensor<B>,
    /// The norm of it.
    pub normed: FloatTensor<B>,
}

#[backend_extension(Cube, Autodiff)]
pub trait ResidualNormOp: Backend {
    fn submask_cuda_residual_norm(
        x: FloatTensor<Self>,
        h: FloatTensor<Self>,
        gate: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        settings: Settings,
    ) -> SumAndNorm<Self>;
    fn submask_cuda_residual_rms_norm(
        x: FloatTensor<Self>,
        h: FloatTensor<Self>,
        gate: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        settings: Settings,
    ) -> SumAndNorm<Self>;
}

/// See [`crate::ops::Kernels::residual_norm`]: of as many gates as shifts and scales. Types are as of
/// [`gated_residual`](super::gated_residual) and [`modulated_norm`](super::modulated_norm).
pub fn residual_norm(
    x: Tensor<3>,
    added: Addition,
    weight: Tensor<1>,
    [shift, scale]: [Tensor<2>; 2],
    precision: Precision,
) -> [Tensor<3>; 2] {
    let Addition { h, gate, dropout } = added;
    let settings = Settings { dropout, precision };
    let [shift, scale, gate] = [shift, scale, gate].map(Tensor::into_dispatch);
    let (x, h, weight) = (x.into_dispatch(), h.into_dispatch(), weight.into_dispatch());
    let both = Dispatch::submask_cuda_residual_norm(x, h, gate, weight, shift, scale, settings);
    [both.sum, both.normed].map(Tensor::from_dispatch)
}

/// See [`crate::ops::Kernels::residual_rms_norm`]; types are as above.
pub fn residual_rms_norm(
    x: Tensor<3>,
    added: Addition,
    weight: Tensor<1>,
    precision: Precision,
) -> [Tensor<3>; 2] {
    let Addition { h, gate, dropout } = added;
    let settings = Settings { dropout, precision };
    let (x, h, gate) = (x.into_dispatch(), h.into_dispatch(), gate.into_dispatch());
    let weight = weight.into_dispatch();
    let both = Dispatch::submask_cuda_residual_rms_norm(x, h, gate, weight, settings);
    [both.sum, both.normed].map(Tensor::from_dispatch)
}

/// What both passes take: contiguous x, h and weight, and modulations whose rows may be apart.
#[derive(Clone, Debug)]
struct Inputs {
    x: Array,
    h: Array,
    gate: Array,
    weight: Array,
    /// Shift and scale of LayerNorm; RMSNorm has none.
    modulation: Option<[Array; 2]>,
    settings: Settings,
}

/// Results of the forward pass, and mean and 1/σ of every row.
struct Results {
    sum: Array,
    normed: Array,
    statistics: Array,
}

/// A launch of a kernel for rows of a width, where h and the norm's gradient have types.
fn launch(
    name: &'static str,
    width: usize,
    [h, upstream]: [DType; 2],
    Settings { dropout, precision }: Settings,
) -> Launch {
    let factor = name_of(factor_type(precision));
    Launch::new(&SOURCE, name)
        .define("WIDTH", width)
        .define("ADDED", name_of(h))
        .define("GRADIENT", factor)
        .define("RESULT", factor)
        .define("UPSTREAM", name_of(upstream))
        .define("DROPOUT", u8::from(dropout.is_some()))
}

impl Inputs {
    fn forward(&self) -> Results {
        let &Self { ref x, ref h, ref gate, ref weight, ref modulation, settings } = self;
        let rows = Rows::of(x, gate);
        let [threads, at_once] = block(rows.width);
        let results = Results {
            sum: room(x, x.shape(), DType::F32),
            normed: room(x, x.shape(), factor_type(settings.precision)),
            statistics: room(x, [rows.count, 2], DType::F32),
        };
        let name = if modulation.is_some() { "residual_norm" } else { "residual_rms_norm" };
        let modulations = modulation.as_ref().map_or(&[][..], |both| both);
        let launch = launch(name, rows.width, [h.dtype, DType::F32], settings);
        let launch = [x, h, gate, weight].into_iter().chain(modulations).fold(launch, Launch::read);
        let launch = launch.write(&results.sum).write(&results.normed).write(&results.statistics);
        let launch = launch.int(rows.count).int(rows.length).int(stride(gate));
        let launch = modulations.iter().fold(launch, |launch, array| launch.int(stride(array)));
        let blocks = rows.count.div_ceil(at_once);
        with_dropout(launch, settings.dropout).run(x, [blocks, 1, 1], threads);
        results
    }
}

impl ResidualNormOp for Cube {
    fn submask_cuda_residual_norm(
        x: Array,
        h: Array,
        gate: Array,
        weight: Array,
        shift: Array,
        scale: Array,
        settings: Settings,
    ) -> SumAndNorm<Self> {
        let [x, h, weight] = [x, h, weight].map(contiguous);
        let [gate, shift, scale] = [gate, shift, scale].map(with_rows_apart);
        let modulation = Some([shift, scale]);
        let Results { sum, normed, .. } = Inputs { x, h, gate, weight, modulation, settings }.forward();
        SumAndNorm { sum, normed }
    }

    fn submask_cuda_residual_rms_norm(
        x: Array,
        h: Array,
        gate: Array,
        weight: Array,
        settings: Settings,
    ) -> SumAndNorm<Self> {
        let [x, h, weight] = [x, h, weight].map(contiguous);
        let (gate, modulation) = (with_rows_apart(gate), None);
        let Results { sum, normed, .. } = Inputs { x, h, gate, weight, modulation, settings }.forward();
        SumAndNorm { sum, normed }
    }
}

impl<C: CheckpointStrategy> ResidualNormOp for Autodiff<Cube, C> {
    fn submask_cuda_residual_norm(
        x: FloatTensor<Self>,
        h: FloatTensor<Self>,
        gate: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        settings: Settings,
    ) -> SumAndNorm<Self> {
        let gate_is_tracked = is_tracked::<C>(&gate);
        let nodes = [x.node(), h.node(), gate.node(), weight.node(), shift.node(), scale.node()];
        let [x, h, weight] = [x, h, weight].map(|tensor| contiguous(tensor.into_primitive()));
        let [gate, shift, scale] =
            [gate, shift, scale].map(|tensor| with_rows_apart(tensor.into_primitive()));
        let modulation = Some([shift, scale]);
        let inputs = Inputs { x, h, gate, weight, modulation, settings };
        let Results { sum, normed, statistics } = inputs.forward();
        let prepared = BothBackward.prepare::<C>(nodes).compute_bound().stateful();
        tracked::<C, 6>(prepared, inputs, [sum, normed], statistics, gate_is_tracked)
    }

    fn submask_cuda_residual_rms_norm(
        x: FloatTensor<Self>,
        h: FloatTensor<Self>,
        gate: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        settings: Settings,
    ) -> SumAndNorm<Self> {
        let gate_is_tracked = is_tracked::<C>(&gate);
        let nodes = [x.node(), h.node(), gate.node(), weight.node()];
        let [x, h, weight] = [x, h, weight].map(|tensor| contiguous(tensor.into_primitive()));
        let (gate, modulation) = (with_rows_apart(gate.into_primitive()), None);
        let inputs = Inputs { x, h, gate, weight, modulation, settings };
        let Results { sum, normed, statistics } = inputs.forward();
        let prepared = BothBackward.prepare::<C>(nodes).compute_bound().stateful();
        tracked::<C, 4>(prepared, inputs, [sum, normed], statistics, gate_is_tracked)
    }
}

/// The results as tensors whose gradients come to [`BothBackward`] together.
fn tracked<C: CheckpointStrategy, const N: usize>(
    prepared: OpsKind<BothBackward, Cube, State, C, N>,
    inputs: Inputs,
    [sum, normed]: [Array; 2],
    statistics: Array,
    gate_is_tracked: bool,
) -> SumAndNorm<Autodiff<Cube, C>> {
    let gradients = PartGradients::of(2);
    let both = match prepared {
        OpsKind::Tracked(prepared) => {
            let Inputs { h, gate, weight, modulation, settings, .. } = inputs;
            let added_type = h.dtype;
            let state = State {
                gradients: gradients.clone(),
                sum: sum.clone(),
                statistics,
                h: gate_is_tracked.then_some(h),
                added_type,
                gate,
                weight,
                scale: modulation.map(|[_, scale]| scale),
                settings,
            };
            prepared.finish(state, sum.clone())
        }
        OpsKind::UnTracked(prepared) => prepared.finish(sum.clone()),
    };
    SumAndNorm { sum: part::<C>(&both, &gradients, 0, sum), normed: part::<C>(&both, &gradients, 1, normed) }
}

/// The formulas stand at the kernels.
#[derive(Debug)]
struct BothBackward;

#[derive(Clone, Debug)]
struct State {
    /// Of the sum and of its norm.
    gradients: PartGradients,
    sum: Array,
    statistics: Array,
    /// Where the gate's gradient is asked for.
    h: Option<Array>,
    added_type: DType,
    gate: Array,
    weight: Array,
    /// Of LayerNorm.
    scale: Option<Array>,
    settings: Settings,
}

impl<const N: usize> Backward<Cube, N> for BothBackward {
    type State = State;

    fn backward(self, ops: Ops<State, N>, grads: &mut Gradients, _: &mut Checkpointer) {
        let State { gradients, sum, statistics, h, added_type, gate, weight, scale, settings } = ops.state;
        let mut come = gradients.take().into_iter();
        let (from_sum, from_norm) = (come.next().flatten(), come.next().flatten());
        let rows = Rows::of(&sum, &gate);
        let (width, chunks) = (rows.width, rows.chunks(CHUNK));
        let blocks = rows.modulations * chunks;
        let upstream = from_norm.as_ref().map_or(DType::F32, |gradient| gradient.dtype);
        let dx = room(&sum, sum.shape(), DType::F32);
        let dh = room(&sum, sum.shape(), factor_type(settings.precision));
        let planes = if scale.is_some() { 2 } else { 1 };
        let parts = room(&sum, [blocks * planes, width], DType::F32);
        let gate_parts = h.as_ref().map(|_| room(&sum, [blocks, width], DType::F32));
        let name = if scale.is_some() { "residual_norm_backward" } else { "residual_rms_norm_backward" };
        let launch = launch(name, width, [added_type, upstream], settings)
            .read(&sum)
            .read(&statistics)
            .read_if(h.as_ref())
            .read(&gate)
            .read_if(from_sum.as_ref())
            .read_if(from_norm.as_ref())
            .read(&weight);
        let launch = scale.iter().fold(launch, Launch::read).write(&dx).write(&dh).write(&parts);
        let launch = launch.write_if(gate_parts.as_ref()).int(rows.length).int(chunks).int(stride(&gate));
        let launch = scale.iter().fold(launch, |launch, scale| launch.int(stride(scale)));
        with_dropout(launch, settings.dropout).run(&sum, [blocks, 1, 1], block(width)[0]);
        let dgate = gate_parts.map(|parts| {
            reshaped(
                sum_parts(&parts, rows.modulations, chunks, width),
                Shape::new([rows.modulations, width]),
            )
        });
        let wanted = |place: usize| ops.parents.get(place).is_some_and(Option::is_some);
        let sums = match &scale {
            Some(scale) => {
                let types = [factor_type(settings.precision), upstream];
                modulation_sums(&parts, &weight, scale, rows, types, [wanted(3), wanted(4), wanted(5)])
            }
            None => [wanted(3).then(|| sum_parts(&parts, 1, blocks, width)), None, None],
        };
        let gradients = [Some(dx), Some(dh), dgate].into_iter().chain(sums);
        for (parent, gradient) in ops.parents.into_iter().zip(gradients) {
            if let (Some(parent), Some(gradient)) = (parent, gradient) {
                grads.register::<Cube>(parent.id, gradient);
            }
        }
    }
}
