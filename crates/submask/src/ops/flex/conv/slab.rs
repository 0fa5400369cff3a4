//! Copies of an image's rows, between rows of zeros, and moved by the columns of the kernel.

use std::ops::Range;

use super::Sizes;

/// Elements behind the last that may be read: no vector is longer.
const SLACK: usize = 64;

/// Where pixels stand in copies of some channels' rows: for every column of the kernel one copy, moved by as much, so that
/// pixels which stand beside or below each other do so in every copy without a border between them.
#[derive(Clone, Copy, Debug)]
pub struct Slab {
    kernel: usize,
    /// Rows of pixels, without the border above and below.
    pub rows: usize,
    /// Pixels of a row.
    pub width: usize,
    /// From a pixel to the same one in the next copy.
    copy: usize,
}

impl Slab {
    pub fn new(sizes: Sizes, rows: usize) -> Self {
        let copy = (rows + sizes.kernel - 1) * sizes.width;
        Self { kernel: sizes.kernel, rows, width: sizes.width, copy }
    }

    /// Elements of the copies of some channels.
    pub fn len(&self, channels: usize) -> usize {
        channels * self.kernel * self.copy + SLACK
    }

    /// Copies rows from `first` on of `channels` of one image, whose planes are `height` rows high.
    pub fn fill(&self, out: &mut [f32], image: &[f32], height: usize, channels: Range<usize>, first: usize) {
        let (padding, width) = (self.kernel / 2, self.width);
        out.fill(0.0);
        let from = first.saturating_sub(padding);
        let to = (first + self.rows + padding).min(height);
        for (copies, channel) in out.chunks_exact_mut(self.kernel * self.copy).zip(channels) {
            let source = &image[(channel * height + from) * width..][..(to - from) * width];
            for (column, copy) in copies.chunks_exact_mut(self.copy).enumerate() {
                // Pixel i of a row shows pixel i + column − padding.
                let (gap, skipped) = (padding.saturating_sub(column), column.saturating_sub(padding));
                let count = width.saturating_sub(gap + skipped);
                let rows = copy[(from + padding - first) * width..].chunks_exact_mut(width);
                for (row, source) in rows.zip(source.chunks_exact(width)).filter(|_| count > 0) {
                    row[gap..][..count].copy_from_slice(&source[skipped..][..count]);
                }
            }
        }
    }

    /// Offsets of the elements (channel, kernel row, kernel column) of `channels` channels from a pixel's place.
    pub fn offsets(&self, channels: usize) -> Vec<usize> {
        let kernel = self.kernel;
        let of_channel = |channel: usize| {
            (0..kernel * kernel)
                .map(move |tap| (channel * kernel + tap % kernel) * self.copy + tap / kernel * self.width)
        };
        (0..channels).flat_map(of_channel).collect()
    }

    /// Number of pixels, which stand behind each other from the offset on.
    pub fn pixels(&self) -> usize {
        self.rows * self.width
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_show_what_the_kernel_sees() {
        for (height, width, kernel, first, rows) in [
            (8, 8, 3, 0, 8),
            (9, 5, 3, 3, 4),
            (2, 33, 3, 0, 2),
            (1, 1, 1, 0, 1),
            (4, 1, 5, 2, 2),
            (4, 4, 5, 0, 3),
        ] {
            let sizes = Sizes { batch: 1, inner: 3, outer: 1, height, width, kernel };
            let slab = Slab::new(sizes, rows);
            let image: Vec<f32> = (0..3 * height * width).map(|i| 1.0 + i as f32).collect();
            let mut copies = vec![7.0; slab.len(2)];
            slab.fill(&mut copies, &image, height, 1..3, first);
            for (index, offset) in slab.offsets(2).into_iter().enumerate() {
                let (channel, tap) = (1 + index / (kernel * kernel), index % (kernel * kernel));
                for pixel in 0..slab.pixels() {
                    let (row, column) = (first + pixel / width + tap / kernel, pixel % width + tap % kernel);
                    let inside = |at: usize, len: usize| at.checked_sub(kernel / 2).filter(|at| *at < len);
                    let expected = match (inside(row, height), inside(column, width)) {
                        (Some(row), Some(column)) => image[(channel * height + row) * width + column],
                        _ => 0.0,
                    };
                    assert_eq!(copies[offset + pixel], expected, "{sizes:?}, tap {tap}, pixel {pixel}");
                }
            }
        }
    }
}
