//! What the experiments share.

pub mod peers;
mod train_once;

pub use train_once::{Fallible, train_once};
