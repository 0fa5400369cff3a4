//! The U-Net for images (networks.md): digits of all colour channels of all pixels in, logits over tokens out.
//!
//! A token is a colour channel of a pixel: channel κ at (row, column) is token (κ·H + row)·W + column of L = k·H·W.
//! The network does not read the time.

mod attention;
mod config;
mod head;
mod layers;
mod paths;
mod residual;
#[cfg(test)]
mod tests;

use burn::tensor::{Tensor, activation};

pub use config::UnetConfig;

use super::declaration::{Declaration, Definition, Handle};
use super::weights::{Init, Weights};
use super::{Backbone, Head, Inputs, TrainingDropout};
use crate::Result;
use crate::denoiser::Spec;
use crate::ops::{Kernels, take_rows};
use crate::subtoken::SubTokenizer;
use head::Pixels;
use layers::{Conv, PlaneNorm};
use paths::Paths;

/// A U-Net without its weights.
#[derive(Clone, Debug)]
pub struct Unet {
    config: UnetConfig,
    definition: Definition,
    digit_embedding: Handle<2>,
    label_embedding: Option<LabelEmbedding>,
    paths: Paths,
    output_norm: PlaneNorm,
    output_conv: Conv,
}

/// The table of the classes and, in its last row, of no label, [classes + 1, 4m].
#[derive(Clone, Debug)]
struct LabelEmbedding {
    table: Handle<2>,
    classes: usize,
}

/// What all blocks see while a batch passes.
struct Pass<'a> {
    weights: &'a Weights,
    /// SiLU of the labels' embedding, [B, 4m], or [1, 4m] for all; `None` where the network takes no labels.
    cond: Option<Tensor<2>>,
    dropout: Option<TrainingDropout>,
}

impl Pass<'_> {
    /// The condition of a network that takes labels.
    fn labels(&self) -> Tensor<2> {
        self.cond.clone().expect("a network with layers for labels embeds labels")
    }
}

impl Unet {
    /// The network of `config` over the codes of `codes`.
    ///
    /// # Errors
    /// As [`UnetConfig::validate`].
    pub fn new(config: UnetConfig, codes: &SubTokenizer, kernels: Kernels) -> Result<Self> {
        config.validate(codes)?;
        let tokens = config.tokens();
        let classes = config.classes;
        let spec = Spec { seq_lens: tokens..=tokens, classes, ..Spec::new(codes, tokens) };
        let width = config.widths()[0];
        let table = [codes.base() as usize + 1, width / (config.channels * spec.subtoken_len)];
        let planes = config.channels * output_classes(&spec);
        let mut parameters = Vec::new();
        let mut all = Declaration::new(&mut parameters, kernels);
        let digit_embedding = all.weight("pixel_embedding.embedding_table.weight", table, Init::Normal(1.0));
        let mut unet = all.within("unet");
        Ok(Self {
            digit_embedding,
            label_embedding: classes
                .map(|classes| LabelEmbedding::declare(&mut unet, classes, config.cond_dim())),
            paths: Paths::declare(&mut unet, &config),
            output_norm: PlaneNorm::declare(&mut unet, "out.0", width),
            output_conv: Conv::declare_with(&mut unet, "out.2", [planes, width], 3, Init::Zeros),
            config,
            definition: Definition { spec, kernels, parameters },
        })
    }

    /// The sizes.
    pub fn config(&self) -> &UnetConfig {
        &self.config
    }

    /// Planes from which the output layer makes logits, [B, channels of the first level, H, W].
    fn trunk(&self, weights: &Weights, inputs: &Inputs, dropout: Option<TrainingDropout>) -> Tensor<4> {
        let cond = self.label_embedding.as_ref().map(|embedding| embedding.forward(weights, inputs.labels));
        let pass = Pass { weights, cond, dropout };
        let x = self.paths.forward(&pass, self.embed(weights, inputs));
        self.output_norm.forward_silu(weights, x)
    }

    /// Planes of the digits: those of channel κ's digit j stand together, at place κ·ℓ + j.
    fn embed(&self, weights: &Weights, inputs: &Inputs) -> Tensor<4> {
        let UnetConfig { channels, height, width, .. } = self.config;
        let (batch, pixels, len) = (inputs.t.len(), self.config.pixels(), self.definition.spec.subtoken_len);
        let planes = self.config.widths()[0];
        let share = planes / (channels * len);
        let rows = inputs.y_t.rows_of(weights.get(self.digit_embedding));
        let places = rows.reshape([batch * channels, pixels, len * share]).swap_dims(1, 2);
        places.reshape([batch, planes, height, width])
    }
}

impl Backbone for Unet {
    fn definition(&self) -> &Definition {
        &self.definition
    }

    /// One head per colour channel.
    fn heads(
        &self,
        weights: &Weights,
        inputs: &Inputs,
        positions: &[usize],
        dropout: Option<TrainingDropout>,
    ) -> Result<Vec<Head>> {
        inputs.check(&self.definition.spec, positions)?;
        let planes = self.trunk(weights, inputs, dropout);
        Ok(self.heads_of(weights, &Pixels::new(planes), positions))
    }
}

impl LabelEmbedding {
    fn declare(unet: &mut Declaration, classes: usize, width: usize) -> Self {
        let init = Init::NormalButLastRow(1.0);
        Self { table: unet.weight("label_emb.weight", [classes + 1, width], init), classes }
    }

    /// SiLU of the vectors of `labels` \[B\], [B, 4m], or [1, 4m] of no label. The row of no label is not trained: it gets
    /// no gradient.
    fn forward(&self, weights: &Weights, labels: Option<&[usize]>) -> Tensor<2> {
        let none = [self.classes];
        let labels: Vec<u32> = labels.unwrap_or(&none).iter().map(|label| *label as u32).collect();
        let table = weights.get(self.table);
        let untrained = table.clone().narrow(0, self.classes, 1).detach();
        let table = Tensor::cat(vec![table.narrow(0, 0, self.classes), untrained], 0);
        activation::silu(take_rows(table, &labels))
    }
}

/// Classes of the output layer at a token: C, for ℓ = 1 also the mask, which is never predicted.
fn output_classes(spec: &Spec) -> usize {
    spec.vocab_size + usize::from(spec.subtoken_len == 1)
}
