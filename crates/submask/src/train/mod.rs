//! Training: the loop, the optimiser, averaged weights, checkpoints and resuming.
//!
//! | what | is |
//! |---|---|
//! | [`run()`] | a whole run: data, steps, records, validations, checkpoints |
//! | [`run_among()`] | the same by several processes |
//! | [`run_own()`] | the same for a network and data of one's own |
//! | [`Slots`], [`LossFunction`] | the micro-batches of a step, and what they cost |
//! | [`stepper`] | an optimiser step, in memory or on a device |
//! | [`exchange`] | how processes that share a step add up its gradients |
//! | [`optimizer`] | AdamW, clipping, the moving average |
//! | [`checkpoint`] | what a run is resumed from |
//! | [`event`] | what a run tells whoever watches it |
//! | [`settings`] | everything that determines a run |

mod agree;
mod best;
pub mod checkpoint;
mod clip;
pub mod event;
pub mod exchange;
mod loss;
mod masking;
pub mod optimizer;
mod own;
mod run;
mod search;
pub mod settings;
mod slot;
mod state;
pub mod stepper;
mod subject;
mod task;
mod validate;

pub use clip::ClipChoice;
pub use loss::LossFunction;
pub use own::{OwnModel, OwnRun, run_own};
pub use run::{METRICS_FILE, Outcome, RunRequest, SETTINGS_FILE, Summary, run, run_among};
pub use slot::{Slot, SlotLoss, Slots};
pub use state::{Reached, TrainState};
pub use stepper::{StepReport, Stepper};
pub use subject::{IMAGES_FILE, ImageStamp};
pub use validate::{EvaluationSize, Validation};
