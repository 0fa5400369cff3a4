//! Sampling without idle steps (math.md §7).
//!
//! *When* a sub-token is revealed does not depend on any value, so a [`RevealPlan`] is drawn first; then only the
//! steps in which something is revealed are visited, and only the tokens that reveal something are asked for. The
//! samples have exactly the distribution of the plain loop over all steps.
//!
//! ```no_run
//! use submask::denoiser::Denoiser;
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
//! # One loop
//!
//! A [`Stream`] takes sequences at any time, each with its own prompt, length and [`Recipe`], and gives every sequence
//! of its batch one evaluation per round. A [`Sampler`] is a stream of prompts of one length with the same settings. An
//! [`Observer`] is told of every [`Event`] as it happens: sub-tokens revealed, sequences finished, progress. Its error
//! ends the call.
//!
//! # Orders
//!
//! With an [`Order`] other than random the network says which units come next, so there is no plan: all masked units are
//! ranked at every evaluation, and the first `per_step` are revealed (math.md §7). At temperature 0 an order samples one
//! sequence only, the greedy one.
//!
//! # Images
//!
//! [`Sampling`] has what published image samplers are told, too: joint or marginal draws, a temperature that follows the
//! time, a warped grid, a corrector; [`published_samplers`] has those of the paper by name. With a corrector there is no
//! plan: every step is visited (math.md §8). [`MixtureDenoiser`] averages the predictions of several networks.
//!
//! # Without the carry-over constraint
//!
//! Digits of one token may then come from draws that contradict each other. Where C < b^ℓ their code may belong to no
//! token. The rule: a draw x̂ of a token whose visible digits are y is **redrawn** from the same (sharpened) logits
//! restricted to V(y), the tokens that agree with y, if the digits copied from it would leave no token at all that
//! agrees with the visible digits. By induction V(y) is never empty, so a redraw always succeeds, the code at the end
//! is a token's, and redraws happen at the moment the code would become impossible. They are counted in
//! [`SampleReport::redraws`]. With C = b^ℓ nothing is ever redrawn, and with carry-over no joint draw.
//!
//! Digits drawn each by itself ([`Draw::Marginal`]) may contradict each other even with carry-over; the same rule
//! holds: one token of V(y) is then drawn for all digits revealed together. Jumps of a corrector that would leave no
//! token do not happen: none of the jumps of that token in that step, counted in [`SampleReport::jumps_dropped`].

mod autoregressive;
mod blocks;
mod corrector;
mod device;
mod draw;
mod end;
mod memory;
mod memory_draws;
mod mixture;
mod next_digits;
mod observer;
mod plan;
mod policy;
mod prompt;
mod published;
mod recipe;
mod recorder;
mod report;
mod row;
mod sample;
mod sampling;
mod settings;
mod stopping;
mod stream;

pub(crate) use autoregressive::given_tokens;
pub use autoregressive::{
    AutoregressiveRecipe, AutoregressiveSequence, AutoregressiveStream, sample_autoregressive,
};
pub(crate) use blocks::check_holes;
pub use corrector::Corrector;
pub use draw::Draw;
pub(crate) use end::{Ending, first_end};
pub use mixture::MixtureDenoiser;
pub use observer::{Event, Observer, Progress, TokenLogProb, Unobserved, WithDigits};
pub use plan::{Planner, RevealEvent, RevealPlan};
pub use prompt::Prompt;
pub use published::{PixelTokens, PublishedSampler, published_sampler, published_samplers};
pub use recipe::Recipe;
pub use recorder::Recorder;
pub use report::{Change, SampleReport, Samples, Trajectory};
pub use sample::Sampler;
pub use sampling::{Sampling, Temperature};
pub use settings::{SampleSettings, Steps, Window};
pub use stopping::EntropyRule;
pub use stream::{FinishedSequence, SequenceRequest, Stream};

pub use crate::order::Order;
pub use crate::predictive::Nucleus;
pub use crate::schedule::RevealUnit;
