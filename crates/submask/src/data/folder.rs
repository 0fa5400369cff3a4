//! The files inside of folders.

use std::fs;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

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
    fn wanted_files_are_found_in_order_and_no_hidden_ones() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("m")).unwrap();
        fs::create_dir(folder.path().join(".git")).unwrap();
        for name in ["z.md", "a.TXT", ".hidden.txt", "m/k.jsonl", "picture.png", ".git/x.txt"] {
            fs::write(folder.path().join(name), "x").unwrap();
        }
        let mut found = Vec::new();
        collect(folder.path(), &|path| path.extension().is_some_and(|e| e != "png"), &mut found).unwrap();
        let names: Vec<_> = found.iter().map(|path| path.strip_prefix(folder.path()).unwrap()).collect();
        assert_eq!(names, [Path::new("a.TXT"), Path::new("m/k.jsonl"), Path::new("z.md")]);
    }
}
