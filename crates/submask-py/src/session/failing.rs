//! What goes wrong with a model, whoever says it.

use pyo3::prelude::*;
use submask_cli::failure::{Exit, Failure};

use crate::errors::of_fields;
use crate::failures::{of_failure_named, with_arguments};
use crate::work::IntoException;

/// What the program says of its own help.
const OF_HELP: &str = "; `--help` says what reads the flag";

/// Flags of the program that are arguments here, of the same names with `_` in the place of `-`.
const FLAGS: [&str; 50] = [
    "batch",
    "by-document",
    "carry-over",
    "checkpoint",
    "completion-field",
    "corrector",
    "data",
    "device",
    "draw",
    "draws",
    "end",
    "entropy-window",
    "estimator",
    "field",
    "first-sequence",
    "format",
    "given",
    "images",
    "join",
    "keep-channels",
    "keep-digits",
    "label",
    "labels",
    "length",
    "log-probs",
    "mask",
    "min-entropy",
    "nucleus",
    "num",
    "order",
    "part",
    "per-step",
    "precision",
    "prompt",
    "prompt-field",
    "sampler",
    "seed",
    "separator",
    "sequences",
    "skip-bad",
    "split",
    "steps",
    "stride",
    "temperature",
    "top-k",
    "top-p",
    "trace",
    "unit",
    "warp",
    "window",
];

/// Failures of the program's own code.
impl IntoException for Failure {
    fn into_exception(self, py: Python<'_>) -> PyErr {
        let is_of_flags = self.exit() == Exit::Usage && self.refused().is_none() && self.error().is_none();
        if !is_of_flags {
            return of_failure_named(py, &self, |text| named(text).0);
        }
        let advice = self.advice().map(|advice| advice.replace(OF_HELP, ""));
        let said = self.messages().iter().chain(&advice).map(String::as_str).collect::<Vec<_>>().join("; ");
        let (message, fields) = named(&said);
        let field = fields.first().map_or("", String::as_str);
        of_fields(py, &message, field, None, Some(&message))
    }
}

/// A text in which `--top-p` is `top_p`, and the arguments in it.
fn named(text: &str) -> (String, Vec<String>) {
    with_arguments(text, |name| FLAGS.contains(&name).then(|| name.replace('-', "_")))
}
