//! The network of a model, whichever it is.

use std::sync::Arc;

use super::config::{ModelConfig, NetworkConfig, UnetSettings};
use crate::backbone::autoregressive::{Autoregressive, LoadedAutoregressive};
use crate::backbone::dit::Dit;
use crate::backbone::encoder::Encoder;
use crate::backbone::toy::{Toy, ToyConfig};
use crate::backbone::unet::{Unet, UnetConfig};
use crate::backbone::weights::{Parameter, Weights};
use crate::backbone::{Backbone, LoadedBackbone};
use crate::denoiser::{Autoregressor, Denoiser};
use crate::ops::Kernels;
use crate::subtoken::SubTokenizer;
use crate::{Error, Result};

/// A network without its weights.
#[derive(Clone, Debug)]
pub enum Network {
    /// A diffusion network.
    Diffusion(Arc<dyn Backbone>),
    /// The autoregressive baseline.
    Autoregressive(Arc<Autoregressive>),
}

/// A network with its weights on a device.
pub(super) enum Loaded {
    Denoiser(Box<dyn Denoiser>),
    Autoregressive(Box<dyn Autoregressor>),
}

impl Network {
    /// The network that `config` asks for, over `codes`.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming the field, the value and what is allowed.
    pub fn new(config: &ModelConfig, codes: &SubTokenizer, kernels: Kernels) -> Result<Self> {
        config.subject.check_network(config.network.name())?;
        let network: Arc<dyn Backbone> = match &config.network {
            NetworkConfig::Diffusion(sizes) => Arc::new(Dit::new(sizes.clone(), codes, kernels)?),
            NetworkConfig::Encoder(sizes) => Arc::new(Encoder::new(sizes.clone(), codes, kernels)?),
            NetworkConfig::Unet(sizes) => Arc::new(Unet::new(unet(config, sizes)?, codes, kernels)?),
            NetworkConfig::Toy(sizes) => {
                let sizes = ToyConfig { tokens: config.seq_len(), hidden: sizes.hidden };
                Arc::new(Toy::new(sizes, codes, kernels)?)
            }
            NetworkConfig::Autoregressive(sizes) => {
                let network = Autoregressive::new(sizes.clone(), codes, kernels)?;
                return Ok(Self::Autoregressive(Arc::new(network)));
            }
        };
        Ok(Self::Diffusion(network))
    }

    /// All weights in definition order.
    pub fn parameters(&self) -> &[Parameter] {
        match self {
            Self::Diffusion(network) => network.parameters(),
            Self::Autoregressive(network) => network.parameters(),
        }
    }

    /// The network with its weights.
    pub(super) fn load(&self, weights: Weights) -> Loaded {
        match self {
            Self::Diffusion(network) => {
                Loaded::Denoiser(Box::new(LoadedBackbone { network: network.clone(), weights }))
            }
            Self::Autoregressive(network) => {
                let network = (**network).clone();
                Loaded::Autoregressive(Box::new(LoadedAutoregressive { network, weights }))
            }
        }
    }
}

/// The sizes of the U-Net of a model of images.
fn unet(config: &ModelConfig, sizes: &UnetSettings) -> Result<UnetConfig> {
    let Some(image) = config.subject.image() else {
        return Err(Error::internal("a U-Net is a network for images")(&config.subject));
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
