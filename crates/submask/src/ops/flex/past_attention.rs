//! Attention of positions that read their own block and a past of keys and values; the probabilities are computed again
//! in the backward pass, as in `attention`.
//!
//! Rows are multiplied in groups that read nearly as long a past, which is rounded up by zeros to a length that depends
//! on the row's block alone. So the bits of a row are the same in a sequence of many blocks and for a block by itself.

use std::ops::Range;
use std::sync::Arc;

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Dispatch, Flex, TensorMetadata, backend_extension};
use burn::tensor::Tensor;
use burn_flex::FlexTensor;
use rayon::prelude::*;

use super::attention::{beside, rotate};
use super::gemm::{Matrix, On, add_product, min_rows, product, product_to};
use super::{contiguous, dims, register, tensor, values};
use crate::ops::{AttentionMask, Past, Precision, Rotary, lanes};

/// Lengths of pasts are rounded up to multiples of this.
const STEP: usize = 64;

/// Blocks of at most so many positions are multiplied row by row.
const SHORT: usize = 16;

#[backend_extension(Flex, Autodiff)]
pub trait PastAttentionOp: burn::backend::Backend {
    fn submask_past_attention(
        qkv: FloatTensor<Self>,
        past: FloatTensor<Self>,
        settings: PastAttention,
    ) -> FloatTensor<Self>;
}

/// What attention with a past is of, apart from its inputs.
#[derive(Clone, Debug)]
pub struct PastAttention {
    first: usize,
    heads: usize,
    rotary: Arc<Rotary>,
    mask: AttentionMask,
    precision: Precision,
}

/// See [`crate::ops::Kernels::attention_with_past`].
pub fn attention_with_past(
    qkv: Tensor<3>,
    past: Past,
    heads: usize,
    rotary: Arc<Rotary>,
    mask: AttentionMask,
    precision: Precision,
) -> Tensor<3> {
    let Past { keys_values, first } = past;
    let settings = PastAttention { first, heads, rotary, mask, precision };
    let (qkv, past) = (qkv.into_dispatch(), keys_values.into_dispatch());
    Tensor::from_dispatch(Dispatch::submask_past_attention(qkv, past, settings))
}

/// Rows of queries, whole blocks, whose pasts are rounded up to the same length.
struct Group {
    rows: Range<usize>,
    past: usize,
}

impl PastAttention {
    fn groups(&self, rows: usize) -> Vec<Group> {
        let past = |row: usize| self.start(row).next_multiple_of(STEP);
        let mut groups: Vec<Group> = Vec::new();
        for block in self.blocks(0..rows) {
            match groups.last_mut() {
                Some(last) if last.past == past(block.start) => last.rows.end = block.end,
                _ => groups.push(Group { past: past(block.start), rows: block }),
            }
        }
        groups
    }

    /// Where the past of a row ends.
    fn start(&self, row: usize) -> usize {
        self.mask.block_start(self.first + row)
    }

    /// The blocks of some rows, the first of which begins one.
    fn blocks(&self, rows: Range<usize>) -> impl Iterator<Item = Range<usize>> + use<> {
        let (step, end) = (self.mask.block_len().min(rows.len().max(1)), rows.end);
        rows.step_by(step).map(move |first| first..(first + step).min(end))
    }

    /// Runs `work` on the heads of every sequence, in order.
    fn for_each_head<R: Send>(
        &self,
        qkv: &FlexTensor,
        past: &FlexTensor,
        work: impl Fn(Head, usize, usize) -> R + Sync,
    ) -> Vec<R> {
        let [batch, rows, triple] = dims(qkv);
        let [pasts, length, double] = dims(past);
        let (width, heads) = (triple / 3, self.heads);
        let head_width = width / heads;
        assert_eq!(heads * head_width, width, "the heads share the width evenly");
        let head = |index: usize| {
            let (sequence, head) = (index / heads, index % heads);
            let mine = sequence * pasts / batch;
            let qkv = &values(qkv)[sequence * rows * triple..][..rows * triple];
            let past = &values(past)[mine * length * double..][..length * double];
            let part = |part: usize| {
                let values = qkv.get(part * width + head * head_width..).unwrap_or_default();
                copied(Matrix::strided(values, rows, head_width, triple))
            };
            let past_part = |part: usize| {
                let values = past.get(part * width + head * head_width..).unwrap_or_default();
                let mut part = copied(Matrix::strided(values, length, head_width, double));
                part.resize(length.next_multiple_of(STEP) * head_width, 0.0);
                part
            };
            let [mut q, mut k, v] = [part(0), part(1), part(2)];
            rotate(&mut q, &self.rotary, self.first, false);
            rotate(&mut k, &self.rotary, self.first, false);
            let [mut past_k, past_v] = [past_part(0), past_part(1)];
            rotate(&mut past_k[..length * head_width], &self.rotary, 0, false);
            work(Head { settings: self, width: head_width, q, k, v, past_k, past_v }, sequence, head)
        };
        (0..batch * heads).into_par_iter().map(head).collect()
    }

    fn forward(&self, qkv: FlexTensor, past: FlexTensor) -> FlexTensor {
        let (qkv, past) = (contiguous(qkv), contiguous(past));
        let [batch, rows, triple] = dims(&qkv);
        let heads = self.for_each_head(&qkv, &past, |head, _, _| vec![head.forward()]);
        let out = beside(&heads, self.heads, [rows, 1, triple / 3 / self.heads]);
        tensor(out, [batch, rows, triple / 3])
    }
}

/// The rows of a matrix, one after the other.
fn copied(matrix: Matrix) -> Vec<f32> {
    let mut out = Vec::with_capacity(matrix.rows() * matrix.columns());
    (0..matrix.rows()).for_each(|row| out.extend_from_slice(matrix.row(row)));
    out
}

/// One head of one sequence; keys and values of the past are followed by zeros up to a multiple of [`STEP`].
struct Head<'a> {
    settings: &'a PastAttention,
    /// Head width w.
    width: usize,
    /// Rotated, [n, w].
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
    /// Rotated, [past, w].
    past_k: Vec<f32>,
    past_v: Vec<f32>,
}

/// Probabilities of the queries of a group, or what the backward pass makes of them.
struct Weights {
    /// Of the past's keys, [rows, past], with rows of zeros after those of the group.
    past: Vec<f32>,
    /// Of the keys of the own block: for each block [rows, rows], one after the other.
    own: Vec<Vec<f32>>,
}

impl Head<'_> {
    fn on(&self) -> On {
        On::Thread(self.settings.precision)
    }

    fn scale(&self) -> f32 {
        1.0 / (self.width as f32).sqrt()
    }

    /// Rows that are multiplied for a group: at least as many as keep the library on one path.
    fn padded(&self, group: &Group) -> usize {
        let least = min_rows(self.width, group.past.max(1)).max(min_rows(group.past, self.width));
        group.rows.len().max(least)
    }

    /// Some rows of [n, w], followed by zeros.
    fn some_rows(&self, x: &[f32], rows: &Range<usize>, padded: usize) -> Vec<f32> {
        let mut some = x[rows.start * self.width..rows.end * self.width].to_vec();
        some.resize(padded * self.width, 0.0);
        some
    }

    /// x·yᵀ·scale, x of a group's rows, with the past's keys or values y; and the same within each block.
    fn against(&self, group: &Group, x: &[f32], past_y: &[f32], y: &[f32], scale: f32) -> Weights {
        let (width, padded) = (self.width, self.padded(group));
        let mut past = vec![0.0; padded * group.past];
        if group.past > 0 {
            let rows = self.some_rows(x, &group.rows, padded);
            let keys = Matrix::new(&past_y[..group.past * width], group.past, width);
            product_to(&mut past, Matrix::new(&rows, padded, width), keys.t(), scale, self.on());
        }
        let own = |rows: Range<usize>| {
            let part = |x: &'_ [f32]| x[rows.start * width..rows.end * width].to_vec();
            self.pairs(&part(x), &part(y), rows.len(), scale)
        };
        Weights { past, own: self.settings.blocks(group.rows.clone()).map(own).collect() }
    }

    /// x·yᵀ·scale of the rows of one block, [n, n].
    fn pairs(&self, x: &[f32], y: &[f32], n: usize, scale: f32) -> Vec<f32> {
        let width = self.width;
        if n > SHORT {
            return product(Matrix::new(x, n, width), Matrix::new(y, n, width).t(), scale, self.on());
        }
        let mut out = vec![0.0; n * n];
        lanes::vectorized(
            #[inline(always)]
            || {
                for (out, x) in out.chunks_exact_mut(n).zip(x.chunks_exact(width)) {
                    for (out, y) in out.iter_mut().zip(y.chunks_exact(width)) {
                        *out = scale * lanes::dot(x, y);
                    }
                }
            },
        );
        out
    }

    /// Σ over j of weight\[i, j\]·y\[j\] in one block, [n, w]; with `transposed` of weight\[j, i\].
    fn mixed(&self, weights: &[f32], y: &[f32], n: usize, transposed: bool) -> Vec<f32> {
        let width = self.width;
        let matrix = Matrix::new(weights, n, n);
        if n > SHORT {
            let matrix = if transposed { matrix.t() } else { matrix };
            return product(matrix, Matrix::new(y, n, width), 1.0, self.on());
        }
        let mut out = vec![0.0; n * width];
        lanes::vectorized(
            #[inline(always)]
            || {
                for (i, out) in out.chunks_exact_mut(width).enumerate() {
                    for (j, y) in y.chunks_exact(width).enumerate() {
                        let weight = if transposed { weights[j * n + i] } else { weights[i * n + j] };
                        lanes::add_scaled(out, y, weight);
                    }
                }
            },
        );
        out
    }

    /// The probabilities of a group's queries.
    fn probabilities(&self, group: &Group) -> Weights {
        let mut weights = self.against(group, &self.q, &self.past_k, &self.k, self.scale());
        self.for_each_row(
            group,
            &mut weights,
            #[inline(always)]
            |past, own, _| {
                let max = lanes::max(past).max(lanes::max(own));
                let sum = lanes::map_sum(past, |score| lanes::exp(score - max));
                let inverse = 1.0 / (sum + lanes::map_sum(own, |score| lanes::exp(score - max)));
                past.iter_mut().for_each(|weight| *weight *= inverse);
                own.iter_mut().for_each(|weight| *weight *= inverse);
            },
        );
        weights
    }

    /// Calls `visit` with what a row has of its past and of its block, and with its number in the group, its block and its
    /// number there; what it does not read of the past becomes 0.
    fn for_each_row(
        &self,
        group: &Group,
        weights: &mut Weights,
        visit: impl Fn(&mut [f32], &mut [f32], [usize; 3]),
    ) {
        let mut past = weights.past.chunks_exact_mut(group.past.max(1));
        let blocks = self.settings.blocks(group.rows.clone()).zip(&mut weights.own).enumerate();
        lanes::vectorized(
            #[inline(always)]
            || {
                for (index, (block, own)) in blocks {
                    let start = self.settings.start(block.start);
                    for (inside, own) in own.chunks_exact_mut(block.len()).enumerate() {
                        let past = past.next().unwrap_or_default();
                        let (past, unread) = past.split_at_mut(start.min(past.len()));
                        unread.fill(0.0);
                        visit(past, own, [block.start - group.rows.start + inside, index, inside]);
                    }
                }
            },
        );
    }

    /// The sums over a past and a block: Σ weight·y, [rows of the group, w].
    fn sums(&self, group: &Group, weights: &Weights, past_y: &[f32], y: &[f32], scale: f32) -> Vec<f32> {
        let (width, padded) = (self.width, self.padded(group));
        let mut out = vec![0.0; padded * width];
        if group.past > 0 {
            let past_y = Matrix::new(&past_y[..group.past * width], group.past, width);
            product_to(&mut out, Matrix::new(&weights.past, padded, group.past), past_y, 1.0, self.on());
        }
        out.truncate(group.rows.len() * width);
        for (block, own) in self.settings.blocks(group.rows.clone()).zip(&weights.own) {
            let own = self.mixed(own, &y[block.start * width..block.end * width], block.len(), false);
            let first = (block.start - group.rows.start) * width;
            for (out, own) in out[first..][..own.len()].iter_mut().zip(&own) {
                *out = scale * (*out + own);
            }
        }
        out
    }

    /// The result, [n, w].
    fn forward(&self) -> Vec<f32> {
        let mut out = Vec::with_capacity(self.q.len());
        for group in self.settings.groups(self.q.len() / self.width) {
            let weights = self.probabilities(&group);
            out.extend(self.sums(&group, &weights, &self.past_v, &self.v, 1.0));
        }
        out
    }

    /// Gradients of q, k and v, [3][n, w], and of the past's keys and values, [2][P, w], from that of the result.
    fn backward(&self, g: &[f32], past_len: usize) -> (Vec<Vec<f32>>, Vec<Vec<f32>>) {
        let (width, settings) = (self.width, self.settings);
        let [mut dq, mut dk, mut dv] = [(); 3].map(|()| Vec::with_capacity(self.q.len()));
        let [mut past_dk, mut past_dv] = [(); 2].map(|()| vec![0.0; self.past_k.len()]);
        for group in settings.groups(self.q.len() / width) {
            let p = self.probabilities(&group);
            let mut ds = self.against(&group, g, &self.past_v, &self.v, 1.0);
            self.for_each_row(
                &group,
                &mut ds,
                #[inline(always)]
                |past, own, [row, block, inside]| {
                    let past_p = &p.past[row * group.past..][..past.len()];
                    let own_p = &p.own[block][inside * own.len()..][..own.len()];
                    let mean = lanes::dot(past, past_p) + lanes::dot(own, own_p);
                    past.iter_mut().zip(past_p).for_each(|(ds, p)| *ds = p * (*ds - mean));
                    own.iter_mut().zip(own_p).for_each(|(ds, p)| *ds = p * (*ds - mean));
                },
            );
            dq.extend(self.sums(&group, &ds, &self.past_k, &self.k, self.scale()));
            let padded = self.padded(&group);
            let to_past = |out: &mut [f32], weights: &[f32], x: &[f32], scale: f32| {
                if group.past > 0 {
                    let mut x = self.some_rows(x, &group.rows, padded);
                    x.iter_mut().for_each(|x| *x *= scale);
                    let weights = Matrix::new(weights, padded, group.past).t();
                    let out = &mut out[..group.past * width];
                    add_product(out, weights, Matrix::new(&x, padded, width), self.on());
                }
            };
            to_past(&mut past_dv, &p.past, g, 1.0);
            to_past(&mut past_dk, &ds.past, &self.q, self.scale());
            for (block, (p, ds)) in settings.blocks(group.rows.clone()).zip(p.own.iter().zip(&ds.own)) {
                let part = |x: &'_ [f32]| x[block.start * width..block.end * width].to_vec();
                dv.extend(self.mixed(p, &part(g), block.len(), true));
                let keys = self.mixed(ds, &part(&self.q), block.len(), true);
                dk.extend(keys.into_iter().map(|x| x * self.scale()));
            }
        }
        past_dk.truncate(past_len * width);
        past_dv.truncate(past_len * width);
        rotate(&mut dq, &settings.rotary, settings.first, true);
        rotate(&mut dk, &settings.rotary, settings.first, true);
        rotate(&mut past_dk, &settings.rotary, 0, true);
        (vec![dq, dk, dv], vec![past_dk, past_dv])
    }
}

impl PastAttentionOp for Flex {
    fn submask_past_attention(qkv: FlexTensor, past: FlexTensor, settings: PastAttention) -> FlexTensor {
        settings.forward(qkv, past)
    }
}

impl<C: CheckpointStrategy> PastAttentionOp for Autodiff<Flex, C> {
    fn submask_past_attention(
        qkv: FloatTensor<Self>,
        past: FloatTensor<Self>,
        settings: PastAttention,
    ) -> FloatTensor<Self> {
        let nodes = [qkv.node(), past.node()];
        let [qkv, past] = [qkv, past].map(|tensor| contiguous(tensor.into_primitive()));
        match PastAttentionBackward.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => {
                assert_eq!(qkv.shape()[0], past.shape()[0], "draws that share a past have no gradients");
                let out = settings.forward(qkv.clone(), past.clone());
                prepared.finish((qkv, past, settings), out)
            }
            OpsKind::UnTracked(prepared) => prepared.finish(settings.forward(qkv, past)),
        }
    }
}

#[derive(Debug)]
struct PastAttentionBackward;

impl Backward<Flex, 2> for PastAttentionBackward {
    type State = (FlexTensor, FlexTensor, PastAttention);

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let g = contiguous(grads.consume::<Flex>(&ops.node));
        let (qkv, past, settings) = ops.state;
        let [for_qkv, for_past] = ops.parents;
        let [_, rows, triple] = dims(&qkv);
        let [_, past_len, _] = dims(&past);
        let (width, head_width) = (triple / 3, triple / 3 / settings.heads);
        let heads = settings.for_each_head(&qkv, &past, |head, sequence, index| {
            let all = values(&g)[sequence * rows * width..].get(index * head_width..).unwrap_or_default();
            head.backward(&copied(Matrix::strided(all, rows, head_width, width)), past_len)
        });
        let (own, of_past): (Vec<_>, Vec<_>) = heads.into_iter().unzip();
        register!(grads, for_qkv, tensor(beside(&own, settings.heads, [rows, 3, head_width]), qkv.shape()));
        register!(grads, for_past, {
            tensor(beside(&of_past, settings.heads, [past_len, 2, head_width]), past.shape())
        });
    }
}
