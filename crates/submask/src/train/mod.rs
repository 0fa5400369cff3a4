//! Training: the loop, the optimiser, averaged weights, checkpoints and resuming.

pub mod checkpoint;
mod device;
pub mod event;
mod image_stamp;
pub mod optimizer;
mod run;
pub mod settings;
pub mod step;
mod task;
mod text;
mod validate;
mod visual;
pub mod visual_settings;

pub use device::{DeviceState, Looked};
pub use image_stamp::{IMAGES_FILE, ImageStamp};
pub use run::{METRICS_FILE, Outcome, RunRequest, SETTINGS_FILE, Summary, run};
pub use task::Judgement;
pub use validate::{EvaluationSize, Validator};
pub use visual::density_picture;
