//! The one error type of the library: what was given, what is allowed, and where.

use std::fmt::Display;
use std::path::{Path, PathBuf};

/// Result of everything in this library that can fail.
pub type Result<T> = std::result::Result<T, Error>;

/// What went wrong. Every kind names the file, field or value at fault and what would be allowed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A setting or argument outside its allowed values.
    #[error("{field} = {given} is not allowed: {allowed}")]
    Invalid {
        /// Name of the setting, field or argument.
        field: String,
        /// The value given.
        given: String,
        /// What is allowed instead.
        allowed: String,
    },
    /// Settings that have to be given, since nothing else says them.
    #[error("{field} {} to be given: {reason}", if field.contains(", ") { "have" } else { "has" })]
    Needed {
        /// Name of the setting or argument; of several, with `, ` between them.
        field: String,
        /// Where it was looked for, and what helps to find it.
        reason: String,
    },
    /// Settings that do not go with what is there already.
    #[error("{field} {problem}")]
    Conflict {
        /// Name of the setting, field or argument.
        field: String,
        /// What it differs from.
        problem: String,
    },
    /// A code that no token has, or a digit outside the base.
    #[error("{what} {given} is not a valid code: {allowed}")]
    InvalidCode {
        /// `token`, `digit` or `code`.
        what: &'static str,
        /// The value given.
        given: u64,
        /// What is allowed instead.
        allowed: String,
    },
    /// The operating system refused a file operation.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file that is not what it should be: truncated, altered, of another format or version.
    #[error("{}: {problem}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, and what was expected.
        problem: String,
    },
    /// A file that could not be downloaded.
    #[error("{name}: {problem}")]
    Download {
        /// Its name, such as `hub://owner/repo/path`.
        name: String,
        /// What went wrong, and what can be done.
        problem: String,
    },
    /// Numbers of a network that are not finite where they have to be.
    #[error("the {what} are not finite: {needed}")]
    NonFinite {
        /// Which numbers: `logits`, ….
        what: &'static str,
        /// What is needed instead.
        needed: &'static str,
    },
    /// A promise that this library makes to itself does not hold: a defect of it, and no fault of the caller's.
    #[error("internal error: {what}: {found}")]
    Internal {
        /// What was promised.
        what: &'static str,
        /// What was found instead.
        found: String,
    },
    /// Numbers that stopped being numbers while training.
    #[error("step {step}: the {what} is {value}, not a finite number")]
    NotFinite {
        /// Training step, counted from 1; on a GPU the one at which it was noticed.
        step: u64,
        /// `loss`, `gradient norm`, or on a GPU `sum of gradient norms` since the last record.
        what: &'static str,
        /// The value.
        value: f64,
    },
    /// Processes that compute together (`train` under MPI) are of different minds.
    #[error("the ranks differ in {what}: {values}")]
    Differ {
        /// What should be the same on all of them.
        what: String,
        /// What it is on which.
        values: String,
    },
    /// A process that others wait for.
    #[error("{what} is lost")]
    Lost {
        /// Which, and how that was noticed.
        what: String,
    },
    /// The work was stopped from outside (Ctrl-C).
    #[error("interrupted")]
    Interrupted,
}

impl Error {
    /// A value outside the allowed ones.
    pub fn invalid(field: impl Into<String>, given: impl Display, allowed: impl Into<String>) -> Self {
        Self::Invalid { field: field.into(), given: given.to_string(), allowed: allowed.into() }
    }

    /// The same error, in which the field of a value that is refused or needed has the name that `name` gives it: below,
    /// fields are called as the code calls them, above as settings or flags do.
    #[must_use]
    pub fn rename_field(self, name: impl FnOnce(&str) -> String) -> Self {
        match self {
            Self::Invalid { field, given, allowed } => Self::Invalid { field: name(&field), given, allowed },
            Self::Needed { field, reason } => Self::Needed { field: name(&field), reason },
            error => error,
        }
    }

    /// For `map_err`: a broken promise of this library's own.
    pub(crate) fn internal<E: std::fmt::Debug>(what: &'static str) -> impl FnOnce(E) -> Self {
        move |found| Self::Internal { what, found: format!("{found:?}") }
    }

    /// For `map_err`: an operating system error at `path`.
    pub fn io(path: impl AsRef<Path>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.as_ref().to_path_buf();
        move |source| Self::Io { path, source }
    }

    /// A malformed file.
    pub fn format(path: impl AsRef<Path>, problem: impl Into<String>) -> Self {
        Self::Format { path: path.as_ref().to_path_buf(), problem: problem.into() }
    }
}

/// Names as a choice between them: `a, b or c`.
pub fn one_of(names: &[&str]) -> String {
    match names.split_last() {
        Some((last, [])) => (*last).to_owned(),
        Some((last, others)) => format!("{} or {last}", others.join(", ")),
        None => String::new(),
    }
}
