//! How the program fails: a message with its causes, a hint, and a documented exit code.

use std::error::Error;
use std::fmt::Display;
use std::sync::Arc;

use crate::notes;
use crate::stop::STOPPED;

/// Why the program ends early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// The work could not be done: 1.
    Failed,
    /// It was asked for in a way that cannot work: 2.
    Usage,
    /// It was stopped by the user, with a checkpoint: 130, as the shell reports Ctrl-C.
    Stopped,
    /// Whoever read standard output has gone: nothing to say, 0.
    OutputClosed,
}

impl Exit {
    fn code(self) -> u8 {
        match self {
            Self::OutputClosed => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Stopped => STOPPED,
        }
    }
}

/// What the user is told before the program ends.
#[derive(Clone, Debug)]
pub struct Failure {
    exit: Exit,
    messages: Vec<String>,
    hint: Option<String>,
    refused: Option<Box<Refused>>,
    error: Option<Arc<submask::Error>>,
}

/// A value that is not allowed, as far as it has a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The setting or argument.
    pub field: String,
    /// Its value; `None` where it is missing.
    pub given: Option<String>,
    /// What is allowed instead.
    pub allowed: String,
}

impl Failure {
    /// The work could not be done.
    pub fn failed(message: impl Display) -> Self {
        Self {
            exit: Exit::Failed,
            messages: vec![message.to_string()],
            hint: None,
            refused: None,
            error: None,
        }
    }

    /// It was asked for in a way that cannot work.
    pub fn usage(message: impl Display) -> Self {
        Self { exit: Exit::Usage, ..Self::failed(message) }
    }

    /// The user stopped it.
    pub fn stopped(message: impl Display) -> Self {
        Self { exit: Exit::Stopped, ..Self::failed(message) }
    }

    /// Whoever read standard output has gone.
    pub fn output_closed() -> Self {
        Self { exit: Exit::OutputClosed, messages: Vec::new(), ..Self::failed("") }
    }

    /// Adds what the user can do about it.
    pub fn hint(mut self, hint: impl Display) -> Self {
        self.hint = Some(hint.to_string());
        self
    }

    /// Names the setting or argument that is refused, for those who do not read the message.
    pub fn about(mut self, field: impl Display, given: impl Display, allowed: impl Display) -> Self {
        let (field, given, allowed) = (field.to_string(), Some(given.to_string()), allowed.to_string());
        self.refused = Some(Box::new(Refused { field, given, allowed }));
        self
    }

    /// Puts what was being done before what went wrong.
    pub fn context(mut self, what: impl Display) -> Self {
        self.messages.insert(0, what.to_string());
        self
    }

    /// Why the program ends.
    pub fn exit(&self) -> Exit {
        self.exit
    }

    /// What was being done and what went wrong, from the outside to the cause.
    pub fn messages(&self) -> &[String] {
        &self.messages
    }

    /// What the user can do about it.
    pub fn advice(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// The setting or argument that is refused.
    pub fn refused(&self) -> Option<&Refused> {
        self.refused.as_deref()
    }

    /// The error of the library, where it is one.
    pub fn error(&self) -> Option<&submask::Error> {
        self.error.as_deref()
    }

    /// Says it on standard error, and gives the exit code.
    pub fn report(&self) -> u8 {
        notes::write(&self.to_string());
        self.exit.code()
    }

    /// A failure with the chain of `error`, leaving out what a message above already says.
    fn of_chain(exit: Exit, error: &dyn Error) -> Self {
        let mut messages = vec![error.to_string()];
        let mut cause = error.source();
        while let Some(error) = cause {
            let text = error.to_string();
            if !messages.iter().any(|message| message.contains(&text)) {
                messages.push(text);
            }
            cause = error.source();
        }
        Self { exit, messages, ..Self::failed("") }
    }
}

impl Refused {
    /// What the library refuses.
    fn of(error: &submask::Error) -> Option<Self> {
        let (field, given, allowed) = match error {
            submask::Error::Invalid { field, given, allowed } => (field, Some(given), allowed),
            submask::Error::Needed { field, reason } => (field, None, reason),
            submask::Error::Conflict { field, problem } => (field, None, problem),
            _ => return None,
        };
        Some(Self { field: field.clone(), given: given.cloned(), allowed: allowed.clone() })
    }
}

impl Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let label = if self.exit == Exit::Stopped { "stopped" } else { "error" };
        for (i, message) in self.messages.iter().enumerate() {
            match i {
                0 => writeln!(f, "{label}: {message}")?,
                _ => writeln!(f, "  caused by: {message}")?,
            }
        }
        match &self.hint {
            Some(hint) => writeln!(f, "hint: {hint}"),
            None => Ok(()),
        }
    }
}

/// Values that the library refuses are usage errors, everything else is a failure.
impl From<submask::Error> for Failure {
    fn from(error: submask::Error) -> Self {
        let exit = match error {
            submask::Error::Invalid { .. }
            | submask::Error::Needed { .. }
            | submask::Error::Conflict { .. } => Exit::Usage,
            submask::Error::Interrupted => Exit::Stopped,
            _ => Exit::Failed,
        };
        let failure = Self::of_chain(exit, &error);
        let failure = match &error {
            submask::Error::NotFinite { .. } => failure.hint(
                "lower train.learning_rate or lengthen train.warmup_steps; --resume goes on from the last checkpoint",
            ),
            submask::Error::Io { source, .. } if is_full(source) => failure.hint(FREE_SPACE),
            submask::Error::Invalid { field, allowed, .. }
                if field == "tokenizer.vocab_size" && allowed.starts_with("at most") =>
            {
                failure.hint(SMALL_TEXT)
            }
            _ => failure,
        };
        Self { refused: Refused::of(&error).map(Box::new), error: Some(Arc::new(error)), ..failure }
    }
}

/// What to do where nothing more can be written.
const FREE_SPACE: &str =
    "free some space, or write to another disk; a run that had begun goes on by --resume";

/// What to do with a text that is too small for the preset's tokenizer.
const SMALL_TEXT: &str = "lower it by --set tokenizer.vocab_size=N, or take bytes, which suit small texts: --set tokenizer.kind=bytes";

/// Whether the disk, or what the user may take of it, is full.
fn is_full(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded)
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::BrokenPipe => Self::output_closed(),
            _ => Self::of_chain(Exit::Failed, &error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chain_stands_before_the_hint_and_nothing_is_said_twice() {
        let missing = std::io::Error::new(std::io::ErrorKind::NotFound, "no such file");
        let error = submask::Error::io("a/config.json")(missing);
        let failure = Failure::from(error).context("cannot load the model a").hint("look elsewhere");
        assert_eq!(
            failure.to_string(),
            "error: cannot load the model a\n  caused by: a/config.json: no such file\nhint: look elsewhere\n"
        );
        assert_eq!(failure.exit, Exit::Failed);
    }

    #[test]
    fn refused_values_are_usage_errors() {
        let failure = Failure::from(submask::Error::invalid("train.steps", 0, "at least 1"));
        assert_eq!(failure.exit.code(), 2);
        assert_eq!(failure.to_string(), "error: train.steps = 0 is not allowed: at least 1\n");
        let needed =
            submask::Error::Needed { field: "--heads".to_owned(), reason: "a.pt does not say it".to_owned() };
        let failure = Failure::from(needed);
        assert_eq!(failure.exit.code(), 2);
        assert_eq!(failure.to_string(), "error: --heads has to be given: a.pt does not say it\n");
    }

    #[test]
    fn a_full_disk_has_a_hint_and_other_trouble_with_files_has_none() {
        let said = |kind: std::io::ErrorKind| {
            Failure::from(submask::Error::io("runs/a/state.json")(kind.into())).to_string()
        };
        let full = said(std::io::ErrorKind::StorageFull);
        assert!(
            full.starts_with("error: runs/a/state.json: ") && full.contains("hint: free some space"),
            "{full}"
        );
        let missing = said(std::io::ErrorKind::NotFound);
        assert!(!missing.contains("hint"), "{missing}");
    }

    #[test]
    fn a_closed_pipe_is_no_failure() {
        let failure = Failure::from(std::io::Error::from(std::io::ErrorKind::BrokenPipe));
        assert_eq!((failure.exit.code(), failure.to_string().as_str()), (0, ""));
    }
}
