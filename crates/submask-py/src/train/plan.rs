//! A run: planned, then trained.

use std::path::PathBuf;

use pyo3::exceptions::PyKeyboardInterrupt;
use pyo3::prelude::*;
use submask::train::event::Event;
use submask::train::{Outcome, RunRequest, run};
use submask::{Compute, DeviceChoice, Precision};
use submask_cli::args::{SettingsArgs, TrainArgs};
use submask_cli::notes;
use submask_cli::settings::{self, TrainPlan as Plan};

use super::events;
use super::given::{self, Given, Texts};
use super::watch::{Ended, run_with_events};
use crate::errors::{exception, internal};
use crate::failures::{of_failure, of_missing_path};

/// What a run is asked to be: validated settings, and its folder. Nothing is written yet.
#[pyclass(frozen, module = "submask._native")]
pub struct TrainPlan {
    plan: Plan,
    notes: Vec<String>,
}

/// Plans a run. `given` are settings: the argument that gives each, its key, its value.
#[pyfunction]
#[pyo3(signature = (out, given, *, preset=None, config=None, init=None, resume=false))]
pub fn train_plan(
    py: Python<'_>,
    out: PathBuf,
    given: Vec<Given<'_>>,
    preset: Option<String>,
    config: Option<PathBuf>,
    init: Option<PathBuf>,
    resume: bool,
) -> PyResult<TrainPlan> {
    let layers = given::layers(&given)?;
    let args = TrainArgs {
        settings: SettingsArgs { preset, config, ..SettingsArgs::default() },
        out: Some(out),
        steps: None,
        seed: None,
        resume,
        init,
        subtokens: None,
        objective: None,
        image: None,
        tui: false,
    };
    let (plan, notes) = notes::collected(|| settings::for_training(&args, layers));
    let plan = plan.map_err(|failure| {
        let missing = args.init.as_deref().and_then(|init| of_missing_path(py, &failure, "init", init));
        missing.unwrap_or_else(|| of_failure(py, &failure))
    })?;
    Ok(TrainPlan { plan, notes })
}

#[pymethods]
impl TrainPlan {
    /// What there is to note on the settings.
    #[getter]
    fn notes(&self) -> Vec<String> {
        self.notes.clone()
    }

    /// All settings, as `settings.toml` will have them.
    #[getter]
    fn settings(&self, py: Python<'_>) -> PyResult<String> {
        self.plan.settings.to_toml().map_err(|problem| internal(py, &problem))
    }

    /// Paths of the corpus and of its part for validation, the file of the tokenizer, the fields of text, prompts and completions, and
    /// whether what cannot be read is skipped; `None` where the run is not on text.
    #[getter]
    fn texts(&self) -> Option<Texts> {
        given::texts(&self.plan.settings)
    }

    /// Trains, and gives a summary as JSON. `callback` is called with events as JSON.
    #[pyo3(signature = (device, precision, callback=None))]
    fn train(
        &self,
        py: Python<'_>,
        device: &str,
        precision: &str,
        callback: Option<Py<PyAny>>,
    ) -> PyResult<String> {
        let compute = py.detach(|| {
            let (device, precision): (DeviceChoice, Precision) = (device.parse()?, precision.parse()?);
            Compute::open(device, precision)
        });
        let Plan { settings, out, resume, init } = self.plan.clone();
        let compute = compute.map_err(|error| exception(py, &error))?;
        let request = RunRequest { settings, out, resume, init, compute };
        let Ended { raised, done } = run_with_events(py, callback.as_ref(), |wire| {
            let mut watch = |event: &Event| match event {
                Event::Preparing(_) => wire.tell_or_give_up(&events::event(event)),
                event => wire.tell(&events::event(event)),
            };
            run(&request, &mut watch, wire.stop)
        })?;
        match (raised, done) {
            (None, Some(Outcome::Finished(summary))) => Ok(events::summary(&summary).to_string()),
            (Some(raised), done) => Err(with_words(py, raised, done.as_ref(), request.settings.train.steps)),
            (None, _) => Err(internal(py, "a run that nobody stopped has stopped")),
        }
    }
}

/// A `KeyboardInterrupt` that says where the run stands; other exceptions are as they were raised.
fn with_words(py: Python<'_>, raised: PyErr, done: Option<&Outcome>, steps: u64) -> PyErr {
    let value = raised.value(py);
    let is_bare = value.getattr("args").and_then(|args| args.len()).is_ok_and(|args| args == 0);
    match done {
        Some(Outcome::Stopped { step, checkpoint })
            if value.is_instance_of::<PyKeyboardInterrupt>() && is_bare =>
        {
            let saved = checkpoint.display();
            let words =
                format!("stopped after step {step} of {steps}; saved {saved}; resume it with resume=True");
            match value.setattr("args", (words,)) {
                Ok(()) => raised,
                Err(error) => error,
            }
        }
        _ => raised,
    }
}
