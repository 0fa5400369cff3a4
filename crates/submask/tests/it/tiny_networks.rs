//! Networks of two layers and width 16, whose weights are drawn.

use std::sync::Arc;

use burn::tensor::Device;
use submask::backbone::dit::DitConfig;
use submask::backbone::encoder::EncoderConfig;
use submask::backbone::weights::{Init, Parameter, Weights};
use submask::backbone::{Backbone, Embedding, LoadedBackbone};

/// Sizes of a diffusion transformer.
pub fn dit_config(seq_len: usize, block_len: usize) -> DitConfig {
    DitConfig {
        hidden: 16,
        heads: 2,
        blocks: 2,
        cond_dim: 8,
        seq_len,
        dropout: 0.0,
        embedding: Embedding::PerDigitSummed,
        time_conditioning: false,
        block_len,
    }
}

/// Sizes of an encoder, whose query heads share keys and values.
pub fn encoder_config(seq_len: usize, block_len: usize) -> EncoderConfig {
    EncoderConfig {
        hidden: 16,
        heads: 4,
        query_groups: 2,
        blocks: 2,
        intermediate: 10,
        seq_len,
        dropout: 0.0,
        embedding: Embedding::PerDigitSummed,
        block_len,
    }
}

/// A network with weights far from zero, also in layers that begin there.
pub fn loaded(network: impl Backbone + 'static) -> LoadedBackbone {
    let drawn = |(index, parameter): (usize, &Parameter)| {
        Parameter { init: Init::Normal(0.4), ..parameter.clone() }.initial(3, index)
    };
    let values: Vec<_> = network.parameters().iter().enumerate().map(drawn).collect();
    let weights = Weights::new(network.parameters(), &values, &Device::flex());
    LoadedBackbone { network: Arc::new(network), weights }
}
