//! Progress of downloads.

use std::io::{IsTerminal, stderr};

use indicatif::ProgressBar;

use super::bars::style;

/// How the bar looks.
const TEMPLATE: &str = "{bar:28} {bytes}/{total_bytes} {msg}  {elapsed} passed, {eta} left";

/// One bar a file on a terminal, one line a file elsewhere.
#[derive(Debug, Default)]
pub struct Download {
    file: String,
    bar: Option<ProgressBar>,
}

impl Download {
    /// Notes that `done` of the `total` bytes of `file` are there.
    pub fn set(&mut self, file: &str, done: u64, total: u64) {
        if self.file != file {
            self.clear();
            file.clone_into(&mut self.file);
            if stderr().is_terminal() {
                // The speed is that of this call: what an earlier one left does not count.
                let bar = ProgressBar::new(total).with_position(done).with_style(style(TEMPLATE));
                bar.reset_eta();
                self.bar = Some(bar.with_message(self.file.clone()));
            } else {
                eprintln!("{}", self.line(done, total));
            }
        }
        if let Some(bar) = &self.bar {
            bar.set_position(done);
        }
    }

    /// Says something above the bar.
    pub fn say(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.println(text),
            None => eprintln!("{text}"),
        }
    }

    fn line(&self, done: u64, total: u64) -> String {
        let there = if done > 0 { format!(", {done} of them are there") } else { String::new() };
        format!("downloading {}: {total} bytes{there}", self.file)
    }

    fn clear(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

impl Drop for Download {
    fn drop(&mut self) {
        self.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_template_is_right_and_the_line_says_what_is_there() {
        assert!(indicatif::ProgressStyle::with_template(TEMPLATE).is_ok());
        let download = Download { file: "a/b.ckpt".to_owned(), bar: None };
        assert_eq!(download.line(0, 9), "downloading a/b.ckpt: 9 bytes");
        assert_eq!(download.line(4, 9), "downloading a/b.ckpt: 9 bytes, 4 of them are there");
    }
}
