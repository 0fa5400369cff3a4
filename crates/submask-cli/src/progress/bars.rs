//! Progress as bars on a terminal.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use super::lines::preparing;
use crate::data_notes::data_notes;
use crate::format::{clipped, count, data_sizes, ends_early, figure, number, one_line, tokenizer_note};
use submask::train::event::{Event, Observer};

/// One bar at a time: first the data, then training.
#[derive(Debug)]
pub struct Bars {
    bar: ProgressBar,
    training: bool,
    /// Whether a step is done, so that the rest can be told.
    moving: bool,
}

impl Bars {
    /// Nothing is drawn until something happens.
    pub fn new() -> Self {
        Self { bar: ProgressBar::new_spinner(), training: false, moving: false }
    }

    fn start(&mut self, done: u64, total: u64) {
        self.bar.finish_and_clear();
        self.bar = ProgressBar::new(total).with_position(done).with_style(style(FIRST));
        self.bar.reset_eta();
        self.bar.enable_steady_tick(Duration::from_millis(250));
        self.training = true;
    }
}

impl Observer for Bars {
    fn notify(&mut self, event: &Event) {
        match event {
            Event::Preparing(progress) => {
                self.bar.set_message(preparing(progress));
                self.bar.tick();
            }
            Event::Data(note) => {
                data_notes(note).iter().for_each(|note| self.bar.println(format!("data  {note}")));
            }
            &Event::Started { parameters, train_tokens, valid_tokens, fidelity, step, steps } => {
                self.start(step, steps);
                let sizes = data_sizes(train_tokens, valid_tokens);
                self.bar.println(format!("{} weights, {sizes}", count(parameters)));
                if let Some(fidelity) = fidelity {
                    self.bar.println(format!("data  {}", tokenizer_note(fidelity)));
                }
            }
            Event::Step(record) => {
                if !self.moving {
                    self.bar.set_style(style(fits(WIDE, ALL, NARROW)));
                    self.moving = true;
                }
                self.bar.set_position(record.step);
                self.bar.set_message(format!(
                    "loss {} nats/token ({}), {} tokens/s",
                    number(record.loss_nats_per_token),
                    record.objective,
                    count(record.tokens_per_second as u64)
                ));
            }
            Event::Validation(record) => {
                for one in &record.figures {
                    self.bar.println(format!("step {}: {}", record.step, figure(one)));
                }
                for text in &record.samples {
                    self.bar.println(format!("  “{}”", one_line(text)));
                }
            }
            Event::Clip(record) => self.bar.println(format!("step {}: {}", record.step, clipped(record))),
            Event::Checkpoint(_) => {}
            Event::EndsEarly { step, best } => {
                self.bar.println(format!("step {step}: the run ends early, {}", ends_early(*best)));
            }
        }
    }
}

impl Drop for Bars {
    fn drop(&mut self) {
        match self.training {
            true => self.bar.abandon(),
            false => self.bar.finish_and_clear(),
        }
    }
}

/// Columns that everything about training needs.
const WIDE: u16 = 110;
/// Everything about training.
const ALL: &str = "{bar:28} {pos}/{len}  {msg}  {elapsed} passed, {eta} left";
/// What matters most first, and of the rest what has room.
const NARROW: &str = "{bar:12} {pos}/{len}  {eta} left  {wide_msg}";
/// Before the first step nobody knows how long it takes.
const FIRST: &str = "{bar:12} {pos}/{len}  {elapsed} passed";

/// `wide` where the terminal has that many columns, or does not tell how many it has; else `narrow`.
pub fn fits<'a>(columns: u16, wide: &'a str, narrow: &'a str) -> &'a str {
    let size = ratatui::crossterm::terminal::size();
    fits_in(size.map_or(0, |(columns, _)| columns), columns, wide, narrow)
}

/// The same in so many columns, 0 standing for an unknown number.
fn fits_in<'a>(there_are: u16, columns: u16, wide: &'a str, narrow: &'a str) -> &'a str {
    if (1..columns).contains(&there_are) { narrow } else { wide }
}

/// A style from a template; a template that is wrong falls back to the default one.
pub fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("━╸─")
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use indicatif::{ProgressDrawTarget, TermLike};

    use super::*;

    /// A window of 60 columns that keeps what is written.
    #[derive(Clone, Debug, Default)]
    struct Window(Arc<Mutex<String>>);

    impl TermLike for Window {
        fn width(&self) -> u16 {
            60
        }
        fn move_cursor_up(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_down(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_right(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_left(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn write_line(&self, text: &str) -> io::Result<()> {
            self.write_str(text)
        }
        fn write_str(&self, text: &str) -> io::Result<()> {
            self.0.lock().unwrap().push_str(text);
            Ok(())
        }
        fn clear_line(&self) -> io::Result<()> {
            self.0.lock().unwrap().clear();
            Ok(())
        }
        fn flush(&self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn the_templates_are_right() {
        use super::super::counter;
        for template in [counter::TEMPLATE, counter::NARROW, ALL, NARROW, FIRST] {
            assert!(ProgressStyle::with_template(template).is_ok());
        }
    }

    #[test]
    fn a_narrow_window_shows_how_long_it_takes() {
        let fits = |columns| fits_in(columns, WIDE, ALL, NARROW);
        assert_eq!([0, 60, 109, 110].map(fits), [ALL, NARROW, NARROW, ALL]);
        let window = Window::default();
        let target = ProgressDrawTarget::term_like(Box::new(window.clone()));
        let bar = ProgressBar::with_draw_target(Some(6000), target);
        bar.set_style(style(NARROW));
        bar.set_position(1234);
        bar.set_message("loss 5.1234 nats/token (marginal), 4.3k tokens/s");
        bar.tick();
        let line = window.0.lock().unwrap().clone();
        assert!(line.trim_end().chars().count() <= 60, "{line}");
        assert!(line.contains("1234/6000") && line.contains(" left  loss 5.1234"), "{line}");
    }
}
