//! The output layer where it is asked for: the last convolution is by far the widest, and few tokens need it. At some
//! pixels it is a linear layer on the 3×3 pixels around each, one layer per colour channel.

use burn::tensor::Tensor;

use super::{Unet, output_classes};
use crate::backbone::head::group_rows;
use crate::backbone::weights::Weights;
use crate::backbone::{Head, Hidden};

/// Hidden states of every pixel of a batch.
pub(super) struct Pixels {
    /// [B·H·W + 1, channels of the first level]; the last row is zero and stands for everything beyond the border.
    rows: Tensor<2>,
    height: usize,
    width: usize,
}

impl Pixels {
    /// Of planes [B, channels, H, W].
    pub fn new(planes: Tensor<4>) -> Self {
        let [batch, channels, height, width] = planes.dims();
        let rows = planes.permute([0, 2, 3, 1]).reshape([batch * height * width, channels]);
        let border = Tensor::zeros([1, channels], &rows.device());
        Self { rows: Tensor::cat(vec![rows, border], 0), height, width }
    }

    /// The 3×3 pixels around each of `pixels` (flat indices b·H·W + row·W + column), row by row: [n, 9·channels].
    fn patches(&self, pixels: &[usize]) -> Hidden {
        let area = self.height * self.width;
        let border = self.rows.dims()[0] - 1;
        let mut rows = Vec::with_capacity(9 * pixels.len());
        for pixel in pixels {
            let (image, row, column) = (pixel / area, pixel % area / self.width, pixel % self.width);
            for tap in 0..9 {
                // One more than the place, so that the row above the first is 0.
                let (row, column) = (row + tap / 3, column + tap % 3);
                let inside = (1..=self.height).contains(&row) && (1..=self.width).contains(&column);
                let index = image * area + (row.max(1) - 1) * self.width + column.max(1) - 1;
                rows.push(if inside { index } else { border } as u32);
            }
        }
        Hidden::gathered(self.rows.clone(), rows, 9)
    }
}

impl Unet {
    /// The heads of the colour channels at `positions`.
    pub(super) fn heads_of(&self, weights: &Weights, pixels: &Pixels, positions: &[usize]) -> Vec<Head> {
        let (tokens, area) = (self.config.tokens(), self.config.pixels());
        let mut heads = Vec::new();
        let mut known: Option<(Vec<usize>, Hidden)> = None;
        let groups = group_rows(positions, self.config.channels, |position| position % tokens / area);
        for (channel, rows) in groups.into_iter().enumerate().filter(|(_, rows)| !rows.is_empty()) {
            let place = |row: &usize| positions[*row] / tokens * area + positions[*row] % area;
            let places: Vec<usize> = rows.iter().map(place).collect();
            // Where all tokens are asked for, all channels need the same patches.
            let hidden = match known.take() {
                Some((same, patches)) if same == places => patches,
                _ => pixels.patches(&places),
            };
            known = Some((places, hidden.clone()));
            let (weight, bias) = self.output_layer(weights, channel);
            heads.push(Head { rows, hidden, weight: weight.into(), bias });
        }
        heads
    }

    /// The output layer of a colour channel as a linear layer on patches: weight [C, 9·width] and bias \[C\], without the
    /// row of the mask class.
    fn output_layer(&self, weights: &Weights, channel: usize) -> (Tensor<2>, Tensor<1>) {
        let (start, classes) =
            (channel * output_classes(&self.definition.spec), self.definition.spec.vocab_size);
        let (weight, bias) = self.output_conv.weight_and_bias(weights);
        let (weight, bias) = (weight.narrow(0, start, classes), bias.narrow(0, start, classes));
        let patch = 9 * weight.dims()[1];
        (weight.permute([0, 2, 3, 1]).reshape([classes, patch]), bias)
    }
}
