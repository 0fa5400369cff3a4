//! Failures of the program's own code as exceptions: the same words, without its flags.

use pyo3::exceptions::PyKeyboardInterrupt;
use pyo3::prelude::*;
use submask_cli::failure::{Exit, Failure};

use crate::errors::{exception, of_class, of_fields};

/// Flags of the program, and what they are called here.
const ARGUMENTS: [(&str, &str); 11] = [
    ("--checkpoint", "checkpoint"),
    ("--config", "config"),
    ("--data", "data"),
    ("--image", "data.image"),
    ("--init", "init"),
    ("--out", "out"),
    ("--preset", "preset"),
    ("--rebuild", "rebuild=True"),
    ("--resume", "resume=True"),
    ("--steps", "train.steps"),
    ("--valid", "valid"),
];

/// The exception that a failure is: that of the library's error where it is one, `InvalidError` with the setting or argument where
/// one is refused.
pub fn of_failure(py: Python<'_>, failure: &Failure) -> PyErr {
    of_failure_named(py, failure, as_argument)
}

/// The same where `as_argument` writes arguments in the place of a text's flags.
pub fn of_failure_named(py: Python<'_>, failure: &Failure, as_argument: fn(&str) -> String) -> PyErr {
    if failure.exit() == Exit::Stopped {
        return PyKeyboardInterrupt::new_err(());
    }
    let message = as_argument(&message(failure));
    match (failure.refused(), failure.error()) {
        (Some(refused), _) => {
            let (field, allowed) = (as_argument(&refused.field), as_argument(&refused.allowed));
            of_fields(py, &message, &field, refused.given.as_deref(), Some(&allowed))
        }
        (None, Some(error)) => exception(py, error),
        (None, None) if failure.exit() == Exit::Usage => of_fields(py, &message, "", None, None),
        (None, None) => of_class(py, "SubmaskError", &message),
    }
}

/// What was done, what went wrong and what helps. Advice that is a command of the program is none here: what is allowed is said instead.
fn message(failure: &Failure) -> String {
    let is_command = |advice: &&str| advice.contains("submask ");
    let mut message = failure.messages().join(": ");
    match (failure.advice().filter(|advice| !is_command(advice)), failure.refused()) {
        (Some(advice), _) => message = format!("{message}; {advice}"),
        (None, Some(refused)) if !message.contains(&refused.allowed) => {
            message = format!("{message}; allowed: {}", refused.allowed);
        }
        (None, _) => {}
    }
    message
}

/// A text of the program with arguments in the place of its flags.
pub fn as_argument(text: &str) -> String {
    ARGUMENTS.iter().fold(text.to_owned(), |text, (flag, argument)| text.replace(flag, argument))
}
