//! What goes wrong with a model, whoever says it.

use pyo3::prelude::*;
use submask_cli::failure::{Exit, Failure};

use crate::errors::of_fields;
use crate::failures::of_failure_named;
use crate::work::Raised;

/// What the program says of its own help.
const OF_HELP: &str = "; `--help` says what reads the flag";

/// Failures of the program's own code: its flags are arguments here, of the same names with `_` in the place of `-`.
impl Raised for Failure {
    fn raised(self, py: Python<'_>) -> PyErr {
        let is_of_flags = self.exit() == Exit::Usage && self.refused().is_none() && self.error().is_none();
        if !is_of_flags {
            return of_failure_named(py, &self, |text| with_arguments(text).0);
        }
        let advice = self.advice().map(|advice| advice.replace(OF_HELP, ""));
        let said = self.messages().iter().chain(&advice).map(String::as_str).collect::<Vec<_>>().join("; ");
        let (message, fields) = with_arguments(&said);
        let field = fields.first().map_or("", String::as_str);
        of_fields(py, &message, field, None, Some(&message))
    }
}

/// A text in which `--top-p` is `top_p`, and the arguments in it.
fn with_arguments(text: &str) -> (String, Vec<String>) {
    let (mut written, mut names) = (String::with_capacity(text.len()), Vec::new());
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
                names.push(name.replace('-', "_"));
                written.extend(names.last().map(String::as_str));
                rest = &flag[name.len()..];
            }
            false => {
                written.push_str("--");
                rest = flag;
            }
        }
    }
    (written + rest, names)
}
