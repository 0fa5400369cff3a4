//! The files inside of folders of pictures, where folders may be links: sets are often put together of links.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// The files inside of folders, and what links are not followed.
#[derive(Default)]
pub(super) struct Walk {
    /// Sorted by name inside every folder.
    pub files: Vec<PathBuf>,
    /// Links that lead nowhere, or to a folder that is read already, each in words.
    pub notes: Vec<String>,
    /// Folders that were begun, without links in their paths.
    seen: BTreeSet<PathBuf>,
    /// Those of them that are not done.
    within: Vec<PathBuf>,
}

impl Walk {
    /// One that takes `folder` for read already.
    ///
    /// # Errors
    /// As [`Self::folder`].
    pub fn knowing(mut self, folder: &Path) -> Result<Self> {
        self.seen.insert(real(folder)?);
        Ok(self)
    }

    /// Adds the files inside `folder`, recursively; hidden entries are skipped. A link to a folder is followed unless that
    /// folder was begun before or holds the link, so that circles end.
    ///
    /// # Errors
    /// [`Error::Io`] for a folder that cannot be read.
    pub fn folder(&mut self, folder: &Path) -> Result<()> {
        let place = real(folder)?;
        self.seen.insert(place.clone());
        self.within.push(place);
        for path in entries(folder)? {
            let is_link = path.is_symlink();
            if path.is_dir() {
                if is_link && self.is_read(&real(&path)?) {
                    self.notes.push(format!(
                        "{} is a link to a folder that is read under another name",
                        path.display()
                    ));
                } else {
                    self.folder(&path)?;
                }
            } else if path.is_file() {
                self.files.push(path);
            } else if is_link {
                self.notes.push(format!("{} is a link to nothing that can be read", path.display()));
            }
        }
        self.within.pop();
        Ok(())
    }

    /// Whether a folder was begun, or holds one that is not done.
    fn is_read(&self, folder: &Path) -> bool {
        self.seen.contains(folder) || self.within.iter().any(|inner| inner.starts_with(folder))
    }
}

/// The path without links in it.
fn real(path: &Path) -> Result<PathBuf> {
    fs::canonicalize(path).map_err(Error::io(path))
}

/// The names of the folders directly inside `folder`, sorted, without hidden ones; links to folders are among them.
pub(super) fn folders_of(folder: &Path) -> Result<Vec<String>> {
    let folders = entries(folder)?.into_iter().filter(|path| path.is_dir());
    let names = folders.filter_map(|path| Some(path.file_name()?.to_string_lossy().into_owned()));
    Ok(names.collect())
}

/// What is directly inside `folder` and not hidden, sorted by name.
fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).map_err(Error::io(folder))? {
        let entry = entry.map_err(Error::io(folder))?;
        if !entry.file_name().as_encoded_bytes().starts_with(b".") {
            paths.push(entry.path());
        }
    }
    paths.sort_by(|a, b| a.file_name().cmp(&b.file_name()));
    Ok(paths)
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_to_folders_are_followed_and_circles_end() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir_all(at("root/b/deep")).unwrap();
        fs::create_dir_all(at("elsewhere/inner")).unwrap();
        for name in ["root/b/deep/1.png", "root/z.png", "elsewhere/2.png", "elsewhere/inner/3.png"] {
            fs::write(at(name), "x").unwrap();
        }
        symlink(at("elsewhere"), at("root/a")).unwrap();
        symlink(at("root"), at("root/b/circle")).unwrap();
        symlink(at("elsewhere"), at("root/c")).unwrap();
        symlink(at("elsewhere/2.png"), at("root/y.png")).unwrap();
        symlink(at("nowhere"), at("root/gone.png")).unwrap();
        symlink("elsewhere", at("loop")).unwrap();
        symlink(at("loop"), at("elsewhere/inner/loop")).unwrap();
        let mut walk = Walk::default();
        walk.folder(&at("root")).unwrap();
        let names: Vec<_> = walk.files.iter().map(|path| path.strip_prefix(at("root")).unwrap()).collect();
        let expected = ["a/2.png", "a/inner/3.png", "b/deep/1.png", "y.png", "z.png"];
        assert_eq!(names, expected.map(Path::new));
        let noted = ["a/inner/loop", "b/circle", "c", "gone.png"];
        assert_eq!(walk.notes.len(), noted.len(), "{:?}", walk.notes);
        for (note, name) in walk.notes.iter().zip(noted) {
            assert!(note.starts_with(&format!("{} is a link", at("root").join(name).display())), "{note}");
        }
        assert_eq!(folders_of(&at("root")).unwrap(), ["a", "b", "c"]);
    }
}
