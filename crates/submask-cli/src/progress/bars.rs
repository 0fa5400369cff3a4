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
}

impl Bars {
    /// Nothing is drawn until something happens.
    pub fn new() -> Self {
        Self { bar: ProgressBar::new_spinner(), training: false }
    }

    fn start(&mut self, done: u64, total: u64) {
        self.bar.finish_and_clear();
        self.bar = ProgressBar::new(total)
            .with_position(done)
            .with_style(style("{bar:28} {pos}/{len}  {msg}  {elapsed} passed, {eta} left"));
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

/// A style from a template; a template that is wrong falls back to the default one.
pub fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("━╸─")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_templates_are_right() {
        for template in
            [super::super::counter::TEMPLATE, "{bar:28} {pos}/{len}  {msg}  {elapsed} passed, {eta} left"]
        {
            assert!(ProgressStyle::with_template(template).is_ok());
        }
    }
}
