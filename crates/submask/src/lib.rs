//! Discrete diffusion models with partial masking (MDM-Prime): train, evaluate and sample.

pub mod error;

pub use error::{Error, Result};
