//! Images to the network's input.

use rayon::prelude::*;

use super::Preprocessing;
use crate::data::image::ImageShape;

/// Pixels along each side of the input.
pub(super) const SIDE: usize = 299;

/// A place of the input along one axis: (1 − `fraction`)·x[`low`] + `fraction`·x[`high`].
#[derive(Clone, Copy, Debug, PartialEq)]
struct Place {
    low: usize,
    high: usize,
    fraction: f32,
}

/// Whole images `tokens` [N, L] of 1 or 3 channels as [N, 3, 299, 299].
pub(super) fn resize(tokens: &[u8], shape: ImageShape, preprocessing: Preprocessing) -> Vec<f32> {
    let rows = places(shape.height, preprocessing);
    let columns = places(shape.width, preprocessing);
    let plane = shape.height * shape.width;
    let count = tokens.len() / shape.tokens();
    let mut input = vec![0.0; count * 3 * SIDE * SIDE];
    input.par_chunks_exact_mut(SIDE * SIDE).enumerate().for_each(|(index, out)| {
        let (image, channel) = (index / 3, if shape.channels == 3 { index % 3 } else { 0 });
        let at = image * shape.tokens() + channel * plane;
        let values: Vec<f32> =
            tokens[at..at + plane].iter().map(|token| value(*token, preprocessing)).collect();
        for (row, out) in rows.iter().zip(out.chunks_exact_mut(SIDE)) {
            let low = &values[row.low * shape.width..][..shape.width];
            let high = &values[row.high * shape.width..][..shape.width];
            for (column, out) in columns.iter().zip(out) {
                let across = |line: &[f32]| mix(line[column.low], line[column.high], column.fraction);
                *out = scale(mix(across(low), across(high), row.fraction), preprocessing);
            }
        }
    });
    input
}

fn mix(low: f32, high: f32, fraction: f32) -> f32 {
    low + (high - low) * fraction
}

/// What is interpolated.
fn value(token: u8, preprocessing: Preprocessing) -> f32 {
    match preprocessing {
        Preprocessing::PytorchFid => f32::from(token) / 255.0,
        Preprocessing::TorchFidelity => f32::from(token),
    }
}

/// To the network's range, about −1 to 1.
fn scale(value: f32, preprocessing: Preprocessing) -> f32 {
    match preprocessing {
        Preprocessing::PytorchFid => 2.0 * value - 1.0,
        Preprocessing::TorchFidelity => (value - 128.0) / 128.0,
    }
}

/// Where the input's places lie between `size` pixels; beyond the outermost ones, those count alone.
fn places(size: usize, preprocessing: Preprocessing) -> Vec<Place> {
    let ratio = size as f64 / SIDE as f64;
    (0..SIDE)
        .map(|i| {
            let at = match preprocessing {
                Preprocessing::PytorchFid => ((i as f64 + 0.5) * ratio - 0.5).max(0.0),
                Preprocessing::TorchFidelity => i as f64 * ratio,
            };
            let low = (at as usize).min(size - 1);
            Place { low, high: (low + 1).min(size - 1), fraction: (at - low as f64) as f32 }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: [Preprocessing; 2] = [Preprocessing::PytorchFid, Preprocessing::TorchFidelity];

    #[test]
    fn an_image_of_the_right_size_is_only_scaled() {
        let shape = ImageShape { channels: 3, height: SIDE, width: SIDE };
        let tokens: Vec<u8> = (0..shape.tokens()).map(|i| (i % 251) as u8).collect();
        for (preprocessing, expected) in BOTH.into_iter().zip([100.0 / 127.5 - 1.0, -28.0 / 128.0]) {
            let input = resize(&tokens, shape, preprocessing);
            assert!((input[100] - expected).abs() < 1e-6);
            assert_eq!(input.len(), tokens.len());
        }
    }

    #[test]
    fn centres_lie_at_halves_or_at_the_upper_left_corner() {
        // Doubling 149.5 pixels is not whole; 13 pixels become 23 places each.
        let halves = places(13, Preprocessing::PytorchFid);
        assert_eq!(halves[11], Place { low: 0, high: 1, fraction: 0.0 });
        assert_eq!(halves[11 + 23], Place { low: 1, high: 2, fraction: 0.0 });
        assert_eq!((halves[0].low, halves[0].fraction), (0, 0.0));
        assert_eq!((halves[298].low, halves[298].high), (12, 12));
        let corner = places(13, Preprocessing::TorchFidelity);
        assert_eq!(corner[0], Place { low: 0, high: 1, fraction: 0.0 });
        assert_eq!(corner[23], Place { low: 1, high: 2, fraction: 0.0 });
        assert_eq!((corner[298].low, corner[298].high), (12, 12));
    }

    #[test]
    fn values_between_pixels_are_mixed_in_both_directions() {
        let shape = ImageShape { channels: 1, height: 1, width: 13 };
        let tokens: Vec<u8> = (0..13).map(|i| 10 * i).collect();
        let input = resize(&tokens, shape, Preprocessing::TorchFidelity);
        for (i, value) in input.iter().enumerate() {
            let expected = (10.0 * ((i % SIDE) as f32 / 23.0).min(12.0) - 128.0) / 128.0;
            assert!((value - expected).abs() < 1e-6, "{i}");
        }
        let upright = ImageShape { channels: 1, height: 13, width: 1 };
        let turned = resize(&tokens, upright, Preprocessing::TorchFidelity);
        assert!((0..SIDE).all(|i| (0..SIDE).all(|j| turned[i * SIDE + j] == input[j * SIDE + i])));
    }
}
