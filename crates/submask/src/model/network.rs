//! The network of a run or model, whichever kind it is.

use std::sync::Arc;

use crate::Result;
use crate::backbone::Backbone;
use crate::backbone::autoregressive::{Autoregressive, AutoregressiveConfig};
use crate::backbone::dit::{Dit, DitConfig};
use crate::backbone::encoder::{Encoder, EncoderConfig};
use crate::backbone::weights::Parameter;
use crate::ops::Kernels;
use crate::subtoken::SubTokenizer;

use super::settings::{ModelSettings, NetworkChoice};

/// A network without its weights.
#[derive(Clone, Debug)]
pub enum Network {
    /// A diffusion network: the transformer, or the encoder.
    Diffusion(Arc<dyn Backbone>),
    /// The autoregressive baseline.
    Autoregressive(Box<Autoregressive>),
}

impl Network {
    /// The network that `settings` ask for, over `codes`.
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] naming the field, the value and what is allowed.
    pub fn new(settings: &ModelSettings, codes: &SubTokenizer, kernels: Kernels) -> Result<Self> {
        let ModelSettings { hidden, heads, blocks, seq_len, dropout, embedding, .. } = *settings;
        match settings.network {
            NetworkChoice::Diffusion => {
                let config = DitConfig {
                    hidden,
                    heads,
                    blocks,
                    cond_dim: settings.cond_dim,
                    seq_len,
                    dropout,
                    embedding,
                    time_conditioning: settings.time_conditioning,
                };
                Ok(Self::Diffusion(Arc::new(Dit::new(config, codes, kernels)?)))
            }
            NetworkChoice::Encoder => {
                let config = EncoderConfig {
                    hidden,
                    heads,
                    query_groups: settings.query_groups,
                    blocks,
                    intermediate: settings.intermediate,
                    seq_len,
                    dropout,
                    embedding,
                };
                Ok(Self::Diffusion(Arc::new(Encoder::new(config, codes, kernels)?)))
            }
            NetworkChoice::Autoregressive => {
                let config = AutoregressiveConfig { hidden, heads, blocks, seq_len, dropout };
                Ok(Self::Autoregressive(Box::new(Autoregressive::new(config, codes, kernels)?)))
            }
        }
    }

    /// All weights in definition order.
    pub fn parameters(&self) -> Vec<Parameter> {
        match self {
            Self::Diffusion(network) => network.parameters().to_vec(),
            Self::Autoregressive(network) => network.parameters().to_vec(),
        }
    }
}
