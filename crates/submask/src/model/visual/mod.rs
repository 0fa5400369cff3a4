//! Models of images and of points in the plane: like text models, but for what their tokens are.

mod config;
mod evaluate;
mod folder;
mod generate;
mod network;

pub use config::{Subject, ToySettings, UnetSettings, VisualConfig, VisualSettings};
pub use folder::{VisualModel, VisualParts};
pub use generate::{VisualGenerated, VisualRequest};
pub use network::{MaskedBatch, VisualNetwork};
