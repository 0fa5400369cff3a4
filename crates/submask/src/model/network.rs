//! The network of a model, whichever it is.

use std::sync::Arc;

use burn::tensor::Tensor;

use super::config::{ModelConfig, NetworkConfig, ToySettings, UnetSettings};
use super::subject::Subject;
use crate::backbone::autoregressive::{Autoregressive, LoadedAutoregressive};
use crate::backbone::block::TrainingDropout;
use crate::backbone::dit::Dit;
use crate::backbone::encoder::Encoder;
use crate::backbone::toy::{LoadedToy, Toy, ToyConfig};
use crate::backbone::unet::{LoadedUnet, Unet, UnetConfig};
use crate::backbone::weights::{Parameter, Weights};
use crate::backbone::{Backbone, LoadedBackbone};
use crate::denoiser::{Denoiser, States};
use crate::objective::LossRows;
use crate::ops::Kernels;
use crate::subtoken::SubTokenizer;
use crate::{Error, Result};

/// A network without its weights.
#[derive(Clone, Debug)]
pub enum Network {
    /// A diffusion network: the transformer, or the encoder.
    Diffusion(Arc<dyn Backbone>),
    /// The U-Net.
    Unet(Arc<Unet>),
    /// The toy network.
    Toy(Arc<Toy>),
    /// The autoregressive baseline.
    Autoregressive(Arc<Autoregressive>),
}

/// A network with its weights on a device.
pub(super) enum Loaded {
    Denoiser(Box<dyn Denoiser>),
    Autoregressive(LoadedAutoregressive),
}

impl Network {
    /// The network that `config` asks for, over `codes`.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming the field, the value and what is allowed.
    pub fn new(config: &ModelConfig, codes: &SubTokenizer, kernels: Kernels) -> Result<Self> {
        match (&config.network, &config.subject) {
            (NetworkConfig::Diffusion(sizes), Subject::Text(_)) => {
                Ok(Self::Diffusion(Arc::new(Dit::new(sizes.clone(), codes, kernels)?)))
            }
            (NetworkConfig::Encoder(sizes), Subject::Text(_)) => {
                Ok(Self::Diffusion(Arc::new(Encoder::new(sizes.clone(), codes, kernels)?)))
            }
            (NetworkConfig::Autoregressive(sizes), Subject::Text(_)) => {
                Ok(Self::Autoregressive(Arc::new(Autoregressive::new(sizes.clone(), codes, kernels)?)))
            }
            (NetworkConfig::Unet(sizes), Subject::Image(_)) => {
                Ok(Self::Unet(Arc::new(Unet::new(unet(config, sizes)?, codes, kernels)?)))
            }
            (NetworkConfig::Toy(ToySettings { hidden, .. }), Subject::Point(_)) => {
                let sizes = ToyConfig { tokens: config.seq_len(), hidden: *hidden };
                Ok(Self::Toy(Arc::new(Toy::new(sizes, codes, kernels)?)))
            }
            (network, subject) => {
                let allowed = match subject {
                    Subject::Text(_) => "diffusion, encoder or autoregressive: the data are text",
                    Subject::Image(_) => "unet: the data are images",
                    Subject::Point(_) => "toy: the data are points",
                };
                Err(Error::invalid("model.network", network.name(), allowed))
            }
        }
    }

    /// All weights in definition order.
    pub fn parameters(&self) -> Vec<Parameter> {
        match self {
            Self::Diffusion(network) => network.parameters(),
            Self::Unet(network) => network.parameters(),
            Self::Toy(network) => network.parameters(),
            Self::Autoregressive(network) => network.parameters(),
        }
    }

    /// Whether it is the autoregressive baseline.
    pub fn is_autoregressive(&self) -> bool {
        matches!(self, Self::Autoregressive(_))
    }

    /// The network with its weights.
    pub(super) fn load(&self, weights: Weights) -> Loaded {
        match self {
            Self::Diffusion(network) => {
                Loaded::Denoiser(Box::new(LoadedBackbone { network: network.clone(), weights }))
            }
            Self::Unet(network) => {
                Loaded::Denoiser(Box::new(LoadedUnet { network: (**network).clone(), weights }))
            }
            Self::Toy(network) => {
                Loaded::Denoiser(Box::new(LoadedToy { network: (**network).clone(), weights }))
            }
            Self::Autoregressive(network) => {
                Loaded::Autoregressive(LoadedAutoregressive { network: (**network).clone(), weights })
            }
        }
    }

    /// The training loss of a diffusion network, \[1\], for `rows` at the flat `positions` b·L + i; `None` where
    /// nothing costs anything.
    ///
    /// # Errors
    /// [`Error::Invalid`] for states that are not the network's, and for the autoregressive baseline.
    pub fn loss(
        &self,
        weights: &Weights,
        states: &States,
        positions: &[usize],
        rows: LossRows,
        dropout: TrainingDropout,
    ) -> Result<Option<Tensor<1>>> {
        match self {
            Self::Diffusion(_) if positions.is_empty() => Ok(None),
            Self::Diffusion(network) => {
                let hidden = network.trunk(weights, states.y_t, states.t, positions, Some(dropout));
                Ok(Some(network.loss(weights, hidden, Arc::new(rows))))
            }
            Self::Unet(network) => {
                let hidden = network.trunk(weights, states.y_t, states.labels, Some(dropout))?;
                Ok(network.loss(weights, &hidden, positions, &rows))
            }
            Self::Toy(network) => {
                let hidden = network.trunk(weights, states.y_t, states.t, Some(dropout))?;
                Ok(network.loss(weights, &hidden, positions, &rows))
            }
            Self::Autoregressive(_) => {
                Err(Error::invalid("model.network", "autoregressive", "a diffusion network: this needs one"))
            }
        }
    }
}

/// The sizes of the U-Net of a model of images.
fn unet(config: &ModelConfig, sizes: &UnetSettings) -> Result<UnetConfig> {
    let Some(image) = config.subject.image() else {
        return Err(Error::invalid("model.network", "unet", "toy: the data are points"));
    };
    if sizes.class_conditional && image.class_names.is_empty() {
        return Err(Error::invalid("model.class_conditional", true, "false: the images have no labels"));
    }
    Ok(UnetConfig {
        channels: image.planes(),
        height: image.height,
        width: image.width,
        model_channels: sizes.model_channels,
        channel_mult: sizes.channel_mult.clone(),
        res_blocks: sizes.res_blocks,
        attention_resolutions: sizes.attention_resolutions.clone(),
        head_channels: sizes.head_channels,
        dropout: sizes.dropout,
        classes: config.classes(),
    })
}
