//! Rows of a table, some per token.

use std::sync::Arc;

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::ops::IntTensorOps;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Autodiff, Backend, Cube, Dispatch, TensorMetadata, backend_extension};
use burn::tensor::{DType, Int, Tensor, TensorData};

use super::device::{Array, Launch, Source, contiguous, name_of, room, source};
use super::rows;
use crate::ops::TableRows;

static SOURCE: Source = source!("embedding.cu", "elements.cuh");

/// Tokens of a block, and places that are added up together, as the kernels have it.
const TOKENS: usize = 8;
const PIECE: usize = 64;

#[backend_extension(Cube, Autodiff)]
pub trait EmbeddingOp: Backend {
    fn submask_cuda_embedding(table: FloatTensor<Self>, rows: Arc<TableRows>) -> FloatTensor<Self>;
}

#[backend_extension(Cube)]
pub trait EmbeddingOfOp: Backend {
    fn submask_cuda_embedding_of(
        table: FloatTensor<Self>,
        indices: IntTensor<Self>,
        hidden: usize,
        summed: bool,
    ) -> FloatTensor<Self>;
}

/// See [`crate::ops::Kernels::embedding`]: of a table in single precision, or of rows in bfloat16.
pub fn embedding(table: Tensor<2>, rows: Arc<TableRows>) -> Tensor<2> {
    Tensor::from_dispatch(Dispatch::submask_cuda_embedding(table.into_dispatch(), rows))
}

/// The same, given the rows [tokens, rows per token] on the device, without gradients.
pub fn embedding_of(table: Tensor<2>, indices: Tensor<2, Int>, hidden: usize, summed: bool) -> Tensor<2> {
    let (table, indices) = (table.into_dispatch(), indices.into_dispatch());
    Tensor::from_dispatch(Dispatch::submask_cuda_embedding_of(table, indices, hidden, summed))
}

/// Vectors, given the rows [tokens, rows per token].
fn vectors(table: &Array, indices: &Array, hidden: usize, summed: bool) -> Array {
    let ([_, width], [tokens, per_token]) = (table.shape().dims(), indices.shape().dims());
    let pack = rows::pack(&[width, hidden]);
    let out = room(table, [tokens, hidden], table.dtype);
    let [blocks, threads] = rows::columns(hidden, pack);
    launch("embedding", pack, [table.dtype, DType::F32])
        .read(table)
        .read(indices)
        .write(&out)
        .int(tokens)
        .int(per_token)
        .int(width)
        .int(hidden)
        .int(u32::from(summed))
        .run(&out, [tokens.div_ceil(TOKENS), blocks, 1], threads);
    out
}

fn launch(name: &'static str, pack: usize, [table, upstream]: [DType; 2]) -> Launch {
    let launch = Launch::new(&SOURCE, name).define("PACK", pack);
    launch.define("TABLE", name_of(table)).define("UPSTREAM", name_of(upstream))
}

/// Integers on the device of `like`.
fn upload(values: Vec<i32>, shape: [usize; 2], like: &Array) -> Array {
    contiguous(Cube::int_from_data(TensorData::new(values, shape), &like.device))
}

fn embedded(table: &Array, rows: &TableRows) -> Array {
    let shape = [rows.indices.len() / rows.per_token, rows.per_token];
    let indices = upload(rows.indices.iter().map(|&index| index as i32).collect(), shape, table);
    vectors(table, &indices, rows.hidden, rows.summed)
}

impl EmbeddingOp for Cube {
    fn submask_cuda_embedding(table: Array, rows: Arc<TableRows>) -> Array {
        embedded(&contiguous(table), &rows)
    }
}

impl EmbeddingOfOp for Cube {
    fn submask_cuda_embedding_of(table: Array, indices: Array, hidden: usize, summed: bool) -> Array {
        assert_eq!(indices.dtype, DType::I32);
        vectors(&contiguous(table), &contiguous(indices), hidden, summed)
    }
}

impl<C: CheckpointStrategy> EmbeddingOp for Autodiff<Cube, C> {
    fn submask_cuda_embedding(table: FloatTensor<Self>, rows: Arc<TableRows>) -> FloatTensor<Self> {
        let node = table.node();
        let table = contiguous(table.into_primitive());
        let out = embedded(&table, &rows);
        match EmbeddingBackward.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => prepared.finish((table.shape().dims(), rows), out),
            OpsKind::UnTracked(prepared) => prepared.finish(out),
        }
    }
}

/// The gradient of a row of the table: the sum of those of its places, in the order of the tokens.
#[derive(Debug)]
struct EmbeddingBackward;

impl Backward<Cube, 1> for EmbeddingBackward {
    /// Shape of the table, and which rows were taken.
    type State = ([usize; 2], Arc<TableRows>);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let g = contiguous(grads.consume::<Cube>(&ops.node));
        let ([count, width], rows) = ops.state;
        let [Some(parent)] = ops.parents else { return };
        let Places { lists, pieces } = Places::of(&rows, count, width);
        let length = lists.len();
        let lists = upload(lists, [1, length], &g);
        let parts = room(&g, [pieces, width], DType::F32);
        let out = room(&g, [count, width], DType::F32);
        let pack = rows::pack(&[width, rows.hidden]);
        let [blocks, threads] = rows::columns(width, pack);
        let launch = |name| launch(name, pack, [DType::F32, g.dtype]).read(&g).read(&lists);
        let sizes = |launch: Launch| launch.int(pieces).int(count).int(width);
        sizes(launch("embedding_pieces").write(&parts)).run(&out, [pieces, blocks, 1], threads);
        let all = launch("embedding_backward").read(&parts).write(&out);
        sizes(all).run(&out, [count, blocks, 1], threads);
        grads.register::<Cube>(parent.id, out);
    }
}

/// Which places take which row of the table, as the kernels read it.
struct Places {
    /// First and last place of every piece; where the places of every row begin, and where its pieces do; then the
    /// places: where they begin in the gradient.
    lists: Vec<i32>,
    /// Number of pieces.
    pieces: usize,
}

impl Places {
    fn of(rows: &TableRows, count: usize, width: usize) -> Self {
        let &TableRows { ref indices, per_token, hidden, summed } = rows;
        let mut starts = vec![0; count + 1];
        for &index in indices {
            starts[index as usize + 1] += 1;
        }
        for row in 0..count {
            starts[row + 1] += starts[row];
        }
        let (mut next, mut places) = (starts.clone(), vec![0; indices.len()]);
        for (place, &index) in indices.iter().enumerate() {
            let offset = if summed { 0 } else { place % per_token * width };
            let begin = u32::try_from(place / per_token * hidden + offset).expect("fewer than 2³² elements");
            let at = &mut next[index as usize];
            places[*at as usize] = begin as i32;
            *at += 1;
        }
        let (mut pieces, mut pieces_of) = (Vec::new(), vec![0]);
        for bounds in starts.windows(2) {
            let (first, end) = (bounds[0], bounds[1]);
            if (end - first) as usize > PIECE {
                let parts = (first..end).step_by(PIECE);
                pieces.extend(parts.flat_map(|part| [part, end.min(part + PIECE as i32)]));
            }
            pieces_of.push(pieces.len() as i32 / 2);
        }
        let count = pieces.len() / 2;
        Self { lists: [pieces, starts, pieces_of, places].concat(), pieces: count }
    }
}
