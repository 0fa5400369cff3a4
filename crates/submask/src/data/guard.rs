//! Readers of other crates that panic on damaged files: what they do on a thread is an error of the file.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use crate::error::{Error, Result};

thread_local! {
    static GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// Whether a panic on this thread becomes an error: a program's panic hook need not tell of it.
pub fn panics_are_errors() -> bool {
    GUARDED.get()
}

/// What `read` gives, or an error for the file at `path` where it panics. What it worked on is not used afterwards.
///
/// # Errors
/// Those of `read`, and [`Error::Format`] with what the panic said.
#[cfg_attr(not(feature = "parquet"), allow(dead_code, reason = "only parquet needs it"))]
pub(in crate::data) fn guarded<R>(path: &Path, read: impl FnOnce() -> Result<R>) -> Result<R> {
    let before = GUARDED.replace(true);
    let result = catch_unwind(AssertUnwindSafe(read));
    GUARDED.set(before);
    result.unwrap_or_else(|panic| {
        let said = panic.downcast_ref::<String>().map(String::as_str);
        let said = said.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("nothing more is known");
        Err(Error::format(path, format!("damaged: its reader gave up: {said}")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_error_of_the_file() {
        let path = Path::new("a.parquet");
        assert!(guarded(path, || Ok(panics_are_errors())).unwrap());
        assert!(!panics_are_errors());
        let number = 7;
        let error = guarded::<()>(path, || panic!("page {number} is missing")).unwrap_err().to_string();
        assert!(error.contains("a.parquet") && error.contains("page 7 is missing"), "{error}");
        assert!(!panics_are_errors());
        let error = guarded::<()>(path, || Err(Error::format(path, "short"))).unwrap_err().to_string();
        assert!(error.ends_with("short"), "{error}");
    }
}
