//! Failures of the program's own code as exceptions: the same words, without its flags.

use std::path::Path;

use pyo3::exceptions::PyKeyboardInterrupt;
use pyo3::prelude::*;
use submask_cli::failure::{Exit, Failure, Refused};

use crate::errors::{exception, of_class, of_fields, of_missing};

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
    let given = failure.refused().and_then(|refused| refused.given.as_deref()).unwrap_or_default();
    let message = match (message(failure), given.contains("--")) {
        // What was given stays as it is.
        (message, true) => message.split(given).map(as_argument).collect::<Vec<_>>().join(given),
        (message, false) => as_argument(&message),
    };
    match (failure.refused(), failure.error()) {
        (Some(refused), _) if is_missing(failure, refused) => {
            of_missing(py, &message, Path::new(given), &as_argument(&refused.field))
        }
        (Some(refused), _) => {
            let (field, allowed) = (as_argument(&refused.field), as_argument(&refused.allowed));
            of_fields(py, &message, &field, refused.given.as_deref(), Some(&allowed))
        }
        (None, Some(error)) => exception(py, error),
        (None, None) if failure.exit() == Exit::Usage => of_fields(py, &message, "", None, None),
        (None, None) => of_class(py, "SubmaskError", &message),
    }
}

/// The exception of a failure that says nothing but that the path of an argument does not exist.
pub fn of_missing_path(py: Python<'_>, failure: &Failure, field: &str, path: &Path) -> Option<PyErr> {
    let is_bare = failure.refused().is_none() && failure.error().is_none();
    let is_said = failure.messages().iter().any(|message| message.ends_with("does not exist"));
    (is_bare && is_said && !path.exists())
        .then(|| of_missing(py, &as_argument(&message(failure)), path, field))
}

/// Whether what is wrong is that the file or folder which was given does not exist.
fn is_missing(failure: &Failure, refused: &Refused) -> bool {
    let is_said = failure.messages().iter().any(|message| message.ends_with("does not exist"));
    is_said && refused.given.as_deref().is_some_and(|given| !Path::new(given).exists())
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
    let argument = |name: &str| {
        let found = ARGUMENTS.iter().find(|(flag, _)| flag.strip_prefix("--") == Some(name));
        found.map(|(_, argument)| (*argument).to_owned())
    };
    with_arguments(text, argument).0
}

/// A text with arguments in the place of its flags, and these arguments. Only whole words are flags: what is `--` within a path stays.
/// `argument` is asked for the argument of a flag, without the `--`; words for values, such as the N of `--draws N`, are left out.
pub fn with_arguments(text: &str, argument: impl Fn(&str) -> Option<String>) -> (String, Vec<String>) {
    let (mut written, mut names) = (String::with_capacity(text.len()), Vec::new());
    let mut rest = text;
    while let Some(at) = rest.find("--") {
        let (before, flag) = (&rest[..at], &rest[at + 2..]);
        let len = flag.find(|c: char| !c.is_ascii_lowercase() && c != '-').unwrap_or(flag.len());
        let (name, after) = flag.split_at(len);
        let begins = before.chars().next_back().is_none_or(|c| c.is_whitespace() || "(`\"'".contains(c));
        written.push_str(before);
        match argument(name).filter(|_| begins && ends_word(after)) {
            Some(name) => {
                written.push_str(&name);
                names.push(name);
                rest = without_value(after);
            }
            None => {
                written.push_str("--");
                rest = flag;
            }
        }
    }
    (written + rest, names)
}

/// Whether a word ends where this follows it.
fn ends_word(after: &str) -> bool {
    let mut next = after.chars();
    match next.next() {
        None => true,
        Some('.') => next.next().is_none_or(char::is_whitespace),
        Some(c) => !c.is_alphanumeric() && !"-_/\\".contains(c),
    }
}

/// What follows a flag, without the word for its value: capital letters, and `,…` where there may be several.
fn without_value(after: &str) -> &str {
    let Some(value) = after.strip_prefix(' ') else { return after };
    let len = value.find(|c: char| !c.is_ascii_uppercase()).unwrap_or(value.len());
    let (word, rest) = value.split_at(len);
    match word.is_empty() || word == "A" || rest.starts_with(char::is_alphanumeric) {
        true => after,
        false => rest.strip_prefix(",…").unwrap_or(rest),
    }
}
