//! Training: the loop, the optimiser, averaged weights, checkpoints and resuming.

pub mod checkpoint;
mod device;
pub mod event;
mod image_settings;
mod image_stamp;
pub mod optimizer;
mod run;
pub mod settings;
pub mod step;
mod task;
mod text;
mod text_settings;
mod validate;
mod visual;

pub use device::{DeviceState, Looked};
pub use image_stamp::{IMAGES_FILE, ImageStamp};
pub use run::{METRICS_FILE, Outcome, RunRequest, SETTINGS_FILE, Summary, run};
pub use task::Judgement;
pub use validate::{EvaluationSize, Validator};
