//! What is said besides results: what was chosen without being asked for, what data are like. It goes to standard error, or to
//! whoever collects it on the same thread.

use std::cell::RefCell;
use std::io::Write;

thread_local! {
    /// What was said while somebody collects it.
    static COLLECTED: RefCell<Option<Vec<String>>> = const { RefCell::new(None) };
}

/// Says a line: `topic` stands before it on standard error.
pub fn say(topic: &str, line: impl Into<String>) {
    let line = line.into();
    let left = COLLECTED.with_borrow_mut(|collected| match collected {
        Some(lines) => {
            lines.push(line);
            None
        }
        None => Some(line),
    });
    if let Some(line) = left {
        write(&format!("{topic}{line}\n"));
    }
}

/// Writes text to standard error in one piece, between the pieces of other processes that write there. Where it is gone there is
/// nobody to tell.
pub fn write(text: &str) {
    let _ = std::io::stderr().write_all(text.as_bytes());
}

/// What `work` gives, and the lines that it says on this thread, which are not written to standard error.
pub fn collected<T>(work: impl FnOnce() -> T) -> (T, Vec<String>) {
    let before = COLLECTED.replace(Some(Vec::new()));
    let done = work();
    (done, COLLECTED.replace(before).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_collected_while_work_is_done() {
        let (inner, outer) = collected(|| {
            say("note: ", "before");
            let ((), inner) = collected(|| say("data  ", "inside"));
            say("note: ", String::from("after"));
            inner
        });
        assert_eq!(
            (inner, outer),
            (vec!["inside".to_owned()], vec!["before".to_owned(), "after".to_owned()])
        );
    }
}
