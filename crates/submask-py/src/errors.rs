//! Errors of the library as exceptions of Python.

use std::path::Path;

use pyo3::prelude::*;
use pyo3::types::PyType;
use submask::Error;

/// Where the exceptions stand.
const MODULE: &str = "submask.errors";

/// The exception that an error is.
pub fn exception(py: Python<'_>, error: &Error) -> PyErr {
    let message = message(error);
    match error {
        Error::Invalid { field, given, allowed } => {
            of_fields(py, &message, field, Some(given), Some(allowed))
        }
        Error::Needed { field, reason } => of_fields(py, &message, field, None, Some(reason)),
        Error::Conflict { field, problem } => of_fields(py, &message, field, None, Some(problem)),
        Error::InvalidCode { what, given, allowed } => {
            of_fields(py, &message, what, Some(&given.to_string()), Some(allowed))
        }
        Error::NonFinite { what, needed } => of_fields(py, &message, what, Some("not finite"), Some(needed)),
        Error::Io { path, source } => of_file(py, &message, source.raw_os_error(), path),
        Error::Format { .. } => of_class(py, "FormatError", &message),
        Error::Download { .. } => of_class(py, "DownloadError", &message),
        Error::NotFinite { .. } => of_class(py, "DivergedError", &message),
        Error::Interrupted => pyo3::exceptions::PyKeyboardInterrupt::new_err(()),
        _ => of_class(py, "InternalError", &message),
    }
}

/// A defect of this package.
pub fn internal(py: Python<'_>, message: &str) -> PyErr {
    of_class(py, "InternalError", message)
}

/// A value that is refused, with what is allowed.
pub fn invalid(
    py: Python<'_>,
    field: &str,
    given: impl std::fmt::Display,
    allowed: impl Into<String>,
) -> PyErr {
    exception(py, &Error::invalid(field, given, allowed))
}

/// The error and what caused it.
fn message(error: &Error) -> String {
    let mut message = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        let text = error.to_string();
        if !message.contains(&text) {
            message = format!("{message}: {text}");
        }
        cause = error.source();
    }
    message
}

/// `InvalidError` with what it knows.
pub fn of_fields(
    py: Python<'_>,
    message: &str,
    field: &str,
    given: Option<&str>,
    allowed: Option<&str>,
) -> PyErr {
    let made = class(py, "InvalidError").and_then(|class| class.call1((message, field, given, allowed)));
    made.map_or_else(|error| error, PyErr::from_value)
}

/// `FileError` with the operating system's number and the file.
fn of_file(py: Python<'_>, message: &str, number: Option<i32>, path: &Path) -> PyErr {
    let made = class(py, "FileError").and_then(|class| class.call1((message, number, path.as_os_str())));
    made.map_or_else(|error| error, PyErr::from_value)
}

/// `FileError` of a file or folder that does not exist, named by an argument or a setting.
pub fn of_missing(py: Python<'_>, message: &str, path: &Path, field: &str) -> PyErr {
    let number = py.import("errno").and_then(|module| module.getattr("ENOENT"));
    let made =
        number.and_then(|number| class(py, "FileError")?.call1((message, number, path.as_os_str(), field)));
    made.map_or_else(|error| error, PyErr::from_value)
}

/// An exception of `submask.errors` by its name.
pub fn of_class(py: Python<'_>, name: &str, message: &str) -> PyErr {
    let made = class(py, name).and_then(|class| class.call1((message,)));
    made.map_or_else(|error| error, PyErr::from_value)
}

fn class<'py>(py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyType>> {
    Ok(py.import(MODULE)?.getattr(name)?.cast_into::<PyType>()?)
}
