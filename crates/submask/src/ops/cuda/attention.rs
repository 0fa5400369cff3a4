//! Rotary positions and attention, by the scheme of FlashAttention-2: no matrix of queries and keys is in memory. Kept for the
//! backward pass are queries and keys, rotated, and values as products take them, the result, and a number per row and head.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::ops::FloatTensorOps;
use burn::backend::tensor::{Device, FloatTensor};
use burn::backend::{Autodiff, Backend, Cube, Dispatch, TensorMetadata, backend_extension};
use burn::tensor::{DType, Tensor, TensorData};

use super::device::{Array, Launch, Source, contiguous, name_of, room, source};
use super::rows::factor_type;
use crate::ops::{AttentionMask, Precision, Rotary};

static FORWARD: Source = source!("attention.cu", "elements.cuh", "attention_tiles.cuh", "attention_keys.cuh");
static BACKWARD: Source =
    source!("attention_backward.cu", "elements.cuh", "attention_tiles.cuh", "attention_keys.cuh");

/// The widest heads for which there are tiles.
pub const MAX_HEAD_WIDTH: usize = 512;

/// Wider heads have one kernel for the gradient of keys and one for that of values.
const MAX_WIDTH_OF_BOTH: usize = 128;

/// Threads of a block that places heads.
const PLACING: usize = 256;

/// Blocks of positions are cut to this, which is longer than any sequence, and whose double is an `int`.
const MAX_BLOCK: usize = 1 << 29;

#[backend_extension(Cube, Autodiff)]
pub trait AttentionOp: Backend {
    fn submask_cuda_attention(qkv: FloatTensor<Self>, settings: Attention) -> FloatTensor<Self>;
}

/// What attention is of, apart from its input.
#[derive(Clone, Debug)]
pub struct Attention {
    pub heads: usize,
    pub rotary: Arc<Rotary>,
    pub mask: AttentionMask,
    pub precision: Precision,
    /// The position of the first query.
    pub first: usize,
    /// Whether what a query reads before its block are keys of a past, perhaps those of the same positions, so that its row
    /// has the bits that it has where its block is alone.
    pub separate: bool,
}

/// See [`crate::ops::Kernels::attention`] and [`attention_of_blocks`](crate::ops::Kernels::attention_of_blocks): of qkv in single
/// precision or in bfloat16, in which its gradient is, too. In bf16 the result is rounded to what the next product takes.
pub fn attention(qkv: Tensor<3>, settings: Attention) -> Tensor<3> {
    Tensor::from_dispatch(Dispatch::submask_cuda_attention(qkv.into_dispatch(), settings))
}

/// How a kernel cuts its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Tiles {
    warps: usize,
    /// Tiles of 16 rows of a warp.
    row_tiles: usize,
    /// Rows of a tile that streams through shared memory.
    streamed: usize,
    /// Such tiles that there are at once.
    stages: usize,
}

impl Tiles {
    /// Of the forward pass. What streams depends on the precision and the width alone: sums grow in its order.
    fn forward(precision: Precision, placed: usize) -> Self {
        let [warps, row_tiles, streamed, stages] = match (precision, placed) {
            (Precision::Bf16, ..=64) => [4, 2, 64, 2],
            (Precision::Bf16, ..=128) => [4, 1, 64, 2],
            (Precision::Bf16, ..=256) => [4, 1, 16, 2],
            (_, ..=64) => [4, 2, 32, 2],
            (_, ..=96) => [4, 1, 32, 2],
            (_, ..=128) => [4, 1, 32, 1],
            (_, ..=256) => [2, 1, 16, 1],
            // Registers do not hold these.
            _ => [1, 1, 16, 1],
        };
        Self { warps, row_tiles, streamed, stages }
    }

    /// Of the backward pass, which has twice as many rows in shared memory, and more sums.
    fn backward(precision: Precision, placed: usize) -> Self {
        let [warps, row_tiles, streamed, stages] = match (precision, placed) {
            (Precision::Bf16, ..=64) => [4, 1, 64, 2],
            (Precision::Bf16, ..=112) => [4, 1, 32, 2],
            (Precision::Bf16, ..=128) => [4, 1, 16, 2],
            (Precision::Bf16, ..=256) => [4, 1, 16, 1],
            (Precision::Bf16, _) => [1, 1, 16, 1],
            (_, ..=64) => [4, 1, 32, 2],
            (_, ..=96) => [4, 1, 32, 1],
            (_, ..=128) => [4, 1, 16, 1],
            (_, ..=256) => [2, 1, 8, 1],
            _ => [1, 1, 8, 1],
        };
        Self { warps, row_tiles, streamed, stages }
    }

    fn threads(self) -> usize {
        32 * self.warps
    }

    fn rows(self) -> usize {
        16 * self.warps * self.row_tiles
    }

    /// Bytes of shared memory where a block has `kept` times its rows and streams two kinds of tiles, with `numbers` per streamed row.
    fn shared(self, precision: Precision, placed: usize, kept: usize, numbers: usize) -> usize {
        let size = factor_type(precision).size();
        let tiles = (kept * self.rows() + 2 * self.stages * self.streamed) * (placed * size + 16);
        let scratch = if precision == Precision::Fp32 { self.rows() * (self.streamed + 4) } else { 0 };
        tiles + 4 * (numbers * self.stages * self.streamed + scratch)
    }
}

/// Queries, keys and values, or the last two, as the kernels take them: [B, n, parts, heads, placed width].
#[derive(Clone, Debug)]
pub(super) struct Placed {
    pub array: Array,
    pub sequences: usize,
    pub rows: usize,
    pub parts: usize,
}

impl Attention {
    fn head_width(&self) -> usize {
        2 * self.rotary.half
    }

    /// Width of a placed head: each half is followed by zeros up to a multiple of 8.
    fn placed_width(&self) -> usize {
        2 * self.rotary.half.next_multiple_of(8)
    }

    /// The same with a past, of which the positions from `first` on read what stands before their blocks.
    pub fn with_past(self, first: usize) -> Self {
        Self { first, separate: true, ..self }
    }

    fn scale(&self) -> f32 {
        1.0 / (self.head_width() as f32).sqrt()
    }

    fn block_len(&self) -> usize {
        self.mask.block_len().min(MAX_BLOCK)
    }

    fn compiled(&self, source: &'static Source, name: &'static str, tiles: Tiles) -> Launch {
        Launch::new(source, name)
            .define("PRECISION", self.precision)
            .define("HEAD_WIDTH", self.head_width())
            .define("WARPS", tiles.warps)
            .define("ROW_TILES", tiles.row_tiles)
            .define("STREAMED_ROWS", tiles.streamed)
            .define("STAGES", tiles.stages)
    }

    fn forward_kernel(&self, name: &'static str, input: DType) -> (Launch, Tiles) {
        let tiles = Tiles::forward(self.precision, self.placed_width());
        let launch = self.compiled(&FORWARD, name, tiles);
        let output = factor_type(self.precision);
        (launch.define("INPUT", name_of(input)).define("OUTPUT", name_of(output)), tiles)
    }

    /// Places the last `parts` of contiguous [B, n, columns], whose first row is of position `first`.
    pub(super) fn place(&self, packed: &Array, parts: usize, first: usize) -> Placed {
        let [sequences, rows, columns] = packed.shape().dims();
        assert!(columns >= parts * self.heads * self.head_width(), "the heads share the width evenly");
        let shape = [sequences, rows, parts, self.heads * self.placed_width()];
        let array = room(packed, shape, factor_type(self.precision));
        let [cosines, sines] = angles(&self.rotary, first + rows, packed);
        let threads = sequences * rows * parts * self.heads * (self.placed_width() / 16);
        self.forward_kernel("attention_place", packed.dtype)
            .0
            .read(packed)
            .read(&cosines)
            .read(&sines)
            .write(&array)
            .size(sequences * rows)
            .int(rows)
            .int(columns)
            .int(parts)
            .int(self.heads)
            .int(first)
            .run(&array, [threads.div_ceil(PLACING), 1, 1], PLACING);
        Placed { array, sequences, rows, parts }
    }

    /// The result [B, n, d], of qkv that was of type `input`, and with `keeps` the rows' logarithms.
    pub(super) fn attend(
        &self,
        own: &Placed,
        past: &Placed,
        input: DType,
        keeps: bool,
    ) -> (Array, Option<Array>) {
        let &Placed { sequences, rows, .. } = own;
        let (launch, tiles) = self.forward_kernel("attention_forward", input);
        let width = self.heads * self.head_width();
        let out = room(&own.array, [sequences, rows, width], factor_type(self.precision));
        let logarithms = keeps.then(|| self.numbers(own));
        let (slot, span) = if self.separate { self.slots(tiles, rows) } else { (0, rows.max(1)) };
        let blocks = rows.div_ceil(span) * span.min(rows).div_ceil(tiles.rows());
        launch
            .read(&own.array)
            .read(&past.array)
            .write(&out)
            .write_if(logarithms.as_ref())
            .int(rows)
            .int(self.heads)
            .int(past.rows)
            .int(past.parts)
            .int((sequences / past.sequences.max(1)).max(1))
            .int(self.first)
            .int(self.block_len())
            .int(self.separate)
            .int(span)
            .int(slot)
            .float(self.scale())
            .shared(tiles.shared(self.precision, self.placed_width(), 1, 0))
            .run(&out, [blocks * self.heads * sequences, 1, 1], tiles.threads());
        (out, logarithms)
    }

    /// How many rows of a streamed tile a block of positions takes, none if it is longer than one; and how many rows, whole blocks or
    /// a part of one, are never in one block of threads with others.
    fn slots(&self, tiles: Tiles, rows: usize) -> (usize, usize) {
        let len = self.block_len();
        if len > tiles.streamed {
            return (0, len.min(rows.max(1)));
        }
        // Products take 16 rows together. Blocks share these only if none lies in two of them.
        let slot = if 16 % len == 0 { len } else { len.next_multiple_of(16) };
        (slot, tiles.rows() / tiles.streamed * (tiles.streamed / slot) * len)
    }

    /// Room for a number per row and head, whose rows begin at multiples of 16 bytes.
    fn numbers(&self, own: &Placed) -> Array {
        room(&own.array, [own.sequences, self.heads, own.rows.next_multiple_of(4)], DType::F32)
    }

    /// The gradient [B, n, 3d] of qkv, and that [B, P, columns] of a past, if there is one with so many columns.
    pub(super) fn backward(
        &self,
        state: &State,
        g: &Array,
        past: Option<(&Placed, usize)>,
    ) -> (Array, Option<Array>) {
        let State { own, out, logarithms, input } = state;
        let (&Placed { sequences, rows, .. }, head_width) = (own, self.head_width());
        let placed = room(&own.array, [sequences, rows, self.heads * self.placed_width()], own.array.dtype);
        let deltas = self.numbers(own);
        let gradient = room(&own.array, [sequences, rows, 3 * self.heads * head_width], *input);
        let past_gradient =
            past.map(|(past, columns)| room(&own.array, [sequences, past.rows, columns], *input));
        let (past_placed, past_rows) = past.map_or((own, 0), |(past, _)| (past, past.rows));
        let [cosines, sines] = angles(&self.rotary, past_rows.max(self.first + rows), &own.array);
        let tiles = Tiles::backward(self.precision, self.placed_width());
        let kernel = |name| {
            let launch = self.compiled(&BACKWARD, name, tiles);
            launch
                .define("UPSTREAM", name_of(g.dtype))
                .define("OUTPUT", name_of(out.dtype))
                .define("GRADIENT", name_of(*input))
        };
        let shared = |numbers| tiles.shared(self.precision, self.placed_width(), 2, numbers);
        let heads = self.heads * sequences;
        let (blocks, past_blocks) = (rows.div_ceil(tiles.rows()), past_rows.div_ceil(tiles.rows()));
        kernel("attention_queries_gradient")
            .read(&own.array)
            .read(&past_placed.array)
            .read(g)
            .read(out)
            .read(logarithms)
            .read(&cosines)
            .read(&sines)
            .write(&placed)
            .write(&deltas)
            .write(&gradient)
            .int(rows)
            .int(self.heads)
            .int(past_rows)
            .int(self.first)
            .int(self.block_len())
            .int(past.is_some())
            .float(self.scale())
            .shared(shared(0))
            .run(&gradient, [blocks * heads, 1, 1], tiles.threads());
        let names: &[&'static str] = if head_width > MAX_WIDTH_OF_BOTH {
            &["attention_keys_gradient", "attention_values_gradient"]
        } else {
            &["attention_keys_values_gradient"]
        };
        for name in names {
            kernel(name)
                .read(&own.array)
                .read(&past_placed.array)
                .read(&placed)
                .read(logarithms)
                .read(&deltas)
                .read(&cosines)
                .read(&sines)
                .write(&gradient)
                .write_if(past_gradient.as_ref())
                .int(rows)
                .int(self.heads)
                .int(past_rows)
                .int(past.map_or(0, |(_, columns)| columns / self.heads / head_width))
                .int(self.first)
                .int(self.block_len())
                .int(past.is_some())
                .float(self.scale())
                .shared(shared(2))
                .run(&gradient, [(blocks + past_blocks) * heads, 1, 1], tiles.threads());
        }
        (gradient, past_gradient)
    }
}

/// What the backward pass needs.
#[derive(Clone, Debug)]
pub(super) struct State {
    pub own: Placed,
    pub out: Array,
    pub logarithms: Array,
    /// The type of what was placed, which its gradient has.
    pub input: DType,
}

/// Tables of angles on devices, as long as somebody has them.
static ANGLES: Mutex<Vec<Angles>> = Mutex::new(Vec::new());

struct Angles {
    rotary: Weak<Rotary>,
    device: Device<Cube>,
    /// Cosines and sines.
    arrays: [Array; 2],
}

/// Cosines and sines, [positions, w/2], on the device of `like`.
fn angles(rotary: &Arc<Rotary>, positions: usize, like: &Array) -> [Array; 2] {
    assert!(positions * rotary.half <= rotary.cos.len(), "a table of fewer than {positions} positions");
    let mut all = ANGLES.lock().unwrap_or_else(PoisonError::into_inner);
    let is_mine =
        |angles: &&Angles| angles.rotary.as_ptr() == Arc::as_ptr(rotary) && angles.device == like.device;
    if let Some(found) = all.iter().find(is_mine) {
        return found.arrays.clone();
    }
    // An address stays taken while somebody remembers it: no other table can be found at it.
    all.retain(|angles| angles.rotary.strong_count() > 0);
    let arrays = [&rotary.cos, &rotary.sin]
        .map(|values| Cube::float_from_data(TensorData::new(values.clone(), [values.len()]), &like.device));
    all.push(Angles { rotary: Arc::downgrade(rotary), device: like.device.clone(), arrays: arrays.clone() });
    arrays
}

impl AttentionOp for Cube {
    fn submask_cuda_attention(qkv: Array, settings: Attention) -> Array {
        let own = settings.place(&contiguous(qkv.clone()), 3, 0);
        settings.attend(&own, &own, qkv.dtype, false).0
    }
}

impl<C: CheckpointStrategy> AttentionOp for Autodiff<Cube, C> {
    fn submask_cuda_attention(qkv: FloatTensor<Self>, settings: Attention) -> FloatTensor<Self> {
        let node = qkv.node();
        let qkv = contiguous(qkv.into_primitive());
        let (own, input) = (settings.place(&qkv, 3, 0), qkv.dtype);
        match AttentionBackward.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => {
                let (out, logarithms) = settings.attend(&own, &own, input, true);
                let logarithms = logarithms.expect("they are kept");
                let state = State { own, out: out.clone(), logarithms, input };
                prepared.finish((state, settings), out)
            }
            OpsKind::UnTracked(prepared) => prepared.finish(settings.attend(&own, &own, input, false).0),
        }
    }
}

#[derive(Debug)]
struct AttentionBackward;

impl Backward<Cube, 1> for AttentionBackward {
    type State = (State, Attention);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let g = contiguous(grads.consume::<Cube>(&ops.node));
        let (state, settings) = ops.state;
        let [parent] = ops.parents;
        if let Some(parent) = parent {
            // Whether a query reads its own past or all keys up to its block's end is the same to gradients.
            grads.register::<Cube>(parent.id, settings.backward(&state, &g, None).0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_fit_the_shared_memory_of_every_gpu_with_tensor_cores_for_bf16() {
        for precision in [Precision::Fp32, Precision::Tf32, Precision::Bf16] {
            for placed in (16..=MAX_HEAD_WIDTH).step_by(16) {
                let forward = Tiles::forward(precision, placed).shared(precision, placed, 1, 0);
                let backward = Tiles::backward(precision, placed).shared(precision, placed, 2, 2);
                assert!(forward.max(backward) <= 99 << 10, "{precision} {placed}: {forward}, {backward}");
            }
        }
    }
}
