//! Progress as plain lines, for logs.

use std::io::Write;
use std::time::{Duration, Instant};

use super::Pace;
use crate::data_notes::data_notes;
use crate::format::{
    clipped, count, data_sizes, duration, ends_early, figure, number, one_line, tokenizer_note,
};
use submask::data::{Phase, Progress};
use submask::train::event::{Event, Observer, StepRecord};

/// Shortest time between two lines of the same sort.
const QUIET: Duration = Duration::from_secs(5);

/// Writes lines of a fixed form, not too many of them.
#[derive(Debug)]
pub struct Lines<W> {
    out: W,
    start: Instant,
    steps: u64,
    pace: Pace,
    phase: Option<Phase>,
    last: Option<Duration>,
}

impl<W: Write> Lines<W> {
    /// Lines on `out`.
    pub fn new(out: W) -> Self {
        Self { out, start: Instant::now(), steps: 0, pace: Pace::default(), phase: None, last: None }
    }

    /// The lines that an event gives at time `now`.
    fn render(&mut self, event: &Event, now: Duration) -> Vec<String> {
        match event {
            Event::Preparing(progress) => {
                let new_phase = self.phase.replace(progress.phase) != Some(progress.phase);
                let due = self.due(now, new_phase);
                due.then(|| format!("data  {}", preparing(progress))).into_iter().collect()
            }
            Event::Data(note) => data_notes(note).iter().map(|note| format!("data  {note}")).collect(),
            &Event::Started { parameters, train_tokens, valid_tokens, fidelity, step, steps } => {
                self.steps = steps;
                self.pace.note(step, now);
                self.last = None;
                let (weights, sizes) = (count(parameters), data_sizes(train_tokens, valid_tokens));
                let note = fidelity.map(|fidelity| format!("data  {}", tokenizer_note(fidelity)));
                let start = format!("start  {weights} weights, {sizes}, step {step}/{steps}");
                note.into_iter().chain([start]).collect()
            }
            Event::Step(record) => {
                self.pace.note(record.step, now);
                let last_step = record.step >= self.steps;
                let due = self.due(now, last_step);
                due.then(|| self.step(record)).into_iter().collect()
            }
            Event::Validation(record) => {
                let at = format!("{}/{}", record.step, self.steps);
                let figures = record.figures.iter().map(|one| format!("valid  {at}  {}", figure(one)));
                let samples = record.samples.iter().map(|text| format!("sample  {at}  {}", one_line(text)));
                figures.chain(samples).collect()
            }
            Event::Clip(record) => {
                vec![format!("clip  {}/{}  {}", record.step, self.steps, clipped(record))]
            }
            Event::Checkpoint(path) => vec![format!("checkpoint  {}", path.display())],
            Event::EndsEarly { step, best } => {
                vec![format!("early  {step}/{}  {}", self.steps, ends_early(*best))]
            }
        }
    }

    /// Whether a line may be written now; notes it if so.
    fn due(&mut self, now: Duration, always: bool) -> bool {
        let due = always || self.last.is_none_or(|last| now.saturating_sub(last) >= QUIET);
        if due {
            self.last = Some(now);
        }
        due
    }

    fn step(&self, record: &StepRecord) -> String {
        let remaining = self.pace.remaining(self.steps).map_or("?".to_owned(), duration);
        format!(
            "step  {}/{}  loss {} nats/token ({})  {} tokens/s  lr {:.2e}  ETA {remaining}",
            record.step,
            self.steps,
            number(record.loss_nats_per_token),
            record.objective,
            count(record.tokens_per_second as u64),
            record.learning_rate,
        )
    }
}

impl<W: Write> Observer for Lines<W> {
    fn notify(&mut self, event: &Event) {
        for line in self.render(event, self.start.elapsed()) {
            // A log that cannot be written is no reason to stop training.
            let _ = writeln!(self.out, "{line}");
        }
    }
}

/// What is being prepared, and how far it is.
pub fn preparing(progress: &Progress) -> String {
    let what = match progress.phase {
        Phase::Survey => "counting documents",
        Phase::Train => "reading for the tokenizer",
        Phase::Tokenize => "writing tokens",
    };
    let share = progress.total_bytes.filter(|&total| total > 0).map(|total| {
        let percent = 100 * progress.bytes.min(total) / total;
        format!(", {percent} %")
    });
    format!("{what}: {} documents{}", count(progress.documents), share.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::tests::{bound, joint};
    use submask::train::event::{ClipRecord, ValidationRecord};

    fn step(step: u64) -> Event {
        Event::Step(StepRecord {
            step,
            loss_nats_per_token: 5.1234,
            objective: "marginal".into(),
            gradient_norm: 0.7,
            learning_rate: 1.2e-3,
            tokens: 2048 * step,
            tokens_per_second: 4321.0,
        })
    }

    #[test]
    fn lines_have_a_stable_form() {
        let mut lines = Lines::new(Vec::new());
        let progress =
            Progress { phase: Phase::Tokenize, documents: 41_120, bytes: 45, total_bytes: Some(100) };
        let events = [
            Event::Preparing(progress),
            Event::Started {
                parameters: 2_900_000,
                train_tokens: Some(1_200_000),
                valid_tokens: Some(24_000),
                fidelity: None,
                step: 0,
                steps: 200,
            },
            step(100),
            Event::Validation(ValidationRecord {
                step: 100,
                figures: vec![bound(), joint()],
                samples: vec!["sea: a large\nbody".into()],
            }),
            Event::Clip(ClipRecord { step: 100, interval: "0.3..0.8".parse().unwrap(), variance: 12.34567 }),
            Event::Checkpoint("runs/a/checkpoints/step-100".into()),
        ];
        let mut text = String::new();
        for (i, event) in events.iter().enumerate() {
            for line in lines.render(event, Duration::from_secs(30 * i as u64)) {
                text += &(line + "\n");
            }
        }
        insta::assert_snapshot!(text, @r"
        data  writing tokens: 41.1k documents, 45 %
        start  2.9M weights, 1.2M training tokens, 24.0k validation tokens, step 0/200
        step  100/200  loss 5.1234 nats/token (marginal)  4.3k tokens/s  lr 1.20e-3  ETA 30s
        valid  100/200  nelbo_subtoken 3.2123 ± 0.0123 bits per character (upper bound)
        valid  100/200  joint_objective 2.5000 nats per token (surrogate, no likelihood)
        sample  100/200  sea: a large⏎body
        clip  100/200  times from 0.3..0.8 from here on, variance 12.3457
        checkpoint  runs/a/checkpoints/step-100
        ");
    }

    #[test]
    fn steps_are_rate_limited_but_the_last_one_is_always_there() {
        let mut lines = Lines::new(Vec::new());
        lines.render(
            &Event::Started {
                parameters: 1,
                train_tokens: Some(1),
                valid_tokens: Some(1),
                fidelity: None,
                step: 0,
                steps: 100,
            },
            Duration::ZERO,
        );
        let at = |millis| Duration::from_millis(millis);
        let written = (1..=100).map(|n| lines.render(&step(n), at(100 * n)).len()).sum::<usize>();
        assert_eq!(written, 3, "one at once, one after five seconds, the last one");
    }
}
