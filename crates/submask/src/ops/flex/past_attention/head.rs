//! Attention of one head of one sequence.
//!
//! Rows are multiplied in groups that read nearly as long a past, which is rounded up by zeros to a length that depends
//! on the row's block alone. So the bits of a row are the same in a sequence of many blocks and for a block by itself.

use std::borrow::Cow;
use std::ops::Range;

use super::{PastAttention, STEP};
use crate::ops::flex::attention::rotate;
use crate::ops::flex::gemm::{Matrix, On, add_product, product};
use crate::ops::lanes;

/// Blocks of at most so many positions are multiplied row by row.
const SHORT: usize = 16;

/// Rows of such a block whose products with all others are summed side by side.
const TOGETHER: usize = 4;

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
}

/// Gradients of one head of one sequence.
pub struct HeadGradients {
    /// Of q, k and v, [3][n, w].
    pub own: Vec<Vec<f32>>,
    /// Of the past's keys and values, [2][P, w].
    pub past: Vec<Vec<f32>>,
}

/// One head of one sequence; keys and values of the past are followed by zeros up to a multiple of [`STEP`].
pub struct Head<'a> {
    pub settings: &'a PastAttention,
    /// Head width w.
    pub width: usize,
    /// Rotated, [n, w].
    pub q: &'a [f32],
    pub k: &'a [f32],
    pub v: &'a [f32],
    /// Rotated, [past, w].
    pub past_k: &'a [f32],
    pub past_v: &'a [f32],
}

/// Adds x·yᵀ of N rows x and of the columns of y.
#[inline(always)]
fn add_pairs<const N: usize>(sums: &mut [[f32; SHORT]; N], x: &[f32], columns: &[[f32; SHORT]]) {
    let width = columns.len();
    for (c, column) in columns.iter().enumerate() {
        for row in 0..N {
            let x = x[row * width + c];
            for lane in 0..SHORT {
                sums[row][lane] += x * column[lane];
            }
        }
    }
}

/// Probabilities of the queries of a group, or what the backward pass makes of them.
struct Weights {
    /// Of the past's keys, [rows, past].
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

    /// Some rows of [n, w].
    fn part<'x>(&self, x: &'x [f32], rows: &Range<usize>) -> &'x [f32] {
        &x[rows.start * self.width..rows.end * self.width]
    }

    /// x·yᵀ·scale, x of a group's rows, with the past's keys or values y; and the same within each block.
    fn against(&self, group: &Group, x: &[f32], past_y: &[f32], y: &[f32], scale: f32) -> Weights {
        let width = self.width;
        let rows = Matrix::new(self.part(x, &group.rows), group.rows.len(), width);
        let keys = Matrix::new(&past_y[..group.past * width], group.past, width);
        let past = product(rows, keys.t(), scale, self.on());
        let own =
            |rows: Range<usize>| self.pairs(self.part(x, &rows), self.part(y, &rows), rows.len(), scale);
        Weights { past, own: self.settings.blocks(group.rows.clone()).map(own).collect() }
    }

    /// x·yᵀ·scale of the rows of one block, [n, n].
    fn pairs(&self, x: &[f32], y: &[f32], n: usize, scale: f32) -> Vec<f32> {
        let width = self.width;
        if n > SHORT {
            return product(Matrix::new(x, n, width), Matrix::new(y, n, width).t(), scale, self.on());
        }
        let mut columns = vec![[0f32; SHORT]; width];
        for (row, y) in y.chunks_exact(width).enumerate() {
            columns.iter_mut().zip(y).for_each(|(column, y)| column[row] = *y);
        }
        let mut out = vec![0.0; n * n];
        lanes::vectorized(
            #[inline(always)]
            || {
                let mut outs = out.chunks_exact_mut(n);
                for rows in x.chunks(TOGETHER * width) {
                    let mut sums = [[0f32; SHORT]; TOGETHER];
                    // Sums of several rows grow side by side: each waits for itself alone.
                    match rows.len() == TOGETHER * width {
                        true => add_pairs(&mut sums, rows, &columns),
                        false => {
                            for (sum, row) in sums.iter_mut().zip(rows.chunks_exact(width)) {
                                add_pairs(std::array::from_mut(sum), row, &columns);
                            }
                        }
                    }
                    for (sum, out) in sums.iter().zip(&mut outs) {
                        out.iter_mut().zip(sum).for_each(|(out, sum)| *out = scale * sum);
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
        let (step, next) = if transposed { (1, n) } else { (n, 1) };
        lanes::vectorized(
            #[inline(always)]
            || {
                for (i, out) in out.chunks_exact_mut(width).enumerate() {
                    let (wide, rest) = out.as_chunks_mut::<SHORT>();
                    for (column, out) in wide.iter_mut().enumerate() {
                        let mut sum = [0f32; SHORT];
                        for j in 0..n {
                            let y = &y[j * width + column * SHORT..][..SHORT];
                            let weight = weights[i * step + j * next];
                            for lane in 0..SHORT {
                                sum[lane] += weight * y[lane];
                            }
                        }
                        *out = sum;
                    }
                    for j in 0..n {
                        let y = &y[(j + 1) * width - rest.len()..(j + 1) * width];
                        lanes::add_scaled(rest, y, weights[i * step + j * next]);
                    }
                }
            },
        );
        out
    }

    /// The probabilities of a group's queries.
    fn probabilities(&self, group: &Group) -> Weights {
        let mut weights = self.against(group, self.q, self.past_k, self.k, self.scale());
        self.for_each_row(
            group,
            &mut weights,
            #[inline(always)]
            |past, own, _| {
                let max = lanes::max_of([past, own]);
                let inverse = 1.0 / lanes::map_sum_of([past, own], |score| lanes::exp(score - max));
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
        let width = self.width;
        let past_y = Matrix::new(&past_y[..group.past * width], group.past, width);
        let past_weights = Matrix::new(&weights.past, group.rows.len(), group.past);
        let mut out = product(past_weights, past_y, 1.0, self.on());
        for (block, own) in self.settings.blocks(group.rows.clone()).zip(&weights.own) {
            let own = self.mixed(own, self.part(y, &block), block.len(), false);
            let first = (block.start - group.rows.start) * width;
            for (out, own) in out[first..][..own.len()].iter_mut().zip(&own) {
                *out = scale * (*out + own);
            }
        }
        out
    }

    /// The result, [n, w].
    pub fn forward(&self) -> Vec<f32> {
        let mut out = Vec::with_capacity(self.q.len());
        for group in self.settings.groups(self.q.len() / self.width) {
            let weights = self.probabilities(&group);
            out.extend(self.sums(&group, &weights, self.past_v, self.v, 1.0));
        }
        out
    }

    /// Gradients from that of the result, where the past is of `past_len` positions.
    pub fn backward(&self, g: &[f32], past_len: usize) -> HeadGradients {
        let (width, settings) = (self.width, self.settings);
        let [mut dq, mut dk, mut dv] = [(); 3].map(|()| Vec::with_capacity(self.q.len()));
        let [mut past_dk, mut past_dv] = [(); 2].map(|()| vec![0.0; self.past_k.len()]);
        for group in settings.groups(self.q.len() / width) {
            let p = self.probabilities(&group);
            let mut ds = self.against(&group, g, self.past_v, self.v, 1.0);
            self.for_each_row(
                &group,
                &mut ds,
                #[inline(always)]
                |past, own, [row, block, inside]| {
                    let past_p = &p.past[row * group.past..][..past.len()];
                    let own_p = &p.own[block][inside * own.len()..][..own.len()];
                    let mean = lanes::dot_of([(past, past_p), (own, own_p)]);
                    past.iter_mut().zip(past_p).for_each(|(ds, p)| *ds = p * (*ds - mean));
                    own.iter_mut().zip(own_p).for_each(|(ds, p)| *ds = p * (*ds - mean));
                },
            );
            dq.extend(self.sums(&group, &ds, self.past_k, self.k, self.scale()));
            let to_past = |out: &mut [f32], weights: &[f32], x: &[f32], scale: f32| {
                let count = group.rows.len();
                let mut x = Cow::Borrowed(self.part(x, &group.rows));
                if scale != 1.0 {
                    x.to_mut().iter_mut().for_each(|x| *x *= scale);
                }
                let weights = Matrix::new(weights, count, group.past).t();
                let out = &mut out[..group.past * width];
                add_product(out, weights, Matrix::new(&x, count, width), self.on());
            };
            to_past(&mut past_dv, &p.past, g, 1.0);
            to_past(&mut past_dk, &ds.past, self.q, self.scale());
            for (block, (p, ds)) in settings.blocks(group.rows.clone()).zip(p.own.iter().zip(&ds.own)) {
                dv.extend(self.mixed(p, self.part(g, &block), block.len(), true));
                let keys = self.mixed(ds, self.part(self.q, &block), block.len(), true);
                dk.extend(keys.into_iter().map(|x| x * self.scale()));
            }
        }
        past_dk.truncate(past_len * width);
        past_dv.truncate(past_len * width);
        rotate(&mut dq, &settings.rotary, settings.first, true);
        rotate(&mut dk, &settings.rotary, settings.first, true);
        rotate(&mut past_dk, &settings.rotary, 0, true);
        HeadGradients { own: vec![dq, dk, dv], past: vec![past_dk, past_dv] }
    }
}
