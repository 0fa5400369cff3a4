//! Sizes of a U-Net, and what they must satisfy.

use serde::{Deserialize, Serialize};

use super::layers::GROUPS;
use crate::subtoken::SubTokenizer;
use crate::{Error, Result};

/// Sizes of a U-Net. Level i, from full resolution down, has m·`channel_mult`\[i\] channels and is reduced by the
/// factor 2^i in height and width.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UnetConfig {
    /// Colour channels k, which are the tokens of a pixel.
    pub channels: usize,
    /// Height H in pixels, divisible by the factor of the last level.
    pub height: usize,
    /// Width W in pixels, divisible by the factor of the last level.
    pub width: usize,
    /// Base channels m; all levels' channels are divisible by 32, those of the first also by k and then by ℓ.
    pub model_channels: usize,
    /// Channels of every level over m.
    pub channel_mult: Vec<usize>,
    /// Residual blocks r per level on the way down; one more on the way up.
    pub res_blocks: usize,
    /// Factors of the levels whose residual blocks are followed by attention. The middle always has it.
    pub attention_resolutions: Vec<usize>,
    /// Channels of an attention head; even, and a divisor of the channels where there is attention.
    pub head_channels: usize,
    /// Dropout while training, in [0, 1).
    pub dropout: f64,
    /// Number of classes of labelled images; `None`: the network takes no labels.
    #[serde(default)]
    pub classes: Option<usize>,
}

impl UnetConfig {
    /// The published size for 32×32 colour images (CIFAR-10, ImageNet-32), without labels.
    pub fn cifar10() -> Self {
        Self {
            channels: 3,
            height: 32,
            width: 32,
            model_channels: 96,
            channel_mult: vec![3, 4, 4],
            res_blocks: 5,
            attention_resolutions: vec![2],
            head_channels: 64,
            dropout: 0.4,
            classes: None,
        }
    }

    /// L = k·H·W, the tokens of an image.
    pub fn tokens(&self) -> usize {
        self.channels * self.pixels()
    }

    /// Pixels of an image, H·W.
    pub(super) fn pixels(&self) -> usize {
        self.height * self.width
    }

    /// Channels of every level, from full resolution down.
    pub(super) fn widths(&self) -> Vec<usize> {
        self.channel_mult.iter().map(|mult| mult * self.model_channels).collect()
    }

    /// 4m, width of what a residual block is conditioned on.
    pub(super) fn cond_dim(&self) -> usize {
        4 * self.model_channels
    }

    /// Checks the sizes against a sub-tokenizer.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming the field, the value and what is allowed.
    pub fn validate(&self, codes: &SubTokenizer) -> Result<()> {
        let positive = [
            ("channels", self.channels),
            ("data.height", self.height),
            ("data.width", self.width),
            ("model.model_channels", self.model_channels),
            ("model.res_blocks", self.res_blocks),
            ("model.head_channels", self.head_channels),
            ("model.classes", self.classes.unwrap_or(1)),
        ];
        if let Some((field, _)) = positive.iter().find(|(_, value)| *value == 0) {
            return Err(Error::invalid(*field, 0, "at least 1"));
        }
        if !(0.0..1.0).contains(&self.dropout) {
            return Err(Error::invalid("model.dropout", self.dropout, "a number in [0, 1)"));
        }
        self.validate_levels()?;
        self.validate_embedding(codes.subtoken_len())?;
        self.validate_heads()
    }

    /// Levels and the image's halvings.
    fn validate_levels(&self) -> Result<()> {
        let mult = format!("{:?}", self.channel_mult);
        if self.channel_mult.is_empty() || self.channel_mult.contains(&0) {
            return Err(Error::invalid(
                "model.channel_mult",
                mult,
                "one number of at least 1 for every level",
            ));
        }
        let levels = self.channel_mult.len();
        for (field, size) in [("data.height", self.height), ("data.width", self.width)] {
            if size.trailing_zeros() as usize + 1 < levels {
                let allowed = format!("a multiple of 2^{}: it is halved between {levels} levels", levels - 1);
                return Err(Error::invalid(field, size, allowed));
            }
        }
        let divisible = |width: usize| width.is_multiple_of(GROUPS);
        if !self.widths().into_iter().all(divisible) {
            let allowed = format!(
                "times every one of channel_mult = {mult} a multiple of {GROUPS}, the groups of a norm"
            );
            return Err(Error::invalid("model.model_channels", self.model_channels, allowed));
        }
        Ok(())
    }

    /// The first level's channels are shared by k colour channels of ℓ digits each.
    fn validate_embedding(&self, subtoken_len: usize) -> Result<()> {
        let width = self.widths()[0];
        if width.is_multiple_of(self.channels * subtoken_len) {
            return Ok(());
        }
        let allowed = format!(
            "times channel_mult[0] = {} a multiple of channels · subtoken_len = {} · {subtoken_len}",
            self.channel_mult[0], self.channels
        );
        Err(Error::invalid("model.model_channels", self.model_channels, allowed))
    }

    /// Attention stands at levels that exist, in whole heads.
    fn validate_heads(&self) -> Result<()> {
        let widths = self.widths();
        let factors: Vec<usize> = (0..widths.len()).map(|level| 1 << level).collect();
        if let Some(factor) = self.attention_resolutions.iter().find(|factor| !factors.contains(factor)) {
            let allowed = format!("factors of the levels, of {factors:?}");
            return Err(Error::invalid("model.attention_resolutions", factor, allowed));
        }
        let attended = |level: &usize| {
            self.attention_resolutions.contains(&factors[*level]) || level + 1 == widths.len()
        };
        let heads = self.head_channels;
        let whole = |level: usize| widths[level].is_multiple_of(heads);
        if !heads.is_multiple_of(2) || !(0..widths.len()).filter(attended).all(whole) {
            let attended: Vec<usize> =
                (0..widths.len()).filter(attended).map(|level| widths[level]).collect();
            let allowed = format!("an even divisor of the channels where there is attention, {attended:?}");
            return Err(Error::invalid("model.head_channels", heads, allowed));
        }
        Ok(())
    }
}
