//! What the dashboard knows, from the events of a run.

use std::time::Duration;

use crate::data_notes::data_notes;
use crate::format::{clipped, count, data_sizes, duration, ends_early, figure, number, tokenizer_note};
use crate::progress::{Pace, preparing};
use submask::likelihood::{Figure, Kind};
use submask::train::event::Event;

/// Everything that is drawn.
#[derive(Clone, Debug)]
pub struct State {
    /// The run.
    pub title: String,
    /// What is going on.
    pub status: String,
    /// Whether a stop was asked for.
    pub stopping: bool,
    /// Last step, and the last there will be.
    pub progress: (u64, u64),
    /// Which objective the loss is.
    pub objective: String,
    /// Training loss by step.
    pub loss: Vec<(f64, f64)>,
    /// Name and unit of the figure that is followed, and its values by step.
    pub bound: Option<(String, Vec<(f64, f64)>)>,
    /// All figures of the last validation.
    pub figures: Vec<Figure>,
    /// Samples of the last validation.
    pub samples: Vec<String>,
    /// Loss, rate and learning rate of the last step.
    pub details: String,
    /// Size of model and data.
    pub sizes: String,
    /// What there is to say of the data.
    notes: Vec<String>,
    pace: Pace,
}

impl State {
    /// Nothing has happened yet.
    pub fn new(title: &str) -> Self {
        Self {
            title: title.to_owned(),
            status: "starting".to_owned(),
            stopping: false,
            progress: (0, 0),
            objective: "training".to_owned(),
            loss: Vec::new(),
            bound: None,
            figures: Vec::new(),
            samples: Vec::new(),
            details: String::new(),
            sizes: String::new(),
            notes: Vec::new(),
            pace: Pace::default(),
        }
    }

    /// Takes in what happened at time `now`.
    pub fn apply(&mut self, event: &Event, now: Duration) {
        match event {
            Event::Preparing(progress) => self.status = preparing(progress),
            Event::Data(note) => self.notes.extend(data_notes(note)),
            &Event::Started { parameters, train_tokens, valid_tokens, fidelity, step, steps } => {
                self.progress = (step, steps);
                self.pace.note(step, now);
                self.status = "training".to_owned();
                let sizes = data_sizes(train_tokens, valid_tokens);
                let note =
                    fidelity.map_or_else(String::new, |fidelity| format!("; {}", tokenizer_note(fidelity)));
                let notes: String = self.notes.iter().map(|note| format!("; {note}")).collect();
                self.sizes = format!("{} weights, {sizes}{note}{notes}", count(parameters));
            }
            Event::Step(record) => {
                self.progress.0 = record.step;
                self.pace.note(record.step, now);
                self.status = "training".to_owned();
                self.objective.clone_from(&record.objective);
                self.loss.push((record.step as f64, record.loss_nats_per_token));
                self.details = format!(
                    "loss {} nats/token, {} tokens/s, learning rate {:.2e}, gradient norm {}",
                    number(record.loss_nats_per_token),
                    count(record.tokens_per_second as u64),
                    record.learning_rate,
                    number(record.gradient_norm),
                );
            }
            Event::Validation(record) => {
                self.figures.clone_from(&record.figures);
                self.samples.clone_from(&record.samples);
                self.follow(record.step, &record.figures);
            }
            Event::Clip(record) => self.status = clipped(record),
            Event::Checkpoint(path) => self.status = format!("saved {}", path.display()),
            Event::EndsEarly { best, .. } => self.status = format!("ends early, {}", ends_early(*best)),
        }
    }

    /// Follows the first figure that is a likelihood.
    fn follow(&mut self, step: u64, figures: &[Figure]) {
        let Some(followed) = figures.iter().find(|figure| figure.kind != Kind::Surrogate) else { return };
        let name = format!("{}, {}", followed.name, followed.unit);
        let (_, values) = self.bound.get_or_insert_with(|| (name, Vec::new()));
        values.push((step as f64, followed.value));
    }

    /// Steps, rate and remaining time.
    pub fn gauge(&self) -> (f64, String) {
        let (step, steps) = self.progress;
        if steps == 0 {
            return (0.0, String::new());
        }
        let rate = self.pace.rate().map(|rate| format!(", {} steps/s", number(rate))).unwrap_or_default();
        let left =
            self.pace.remaining(steps).map(|time| format!(", {} left", duration(time))).unwrap_or_default();
        ((step as f64 / steps as f64).clamp(0.0, 1.0), format!("{step}/{steps}{rate}{left}"))
    }

    /// The figures of the last validation, one a line.
    pub fn figure_lines(&self) -> Vec<String> {
        self.figures.iter().map(figure).collect()
    }
}

/// At most `most` points, each the mean of its neighbours.
pub fn thinned(points: &[(f64, f64)], most: usize) -> Vec<(f64, f64)> {
    let size = points.len().div_ceil(most.max(1)).max(1);
    let mean = |part: &[(f64, f64)]| {
        let n = part.len() as f64;
        (part.iter().map(|point| point.0).sum::<f64>() / n, part.iter().map(|point| point.1).sum::<f64>() / n)
    };
    points.chunks(size).map(mean).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn curves_are_thinned_by_means() {
        let points: Vec<(f64, f64)> = (0..10).map(|i| (f64::from(i), 1.0)).collect();
        assert_eq!(thinned(&points, 5).len(), 5);
        assert_eq!(thinned(&points, 5)[0], (0.5, 1.0));
        assert_eq!(thinned(&points, 100), points);
        assert!(thinned(&[], 5).is_empty());
    }
}
