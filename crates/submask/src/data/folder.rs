//! Which files a list of paths stands for, and how each is read.

use std::fs;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// How a file is read; follows from its extension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Text,
    JsonLines,
    Parquet,
}

/// The extensions that are picked out of folders.
const EXTENSIONS: [(&str, Format); 7] = [
    ("txt", Format::Text),
    ("text", Format::Text),
    ("md", Format::Text),
    ("jsonl", Format::JsonLines),
    ("ndjson", Format::JsonLines),
    ("parquet", Format::Parquet),
    ("pq", Format::Parquet),
];

impl Format {
    /// The format of a file that was named by itself: anything unknown is text.
    pub(super) fn of(path: &Path) -> Self {
        Self::by_extension(path).unwrap_or(Self::Text)
    }

    fn by_extension(path: &Path) -> Option<Self> {
        let extension = path.extension()?.to_str()?.to_ascii_lowercase();
        EXTENSIONS.iter().find(|(known, _)| *known == extension).map(|(_, format)| *format)
    }
}

/// The files of `paths`, in order; folders give the files inside with a known extension, recursively
/// and sorted by name. Hidden entries and links to folders are skipped.
///
/// # Errors
/// [`Error::Io`] for a path that is not there, [`Error::Format`] for a folder without such files.
pub(super) fn files(paths: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in paths {
        if fs::metadata(path).map_err(Error::io(path))?.is_dir() {
            let before = files.len();
            collect(path, &|file| Format::by_extension(file).is_some(), &mut files)?;
            if files.len() == before {
                let known: Vec<_> = EXTENSIONS.iter().map(|(known, _)| format!(".{known}")).collect();
                let problem = format!("no text files in this folder; looked for {}", known.join(", "));
                return Err(Error::format(path, problem));
            }
        } else {
            files.push(path.clone());
        }
    }
    Ok(files)
}

/// Adds the `wanted` files inside `folder`, recursively and sorted by name; hidden entries and links to folders are
/// skipped.
///
/// # Errors
/// [`Error::Io`] for a folder that cannot be read.
pub(super) fn collect(folder: &Path, wanted: &dyn Fn(&Path) -> bool, files: &mut Vec<PathBuf>) -> Result<()> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(folder).map_err(Error::io(folder))? {
        entries.push(entry.map_err(Error::io(folder))?);
    }
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        if entry.file_name().as_encoded_bytes().starts_with(b".") {
            continue;
        }
        if entry.file_type().map_err(Error::io(&path))?.is_dir() {
            collect(&path, wanted, files)?;
        } else if path.is_file() && wanted(&path) {
            files.push(path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_gives_its_text_files_sorted_and_no_hidden_ones() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("m")).unwrap();
        fs::create_dir(folder.path().join(".git")).unwrap();
        for name in ["z.md", "a.TXT", ".hidden.txt", "m/k.jsonl", "picture.png", ".git/x.txt"] {
            fs::write(folder.path().join(name), "x").unwrap();
        }
        let found = files(&[folder.path().to_path_buf()]).unwrap();
        let names: Vec<_> = found.iter().map(|path| path.strip_prefix(folder.path()).unwrap()).collect();
        assert_eq!(names, [Path::new("a.TXT"), Path::new("m/k.jsonl"), Path::new("z.md")]);
        assert_eq!(
            found.iter().map(|f| Format::of(f)).collect::<Vec<_>>(),
            [Format::Text, Format::JsonLines, Format::Text]
        );
    }

    #[test]
    fn a_folder_without_text_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("picture.png"), "x").unwrap();
        let error = files(&[folder.path().to_path_buf()]).unwrap_err().to_string();
        assert!(error.contains(&*folder.path().to_string_lossy()) && error.contains(".txt"), "{error}");
    }

    #[test]
    fn a_path_that_is_not_there_is_refused_by_name() {
        let error = files(&[PathBuf::from("no/such/file.txt")]).unwrap_err();
        assert!(matches!(error, Error::Io { path, .. } if path == Path::new("no/such/file.txt")));
    }
}
