//! A set of images in memory.

use std::sync::Arc;

use super::shape::ImageShape;
use super::source::ImageSource;
use crate::error::{Error, Result};

/// All images of a source, as tokens with labels; cheap to clone. One byte a token is held in memory.
#[derive(Clone, Debug)]
pub struct ImageSet {
    shape: ImageShape,
    class_names: Arc<[String]>,
    /// [N, L].
    pixels: Arc<Vec<u8>>,
    /// \[N\], or empty where there are no labels.
    labels: Arc<[u32]>,
}

impl ImageSet {
    /// Reads all images of `source`.
    ///
    /// # Errors
    /// As [`ImageSource::open`] and its iterator.
    pub fn load(source: &ImageSource) -> Result<Self> {
        let images = source.open()?;
        let (shape, class_names) = (images.shape(), images.class_names().into());
        let (mut pixels, mut labels) = (Vec::new(), Vec::new());
        for image in images {
            let image = image?;
            pixels.extend_from_slice(&image.pixels);
            labels.extend(image.label);
        }
        Ok(Self { shape, class_names, pixels: Arc::new(pixels), labels: labels.into() })
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

    /// The class of image `index`; `None` where there are no labels or no such image.
    pub fn label(&self, index: usize) -> Option<usize> {
        self.labels.get(index).map(|label| *label as usize)
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
}
