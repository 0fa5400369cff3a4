//! Arguments of `submask eval` and `submask score` that say how a likelihood is estimated.

use std::num::NonZeroUsize;

use clap::{Args, ValueEnum};
use submask::order::Order;

use super::UnitArg;

/// How a likelihood is estimated.
#[derive(Args, Debug)]
pub struct EstimateArgs {
    /// What is estimated [default: nelbo-subtoken; exact for autoregressive models]
    #[arg(long)]
    pub estimator: Option<EstimatorArg>,
    /// Monte Carlo draws per sequence; of the estimator orders, orders per sequence [default: 1; for texts and
    /// documents that are scored one by one, 32]
    #[arg(long, value_name = "K")]
    pub draws: Option<NonZeroUsize>,
    /// Steps T of the sampler, of the estimator path; of models with blocks, steps per block [default: the model's]
    #[arg(long, value_name = "T")]
    pub steps: Option<NonZeroUsize>,
    /// Order of generation, of the estimator exact: left-to-right, or where the network is surest first (confidence,
    /// margin, entropy) [default: left-to-right]
    #[arg(long, value_name = "ORDER")]
    pub order: Option<Order>,
    /// What is revealed at once, of the estimators exact and orders [default: token for exact, subtoken for orders]
    #[arg(long)]
    pub unit: Option<UnitArg>,
    /// Units revealed per network evaluation, of the estimator exact; of models with blocks, units per block [default: 1]
    #[arg(long, value_name = "N")]
    pub per_step: Option<NonZeroUsize>,
    /// Seed of the draws
    #[arg(long, value_name = "S", default_value_t = 0)]
    pub seed: u64,
    /// Whether tokens that contradict a visible digit are excluded; with a model trained without, this
    /// gives a bound of its own [default: the model's]
    #[arg(long, value_name = "true|false")]
    pub carry_over: Option<bool>,
    /// Sequences per network call (affects speed only)
    #[arg(long, value_name = "B", default_value = "16")]
    pub batch: NonZeroUsize,
}

/// How a text stands in the sequences of a model.
#[derive(Args, Clone, Copy, Debug)]
pub struct LayoutArgs {
    /// Charge one end of text after a text
    #[arg(long)]
    pub end: bool,
    /// Of a text longer than the model's sequences, charge S new tokens per window, given as many before them as fit
    /// [default: as many as fit, given the last token before them]
    #[arg(long, value_name = "S")]
    pub stride: Option<NonZeroUsize>,
}

/// What is estimated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum EstimatorArg {
    /// Upper bound, sub-tokens masked one by one
    NelboSubtoken,
    /// Upper bound, whole tokens masked together
    NelboToken,
    /// Upper bound for the sampler with --steps T
    Path,
    /// Exact likelihood for generation in a deterministic order: --order
    Exact,
    /// Upper bound for generation in random order, from --draws K whole orders per sequence
    Orders,
    /// The paper's training objective: a surrogate, not a likelihood
    JointObjective,
}
