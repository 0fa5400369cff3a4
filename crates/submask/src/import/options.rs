//! What is said of a file by whoever imports it.

use super::Family;
use super::foreign::WeightSet;
use crate::data::Tokenizer;
use crate::{Error, Result};

/// What the caller says where the file does not.
#[derive(Clone, Debug, Default)]
pub struct ImportOptions {
    /// Which weights; `None`: the averaged ones where there are any.
    pub weights: Option<WeightSet>,
    /// Number of token classes C. Less than the tables of the weights have rows for: the rows behind are padding, and
    /// left out.
    pub vocab_size: Option<usize>,
    /// Sub-tokens per token ℓ.
    pub subtokens: Option<usize>,
    /// Attention heads.
    pub heads: Option<usize>,
    /// Tokens per sequence L.
    pub seq_len: Option<usize>,
    /// H of images, in pixels.
    pub height: Option<usize>,
    /// W of images, in pixels.
    pub width: Option<usize>,
    /// Channels of an attention head of an image network.
    pub head_channels: Option<usize>,
    /// Tokens per block of block diffusion; 0: none.
    pub block_len: Option<usize>,
    /// Whether tokens that contradict a visible digit are excluded.
    pub carry_over: Option<bool>,
    /// Whether the network reads the time.
    pub time_conditioning: Option<bool>,
    /// The permutation of codes.
    pub permutation: Option<Vec<u32>>,
    /// The tokenizer; `None`: GPT-2's for a vocabulary of its size, otherwise numbers.
    pub tokenizer: Option<ImportTokenizer>,
}

impl ImportOptions {
    /// Refuses what is said of another kind of network.
    pub(super) fn refuse_what_is_not_read(&self, network: Family) -> Result<()> {
        let text = [
            ("model.heads", self.heads.is_some()),
            ("model.seq_len", self.seq_len.is_some()),
            ("model.block_len", self.block_len.is_some()),
            ("model.time_conditioning", self.time_conditioning.is_some()),
            ("codes.assignment.path", self.permutation.is_some()),
            ("tokenizer", self.tokenizer.is_some()),
        ];
        let images = [
            ("height", self.height.is_some()),
            ("width", self.width.is_some()),
            ("model.head_channels", self.head_channels.is_some()),
        ];
        let (settings, what) = match network {
            Family::Unet => (text.to_vec(), "a network of images"),
            Family::Toy => ([&text[..], &images].concat(), "a network of points"),
            _ => (images.to_vec(), "a network of text"),
        };
        match settings.into_iter().find(|(_, given)| *given) {
            Some((setting, _)) => {
                Err(Error::invalid(setting, "given", format!("nothing: the file holds {what}")))
            }
            None => Ok(()),
        }
    }

    /// Whether all is left to the file.
    pub(super) fn says_nothing_of_the_network(&self) -> bool {
        let sizes = [
            self.vocab_size,
            self.subtokens,
            self.heads,
            self.seq_len,
            self.block_len,
            self.height,
            self.width,
            self.head_channels,
        ];
        let choices = [self.carry_over, self.time_conditioning];
        sizes.iter().all(Option::is_none)
            && choices.iter().all(Option::is_none)
            && self.permutation.is_none()
            && self.tokenizer.is_none()
    }
}

/// A tokenizer that the caller names.
#[derive(Clone, Debug)]
pub enum ImportTokenizer {
    /// Numbers, as many as the vocabulary has.
    Numbers,
    /// This one.
    Given(Box<Tokenizer>),
}
