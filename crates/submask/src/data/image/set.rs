//! A set of images in memory.

use std::sync::Arc;

use super::shape::ImageShape;
use super::source::{ImageSource, Images, LeftOut, Part};
use crate::data::hash::Fingerprint;
use crate::data::{Batch, Dataset};
use crate::error::{Error, Result};
use crate::random::{Draws, Purpose};

/// All images of a source, as tokens with labels; cheap to clone. One byte per token is held in memory.
#[derive(Clone, Debug)]
pub struct ImageSet {
    shape: ImageShape,
    class_names: Arc<[String]>,
    /// Bytes of the images, one after the other, [N, L].
    pixels: Arc<Vec<u8>>,
    /// \[N\], or empty where there are no labels.
    labels: Arc<[u32]>,
    left_out: LeftOut,
}

/// How many images there are, and of which classes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageCounts {
    /// N.
    pub images: u64,
    /// Name of each class, and how many images it has; empty where there are no labels.
    pub classes: Vec<(String, u64)>,
}

impl ImageSet {
    /// Reads all images of `source`.
    ///
    /// # Errors
    /// As [`ImageSource::open`] and its iterator.
    pub fn load(source: &ImageSource) -> Result<Self> {
        Self::read(source.open()?)
    }

    /// Reads all images of a part of `source`; `None` where it has no such part.
    ///
    /// # Errors
    /// As [`ImageSource::open_part`] and its iterator.
    pub fn load_part(source: &ImageSource, part: Part) -> Result<Option<Self>> {
        source.open_part(part)?.map(Self::read).transpose()
    }

    fn read(images: Images) -> Result<Self> {
        let left_out = images.left_out().clone();
        let (shape, class_names) = (images.shape(), images.class_names().into());
        let (mut pixels, mut labels) = (Vec::new(), Vec::new());
        for image in images {
            let image = image?;
            pixels.extend_from_slice(&image.pixels);
            labels.extend(image.label);
        }
        Ok(Self { shape, class_names, pixels: Arc::new(pixels), labels: labels.into(), left_out })
    }

    /// The same images with labels that are indices of `class_names`; `None` where one of this set's classes is not
    /// among them, or where only one of both has classes.
    pub fn with_classes(&self, class_names: &[String]) -> Option<Self> {
        if self.class_names.is_empty() != class_names.is_empty() {
            return None;
        }
        let place = |name: &String| class_names.iter().position(|known| known == name).map(|at| at as u32);
        let places: Vec<u32> = self.class_names.iter().map(place).collect::<Option<_>>()?;
        let labels = self.labels.iter().map(|label| places[*label as usize]).collect();
        Some(Self { class_names: class_names.into(), labels, ..self.clone() })
    }

    /// How many images there are, and of which classes.
    pub fn counts(&self) -> ImageCounts {
        let mut classes: Vec<(String, u64)> = self.class_names.iter().map(|name| (name.clone(), 0)).collect();
        for label in self.labels.iter() {
            classes[*label as usize].1 += 1;
        }
        ImageCounts { images: self.len() as u64, classes }
    }

    /// What of the files was not read.
    pub fn left_out(&self) -> &LeftOut {
        &self.left_out
    }

    /// The images at `indices` alone.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an index of [`Self::len`] or more.
    pub fn part(&self, indices: &[usize]) -> Result<Self> {
        let mut pixels = Vec::with_capacity(indices.len() * self.shape.tokens());
        for index in indices {
            pixels.extend_from_slice(self.tokens(*index)?);
        }
        let labels = indices.iter().filter_map(|index| self.labels.get(*index).copied()).collect();
        Ok(Self { pixels: Arc::new(pixels), labels, ..self.clone() })
    }

    /// Holds out ⌈fraction·N⌉ images, chosen by `seed`: the rest, and those held out, both in the order of this set.
    ///
    /// # Errors
    /// [`Error::Invalid`] where that leaves nothing to train on.
    pub fn split(&self, fraction: f64, seed: u64) -> Result<(Self, Self)> {
        let count = self.len();
        let held_out = (fraction * count as f64).ceil() as usize;
        if held_out == 0 || held_out >= count {
            let allowed = format!("a share that holds out some of {count} images and leaves some");
            return Err(Error::invalid("data.valid_fraction", fraction, allowed));
        }
        let order = Draws::new(seed, Purpose::Split).permutation(count, 0);
        let mut is_held_out = vec![false; count];
        order[..held_out].iter().for_each(|index| is_held_out[*index] = true);
        let those = |which: bool| (0..count).filter(|index| is_held_out[*index] == which).collect::<Vec<_>>();
        Ok((self.part(&those(false))?, self.part(&those(true))?))
    }

    /// The shape of every image.
    pub fn shape(&self) -> ImageShape {
        self.shape
    }

    /// The classes' names, by label; empty where there are no labels.
    pub fn class_names(&self) -> &[String] {
        &self.class_names
    }

    /// N, the number of images, at least 1.
    #[allow(clippy::len_without_is_empty, reason = "no set is empty")]
    pub fn len(&self) -> usize {
        self.pixels.len() / self.shape.tokens()
    }

    /// The L tokens of image `index`, 0 to 255.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an index of [`Self::len`] or more.
    pub fn tokens(&self, index: usize) -> Result<&[u8]> {
        if index >= self.len() {
            return Err(Error::invalid(
                "image",
                index,
                format!("below {}, the images of this set", self.len()),
            ));
        }
        Ok(&self.pixels[index * self.shape.tokens()..][..self.shape.tokens()])
    }

    /// A hash of all pixels and labels, in order.
    pub fn fingerprint(&self) -> u64 {
        let labels: Vec<u8> = self.labels.iter().flat_map(|label| label.to_le_bytes()).collect();
        Fingerprint::new().part(&self.pixels).part(&labels).value()
    }

    /// The class of image `index`; `None` where there are no labels or no such image.
    pub fn label(&self, index: usize) -> Option<usize> {
        self.labels.get(index).map(|label| *label as usize)
    }
}

/// The images as they are: a token per colour channel of a pixel. See [`TrainingImages`](super::TrainingImages).
impl Dataset for ImageSet {
    fn seq_len(&self) -> usize {
        self.shape.tokens()
    }

    fn epoch_len(&self) -> Option<u64> {
        Some(self.len() as u64)
    }

    fn get(&self, _epoch: u64, index: u64, batch: &mut Batch) -> Result<()> {
        let index = index as usize;
        batch.push(self.tokens(index)?.iter().map(|token| u32::from(*token)), self.label(index));
        Ok(())
    }

    fn fingerprint(&self) -> u64 {
        self.fingerprint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_gives_tokens_and_labels_by_index() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("images");
        std::fs::write(
            &path,
            [&[0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 2][..], &[1, 2, 3, 4]].concat(),
        )
        .unwrap();
        let labels = folder.path().join("labels");
        std::fs::write(&labels, [0, 0, 8, 1, 0, 0, 0, 2, 1, 0]).unwrap();
        let set = ImageSet::load(&ImageSource::Idx { images: path.clone(), labels: Some(labels) }).unwrap();
        assert_eq!((set.len(), set.tokens(1).unwrap()), (2, &[3u8, 4][..]));
        assert_eq!((set.label(0), set.label(1), set.label(2)), (Some(1), Some(0), None));
        assert!(set.tokens(2).unwrap_err().to_string().contains("below 2"));
        let set = ImageSet::load(&ImageSource::Idx { images: path, labels: None }).unwrap();
        assert_eq!((set.label(0), set.class_names().len()), (None, 0));
    }

    #[test]
    fn classes_are_counted_and_found_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let record = |label: u8| [&[label][..], &[label; 3072]].concat();
        std::fs::write(folder.path().join("data_batch_1.bin"), [record(3), record(5), record(3)].concat())
            .unwrap();
        let set = ImageSet::load(&ImageSource::Cifar10 { paths: vec![folder.path().to_path_buf()] }).unwrap();
        let counts = set.counts();
        assert_eq!((counts.images, counts.classes.len()), (3, 10));
        assert_eq!(counts.classes[3], ("cat".to_owned(), 2));
        let mut names = set.class_names().to_vec();
        names.reverse();
        let other = set.with_classes(&names).unwrap();
        assert_eq!((other.label(0), other.label(1)), (Some(6), Some(4)));
        assert!(set.with_classes(&names[..5]).is_none() && set.with_classes(&[]).is_none());
    }

    #[test]
    fn a_split_holds_out_a_share_once_and_the_same_every_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("images");
        let header = [0, 0, 8, 3, 0, 0, 0, 20, 0, 0, 0, 1, 0, 0, 0, 1];
        std::fs::write(&path, header.into_iter().chain(0..20).collect::<Vec<u8>>()).unwrap();
        let set = ImageSet::load(&ImageSource::Idx { images: path, labels: None }).unwrap();
        let (train, valid) = set.split(0.25, 3).unwrap();
        assert_eq!((train.len(), valid.len()), (15, 5));
        let mut all: Vec<u8> = [&train, &valid]
            .iter()
            .flat_map(|set| (0..set.len()).map(|i| set.tokens(i).unwrap()[0]).collect::<Vec<_>>())
            .collect();
        assert!(all[15..].is_sorted());
        all.sort_unstable();
        assert_eq!(all, (0..20).collect::<Vec<u8>>());
        assert_eq!(set.split(0.25, 3).unwrap().1.tokens(0).unwrap(), valid.tokens(0).unwrap());
        assert_ne!(train.fingerprint(), valid.fingerprint());
        assert_eq!(train.fingerprint(), set.split(0.25, 3).unwrap().0.fingerprint());
        assert!(set.split(1.0, 3).is_err() && set.part(&[20]).is_err());
    }
}
