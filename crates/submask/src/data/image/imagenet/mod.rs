//! ImageNet reduced to small squares, as published: files with `data` [N, 3·side²], planes of red, green and blue, and
//! `labels` from 1 on, either `.npz` files or pickled batches.

mod npz;

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::pickled::{Batch, PROTOCOL};
use super::rows::{Pixels, Rows, array_error, classes, files_of};
use super::shape::ImageShape;
use super::source::{Images, LeftOut, Part};
use crate::error::{Error, Result};

/// ImageNet's number of classes.
const CLASSES: i64 = 1000;

/// How names of files with training images, and with those held out, begin.
const TRAIN: &str = "train_data_batch";
const VALID: &str = "val_data";

/// The images of `paths`, see [`super::ImageSource::ImageNet`].
pub(super) fn open(paths: &[PathBuf], part: Part) -> Result<Option<Images>> {
    let mut left_out = LeftOut::default();
    let mut files = Vec::new();
    for path in paths {
        if path.is_dir() {
            files.extend(files_in(path, part, &mut left_out)?);
        } else if part == Part::Train {
            files.push(path.clone());
        }
    }
    if files.is_empty() {
        return Ok(None);
    }
    let files = files.iter().map(|path| open_file(path)).collect::<Result<Vec<_>>>()?;
    let (_, first, _) = &files[0];
    if let Some((path, side, _)) = files.iter().find(|(_, side, _)| side != first) {
        let problem = format!("its images are {side} × {side}, those of the first file {first} × {first}");
        return Err(Error::format(path, problem));
    }
    let shape = ImageShape { channels: 3, height: *first, width: *first };
    let class_names = (1..=CLASSES).map(|label| label.to_string()).collect();
    let rows = files.into_iter().flat_map(|(_, _, rows)| rows);
    Ok(Some(Images::new(shape, class_names, rows).leaving_out(left_out)))
}

/// The files of a part in a folder.
fn files_in(folder: &Path, part: Part, left_out: &mut LeftOut) -> Result<Vec<PathBuf>> {
    let (mut train, others) = files_of(folder, |name| name.starts_with(TRAIN))?;
    train.sort_by_key(|path| number(path));
    let is_valid = |path: &PathBuf| {
        path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with(VALID))
    };
    let (valid, others): (Vec<_>, Vec<_>) = others.into_iter().partition(is_valid);
    if train.is_empty() && valid.is_empty() {
        return Err(Error::format(folder, format!("no files {TRAIN}_* in this folder, and no {VALID}")));
    }
    others.into_iter().for_each(|path| left_out.file(path));
    Ok(match part {
        Part::Train => train,
        Part::Valid => valid,
        Part::Test => Vec::new(),
    })
}

/// The number of a batch, `train_data_batch_10` or `train_data_batch_10.npz`.
fn number(path: &Path) -> Option<u64> {
    let digits = path.file_stem()?.to_str()?.strip_prefix(TRAIN)?;
    digits.trim_start_matches('_').parse().ok()
}

/// A file's path, the side of its images, and the images.
fn open_file(path: &Path) -> Result<(PathBuf, usize, Rows)> {
    let mut start = [0; 2];
    let known = File::open(path).and_then(|mut file| file.read(&mut start)).map_err(Error::io(path))?;
    let (shape, pixels, labels) = match start {
        [b'P', b'K'] => npz::open(path)?,
        [PROTOCOL, _] if known == 2 => {
            let batch = Batch::open(path)?;
            let (shape, data) = batch.bytes("data")?;
            (shape, Pixels::Pickled(data), batch.integers("labels")?)
        }
        _ => {
            return Err(Error::format(path, "neither an npz file nor a pickled batch (protocol 2 or later)"));
        }
    };
    let side_of =
        |width: usize| Some((width / 3).isqrt()).filter(|side| 3 * side * side == width && width > 0);
    let (count, side) = match *shape {
        [count, width] if count > 0 => (count, side_of(width)),
        _ => (0, None),
    };
    let Some(side) = side else {
        return Err(array_error(path, "data", format!("has shape {shape:?}, not [N, 3·side²]")));
    };
    let labels = classes(path, "labels", &labels, count, 1..=CLASSES)?;
    Ok((path.to_path_buf(), side, Rows::new(pixels, labels, 3 * side * side)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::image::Image;
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
        let images = open(&paths, Part::Train)?.unwrap();
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
    fn a_folder_gives_its_batches_by_number_and_holds_out_its_validation_images() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, bytes: &[u8]| std::fs::write(folder.path().join(name), bytes).unwrap();
        write("train_data_batch_10", &file(&[10]));
        write("train_data_batch_2", &file(&[2]));
        write("val_data", BATCHES[0]);
        write("notes.txt", b"x");
        let labels = |part| -> Vec<u32> {
            let images = open(&[folder.path().to_path_buf()], part).unwrap().unwrap();
            assert_eq!(
                (images.left_out().files, images.left_out().first.clone()),
                (1, Some(folder.path().join("notes.txt")))
            );
            images.map(|image| image.unwrap().label.unwrap()).collect()
        };
        assert_eq!((labels(Part::Train), labels(Part::Valid)), (vec![1, 9], vec![0, 999]));
        assert!(open(&[folder.path().to_path_buf()], Part::Test).unwrap().is_none());
        let empty = tempfile::tempdir().unwrap();
        let error = open(&[empty.path().to_path_buf()], Part::Train).err().unwrap().to_string();
        assert!(error.contains("no files train_data_batch_*"), "{error}");
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
