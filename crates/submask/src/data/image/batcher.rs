//! Training batches: all images in a random order, epoch after epoch, half of them mirrored.

use super::set::ImageSet;
use super::shape::flip_horizontally;
use crate::data::{Cursor, Permutation};
use crate::error::{Error, Result};
use crate::random::{Draws, Purpose};

/// A batch of images.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageBatch {
    /// Tokens, `[B, L]` row by row.
    pub x_0: Vec<u32>,
    /// Classes, `[B]`; empty where there are no labels.
    pub labels: Vec<usize>,
}

/// Gives batches of images; the batch at a cursor depends on (seed, cursor, batch size) only.
///
/// Every epoch gives every image once, in an order of its own. A batch at the end of an epoch goes on with the next
/// one.
#[derive(Clone, Debug)]
pub struct ImageBatcher {
    set: ImageSet,
    seed: u64,
    flips: bool,
    cursor: Cursor,
}

impl ImageBatcher {
    /// A batcher at the start of epoch 0. With `flips` an image is mirrored left to right with probability ½, drawn
    /// for every image and epoch.
    pub fn new(set: ImageSet, seed: u64, flips: bool) -> Self {
        Self { set, seed, flips, cursor: Cursor::default() }
    }

    /// The images that are given.
    pub fn set(&self) -> &ImageSet {
        &self.set
    }

    /// Where the next batch begins.
    pub fn cursor(&self) -> Cursor {
        self.cursor
    }

    /// Goes on from a saved cursor.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a position beyond the images: the cursor is of another set.
    pub fn seek(&mut self, cursor: Cursor) -> Result<()> {
        if cursor.position >= self.set.len() as u64 {
            let allowed = format!("below the {} images of this set", self.set.len());
            return Err(Error::invalid("cursor position", cursor.position, allowed));
        }
        self.cursor = cursor;
        Ok(())
    }

    /// The next `batch` images.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a batch of 0.
    pub fn next_batch(&mut self, batch: usize) -> Result<ImageBatch> {
        if batch == 0 {
            return Err(Error::invalid("batch", batch, "at least 1"));
        }
        let count = self.set.len() as u64;
        let mut given =
            ImageBatch { x_0: Vec::with_capacity(batch * self.set.shape().tokens()), labels: Vec::new() };
        for _ in 0..batch {
            let order = Permutation::new(count, self.seed, self.cursor.epoch);
            self.give(order.at(self.cursor.position) as usize, &mut given)?;
            self.cursor.position += 1;
            if self.cursor.position == count {
                self.cursor = Cursor { epoch: self.cursor.epoch + 1, position: 0 };
            }
        }
        Ok(given)
    }

    fn give(&self, index: usize, given: &mut ImageBatch) -> Result<()> {
        let start = given.x_0.len();
        given.x_0.extend(self.set.tokens(index)?.iter().map(|token| u32::from(*token)));
        let coin = Draws::new(self.seed, Purpose::Flip).below(2, self.cursor.epoch, index as u32, 0);
        if self.flips && coin == 1 {
            flip_horizontally(&mut given.x_0[start..], self.set.shape().width);
        }
        given.labels.extend(self.set.label(index));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::image::ImageSource;

    /// 20 images of 1 × 2 pixels, image n being (n, 100 + n).
    fn batcher(seed: u64, flips: bool) -> ImageBatcher {
        let folder = tempfile::tempdir().unwrap();
        let images = folder.path().join("images");
        let pixels = (0..20).flat_map(|n| [n, 100 + n]);
        let header = [0, 0, 8, 3, 0, 0, 0, 20, 0, 0, 0, 1, 0, 0, 0, 2];
        std::fs::write(&images, header.into_iter().chain(pixels).collect::<Vec<u8>>()).unwrap();
        ImageBatcher::new(ImageSet::load(&ImageSource::Idx { images, labels: None }).unwrap(), seed, flips)
    }

    #[test]
    fn every_epoch_gives_every_image_once_about_half_of_them_mirrored() {
        let mut batcher = batcher(1, true);
        let mut mirrored = 0;
        for _ in 0..50 {
            let batch = batcher.next_batch(20).unwrap();
            let mut numbers: Vec<u32> = batch.x_0.chunks(2).map(|pair| pair[0].min(pair[1])).collect();
            numbers.sort_unstable();
            assert_eq!(numbers, (0..20).collect::<Vec<_>>());
            mirrored += batch.x_0.chunks(2).filter(|pair| pair[0] > pair[1]).count();
        }
        assert!((430..570).contains(&mirrored), "{mirrored} of 1000");
        assert_eq!(batcher.cursor(), Cursor { epoch: 50, position: 0 });
    }

    #[test]
    fn without_flips_nothing_is_mirrored() {
        let batch = batcher(1, false).next_batch(20).unwrap();
        assert!(batch.x_0.chunks(2).all(|pair| pair[0] + 100 == pair[1]) && batch.labels.is_empty());
    }

    #[test]
    fn a_saved_cursor_goes_on_exactly_whatever_the_batch_size() {
        let mut whole = batcher(5, true);
        whole.next_batch(33).unwrap();
        let mut resumed = batcher(5, true);
        resumed.seek(whole.cursor()).unwrap();
        let ones: Vec<u32> = (0..30).flat_map(|_| resumed.next_batch(1).unwrap().x_0).collect();
        assert_eq!(ones, whole.next_batch(30).unwrap().x_0);
        assert!(resumed.seek(Cursor { epoch: 0, position: 20 }).is_err() && resumed.next_batch(0).is_err());
    }
}
