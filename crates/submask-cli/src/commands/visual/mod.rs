//! The verbs for models of images and points.

mod eval;
mod given;
mod sample;

pub use eval::eval;
pub use sample::sample;
