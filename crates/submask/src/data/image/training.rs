//! Images to train on: mirrored at random, and cut into tokens as the network reads them.

use super::set::ImageSet;
use super::shape::flip_horizontally;
use super::super_tokens;
use crate::data::{Batch, Dataset};
use crate::error::{Error, Result};
use crate::random::{Draws, Purpose};

/// The images of a set, with their labels.
#[derive(Clone, Debug)]
pub struct TrainingImages {
    set: ImageSet,
    flips: Option<Draws>,
    super_tokens: bool,
    seed: u64,
}

impl TrainingImages {
    /// The images as they are: a token per colour channel of a pixel. `seed` is for [`Self::with_flips`].
    pub fn new(set: ImageSet, seed: u64) -> Self {
        Self { set, flips: None, super_tokens: false, seed }
    }

    /// With `flips`, an image is mirrored left to right with probability ½, drawn for every image and epoch.
    pub fn with_flips(self, flips: bool) -> Self {
        Self { flips: flips.then(|| Draws::new(self.seed, Purpose::Flip)), ..self }
    }

    /// With `super_tokens`, a pixel is two tokens of 12 bits ([`super_tokens`]).
    ///
    /// # Errors
    /// [`Error::Invalid`] for images that are not in colour.
    pub fn with_super_tokens(self, super_tokens: bool) -> Result<Self> {
        let channels = self.set.shape().channels;
        if super_tokens && channels != 3 {
            return Err(Error::invalid("images", format!("of {channels} channels"), "3 for super-tokens"));
        }
        Ok(Self { super_tokens, ..self })
    }

    /// Whether image `index` is mirrored in `epoch`.
    fn is_mirrored(&self, epoch: u64, index: u64) -> bool {
        self.flips.is_some_and(|draws| draws.below(2, epoch, index as u32, 0) == 1)
    }
}

impl Dataset for TrainingImages {
    fn seq_len(&self) -> usize {
        let shape = self.set.shape();
        if self.super_tokens { super_tokens::PER_PIXEL * shape.height * shape.width } else { shape.tokens() }
    }

    fn epoch_len(&self) -> Option<u64> {
        Some(self.set.len() as u64)
    }

    fn get(&self, epoch: u64, index: u64, batch: &mut Batch) -> Result<()> {
        let mut bytes = self.set.tokens(index as usize)?.to_vec();
        if self.is_mirrored(epoch, index) {
            flip_horizontally(&mut bytes, self.set.shape().width);
        }
        let label = self.set.label(index as usize);
        if self.super_tokens {
            let shape = self.set.shape();
            batch.push(super_tokens::from_bytes(&bytes, shape.height * shape.width)?, label);
        } else {
            batch.push(bytes.into_iter().map(u32::from), label);
        }
        Ok(())
    }

    /// That of the set: settings say how its images are mirrored and cut.
    fn fingerprint(&self) -> u64 {
        self.set.fingerprint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::image::ImageSource;
    use crate::data::{Batcher, Cursor};

    /// 20 images of 1 × 2 pixels, image n being (n, 100 + n).
    fn batcher(seed: u64, flips: bool) -> Batcher {
        let folder = tempfile::tempdir().unwrap();
        let images = folder.path().join("images");
        let pixels = (0..20).flat_map(|n| [n, 100 + n]);
        let header = [0, 0, 8, 3, 0, 0, 0, 20, 0, 0, 0, 1, 0, 0, 0, 2];
        std::fs::write(&images, header.into_iter().chain(pixels).collect::<Vec<u8>>()).unwrap();
        let set = ImageSet::load(&ImageSource::Idx { images, labels: None }).unwrap();
        assert!(TrainingImages::new(set.clone(), seed).with_super_tokens(true).is_err());
        Batcher::new(TrainingImages::new(set, seed).with_flips(flips), seed).unwrap()
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
    fn a_saved_cursor_continues_exactly_whatever_the_batch_size() {
        let mut whole = batcher(5, true);
        whole.next_batch(33).unwrap();
        let mut resumed = batcher(5, true);
        resumed.seek(whole.cursor()).unwrap();
        let ones: Vec<u32> = (0..30).flat_map(|_| resumed.next_batch(1).unwrap().x_0).collect();
        assert_eq!(ones, whole.next_batch(30).unwrap().x_0);
        assert!(resumed.seek(Cursor { epoch: 0, position: 20 }).is_err() && resumed.next_batch(0).is_err());
    }

    #[test]
    fn super_tokens_are_of_the_mirrored_image() {
        let folder = tempfile::tempdir().unwrap();
        let images: Vec<u8> = (0..2 * 3073u32).map(|i| (i * i / 7 % 251) as u8 % 10).collect();
        std::fs::write(folder.path().join("data_batch_1.bin"), images).unwrap();
        let set = ImageSet::load(&ImageSource::Cifar10 { paths: vec![folder.path().to_path_buf()] }).unwrap();
        let plain = TrainingImages::new(set, 1).with_flips(true);
        let cut = plain.clone().with_super_tokens(true).unwrap();
        assert_eq!((plain.seq_len(), cut.seq_len()), (3 * 1024, 2 * 1024));
        assert_eq!(plain.fingerprint(), cut.fingerprint());
        for epoch in 0..4 {
            let (mut bytes, mut tokens) = (Batch::default(), Batch::default());
            plain.get(epoch, 1, &mut bytes).unwrap();
            cut.get(epoch, 1, &mut tokens).unwrap();
            let x_0: Vec<u8> = bytes.x_0.iter().map(|byte| *byte as u8).collect();
            assert_eq!(tokens.x_0, super_tokens::from_bytes(&x_0, 1024).unwrap());
            assert_eq!(tokens.labels, bytes.labels);
        }
    }
}
