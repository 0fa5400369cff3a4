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

/// factor·a·b, row after row.
///
/// An element of the result is the same whatever the number of threads and of rows, from a few rows on (fewer take
/// another path through the library; see `linear`): the inner dimension is summed in an order that depends on its
/// length alone.
pub fn product(a: Matrix, b: Matrix, factor: f32, threads: Threads) -> Vec<f32> {
    let mut out = room(a.rows * b.columns);
    // SAFETY: there is room for all rows; all are written, none is read before, and then they are filled.
    unsafe {
        call(out.as_mut_ptr().cast(), a, b, factor, false, threads);
        filled(out)
    }
}

/// [`product`] to a place that is there already.
pub fn product_to(out: &mut [f32], a: Matrix, b: Matrix, factor: f32, threads: Threads) {
    assert_eq!(a.rows * b.columns, out.len());
    // SAFETY: `out` has all rows.
    unsafe { call(out.as_mut_ptr(), a, b, factor, false, threads) }
}

/// out += a·b, with the order of sums of [`product`].
pub fn add_product(out: &mut [f32], a: Matrix, b: Matrix, threads: Threads) {
    assert_eq!(a.rows * b.columns, out.len());
    // SAFETY: `out` has all rows.
    unsafe { call(out.as_mut_ptr(), a, b, 1.0, true, threads) }
}

/// Writes factor·a·b, or adds it if `accumulate`; without it `out` need not be initialised.
///
/// # Safety
/// `out` is valid for a.rows · b.columns elements.
unsafe fn call(out: *mut f32, a: Matrix, b: Matrix, factor: f32, accumulate: bool, threads: Threads) {
    assert_eq!(a.columns, b.rows);
    if a.rows == 0 || b.columns == 0 {
        return;
    }
    if a.columns == 0 {
        if !accumulate {
            // SAFETY: the caller's; the bits 0 are 0.0.
            unsafe { out.write_bytes(0, a.rows * b.columns) }
        }
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
            b.columns as isize,
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
