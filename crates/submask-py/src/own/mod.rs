//! A network of the user's own: codes, schedules, predictions, likelihoods and samples of any callable of Python.

pub mod codes;
pub mod likelihood;
pub mod network;
pub mod predictive;
pub mod sampler;
pub mod schedule;
pub mod settings;

use numpy::{Element, PyReadonlyArray1};
use pyo3::prelude::*;

use crate::errors::invalid;

/// The elements of a contiguous array, which the package's Python code makes sure that it is.
///
/// # Errors
/// `InvalidError` of an array with gaps.
fn elements<'a, T: Element>(array: &'a PyReadonlyArray1<'_, T>, field: &str) -> PyResult<&'a [T]> {
    array.as_slice().map_err(|_| invalid(array.py(), field, "an array with gaps", "a contiguous array"))
}
