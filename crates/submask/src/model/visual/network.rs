//! The network of a model of images or points, whichever it is.

use burn::tensor::Tensor;

use super::{Subject, VisualConfig, VisualSettings};
use crate::backbone::TrainingDropout;
use crate::backbone::toy::{Toy, ToyConfig};
use crate::backbone::unet::Unet;
use crate::backbone::weights::{Parameter, Weights};
use crate::objective::LossRows;
use crate::ops::Kernels;
use crate::subtoken::SubTokenizer;
use crate::{Error, Result};

/// A network without its weights.
#[derive(Clone, Debug)]
pub enum VisualNetwork {
    /// The U-Net.
    Unet(Box<Unet>),
    /// The toy network.
    Toy(Toy),
}

/// Partially masked sequences, as a network sees them.
pub struct MaskedBatch<'a> {
    /// Digits [B, L·ℓ].
    pub y_t: &'a [u32],
    /// Times \[B\].
    pub t: &'a [f64],
    /// Classes \[B\], where the network reads them.
    pub labels: Option<&'a [usize]>,
}

impl VisualNetwork {
    /// The network that `config` asks for, over `codes`.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming the field, the value and what is allowed.
    pub fn new(config: &VisualConfig, codes: &SubTokenizer, kernels: Kernels) -> Result<Self> {
        match &config.model {
            VisualSettings::Unet(settings) => {
                Ok(Self::Unet(Box::new(Unet::new(config.unet(settings)?, codes, kernels)?)))
            }
            VisualSettings::Toy(settings) => {
                if !matches!(config.subject, Subject::Point { .. }) {
                    return Err(Error::invalid("model.network", "toy", "unet: the data are images"));
                }
                let sizes = ToyConfig { tokens: config.seq_len(), hidden: settings.hidden };
                Ok(Self::Toy(Toy::new(sizes, codes, kernels)?))
            }
        }
    }

    /// All weights in definition order.
    pub fn parameters(&self) -> Vec<Parameter> {
        match self {
            Self::Unet(network) => network.parameters().to_vec(),
            Self::Toy(network) => network.parameters().to_vec(),
        }
    }

    /// Σ of the rows' weighted losses, \[1\], for `rows` of the flat positions b·L + i; `None` where there are none.
    ///
    /// # Errors
    /// [`Error::Invalid`] for digits and labels that are not the network's.
    pub fn loss(
        &self,
        weights: &Weights,
        batch: &MaskedBatch,
        positions: &[usize],
        rows: &LossRows,
        dropout: TrainingDropout,
    ) -> Result<Option<Tensor<1>>> {
        match self {
            Self::Unet(network) => {
                let hidden = network.trunk(weights, batch.y_t, batch.labels, Some(dropout))?;
                Ok(network.loss(weights, &hidden, positions, rows))
            }
            Self::Toy(network) => {
                let hidden = network.trunk(weights, batch.y_t, batch.t, Some(dropout))?;
                Ok(network.loss(weights, &hidden, positions, rows))
            }
        }
    }
}
