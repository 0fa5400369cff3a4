//! What an image is.

use std::fmt::{self, Display, Formatter};

/// The shape that all images of a set have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageShape {
    /// k, colour channels: 3 in the order red, green, blue, or 1.
    pub channels: usize,
    /// H in pixels.
    pub height: usize,
    /// W in pixels.
    pub width: usize,
}

impl ImageShape {
    /// L = k·H·W.
    pub fn tokens(&self) -> usize {
        self.channels * self.height * self.width
    }
}

impl Display for ImageShape {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { channels, height, width } = self;
        write!(f, "{height}×{width} pixels of {channels} channels")
    }
}

/// One image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// The L tokens: channel κ at (row, column) at place (κ·H + row)·W + column.
    pub pixels: Vec<u8>,
    /// The class, from 0 on, where there are labels.
    pub label: Option<u32>,
}

/// Mirrors planes of rows of `width` pixels, left to right.
pub fn flip_horizontally<T>(pixels: &mut [T], width: usize) {
    pixels.chunks_exact_mut(width).for_each(<[T]>::reverse);
}

#[cfg(test)]
mod tests {
    #[test]
    fn flipping_mirrors_every_row_and_undoes_itself() {
        let mut pixels = [1, 2, 3, 4, 5, 6];
        super::flip_horizontally(&mut pixels, 3);
        assert_eq!(pixels, [3, 2, 1, 6, 5, 4]);
        super::flip_horizontally(&mut pixels, 3);
        assert_eq!(pixels, [1, 2, 3, 4, 5, 6]);
    }
}
