//! Features without a network: what an image looks like from far away.
//!
//! 192 numbers, the means of 8 × 8 cells of each of the three channels, in 0..1: feature (κ·8 + r)·8 + c is the mean of
//! channel κ / 255 over rows r·H/8 to (r + 1)·H/8 and columns c·W/8 to (c + 1)·W/8. A pixel that lies in several cells
//! counts in each by the share of its area in there, so that any H and W do. A grey image is taken as three equal
//! channels.

use crate::data::image::ImageShape;

/// Cells along each side.
const CELLS: usize = 8;

/// Number of pixel features d: three colours of every cell.
pub const DIMENSION: usize = 3 * CELLS * CELLS;

/// The features [192] of one image of 1 or 3 planes [H, W].
pub(super) fn features(tokens: &[u8], shape: ImageShape) -> Vec<f32> {
    let (rows, columns) = (cells(shape.height), cells(shape.width));
    let plane = shape.height * shape.width;
    let mut features = Vec::with_capacity(DIMENSION);
    for channel in 0..3 {
        let at = if shape.channels == 3 { channel * plane } else { 0 };
        let tokens = &tokens[at..at + plane];
        for row in &rows {
            for column in &columns {
                let mut sum = 0.0;
                for (y, height) in row {
                    for (x, width) in column {
                        sum += height * width * f64::from(tokens[y * shape.width + x]);
                    }
                }
                features.push((sum / 255.0) as f32);
            }
        }
    }
    features
}

/// For each cell, the pixels of `size` in it, and their shares of the cell, which sum to 1.
fn cells(size: usize) -> Vec<Vec<(usize, f64)>> {
    // In units of 1/8 pixel the edges are whole numbers: cell i is from i·size to (i + 1)·size, pixel p from 8p to 8p + 8.
    let shares = |i: usize| {
        let (begin, end) = (i * size, (i + 1) * size);
        let share = |p: usize| {
            let overlap = end.min((p + 1) * CELLS) - begin.max(p * CELLS);
            (p, overlap as f64 / size as f64)
        };
        (begin / CELLS..end.div_ceil(CELLS)).map(share).collect()
    };
    (0..CELLS).map(shares).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_is_the_mean_of_its_pixels() {
        let shape = ImageShape { channels: 3, height: 16, width: 32 };
        let tokens: Vec<u8> = (0..shape.tokens()).map(|i| (i * 7 % 256) as u8).collect();
        let features = features(&tokens, shape);
        assert_eq!(features.len(), DIMENSION);
        for (channel, row, column) in [(0, 0, 0), (1, 3, 7), (2, 7, 4)] {
            let mut sum = 0.0;
            for y in 2 * row..2 * row + 2 {
                for x in 4 * column..4 * column + 4 {
                    sum += f64::from(tokens[(channel * 16 + y) * 32 + x]);
                }
            }
            let feature = features[(channel * 8 + row) * 8 + column];
            assert!((f64::from(feature) - sum / 8.0 / 255.0).abs() < 1e-6);
        }
    }

    #[test]
    fn sizes_that_8_does_not_divide_share_pixels() {
        for size in [1, 3, 8, 11, 28, 64] {
            for (cell, shares) in cells(size).iter().enumerate() {
                let total: f64 = shares.iter().map(|(_, share)| share).sum();
                assert!((total - 1.0).abs() < 1e-12, "{size} {cell}");
                assert!(shares.iter().all(|(pixel, share)| *pixel < size && *share > 0.0));
            }
            // Every pixel counts as much as every other.
            for pixel in 0..size {
                let weight: f64 =
                    cells(size).iter().flatten().filter(|(p, _)| *p == pixel).map(|(_, s)| s).sum();
                assert!((weight - 8.0 / size as f64).abs() < 1e-12);
            }
        }
        assert_eq!(
            cells(12)[..2],
            [vec![(0, 2.0 / 3.0), (1, 1.0 / 3.0)], vec![(1, 1.0 / 3.0), (2, 2.0 / 3.0)]]
        );
    }

    #[test]
    fn a_grey_image_is_three_equal_channels() {
        let shape = ImageShape { channels: 1, height: 9, width: 10 };
        let tokens: Vec<u8> = (0..90).map(|i| (i * 2) as u8).collect();
        let grey = features(&tokens, shape);
        let colour = features(&[&tokens[..]; 3].concat(), ImageShape { channels: 3, ..shape });
        assert_eq!(grey, colour);
        assert_eq!(features(&[255; 90], shape), [1.0; DIMENSION]);
    }
}
