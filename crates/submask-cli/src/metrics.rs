//! `metrics.jsonl` of a run: one record a line.

use std::collections::BTreeMap;
use std::path::Path;

use submask::likelihood::Figure;
use submask::train::METRICS_FILE;
use submask::train::event::{Record, StepRecord, ValidationRecord};

use crate::failure::Failure;

/// What a run has recorded, by step. A step recorded twice (after resuming) counts as the later record
/// says.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    /// Training steps.
    pub steps: BTreeMap<u64, StepRecord>,
    /// Validations.
    pub validations: BTreeMap<u64, ValidationRecord>,
}

impl Metrics {
    /// Reads the file of a run; what is not there yet is empty.
    pub fn read_if_any(run: &Path) -> Result<Self, Failure> {
        match run.join(METRICS_FILE).exists() {
            true => Self::read(run),
            false => Ok(Self::default()),
        }
    }

    /// Reads the file of a run.
    pub fn read(run: &Path) -> Result<Self, Failure> {
        let path = run.join(METRICS_FILE);
        let text = std::fs::read_to_string(&path).map_err(|error| {
            Failure::failed(format!("cannot read {}: {error}", path.display()))
                .hint("give the folder of a run, as `submask train` names it")
        })?;
        Self::parse(&text).map_err(|failure| failure.context(format!("{} is damaged", path.display())))
    }

    /// A last line that is cut off, as a crash leaves it, is not read.
    fn parse(text: &str) -> Result<Self, Failure> {
        let mut metrics = Self::default();
        let complete = text.rfind('\n').map_or("", |end| &text[..end]);
        for (i, line) in complete.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let record = serde_json::from_str(line)
                .map_err(|error| Failure::failed(format!("line {}: {error}", i + 1)))?;
            match record {
                Record::Step(record) => {
                    metrics.steps.insert(record.step, record);
                }
                Record::Validation(record) => {
                    metrics.validations.insert(record.step, record);
                }
                Record::Clip(_) => {}
            }
        }
        Ok(metrics)
    }

    /// Every validation figure, by name and unit, with its values by step, in the order of their first
    /// record.
    pub fn figures(&self) -> Vec<Vec<(u64, Figure)>> {
        let same = |a: &Figure, b: &Figure| (&a.name, &a.unit) == (&b.name, &b.unit);
        let mut series: Vec<Vec<(u64, Figure)>> = Vec::new();
        for record in self.validations.values() {
            for figure in &record.figures {
                match series.iter_mut().find(|points| same(&points[0].1, figure)) {
                    Some(points) => points.push((record.step, figure.clone())),
                    None => series.push(vec![(record.step, figure.clone())]),
                }
            }
        }
        series
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A run of two steps and a validation, cut off in a third step.
    pub const FILE: &str = r#"{"kind":"step","step":10,"loss_nats_per_token":6.5,"objective":"joint","gradient_norm":1.5,"learning_rate":0.001,"tokens":20480,"tokens_per_second":4000.0}
{"kind":"step","step":20,"loss_nats_per_token":5.5,"objective":"joint","gradient_norm":1.1,"learning_rate":0.002,"tokens":40960,"tokens_per_second":4100.0}
{"kind":"validation","step":20,"figures":[{"name":"nelbo_subtoken","value":3.5,"unit":"bits per character","kind":"upper_bound","standard_error":0.05,"evaluations":64},{"name":"joint_objective","value":4.9,"unit":"nats per token","kind":"surrogate","standard_error":null,"evaluations":64}],"samples":["a"]}
{"kind":"clip","step":20,"interval":"0.3..0.8","variance":1.5}
{"kind":"step","step":20,"loss_nats_per_token":5.4,"objective":"joint","gradient_norm":1.0,"learning_rate":0.002,"tokens":40960,"tokens_per_second":4100.0}
{"kind":"step","step":30,"loss_na"#;

    #[test]
    fn later_records_win_and_a_cut_line_is_not_read() {
        let metrics = Metrics::parse(FILE).unwrap();
        assert_eq!(metrics.steps.keys().copied().collect::<Vec<_>>(), [10, 20]);
        assert_eq!(metrics.steps[&20].loss_nats_per_token, 5.4);
        let figures = metrics.figures();
        assert_eq!(figures.len(), 2);
        assert_eq!((figures[1][0].1.name.as_str(), figures[1][0].0), ("joint_objective", 20));
    }

    #[test]
    fn a_damaged_line_is_named() {
        let error = Metrics::parse("\nnonsense\n").unwrap_err().to_string();
        assert!(error.starts_with("error: line 2: "), "{error}");
        let error = Metrics::parse("{\"kind\":\"weather\"}\n").unwrap_err().to_string();
        assert!(error.contains("`weather`"), "{error}");
    }
}
