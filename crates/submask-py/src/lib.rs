//! Python's door: the extension module `submask._native`, on which the package `submask` (in `python/`) stands. What is written here
//! computes without the GIL, takes and gives NumPy arrays, and turns errors into those of `submask.errors`; names, defaults and
//! documentation for people stand in the package.

mod errors;
mod program;
mod work;

use pyo3::prelude::*;

/// The extension module.
#[pymodule]
mod _native {
    #[pymodule_export]
    use super::program::main;
}
