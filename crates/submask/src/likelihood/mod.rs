//! Likelihoods that are likelihoods, and the one number that is not (math.md §5, §6).
//!
//! | function | result | network evaluations |
//! |---|---|---|
//! | [`nelbo_subtoken`] | [`UpperBound`] | 1 a draw |
//! | [`nelbo_token`] | [`UpperBound`] | 1 a draw |
//! | [`path_bound`] | [`UpperBound`] for the T-step sampler | 1 a draw |
//! | [`path_bound_full`] | the same, whole paths | up to T a draw |
//! | [`exact_left_to_right`] | [`Exact`] | 1 a reveal |
//! | [`exact_greedy`] | [`Exact`] | 1 a token |
//! | [`exact_autoregressive`] | [`Exact`], of the autoregressive baseline | 1 a sequence |
//! | [`bound_k`] | [`UpperBound`], from the NELBO (K = 1) down to −log p | N an order |
//! | [`joint_objective`] | [`Surrogate`]: no likelihood, no perplexity | 1 a draw |
//! | [`enumerate`] | the values that the estimators estimate, for few sub-tokens | all states |
//!
//! Every function takes a network, a [`Predictive`](crate::predictive::Predictive), [`Sequences`] and
//! [`LikelihoodSettings`], and returns an [`Estimate`] whose type says what it is. Draws are keyed by (seed,
//! sequence, draw): no result depends on the batch size or on the thread count.
//!
//! All are valid without carry-over too. The support is then all tokens, so the mass that the process spends on
//! invalid codes is lost: the figures are of the process before any redraw.

mod autoregressive;
pub mod enumerate;
mod estimate;
mod greedy;
mod left_to_right;
mod levels;
mod multi_order;
mod nelbo;
mod path;
mod query;
mod sequences;

pub use autoregressive::exact_autoregressive;
pub use estimate::{Estimate, Exact, Figure, Kind, Likelihood, Meaning, Measured, Surrogate, UpperBound};
pub use greedy::{Confidence, exact_greedy};
pub use left_to_right::exact_left_to_right;
pub use multi_order::bound_k;
pub use nelbo::{joint_objective, nelbo_subtoken, nelbo_token};
pub use path::{path_bound, path_bound_full};
pub use sequences::{LikelihoodSettings, Sequences};
