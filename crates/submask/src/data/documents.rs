//! What stands in a corpus, read file by file.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::corpus::CorpusFile;
use super::document::Document;
use super::reader::{Fault, Given};
use crate::error::{Error, Result};

/// Records that were skipped since they could not be read, see [`Reading::skip_bad`](super::Reading::skip_bad).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Skipped {
    /// How many.
    pub records: u64,
    /// The first of them: its file, its place, and what is wrong with it.
    pub first: String,
}

/// What stands in one file.
pub(super) type FileItems<T> = Box<dyn Iterator<Item = Given<T>> + Send>;

/// Opens a file.
pub(super) type Open<T> = Box<dyn Fn(&CorpusFile) -> Result<FileItems<T>> + Send>;

/// The documents of a corpus, or its pairs, one after the other; ends after the first error.
pub struct Documents<T = Document> {
    files: std::vec::IntoIter<CorpusFile>,
    open: Open<T>,
    /// Whether records that cannot be read are skipped.
    skips: bool,
    current: FileItems<T>,
    skipped: Skipped,
    origin: PathBuf,
    seen: bool,
    finished: bool,
}

impl<T: 'static> Documents<T> {
    /// What stands in the files, each of which is opened by `open`; `origin` is what an error calls all of them, and `skips`
    /// whether records that cannot be read are skipped.
    pub(super) fn new(files: Vec<CorpusFile>, open: Open<T>, skips: bool, origin: PathBuf) -> Self {
        Self {
            files: files.into_iter(),
            open,
            skips,
            current: Box::new(std::iter::empty()),
            skipped: Skipped::default(),
            origin,
            seen: false,
            finished: false,
        }
    }

    /// The same, beginning with these.
    pub(super) fn of(self, first: impl Iterator<Item = Given<T>> + Send + 'static) -> Self {
        Self { current: Box::new(first), ..self }
    }
}

impl<T> Documents<T> {
    /// The records skipped so far; `None` where there are none.
    pub fn skipped(&self) -> Option<&Skipped> {
        Some(&self.skipped).filter(|skipped| skipped.records > 0)
    }

    fn empty_corpus(&self) -> Error {
        let skipped = match self.skipped() {
            Some(Skipped { records, first }) => {
                format!("; {records} records were skipped, the first: {first}")
            }
            None => String::new(),
        };
        Error::format(&self.origin, format!("an empty corpus: no document has any text{skipped}"))
    }

    fn next_of_files(&mut self) -> Option<Result<T>> {
        loop {
            match self.current.next() {
                Some(Ok(document)) => return Some(Ok(document)),
                Some(Err(Fault::Record(error))) if self.skips => {
                    if self.skipped.records == 0 {
                        self.skipped.first = error.to_string();
                    }
                    self.skipped.records += 1;
                }
                Some(Err(fault)) => return Some(Err(fault.error())),
                None => match (self.open)(&self.files.next()?) {
                    Ok(documents) => self.current = documents,
                    Err(error) => return Some(Err(error)),
                },
            }
        }
    }
}

impl<T> Iterator for Documents<T> {
    type Item = Result<T>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.finished {
            return None;
        }
        let item = match self.next_of_files() {
            None if !self.seen => Some(Err(self.empty_corpus())),
            item => item,
        };
        self.finished = !matches!(item, Some(Ok(_)));
        self.seen = true;
        item
    }
}
