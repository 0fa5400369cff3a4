//! The plain compositions: what every fused kernel must equal, values and gradients.

use burn::tensor::module::conv2d;
use burn::tensor::ops::ConvOptions;
use burn::tensor::{Bool, Device, Int, Tensor, TensorData, activation};

use super::{AttentionMask, Dropout, GroupNorm, Rotary, TableRows, integers};

/// √(2/π) and the cubic coefficient of GELU's tanh form.
pub(super) const GELU: [f32; 2] = [0.797_884_6, 0.044_715];

/// Epsilon of every norm.
pub(crate) const NORM_EPSILON: f32 = 1e-5;

/// See [`super::Kernels::embedding`].
pub fn embedding(table: Tensor<2>, rows: &TableRows) -> Tensor<2> {
    let TableRows { ref indices, per_token, hidden, summed } = *rows;
    let shape = [indices.len() / per_token, per_token];
    let indices = integers(indices.iter().copied(), shape, &table.device());
    embedding_of(table, indices, hidden, summed)
}

/// The same, given the rows [tokens, rows per token] on the device.
pub fn embedding_of(table: Tensor<2>, indices: Tensor<2, Int>, hidden: usize, summed: bool) -> Tensor<2> {
    let (device, [_, width], [count, per_token]) = (table.device(), table.dims(), indices.dims());
    let vectors = table.select(0, indices.reshape([count * per_token]));
    if summed {
        return vectors.reshape([count, per_token, hidden]).sum_dim(1).reshape([count, hidden]);
    }
    let filled = per_token * width;
    let vectors = vectors.reshape([count, filled]);
    match hidden - filled {
        0 => vectors,
        rest => Tensor::cat(vec![vectors, Tensor::zeros([count, rest], &device)], 1),
    }
}

/// See [`super::Kernels::linear`].
pub fn linear(x: Tensor<2>, weight: Tensor<2>, bias: Option<Tensor<1>>) -> Tensor<2> {
    let product = x.matmul(weight.transpose());
    match bias {
        Some(bias) => product + bias.unsqueeze(),
        None => product,
    }
}

/// See [`super::Kernels::linear_gelu`].
pub fn linear_gelu(x: Tensor<2>, weight: Tensor<2>, bias: Tensor<1>) -> Tensor<2> {
    gelu(linear(x, weight, Some(bias)))
}

/// GELU in its tanh form.
pub(super) fn gelu(x: Tensor<2>) -> Tensor<2> {
    let cube = x.clone() * x.clone() * x.clone();
    let inner = (x.clone() + cube * GELU[1]) * GELU[0];
    x * 0.5 * (inner.tanh() + 1.0)
}

/// See [`super::Kernels::modulated_norm`].
pub fn modulated_norm(x: Tensor<3>, weight: Tensor<1>, shift: Tensor<2>, scale: Tensor<2>) -> Tensor<3> {
    let centred = x.clone() - x.mean_dim(2);
    let variance = (centred.clone() * centred.clone()).mean_dim(2);
    let normed = centred / (variance + NORM_EPSILON).sqrt() * weight.unsqueeze();
    normed * (scale + 1.0).unsqueeze_dim(1) + shift.unsqueeze_dim(1)
}

/// See [`super::Kernels::rms_norm`].
pub fn rms_norm(x: Tensor<2>, weight: Tensor<1>) -> Tensor<2> {
    let square = (x.clone() * x.clone()).mean_dim(1);
    x / (square + NORM_EPSILON).sqrt() * weight.unsqueeze()
}

/// See [`super::Kernels::swiglu`].
pub fn swiglu(gate: Tensor<2>, x: Tensor<2>) -> Tensor<2> {
    activation::silu(gate) * x
}

/// See [`super::Kernels::group_norm`].
pub fn group_norm(x: Tensor<4>, scale: Tensor<2>, shift: Tensor<2>, norm: GroupNorm) -> Tensor<4> {
    let [batch, channels, height, width] = x.dims();
    let groups = x.reshape([batch, norm.groups, channels / norm.groups * height * width]);
    let centred = groups.clone() - groups.mean_dim(2);
    let variance = (centred.clone() * centred.clone()).mean_dim(2);
    let normed = (centred / (variance + NORM_EPSILON).sqrt()).reshape([batch, channels, height, width]);
    let column = |x: Tensor<2>| {
        let [rows, _] = x.dims();
        x.reshape([rows, channels, 1, 1])
    };
    let normed = normed * column(scale) + column(shift);
    if norm.silu { activation::silu(normed) } else { normed }
}

/// See [`super::Kernels::conv`].
pub fn conv(x: Tensor<4>, weight: Tensor<4>, bias: Tensor<1>) -> Tensor<4> {
    let padding = weight.dims()[3] / 2;
    conv2d(x, weight, Some(bias), ConvOptions::new([1, 1], [padding, padding], [1, 1], 1))
}

/// See [`super::Kernels::attention`].
pub fn attention(qkv: Tensor<3>, heads: usize, rotary: &Rotary, mask: AttentionMask) -> Tensor<3> {
    let device = qkv.device();
    let [q, k, v] = self::heads(qkv, heads, rotary, 0);
    let [_, _, length, head_width] = q.dims();
    let mut scores = q.matmul(k.transpose()) / (head_width as f32).sqrt();
    if mask.block_len() < length {
        let unread = unread([length, length], &device, |row, column| column >= mask.block_end(row));
        scores = scores.mask_fill(unread, f32::NEG_INFINITY);
    }
    join_heads(activation::softmax(scores, 3).matmul(v))
}

/// See [`super::Kernels::attention_with_past`]: of the parts of `with_placed`, with a past of `length` positions.
pub fn attention_with_past(
    [q, k, v]: [Tensor<4>; 3],
    [length, first]: [usize; 2],
    mask: AttentionMask,
) -> Tensor<3> {
    let [_, _, rows, head_width] = q.dims();
    let unread =
        unread([rows, length + rows], &q.device(), |row, column| !reads(mask, first, length, row, column));
    let scores = q.matmul(k.transpose()) / (head_width as f32).sqrt();
    let scores = scores.mask_fill(unread, f32::NEG_INFINITY);
    join_heads(activation::softmax(scores, 3).matmul(v))
}

/// Whether the query of a row reads the key of a column, of which `past` are of the past and the others of the rows.
pub(super) fn reads(mask: AttentionMask, first: usize, past: usize, row: usize, column: usize) -> bool {
    let start = mask.block_start(first + row);
    if column < past { column < start } else { mask.block_start(first + column - past) == start }
}

/// Where a matrix of scores, [1, 1, queries, keys], is not read.
fn unread(
    [queries, keys]: [usize; 2],
    device: &Device,
    unread: impl Fn(usize, usize) -> bool,
) -> Tensor<4, Bool> {
    let all: Vec<bool> = (0..queries * keys).map(|index| unread(index / keys, index % keys)).collect();
    Tensor::from_data(TensorData::new(all, [1, 1, queries, keys]), device)
}

/// See [`super::Kernels::place`]: of keys and values of width d each, the last columns of those given.
pub(super) fn place(keys_values: Tensor<3>, width: usize, heads: usize, rotary: &Rotary) -> Tensor<4> {
    let [_, length, columns] = keys_values.dims();
    let keys_values = keys_values.narrow(2, columns - 2 * width, 2 * width);
    let parts = head_parts(keys_values, 2, heads);
    let angles = length * width / 2 / heads;
    let keys = rotate(parts[0].clone(), &rotary.cos[..angles], &rotary.sin[..angles]);
    Tensor::cat(vec![keys, parts[1].clone()], 2)
}

/// Heads of the queries, and of the keys and values of a [`place`]d past and then of the same positions.
pub(super) fn with_placed(
    qkv: Tensor<3>,
    placed: Tensor<4>,
    first: usize,
    heads: usize,
    rotary: &Rotary,
) -> [Tensor<4>; 3] {
    let batch = qkv.dims()[0];
    let [pasts, _, double, head_width] = placed.dims();
    let length = double / 2;
    let part = |first: usize| {
        let x = placed.clone().narrow(2, first, length).reshape([pasts, 1, heads, length, head_width]);
        let x = x.expand([pasts, batch / pasts.max(1), heads, length, head_width]);
        x.reshape([batch, heads, length, head_width])
    };
    let (past_k, past_v) = (part(0), part(length));
    let [q, k, v] = self::heads(qkv, heads, rotary, first);
    [q, Tensor::cat(vec![past_k, k], 2), Tensor::cat(vec![past_v, v], 2)]
}

/// The heads of `count` parts that stand beside each other, [B, L, count·d]: each [B, h, L, w].
fn head_parts(packed: Tensor<3>, count: usize, heads: usize) -> Vec<Tensor<4>> {
    let [batch, length, width] = packed.dims();
    let head_width = width / count / heads;
    let parts = packed.reshape([batch, length, count, heads, head_width]).permute([2, 0, 3, 1, 4]);
    let part = |index: usize| {
        let part = parts.clone().narrow(0, index, 1);
        part.reshape([batch, heads, length, head_width])
    };
    (0..count).map(part).collect()
}

/// The heads of q, k and v [B, L, 3d] of positions from `first` on, the first two rotated: each [B, h, L, w].
pub(super) fn heads(qkv: Tensor<3>, heads: usize, rotary: &Rotary, first: usize) -> [Tensor<4>; 3] {
    let [_, length, width] = qkv.dims();
    let half = width / 6 / heads;
    let angles = first * half..(first + length) * half;
    let mut parts = head_parts(qkv, 3, heads).into_iter();
    let mut next = || parts.next().expect("there are three parts");
    let rotate = |x| rotate(x, &rotary.cos[angles.clone()], &rotary.sin[angles.clone()]);
    [rotate(next()), rotate(next()), next()]
}

/// [B, h, L, w] → [B, L, h·w].
pub(super) fn join_heads(x: Tensor<4>) -> Tensor<3> {
    let [batch, heads, length, head_width] = x.dims();
    x.permute([0, 2, 1, 3]).reshape([batch, length, heads * head_width])
}

/// Rotates the pairs (k, k + w/2) of [B, h, L, w] by angles whose cos and sin are [L, w/2].
pub(super) fn rotate(x: Tensor<4>, cos: &[f32], sin: &[f32]) -> Tensor<4> {
    let [_, _, length, width] = x.dims();
    let half = width / 2;
    let device = x.device();
    let table = |values: &[f32]| {
        Tensor::<4>::from_data(TensorData::new(values.to_vec(), [1, 1, length, half]), &device)
    };
    let (cos, sin) = (table(cos), table(sin));
    let (first, second) = (x.clone().narrow(3, 0, half), x.narrow(3, half, half));
    let turned = first.clone() * cos.clone() - second.clone() * sin.clone();
    Tensor::cat(vec![turned, second * cos + first * sin], 3)
}

/// See [`super::Kernels::gated_residual`].
pub fn gated_residual(x: Tensor<3>, h: Tensor<3>, gate: Tensor<2>, dropout: Option<Dropout>) -> Tensor<3> {
    let h = match dropout {
        Some(dropout) => dropout.apply(h),
        None => h,
    };
    x + h * gate.unsqueeze_dim(1)
}
