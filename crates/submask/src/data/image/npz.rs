//! ImageNet reduced to small squares, as published: `.npz` files with `data` [N, 3·side²], planes of red, green and
//! blue, and `labels` from 1 on.

use std::path::PathBuf;

use super::shape::{Image, ImageShape};
use super::source::Images;
use crate::error::{Error, Result};
use crate::npz::Array;

/// ImageNet's number of classes.
const CLASSES: i64 = 1000;

/// The images of `paths`, see [`super::ImageSource::Npz`].
pub(super) fn open(paths: &[PathBuf]) -> Result<Images> {
    let files = paths.iter().map(Rows::open).collect::<Result<Vec<_>>>()?;
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
    data: Array,
    labels: Vec<u32>,
    side: usize,
    next: usize,
}

impl Rows {
    fn open(path: &PathBuf) -> Result<Self> {
        let find = |name: &str| {
            let missing =
                || Error::format(path, format!("no array {name:?}; it should hold `data` and `labels`"));
            Array::open(path, name)?.ok_or_else(missing)
        };
        let (data, mut labels) = (find("data")?, find("labels")?);
        let square =
            |width: usize| Some((width / 3).isqrt()).filter(|side| 3 * side * side == width && width > 0);
        let (count, side) = match (data.kind.as_str(), data.shape.as_slice()) {
            ("|u1", &[count, width]) if count > 0 => (count, square(width)),
            _ => (0, None),
        };
        let Some(side) = side else {
            let problem = format!("has shape {:?} of {}, not [N, 3·side²] of |u1", data.shape, data.kind);
            return Err(data.error(problem));
        };
        if labels.shape != [count] {
            return Err(labels
                .error(format!("has shape {:?}, not one label for each of {count} images", labels.shape)));
        }
        let numbers = labels.integers()?;
        if let Some((index, label)) =
            numbers.iter().enumerate().find(|(_, label)| !(1..=CLASSES).contains(*label))
        {
            return Err(labels.error(format!("has {label} at {index} (counted from 0), not 1 to {CLASSES}")));
        }
        let labels = numbers.into_iter().map(|label| label as u32 - 1).collect();
        Ok(Self { path: path.clone(), data, labels, side, next: 0 })
    }

    fn read(&mut self) -> Result<Image> {
        let mut pixels = vec![0; 3 * self.side * self.side];
        self.data.read(&mut pixels)?;
        let label = Some(self.labels[self.next]);
        self.next += 1;
        if self.next == self.labels.len() {
            self.data.end()?;
        }
        Ok(Image { pixels, label })
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
        problem(&pack(&[("data", &npy("|u1", "(1, 13)", &[0; 13])), ("labels", &label)]), "[1, 13] of |u1");
        problem(&pack(&[("data", &npy("<f4", "(1, 12)", &[0; 48])), ("labels", &label)]), "[1, 12] of <f4");
        problem(&pack(&[("data", &npy("|u1", "(0, 12)", &[])), ("labels", &label)]), "[0, 12]");
        problem(&pack(&[("data", &npy("|u1", "(2, 12)", &[0; 24])), ("labels", &label)]), "each of 2 images");
        problem(&pack(&[("data", &npy("|u1", "(1, 12)", &[0; 11])), ("labels", &label)]), "ends too early");
        let wide = npy("|u1", "(1, 27)", &[0; 27]);
        let wide = npz(&[("data", &wide), ("labels", &label)], CompressionMethod::STORE);
        problem(&[file(&[1]), wide], "its images are 3 × 3, those of the first file 2 × 2");
    }
}
