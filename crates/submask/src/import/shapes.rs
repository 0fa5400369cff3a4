//! Shapes of weights that a network must have.

use super::foreign::Foreign;
use crate::Result;

/// Rows and columns of a matrix.
///
/// # Errors
/// [`crate::Error::Format`] when it is missing, or no matrix.
pub(super) fn matrix(foreign: &Foreign, name: &str) -> Result<[usize; 2]> {
    match foreign.shape(name) {
        // Of a tensor without elements the other lengths say nothing: they may be anything.
        Some(&[rows, columns]) if rows > 0 && columns > 0 => Ok([rows, columns]),
        Some(shape) => Err(foreign.error(format!("{name} has shape {shape:?}, not that of a matrix"))),
        None => Err(foreign.error(format!("{name} is missing"))),
    }
}

/// The length of a vector.
///
/// # Errors
/// [`crate::Error::Format`] when it is missing, or no vector.
pub(super) fn length(foreign: &Foreign, name: &str) -> Result<usize> {
    match foreign.shape(name) {
        Some(&[length]) if length > 0 => Ok(length),
        Some(shape) => Err(foreign.error(format!("{name} has shape {shape:?}, not that of a vector"))),
        None => Err(foreign.error(format!("{name} is missing"))),
    }
}
