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

use crate::error::one_of;
use crate::{Error, Result};

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
    /// Nats of all sequences together.
    Nats,
    /// Nats per token of the tokenised text, where it does not decode to the text that it was made of.
    NatsPerTokenOfTokenised,
    /// The exponential of that.
    PerplexityOfTokenised,
}

impl Unit {
    /// In figures.
    pub fn name(self) -> &'static str {
        match self {
            Self::BitsPerCharacter => "bits per character",
            Self::NatsPerToken => "nats per token",
            Self::Perplexity => "perplexity per token",
            Self::BitsPerDimension(_) => "bits per dimension",
            Self::NatsPerSequence => "nats per sequence",
            Self::Nats => "nats in total",
            Self::NatsPerTokenOfTokenised => "nats per token of the tokenised text",
            Self::PerplexityOfTokenised => "perplexity per token of the tokenised text",
        }
    }
}

/// What differs from subject to subject.
trait Meaning {
    /// What its sequences are called, in the plural.
    fn name(&self) -> &'static str;

    /// The networks that there are for it, as settings name them.
    fn networks(&self) -> &'static [&'static str];

    /// Number of token classes C.
    fn vocab_size(&self) -> usize;

    /// Tokens per sequence L, where the subject says it.
    fn seq_len(&self) -> Option<usize>;

    /// Checks the sizes.
    fn validate(&self) -> Result<()>;

    /// The units of its likelihoods, the usual one first; of tokens from which their text can be had again, or cannot.
    fn units(&self, is_lossless: bool) -> Vec<Unit>;

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

    /// What its sequences are called, in the plural: `text`, `images`, `points`.
    pub fn name(&self) -> &'static str {
        self.meaning().name()
    }

    /// That a network, as settings name it, is one for this subject.
    ///
    /// # Errors
    /// [`Error::Invalid`] with those that are.
    pub(super) fn check_network(&self, network: &str) -> Result<()> {
        let networks = self.meaning().networks();
        if networks.contains(&network) {
            return Ok(());
        }
        let allowed = format!("{}: the data are {}", one_of(networks), self.name());
        Err(Error::invalid("model.network", network, allowed))
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
    /// [`Error::Invalid`] naming the key, the value and what is allowed.
    pub fn validate(&self) -> Result<()> {
        self.meaning().validate()
    }

    /// The units in which its likelihoods are reported, the usual one first. `is_lossless`: whether the text can be had
    /// again from its tokens; what is no text always can.
    pub fn units(&self, is_lossless: bool) -> Vec<Unit> {
        self.meaning().units(is_lossless)
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
