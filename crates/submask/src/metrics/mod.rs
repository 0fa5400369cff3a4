//! What generated text and images are like, apart from any likelihood.
//!
//! Text: [`Corpus`]. Images:
//!
//! | what | is |
//! |---|---|
//! | [`frechet`] | mean and covariance of features, their files, the Fréchet distance (FID) |

pub mod frechet;
mod text;

pub use text::Corpus;
