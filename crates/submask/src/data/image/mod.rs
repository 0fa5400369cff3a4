//! Images: from files to tokens and labels.
//!
//! In the order in which data flow:
//!
//! | what | is |
//! |---|---|
//! | [`ImageSource`] | a data set: the built-in emoji, files of CIFAR, IDX, Keras or ImageNet-32, or pictures in folders and parquet files |
//! | [`Images`] | its images, streamed |
//! | [`ImageSet`] | all of them in memory, as tokens with labels |
//! | [`TrainingImages`] | the same as a [`Dataset`](super::Dataset): mirrored at random, as super-tokens if wanted |
//! | [`super_tokens`] | another way to cut pixels into tokens: two of 12 bits |
//!
//! A token is a colour channel of a pixel, 0 to 255: channel κ at (row, column) is token (κ·H + row)·W + column of
//! L = k·H·W, as the U-Net reads them. All images of a set have one shape.
//!
//! ```
//! use submask::data::Batcher;
//! use submask::data::image::{ImageSet, ImageSource, TrainingImages};
//!
//! # fn main() -> submask::Result<()> {
//! # let folder = tempfile::tempdir().unwrap();
//! # std::fs::write(folder.path().join("data_batch_1.bin"), vec![5; 2 * 3073]).unwrap();
//! let source = ImageSource::Cifar10 { paths: vec![folder.path().to_path_buf()] };
//! let set = ImageSet::load(&source)?;
//! assert_eq!((set.shape().tokens(), set.class_names()[5].as_str()), (3072, "dog"));
//! let mut batcher = Batcher::new(TrainingImages::new(set, 0).with_flips(true), 0)?;
//! let batch = batcher.next_batch(4)?;
//! assert_eq!((batch.x_0.len(), batch.labels.len()), (4 * 3072, 4));
//! # Ok(())
//! # }
//! ```

mod cifar;
mod emoji;
#[cfg(feature = "pictures")]
mod folders;
mod grid;
mod idx;
mod imagenet;
mod keras;
#[cfg(feature = "pictures")]
mod listing;
#[cfg(feature = "pictures")]
mod parquet_pictures;
mod pickled;
#[cfg(feature = "pictures")]
mod picture;
mod pictures;
mod rows;
mod set;
mod shape;
mod source;
pub mod super_tokens;
mod training;
#[cfg(feature = "pictures")]
mod whole;

pub use grid::Grid;
pub use pictures::{picture_size, read_grey, read_picture};
pub use set::{ImageCounts, ImageSet};
pub use shape::{Image, ImageShape, flip_horizontally};
pub(crate) use source::earlier_formats;
pub use source::{Background, Columns, ImageSource, Images, LeftOut, Part, PictureFormat, SixteenBits};
pub use training::TrainingImages;
