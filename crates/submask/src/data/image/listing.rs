//! Which picture files a list of paths stands for, of which part and class each is, and what is left out.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::folders::{Walk, folders_of};
use super::source::{LeftOut, Part, PictureFormat};
use crate::error::{Error, Result};

/// Names of folders, and beginnings of names of parquet files, that say a part.
const PARTS: [(&str, Part); 7] = [
    ("training", Part::Train),
    ("train", Part::Train),
    ("validation", Part::Valid),
    ("valid", Part::Valid),
    ("val", Part::Valid),
    ("testing", Part::Test),
    ("test", Part::Test),
];

/// A file of pictures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub path: PathBuf,
    /// Whether it is a parquet file, which holds many.
    pub parquet: bool,
    /// The folder that names its class.
    pub class: Option<String>,
}

/// How paths are searched.
pub(super) struct Search<'a> {
    pub formats: &'a [PictureFormat],
    pub labelled: bool,
    pub official_split: bool,
}

/// What was found.
#[derive(Default)]
pub(super) struct Listing {
    train: Vec<Found>,
    valid: Vec<Found>,
    test: Vec<Found>,
    pub left_out: LeftOut,
}

impl Listing {
    /// Searches the paths.
    ///
    /// # Errors
    /// [`Error::Io`] for a path that is absent; [`Error::Format`] for a folder without pictures, a picture without a
    /// class, and pictures beside folders of parts.
    pub fn of(paths: &[PathBuf], search: &Search) -> Result<Self> {
        let mut listing = Self::default();
        for path in paths {
            if fs::metadata(path).map_err(Error::io(path))?.is_dir() {
                listing.root(path, search)?;
            } else {
                listing.single(path, search)?;
            }
        }
        Ok(listing)
    }

    /// The files of a part, and what is left out. Without validation pictures those of the test part are held out,
    /// unless they lack the classes that are wanted.
    pub fn part(mut self, part: Part, search: &Search) -> (Vec<Found>, LeftOut) {
        let has_classes =
            !search.labelled || self.test.iter().all(|found| found.parquet || found.class.is_some());
        let test_is_valid = self.valid.is_empty() && has_classes;
        if let Some(first) = self.test.first().filter(|_| part == Part::Train) {
            let count = self.test.len();
            let files = if count == 1 { "file" } else { "files" };
            let what = match (test_is_valid, has_classes) {
                (true, _) => "held out, since there are none for validation",
                (false, true) => "neither trained on nor held out",
                (false, false) => "neither trained on nor held out: they have no classes",
            };
            let first = first.path.display();
            self.left_out
                .notes
                .push(format!("{count} {files} of test pictures, from {first} on, are {what}"));
        }
        let files = match part {
            Part::Train => self.train,
            Part::Valid if test_is_valid => self.test,
            Part::Valid => self.valid,
            Part::Test => self.test,
        };
        (files, self.left_out)
    }

    fn add(&mut self, part: Part, found: Found) {
        match part {
            Part::Train => self.train.push(found),
            Part::Valid => self.valid.push(found),
            Part::Test => self.test.push(found),
        }
    }

    /// A file that is named by itself.
    fn single(&mut self, path: &Path, search: &Search) -> Result<()> {
        let parquet = PictureFormat::of(path) == Some(PictureFormat::Parquet);
        if search.labelled && !parquet {
            return Err(Error::format(
                path,
                "a picture that is named by itself has no folder, hence no class",
            ));
        }
        let part = if parquet { part_of_file(path, search) } else { Part::Train };
        self.add(part, Found { path: path.to_path_buf(), parquet, class: None });
        Ok(())
    }

    /// A folder: its pictures, or those of the folders of its parts.
    fn root(&mut self, root: &Path, search: &Search) -> Result<()> {
        let folders = if search.official_split { folders_of(root)? } else { Vec::new() };
        let (parts, others): (Vec<_>, Vec<_>) = folders
            .into_iter()
            .map(|name| (part_named(&name, str::eq_ignore_ascii_case), name))
            .partition(|(part, _)| part.is_some());
        let parts: Vec<(Part, String)> =
            parts.into_iter().filter_map(|(part, name)| Some((part?, name))).collect();
        let mut walk =
            parts.iter().try_fold(Walk::default(), |walk, (_, name)| walk.knowing(&root.join(name)))?;
        for (_, name) in others {
            walk.folder(&root.join(name))?;
        }
        let Walk { files: mut beside, notes, .. } = walk;
        let is_split = !parts.is_empty()
            && match beside.iter().find(|file| search.picks(file)) {
                None => true,
                // A class may be called train; classes called train and test are hardly classes.
                Some(file) if has_train_and_held_out(&parts) => return Err(lost(file, &parts)),
                Some(_) => false,
            };
        if !is_split {
            return self.folder(root, None, search);
        }
        for entry in fs::read_dir(root).map_err(Error::io(root))? {
            let path = entry.map_err(Error::io(root))?.path();
            let is_hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
            if !is_hidden && path.is_file() {
                beside.push(path);
            }
        }
        beside.sort();
        self.left_out.notes.extend(notes);
        for file in beside {
            if search.picks(&file) {
                return Err(lost(&file, &parts));
            }
            self.left_out.file(file);
        }
        parts.iter().try_for_each(|(part, name)| self.folder(&root.join(name), Some(*part), search))
    }

    /// The pictures of a folder, which are of `part`, or of the parts that names of parquet files say.
    fn folder(&mut self, folder: &Path, part: Option<Part>, search: &Search) -> Result<()> {
        let mut walk = Walk::default();
        walk.folder(folder)?;
        let Walk { files, notes, .. } = walk;
        self.left_out.notes.extend(notes);
        let (picked, others): (Vec<_>, Vec<_>) = files.into_iter().partition(|file| search.picks(file));
        others.into_iter().for_each(|file| self.left_out.file(file));
        if picked.is_empty() && part == Some(Part::Test) {
            self.left_out.notes.push(format!("{} holds no picture", folder.display()));
            return Ok(());
        }
        if picked.is_empty() {
            let endings: Vec<String> = search
                .formats
                .iter()
                .flat_map(|format| format.extensions())
                .map(|extension| format!(".{extension}"))
                .collect();
            let problem = format!("no pictures in this folder; looked for {}", endings.join(", "));
            return Err(Error::format(folder, problem));
        }
        let mut classes = BTreeSet::new();
        for path in picked {
            let parquet = PictureFormat::of(&path) == Some(PictureFormat::Parquet);
            let class = match search.labelled && !parquet {
                // Test pictures often have no classes, and need none while they are not used.
                true if part == Some(Part::Test) => class(folder, &path).ok(),
                true => Some(class(folder, &path)?),
                false => None,
            };
            classes.extend(class.clone());
            let part = part.unwrap_or_else(|| match parquet {
                true => part_inside(folder, &path, search),
                false => Part::Train,
            });
            self.add(part, Found { path, parquet, class });
        }
        if !classes.is_empty() {
            for name in folders_of(folder)?.into_iter().filter(|name| !classes.contains(name)) {
                let path = folder.join(name);
                self.left_out.notes.push(format!("{} holds no picture: it is no class", path.display()));
            }
        }
        Ok(())
    }
}

impl Search<'_> {
    /// Whether a file in a folder is read.
    fn picks(&self, path: &Path) -> bool {
        PictureFormat::of(path).is_some_and(|format| self.formats.contains(&format))
    }
}

/// The part whose name compares with `name` as `is` says.
fn part_named(name: &str, is: impl Fn(&str, &str) -> bool) -> Option<Part> {
    PARTS.into_iter().find(|(known, _)| is(name, known)).map(|(_, part)| part)
}

/// Whether there are images to train on and others.
fn has_train_and_held_out(parts: &[(Part, String)]) -> bool {
    let is_train = |(part, _): &(Part, String)| *part == Part::Train;
    parts.iter().any(is_train) && !parts.iter().all(is_train)
}

/// What is said of a picture beside folders of parts.
fn lost(file: &Path, parts: &[(Part, String)]) -> Error {
    let names: Vec<&str> = parts.iter().map(|(_, name)| name.as_str()).collect();
    let problem = format!(
        "it stands beside the folders {}: move it into one of them, or set data.official_split to false",
        names.join(", ")
    );
    Error::format(file, problem)
}

/// The part of a parquet file inside `root`: of its name, or else of the last folder that is called like a part.
fn part_inside(root: &Path, file: &Path, search: &Search) -> Part {
    let part = part_of_file(file, search);
    if part != Part::Train || !search.official_split {
        return part;
    }
    let folders =
        file.parent().and_then(|folder| folder.strip_prefix(root).ok()).into_iter().flat_map(Path::iter);
    let named = |name: &std::ffi::OsStr| part_named(&name.to_string_lossy(), str::eq_ignore_ascii_case);
    folders.filter_map(named).next_back().unwrap_or(part)
}

/// The part of a parquet file: `test-00000-of-00001.parquet` holds test pictures.
fn part_of_file(path: &Path, search: &Search) -> Part {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    let begins = |stem: &str, known: &str| {
        stem.strip_prefix(known).is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_alphabetic()))
    };
    let part = search.official_split.then(|| part_named(&stem, begins)).flatten();
    part.unwrap_or_default()
}

/// The name of the folder directly inside `root` that `file` is in.
fn class(root: &Path, file: &Path) -> Result<String> {
    let mut parts = file.strip_prefix(root).unwrap_or(file).iter();
    match (parts.next(), parts.next()) {
        (Some(folder), Some(_)) => Ok(folder.to_string_lossy().into_owned()),
        _ => {
            let problem = format!("it is in no folder inside {}, hence has no class", root.display());
            Err(Error::format(file, problem))
        }
    }
}
