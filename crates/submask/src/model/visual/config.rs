//! `config.json` of a model of images or of points, and what follows from it.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::VisualNetwork;
use crate::backbone::unet::UnetConfig;
use crate::data::image::{ImageShape, super_tokens};
use crate::durable::write_atomically;
use crate::model::{CONFIG_FILE, FORMAT_VERSION, ScheduleSettings};
use crate::ops::Kernels;
use crate::sampler::ImageSampling;
use crate::subtoken::SubTokenizer;
use crate::{Error, Result};

/// Tokens of a point: its row and its column.
pub const POINT_TOKENS: usize = 2;

/// Largest height, width, and number of cells on a side.
const MAX_SIDE: usize = 1024;
/// Most colour channels.
const MAX_CHANNELS: usize = 16;
/// Super-tokens of a pixel (math.md §8).
const SUPER_TOKENS: usize = 2;

/// What the tokens of one sequence are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Subject {
    /// An image: a token is a colour channel of a pixel.
    Image {
        /// k, colour channels.
        channels: usize,
        /// H in pixels.
        height: usize,
        /// W in pixels.
        width: usize,
        /// Intensities of a channel, 256 but for foreign models.
        levels: usize,
        /// The classes' names; empty where there are no labels.
        class_names: Vec<String>,
    },
    /// A cell of a square: two tokens, its row and its column.
    Point {
        /// Rows, and columns.
        cells: usize,
    },
}

/// Sizes of the U-Net, and how its images are written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UnetSettings {
    /// ℓ, sub-tokens a token.
    pub subtokens: usize,
    /// Whether tokens that contradict a visible digit are excluded (math.md §3).
    pub carry_over: bool,
    /// Whether the three bytes of a pixel are two tokens of 12 bits (math.md §8).
    pub super_tokens: bool,
    /// Whether the network reads the class of an image.
    pub class_conditional: bool,
    /// m.
    pub model_channels: usize,
    /// Channels of every level over m.
    pub channel_mult: Vec<usize>,
    /// r, residual blocks a level.
    pub res_blocks: usize,
    /// Factors of the levels with attention.
    pub attention_resolutions: Vec<usize>,
    /// Channels of an attention head.
    pub head_channels: usize,
    /// Dropout in [0, 1).
    pub dropout: f64,
}

/// Sizes of the toy network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ToySettings {
    /// ℓ, sub-tokens a token.
    pub subtokens: usize,
    /// Whether tokens that contradict a visible digit are excluded (math.md §3).
    pub carry_over: bool,
    /// w.
    pub hidden: usize,
    /// Dropout in [0, 1).
    pub dropout: f64,
}

/// The network and the sub-tokens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "network", rename_all = "kebab-case")]
pub enum VisualSettings {
    /// The U-Net, for images.
    Unet(UnetSettings),
    /// The toy network, for points.
    Toy(ToySettings),
}

/// `config.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VisualConfig {
    /// Version of the format.
    pub format_version: u32,
    /// What a sequence of tokens is.
    pub subject: Subject,
    /// Network and sub-tokens.
    pub model: VisualSettings,
    /// Noise schedule.
    pub schedule: ScheduleSettings,
    /// Default sampling.
    pub sample: ImageSampling,
}

impl VisualSettings {
    /// ℓ.
    pub fn subtokens(&self) -> usize {
        match self {
            Self::Unet(UnetSettings { subtokens, .. }) | Self::Toy(ToySettings { subtokens, .. }) => {
                *subtokens
            }
        }
    }

    /// Whether tokens that contradict a visible digit are excluded.
    pub fn carry_over(&self) -> bool {
        match self {
            Self::Unet(UnetSettings { carry_over, .. }) | Self::Toy(ToySettings { carry_over, .. }) => {
                *carry_over
            }
        }
    }

    /// Dropout while training.
    pub fn dropout(&self) -> f64 {
        match self {
            Self::Unet(UnetSettings { dropout, .. }) | Self::Toy(ToySettings { dropout, .. }) => *dropout,
        }
    }

    /// Whether a pixel is two tokens of 12 bits.
    pub fn super_tokens(&self) -> bool {
        matches!(self, Self::Unet(UnetSettings { super_tokens: true, .. }))
    }
}

impl VisualConfig {
    /// Whether `folder` holds the `config.json` of a model of images or points.
    pub fn is_in(folder: &Path) -> bool {
        let text = fs::read_to_string(folder.join(CONFIG_FILE)).unwrap_or_default();
        let json: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
        json.get("subject").is_some()
    }

    /// Reads `config.json` in `folder`.
    ///
    /// # Errors
    /// [`Error::Io`] and [`Error::Format`] naming the file and what is wrong.
    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(CONFIG_FILE);
        let text = fs::read_to_string(&path).map_err(Error::io(&path))?;
        let config: Self =
            serde_json::from_str(&text).map_err(|error| Error::format(&path, error.to_string()))?;
        if config.format_version != FORMAT_VERSION {
            let problem =
                format!("format_version is {}, this program reads {FORMAT_VERSION}", config.format_version);
            return Err(Error::format(&path, problem));
        }
        config.validate()?;
        Ok(config)
    }

    /// Writes `config.json` into `folder`.
    ///
    /// # Errors
    /// [`Error::Io`] naming the file.
    pub fn write(&self, folder: &Path) -> Result<()> {
        let path = folder.join(CONFIG_FILE);
        let text =
            serde_json::to_string_pretty(self).map_err(|error| Error::format(&path, error.to_string()))?;
        write_atomically(&path, text.as_bytes())
    }

    /// Checks that everything goes together.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming the key, the value and what is allowed.
    pub fn validate(&self) -> Result<()> {
        self.schedule.schedule().validate()?;
        self.sample.validate()?;
        self.validate_subject()?;
        let dropout = self.model.dropout();
        if !(0.0..1.0).contains(&dropout) {
            return Err(Error::invalid("model.dropout", dropout, "a number in [0, 1)"));
        }
        VisualNetwork::new(self, &self.codes()?, Kernels::Plain).map(|_| ())
    }

    /// Sizes that memory is taken for.
    fn validate_subject(&self) -> Result<()> {
        let sizes: &[(&str, usize, usize)] = match &self.subject {
            Subject::Image { channels, height, width, levels, .. } => &[
                ("data.height", *height, MAX_SIDE),
                ("data.width", *width, MAX_SIDE),
                ("channels", *channels, MAX_CHANNELS),
                ("levels", *levels, super_tokens::VOCAB_SIZE),
            ],
            Subject::Point { cells } => &[("data.cells", *cells, MAX_SIDE)],
        };
        match sizes.iter().find(|(_, size, most)| !(1..=*most).contains(size)) {
            Some((key, size, most)) => Err(Error::invalid(*key, size, format!("1 to {most}"))),
            None => Ok(()),
        }
    }

    /// C, token classes.
    pub fn vocab_size(&self) -> usize {
        match self.subject {
            Subject::Image { .. } if self.model.super_tokens() => super_tokens::VOCAB_SIZE,
            Subject::Image { levels, .. } => levels,
            Subject::Point { cells } => cells,
        }
    }

    /// L, tokens of a sequence.
    pub fn seq_len(&self) -> usize {
        match self.subject {
            Subject::Image { height, width, .. } => self.tokens_per_pixel() * height * width,
            Subject::Point { .. } => POINT_TOKENS,
        }
    }

    /// Dimensions of a sequence in bits per dimension: the colour channels of all pixels, or the coordinates.
    pub fn dimensions(&self) -> usize {
        self.image_shape().map_or(POINT_TOKENS, |shape| shape.tokens())
    }

    /// The shape of an image, where sequences are images.
    pub fn image_shape(&self) -> Option<ImageShape> {
        match self.subject {
            Subject::Image { channels, height, width, .. } => Some(ImageShape { channels, height, width }),
            Subject::Point { .. } => None,
        }
    }

    /// The classes' names; empty where there are no labels.
    pub fn class_names(&self) -> &[String] {
        match &self.subject {
            Subject::Image { class_names, .. } => class_names,
            Subject::Point { .. } => &[],
        }
    }

    /// Planes of tokens.
    fn tokens_per_pixel(&self) -> usize {
        match self.subject {
            Subject::Image { .. } if self.model.super_tokens() => SUPER_TOKENS,
            Subject::Image { channels, .. } => channels,
            Subject::Point { .. } => POINT_TOKENS,
        }
    }

    /// The sub-tokenizer.
    ///
    /// # Errors
    /// As [`SubTokenizer::new`].
    pub fn codes(&self) -> Result<SubTokenizer> {
        if self.model.subtokens() == 0 {
            return Err(Error::invalid("model.subtokens", 0, "at least 1"));
        }
        SubTokenizer::new(self.vocab_size(), self.model.subtokens())
    }

    /// Number of classes that the network reads, if it does.
    pub fn classes(&self) -> Option<usize> {
        match &self.model {
            VisualSettings::Unet(UnetSettings { class_conditional: true, .. }) => {
                Some(self.class_names().len())
            }
            _ => None,
        }
    }

    /// Tokens of images \[n·k·H·W\], from their intensities: the same, or super-tokens.
    ///
    /// # Errors
    /// [`Error::Invalid`] where they are no whole images.
    pub fn tokens_of(&self, intensities: Vec<u32>) -> Result<Vec<u32>> {
        match self.image_shape() {
            Some(shape) if self.model.super_tokens() => {
                let bytes: Vec<u8> = intensities.iter().map(|intensity| *intensity as u8).collect();
                super_tokens::from_bytes(&bytes, shape.height * shape.width)
            }
            _ => Ok(intensities),
        }
    }

    /// Intensities of the images of `tokens`, as bytes: those of fewer levels than 256 are spread over 0 to 255.
    ///
    /// # Errors
    /// [`Error::Invalid`] where they are no whole images, [`Error::InvalidCode`] for tokens that are none.
    pub fn pixels_of(&self, tokens: &[u32]) -> Result<Vec<u8>> {
        match (&self.subject, self.image_shape()) {
            (_, Some(shape)) if self.model.super_tokens() => {
                super_tokens::to_bytes(tokens, shape.height * shape.width)
            }
            (Subject::Image { levels, .. }, _) => {
                let most = (*levels as u32).saturating_sub(1).max(1);
                Ok(tokens.iter().map(|token| (255 * (*token).min(most) / most) as u8).collect())
            }
            (Subject::Point { .. }, _) => Err(Error::invalid("pixels", "of points", "images")),
        }
    }

    /// The sizes of the U-Net of these images.
    ///
    /// # Errors
    /// [`Error::Invalid`] for labels that are not there, and super-tokens of pictures that are not in colour.
    pub(super) fn unet(&self, settings: &UnetSettings) -> Result<UnetConfig> {
        let Some(shape) = self.image_shape() else {
            return Err(Error::invalid("model.network", "unet", "toy: the data are points"));
        };
        if settings.super_tokens && shape.channels != 3 {
            let given = format!("true, for images of {} channels", shape.channels);
            return Err(Error::invalid("model.super_tokens", given, "false, or images of 3 channels"));
        }
        if settings.class_conditional && self.class_names().is_empty() {
            return Err(Error::invalid("model.class_conditional", true, "false: the images have no labels"));
        }
        Ok(UnetConfig {
            channels: self.tokens_per_pixel(),
            height: shape.height,
            width: shape.width,
            model_channels: settings.model_channels,
            channel_mult: settings.channel_mult.clone(),
            res_blocks: settings.res_blocks,
            attention_resolutions: settings.attention_resolutions.clone(),
            head_channels: settings.head_channels,
            dropout: settings.dropout,
            classes: self.classes(),
        })
    }
}
