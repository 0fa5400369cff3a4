//! Sums of rows, in a fixed order: gradients of what all rows share.

use burn::backend::TensorMetadata;
use burn::tensor::DType;

use super::device::{Array, Launch, Source, name_of, room, source};
use super::rows;

static SOURCE: Source = source!("columns.cu", "elements.cuh", "parts.cuh");

/// Rows that a thread adds up, as the kernel has it.
const CHUNK: usize = 64;

/// Threads that add up parts of [`PART_COLUMNS`] columns, as the kernels have it.
pub(super) const PART_THREADS: usize = 1024;
pub(super) const PART_COLUMNS: usize = 32;

/// The sums \[m\] in single precision of the columns of a contiguous [n, m].
pub(super) fn column_sums(x: &Array) -> Array {
    let [count, width] = x.shape().dims();
    let pack = if x.dtype == DType::BF16 && width.is_multiple_of(8) { 8 } else { rows::pack(&[width]) };
    let [blocks, threads] = rows::columns(width, pack);
    let chunks = count.div_ceil(CHUNK);
    let parts = room(x, [chunks, width], DType::F32);
    launch(x.dtype, pack, "column_parts").read(x).write(&parts).int(count).int(width).run(
        x,
        [chunks, blocks, 1],
        threads,
    );
    sum_parts(&parts, 1, chunks, width)
}

/// The sums of the rows of each group of `parts` [groups, count, width], a contiguous [groups, width]; one of all, \[width\],
/// if there is one group.
pub(super) fn sum_parts(parts: &Array, groups: usize, count: usize, width: usize) -> Array {
    let out =
        if groups == 1 { room(parts, [width], DType::F32) } else { room(parts, [groups, width], DType::F32) };
    launch(DType::F32, 1, "sum_parts").read(parts).write(&out).int(count).int(width).run(
        &out,
        [groups, width.div_ceil(PART_COLUMNS), 1],
        PART_THREADS,
    );
    out
}

/// A launch that writes the sums \[m\] of the columns of `count` contiguous rows, alone.
pub(super) fn sums_of_rows(x: &Array, out: &Array, count: usize) -> Launch {
    let width = out.shape().num_elements();
    let launch = launch(x.dtype, 1, "sum_parts").read(x).write(out).int(count).int(width);
    launch.sized([1, width.div_ceil(PART_COLUMNS), 1], PART_THREADS)
}

/// Parts \[rows, width\] that a launch puts beside each other, as the kernel has it.
const JOINED: usize = 6;

/// Writes parts of one size, zeros where there is none, beside each other to `out`.
pub(super) fn join_columns(parts: &[Option<Array>], out: &Array) {
    assert!(parts.len() <= JOINED, "at most {JOINED} parts");
    let [rows, width] = out.shape().dims();
    let part = width / parts.len();
    let pack = rows::pack(&[part]);
    let [blocks, threads] = rows::columns(width, pack);
    let all = (0..JOINED).map(|place| parts.get(place).and_then(Option::as_ref));
    all.fold(launch(DType::F32, pack, "join_columns"), Launch::read_if)
        .write(out)
        .int(parts.len())
        .int(part)
        .run(out, [rows, blocks, 1], threads);
}

fn launch(input: DType, pack: usize, name: &'static str) -> Launch {
    Launch::new(&SOURCE, name).define("INPUT", name_of(input)).define("PACK", pack)
}
