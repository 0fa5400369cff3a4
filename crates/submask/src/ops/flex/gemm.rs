//! Matrix products of row-major slices: tiles of a result, in single precision or of factors rounded to bfloat16.

use std::borrow::Cow;
use std::ops::Range;

use rayon::prelude::*;

use super::packed::{PackedWeight, Panels};
use super::{bf16, filled, fp32, room};
use crate::ops::Precision;
use crate::ops::vectors::Isa;

/// Multiplications that one thread makes sooner than it can share them.
const SMALL: usize = 1 << 19;

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

    /// A row, whose elements stand beside each other.
    pub fn row(&self, row: usize) -> &'a [f32] {
        assert_eq!(self.column_stride, 1);
        &self.values[row * self.row_stride..][..self.columns]
    }

    pub(super) fn some_rows(self, rows: Range<usize>) -> Self {
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

/// The second factor of a product.
#[derive(Clone, Copy)]
pub enum Second<'a> {
    /// A matrix.
    Matrix(Matrix<'a>),
    /// The transpose of a weight, multiplied in the precision for which it is packed.
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
/// An element of the result is the same whatever the number of threads and of rows. In single precision it is a chain of
/// fused multiply-adds along the inner dimension, from 0, multiplied by the factor at its end, on every processor; with
/// bfloat16 the order of sums depends on the length of the inner dimension alone.
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

/// out += a·b: in single precision the chains of [`product`] start from what is there.
pub fn add_product(out: &mut [f32], a: Matrix, b: Matrix, on: On) {
    assert_eq!(a.rows * b.columns, out.len());
    // SAFETY: `out` has all rows.
    unsafe { call(out.as_mut_ptr(), a, b.into(), 1.0, true, on, None) }
}

/// Writes factor·a·b, or adds a·b if `accumulate`, where the factor is 1; without it `out` need not be initialised.
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
    let (shared, precision) = match on {
        On::Thread(precision) => (false, precision),
        On::Pool(precision) => (a.rows * a.columns * columns >= SMALL, precision),
    };
    let whole = Task { place: Place { out, stride: columns }, factor, accumulate, shared, finish };
    if a.columns == 0 {
        // SAFETY: the caller's; the bits 0 are 0.0.
        unsafe {
            if !accumulate {
                out.write_bytes(0, a.rows * columns);
            }
            return whole.finish(0..a.rows, 0..columns);
        }
    }
    // SAFETY: the caller's.
    unsafe {
        match (b, precision) {
            (Second::Packed(weight), _) => match weight.panels() {
                Panels::Fp32(panels) => {
                    whole.fp32(a, fp32::Second::Packed(Cow::Borrowed(panels)), columns);
                }
                Panels::Bf16(lanes) => whole.bf16(bf16::Packed::by_weight(a, lanes, shared), a.rows, columns),
            },
            (Second::Matrix(b), Precision::Bf16) => {
                whole.bf16(bf16::Packed::new(a, b, shared), a.rows, columns);
            }
            (Second::Matrix(b), Precision::Fp32 | Precision::Tf32) => whole.fp32_of_matrices(a, b),
        }
    }
}

/// A product that is to be made.
#[derive(Clone, Copy)]
struct Task<'a> {
    place: Place,
    factor: f32,
    accumulate: bool,
    /// Whether the threads of the pool share it.
    shared: bool,
    finish: Option<Finish<'a>>,
}

impl Task<'_> {
    /// Packs the second factor if several tiles read it, as many columns of it at once as memory should be spent on.
    ///
    /// # Safety
    /// As of [`call`].
    unsafe fn fp32_of_matrices(self, a: Matrix, b: Matrix) {
        let (row_parts, _) = fp32::tiles(a.rows, b.columns, self.shared);
        if row_parts.count == 1 {
            // SAFETY: the caller's.
            return unsafe { self.fp32(a, fp32::Second::Matrix(b), b.columns) };
        }
        let step = fp32::columns_at_once(b.rows);
        for first in (0..b.columns).step_by(step) {
            let columns = first..b.columns.min(first + step);
            let packed = fp32::Columns::new(b.some_columns(columns.clone()), self.shared);
            let finish = |row: usize, column: usize, part: &mut [f32]| {
                self.finish.into_iter().for_each(|finish| finish(row, first + column, part));
            };
            let finish: Option<Finish> = self.finish.is_some().then_some(&finish);
            // SAFETY: the columns are inside the result.
            unsafe {
                let part = Task { place: self.place.from(0, first), finish, ..self };
                part.fp32(a, fp32::Second::Packed(Cow::Owned(packed)), columns.len());
            }
        }
    }

    /// # Safety
    /// As of [`call`].
    unsafe fn fp32(self, a: Matrix, b: fp32::Second, columns: usize) {
        let factors = fp32::Factors { a: fp32::First::Matrix(a), b, isa: Isa::get() };
        let (row_parts, column_parts) = fp32::tiles(a.rows, columns, self.shared);
        for_each_tile(row_parts, column_parts, self.shared, |rows, columns| {
            // SAFETY: the tile is inside the result, no other has its elements, and they are written before they are
            // finished.
            unsafe {
                let place = self.place.from(rows.start, columns.start);
                factors.write(place, rows.clone(), columns, (self.factor, self.accumulate), |columns| {
                    self.finish(rows.clone(), columns);
                });
            }
        });
    }

    /// # Safety
    /// As of [`call`].
    unsafe fn bf16(self, packed: bf16::Packed, rows: usize, columns: usize) {
        let whole = |len: usize| Parts { len, count: 1, unit: 1 };
        let (row_parts, column_parts) = match self.shared {
            true => bf16::tiles(rows, columns),
            false => (whole(rows), whole(columns)),
        };
        for_each_tile(row_parts, column_parts, self.shared, |rows, columns| {
            // SAFETY: as above.
            unsafe {
                let place = self.place.from(rows.start, columns.start);
                packed.write(place, rows.clone(), columns.clone(), self.factor, self.accumulate);
                self.finish(rows, columns);
            }
        });
    }

    /// Finishes a part of the result.
    ///
    /// # Safety
    /// It is written, and nobody else uses it.
    unsafe fn finish(&self, rows: Range<usize>, columns: Range<usize>) {
        let Some(finish) = self.finish else { return };
        for row in rows {
            // SAFETY: the caller's.
            finish(row, columns.start, unsafe { self.place.from(0, columns.start).row(row, columns.len()) });
        }
    }
}

/// Calls `work` with the rows and columns of every tile.
fn for_each_tile(
    rows: Parts,
    columns: Parts,
    shared: bool,
    work: impl Fn(Range<usize>, Range<usize>) + Sync + Send,
) {
    let tile = |index: usize| work(rows.get(index / columns.count), columns.get(index % columns.count));
    match rows.count * columns.count {
        1 => tile(0),
        count if shared => (0..count).into_par_iter().with_max_len(1).for_each(tile),
        count => (0..count).for_each(tile),
    }
}

/// Calls `work` with chunks and their numbers, on the threads of the pool if these are to share it.
pub(super) fn for_each_chunk<T: Send>(
    x: &mut [T],
    len: usize,
    shared: bool,
    work: impl Fn(usize, &mut [T]) + Sync + Send,
) {
    match shared {
        true => x.par_chunks_mut(len).enumerate().for_each(|(index, chunk)| work(index, chunk)),
        false => x.chunks_mut(len).enumerate().for_each(|(index, chunk)| work(index, chunk)),
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
    pub(super) unsafe fn row<'a>(self, row: usize, len: usize) -> &'a mut [f32] {
        // SAFETY: the caller's.
        unsafe { std::slice::from_raw_parts_mut(self.from(row, 0).out, len) }
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
