//! Training: the loop, the optimiser, averaged weights, checkpoints and resuming.

pub mod checkpoint;
pub mod event;
pub mod optimizer;
mod run;
pub mod settings;
pub mod step;
mod validate;

pub use run::{METRICS_FILE, Outcome, RunRequest, SETTINGS_FILE, Summary, run};
pub use validate::{EvaluationSize, Validator};
