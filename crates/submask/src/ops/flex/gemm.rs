//! Matrix products by the `gemm` crate, on row-major slices.

use gemm::Parallelism;

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
    assert_eq!(a.columns, b.rows);
    assert!(a.rows == 0 || (a.rows - 1) * stride + b.columns <= out.len());
    if a.rows == 0 || b.columns == 0 {
        return;
    }
    let parallelism = match threads {
        Threads::One => Parallelism::None,
        Threads::All => Parallelism::Rayon(0),
    };
    // SAFETY: the assertions here and in `Matrix::strided` keep every access inside its slice, and the
    // mutable slice cannot alias the others.
    unsafe {
        gemm::gemm(
            a.rows,
            b.columns,
            a.columns,
            out.as_mut_ptr(),
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
