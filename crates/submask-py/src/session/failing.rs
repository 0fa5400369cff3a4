//! What goes wrong with a model, whoever says it.

use pyo3::prelude::*;
use submask_cli::failure::Failure;

use crate::failures::of_failure_named;
use crate::work::Raised;

/// Failures of the program's own code: its flags are arguments here, of the same names with `_` in the place of `-`.
impl Raised for Failure {
    fn raised(self, py: Python<'_>) -> PyErr {
        of_failure_named(py, &self, with_arguments)
    }
}

/// A text in which `--top-p` is `top_p`.
fn with_arguments(text: &str) -> String {
    let mut written = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("--") {
        let (before, flag) = (&rest[..at], &rest[at + 2..]);
        let is_part = |c: char| c.is_ascii_lowercase() || c == '-';
        let len = flag.find(|c| !is_part(c)).unwrap_or(flag.len());
        let name = flag[..len].trim_end_matches('-');
        let begins = before.chars().next_back().is_none_or(|c| !c.is_alphanumeric() && c != '-');
        written.push_str(before);
        match begins && name.starts_with(|c: char| c.is_ascii_lowercase()) {
            true => {
                written.push_str(&name.replace('-', "_"));
                rest = &flag[name.len()..];
            }
            false => {
                written.push_str("--");
                rest = flag;
            }
        }
    }
    written + rest
}
