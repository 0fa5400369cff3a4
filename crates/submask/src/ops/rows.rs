//! Rows of tables, by their numbers.

#[cfg(feature = "cuda")]
use std::sync::Arc;

use burn::tensor::{Device, Int, Tensor, TensorData};

#[cfg(feature = "cuda")]
use super::cuda;

/// Integers on a device.
pub(crate) fn integers<const D: usize>(
    values: impl IntoIterator<Item = u32>,
    shape: [usize; D],
    device: &Device,
) -> Tensor<D, Int> {
    let values: Vec<i32> = values.into_iter().map(|value| value as i32).collect();
    Tensor::from_data(TensorData::new(values, shape), device)
}

/// Rows of a matrix by their numbers; a row may be taken several times.
pub(crate) fn take_rows(x: Tensor<2>, indices: &[u32]) -> Tensor<2> {
    // There the tensor library would add up gradients one row after the other.
    #[cfg(feature = "cuda")]
    if cuda::is_cuda(&x.device()) {
        let rows = TableRows { indices: indices.to_vec(), per_token: 1, hidden: x.dims()[1], summed: false };
        return cuda::embedding(x, Arc::new(rows));
    }
    let indices = integers(indices.iter().copied(), [indices.len()], &x.device());
    x.select(0, indices)
}

/// Which rows of a table the tokens take, each as many.
#[derive(Clone, Debug)]
pub struct TableRows {
    /// Rows of the first token, then those of the second, and so on.
    pub indices: Vec<u32>,
    /// Rows that a token takes.
    pub per_token: usize,
    /// Width of a token's vector.
    pub hidden: usize,
    /// Whether a token's rows are added up; otherwise they stand beside each other, and zeros fill the rest.
    pub summed: bool,
}
