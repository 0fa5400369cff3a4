//! Where the images come from, as a value that can stand in a settings file.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::shape::{Image, ImageShape};
use super::{cifar, emoji, idx, imagenet, pictures};
use crate::error::{Error, Result};

/// A set of images.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "set", rename_all = "snake_case", deny_unknown_fields)]
pub enum ImageSource {
    /// The 3,724 built-in emoji of Twemoji on a white background, in colour, labelled by their Unicode group.
    Emoji {
        /// H and W.
        size: usize,
    },
    /// The binary version of CIFAR-10, 32×32 in colour, labelled.
    Cifar10 {
        /// Files, and folders of which every `data_batch_*.bin` is read: the training images.
        paths: Vec<PathBuf>,
    },
    /// IDX files, compressed by gzip or not (MNIST, Fashion-MNIST): one channel.
    Idx {
        /// The file of images, `…-idx3-ubyte`.
        images: PathBuf,
        /// The file of labels, `…-idx1-ubyte`.
        #[serde(default)]
        labels: Option<PathBuf>,
    },
    /// ImageNet reduced to 32×32 or 64×64: `.npz` files or pickled batches with `data` and `labels` of 1 to 1000.
    #[serde(rename = "imagenet")]
    ImageNet {
        /// The files.
        paths: Vec<PathBuf>,
    },
    /// Pictures of any size in files (`.png`, `.jpg`, `.jpeg`, `.webp`, `.bmp`), in colour: the largest part in the
    /// middle that has the wanted proportions is resized. Those of more than 8 bits per channel are refused.
    Pictures {
        /// Files, and folders of which every picture is read, those in folders inside too.
        paths: Vec<PathBuf>,
        /// Height in pixels H.
        height: usize,
        /// Width in pixels W.
        width: usize,
        /// Whether the name of the folder directly inside one of `paths` is a picture's class.
        #[serde(default)]
        labelled: bool,
        /// What is behind transparent pixels.
        #[serde(default)]
        background: Background,
    },
}

/// What transparent pixels of a picture are put on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Background {
    /// Nothing: pictures with transparent pixels are refused.
    #[default]
    None,
    /// White.
    White,
    /// Black.
    Black,
}

impl Background {
    /// As it stands in a settings file.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::White => "white",
            Self::Black => "black",
        }
    }
}

impl ImageSource {
    /// The images, in the order of the paths.
    ///
    /// # Errors
    /// Here, for files that are not there or of another format than they should be, files of different shapes, and
    /// empty sets. The iterator gives an error, naming file and place, for what is malformed further on; it ends after
    /// an error.
    pub fn open(&self) -> Result<Images> {
        let paths = match self {
            Self::Cifar10 { paths } | Self::ImageNet { paths } | Self::Pictures { paths, .. } => Some(paths),
            Self::Emoji { .. } | Self::Idx { .. } => None,
        };
        if paths.is_some_and(Vec::is_empty) {
            return Err(Error::invalid("paths", "[]", "at least one file or folder"));
        }
        match self {
            Self::Emoji { size } => emoji::open(*size),
            Self::Cifar10 { paths } => cifar::open(paths),
            Self::Idx { images, labels } => idx::open(images, labels.as_deref()),
            Self::ImageNet { paths } => imagenet::open(paths),
            Self::Pictures { paths, height, width, labelled, background } => {
                let shape = ImageShape { channels: 3, height: *height, width: *width };
                pictures::open(paths, shape, *labelled, *background)
            }
        }
    }
}

/// The images of an [`ImageSource`], one after the other; ends after the first error.
pub struct Images {
    shape: ImageShape,
    class_names: Vec<String>,
    inner: Box<dyn Iterator<Item = Result<Image>> + Send>,
    failed: bool,
}

impl Images {
    /// Of `shape`; labels are indices of `class_names`, which is empty where there are no labels.
    pub(super) fn new(
        shape: ImageShape,
        class_names: Vec<String>,
        inner: impl Iterator<Item = Result<Image>> + Send + 'static,
    ) -> Self {
        Self { shape, class_names, inner: Box::new(inner), failed: false }
    }

    /// The shape of every image.
    pub fn shape(&self) -> ImageShape {
        self.shape
    }

    /// The classes' names, by label; empty where there are no labels.
    pub fn class_names(&self) -> &[String] {
        &self.class_names
    }
}

impl Iterator for Images {
    type Item = Result<Image>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let item = self.inner.next();
        self.failed = matches!(item, Some(Err(_)));
        item
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_stands_in_a_settings_file() {
        let read = |text: &str| toml::from_str::<ImageSource>(text);
        let source = read("set = \"idx\"\nimages = \"a\"").unwrap();
        assert_eq!(source, ImageSource::Idx { images: "a".into(), labels: None });
        assert_eq!(read("set = \"cifar10\"\npaths = []").unwrap(), ImageSource::Cifar10 { paths: vec![] });
        assert!(
            read("set = \"idx\"\nimages = \"a\"\nlabel = \"b\"").unwrap_err().to_string().contains("label")
        );
    }

    #[test]
    fn no_path_at_all_is_refused() {
        let error = ImageSource::ImageNet { paths: vec![] }.open().err().unwrap().to_string();
        assert!(error.contains("at least one"), "{error}");
    }
}
