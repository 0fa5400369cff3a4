//! IDX files (MNIST, Fashion-MNIST): a header of big-endian sizes, then bytes; compressed by gzip or not.

use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind, Read};
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;

use super::shape::{Image, ImageShape};
use super::source::Images;
use crate::error::{Error, Result};

/// Begins every gzip file.
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// Code of unsigned bytes in an IDX header.
const UNSIGNED_BYTES: u8 = 8;

/// Images of more pixels are refused: the header is damaged.
const MAX_PIXELS: usize = 1 << 24;

/// The images of a file, with the labels of another, see [`super::ImageSource::Idx`].
pub(super) fn open(images: &Path, labels: Option<&Path>) -> Result<Images> {
    let (file, [count, height, width]) = IdxFile::open(images, "images")?;
    let pixels = height.checked_mul(width).filter(|pixels| (1..=MAX_PIXELS).contains(pixels));
    if count == 0 || pixels.is_none() {
        let problem = format!("its header tells of {count} images of {height} × {width} pixels");
        return Err(Error::format(images, problem));
    }
    let labels = labels.map(|path| read_labels(path, images, count)).transpose()?;
    let classes =
        labels.as_ref().and_then(|labels| labels.iter().max()).map_or(0, |last| usize::from(*last) + 1);
    let class_names = (0..classes).map(|class| class.to_string()).collect();
    let shape = ImageShape { channels: 1, height, width };
    Ok(Images::new(shape, class_names, Records { file, labels, pixels: height * width, count, next: 0 }))
}

fn read_labels(path: &Path, images: &Path, count: usize) -> Result<Vec<u8>> {
    let (mut file, [found]) = IdxFile::open(path, "labels")?;
    if found != count {
        let problem = format!("{found} labels, but {count} images in {}", images.display());
        return Err(Error::format(path, problem));
    }
    // Sizes in a header are not to be trusted: the buffer grows with what is there.
    let mut labels = Vec::new();
    let limit = count as u64;
    file.inner
        .by_ref()
        .take(limit)
        .read_to_end(&mut labels)
        .map_err(|error| file.error(error, "its labels"))?;
    if labels.len() < count {
        return Err(Error::format(path, format!("it ends after {} of {count} labels", labels.len())));
    }
    file.end()?;
    Ok(labels)
}

/// An IDX file after its header.
struct IdxFile {
    path: PathBuf,
    inner: Box<dyn Read + Send>,
}

impl IdxFile {
    /// Opens a file of `what` and reads its sizes, D of them.
    fn open<const D: usize>(path: &Path, what: &str) -> Result<(Self, [usize; D])> {
        let mut file = BufReader::new(File::open(path).map_err(Error::io(path))?);
        let compressed = file.fill_buf().map_err(Error::io(path))?.starts_with(&GZIP);
        let inner: Box<dyn Read + Send> =
            if compressed { Box::new(BufReader::new(MultiGzDecoder::new(file))) } else { Box::new(file) };
        let mut file = Self { path: path.to_path_buf(), inner };
        let magic = file.number()?;
        if magic != u32::from_be_bytes([0, 0, UNSIGNED_BYTES, D as u8]) {
            let problem =
                format!("not an IDX file of {what}: it begins with {magic:#010x}, not with 0x0000080{D}");
            return Err(Error::format(path, problem));
        }
        let mut sizes = [0; D];
        for size in &mut sizes {
            *size = file.number()? as usize;
        }
        Ok((file, sizes))
    }

    fn number(&mut self) -> Result<u32> {
        let mut bytes = [0; 4];
        self.read(&mut bytes, || "its header".to_owned())?;
        Ok(u32::from_be_bytes(bytes))
    }

    fn read(&mut self, bytes: &mut [u8], within: impl FnOnce() -> String) -> Result<()> {
        self.inner.read_exact(bytes).map_err(|error| self.error(error, &within()))
    }

    /// Checks that nothing follows.
    fn end(&mut self) -> Result<()> {
        match self.inner.read(&mut [0]) {
            Ok(0) => Ok(()),
            Ok(_) => Err(Error::format(&self.path, "more bytes follow than its header tells of")),
            Err(error) => Err(self.error(error, "its end")),
        }
    }

    fn error(&self, error: std::io::Error, within: &str) -> Error {
        match error.kind() {
            ErrorKind::UnexpectedEof => Error::format(&self.path, format!("it ends within {within}")),
            ErrorKind::InvalidData | ErrorKind::InvalidInput => {
                Error::format(&self.path, format!("its compressed data are damaged within {within}: {error}"))
            }
            _ => Error::io(&self.path)(error),
        }
    }
}

/// The images of a file, one after the other.
struct Records {
    file: IdxFile,
    labels: Option<Vec<u8>>,
    pixels: usize,
    count: usize,
    next: usize,
}

impl Records {
    fn read(&mut self) -> Result<Image> {
        let (index, count) = (self.next, self.count);
        let mut pixels = vec![0; self.pixels];
        self.file.read(&mut pixels, || format!("image {index} of {count} (counted from 0)"))?;
        self.next += 1;
        if self.next == count {
            self.file.end()?;
        }
        Ok(Image { pixels, label: self.labels.as_ref().map(|labels| labels[index].into()) })
    }
}

impl Iterator for Records {
    type Item = Result<Image>;

    fn next(&mut self) -> Option<Self::Item> {
        (self.next < self.count).then(|| self.read())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::{Compression, write::GzEncoder};
    use std::io::Write;

    fn idx(sizes: &[u32], bytes: &[u8]) -> Vec<u8> {
        let mut file = vec![0, 0, 8, sizes.len() as u8];
        sizes.iter().for_each(|size| file.extend(size.to_be_bytes()));
        file.extend(bytes);
        file
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    /// Two images of 2 × 3 pixels.
    fn images() -> Vec<u8> {
        idx(&[2, 2, 3], &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12])
    }

    fn read(images: &[u8], labels: Option<&[u8]>) -> Result<(ImageShape, Vec<String>, Vec<Image>)> {
        let folder = tempfile::tempdir().unwrap();
        let (image_path, label_path) = (folder.path().join("the-images"), folder.path().join("the-labels"));
        std::fs::write(&image_path, images).unwrap();
        std::fs::write(&label_path, labels.unwrap_or_default()).unwrap();
        let images = open(&image_path, labels.map(|_| label_path.as_path()))?;
        let (shape, class_names) = (images.shape(), images.class_names().to_vec());
        Ok((shape, class_names, images.collect::<Result<_>>()?))
    }

    #[test]
    fn images_and_labels_are_read_compressed_or_not() {
        let labels = idx(&[2], &[4, 0]);
        let plain = read(&images(), Some(&labels)).unwrap();
        assert_eq!(plain.0, ImageShape { channels: 1, height: 2, width: 3 });
        assert_eq!(plain.1, ["0", "1", "2", "3", "4"]);
        assert_eq!(plain.2[1], Image { pixels: vec![7, 8, 9, 10, 11, 12], label: Some(0) });
        assert_eq!(read(&gzip(&images()), Some(&gzip(&labels))).unwrap(), plain);
        let (_, names, unlabelled) = read(&images(), None).unwrap();
        assert!(names.is_empty() && unlabelled.iter().all(|image| image.label.is_none()));
    }

    #[test]
    fn bad_files_are_refused_with_the_place() {
        let problem = |images: &[u8], labels: Option<&[u8]>, file: &str, expected: &str| {
            let error = read(images, labels).unwrap_err().to_string();
            assert!(error.contains(file) && error.contains(expected), "{error}");
        };
        let whole = images();
        problem(b"", None, "the-images", "ends within its header");
        problem(&whole[..9], None, "the-images", "ends within its header");
        problem(b"PNG or so", None, "the-images", "it begins with 0x504e4720, not with 0x00000803");
        problem(&idx(&[2], &[1, 2]), None, "the-images", "not an IDX file of images");
        problem(&idx(&[2, 0, 3], &[]), None, "the-images", "2 images of 0 × 3 pixels");
        problem(&idx(&[2, u32::MAX, u32::MAX], &[]), None, "the-images", "4294967295 × 4294967295");
        problem(&whole[..20], None, "the-images", "ends within image 0 of 2");
        problem(&[&whole[..], &[0]].concat(), None, "the-images", "more bytes follow");
        let mut damaged = gzip(&whole);
        let at = damaged.len() - 6;
        damaged[at] ^= 1;
        problem(&damaged, None, "the-images", "damaged");
        problem(&gzip(&whole)[..30], None, "the-images", "ends within");
        problem(&whole, Some(&idx(&[3], &[1, 2, 3])), "the-labels", "3 labels, but 2 images");
        problem(&whole, Some(&idx(&[2], &[1])), "the-labels", "ends after 1 of 2 labels");
        problem(&whole, Some(&whole), "the-labels", "not an IDX file of labels");
    }
}
