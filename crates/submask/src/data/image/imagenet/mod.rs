//! ImageNet reduced to small squares, as published: files with `data` [N, 3·side²], planes of red, green and blue, and
//! `labels` from 1 on, either `.npz` files or pickled batches.

mod npz;
mod pickled;

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::shape::{Image, ImageShape};
use super::source::Images;
use crate::error::{Error, Result};
use crate::npz::Array;

/// ImageNet's number of classes.
const CLASSES: i64 = 1000;

/// The images of `paths`, see [`super::ImageSource::ImageNet`].
pub(super) fn open(paths: &[PathBuf]) -> Result<Images> {
    let files = paths.iter().map(|path| Rows::open(path)).collect::<Result<Vec<_>>>()?;
    for file in &files[1..] {
        if file.side != files[0].side {
            let problem = format!(
                "its images are {0} × {0}, those of the first file {1} × {1}",
                file.side, files[0].side
            );
            return Err(Error::format(&file.path, problem));
        }
    }
    let shape = ImageShape { channels: 3, height: files[0].side, width: files[0].side };
    let class_names = (1..=CLASSES).map(|label| label.to_string()).collect();
    Ok(Images::new(shape, class_names, files.into_iter().flatten()))
}

/// The images of one file.
struct Rows {
    path: PathBuf,
    pixels: Pixels,
    /// From 0 on.
    labels: Vec<u32>,
    side: usize,
    next: usize,
}

/// `data` of a file, read row by row.
enum Pixels {
    Npz(Array),
    Pickled(pickled::Bytes),
}

impl Rows {
    fn open(path: &Path) -> Result<Self> {
        let mut start = [0; 2];
        let io = Error::io(path);
        let known = File::open(path).and_then(|mut file| file.read(&mut start)).map_err(io)?;
        match start {
            [b'P', b'K'] => npz::open(path),
            [pickled::PROTOCOL, _] if known == 2 => pickled::open(path),
            _ => Err(Error::format(path, "neither an npz file nor a pickled batch (protocol 2 or later)")),
        }
    }

    /// Of as many images as `labels`, which count from 1.
    ///
    /// # Errors
    /// [`Error::Format`] naming the array that does not fit.
    fn new(path: &Path, pixels: Pixels, shape: &[usize], labels: &[i64]) -> Result<Self> {
        let malformed =
            |array: &str, problem: String| Err(Error::format(path, format!("its array {array:?} {problem}")));
        let side_of =
            |width: usize| Some((width / 3).isqrt()).filter(|side| 3 * side * side == width && width > 0);
        let (count, side) = match *shape {
            [count, width] if count > 0 => (count, side_of(width)),
            _ => (0, None),
        };
        let Some(side) = side else {
            return malformed("data", format!("has shape {shape:?}, not [N, 3·side²]"));
        };
        if labels.len() != count {
            let given = labels.len();
            return malformed("labels", format!("has {given} values, not one for each of {count} images"));
        }
        let outside = labels.iter().enumerate().find(|(_, label)| !(1..=CLASSES).contains(*label));
        if let Some((index, label)) = outside {
            return malformed(
                "labels",
                format!("has {label} at {index} (counted from 0), not 1 to {CLASSES}"),
            );
        }
        let labels = labels.iter().map(|label| *label as u32 - 1).collect();
        Ok(Self { path: path.to_path_buf(), pixels, labels, side, next: 0 })
    }

    fn read(&mut self) -> Result<Image> {
        let mut pixels = vec![0; 3 * self.side * self.side];
        let (index, last) = (self.next, self.next + 1 == self.labels.len());
        self.next += 1;
        match &mut self.pixels {
            Pixels::Npz(data) => {
                data.read(&mut pixels)?;
                if last {
                    data.end()?;
                }
            }
            Pixels::Pickled(bytes) => {
                let row = index * pixels.len()..(index + 1) * pixels.len();
                pixels.copy_from_slice(&bytes[row]);
            }
        }
        Ok(Image { pixels, label: Some(self.labels[index]) })
    }
}

impl Iterator for Rows {
    type Item = Result<Image>;

    fn next(&mut self) -> Option<Self::Item> {
        (self.next < self.labels.len()).then(|| self.read())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::npz::tests::{npy, npz};
    use rawzip::CompressionMethod;

    /// A file of images of 2 × 2 with these labels, pixel i of image n being 20·n + i.
    fn file(labels: &[u16]) -> Vec<u8> {
        let pixels: Vec<u8> =
            (0..labels.len()).flat_map(|n| (0..12).map(move |i| (20 * n + i) as u8)).collect();
        let numbers: Vec<u8> = labels.iter().flat_map(|label| label.to_le_bytes()).collect();
        let data = npy("|u1", &format!("({}, 12)", labels.len()), &pixels);
        let labels = npy("<u2", &format!("({},)", labels.len()), &numbers);
        npz(&[("mean", b"not read"), ("data", &data), ("labels", &labels)], CompressionMethod::DEFLATE)
    }

    fn read(files: &[Vec<u8>]) -> Result<(ImageShape, Vec<Image>)> {
        let folder = tempfile::tempdir().unwrap();
        let paths: Vec<PathBuf> =
            (0..files.len()).map(|i| folder.path().join(format!("file_{i}.npz"))).collect();
        paths.iter().zip(files).for_each(|(path, bytes)| std::fs::write(path, bytes).unwrap());
        let images = open(&paths)?;
        Ok((images.shape(), images.collect::<Result<_>>()?))
    }

    #[test]
    fn labels_from_1_become_classes_from_0() {
        let (shape, images) = read(&[file(&[1, 1000]), file(&[17])]).unwrap();
        assert_eq!(shape, ImageShape { channels: 3, height: 2, width: 2 });
        let labels: Vec<_> = images.iter().map(|image| image.label.unwrap()).collect();
        assert_eq!(labels, [0, 999, 16]);
        assert_eq!(images[1].pixels, (20..32).collect::<Vec<u8>>());
    }

    #[test]
    fn bad_files_are_refused_by_name() {
        let problem = |files: &[Vec<u8>], expected: &str| {
            let error = read(files).unwrap_err().to_string();
            assert!(error.contains("file_") && error.contains(expected), "{error}");
        };
        let pack = |arrays: &[(&str, &[u8])]| vec![npz(arrays, CompressionMethod::STORE)];
        let label = npy("|u1", "(1,)", &[1]);
        problem(&[file(&[0])], "has 0 at 0 (counted from 0), not 1 to 1000");
        problem(&[file(&[5, 1001])], "has 1001 at 1");
        problem(&pack(&[("labels", &label)]), "no array \"data\"");
        problem(&pack(&[("data", &npy("|u1", "(1, 12)", &[0; 12]))]), "no array \"labels\"");
        problem(&pack(&[("data", &npy("|u1", "(1, 13)", &[0; 13])), ("labels", &label)]), "[1, 13]");
        problem(&pack(&[("data", &npy("<f4", "(1, 12)", &[0; 48])), ("labels", &label)]), "not |u1");
        problem(&pack(&[("data", &npy("|u1", "(0, 12)", &[])), ("labels", &label)]), "[0, 12]");
        problem(&pack(&[("data", &npy("|u1", "(2, 12)", &[0; 24])), ("labels", &label)]), "each of 2 images");
        problem(&pack(&[("data", &npy("|u1", "(1, 12)", &[0; 11])), ("labels", &label)]), "ends too early");
        let wide = npy("|u1", "(1, 27)", &[0; 27]);
        let wide = npz(&[("data", &wide), ("labels", &label)], CompressionMethod::STORE);
        problem(&[file(&[1]), wide], "its images are 3 × 3, those of the first file 2 × 2");
    }

    /// Two images of 2 × 2 with labels 1 and 1000, pickled by NumPy: `scripts/imagenet_batches.py`.
    const BATCHES: [&[u8]; 4] = [
        include_bytes!("batch_protocol_2.pickle"),
        include_bytes!("batch_protocol_3.pickle"),
        include_bytes!("batch_protocol_4.pickle"),
        include_bytes!("batch_protocol_5.pickle"),
    ];

    #[test]
    fn pickled_batches_hold_the_same_as_npz() {
        let expected = read(&[file(&[1, 1000])]).unwrap();
        for batch in BATCHES {
            assert_eq!(read(&[batch.to_vec()]).unwrap(), expected);
        }
        let (_, both) = read(&[file(&[7]), BATCHES[1].to_vec()]).unwrap();
        assert_eq!(both.len(), 3);
    }

    #[test]
    fn bad_batches_are_refused_by_name() {
        let problem = |bytes: Vec<u8>, expected: &str| {
            let error = read(&[bytes]).unwrap_err().to_string();
            assert!(error.contains("file_0") && error.contains(expected), "{error}");
        };
        let changed = |from: &[u8], to: &[u8]| {
            let at = BATCHES[1].windows(from.len()).position(|window| window == from).unwrap();
            [&BATCHES[1][..at], to, &BATCHES[1][at + from.len()..]].concat()
        };
        problem(b"GIF89a".to_vec(), "neither an npz file nor a pickled batch");
        problem(vec![], "neither an npz file nor a pickled batch");
        problem(changed(b"data", b"dota"), "no \"data\"");
        problem(changed(b"labels", b"lobels"), "no \"labels\"");
        problem(changed(b"u1", b"i1"), "i1, not |u1");
        problem(changed(b"M\xe8\x03", b"M\xe9\x03"), "has 1001 at 1");
        problem(changed(b"K\x0c", b"K\x0b"), "[2, 11]");
        for length in 2..BATCHES[1].len() {
            assert!(read(&[BATCHES[1][..length].to_vec()]).is_err());
        }
    }

    /// No byte of a batch, whatever it is, makes reading panic.
    #[test]
    fn altered_batches_are_read_or_refused() {
        for (batch, at) in BATCHES.iter().flat_map(|batch| (0..batch.len()).map(move |at| (batch, at))) {
            for byte in [0, 0x28, 0x7f, 0xff, batch[at] ^ 1, batch[at] ^ 0x80] {
                let mut altered = batch.to_vec();
                altered[at] = byte;
                let _ = read(&[altered]);
            }
        }
    }
}
