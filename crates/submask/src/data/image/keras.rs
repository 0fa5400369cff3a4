//! `.npz` files as Keras has them (`mnist.npz`): `x_train`, `y_train`, `x_test` and `y_test`.

use std::path::Path;

use super::rows::{Pixels, Rows, classes};
use super::shape::ImageShape;
use super::source::{Images, Part};
use crate::error::{Error, Result};
use crate::npz::Array;

/// Labels from this one on are refused.
const MAX_CLASSES: i64 = 1 << 16;

/// The images of the file at `path`, see [`super::ImageSource::Npz`].
pub(super) fn open(path: &Path, part: Part) -> Result<Option<Images>> {
    let (images, labels) = match part {
        Part::Train => ("x_train", "y_train"),
        Part::Test => ("x_test", "y_test"),
        Part::Valid => return Ok(None),
    };
    let data = find(path, images)?;
    if data.kind != "|u1" {
        return Err(data.error(format!("has elements {}, not |u1", data.kind)));
    }
    let (count, shape) = match *data.shape {
        [count, height, width] => (count, ImageShape { channels: 1, height, width }),
        [count, height, width, channels @ (1 | 3)] => (count, ImageShape { channels, height, width }),
        _ => {
            let problem = format!("has shape {:?}, not [N, H, W], [N, H, W, 1] or [N, H, W, 3]", data.shape);
            return Err(data.error(problem));
        }
    };
    if count == 0 || shape.tokens() == 0 {
        return Err(data.error(format!("has shape {:?}: it is empty", data.shape)));
    }
    // Both parts have the classes of the file.
    let (mut last, mut numbers) = (0, Vec::new());
    for name in ["y_train", "y_test"] {
        let found = read_labels(path, name)?;
        last = found.iter().copied().max().unwrap_or(0).max(last);
        if name == labels {
            numbers = found;
        }
    }
    if last >= MAX_CLASSES {
        return Err(Error::format(path, format!("it has a label {last}, not 0 to {}", MAX_CLASSES - 1)));
    }
    let numbers = classes(path, labels, &numbers, count, 0..=last)?;
    let names = (0..=last).map(|class| class.to_string()).collect();
    let rows = Rows::new(Pixels::Npz(data), numbers, shape.tokens()).with_channels_last(shape.channels);
    Ok(Some(Images::new(shape, names, rows)))
}

fn find(path: &Path, name: &str) -> Result<Array> {
    let missing = || {
        let problem = format!("no array {name:?}; it should hold x_train, y_train, x_test and y_test");
        Error::format(path, problem)
    };
    Array::open(path, name)?.ok_or_else(missing)
}

/// An array [N] or [N, 1] of whole numbers.
fn read_labels(path: &Path, name: &str) -> Result<Vec<i64>> {
    let mut labels = find(path, name)?;
    match *labels.shape {
        [_] | [_, 1] => labels.integers(),
        _ => Err(labels.error(format!("has shape {:?}, not one label for each image", labels.shape))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::image::Image;
    use crate::npz::tests::{npy, npz};
    use rawzip::CompressionMethod;

    type Read = Result<(ImageShape, Vec<String>, Vec<Image>)>;

    fn read(arrays: &[(&str, &[u8])], method: CompressionMethod, part: Part) -> Read {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mnist.npz");
        std::fs::write(&path, npz(arrays, method)).unwrap();
        let images = open(&path, part)?.unwrap();
        let (shape, names) = (images.shape(), images.class_names().to_vec());
        Ok((shape, names, images.collect::<Result<_>>()?))
    }

    #[test]
    fn both_parts_are_read_stored_or_deflated_and_have_the_same_classes() {
        let x_train = npy("|u1", "(2, 1, 3)", &[1, 2, 3, 4, 5, 6]);
        let x_test = npy("|u1", "(1, 1, 3)", &[7, 8, 9]);
        let (y_train, y_test) =
            (npy("|u1", "(2,)", &[0, 2]), npy("<i8", "(1, 1)", &[3, 0, 0, 0, 0, 0, 0, 0]));
        let arrays: [(&str, &[u8]); 4] =
            [("x_test", &x_test), ("x_train", &x_train), ("y_train", &y_train), ("y_test", &y_test)];
        for method in [CompressionMethod::STORE, CompressionMethod::DEFLATE] {
            let (shape, names, images) = read(&arrays, method, Part::Train).unwrap();
            assert_eq!(shape, ImageShape { channels: 1, height: 1, width: 3 });
            assert_eq!(names, ["0", "1", "2", "3"]);
            assert_eq!(images[1], Image { pixels: vec![4, 5, 6], label: Some(2) });
            let (_, names, images) = read(&arrays, method, Part::Test).unwrap();
            assert_eq!(
                (names.len(), &images[..]),
                (4, &[Image { pixels: vec![7, 8, 9], label: Some(3) }][..])
            );
        }
    }

    #[test]
    fn colours_side_by_side_become_planes() {
        let x = npy("|u1", "(1, 1, 2, 3)", &[1, 2, 3, 4, 5, 6]);
        let y = npy("|u1", "(1,)", &[0]);
        let arrays: [(&str, &[u8]); 3] = [("x_train", &x), ("y_train", &y), ("y_test", &y)];
        let (shape, _, images) = read(&arrays, CompressionMethod::STORE, Part::Train).unwrap();
        assert_eq!((shape.channels, &images[0].pixels[..]), (3, &[1, 4, 2, 5, 3, 6][..]));
    }

    #[test]
    fn what_does_not_fit_is_refused_with_the_array() {
        let problem = |x: &[u8], y: &[u8], expected: &str| {
            let arrays: [(&str, &[u8]); 3] = [("x_train", x), ("y_train", y), ("y_test", y)];
            let error = read(&arrays, CompressionMethod::STORE, Part::Train).unwrap_err().to_string();
            assert!(error.contains("mnist.npz") && error.contains(expected), "{error}");
        };
        let (x, y) = (npy("|u1", "(1, 1, 2)", &[1, 2]), npy("|u1", "(1,)", &[0]));
        problem(&npy("<f4", "(1, 1, 2)", &[0; 8]), &y, "\"x_train\" has elements <f4, not |u1");
        problem(&npy("|u1", "(1, 2)", &[1, 2]), &y, "\"x_train\" has shape [1, 2]");
        problem(&npy("|u1", "(0, 1, 2)", &[]), &y, "it is empty");
        problem(&x, &npy("|u1", "(2,)", &[0, 1]), "\"y_train\" has 2 values, not one for each of 1 images");
        problem(&x, &npy("|i1", "(1,)", &[0xff]), "\"y_train\" has -1 at 0 (counted from 0)");
        problem(&x, &npy("|u1", "(1, 2)", &[0, 1]), "\"y_train\" has shape [1, 2]");
        problem(&npy("|u1", "(1, 1, 2)", &[1]), &y, "\"x_train\" ends too early");
        let error = read(&[("y_train", &y)], CompressionMethod::STORE, Part::Train).unwrap_err().to_string();
        assert!(error.contains("no array \"x_train\""), "{error}");
    }
}
