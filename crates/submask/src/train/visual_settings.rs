//! Everything that determines a training run on images or points, as it stands in `settings.toml`.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::settings::TrainSettings;
use crate::data::image::{Background, ImageSet, ImageShape, ImageSource};
use crate::model::visual::{Subject, VisualConfig, VisualSettings};
use crate::model::{FORMAT_VERSION, ScheduleSettings};
use crate::sampler::ImageSampling;
use crate::{Error, Result};

/// Settings of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VisualRunSettings {
    /// The images, or the distribution of points.
    pub data: VisualData,
    /// The network and how tokens become sub-tokens.
    pub model: VisualSettings,
    /// The noise schedule.
    pub schedule: ScheduleSettings,
    /// The training loop.
    pub train: TrainSettings,
    /// How samples are drawn while training and by default afterwards.
    pub sample: ImageSampling,
}

/// What is learnt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum VisualData {
    /// A set of images.
    Images(ImageDataSettings),
    /// Points whose density is a picture.
    Density(DensitySettings),
}

/// Which images.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ImageSetChoice {
    /// The built-in emoji.
    Emoji,
    /// CIFAR-10, binary version.
    Cifar10,
    /// IDX files (MNIST, Fashion-MNIST).
    Idx,
    /// ImageNet-32 or -64, `.npz` or pickled batches.
    #[serde(rename = "imagenet")]
    ImageNet,
    /// Picture files.
    Pictures,
}

/// A set of images and what is held out of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageDataSettings {
    /// Which set.
    pub set: ImageSetChoice,
    /// Files and folders; `emoji` needs none, `idx` takes one file of images.
    pub paths: Vec<PathBuf>,
    /// The file of labels of `idx`; empty: none. No other set reads it.
    pub labels: PathBuf,
    /// Height H in pixels of `emoji` and `pictures`; the other sets have their own.
    pub height: usize,
    /// Width W in pixels likewise; for `emoji` it equals H.
    pub width: usize,
    /// Whether the folder that a picture is in is its class; `pictures` only.
    pub labelled: bool,
    /// What transparent pixels are put on; `pictures` only.
    pub background: Background,
    /// Whether half of the training images are mirrored left to right.
    pub flips: bool,
    /// Share of the images that is held out for validation, in (0, 1), where `valid_paths` is empty.
    pub valid_fraction: f64,
    /// Files and folders of images held out; empty: a part of `paths`.
    pub valid_paths: Vec<PathBuf>,
    /// The file of labels of `valid_paths`, for `idx`.
    pub valid_labels: PathBuf,
}

/// A distribution over the cells of a square.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DensitySettings {
    /// The picture: the darker a cell, the likelier it is.
    pub image: PathBuf,
    /// Number of rows, and of columns.
    pub cells: usize,
    /// Most points per validation; where `train.validate_sequences` or `train.final_sequences` is 0, there are as many
    /// as this.
    pub valid_points: u64,
}

impl ImageDataSettings {
    /// Whether `height` and `width` say how large the images are.
    fn has_size(&self) -> bool {
        matches!(self.set, ImageSetChoice::Emoji | ImageSetChoice::Pictures)
    }

    /// Checks everything that can be checked without the files. What a set does not read must not be given.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming the key, the value and what is allowed.
    fn validate(&self) -> Result<()> {
        let is_emoji = self.set == ImageSetChoice::Emoji;
        if is_emoji && !(self.paths.is_empty() && self.valid_paths.is_empty()) {
            let given = self.paths.first().or(self.valid_paths.first());
            let given = given.map_or_else(String::new, |path| path.display().to_string());
            let allowed = "[]: the emoji are built in; data.set says what files are: pictures, idx, imagenet or \
                           cifar10";
            return Err(Error::invalid("data.paths", given, allowed));
        }
        let files = [("data.labels", &self.labels), ("data.valid_labels", &self.valid_labels)];
        let unread = files.into_iter().find(|(key, path)| {
            let read =
                self.set == ImageSetChoice::Idx && (*key == "data.labels" || !self.valid_paths.is_empty());
            !path.as_os_str().is_empty() && !read
        });
        if let Some((key, path)) = unread {
            return Err(Error::invalid(
                key,
                path.display(),
                "\"\": it is read with images of idx files only",
            ));
        }
        if self.labelled && self.set != ImageSetChoice::Pictures {
            return Err(Error::invalid("data.labelled", true, "false: it is read by pictures only"));
        }
        if self.background != Background::None && self.set != ImageSetChoice::Pictures {
            return Err(Error::invalid(
                "data.background",
                self.background.name(),
                "none: it is read by pictures only",
            ));
        }
        if is_emoji || !self.paths.is_empty() {
            self.source()?;
            self.valid_source()?;
        }
        match self.valid_paths.is_empty() {
            true => super::settings::in_open_unit("data.valid_fraction", self.valid_fraction),
            false => Ok(()),
        }
    }

    /// Where the images come from.
    pub fn source(&self) -> Result<ImageSource> {
        self.source_of(&self.paths, &self.labels)
    }

    /// Where held-out images come from, if not from the same files.
    pub fn valid_source(&self) -> Result<Option<ImageSource>> {
        match self.valid_paths.is_empty() {
            true => Ok(None),
            false => self.source_of(&self.valid_paths, &self.valid_labels).map(Some),
        }
    }

    /// The same set from other files.
    ///
    /// # Errors
    /// [`Error::Invalid`] for several files of `idx`, and emoji that are not square.
    pub fn source_of(&self, paths: &[PathBuf], labels: &Path) -> Result<ImageSource> {
        let paths = paths.to_vec();
        Ok(match self.set {
            ImageSetChoice::Emoji if self.height != self.width => {
                return Err(Error::invalid("data.width", self.width, format!("{}, the height", self.height)));
            }
            ImageSetChoice::Emoji => ImageSource::Emoji { size: self.height },
            ImageSetChoice::Cifar10 => ImageSource::Cifar10 { paths },
            ImageSetChoice::ImageNet => ImageSource::ImageNet { paths },
            ImageSetChoice::Pictures => {
                let (height, width) = (self.height, self.width);
                let (labelled, background) = (self.labelled, self.background);
                ImageSource::Pictures { paths, height, width, labelled, background }
            }
            ImageSetChoice::Idx => match <[PathBuf; 1]>::try_from(paths) {
                Ok([images]) => {
                    let has_labels = !labels.as_os_str().is_empty();
                    ImageSource::Idx { images, labels: has_labels.then(|| labels.to_path_buf()) }
                }
                Err(paths) => {
                    let given = format!("{} paths", paths.len());
                    return Err(Error::invalid("data.paths", given, "one file of images for the set idx"));
                }
            },
        })
    }

    /// The training images and those held out.
    ///
    /// # Errors
    /// Of the files, and [`Error::Invalid`] where nothing is held out or nothing is left.
    pub fn load(&self, seed: u64) -> Result<(ImageSet, ImageSet)> {
        let all = ImageSet::load(&self.source()?)?;
        let Some(valid) = self.valid_source()? else { return all.split(self.valid_fraction, seed) };
        let valid = ImageSet::load(&valid)?;
        if valid.shape() != all.shape() {
            let given = format!("images of {}", valid.shape());
            return Err(Error::invalid("data.valid_paths", given, format!("{}, as data.paths", all.shape())));
        }
        if valid.class_names() != all.class_names() {
            let given = format!("{} classes", valid.class_names().len());
            let allowed = format!("the {} classes of data.paths", all.class_names().len());
            return Err(Error::invalid("data.valid_paths", given, allowed));
        }
        Ok((all, valid))
    }
}

/// Intensities of a colour channel.
const LEVELS: usize = 256;

impl VisualRunSettings {
    /// The configuration of the model, for images of `shape` with these classes.
    pub fn config(&self, shape: Option<ImageShape>, class_names: &[String]) -> VisualConfig {
        let subject = match (&self.data, shape) {
            (VisualData::Density(density), _) => Subject::Point { cells: density.cells },
            (VisualData::Images(data), shape) => {
                let shape =
                    shape.unwrap_or(ImageShape { channels: 3, height: data.height, width: data.width });
                Subject::Image {
                    channels: shape.channels,
                    height: shape.height,
                    width: shape.width,
                    levels: LEVELS,
                    class_names: class_names.to_vec(),
                }
            }
        };
        VisualConfig {
            format_version: FORMAT_VERSION,
            subject,
            model: self.model.clone(),
            schedule: self.schedule,
            sample: self.sample.clone(),
        }
    }

    /// Checks everything that can be checked without the images.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming the key, the value and what is allowed.
    pub fn validate(&self) -> Result<()> {
        self.train.validate()?;
        self.schedule.schedule().validate()?;
        self.sample.validate()?;
        match &self.data {
            VisualData::Images(data) => {
                data.validate()?;
                match data.has_size() {
                    // Names of classes stand for those that are not read yet.
                    true => self.config(None, &["0".to_owned()]).validate(),
                    false => Ok(()),
                }
            }
            VisualData::Density(data) => {
                if data.valid_points == 0 {
                    return Err(Error::invalid("data.valid_points", 0, "at least 1"));
                }
                self.config(None, &[]).validate()
            }
        }
    }
}
