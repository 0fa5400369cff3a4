//! Preparing a corpus: planned, then done.

use std::path::PathBuf;

use pyo3::prelude::*;
use serde_json::json;
use submask::data::{Outdated, prepare};
use submask::train::settings::RunSettings;
use submask_cli::args::SettingsArgs;
use submask_cli::commands::data::{describe_prepared, notes_of};
use submask_cli::notes;
use submask_cli::settings::for_data;

use super::events;
use super::given::{self, Given, Texts};
use super::watch::{Ended, run_with_events};
use crate::errors::internal;
use crate::failures::of_failure;

/// What is to be prepared: validated settings. Nothing is written yet.
#[pyclass(frozen, module = "submask._native")]
pub struct PreparePlan {
    settings: RunSettings,
    notes: Vec<String>,
}

/// Plans the preparation of a corpus. `given` are settings: the argument that gives each, its key, its value.
#[pyfunction]
#[pyo3(signature = (given, *, preset=None, config=None))]
pub fn prepare_plan(
    py: Python<'_>,
    given: Vec<Given<'_>>,
    preset: Option<String>,
    config: Option<PathBuf>,
) -> PyResult<PreparePlan> {
    let layers = given::layers(&given)?;
    let args = SettingsArgs { preset, config, ..SettingsArgs::default() };
    let (settings, notes) = notes::collected(|| for_data(&args, layers));
    let settings = settings.map_err(|failure| of_failure(py, &failure))?;
    Ok(PreparePlan { settings, notes })
}

#[pymethods]
impl PreparePlan {
    /// What there is to note on the settings.
    #[getter]
    fn notes(&self) -> Vec<String> {
        self.notes.clone()
    }

    /// As that of a plan to train.
    #[getter]
    fn texts(&self) -> Option<Texts> {
        given::texts(&self.settings)
    }

    /// Prepares the corpus in the folder `out`, and gives a description as JSON. `callback` is called with events as JSON.
    #[pyo3(signature = (out, rebuild, callback=None))]
    fn prepare(
        &self,
        py: Python<'_>,
        out: PathBuf,
        rebuild: bool,
        callback: Option<Py<PyAny>>,
    ) -> PyResult<String> {
        let (Some(text), Some(tokenizer)) = (self.settings.data.text(), &self.settings.tokenizer) else {
            return Err(internal(py, "settings of data that are not of text"));
        };
        let seq_len = self.settings.network.seq_len().unwrap_or(0);
        let wanted = text.prepare(tokenizer, self.settings.train.seed, seq_len);
        let outdated = if rebuild { Outdated::Rebuild } else { Outdated::Refuse };
        let Ended { raised, done } = run_with_events(py, callback.as_ref(), |wire| {
            let mut watch = |progress| wire.tell_or_give_up(&events::preparing(progress));
            prepare(&wanted, &out, outdated, &mut watch)
        })?;
        match (raised, done) {
            (Some(raised), _) => Err(raised),
            (None, Some(data)) => {
                let notes = events::lines(&notes_of(&data, text, seq_len));
                let described = describe_prepared(&out, &data.info);
                Ok(json!({ "described": described, "notes": notes, "reused": data.reused }).to_string())
            }
            (None, None) => Err(internal(py, "work that did not fail has no result")),
        }
    }
}
