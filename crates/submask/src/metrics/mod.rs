//! What generated text is like, apart from any likelihood.

mod text;

pub use text::Corpus;
