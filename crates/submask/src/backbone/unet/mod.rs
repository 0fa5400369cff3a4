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
pub use head::{Hidden, LoadedUnet, Pixels};

use super::TrainingDropout;
use super::declaration::{Declaration, Handle};
use super::weights::{Init, Parameter, Weights};
use crate::denoiser::Spec;
use crate::ops::{Kernels, integers};
use crate::subtoken::SubTokenizer;
use crate::{Error, Result};
use layers::{Conv, PlaneNorm};
use paths::Paths;

/// A U-Net without its weights.
#[derive(Clone, Debug)]
pub struct Unet {
    config: UnetConfig,
    spec: Spec,
    kernels: Kernels,
    parameters: Vec<Parameter>,
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
            spec,
            kernels,
            config,
            parameters,
        })
    }

    /// The sizes.
    pub fn config(&self) -> &UnetConfig {
        &self.config
    }

    /// Which operations run.
    pub fn kernels(&self) -> Kernels {
        self.kernels
    }

    /// All weights in definition order.
    pub fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    /// The trunk: digits to planes from which the output layer makes logits.
    ///
    /// `labels` holds a class for every image, 0 to `classes`, where `classes` stands for no label; `None` is no label
    /// for all. The row of the table for no label is not trained: it gets no gradient.
    ///
    /// # Shapes
    /// - `y_t`: [B, L·ℓ] digits 0..=b
    ///
    /// # Errors
    /// [`Error::Invalid`] for digits that are no whole images, and for labels that the network does not know.
    pub fn trunk(
        &self,
        weights: &Weights,
        y_t: &[u32],
        labels: Option<&[usize]>,
        dropout: Option<TrainingDropout>,
    ) -> Result<Hidden> {
        let digits = self.config.tokens() * self.spec.subtoken_len;
        if y_t.is_empty() || !y_t.len().is_multiple_of(digits) {
            return Err(Error::invalid(
                "digits",
                y_t.len(),
                format!("a multiple of the {digits} of an image"),
            ));
        }
        let cond = self.conditioning(weights, labels, y_t.len() / digits)?;
        let pass = Pass { weights, cond, dropout };
        let x = self.paths.forward(&pass, self.embed(weights, y_t));
        Ok(Hidden::new(self.output_norm.forward_silu(weights, x)))
    }

    /// Planes of the digits: those of channel κ's digit j stand together, at place κ·ℓ + j.
    fn embed(&self, weights: &Weights, y_t: &[u32]) -> Tensor<4> {
        let UnetConfig { channels, height, width, .. } = self.config;
        let (pixels, len) = (self.config.pixels(), self.spec.subtoken_len);
        let planes = self.config.widths()[0];
        let share = planes / (channels * len);
        let batch = y_t.len() / (channels * pixels * len);
        let rows = select(weights.get(self.digit_embedding), y_t.iter().copied());
        let places = rows.reshape([batch * channels, pixels, len * share]).swap_dims(1, 2);
        places.reshape([batch, planes, height, width])
    }

    fn conditioning(
        &self,
        weights: &Weights,
        labels: Option<&[usize]>,
        batch: usize,
    ) -> Result<Option<Tensor<2>>> {
        let Some(LabelEmbedding { table, classes }) = self.label_embedding else {
            return match labels {
                Some(_) => Err(Error::invalid("labels", "given", "none: the network takes no labels")),
                None => Ok(None),
            };
        };
        if let Some(labels) = labels.filter(|labels| labels.len() != batch) {
            return Err(Error::invalid("labels", labels.len(), format!("one for each of {batch} images")));
        }
        let none = [classes];
        let labels = labels.unwrap_or(&none);
        if let Some(label) = labels.iter().find(|label| **label > classes) {
            return Err(Error::invalid("label", label, format!("0 to {classes}, {classes} being no label")));
        }
        let table = weights.get(table);
        let untrained = table.clone().narrow(0, classes, 1).detach();
        let table = Tensor::cat(vec![table.narrow(0, 0, classes), untrained], 0);
        let rows = select(table, labels.iter().map(|label| *label as u32));
        Ok(Some(activation::silu(rows)))
    }

    /// The published network's logits at all tokens [B·L, classes]; for ℓ = 1 with the mask class.
    pub fn all_logits(&self, weights: &Weights, hidden: &Hidden) -> Tensor<2> {
        let planes = self.output_conv.forward(weights, hidden.planes());
        let (pixels, classes) = (self.config.pixels(), output_classes(&self.spec));
        let [batch, channels, ..] = planes.dims();
        let tokens = channels / classes;
        let rows = planes.reshape([batch * tokens, classes, pixels]).swap_dims(1, 2);
        rows.reshape([batch * tokens * pixels, classes])
    }

    /// The output layer of colour channel `channel` as a linear layer on [`Pixels::patches`]: weight [C, 9·width] and
    /// bias \[C\], without the row of the mask class.
    pub fn output_layer(&self, weights: &Weights, channel: usize) -> (Tensor<2>, Tensor<1>) {
        let start = channel * output_classes(&self.spec);
        let (weight, bias) = self.output_conv.weight_and_bias(weights);
        let weight = weight.narrow(0, start, self.spec.vocab_size);
        let bias = bias.narrow(0, start, self.spec.vocab_size);
        let patch = 9 * weight.dims()[1];
        (weight.permute([0, 2, 3, 1]).reshape([self.spec.vocab_size, patch]), bias)
    }
}

impl LabelEmbedding {
    fn declare(unet: &mut Declaration, classes: usize, width: usize) -> Self {
        let init = Init::NormalButLastRow(1.0);
        Self { table: unet.weight("label_emb.weight", [classes + 1, width], init), classes }
    }
}

/// Classes of the output layer at a token: C, for ℓ = 1 also the mask, which is never predicted.
fn output_classes(spec: &Spec) -> usize {
    spec.vocab_size + usize::from(spec.subtoken_len == 1)
}

/// The rows `rows` of a table.
fn select(table: Tensor<2>, rows: impl ExactSizeIterator<Item = u32>) -> Tensor<2> {
    let count = rows.len();
    let rows = integers(rows, [count], &table.device());
    table.select(0, rows)
}
