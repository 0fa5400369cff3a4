//! Runs on images.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::image_stamp::ImageStamp;
use super::{HeldOutData, Learnt, Opened, sequences_tokens};
use crate::data::Batcher;
use crate::data::image::{Background, Grid, ImageSet, ImageShape, ImageSource, TrainingImages};
use crate::model::{Architecture, Generated, HeldOut, ImageSubject, ModelConfig, Subject};
use crate::train::event::Observer;
use crate::train::run::RunRequest;
use crate::train::settings::{RunSettings, in_open_unit};
use crate::{Error, Result};

/// Intensities of a colour channel.
const LEVELS: usize = 256;
/// Images in a row of a picture of samples.
const COLUMNS: usize = 8;
/// How many times larger a picture of samples shows them.
const SCALE: usize = 2;

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
pub struct ImageData {
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
    /// Whether the three bytes of a pixel are two tokens of 12 bits (math.md §8).
    #[serde(default)]
    pub super_tokens: bool,
    /// Whether half of the training images are mirrored left to right.
    pub flips: bool,
    /// Share of the images that is held out for validation, in (0, 1), where `valid_paths` is empty.
    pub valid_fraction: f64,
    /// Files and folders of images held out; empty: a part of `paths`.
    pub valid_paths: Vec<PathBuf>,
    /// The file of labels of `valid_paths`, for `idx`.
    pub valid_labels: PathBuf,
}

impl ImageData {
    /// The shape of the images, where `height` and `width` say it and not the files.
    fn known_shape(&self) -> Option<ImageShape> {
        let is_chosen = matches!(self.set, ImageSetChoice::Emoji | ImageSetChoice::Pictures);
        is_chosen.then_some(ImageShape { channels: 3, height: self.height, width: self.width })
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
            true => in_open_unit("data.valid_fraction", self.valid_fraction),
            false => Ok(()),
        }
    }

    /// What the tokens of images of a shape mean.
    pub fn subject(&self, shape: ImageShape, class_names: &[String]) -> Subject {
        Subject::Image(ImageSubject {
            channels: shape.channels,
            height: shape.height,
            width: shape.width,
            levels: LEVELS,
            super_tokens: self.super_tokens,
            class_names: class_names.to_vec(),
        })
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

impl Learnt for ImageData {
    fn check(&self, _: &RunSettings) -> Result<Option<Subject>> {
        self.validate()?;
        // A name of a class stands for those that are not read yet.
        Ok(self.known_shape().map(|shape| self.subject(shape, &["0".to_owned()])))
    }

    fn open(&self, request: &RunRequest, _: &mut dyn Observer) -> Result<Opened> {
        let settings = &request.settings;
        let seed = settings.train.seed;
        let (train, valid) = self.load(seed)?;
        let config = settings.config(self.subject(train.shape(), train.class_names()));
        config.validate()?;
        let architecture = Architecture::new(config, None)?;
        let train = TrainingImages::new(train, seed).with_flips(self.flips);
        let train = train.with_super_tokens(self.super_tokens)?;
        let stamp = ImageStamp::of(&train, &valid);
        match request.resume {
            true => stamp.check(&request.out)?,
            false => stamp.write(&request.out)?,
        }
        Ok(Opened {
            train_tokens: sequences_tokens(&train),
            valid_tokens: Some((valid.len() * architecture.config().seq_len()) as u64),
            batcher: Batcher::new(train, seed)?,
            held_out: Box::new(valid),
            fidelity: None,
            architecture,
        })
    }
}

impl HeldOutData for ImageSet {
    fn sequences(&self, config: &ModelConfig, count: u64) -> Result<HeldOut> {
        HeldOut::of_images(self, config, count)
    }

    fn show(&self, config: &ModelConfig, generated: Generated, path: &Path) -> Result<Vec<String>> {
        let Some(image) = config.subject.image() else {
            return Err(Error::internal("a model that is trained on images is of images")(&config.subject));
        };
        let images = generated.tokens.iter().map(|x_0| image.pixels_of(x_0)).collect::<Result<Vec<_>>>()?;
        Grid { columns: COLUMNS, scale: SCALE }.write(path, &images, image.shape())?;
        Ok(vec![path.display().to_string()])
    }
}
