//! What a model is evaluated on: what is given, or what its run held out.

mod image;
mod text;

pub use image::{Wanted, held_out as held_out_images};
pub use text::HeldOutText;
