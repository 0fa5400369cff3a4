//! Progress of work that is counted, such as sequences evaluated.

use std::io::{IsTerminal, stderr};
use std::time::{Duration, Instant};

use indicatif::ProgressBar;

use super::Pace;
use super::bars::{fits, style};
use crate::format::duration;

/// How the bar looks.
pub const TEMPLATE: &str = "{bar:28} {pos}/{len} {msg}  {elapsed} passed, {eta} left";
/// Columns that it needs, with counts of a million.
const COLUMNS: u16 = 80;
/// The same in a narrow window.
pub const NARROW: &str = "{bar:12} {pos}/{len} {msg}  {eta} left";
const QUIET: Duration = Duration::from_secs(5);

/// A bar on a terminal, lines elsewhere.
#[derive(Debug)]
pub struct Counter {
    what: &'static str,
    bar: Option<ProgressBar>,
    start: Instant,
    last: Duration,
    pace: Pace,
}

impl Counter {
    /// Counts `what`, such as `sequences`.
    pub fn new(what: &'static str) -> Self {
        let bar = stderr().is_terminal().then(|| {
            ProgressBar::new(0).with_style(style(fits(COLUMNS, TEMPLATE, NARROW))).with_message(what)
        });
        let mut pace = Pace::default();
        pace.note(0, Duration::ZERO);
        Self { what, bar, start: Instant::now(), last: Duration::ZERO, pace }
    }

    /// Notes that `done` of `total` are done.
    pub fn set(&mut self, done: u64, total: u64) {
        match &self.bar {
            Some(bar) => {
                bar.set_length(total);
                bar.set_position(done);
            }
            None => {
                if let Some(line) = self.line(done, total, self.start.elapsed()) {
                    eprintln!("{line}");
                }
            }
        }
    }

    /// The line for this moment, unless there was one just now.
    fn line(&mut self, done: u64, total: u64, now: Duration) -> Option<String> {
        self.pace.note(done, now);
        if now.saturating_sub(self.last) < QUIET {
            return None;
        }
        self.last = now;
        let remaining = self.pace.remaining(total).map_or("?".to_owned(), duration);
        Some(format!("{}  {done}/{total}  ETA {remaining}", self.what))
    }
}

impl Drop for Counter {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_rate_limited() {
        let mut counter = Counter::new("sequences");
        counter.bar = None;
        assert_eq!(counter.line(1, 10, Duration::from_secs(1)), None);
        assert_eq!(counter.line(6, 10, Duration::from_secs(6)).unwrap(), "sequences  6/10  ETA 4s");
        assert_eq!(counter.line(7, 10, Duration::from_secs(7)), None);
    }
}
