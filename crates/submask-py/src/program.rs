//! The program, called from Python.

use std::ffi::OsString;

use pyo3::prelude::*;

/// Runs the program with the words of a command line, its name being the first, and gives its exit code.
#[pyfunction]
pub fn main(py: Python<'_>, words: Vec<OsString>) -> u8 {
    py.detach(|| submask_cli::main_of(words))
}
