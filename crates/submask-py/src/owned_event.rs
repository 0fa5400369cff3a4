//! What is told of samples, as Python takes it: the parts of `submask._events.Source`, of `submask.Report` and of
//! `submask.Trajectory`.

use numpy::{IntoPyArray, PyArray2, PyArrayMethods};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use submask::sampler::{Event, SampleReport, TokenLogProb, Trajectory};

/// An event, kept until it is asked for.
pub enum OwnedEvent {
    Started {
        sequence: usize,
        y: Vec<u32>,
    },
    Revealed {
        sequence: usize,
        step: usize,
        time: f64,
        digits: Vec<(usize, u32)>,
        settled: usize,
        log_probs: Vec<TokenLogProb>,
    },
    Finished {
        sequence: usize,
        tokens: Vec<u32>,
        text: Option<String>,
        report: SampleReport,
    },
}

impl OwnedEvent {
    /// An event, if it is told; `text` gives the text of finished tokens.
    pub fn new(
        event: &Event,
        text: impl FnOnce(&[u32]) -> submask::Result<Option<String>>,
    ) -> submask::Result<Option<Self>> {
        Ok(match *event {
            Event::Started { sequence, y } => Some(Self::Started { sequence, y: y.to_vec() }),
            Event::Revealed { sequence, step, time, digits, settled, log_probs } => {
                let (digits, log_probs) = (digits.to_vec(), log_probs.to_vec());
                Some(Self::Revealed { sequence, step, time, digits, settled, log_probs })
            }
            Event::Finished { sequence, tokens, report } => {
                let text = text(tokens)?;
                Some(Self::Finished { sequence, tokens: tokens.to_vec(), text, report: *report })
            }
            _ => None,
        })
    }

    /// Its parts.
    pub fn parts(self, py: Python<'_>) -> PyResult<Bound<'_, PyTuple>> {
        match self {
            Self::Started { sequence, y } => ("started", sequence, y.into_pyarray(py)).into_pyobject(py),
            Self::Revealed { sequence, step, time, digits, settled, log_probs } => {
                let log_probs: Vec<_> =
                    log_probs.into_iter().map(|token| (token.token, token.nats, token.top)).collect();
                let digits = pairs(py, &digits)?;
                ("revealed", sequence, step, time, digits, settled, log_probs).into_pyobject(py)
            }
            Self::Finished { sequence, tokens, text, report } => {
                let (tokens, report) = (tokens.into_pyarray(py), report_dict(py, &report)?);
                ("finished", sequence, tokens, text, report).into_pyobject(py)
            }
        }
    }
}

/// Places and digits, [k, 2].
fn pairs<'py>(py: Python<'py>, digits: &[(usize, u32)]) -> PyResult<Bound<'py, PyArray2<i64>>> {
    let flat: Vec<i64> =
        digits.iter().flat_map(|(place, digit)| [*place as i64, i64::from(*digit)]).collect();
    flat.into_pyarray(py).reshape([digits.len(), 2])
}

/// What sequences cost.
pub fn report_dict<'py>(py: Python<'py>, report: &SampleReport) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    for (name, value) in [
        ("sequences", report.sequences),
        ("digits", report.digits),
        ("evaluations", report.evaluations),
        ("steps", report.steps_total),
        ("idle_steps", report.steps_skipped),
        ("positions", report.positions),
        ("redraws", report.redraws),
        ("clean_passes", report.clean_passes),
        ("monotonous", report.monotonous),
        ("jumps", report.jumps),
        ("jumps_dropped", report.jumps_dropped),
    ] {
        dict.set_item(name, value)?;
    }
    Ok(dict)
}

/// How a sequence came about: its start [L·ℓ], and step, time and digits [k, 2] of every change.
pub fn trajectory_parts<'py>(py: Python<'py>, trajectory: Trajectory) -> PyResult<Bound<'py, PyTuple>> {
    let changes: PyResult<Vec<_>> = trajectory
        .changes
        .into_iter()
        .map(|change| (change.step, change.time, pairs(py, &change.digits)?).into_pyobject(py))
        .collect();
    (trajectory.start.into_pyarray(py), changes?).into_pyobject(py)
}
