//! The files inside of folders.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// Adds the `wanted` files inside `folder`, recursively and sorted by name; hidden entries, links to folders and what is no
/// file are skipped, and `other` is told of all but hidden ones, and what they are.
///
/// # Errors
/// [`Error::Io`] for a folder that cannot be read.
pub(super) fn collect(
    folder: &Path,
    wanted: &dyn Fn(&Path) -> bool,
    other: &dyn Fn(&Path, &str),
    files: &mut Vec<PathBuf>,
) -> Result<()> {
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
            collect(&path, wanted, other, files)?;
        } else if !path.is_file() {
            other(&path, what(&path));
        } else if wanted(&path) {
            files.push(path);
        }
    }
    Ok(())
}

/// What an entry is that is neither a file nor a folder of its own.
fn what(path: &Path) -> &'static str {
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => "a link to a folder",
        Ok(metadata) if is_pipe(&metadata) => "a pipe",
        Ok(_) => "no file",
        Err(error) if error.kind() == ErrorKind::NotFound => "a link to nothing",
        Err(_) => "a link that cannot be followed",
    }
}

#[cfg(unix)]
fn is_pipe(metadata: &fs::Metadata) -> bool {
    std::os::unix::fs::FileTypeExt::is_fifo(&metadata.file_type())
}

#[cfg(not(unix))]
fn is_pipe(_: &fs::Metadata) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wanted_files_are_found_in_order_and_no_hidden_ones() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("m")).unwrap();
        fs::create_dir(folder.path().join(".git")).unwrap();
        for name in ["z.md", "a.TXT", ".hidden.txt", "m/k.jsonl", "picture.png", ".git/x.txt"] {
            fs::write(folder.path().join(name), "x").unwrap();
        }
        let mut found = Vec::new();
        collect(folder.path(), &|path| path.extension().is_some_and(|e| e != "png"), &|_, _| {}, &mut found)
            .unwrap();
        let names: Vec<_> = found.iter().map(|path| path.strip_prefix(folder.path()).unwrap()).collect();
        assert_eq!(names, [Path::new("a.TXT"), Path::new("m/k.jsonl"), Path::new("z.md")]);
    }

    #[cfg(unix)]
    #[test]
    fn what_is_no_file_is_told() {
        use std::os::unix::fs::symlink;
        let (folder, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let path = |name: &str| folder.path().join(name);
        fs::write(path("a.txt"), "x").unwrap();
        symlink(path("a.txt"), path("b.txt")).unwrap();
        symlink(elsewhere.path(), path("c")).unwrap();
        symlink(path("gone"), path("d.txt")).unwrap();
        symlink(path("e.txt"), path("e.txt")).unwrap();
        let mut expected = vec![
            ("c".to_owned(), "a link to a folder".to_owned()),
            ("d.txt".to_owned(), "a link to nothing".to_owned()),
            ("e.txt".to_owned(), "a link that cannot be followed".to_owned()),
        ];
        if std::process::Command::new("mkfifo").arg(path("f.txt")).status().is_ok_and(|made| made.success()) {
            expected.push(("f.txt".to_owned(), "a pipe".to_owned()));
        }
        let (told, mut found) = (std::cell::RefCell::new(Vec::new()), Vec::new());
        let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
        let other = |path: &Path, what: &str| told.borrow_mut().push((name(path), what.to_owned()));
        collect(folder.path(), &|_| true, &other, &mut found).unwrap();
        assert_eq!(told.into_inner(), expected);
        assert_eq!(found, [path("a.txt"), path("b.txt")]);
    }
}
