//! CIFAR-10, the binary version: records of one label and the planes of red, green and blue.

use std::fs::{self, File};
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use super::shape::{Image, ImageShape};
use super::source::Images;
use crate::error::{Error, Result};

const SHAPE: ImageShape = ImageShape { channels: 3, height: 32, width: 32 };

/// Bytes of an image with its label.
const RECORD_BYTES: u64 = 1 + 3 * 32 * 32;

/// By label.
const CLASS_NAMES: [&str; 10] =
    ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"];

/// The images of `paths`, see [`super::ImageSource::Cifar10`].
pub(super) fn open(paths: &[PathBuf]) -> Result<Images> {
    let mut files = Vec::new();
    for path in paths {
        let found = if path.is_dir() { training_files(path)? } else { vec![path.clone()] };
        for path in found {
            files.push(Records::open(path)?);
        }
    }
    let class_names = CLASS_NAMES.map(String::from).to_vec();
    Ok(Images::new(SHAPE, class_names, files.into_iter().flatten()))
}

/// The files `data_batch_*.bin` of a folder, by name.
fn training_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(Error::io(folder))? {
        let name = entry.map_err(Error::io(folder))?.file_name();
        let text = name.to_string_lossy();
        if text.starts_with("data_batch_") && text.ends_with(".bin") {
            files.push(folder.join(&name));
        }
    }
    if files.is_empty() {
        return Err(Error::format(folder, "no file data_batch_*.bin in this folder"));
    }
    files.sort();
    Ok(files)
}

/// The records of one file.
struct Records {
    path: PathBuf,
    file: BufReader<File>,
    count: u64,
    next: u64,
}

impl Records {
    fn open(path: PathBuf) -> Result<Self> {
        let file = File::open(&path).map_err(Error::io(&path))?;
        let bytes = file.metadata().map_err(Error::io(&path))?.len();
        if bytes == 0 || !bytes.is_multiple_of(RECORD_BYTES) {
            let problem =
                format!("{bytes} bytes are no whole number of CIFAR-10's records of {RECORD_BYTES} bytes");
            return Err(Error::format(&path, problem));
        }
        Ok(Self { path, file: BufReader::new(file), count: bytes / RECORD_BYTES, next: 0 })
    }

    fn read(&mut self) -> Result<Image> {
        let mut record = vec![0; RECORD_BYTES as usize];
        self.file.read_exact(&mut record).map_err(Error::io(&self.path))?;
        let label = record.remove(0);
        if usize::from(label) >= CLASS_NAMES.len() {
            let problem = format!("record {} (counted from 0) has label {label}, not 0 to 9", self.next);
            return Err(Error::format(&self.path, problem));
        }
        self.next += 1;
        Ok(Image { pixels: record, label: Some(label.into()) })
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

    fn record(label: u8) -> Vec<u8> {
        let pixels = (0..3072).map(|i| (i % 251) as u8 ^ label);
        std::iter::once(label).chain(pixels).collect()
    }

    fn read(paths: &[&Path]) -> Result<Vec<Image>> {
        open(&paths.iter().map(|path| path.to_path_buf()).collect::<Vec<_>>())?.collect()
    }

    #[test]
    fn a_folder_gives_its_training_files_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, labels: &[u8]| {
            let bytes: Vec<u8> = labels.iter().flat_map(|label| record(*label)).collect();
            fs::write(folder.path().join(name), bytes).unwrap();
        };
        write("data_batch_2.bin", &[9]);
        write("data_batch_1.bin", &[3, 0]);
        write("test_batch.bin", &[7]);
        fs::write(folder.path().join("readme.html"), "x").unwrap();
        let images = read(&[folder.path(), &folder.path().join("test_batch.bin")]).unwrap();
        let labels: Vec<_> = images.iter().map(|image| image.label.unwrap()).collect();
        assert_eq!(labels, [3, 0, 9, 7]);
        assert!(images.iter().all(|image| image.pixels == record(image.label.unwrap() as u8)[1..]));
    }

    #[test]
    fn bad_files_are_refused_with_the_place() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.bin");
        let problem = |bytes: &[u8]| {
            fs::write(&path, bytes).unwrap();
            let error = read(&[&path]).unwrap_err().to_string();
            assert!(error.contains("a.bin"), "{error}");
            error
        };
        assert!(problem(&record(1)[1..]).contains("3072 bytes are no whole number"));
        assert!(problem(&[]).contains("0 bytes"));
        assert!(
            problem(&[record(1), record(10)].concat()).contains("record 1 (counted from 0) has label 10")
        );
        assert!(read(&[folder.path()]).unwrap_err().to_string().contains("no file data_batch_*.bin"));
        assert!(matches!(read(&[Path::new("no/such.bin")]), Err(Error::Io { .. })));
    }
}
