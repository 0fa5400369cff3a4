//! The Fréchet distance between two sets of features, each taken as a Gaussian.
//!
//! d² = |μ₁ − μ₂|² + Tr(Σ₁ + Σ₂ − 2·(Σ₁Σ₂)^½), with mean μ and covariance Σ of each set (Heusel et al., *GANs trained
//! by a two time-scale update rule converge to a local Nash equilibrium*, arXiv 1706.08500). It is called FID when,
//! and only when, the features are those of the FID Inception network ([`FrechetMetric::Fid`]).
//!
//! The distance falls with the number of images of a set: only figures of equally large sets compare.

mod distance;
mod file;
mod metric;
mod statistics;

pub use distance::frechet_distance;
pub use file::StatisticsFile;
pub use metric::{FeatureSpace, FrechetMetric};
pub use statistics::{FeatureStatistics, StatisticsAccumulator};
