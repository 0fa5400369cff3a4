//! The output layer where it is asked for: the last convolution is by far the widest, and few tokens need it.

use std::ops::Range;

use burn::tensor::Tensor;

use super::{Unet, select};
use crate::Result;
use crate::backbone::weights::Weights;
use crate::backbone::{chunks, floats, loss_of_layers};
use crate::denoiser::{Denoiser, Spec, States};
use crate::objective::LossRows;

/// Hidden states of a batch, from which logits are made.
#[derive(Clone, Debug)]
pub struct Hidden {
    /// [B, channels of the first level, H, W], normed.
    planes: Tensor<4>,
}

/// Hidden states of every pixel of a batch.
#[derive(Clone, Debug)]
pub struct Pixels {
    /// [B·H·W + 1, channels of the first level]; the last row is zero and stands for everything beyond the border.
    rows: Tensor<2>,
    height: usize,
    width: usize,
}

impl Hidden {
    pub(super) fn new(planes: Tensor<4>) -> Self {
        Self { planes }
    }

    pub(super) fn planes(&self) -> Tensor<4> {
        self.planes.clone()
    }

    /// The same states by pixels.
    pub fn pixels(&self) -> Pixels {
        let [batch, channels, height, width] = self.planes.dims();
        let rows = self.planes().permute([0, 2, 3, 1]).reshape([batch * height * width, channels]);
        let border = Tensor::zeros([1, channels], &rows.device());
        Pixels { rows: Tensor::cat(vec![rows, border], 0), height, width }
    }
}

impl Pixels {
    /// The 3×3 pixels around each of `pixels` (flat indices b·H·W + row·W + column), row by row: [n, 9·channels].
    pub fn patches(&self, pixels: &[usize]) -> Tensor<2> {
        let area = self.height * self.width;
        let [count, channels] = self.rows.dims();
        let mut rows = Vec::with_capacity(9 * pixels.len());
        for pixel in pixels {
            let (image, row, column) = (pixel / area, pixel % area / self.width, pixel % self.width);
            for tap in 0..9 {
                // One more than the place, so that the row above the first is 0.
                let (row, column) = (row + tap / 3, column + tap % 3);
                let inside = (1..=self.height).contains(&row) && (1..=self.width).contains(&column);
                let index = image * area + (row.max(1) - 1) * self.width + column.max(1) - 1;
                rows.push(if inside { index } else { count - 1 } as u32);
            }
        }
        select(self.rows.clone(), rows.into_iter()).reshape([pixels.len(), 9 * channels])
    }
}

impl Unet {
    /// Σ of the rows' weighted losses, \[1\], for `rows` of the flat positions b·L + i; `None` where there are none.
    pub fn loss(
        &self,
        weights: &Weights,
        hidden: &Hidden,
        positions: &[usize],
        rows: &LossRows,
    ) -> Option<Tensor<1>> {
        let (tokens, area) = (self.config.tokens(), self.config.pixels());
        let pixels = hidden.pixels();
        // Where all tokens are charged, all channels need the same patches.
        let mut gathered: Option<(Vec<usize>, Tensor<2>)> = None;
        let channel = |row: usize| positions[row] % tokens / area;
        loss_of_layers(self.kernels, rows, self.config.channels, channel, |channel, own| {
            let place = |row: &usize| positions[*row] / tokens * area + positions[*row] % area;
            let places: Vec<usize> = own.iter().map(place).collect();
            let patches = match gathered.take() {
                Some((known, patches)) if known == places => patches,
                _ => pixels.patches(&places),
            };
            gathered = Some((places, patches.clone()));
            let (weight, bias) = self.output_layer(weights, channel);
            (patches, weight, bias)
        })
    }
}

/// A U-Net with its weights, ready to be evaluated.
pub struct LoadedUnet {
    /// The network.
    pub network: Unet,
    /// Its weights, not on an autodiff device.
    pub weights: Weights,
}

impl LoadedUnet {
    /// The logits [n, C] of `positions`, channel by channel.
    fn logits(&self, pixels: &Pixels, positions: &[usize], layers: &[Layer]) -> Result<Vec<f32>> {
        let (tokens, area) = (self.network.config.tokens(), self.network.config.pixels());
        let classes = self.network.spec.vocab_size;
        let mut logits = vec![0.0; positions.len() * classes];
        for (channel, (weight, bias)) in layers.iter().enumerate() {
            let of_channel = |i: &usize| positions[*i] % tokens / area == channel;
            let asked: Vec<usize> = (0..positions.len()).filter(of_channel).collect();
            if asked.is_empty() {
                continue;
            }
            let place = |i: &usize| positions[*i] / tokens * area + positions[*i] % area;
            let patches = pixels.patches(&asked.iter().map(place).collect::<Vec<_>>());
            let rows = self.network.kernels.linear(patches, weight.clone(), Some(bias.clone()));
            for (i, row) in asked.iter().zip(floats(rows)?.chunks_exact(classes)) {
                logits[i * classes..][..classes].copy_from_slice(row);
            }
        }
        Ok(logits)
    }
}

/// Weight and bias of a colour channel's output layer.
type Layer = (Tensor<2>, Tensor<1>);

impl Denoiser for LoadedUnet {
    fn spec(&self) -> &Spec {
        &self.network.spec
    }

    fn evaluate(
        &self,
        states: &States,
        positions: &[usize],
        rows: &mut dyn FnMut(Range<usize>, &[f32]) -> Result<()>,
    ) -> Result<()> {
        if positions.is_empty() {
            return Ok(());
        }
        self.spec().check_seq_len(states.seq_len(self.network.spec.subtoken_len))?;
        let hidden = self.network.trunk(&self.weights, states.y_t, states.labels, None)?;
        let pixels = hidden.pixels();
        let channels = 0..self.network.config.channels;
        let layers: Vec<Layer> =
            channels.map(|channel| self.network.output_layer(&self.weights, channel)).collect();
        let widest = layers[0].0.dims().into_iter().fold(0, usize::max);
        chunks(positions.len(), widest).try_for_each(|range| {
            let logits = self.logits(&pixels, &positions[range.clone()], &layers)?;
            rows(range, &logits)
        })
    }
}
