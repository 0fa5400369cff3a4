//! What samples look like: texts as they resolve, and pictures.

pub mod picture;
pub mod text;
