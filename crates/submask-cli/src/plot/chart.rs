//! What is drawn: one quantity over the steps.

use submask::train::event::StepRecord;

use crate::format;
use crate::metrics::Metrics;

/// A value at a step, with its standard error where it has one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// Optimiser step.
    pub step: f64,
    /// The value.
    pub value: f64,
    /// Its standard error.
    pub error: f64,
}

/// One chart.
#[derive(Clone, Debug, PartialEq)]
pub struct Chart {
    /// Name of its files, without ending.
    pub file: String,
    /// What is shown, and what it may be used as.
    pub title: String,
    /// Name of the value axis with its unit.
    pub axis: String,
    /// The values.
    pub points: Vec<Point>,
    /// Whether a running mean is drawn over the values.
    pub smooth: bool,
}

/// The charts of a run: training loss, then every validation figure under its own name.
pub fn of_run(metrics: &Metrics) -> Vec<Chart> {
    let mut charts = Vec::new();
    if let Some(last) = metrics.steps.values().next_back() {
        let note = if last.objective == "joint" { " (surrogate, no likelihood)" } else { "" };
        let point = |record: &StepRecord| Point {
            step: record.step as f64,
            value: record.loss_nats_per_token,
            error: 0.0,
        };
        charts.push(Chart {
            file: "training-loss".to_owned(),
            title: format!("Training loss: {} objective{note}", last.objective),
            axis: format!("{} objective, nats per token", last.objective),
            points: metrics.steps.values().map(point).collect(),
            smooth: true,
        });
    }
    for values in metrics.figures() {
        let Some((_, last)) = values.last() else { continue };
        let axis = format!("{}, {}", last.name, last.unit);
        charts.push(Chart {
            file: format!("validation-{}", file_name(&axis)),
            title: format!("Validation: {} ({})", last.name, format::kind(last.kind)),
            axis: axis.trim_end_matches(", ").to_owned(),
            points: values
                .iter()
                .map(|(step, figure)| Point {
                    step: *step as f64,
                    value: figure.value,
                    error: figure.standard_error.unwrap_or(0.0),
                })
                .collect(),
            smooth: false,
        });
    }
    charts.retain_mut(|chart| {
        chart.points.retain(|point| point.value.is_finite() && point.error.is_finite());
        !chart.points.is_empty()
    });
    charts
}

impl Chart {
    /// The ranges of steps and values, never empty.
    pub fn ranges(&self) -> (std::ops::Range<f64>, std::ops::Range<f64>) {
        let least = |values: &mut dyn Iterator<Item = f64>| values.fold(f64::INFINITY, f64::min);
        let most = |values: &mut dyn Iterator<Item = f64>| values.fold(f64::NEG_INFINITY, f64::max);
        let steps = || self.points.iter().map(|point| point.step);
        let low = least(&mut self.points.iter().map(|point| point.value - point.error));
        let high = most(&mut self.points.iter().map(|point| point.value + point.error));
        let margin = if high > low { 0.05 * (high - low) } else { 0.05 * high.abs().max(1.0) };
        let (first, last) = (least(&mut steps()).min(0.0), most(&mut steps()));
        (first..last.max(first + 1.0), low - margin..high + margin)
    }

    /// The running mean over a twentieth of the values so far.
    pub fn running_mean(&self) -> Vec<(f64, f64)> {
        let window = (self.points.len() / 20).max(1);
        let mut sum = 0.0;
        let mean = |i: usize, sum: f64| sum / (i + 1).min(window) as f64;
        (0..self.points.len())
            .map(|i| {
                sum += self.points[i].value;
                if i >= window {
                    sum -= self.points[i - window].value;
                }
                (self.points[i].step, mean(i, sum))
            })
            .collect()
    }
}

/// Letters and digits, the rest joined by hyphens.
fn file_name(name: &str) -> String {
    let words = name.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join("-").to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(values: &[f64]) -> Chart {
        let point = |(i, &value): (usize, &f64)| Point { step: i as f64, value, error: 0.0 };
        Chart {
            file: String::new(),
            title: String::new(),
            axis: String::new(),
            points: values.iter().enumerate().map(point).collect(),
            smooth: true,
        }
    }

    #[test]
    fn ranges_hold_the_points_and_are_never_empty() {
        assert_eq!(chart(&[2.0]).ranges(), (0.0..1.0, 1.9..2.1));
        let (steps, values) = chart(&[1.0, 3.0]).ranges();
        assert_eq!((steps, values), (0.0..1.0, 0.9..3.1));
    }

    #[test]
    fn the_running_mean_follows_the_values() {
        assert_eq!(chart(&[1.0, 3.0]).running_mean(), [(0.0, 1.0), (1.0, 3.0)]);
        let long: Vec<f64> = (0..60).map(f64::from).collect();
        assert_eq!(chart(&long).running_mean()[59], (59.0, 58.0));
    }

    #[test]
    fn files_are_named_simply() {
        assert_eq!(file_name("Bits per character (EMA)"), "bits-per-character-ema");
    }
}
