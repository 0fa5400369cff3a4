//! What the experiments share.

mod held_out;
#[cfg(feature = "cuda")]
pub mod launches;
pub mod peers;
mod train_once;

pub use held_out::held_out_text;
pub use train_once::{Fallible, train_once};
