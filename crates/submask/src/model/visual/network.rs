//! The network of a model of images or points, whichever it is.

use std::sync::Arc;

use super::{Subject, VisualConfig, VisualSettings};
use crate::backbone::Backbone;
use crate::backbone::toy::{Toy, ToyConfig};
use crate::backbone::unet::Unet;
use crate::backbone::weights::Parameter;
use crate::ops::Kernels;
use crate::subtoken::SubTokenizer;
use crate::{Error, Result};

/// A network without its weights: the U-Net, or the toy network.
#[derive(Clone, Debug)]
pub struct VisualNetwork(pub Arc<dyn Backbone>);

impl VisualNetwork {
    /// The network that `config` asks for, over `codes`.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming the field, the value and what is allowed.
    pub fn new(config: &VisualConfig, codes: &SubTokenizer, kernels: Kernels) -> Result<Self> {
        match &config.model {
            VisualSettings::Unet(settings) => {
                Ok(Self(Arc::new(Unet::new(config.unet(settings)?, codes, kernels)?)))
            }
            VisualSettings::Toy(settings) => {
                if !matches!(config.subject, Subject::Point { .. }) {
                    return Err(Error::invalid("model.network", "toy", "unet: the data are images"));
                }
                let sizes = ToyConfig { tokens: config.seq_len(), hidden: settings.hidden };
                Ok(Self(Arc::new(Toy::new(sizes, codes, kernels)?)))
            }
        }
    }

    /// All weights in definition order.
    pub fn parameters(&self) -> Vec<Parameter> {
        self.0.parameters().to_vec()
    }
}
