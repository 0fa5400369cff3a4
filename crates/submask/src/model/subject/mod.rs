//! What the tokens of a sequence mean: text, an image, a point. Everything that asks for it stands here.

mod image;
mod mean;
mod point;
mod text;

use serde::{Deserialize, Serialize};

pub use image::ImageSubject;
pub use point::{POINT_TOKENS, PointSubject};
pub use text::TextSubject;
pub(super) use text::text_of;

use crate::Result;
use crate::data::image::ImageShape;

/// What the tokens of one sequence are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Subject {
    /// Text: tokens of a tokenizer.
    Text(TextSubject),
    /// An image: a token is a colour channel of a pixel, or half of a pixel.
    Image(ImageSubject),
    /// A cell of a square: two tokens, its row and its column.
    Point(PointSubject),
}

/// A unit in which a likelihood is reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Bits per character of text.
    BitsPerCharacter,
    /// Nats per token.
    NatsPerToken,
    /// The exponential of nats per token.
    Perplexity,
    /// Bits per dimension of a sequence, of which there are so many.
    BitsPerDimension(usize),
    /// Nats per sequence.
    NatsPerSequence,
}

/// What differs from subject to subject.
trait Meaning {
    /// Number of token classes C.
    fn vocab_size(&self) -> usize;

    /// Tokens per sequence L, where the subject says it.
    fn seq_len(&self) -> Option<usize>;

    /// Checks the sizes.
    fn validate(&self) -> Result<()>;

    /// The units of its likelihoods, the usual one first.
    fn units(&self) -> Vec<Unit>;

    /// The shape of an image, where sequences are images.
    fn image_shape(&self) -> Option<ImageShape> {
        None
    }

    /// The classes' names; empty where there are no labels.
    fn class_names(&self) -> &[String] {
        &[]
    }
}

impl Subject {
    fn meaning(&self) -> &dyn Meaning {
        match self {
            Self::Text(text) => text,
            Self::Image(image) => image,
            Self::Point(point) => point,
        }
    }

    /// Number of token classes C.
    pub fn vocab_size(&self) -> usize {
        self.meaning().vocab_size()
    }

    /// Tokens per sequence L, where the subject says it and not the network.
    pub fn seq_len(&self) -> Option<usize> {
        self.meaning().seq_len()
    }

    /// Checks the sizes, before memory is taken for them.
    ///
    /// # Errors
    /// [`Error::Invalid`](crate::Error::Invalid) naming the key, the value and what is allowed.
    pub fn validate(&self) -> Result<()> {
        self.meaning().validate()
    }

    /// The units in which its likelihoods are reported, the usual one first.
    pub fn units(&self) -> Vec<Unit> {
        self.meaning().units()
    }

    /// The shape of an image, where sequences are images.
    pub fn image_shape(&self) -> Option<ImageShape> {
        self.meaning().image_shape()
    }

    /// The classes' names; empty where there are no labels.
    pub fn class_names(&self) -> &[String] {
        self.meaning().class_names()
    }

    /// The text that it is, if it is one.
    pub fn text(&self) -> Option<&TextSubject> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The image that it is, if it is one.
    pub fn image(&self) -> Option<&ImageSubject> {
        match self {
            Self::Image(image) => Some(image),
            _ => None,
        }
    }

    /// The point that it is, if it is one.
    pub fn point(&self) -> Option<&PointSubject> {
        match self {
            Self::Point(point) => Some(point),
            _ => None,
        }
    }
}
