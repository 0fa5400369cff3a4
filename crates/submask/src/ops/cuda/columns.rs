//! Sums of columns, in a fixed order.

use burn::backend::TensorMetadata;
use burn::tensor::{DType, Shape};
use burn::backend::Cube;
use burn::backend::ops::FloatTensorOps;

use super::device::{Array, reshaped};

/// The sums \[m\] in single precision of the columns of a contiguous [n, m].
pub(super) fn column_sums(x: &Array) -> Array {
    let [_, columns] = x.shape().dims();
    let x = if x.dtype == DType::F32 { x.clone() } else { Cube::float_cast(x.clone(), burn::tensor::FloatDType::F32) };
    reshaped(Cube::float_sum_dim(x, 0), Shape::new([columns]))
}
