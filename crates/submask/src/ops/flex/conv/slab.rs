//! Rows of an image inside a border of zeros.

use std::ops::Range;

use super::Sizes;

/// Elements behind the last that may be read: no vector is longer.
const SLACK: usize = 64;

/// Where pixels stand in some channels' rows, copied with the border that the kernel needs.
#[derive(Clone, Copy, Debug)]
pub struct Slab {
    kernel: usize,
    /// Rows of pixels, without the border.
    pub rows: usize,
    /// Pixels of a row, without the border.
    pub width: usize,
    /// From a pixel to the one below it.
    pub stride: usize,
    /// From a pixel to the same one in the next channel.
    plane: usize,
}

impl Slab {
    pub fn new(sizes: Sizes, rows: usize) -> Self {
        let border = sizes.kernel - 1;
        let stride = sizes.width + border;
        let plane = (rows + border) * stride;
        Self { kernel: sizes.kernel, rows, width: sizes.width, stride, plane }
    }

    /// Copies rows from `first` on of `channels` of one image, whose planes are `height` rows high.
    pub fn fill(
        &self,
        out: &mut Vec<f32>,
        image: &[f32],
        height: usize,
        channels: Range<usize>,
        first: usize,
    ) {
        let (padding, width) = (self.kernel / 2, self.width);
        out.clear();
        out.resize(channels.len() * self.plane + SLACK, 0.0);
        let from = first.saturating_sub(padding);
        let to = (first + self.rows + padding).min(height);
        for (plane, channel) in out.chunks_exact_mut(self.plane).zip(channels) {
            let source = &image[(channel * height + from) * width..][..(to - from) * width];
            let start = (from + padding - first) * self.stride + padding;
            for (row, source) in source.chunks_exact(width).enumerate() {
                plane[start + row * self.stride..][..width].copy_from_slice(source);
            }
        }
    }

    /// Offsets of the elements (channel, kernel row, kernel column) of `channels` channels from a pixel's place.
    pub fn offsets(&self, channels: usize) -> Vec<usize> {
        let kernel = self.kernel;
        let of_channel = |channel: usize| {
            (0..kernel * kernel)
                .map(move |tap| channel * self.plane + tap / kernel * self.stride + tap % kernel)
        };
        (0..channels).flat_map(of_channel).collect()
    }

    /// Places of vectors of `lanes` pixels that cover all: row by row, or over the border from row to row, whichever
    /// takes fewer.
    pub fn places(&self, lanes: usize) -> Vec<usize> {
        let a_row = self.width.div_ceil(lanes);
        let across = (self.rows * self.stride - (self.stride - self.width)).div_ceil(lanes);
        if across < a_row * self.rows {
            return (0..across).map(|i| i * lanes).collect();
        }
        (0..self.rows * a_row).map(|i| i / a_row * self.stride + i % a_row * lanes).collect()
    }

    /// Writes the pixels among `vector`, which begins at `place`, to the rows of `out`, adding `bias`.
    #[inline(always)]
    pub fn write(&self, out: &mut [f32], vector: &[f32], place: usize, bias: f32) {
        let (mut row, mut column, mut rest) = (place / self.stride, place % self.stride, vector);
        while !rest.is_empty() && row < self.rows {
            let count = rest.len().min(self.stride - column);
            let pixels = count.min(self.width.saturating_sub(column));
            let out = &mut out[row * self.width + column.min(self.width)..][..pixels];
            for (out, &value) in out.iter_mut().zip(rest) {
                *out = value + bias;
            }
            (row, column, rest) = (row + 1, 0, &rest[count..]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_cover_every_pixel_once() {
        for (rows, width, kernel) in
            [(8, 8, 3), (3, 16, 3), (2, 33, 3), (1, 1, 1), (5, 7, 1), (4, 4, 5), (9, 28, 3)]
        {
            let sizes = Sizes { batch: 1, inner: 1, outer: 1, height: rows, width, kernel };
            let slab = Slab::new(sizes, rows);
            for lanes in [4, 8, 16] {
                let mut out = vec![f32::NAN; rows * width];
                for place in slab.places(lanes) {
                    let vector: Vec<f32> = (0..lanes).map(|lane| (place + lane) as f32).collect();
                    slab.write(&mut out, &vector, place, 0.5);
                }
                let expected: Vec<f32> =
                    (0..rows * width).map(|i| (i / width * slab.stride + i % width) as f32 + 0.5).collect();
                assert_eq!(out, expected, "{rows}×{width}, kernel {kernel}, {lanes} lanes");
            }
        }
    }
}
