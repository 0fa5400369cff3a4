//! Matrix products of row-major slices, in single precision by the `gemm` crate.

use std::ops::Range;

use gemm::Parallelism;
use rayon::prelude::*;

use super::bf16::{self, Packed, PackedWeight};
use super::{filled, room};
use crate::ops::Precision;

/// Multiplications that one thread makes sooner than it can share them.
const SMALL: usize = 1 << 19;

/// Columns of a tile are a multiple of this: the library's own blocks with AVX-512.
const COLUMNS: usize = 64;

/// Rows and columns that are transposed together.
const BLOCK: usize = 16;

/// A matrix view: row-major elements, or their transpose.
#[derive(Clone, Copy)]
pub struct Matrix<'a> {
    pub(super) values: &'a [f32],
    pub(super) rows: usize,
    pub(super) columns: usize,
    pub(super) row_stride: usize,
    pub(super) column_stride: usize,
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

    /// Number of columns.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// The elements, if they stand row after row.
    pub fn by_rows(&self) -> Option<&'a [f32]> {
        let contiguous = self.column_stride == 1 && self.row_stride == self.columns;
        contiguous.then(|| &self.values[..self.rows * self.columns])
    }

    /// A row, whose elements stand beside each other.
    pub fn row(&self, row: usize) -> &'a [f32] {
        assert_eq!(self.column_stride, 1);
        &self.values[row * self.row_stride..][..self.columns]
    }

    fn some_rows(self, rows: Range<usize>) -> Self {
        Self { values: &self.values[rows.start * self.row_stride..], rows: rows.len(), ..self }
    }

    pub(super) fn some_columns(self, columns: Range<usize>) -> Self {
        self.t().some_rows(columns).t()
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

/// The transpose of a contiguous matrix.
pub fn transposed(values: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    assert_eq!(values.len(), rows * columns);
    let mut out = room(values.len());
    // Blocks whose cache lines are used up before they are lost.
    out.par_chunks_mut(BLOCK * rows.max(1)).enumerate().for_each(|(block, out)| {
        let first_column = block * BLOCK;
        for first in (0..rows).step_by(BLOCK) {
            for (column, out) in out.chunks_exact_mut(rows).enumerate() {
                let last = (first + BLOCK).min(rows);
                for (row, out) in (first..last).zip(&mut out[first..last]) {
                    out.write(values[row * columns + first_column + column]);
                }
            }
        }
    });
    // SAFETY: the blocks are all columns and rows.
    unsafe { filled(out) }
}

/// The second factor of a product.
#[derive(Clone, Copy)]
pub enum Second<'a> {
    /// A matrix.
    Matrix(Matrix<'a>),
    /// The transpose of a weight, multiplied in bfloat16.
    Packed(&'a PackedWeight),
}

impl Second<'_> {
    /// Number of rows.
    fn rows(&self) -> usize {
        match self {
            Self::Matrix(matrix) => matrix.rows,
            Self::Packed(weight) => weight.shape()[1],
        }
    }

    /// Number of columns.
    pub fn columns(&self) -> usize {
        match self {
            Self::Matrix(matrix) => matrix.columns,
            Self::Packed(weight) => weight.shape()[0],
        }
    }
}

impl<'a> From<Matrix<'a>> for Second<'a> {
    fn from(matrix: Matrix<'a>) -> Self {
        Self::Matrix(matrix)
    }
}

impl<'a> From<&'a PackedWeight> for Second<'a> {
    fn from(weight: &'a PackedWeight) -> Self {
        Self::Packed(weight)
    }
}

/// factor·a·b, row after row.
///
/// An element of the result is the same whatever the number of threads and of rows, from a few rows on (fewer take
/// another path through the library; see [`min_rows`]): the inner dimension is summed in an order that depends on its
/// length alone.
pub fn product(a: Matrix, b: Matrix, factor: f32, on: On) -> Vec<f32> {
    finished_product(a, b, factor, on, None)
}

/// What becomes of a part of a result, given its row and its first column, while it is in a cache.
pub type Finish<'a> = &'a (dyn Fn(usize, usize, &mut [f32]) + Sync);

/// [`product`], every element of which is finished once.
pub fn finished_product<'a>(
    a: Matrix,
    b: impl Into<Second<'a>>,
    factor: f32,
    on: On,
    finish: Option<Finish>,
) -> Vec<f32> {
    let b = b.into();
    let mut out = room(a.rows * b.columns());
    // SAFETY: there is room for all rows; all are written, none is read before, and then they are filled.
    unsafe {
        call(out.as_mut_ptr().cast(), a, b, factor, false, on, finish);
        filled(out)
    }
}

/// [`product`] to a place that is there already.
pub fn product_to(out: &mut [f32], a: Matrix, b: Matrix, factor: f32, on: On) {
    assert_eq!(a.rows * b.columns, out.len());
    // SAFETY: `out` has all rows.
    unsafe { call(out.as_mut_ptr(), a, b.into(), factor, false, on, None) }
}

/// out += a·b, with the order of sums of [`product`].
pub fn add_product(out: &mut [f32], a: Matrix, b: Matrix, on: On) {
    assert_eq!(a.rows * b.columns, out.len());
    // SAFETY: `out` has all rows.
    unsafe { call(out.as_mut_ptr(), a, b.into(), 1.0, true, on, None) }
}

/// Fewest rows that are multiplied at once. The library takes other paths, in which the last bits of a row differ
/// from those of the same row in a larger batch: for results of at most 256 elements, for very few rows, and for at
/// most 64 × 64 results of inner dimensions above 512.
pub fn min_rows(inner: usize, outer: usize) -> usize {
    let beyond_tiny = 256 / outer + 1;
    let beyond_small = if outer <= 64 && inner > 512 { 65 } else { 8 };
    beyond_tiny.max(beyond_small)
}

/// Writes factor·a·b, or adds it if `accumulate`; without it `out` need not be initialised.
///
/// # Safety
/// `out` is valid for a.rows · b.columns elements.
unsafe fn call(
    out: *mut f32,
    a: Matrix,
    b: Second,
    factor: f32,
    accumulate: bool,
    on: On,
    finish: Option<Finish>,
) {
    let columns = b.columns();
    assert_eq!(a.columns, b.rows());
    if a.rows == 0 || columns == 0 {
        return;
    }
    if a.columns == 0 && !accumulate {
        // SAFETY: the caller's; the bits 0 are 0.0.
        unsafe { out.write_bytes(0, a.rows * columns) }
    }
    let accumulate = accumulate || a.columns == 0;
    let (shared, precision) = match on {
        On::Thread(precision) => (false, precision),
        On::Pool(precision) => (a.rows * a.columns * columns >= SMALL, precision),
    };
    let factors = match (b, precision) {
        (Second::Packed(weight), _) => Factors::Packed(Packed::by_weight(a, weight, shared)),
        (Second::Matrix(b), Precision::Bf16) => Factors::Packed(Packed::new(a, b, shared)),
        (Second::Matrix(b), Precision::Fp32 | Precision::Tf32) => Factors::Matrices(a, b),
    };
    let whole = |len: usize| Parts { len, count: 1, unit: 1 };
    let place = Place { out, stride: columns };
    let (rows, columns) = match (shared, &factors) {
        (false, _) => (whole(a.rows), whole(columns)),
        (true, Factors::Matrices(..)) => tiles(a.rows, a.columns, columns),
        (true, Factors::Packed(_)) => bf16::tiles(a.rows, columns),
    };
    let tile = |index: usize| {
        let (row, column) = (rows.get(index / columns.count), columns.get(index % columns.count));
        // SAFETY: the tile is inside `out`, no other has its elements, and it is written before it is finished.
        unsafe {
            let place = place.from(row.start, column.start);
            match &factors {
                Factors::Packed(packed) => {
                    packed.write(place, row.clone(), column.clone(), factor, accumulate)
                }
                Factors::Matrices(a, b) => {
                    let (a, b) = (a.some_rows(row.clone()), b.some_columns(column.clone()));
                    place.write(a, b, factor, accumulate);
                }
            }
            if let Some(finish) = finish {
                for (index, row) in row.enumerate() {
                    finish(row, column.start, place.row(index, column.len()));
                }
            }
        }
    };
    match rows.count * columns.count {
        1 => tile(0),
        count => (0..count).into_par_iter().with_max_len(1).for_each(tile),
    }
}

/// The factors of a product, as they are multiplied.
enum Factors<'a> {
    Matrices(Matrix<'a>, Matrix<'a>),
    Packed(Packed<'a>),
}

/// The rows and the columns of tiles that fit the inner caches: these are faster than the library's own threads on whole
/// matrices. No tile is so small that the library takes another path.
fn tiles(rows: usize, inner: usize, columns: usize) -> (Parts, Parts) {
    let threads = rayon::current_num_threads();
    let mut row_parts = rows.div_ceil(512);
    // With so many parts at most, each has two units of columns: tiles of one, and of few rows, are summed otherwise.
    let most = (columns / (2 * COLUMNS)).max(1);
    let mut column_parts = match avx512() {
        // The library does not pack rows whose elements are apart for so few columns.
        true => most,
        // Every tile packs its rows and columns; where these are long, few tiles should share them.
        false if inner > 2048 => threads.div_ceil(row_parts).min(columns.div_ceil(256)),
        false => columns.div_ceil(256),
    };
    // No thread waits while another has the last tile, unless there are many tiles.
    if row_parts * column_parts < 8 * threads {
        let even = (column_parts..).find(|parts| (row_parts * parts).is_multiple_of(threads));
        column_parts = even.unwrap_or(column_parts).min(most).max(column_parts);
    }
    if row_parts * column_parts < threads {
        row_parts = threads.div_ceil(column_parts).min(rows / 128).max(row_parts);
    }
    (
        Parts { len: rows, count: row_parts, unit: 1 },
        Parts { len: columns, count: column_parts, unit: COLUMNS },
    )
}

/// Whether the library multiplies by vectors of sixteen elements.
fn avx512() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        is_x86_feature_detected!("avx512f")
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        false
    }
}

/// A dimension of a result, cut into parts of nearly the same length, a multiple of the unit but for the last.
#[derive(Clone, Copy)]
pub(super) struct Parts {
    pub(super) len: usize,
    pub(super) count: usize,
    pub(super) unit: usize,
}

impl Parts {
    fn get(self, index: usize) -> Range<usize> {
        let units = self.len.div_ceil(self.unit);
        let at = |index: usize| (index * units / self.count * self.unit).min(self.len);
        at(index)..at(index + 1)
    }
}

/// Where a result goes: rows that start `stride` elements apart.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub(super) out: *mut f32,
    pub(super) stride: usize,
}

// SAFETY: tasks write disjoint elements.
unsafe impl Send for Place {}
// SAFETY: as above.
unsafe impl Sync for Place {}

impl Place {
    /// # Safety
    /// The element is inside the result.
    pub(super) unsafe fn from(self, row: usize, column: usize) -> Self {
        // SAFETY: the caller's.
        Self { out: unsafe { self.out.add(row * self.stride + column) }, ..self }
    }

    /// The first elements of a row.
    ///
    /// # Safety
    /// They are inside the result and initialised, and nobody else uses them.
    unsafe fn row<'a>(self, row: usize, len: usize) -> &'a mut [f32] {
        // SAFETY: the caller's.
        unsafe { std::slice::from_raw_parts_mut(self.from(row, 0).out, len) }
    }

    /// The elements of a·b.
    ///
    /// # Safety
    /// They are inside the result, and nobody else uses them.
    unsafe fn write(self, a: Matrix, b: Matrix, factor: f32, accumulate: bool) {
        // SAFETY: `Matrix::strided` keeps the reads inside their slices, the caller the writes, and what is written to
        // cannot alias what is borrowed.
        unsafe {
            gemm::gemm(
                a.rows,
                b.columns,
                a.columns,
                self.out,
                1,
                self.stride as isize,
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
                Parallelism::None,
            );
        }
    }
}

/// Where a product runs, and on what.
#[derive(Clone, Copy)]
pub enum On {
    /// The calling thread: for products that already run in parallel.
    Thread(Precision),
    /// The Rayon pool.
    Pool(Precision),
}
