//! Images: a token is a colour channel of a pixel, or half of a pixel's three bytes.

use serde::{Deserialize, Serialize};

use super::{Meaning, Unit};
use crate::data::image::{ImageShape, super_tokens};
use crate::{Error, Result};

/// Largest height, width, and number of cells on a side.
pub(super) const MAX_SIDE: usize = 1024;
/// Most colour channels.
const MAX_CHANNELS: usize = 16;
/// Super-tokens of a pixel (math.md §8).
const SUPER_TOKENS: usize = 2;

/// Images of one shape.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageSubject {
    /// Colour channels k.
    pub channels: usize,
    /// Height H in pixels.
    pub height: usize,
    /// Width W in pixels.
    pub width: usize,
    /// Intensities of a channel, 256 but for foreign models.
    pub levels: usize,
    /// Whether the three bytes of a pixel are two tokens of 12 bits (math.md §8).
    pub super_tokens: bool,
    /// The classes' names; empty where there are no labels.
    pub class_names: Vec<String>,
}

impl ImageSubject {
    /// The shape of an image.
    pub fn shape(&self) -> ImageShape {
        ImageShape { channels: self.channels, height: self.height, width: self.width }
    }

    /// Planes of tokens: colour channels, or two of super-tokens.
    pub fn planes(&self) -> usize {
        if self.super_tokens { SUPER_TOKENS } else { self.channels }
    }

    /// Tokens of images \[n·k·H·W\], from their intensities: the same, or super-tokens.
    ///
    /// # Errors
    /// [`Error::Invalid`] where they are no whole images.
    pub fn tokens_of(&self, intensities: Vec<u32>) -> Result<Vec<u32>> {
        if !self.super_tokens {
            return Ok(intensities);
        }
        let bytes: Vec<u8> = intensities.iter().map(|intensity| *intensity as u8).collect();
        super_tokens::from_bytes(&bytes, self.height * self.width)
    }

    /// Intensities of the images of `tokens`, as bytes: those of fewer levels than 256 are spread over 0 to 255.
    ///
    /// # Errors
    /// [`Error::Invalid`] where they are no whole images, [`Error::InvalidCode`] for tokens that are none.
    pub fn pixels_of(&self, tokens: &[u32]) -> Result<Vec<u8>> {
        if self.super_tokens {
            return super_tokens::to_bytes(tokens, self.height * self.width);
        }
        let most = (self.levels as u32).saturating_sub(1).max(1);
        Ok(tokens.iter().map(|token| (255 * (*token).min(most) / most) as u8).collect())
    }
}

impl Meaning for ImageSubject {
    fn name(&self) -> &'static str {
        "images"
    }

    fn networks(&self) -> &'static [&'static str] {
        &["unet"]
    }

    fn vocab_size(&self) -> usize {
        if self.super_tokens { super_tokens::VOCAB_SIZE } else { self.levels }
    }

    fn seq_len(&self) -> Option<usize> {
        Some(self.planes() * self.height * self.width)
    }

    fn validate(&self) -> Result<()> {
        let sizes = [
            ("data.height", self.height, MAX_SIDE),
            ("data.width", self.width, MAX_SIDE),
            ("channels", self.channels, MAX_CHANNELS),
            ("levels", self.levels, super_tokens::VOCAB_SIZE),
        ];
        if let Some((key, size, most)) = sizes.into_iter().find(|(_, size, most)| !(1..=*most).contains(size))
        {
            return Err(Error::invalid(key, size, format!("1 to {most}")));
        }
        if self.super_tokens && self.channels != 3 {
            let given = format!("true, for images of {} channels", self.channels);
            return Err(Error::invalid("data.super_tokens", given, "false, or images of 3 channels"));
        }
        Ok(())
    }

    fn units(&self, _: bool) -> Vec<Unit> {
        vec![Unit::BitsPerDimension(self.shape().tokens()), Unit::NatsPerSequence]
    }

    fn class_names(&self) -> &[String] {
        &self.class_names
    }
}
