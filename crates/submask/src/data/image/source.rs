//! Where the images come from, as a value that can stand in a settings file.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::cifar::{self, Cifar};
use super::shape::{Image, ImageShape};
use super::{emoji, idx, imagenet, keras, pictures};
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
    /// CIFAR-10 in its binary or Python version, 32×32 in colour, labelled.
    Cifar10 {
        /// Files, archives (`.tar.gz`, `.tar`), which are read without unpacking them, and folders. Of archives and
        /// folders every `data_batch_*.bin` is read, or every `data_batch_*`: the training images.
        paths: Vec<PathBuf>,
    },
    /// CIFAR-100 likewise.
    Cifar100 {
        /// The same, with the files `train.bin` or `train`.
        paths: Vec<PathBuf>,
        /// Whether the classes are the 20 coarse ones, not the 100 fine ones.
        #[serde(default)]
        coarse: bool,
    },
    /// IDX files, compressed by gzip or not (MNIST, Fashion-MNIST): one channel.
    Idx {
        /// The file of images, `…-idx3-ubyte`.
        images: PathBuf,
        /// The file of labels, `…-idx1-ubyte`.
        #[serde(default)]
        labels: Option<PathBuf>,
    },
    /// An `.npz` file as Keras has them (`mnist.npz`): `x_train` and `x_test`, bytes [N, H, W] or [N, H, W, k] with k of
    /// 1 or 3, and `y_train` and `y_test`, whole numbers.
    Npz {
        /// The file.
        path: PathBuf,
    },
    /// ImageNet reduced to 32×32 or 64×64: `.npz` files or pickled batches with `data` and `labels` of 1 to 1000.
    #[serde(rename = "imagenet")]
    ImageNet {
        /// Files, and folders of which every `train_data_batch_*` is read.
        paths: Vec<PathBuf>,
    },
    /// Pictures of any size in files, in colour: the largest part in the middle that has the wanted proportions is
    /// resized. Of animations the first frame is read, of a TIFF the first page. A file that is not whole is refused.
    Pictures {
        /// Files, and folders of which every picture is read, those in folders inside too.
        paths: Vec<PathBuf>,
        /// Height in pixels H.
        height: usize,
        /// Width in pixels W.
        width: usize,
        /// Whether pictures have classes: the name of the folder directly inside one of `paths` (inside its folder
        /// `train`, … where `official_split` finds some), or the label column of a parquet file.
        #[serde(default)]
        labelled: bool,
        /// What is behind transparent pixels.
        #[serde(default)]
        background: Background,
        /// What is done with 16 bits per channel.
        #[serde(default)]
        sixteen_bits: SixteenBits,
        /// Which formats are picked out of folders.
        #[serde(default = "earlier_formats")]
        formats: Vec<PictureFormat>,
        /// Whether folders `train`, `val` and `test`, and parquet files whose names begin so, are parts.
        #[serde(default)]
        official_split: bool,
        /// Columns of parquet files.
        #[serde(default)]
        columns: Columns,
    },
}

/// Which columns of a parquet file hold pictures and labels.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Columns {
    /// Pictures; empty: `image` or `img`.
    #[serde(default)]
    pub image: String,
    /// Labels; empty: `label`, `labels` or `fine_label`.
    #[serde(default)]
    pub label: String,
}

/// Which of its images a source is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Part {
    /// Those to train on.
    #[default]
    Train,
    /// Those that the files themselves hold out for validation: `val`, or else `test`.
    Valid,
    /// Test images.
    Test,
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

/// What is done with pictures of 16 bits per channel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SixteenBits {
    /// They are refused.
    #[default]
    Refuse,
    /// An intensity x becomes the whole number nearest to x/257: 0 stays 0, and 65535 becomes 255.
    Round,
}

/// A format of pictures, or of files that hold some.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PictureFormat {
    /// `.png`.
    Png,
    /// `.jpg`, `.jpeg`.
    Jpeg,
    /// `.webp`.
    Webp,
    /// `.bmp`.
    Bmp,
    /// `.gif`.
    Gif,
    /// `.tif`, `.tiff`.
    Tiff,
    /// `.parquet`, `.pq`.
    Parquet,
}

impl PictureFormat {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Png, Self::Jpeg, Self::Webp, Self::Bmp, Self::Gif, Self::Tiff, Self::Parquet];

    /// How names of such files end, without the dot.
    pub fn extensions(self) -> &'static [&'static str] {
        match self {
            Self::Png => &["png"],
            Self::Jpeg => &["jpg", "jpeg"],
            Self::Webp => &["webp"],
            Self::Bmp => &["bmp"],
            Self::Gif => &["gif"],
            Self::Tiff => &["tif", "tiff"],
            Self::Parquet => &["parquet", "pq"],
        }
    }

    /// That of a file, by the end of its name.
    pub fn of(path: &Path) -> Option<Self> {
        let extension = path.extension()?.to_str()?.to_ascii_lowercase();
        Self::ALL.into_iter().find(|format| format.extensions().contains(&extension.as_str()))
    }
}

/// The formats that runs of earlier versions picked out of folders.
pub(crate) fn earlier_formats() -> Vec<PictureFormat> {
    use PictureFormat::{Bmp, Jpeg, Png, Webp};
    vec![Png, Jpeg, Webp, Bmp]
}

impl ImageSource {
    /// The images to train on, in the order of the paths.
    ///
    /// # Errors
    /// Here, for files that are not there or of another format than they should be, files of different shapes, and
    /// empty sets. The iterator gives an error, naming file and place, for what is malformed further on; it ends after
    /// an error.
    pub fn open(&self) -> Result<Images> {
        let missing = || {
            let place = self.paths().first().cloned().unwrap_or_default();
            Error::format(place, "there are no images to train on: only held-out or test images are there")
        };
        self.open_part(Part::Train)?.ok_or_else(missing)
    }

    /// The images of a part; `None` where the files have no such part.
    ///
    /// A file that is named by itself is read as training images, whatever it is called: whoever names it knows what it
    /// is. Archives, parquet files and `.npz` files have parts.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_part(&self, part: Part) -> Result<Option<Images>> {
        let has_paths = !matches!(self, Self::Emoji { .. });
        if has_paths && self.paths().is_empty() {
            return Err(Error::invalid("paths", "[]", "at least one file or folder"));
        }
        match self {
            Self::Emoji { size } => whole_set(part, || emoji::open(*size)),
            Self::Idx { images, labels } => whole_set(part, || idx::open(images, labels.as_deref())),
            Self::Cifar10 { paths } => cifar::open(paths, Cifar::Ten, part),
            Self::Cifar100 { paths, coarse } => cifar::open(paths, Cifar::Hundred { coarse: *coarse }, part),
            Self::Npz { path } => keras::open(path, part),
            Self::ImageNet { paths } => imagenet::open(paths, part),
            Self::Pictures { .. } => pictures::open(self, part),
        }
    }

    /// The files and folders it is read from.
    pub fn paths(&self) -> &[PathBuf] {
        match self {
            Self::Emoji { .. } => &[],
            Self::Idx { images: path, .. } | Self::Npz { path } => std::slice::from_ref(path),
            Self::Cifar10 { paths }
            | Self::Cifar100 { paths, .. }
            | Self::ImageNet { paths }
            | Self::Pictures { paths, .. } => paths,
        }
    }
}

/// A set that has no parts.
fn whole_set(part: Part, open: impl FnOnce() -> Result<Images>) -> Result<Option<Images>> {
    (part == Part::Train).then(open).transpose()
}

/// What of the files is not read, or not in the way in which it could be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeftOut {
    /// Files in folders that are of no kind that is read.
    pub files: u64,
    /// The first of them.
    pub first: Option<PathBuf>,
    /// What else has to be said, each in words.
    pub notes: Vec<String>,
}

impl LeftOut {
    /// A file that is not read.
    pub(super) fn file(&mut self, path: PathBuf) {
        self.files += 1;
        self.first.get_or_insert(path);
    }
}

/// The images of an [`ImageSource`], one after the other; ends after the first error.
pub struct Images {
    shape: ImageShape,
    class_names: Vec<String>,
    left_out: LeftOut,
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
        Self { shape, class_names, left_out: LeftOut::default(), inner: Box::new(inner), failed: false }
    }

    /// The same, with what was not read.
    pub(super) fn leaving_out(self, left_out: LeftOut) -> Self {
        Self { left_out, ..self }
    }

    /// The shape of every image.
    pub fn shape(&self) -> ImageShape {
        self.shape
    }

    /// The classes' names, by label; empty where there are no labels.
    pub fn class_names(&self) -> &[String] {
        &self.class_names
    }

    /// What of the files is not read.
    pub fn left_out(&self) -> &LeftOut {
        &self.left_out
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
        // What earlier versions did not have is as it was with them.
        let ImageSource::Pictures { formats, official_split, sixteen_bits, .. } =
            read("set = \"pictures\"\npaths = [\"a\"]\nheight = 1\nwidth = 1").unwrap()
        else {
            panic!("no pictures")
        };
        assert_eq!((formats, official_split, sixteen_bits), (earlier_formats(), false, SixteenBits::Refuse));
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
