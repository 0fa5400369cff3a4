//! The verbs, one a file.

pub mod bench;
pub mod data;
pub mod eval;
pub mod export;
pub mod import;
pub mod info;
pub mod logits;
pub mod merge;
pub mod metrics;
pub mod plot;
pub mod sample;
pub mod samplers;
pub mod score;
#[cfg(feature = "serve")]
pub mod serve;
pub mod shell;
pub mod train;
