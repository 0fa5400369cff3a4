//! The output layer and the training loss: logits of some rows at a time, which become their own gradients where they
//! stand.

use std::ops::Range;
use std::sync::Arc;

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::ops::FloatTensorOps;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Cube, Dispatch, TensorMetadata, backend_extension};
use burn::tensor::{DType, FloatDType, Shape, Tensor};

use super::codes::{TokenCodes, upload};
use super::device::{Array, Launch, Source, contiguous, name_of, room, source};
use super::epilogue::Epilogue;
use super::linear::factor;
use super::product::{Matrix, Product, Rows};
use super::rows::factor_type;
use crate::ops::{DigitRows, Precision, RowCost, RowLoss};

static SOURCE: Source = source!("head_loss.cu", "block.cuh", "codes.cuh");
static SCALE: Source = source!("scale.cu");

/// The most logits that exist at once: enough rows for products that fill a large GPU, in 1 GiB.
const CHUNK_LOGITS: usize = 1 << 28;

/// Rows of logits, and chunks of rows, begin at multiples of so many.
const ALIGNMENT: usize = 8;

/// Tokens of a row per thread, and threads of a block at most, as the kernels have it.
const TOKENS: usize = 8;
const MOST_THREADS: usize = 512;

/// Columns of a block that adds up columns, its threads, and rows that it adds up.
const COLUMNS: usize = 128;
const COLUMN_THREADS: usize = 256;
const GROUP: usize = 1024;

#[backend_extension(Cube, Autodiff)]
pub trait HeadLossOp: Backend {
    fn submask_cuda_head_loss(
        hidden: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        rows: Arc<dyn RowLoss>,
        settings: Settings,
    ) -> FloatTensor<Self>;
}

/// Of the products, and how many logits exist at once.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    precision: Precision,
    chunk_logits: usize,
}

/// See [`crate::ops::Kernels::head_loss`]: of rows that a kernel computes. The gradients by hidden states, weight and bias
/// are known when the loss is, since the loss is one number; the backward pass only scales them.
pub fn head_loss(
    hidden: Tensor<2>,
    weight: Tensor<2>,
    bias: Tensor<1>,
    rows: Arc<dyn RowLoss>,
    precision: Precision,
) -> Tensor<1> {
    head_loss_in_chunks(hidden, weight, bias, rows, precision, CHUNK_LOGITS)
}

/// The same with at most `chunk_logits` at once, or one row's.
pub fn head_loss_in_chunks(
    hidden: Tensor<2>,
    weight: Tensor<2>,
    bias: Tensor<1>,
    rows: Arc<dyn RowLoss>,
    precision: Precision,
    chunk_logits: usize,
) -> Tensor<1> {
    let (hidden, weight, bias) = (hidden.into_dispatch(), weight.into_dispatch(), bias.into_dispatch());
    let settings = Settings { precision, chunk_logits };
    Tensor::from_dispatch(Dispatch::submask_cuda_head_loss(hidden, weight, bias, rows, settings))
}

/// The output layer at some hidden states, as factors of products.
struct Head {
    /// [n, d].
    hidden: Array,
    /// [C, d].
    weight: Array,
    /// In single precision, \[C\].
    bias: Array,
    settings: Settings,
}

/// Gradients by hidden states, weight and bias, of the shapes of these.
#[derive(Clone, Debug)]
struct HeadGradients([Array; 3]);

/// What the rows are, on the device.
struct DeviceRows {
    codes: TokenCodes,
    /// Digits that are seen, targets, and the weights' bits.
    rows: Array,
    count: usize,
    /// Of the rows, in nats, in double precision.
    losses: Array,
    kernel: &'static str,
    carry_over: bool,
    /// Type of gradients by logits.
    gradient: DType,
}

impl DeviceRows {
    fn new(rows: &DigitRows, like: &Array, gradient: DType) -> Self {
        let numbers = rows.y_t.iter().chain(rows.x_0).map(|number| *number as i32);
        let weights = rows.weights.iter().map(|weight| weight.to_bits() as i32);
        let count = rows.x_0.len();
        Self {
            codes: TokenCodes::new(rows.codes, like),
            rows: upload(numbers.chain(weights).collect(), like),
            count,
            losses: room(like, [count], DType::F64),
            kernel: match rows.cost {
                RowCost::Token => "cross_entropy",
                RowCost::MaskedDigits => "marginal",
            },
            carry_over: rows.carry_over,
            gradient,
        }
    }

    /// Notes losses of some rows, whose `logits` [rows, stride] become gradients.
    fn charge(&self, rows: Range<usize>, logits: &Array) {
        let [_, stride] = logits.shape().dims();
        let classes = self.codes.classes;
        let threads = classes.div_ceil(TOKENS).next_power_of_two().clamp(32, MOST_THREADS);
        self.launch(self.kernel)
            .write(logits)
            .int(classes)
            .int(stride)
            .read(self.codes.table())
            .read(&self.rows)
            .int(self.count)
            .int(rows.start)
            .write(&self.losses)
            .int(self.codes.base)
            .int(u32::from(self.carry_over))
            .run(logits, [rows.len(), 1, 1], threads);
    }

    /// The sum of all losses, \[1\].
    fn total(&self) -> Array {
        let out = room(&self.losses, [1], DType::F32);
        let launch = self.launch("total").read(&self.losses).int(self.count).write(&out);
        launch.run(&out, [1; 3], MOST_THREADS);
        out
    }

    /// Adds the sums of the columns of `x` [n, C], whose rows are `stride` apart, to `sums` \[C\].
    fn add_columns(&self, x: &Matrix, sums: &Array) {
        let groups = x.rows.div_ceil(GROUP);
        let blocks = x.columns.div_ceil(COLUMNS);
        // Apart by a multiple of what a thread reads at once.
        let stride = x.columns.next_multiple_of(ALIGNMENT);
        let parts = if groups == 1 { sums.clone() } else { room(sums, [groups, stride], DType::F32) };
        self.launch("sum_gradients")
            .read(&x.array)
            .int(x.rows)
            .int(x.columns)
            .int(x.leading)
            .int(GROUP)
            .write(&parts)
            .int(stride)
            .int(u32::from(groups == 1))
            .run(sums, [blocks, groups, 1], COLUMN_THREADS);
        if groups > 1 {
            self.launch("sum_groups").read(&parts).int(groups).int(x.columns).int(stride).write(sums).run(
                sums,
                [blocks, 1, 1],
                COLUMN_THREADS,
            );
        }
    }

    fn launch(&self, kernel: &'static str) -> Launch {
        self.codes.launch(&SOURCE, kernel).define("GRADIENT", name_of(self.gradient))
    }
}

impl Head {
    fn new(hidden: Array, weight: Array, bias: Array, settings: Settings) -> Self {
        let [hidden, weight] = [hidden, weight].map(|x| factor(x, settings.precision));
        Self { hidden, weight, bias: contiguous(bias), settings }
    }

    /// The loss \[1\], and if `has_gradients` its gradients.
    fn loss(&self, rows: &dyn RowLoss, has_gradients: bool) -> (Array, Option<HeadGradients>) {
        let rows = rows.by_digits().expect("rows that a kernel computes");
        let ([count, width], [classes]) = (self.hidden.shape().dims(), self.bias.shape().dims());
        assert_eq!((count, classes), (rows.x_0.len(), rows.codes.vocab_size()));
        let zeros = |shape: Shape| Cube::float_zeros(shape, &self.hidden.device, FloatDType::F32);
        if count == 0 {
            let [for_hidden, for_weight] = [0, classes].map(|rows| zeros(Shape::new([rows, width])));
            let gradients = HeadGradients([for_hidden, for_weight, zeros(Shape::new([classes]))]);
            return (zeros(Shape::new([1])), has_gradients.then_some(gradients));
        }
        let gradients = has_gradients.then(|| {
            let [for_hidden, for_weight] =
                [count, classes].map(|rows| room(&self.hidden, [rows, width], DType::F32));
            HeadGradients([for_hidden, for_weight, zeros(Shape::new([classes]))])
        });
        let device_rows = DeviceRows::new(&rows, &self.hidden, factor_type(self.settings.precision));
        let stride = classes.next_multiple_of(ALIGNMENT);
        // So that every chunk's hidden states begin where products can read them.
        let most = (self.settings.chunk_logits / stride).max(1);
        let size = count.div_ceil(count.div_ceil(most)).next_multiple_of(ALIGNMENT);
        let room_of_logits = room(&self.hidden, [size.min(count), stride], DType::F32);
        for start in (0..count).step_by(size) {
            let chunk = start..count.min(start + size);
            let logits = Matrix {
                array: room_of_logits.clone(),
                first: 0,
                rows: chunk.len(),
                columns: classes,
                leading: stride,
                transposed: false,
            };
            let hidden = Matrix::of(&self.hidden).narrow(start, chunk.len());
            let product = Product {
                epilogue: Epilogue::Bias(self.bias.clone()),
                ..self.product(hidden.clone(), Matrix::of(&self.weight).transpose(), Rows::Outer)
            };
            product.run_into(&logits, false);
            device_rows.charge(chunk, &room_of_logits);
            let Some(HeadGradients([for_hidden, for_weight, for_bias])) = &gradients else { continue };
            let by_logits = gradients_of(logits, device_rows.gradient);
            self.product(by_logits.clone(), Matrix::of(&self.weight), Rows::Outer)
                .run_into(&Matrix::of(for_hidden).narrow(start, hidden.rows), false);
            device_rows.add_columns(&by_logits, for_bias);
            self.product(by_logits.transpose(), hidden, Rows::Inner)
                .run_into(&Matrix::of(for_weight), start > 0);
        }
        (device_rows.total(), gradients)
    }

    fn product(&self, a: Matrix, b: Matrix, rows: Rows) -> Product {
        Product::new(a, b, rows, self.settings.precision)
    }
}

/// The gradients of a type that took the place of logits: rows of shorter numbers are twice as many of them apart.
fn gradients_of(logits: Matrix, dtype: DType) -> Matrix {
    let factor = logits.array.dtype.size() / dtype.size();
    let Array { client, device, handle, .. } = logits.array.clone();
    let shape = Shape::new([logits.array.shape()[0], logits.leading * factor]);
    let array = Array::new_contiguous(client, device, shape, handle, dtype);
    Matrix { array, leading: logits.leading * factor, ..logits }
}

impl HeadLossOp for Cube {
    fn submask_cuda_head_loss(
        hidden: Array,
        weight: Array,
        bias: Array,
        rows: Arc<dyn RowLoss>,
        settings: Settings,
    ) -> Array {
        Head::new(hidden, weight, bias, settings).loss(&*rows, false).0
    }
}

impl<C: CheckpointStrategy> HeadLossOp for Autodiff<Cube, C> {
    fn submask_cuda_head_loss(
        hidden: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        rows: Arc<dyn RowLoss>,
        settings: Settings,
    ) -> FloatTensor<Self> {
        let nodes = [hidden.node(), weight.node(), bias.node()];
        let [hidden, weight, bias] = [hidden, weight, bias].map(|tensor| tensor.into_primitive());
        let head = Head::new(hidden, weight, bias, settings);
        match HeadLossBackward.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => {
                let (loss, gradients) = head.loss(&*rows, true);
                prepared.finish(gradients.expect("asked for"), loss)
            }
            OpsKind::UnTracked(prepared) => prepared.finish(head.loss(&*rows, false).0),
        }
    }
}

#[derive(Debug)]
struct HeadLossBackward;

impl Backward<Cube, 3> for HeadLossBackward {
    type State = HeadGradients;

    fn backward(self, ops: Ops<HeadGradients, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let upstream = grads.consume::<Cube>(&ops.node);
        let HeadGradients(gradients) = ops.state;
        for (parent, gradient) in ops.parents.into_iter().zip(gradients) {
            if let Some(parent) = parent {
                grads.register::<Cube>(parent.id, scaled(gradient, &upstream));
            }
        }
    }
}

/// A gradient that nobody else has, times a number on the device; most often that is 1.
fn scaled(x: Array, by: &Array) -> Array {
    const THREADS: usize = 256;
    const BLOCKS: usize = 1024;
    let count = x.shape().num_elements();
    Launch::new(&SCALE, "scale").write(&x).size(count).read(&contiguous(by.clone())).run(
        &x,
        [count.div_ceil(THREADS).min(BLOCKS), 1, 1],
        THREADS,
    );
    x
}
