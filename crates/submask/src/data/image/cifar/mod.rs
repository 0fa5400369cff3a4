//! CIFAR-10 and CIFAR-100: the binary version, whose records are labels and the planes of red, green and blue, and the
//! Python version, whose batches are pickles; in folders, in single files, and in archives as they are published.

mod archive;
mod names;

use std::fs::File;
use std::io::{BufReader, Cursor, Read};
use std::path::{Path, PathBuf};

use super::pickled::{Batch, PROTOCOL};
use super::rows::{Pixels, Rows, array_error, classes, files_of};
use super::shape::{Image, ImageShape};
use super::source::{Images, LeftOut, Part};
use crate::error::{Error, Result};
use names::{COARSE, FINE, TEN};

const SHAPE: ImageShape = ImageShape { channels: 3, height: 32, width: 32 };

/// Bytes of an image.
const IMAGE_BYTES: usize = 3 * 32 * 32;

/// Which of the two sets, and which of its labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cifar {
    /// CIFAR-10.
    Ten,
    /// CIFAR-100 with its coarse or its fine labels.
    Hundred { coarse: bool },
}

/// What a file is, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    /// Images of a part, in the binary version or not.
    Images { part: Part, binary: bool },
    /// The names of the classes, in the Python version.
    Names,
    /// A companion that says nothing new.
    Companion,
}

impl Cifar {
    fn name(self) -> &'static str {
        if self == Self::Ten { "CIFAR-10" } else { "CIFAR-100" }
    }

    /// By label.
    fn class_names(self) -> &'static [&'static str] {
        match self {
            Self::Ten => &TEN,
            Self::Hundred { coarse: true } => &COARSE,
            Self::Hundred { coarse: false } => &FINE,
        }
    }

    /// Keys of a pickle with the labels, and with the names of the classes.
    fn keys(self) -> (&'static str, &'static str) {
        match self {
            Self::Ten => ("labels", "label_names"),
            Self::Hundred { coarse: true } => ("coarse_labels", "coarse_label_names"),
            Self::Hundred { coarse: false } => ("fine_labels", "fine_label_names"),
        }
    }

    /// Bytes before an image of the binary version, and which of them is the label.
    fn label_bytes(self) -> (usize, usize) {
        match self {
            Self::Ten => (1, 0),
            Self::Hundred { coarse } => (2, usize::from(!coarse)),
        }
    }

    fn role(self, name: &str) -> Option<Role> {
        let (stem, binary) = name.strip_suffix(".bin").map_or((name, false), |stem| (stem, true));
        let part = match self {
            Self::Ten if stem.starts_with("data_batch_") => Some(Part::Train),
            Self::Ten if stem == "test_batch" => Some(Part::Test),
            Self::Hundred { .. } if stem == "train" => Some(Part::Train),
            Self::Hundred { .. } if stem == "test" => Some(Part::Test),
            _ => None,
        };
        match (part, name) {
            (Some(part), _) => Some(Role::Images { part, binary }),
            (None, "batches.meta") if self == Self::Ten => Some(Role::Names),
            (None, "meta") if self != Self::Ten => Some(Role::Names),
            (None, "batches.meta.txt" | "readme.html" | "file.txt~") => Some(Role::Companion),
            (None, "fine_label_names.txt" | "coarse_label_names.txt") => Some(Role::Companion),
            (None, _) => None,
        }
    }

    /// Folders and archives as they are published, in the order in which they are preferred.
    fn published(self) -> &'static [&'static str; 4] {
        match self {
            Self::Ten => &[
                "cifar-10-batches-bin",
                "cifar-10-batches-py",
                "cifar-10-binary.tar.gz",
                "cifar-10-python.tar.gz",
            ],
            Self::Hundred { .. } => &[
                "cifar-100-binary",
                "cifar-100-python",
                "cifar-100-binary.tar.gz",
                "cifar-100-python.tar.gz",
            ],
        }
    }

    /// What is looked for, in words.
    fn training_files(self) -> &'static str {
        if self == Self::Ten {
            "data_batch_*.bin and no file data_batch_*"
        } else {
            "train.bin and no file train"
        }
    }
}

/// What is read of the paths.
struct Reader {
    cifar: Cifar,
    part: Part,
    files: Vec<Box<dyn Iterator<Item = Result<Image>> + Send>>,
    class_names: Vec<String>,
    left_out: LeftOut,
}

/// The images of `paths`, see [`super::ImageSource::Cifar10`].
pub(super) fn open(paths: &[PathBuf], cifar: Cifar, part: Part) -> Result<Option<Images>> {
    let class_names = cifar.class_names().iter().map(|name| (*name).to_owned()).collect();
    let mut reader = Reader { cifar, part, files: Vec::new(), class_names, left_out: LeftOut::default() };
    for path in paths {
        if path.is_dir() {
            reader.folder(path)?;
        } else {
            reader.file(path)?;
        }
    }
    if reader.files.is_empty() {
        return Ok(None);
    }
    let images = Images::new(SHAPE, reader.class_names, reader.files.into_iter().flatten());
    Ok(Some(images.leaving_out(reader.left_out)))
}

impl Reader {
    /// The files of a folder, or what is inside it and called like what is published.
    fn folder(&mut self, folder: &Path) -> Result<()> {
        let cifar = self.cifar;
        let name_of = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned());
        let role = |path: &PathBuf| name_of(path).and_then(|name| cifar.role(&name));
        let (files, others) = files_of(folder, |name| cifar.role(name).is_some())?;
        let is_images = |path: &PathBuf| matches!(role(path), Some(Role::Images { .. }));
        if !files.iter().any(is_images) {
            return self.folder_above(folder);
        }
        // A folder may hold both versions, which are the same images.
        let binary = files.iter().any(|path| matches!(role(path), Some(Role::Images { binary: true, .. })));
        for path in files {
            match role(&path) {
                Some(Role::Images { part, binary: of_binary }) if of_binary == binary => {
                    if part == self.part {
                        self.open_file(&path)?;
                    } else if part == Part::Test && self.part == Part::Train {
                        self.left_out.notes.push(not_trained_on(&path));
                    }
                }
                Some(Role::Names) if !binary => self.names(&Batch::open(&path)?, &path)?,
                Some(Role::Images { .. }) => self.left_out.file(path),
                _ => {}
            }
        }
        others.into_iter().for_each(|path| self.left_out.file(path));
        Ok(())
    }

    /// A folder that holds the published folder, or the archive.
    fn folder_above(&mut self, folder: &Path) -> Result<()> {
        let mut found =
            self.cifar.published().iter().map(|name| folder.join(name)).filter(|path| path.exists());
        let Some(first) = found.next() else {
            let problem = format!("no file {} in this folder", self.cifar.training_files());
            return Err(Error::format(folder, problem));
        };
        for same in found {
            let (same, first) = (same.display(), first.display());
            self.left_out.notes.push(format!("{same} is not read: {first} holds the same images"));
        }
        let (_, others) = files_of(folder, |name| self.cifar.published().contains(&name))?;
        others.into_iter().for_each(|path| self.left_out.file(path));
        if first.is_dir() { self.folder(&first) } else { self.archive(&first) }
    }

    /// A file that is named by itself.
    fn file(&mut self, path: &Path) -> Result<()> {
        if archive::is_archive(path)? {
            return self.archive(path);
        }
        match self.part {
            Part::Train => self.open_file(path),
            Part::Valid | Part::Test => Ok(()),
        }
    }

    fn open_file(&mut self, path: &Path) -> Result<()> {
        let mut start = [0];
        let file = File::open(path).map_err(Error::io(path))?;
        let known = (&file).read(&mut start).map_err(Error::io(path))?;
        if known == 1 && start[0] == PROTOCOL {
            return self.batch(&Batch::open(path)?, path);
        }
        let bytes = file.metadata().map_err(Error::io(path))?.len();
        let file = File::open(path).map_err(Error::io(path))?;
        let records = Records::new(self.cifar, path, Box::new(BufReader::new(file)), bytes)?;
        self.files.push(Box::new(records));
        Ok(())
    }

    fn archive(&mut self, path: &Path) -> Result<()> {
        let cifar = self.cifar;
        let mut found = archive::read(path, |name| match cifar.role(name) {
            Some(Role::Images { part, .. }) => part == self.part,
            role => role == Some(Role::Names),
        })?;
        found.files.sort_by(|a, b| a.0.cmp(&b.0));
        for name in found.passed {
            match cifar.role(&name.file_name().unwrap_or_default().to_string_lossy()) {
                Some(Role::Images { part: Part::Test, .. }) if self.part == Part::Train => {
                    self.left_out.notes.push(not_trained_on(&name));
                }
                Some(_) => {}
                None => self.left_out.file(name),
            }
        }
        let before = self.files.len();
        for (name, bytes) in found.files {
            let role = cifar.role(&name.file_name().unwrap_or_default().to_string_lossy());
            match role {
                Some(Role::Names) => self.names(&Batch::from_bytes(&name, bytes)?, &name)?,
                _ if bytes.first() == Some(&PROTOCOL) => {
                    self.batch(&Batch::from_bytes(&name, bytes)?, &name)?
                }
                _ => {
                    let length = bytes.len() as u64;
                    let records = Records::new(cifar, &name, Box::new(Cursor::new(bytes)), length)?;
                    self.files.push(Box::new(records));
                }
            }
        }
        if self.files.len() == before && self.part == Part::Train {
            let problem = format!("no file {} in this archive", cifar.training_files());
            return Err(Error::format(path, problem));
        }
        Ok(())
    }

    /// A batch of the Python version.
    fn batch(&mut self, batch: &Batch, path: &Path) -> Result<()> {
        let (key, _) = self.cifar.keys();
        let (shape, data) = batch.bytes("data")?;
        let count = match *shape {
            [count, IMAGE_BYTES] if count > 0 => count,
            _ => {
                return Err(array_error(
                    path,
                    "data",
                    format!("has shape {shape:?}, not [N, {IMAGE_BYTES}]"),
                ));
            }
        };
        let last = self.cifar.class_names().len() as i64 - 1;
        let labels = classes(path, key, &batch.integers(key)?, count, 0..=last)?;
        self.files.push(Box::new(Rows::new(Pixels::Pickled(data), labels, IMAGE_BYTES)));
        Ok(())
    }

    /// The names of the classes, where there is one for each label.
    fn names(&mut self, batch: &Batch, path: &Path) -> Result<()> {
        let (_, key) = self.cifar.keys();
        let names = batch.texts(key)?;
        let (found, wanted) = (names.len(), self.class_names.len());
        if found == wanted {
            self.class_names = names;
        } else {
            self.left_out.notes.push(format!(
                "{} has {found} {key}, not {wanted}: the classes are called as those of {}",
                path.display(),
                self.cifar.name()
            ));
        }
        Ok(())
    }
}

fn not_trained_on(path: &Path) -> String {
    format!("{} holds test images, which are not trained on", path.display())
}

/// The records of one file of the binary version.
struct Records {
    cifar: Cifar,
    path: PathBuf,
    file: Box<dyn Read + Send>,
    count: u64,
    next: u64,
}

impl Records {
    fn new(cifar: Cifar, path: &Path, file: Box<dyn Read + Send>, bytes: u64) -> Result<Self> {
        let record = (cifar.label_bytes().0 + IMAGE_BYTES) as u64;
        if bytes == 0 || !bytes.is_multiple_of(record) {
            let name = cifar.name();
            let problem = format!("{bytes} bytes are no whole number of {name}'s records of {record} bytes");
            return Err(Error::format(path, problem));
        }
        Ok(Self { cifar, path: path.to_path_buf(), file, count: bytes / record, next: 0 })
    }

    fn read(&mut self) -> Result<Image> {
        let (labels, place) = self.cifar.label_bytes();
        let mut record = vec![0; labels + IMAGE_BYTES];
        self.file.read_exact(&mut record).map_err(Error::io(&self.path))?;
        let label = record[place];
        let last = self.cifar.class_names().len() - 1;
        if usize::from(label) > last {
            let problem = format!("record {} (counted from 0) has label {label}, not 0 to {last}", self.next);
            return Err(Error::format(&self.path, problem));
        }
        self.next += 1;
        Ok(Image { pixels: record.split_off(labels), label: Some(label.into()) })
    }
}

impl Iterator for Records {
    type Item = Result<Image>;

    fn next(&mut self) -> Option<Self::Item> {
        (self.next < self.count).then(|| self.read())
    }
}

#[cfg(test)]
mod tests;
