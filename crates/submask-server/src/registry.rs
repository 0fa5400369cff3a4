//! The models that are served: each is opened and put on a device once.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use submask::likelihood::Figure;
use submask::model::{Model, Session, WEIGHTS_FILE};
use submask::{Compute, Error, Result};

/// A model to serve.
#[derive(Clone, Debug)]
pub struct ModelSource {
    /// By which clients ask for it.
    pub name: String,
    /// The model folder.
    pub folder: PathBuf,
    /// What is known of it: figures of its run's validation, for instance.
    pub figures: Vec<Figure>,
}

/// A model that is open.
#[derive(Clone)]
pub struct OpenModel {
    /// By which clients ask for it.
    pub name: String,
    /// The model folder.
    pub folder: PathBuf,
    /// When its weights were written, in seconds since 1970.
    pub created: u64,
    /// What is known of it.
    pub figures: Vec<Figure>,
    /// The model on its device.
    pub session: Arc<Session>,
}

impl ModelSource {
    /// Checks the name: letters, digits and `. _ - : @ +`, so that it can stand in a path and in a label.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming it.
    pub fn check_name(&self) -> Result<()> {
        let is_plain = |c: char| c.is_alphanumeric() || "._-:@+".contains(c);
        let is_name = !self.name.is_empty() && self.name.chars().all(is_plain);
        let is_dots = self.name.chars().all(|c| c == '.');
        match is_name && !is_dots {
            true => Ok(()),
            false => {
                let allowed = "a name of letters, digits and . _ - : @ + (NAME=PATH gives one)";
                Err(Error::invalid("model", format!("{:?}", self.name), allowed))
            }
        }
    }

    /// Opens the model and puts it on a device.
    ///
    /// # Errors
    /// As [`Model::open`] and [`Model::session`].
    pub fn open(&self, compute: &Compute) -> Result<OpenModel> {
        let session = Model::open(&self.folder)?.session(compute)?;
        Ok(OpenModel {
            name: self.name.clone(),
            folder: self.folder.clone(),
            created: written(&self.folder)?,
            figures: self.figures.clone(),
            session: Arc::new(session),
        })
    }
}

/// That there are models, and that each has a name of its own.
///
/// # Errors
/// [`Error::Invalid`] naming what is wrong.
pub fn check_names(sources: &[ModelSource]) -> Result<()> {
    if sources.is_empty() {
        return Err(Error::invalid("model", "none", "at least one model"));
    }
    sources.iter().try_for_each(ModelSource::check_name)?;
    let mut names = HashSet::new();
    match sources.iter().find(|source| !names.insert(&source.name)) {
        None => Ok(()),
        Some(again) => {
            let folders = sources.iter().filter(|source| source.name == again.name);
            let folders: Vec<_> = folders.map(|source| source.folder.display().to_string()).collect();
            let allowed = format!(
                "it would stand for each of {}; NAME=PATH gives a model another name, such as other={}",
                folders.join(", "),
                again.folder.display()
            );
            Err(Error::invalid("model", format!("{:?}", again.name), allowed))
        }
    }
}

/// When the weights in a folder were written.
fn written(folder: &Path) -> Result<u64> {
    let path = folder.join(WEIGHTS_FILE);
    let time = std::fs::metadata(&path).and_then(|data| data.modified()).map_err(Error::io(&path))?;
    Ok(time.duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(name: &str, folder: &str) -> ModelSource {
        ModelSource { name: name.to_owned(), folder: folder.into(), figures: Vec::new() }
    }

    #[test]
    fn names_are_plain_and_differ() {
        check_names(&[source("gpt-2.1_b:x", "a"), source("wörter@2+", "b")]).unwrap();
        for name in ["", ".", "..", "a/b", "a b", "a\"", "a\n", "a?b", "a%2F"] {
            let error = check_names(&[source(name, "a")]).unwrap_err().to_string();
            assert!(error.contains("NAME=PATH") && error.contains(&format!("{name:?}")), "{error}");
        }
        let error = check_names(&[source("x", "a/x"), source("y", "y"), source("x", "b/x")]).unwrap_err();
        let error = error.to_string();
        assert!(error.contains("each of a/x, b/x") && error.contains("\"x\""), "{error}");
        assert!(check_names(&[]).is_err());
    }
}
