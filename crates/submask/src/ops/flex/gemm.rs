//! Matrix products by the `gemm` crate, on row-major slices.

use gemm::Parallelism;

use super::{filled, room};

/// A matrix view: row-major elements, or their transpose.
#[derive(Clone, Copy)]
pub struct Matrix<'a> {
    values: &'a [f32],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
}

impl<'a> Matrix<'a> {
    /// Rows of `columns` elements that start `stride` elements apart.
    pub fn strided(values: &'a [f32], rows: usize, columns: usize, stride: usize) -> Self {
        assert!(columns <= stride && (rows == 0 || (rows - 1) * stride + columns <= values.len()));
        Self { values, rows, columns, row_stride: stride, column_stride: 1 }
    }

    /// A contiguous matrix.
    pub fn new(values: &'a [f32], rows: usize, columns: usize) -> Self {
        Self::strided(values, rows, columns, columns)
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The transpose.
    pub fn t(self) -> Self {
        Self {
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
            ..self
        }
    }
}

/// out = factor·a·b, or out += factor·a·b when `accumulate`; out's rows start `stride` elements apart.
///
/// An element of the result is the same whatever the number of threads and of rows, from a few rows on (fewer take
/// another path through the library; see `linear`): the inner dimension is summed in an order that depends on its
/// length alone.
pub fn multiply(
    out: &mut [f32],
    stride: usize,
    a: Matrix,
    b: Matrix,
    factor: f32,
    accumulate: bool,
    threads: Threads,
) {
    assert!(a.rows == 0 || (a.rows - 1) * stride + b.columns <= out.len());
    // SAFETY: the assertion keeps every access to `out` inside it; its elements may be read since they are there.
    unsafe { multiply_into(out.as_mut_ptr(), stride, a, b, factor, accumulate, threads) }
}

/// factor·a·b, row after row.
pub fn product(a: Matrix, b: Matrix, factor: f32, threads: Threads) -> Vec<f32> {
    if a.columns == 0 {
        return vec![0.0; a.rows * b.columns];
    }
    let mut out = room(a.rows * b.columns);
    // SAFETY: there is room for all rows, and every element of the product is written, none read before.
    unsafe {
        multiply_into(out.as_mut_ptr().cast(), b.columns, a, b, factor, false, threads);
        filled(out)
    }
}

/// [`multiply`] to a place that need not be initialised unless `accumulate`.
///
/// # Safety
/// `out` is valid for rows of `b.columns` elements that start `stride` elements apart.
unsafe fn multiply_into(
    out: *mut f32,
    stride: usize,
    a: Matrix,
    b: Matrix,
    factor: f32,
    accumulate: bool,
    threads: Threads,
) {
    assert_eq!(a.columns, b.rows);
    if a.rows == 0 || b.columns == 0 {
        return;
    }
    let parallelism = match threads {
        Threads::One => Parallelism::None,
        Threads::All => Parallelism::Rayon(0),
    };
    // SAFETY: `Matrix::strided` keeps the reads inside their slices, the caller the writes, and what is written to
    // cannot alias what is borrowed.
    unsafe {
        gemm::gemm(
            a.rows,
            b.columns,
            a.columns,
            out,
            1,
            stride as isize,
            accumulate,
            a.values.as_ptr(),
            a.column_stride as isize,
            a.row_stride as isize,
            b.values.as_ptr(),
            b.column_stride as isize,
            b.row_stride as isize,
            1.0,
            factor,
            false,
            false,
            false,
            parallelism,
        );
    }
}

/// Threads of one product.
#[derive(Clone, Copy)]
pub enum Threads {
    /// The calling thread: for products that already run in parallel.
    One,
    /// The Rayon pool.
    All,
}
