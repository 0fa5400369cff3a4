//! Python's door: the extension module `submask._native`, on which the package `submask` (in `python/`) stands. What is written here
//! computes without the GIL, takes and gives NumPy arrays, and turns errors into those of `submask.errors`; names, defaults and
//! documentation for people stand in the package.

mod errors;
mod failures;
mod program;
mod train;
mod work;

use pyo3::prelude::*;

/// The extension module.
#[pymodule]
mod _native {
    #[pymodule_export]
    use super::program::main;
    #[pymodule_export]
    use super::train::plan::{TrainPlan, train_plan};
    #[pymodule_export]
    use super::train::prepare::{PreparePlan, prepare_plan};
}
