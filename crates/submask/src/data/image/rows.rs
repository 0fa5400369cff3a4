//! Images that are rows of an array, with a list of labels.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use super::pickled::Bytes;
use super::shape::Image;
use crate::error::{Error, Result};
use crate::npz::Array;

/// The array, read row by row.
pub(super) enum Pixels {
    /// Of an `.npz` file.
    Npz(Array),
    /// Of a pickle.
    Pickled(Bytes),
}

/// The images of one array.
pub(super) struct Rows {
    pixels: Pixels,
    labels: Vec<u32>,
    /// Bytes of an image.
    row: usize,
    /// Channels k of images in which those of a pixel stand side by side; 1: planes.
    channels_last: usize,
    next: usize,
}

impl Rows {
    /// Images of `row` bytes, planes of channels, as many as `labels`.
    pub fn new(pixels: Pixels, labels: Vec<u32>, row: usize) -> Self {
        Self { pixels, labels, row, channels_last: 1, next: 0 }
    }

    /// Of images in which the channels of a pixel stand side by side.
    pub fn with_channels_last(self, channels_last: usize) -> Self {
        Self { channels_last, ..self }
    }

    fn read(&mut self) -> Result<Image> {
        let mut pixels = vec![0; self.row];
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
        if self.channels_last > 1 {
            let channels = 0..self.channels_last;
            let plane = |channel| pixels.iter().skip(channel).step_by(self.channels_last).copied();
            pixels = channels.flat_map(plane).collect();
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

/// What is wrong with an array of a file.
pub(super) fn array_error(path: &Path, array: &str, problem: impl AsRef<str>) -> Error {
    Error::format(path, format!("its array {array:?} {}", problem.as_ref()))
}

/// Labels within `allowed`, from 0 on, one for each of `count` images.
///
/// # Errors
/// [`Error::Format`] naming the array, the place and the value.
pub(super) fn classes(
    path: &Path,
    array: &str,
    labels: &[i64],
    count: usize,
    allowed: RangeInclusive<i64>,
) -> Result<Vec<u32>> {
    if labels.len() != count {
        let given = labels.len();
        return Err(array_error(
            path,
            array,
            format!("has {given} values, not one for each of {count} images"),
        ));
    }
    if let Some((index, label)) = labels.iter().enumerate().find(|(_, label)| !allowed.contains(*label)) {
        let (first, last) = (allowed.start(), allowed.end());
        let problem = format!("has {label} at {index} (counted from 0), not {first} to {last}");
        return Err(array_error(path, array, problem));
    }
    Ok(labels.iter().map(|label| (label - allowed.start()) as u32).collect())
}

/// The files of `folder` whose names `wanted` picks, by name, and the others.
///
/// # Errors
/// [`Error::Io`] naming the folder.
pub(super) fn files_of(folder: &Path, wanted: impl Fn(&str) -> bool) -> Result<(Vec<PathBuf>, Vec<PathBuf>)> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(Error::io(folder))? {
        let name = entry.map_err(Error::io(folder))?.file_name();
        let path = folder.join(&name);
        if !name.as_encoded_bytes().starts_with(b".") && path.is_file() {
            files.push((name.to_string_lossy().into_owned(), path));
        }
    }
    files.sort();
    let (picked, others): (Vec<_>, Vec<_>) = files.into_iter().partition(|(name, _)| wanted(name));
    let paths = |files: Vec<(String, PathBuf)>| files.into_iter().map(|(_, path)| path).collect();
    Ok((paths(picked), paths(others)))
}
