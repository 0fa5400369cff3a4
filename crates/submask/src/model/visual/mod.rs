//! Models of images and of points in the plane: like text models, but for what their tokens are.

mod config;
mod evaluate;
mod folder;
mod generate;
mod mean;
mod network;

pub use config::{Subject, ToySettings, UnetSettings, VisualConfig, VisualSettings};
pub use evaluate::HeldOut;
pub use folder::{VisualModel, VisualParts};
pub use generate::{Label, VisualGenerated, VisualRequest};
pub use mean::mean_pixels;
pub use network::VisualNetwork;
