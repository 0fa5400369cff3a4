//! Sampling without idle steps (math.md §7).
//!
//! *When* a sub-token is revealed does not depend on any value, so a [`RevealPlan`] is drawn first; then only the
//! steps in which something is revealed are visited, and only the tokens that reveal something are asked for. The
//! samples have exactly the distribution of the plain loop over all steps.
//!
//! ```no_run
//! use submask::backbone::Denoiser;
//! use submask::predictive::Predictive;
//! use submask::sampler::{Prompt, SampleSettings, Sampler, Steps};
//!
//! fn sixteen(network: &dyn Denoiser, predictive: &Predictive) -> submask::Result<Vec<u32>> {
//!     let settings = SampleSettings { steps: Steps::Grid(64), seed: 7, ..SampleSettings::default() };
//!     let sampler = Sampler::new(network, predictive, settings)?;
//!     let prompts = vec![Prompt::empty(predictive, 128)?; 16];
//!     Ok(sampler.sample(&prompts)?.tokens)
//! }
//! ```
//!
//! # Without the carry-over constraint
//!
//! Digits of one token may then come from draws that contradict each other. Where C < b^ℓ their code may belong to no
//! token. The rule: a draw x̂ of a token whose visible digits are y is **redrawn** from the same (sharpened) logits
//! restricted to V(y), the tokens that agree with y, if the digits copied from it would leave no token at all that
//! agrees with the visible digits. By induction V(y) is never empty, so a redraw always succeeds, the code at the end
//! is a token's, and redraws happen at the moment the code would become impossible. They are counted in
//! [`SampleReport::redraws`]. With carry-over, or with C = b^ℓ, nothing is ever redrawn.

mod autoregressive;
mod plan;
mod prompt;
mod report;
mod sample;
mod settings;

pub use autoregressive::{AutoregressiveRequest, sample_autoregressive};
pub use plan::{Planner, RevealEvent, RevealPlan};
pub use prompt::Prompt;
pub use report::{Change, SampleReport, Samples, Trajectory};
pub use sample::{Progress, Sampler};
pub use settings::{SampleSettings, Steps};

pub use crate::schedule::RevealUnit;
