//! What is said besides results: what was chosen without being asked for, what data are like. It goes to standard error, or to
//! whoever listens on the same thread.

use std::cell::RefCell;

thread_local! {
    /// What was said since somebody listens.
    static HEARD: RefCell<Option<Vec<String>>> = const { RefCell::new(None) };
}

/// Says a line: `topic` stands before it on standard error.
pub fn say(topic: &str, line: impl Into<String>) {
    let line = line.into();
    let unheard = HEARD.with_borrow_mut(|heard| match heard {
        Some(lines) => {
            lines.push(line);
            None
        }
        None => Some(line),
    });
    if let Some(line) = unheard {
        eprintln!("{topic}{line}");
    }
}

/// What `work` gives, and what it says on this thread, which is not written to standard error.
pub fn heard<T>(work: impl FnOnce() -> T) -> (T, Vec<String>) {
    let before = HEARD.replace(Some(Vec::new()));
    let done = work();
    (done, HEARD.replace(before).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_listens_hears_what_is_said_meanwhile() {
        let (inner, outer) = heard(|| {
            say("note: ", "before");
            let ((), inner) = heard(|| say("data  ", "inside"));
            say("note: ", String::from("after"));
            inner
        });
        assert_eq!(
            (inner, outer),
            (vec!["inside".to_owned()], vec!["before".to_owned(), "after".to_owned()])
        );
    }
}
