//! What generated text and images are like, apart from any likelihood.
//!
//! Text: [`Corpus`]. Images:
//!
//! | what | is |
//! |---|---|
//! | [`image`] | the entry: images to features, features to all figures, each with its name |
//! | [`pixels`] | features without a network: an image's means over 8 × 8 cells |
//! | [`inception`] | features of Inception-v3, from a weights file |
//! | [`frechet`] | mean and covariance of features, their files, the Fréchet distance (FID) |
//! | [`inception_score`] | Inception Score |
//! | [`precision_recall`] | precision and recall by nearest neighbours |

pub mod frechet;
pub mod image;
pub mod inception;
pub mod inception_score;
pub mod pixels;
pub mod precision_recall;
mod text;

pub use text::Corpus;
