//! The verbs for models of images and points.

mod eval;
mod given;
mod sample;

pub use eval::{Wanted, eval, held_out};
pub use sample::sample;
