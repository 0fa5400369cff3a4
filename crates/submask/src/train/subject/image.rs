//! Runs on images.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::image_stamp::ImageStamp;
use super::{HeldOutData, Learnt, Opened, sequences_tokens};
use crate::data::Batcher;
use crate::data::image::{
    Background, Columns, Grid, ImageSet, ImageShape, ImageSource, LeftOut, Part, PictureFormat, SixteenBits,
    TrainingImages, earlier_formats,
};
use crate::model::{Architecture, Generated, HeldOut, ImageSubject, ModelConfig, Subject};
use crate::train::event::{DataNote, Event, HeldOutBy, ImagesRead, Observer};
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
    /// CIFAR-10, binary or Python version.
    Cifar10,
    /// CIFAR-100 likewise.
    Cifar100,
    /// IDX files (MNIST, Fashion-MNIST).
    Idx,
    /// An `.npz` file as Keras has them (`mnist.npz`).
    Npz,
    /// ImageNet-32 or -64, `.npz` or pickled batches.
    #[serde(rename = "imagenet")]
    ImageNet,
    /// Picture files, or parquet files of pictures.
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
    /// Whether the folder that a picture is in is its class, or the label column of a parquet file; `pictures` only.
    pub labelled: bool,
    /// What transparent pixels are put on; `pictures` only.
    pub background: Background,
    /// What is done with 16 bits per channel; `pictures` only.
    #[serde(default)]
    pub sixteen_bits: SixteenBits,
    /// Which formats are picked out of folders; `pictures` only.
    #[serde(default = "earlier_formats")]
    pub formats: Vec<PictureFormat>,
    /// The column of parquet files with pictures; empty: `image` or `img`. `pictures` only.
    #[serde(default)]
    pub image_field: String,
    /// The column of parquet files with labels; empty: `label`, `labels` or `fine_label`. `pictures` only.
    #[serde(default)]
    pub label_field: String,
    /// Whether the classes are the 20 coarse ones; `cifar100` only.
    #[serde(default)]
    pub coarse_labels: bool,
    /// Whether what the files themselves hold out is held out: folders `val` and `test`, parquet files whose names begin
    /// so, and `val_data` of ImageNet.
    #[serde(default)]
    pub official_split: bool,
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
            let allowed = "[]: the emoji are built in; data.set says what files are: pictures, idx, npz, imagenet, \
                           cifar10 or cifar100";
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
        self.check_pictures()?;
        if self.coarse_labels && self.set != ImageSetChoice::Cifar100 {
            return Err(Error::invalid("data.coarse_labels", true, "false: it is read by cifar100 only"));
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

    /// Checks what is read by pictures only.
    fn check_pictures(&self) -> Result<()> {
        if self.set == ImageSetChoice::Pictures {
            if self.formats.is_empty() {
                return Err(Error::invalid("data.formats", "[]", "at least one format, such as \"png\""));
            }
            if !self.label_field.is_empty() && !self.labelled {
                let allowed = "\"\", or data.labelled = true: without it no labels are read";
                return Err(Error::invalid("data.label_field", &self.label_field, allowed));
            }
            return Ok(());
        }
        let refuse = |field: &str, given: &str, allowed: &str| {
            Err(Error::invalid(field, given, format!("{allowed}: it is read by pictures only")))
        };
        if self.labelled {
            return refuse("data.labelled", "true", "false");
        }
        if self.background != Background::None {
            return refuse("data.background", self.background.name(), "none");
        }
        if self.sixteen_bits != SixteenBits::Refuse {
            return refuse("data.sixteen_bits", "round", "refuse");
        }
        if self.formats != PictureFormat::ALL && self.formats != earlier_formats() {
            return refuse("data.formats", "a choice", "all");
        }
        for (field, given) in
            [("data.image_field", &self.image_field), ("data.label_field", &self.label_field)]
        {
            if !given.is_empty() {
                return refuse(field, given, "\"\"");
            }
        }
        Ok(())
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
    /// [`Error::Invalid`] for several files of `idx` or `npz`, and emoji that are not square.
    pub fn source_of(&self, paths: &[PathBuf], labels: &Path) -> Result<ImageSource> {
        let paths = paths.to_vec();
        let single = |paths: Vec<PathBuf>, name: &str| match <[PathBuf; 1]>::try_from(paths) {
            Ok([path]) => Ok(path),
            Err(paths) => {
                let given = format!("{} paths", paths.len());
                Err(Error::invalid("data.paths", given, format!("one file of images for the set {name}")))
            }
        };
        Ok(match self.set {
            ImageSetChoice::Emoji if self.height != self.width => {
                return Err(Error::invalid("data.width", self.width, format!("{}, the height", self.height)));
            }
            ImageSetChoice::Emoji => ImageSource::Emoji { size: self.height },
            ImageSetChoice::Cifar10 => ImageSource::Cifar10 { paths },
            ImageSetChoice::Cifar100 => ImageSource::Cifar100 { paths, coarse: self.coarse_labels },
            ImageSetChoice::ImageNet => ImageSource::ImageNet { paths },
            ImageSetChoice::Npz => ImageSource::Npz { path: single(paths, "npz")? },
            ImageSetChoice::Pictures => ImageSource::Pictures {
                paths,
                height: self.height,
                width: self.width,
                labelled: self.labelled,
                background: self.background,
                sixteen_bits: self.sixteen_bits,
                formats: self.formats.clone(),
                official_split: self.official_split,
                columns: Columns { image: self.image_field.clone(), label: self.label_field.clone() },
            },
            ImageSetChoice::Idx => {
                let has_labels = !labels.as_os_str().is_empty();
                let labels = has_labels.then(|| labels.to_path_buf());
                ImageSource::Idx { images: single(paths, "idx")?, labels }
            }
        })
    }

    /// The training images and those held out.
    ///
    /// # Errors
    /// Of the files, and [`Error::Invalid`] where nothing is held out or nothing is left.
    pub fn load(&self, seed: u64) -> Result<ImageParts> {
        let source = self.source()?;
        let train = ImageSet::load(&source)?;
        let mut left_out = vec![train.left_out().clone()];
        let (valid, held_out) = match self.valid_source()? {
            Some(valid) => {
                let valid = ImageSet::load(&valid)?;
                left_out.push(valid.left_out().clone());
                if self.official_split && source.open_part(Part::Valid)?.is_some() {
                    let note = "data.valid_paths is given: what the files themselves hold out is not used"
                        .to_owned();
                    left_out.push(LeftOut { notes: vec![note], ..LeftOut::default() });
                }
                (valid, HeldOutBy::Paths)
            }
            None => match self.official_valid(&source)? {
                Some(valid) => (valid, HeldOutBy::Files),
                None => {
                    let (train, valid) = train.split(self.valid_fraction, seed)?;
                    return Ok(ImageParts { train, valid, held_out: HeldOutBy::Share, left_out });
                }
            },
        };
        let valid = self.as_trained_on(valid, &train, held_out)?;
        Ok(ImageParts { train, valid, held_out, left_out })
    }

    /// What the files themselves hold out.
    fn official_valid(&self, source: &ImageSource) -> Result<Option<ImageSet>> {
        if self.official_split { ImageSet::load_part(source, Part::Valid) } else { Ok(None) }
    }

    /// Held-out images with the labels of the training images, whose shape and classes they must have.
    fn as_trained_on(&self, valid: ImageSet, train: &ImageSet, held_out: HeldOutBy) -> Result<ImageSet> {
        if valid.shape() != train.shape() {
            let given = format!("images of {}", valid.shape());
            return Err(Error::invalid(
                "data.valid_paths",
                given,
                format!("{}, as data.paths", train.shape()),
            ));
        }
        valid.with_classes(train.class_names()).ok_or_else(|| {
            let unknown = valid.class_names().iter().find(|name| !train.class_names().contains(name));
            let given = match unknown {
                Some(name) => format!("the class {name}"),
                None => format!("{} classes", valid.class_names().len()),
            };
            match held_out {
                HeldOutBy::Files => {
                    let place = self.paths.first().cloned().unwrap_or_default();
                    Error::format(
                        place,
                        format!("its held-out images are of {given}, which no training image is of"),
                    )
                }
                _ => {
                    let allowed = format!("the {} classes of data.paths", train.class_names().len());
                    Error::invalid("data.valid_paths", given, allowed)
                }
            }
        })
    }
}

/// The images of a run.
#[derive(Clone, Debug)]
pub struct ImageParts {
    /// Those to train on.
    pub train: ImageSet,
    /// Those held out.
    pub valid: ImageSet,
    /// How they were chosen.
    pub held_out: HeldOutBy,
    /// What of the files is not read.
    pub left_out: Vec<LeftOut>,
}

impl ImageParts {
    /// What a run tells of them.
    pub fn read(&self) -> ImagesRead {
        ImagesRead {
            train: self.train.counts(),
            valid: self.valid.counts(),
            held_out: self.held_out,
            left_out: self.left_out.clone(),
        }
    }
}

impl Learnt for ImageData {
    fn check(&self, _: &RunSettings) -> Result<Option<Subject>> {
        self.validate()?;
        // A name of a class stands for those that are not read yet.
        Ok(self.known_shape().map(|shape| self.subject(shape, &["0".to_owned()])))
    }

    fn open(&self, request: &RunRequest, joins: bool, observer: &mut dyn Observer) -> Result<Opened> {
        let settings = &request.settings;
        let seed = settings.train.seed;
        let parts = self.load(seed)?;
        observer.notify(&Event::Data(DataNote::Images(parts.read())));
        let ImageParts { train, valid, .. } = parts;
        let config = settings.config(self.subject(train.shape(), train.class_names()));
        config.validate()?;
        let architecture = Architecture::new(config, None)?;
        let train = TrainingImages::new(train, seed).with_flips(self.flips);
        let train = train.with_super_tokens(self.super_tokens)?;
        let stamp = ImageStamp::of(&train, &valid);
        match request.resume || joins {
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
