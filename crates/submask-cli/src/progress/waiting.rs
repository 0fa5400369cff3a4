//! Work whose progress cannot be seen.

use std::io::{IsTerminal, stderr};
use std::time::Duration;

use indicatif::ProgressBar;

/// A spinner on a terminal, one line elsewhere; it ends when it is dropped.
#[derive(Debug)]
pub struct Waiting {
    spinner: Option<ProgressBar>,
}

impl Waiting {
    /// Says what is waited for.
    pub fn new(what: String) -> Self {
        if !stderr().is_terminal() {
            eprintln!("{what}");
            return Self { spinner: None };
        }
        let spinner = ProgressBar::new_spinner().with_message(what);
        spinner.enable_steady_tick(Duration::from_millis(100));
        Self { spinner: Some(spinner) }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some(spinner) = &self.spinner {
            spinner.finish_and_clear();
        }
    }
}
