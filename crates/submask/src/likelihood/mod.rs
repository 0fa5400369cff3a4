//! Likelihoods that are likelihoods, and the one number that is not (math.md §5, §6).
//!
//! | function | result | network evaluations of a sequence |
//! |---|---|---|
//! | [`nelbo_subtoken`] | [`UpperBound`] for generation sub-token by sub-token, in random order | 1 per draw |
//! | [`nelbo_token`] | [`UpperBound`] for generation token by token, in random order | 1 per draw |
//! | [`path_bound`] | [`UpperBound`] for the T-step sampler | 1 per draw |
//! | [`path_bound_full`] | the same, whole paths | up to T per draw |
//! | [`exact_in_order`] | [`Exact`] for a deterministic order, N units per step | ⌈n/N⌉ for n units |
//! | [`bound_k`] | [`UpperBound`] for a random order, from the NELBO (K = 1) down to −log p | n per drawn order |
//! | [`exact_left_to_right`] | the same from left to right, with the most probable tokens beside every one | n for n tokens |
//! | [`exact_autoregressive`] | [`Exact`], of the autoregressive baseline; [`exact_autoregressive_with_top`] | 1 |
//! | [`joint_objective`] | [`Surrogate`]: no likelihood, no perplexity | 1 per draw |
//! | [`enumerate`] | the values that the estimators estimate, for few sub-tokens | all states |
//!
//! With several blocks ([`Spec::block_len`](crate::denoiser::Spec::block_len)) the generator goes from block to block, and a
//! value is the sum over them. All blocks are evaluated in one state, each with masks, a number k, a step or an event of its
//! own, since a block reads known tokens of those before it. So n is the number of units of the largest block, T counts the
//! steps of one block, and N is per block. What the network keeps of known tokens is made once per sequence, and counts as
//! one evaluation more.
//!
//! Every function takes a network, a [`Predictive`](crate::predictive::Predictive), [`Sequences`] and
//! [`LikelihoodSettings`], and returns an [`Estimate`] whose type says what it is. Sequences may have different lengths and
//! given parts. Draws are keyed by (seed, sequence, draw), the sequence by its number or by a key of the caller's: no result
//! depends on the batch size, on the thread count or on the other sequences.
//!
//! Each figure belongs to one generator: figures of two orders, units or numbers of units per step are figures of two
//! generators. All are of draws at temperature 1, without top-k and nucleus.
//!
//! All are valid without carry-over too. The support is then all tokens, so the mass that the process spends on
//! invalid codes is lost: the figures are of the process before any redraw.

mod autoregressive;
mod charge;
pub mod enumerate;
mod estimate;
mod in_order;
mod levels;
mod multi_order;
mod nelbo;
mod path;
mod problem;
mod query;
mod sequences;

pub use autoregressive::{exact_autoregressive, exact_autoregressive_with_top};
pub(crate) use estimate::null_is_not_a_number;
pub use estimate::{
    Estimate, Exact, Figure, Kind, Likelihood, Meaning, Measured, Surrogate, TopTokens, UpperBound,
};
pub use in_order::{exact_in_order, exact_left_to_right};
pub use multi_order::bound_k;
pub use nelbo::{joint_objective, nelbo_subtoken, nelbo_token};
pub use path::{path_bound, path_bound_full};
pub use sequences::{LikelihoodSettings, Sequences};
