//! Where the texts come from, as a value that can stand in a settings file.

use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};

use super::dictionary::dictionary;
use super::document::Document;
use super::folder::{self, Format};
use super::hash::Fingerprint;
use super::jsonl::JsonLines;
use super::pairs::{Pair, PairSource};
use super::text_file::TextFile;
use crate::error::{Error, Result};

/// What in a text file is one document. JSON lines and parquet files have one a record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Split {
    /// The whole file, exactly as it is.
    #[default]
    File,
    /// Every line that is not blank, without its end.
    Line,
    /// Every run of lines that are not blank, joined by `\n`.
    Paragraph,
}

/// A corpus: the built-in dictionary, files of text, or files of pairs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "corpus", rename_all = "snake_case", deny_unknown_fields)]
pub enum Source {
    /// The built-in English dictionary, see [`dictionary`].
    Dictionary,
    /// Files and folders.
    Files {
        /// Files, and folders of which every file with a known extension is read: `.txt`, `.text`,
        /// `.md` (UTF-8 text), `.jsonl`, `.ndjson` (JSON lines), `.parquet`, `.pq`.
        paths: Vec<PathBuf>,
        /// What in a text file is one document.
        #[serde(default)]
        split: Split,
        /// The field of JSON lines, and the column of parquet files, that holds the text.
        #[serde(default = "default_field")]
        field: String,
    },
    /// Prompts and completions.
    Pairs(PairSource),
}

fn default_field() -> String {
    "text".to_owned()
}

impl Source {
    /// Files and folders, one document a file, records' text in the field `text`.
    pub fn files<P: Into<PathBuf>>(paths: impl IntoIterator<Item = P>) -> Self {
        let paths = paths.into_iter().map(Into::into).collect();
        Self::Files { paths, split: Split::default(), field: default_field() }
    }

    /// The files of pairs, if they are pairs.
    pub fn pairs(&self) -> Option<&PairSource> {
        match self {
            Self::Pairs(source) => Some(source),
            _ => None,
        }
    }

    /// The documents, in the order of the paths and of the files; files are opened one by one and
    /// read in pieces. Of pairs a document is the prompt and the completion in one.
    ///
    /// # Errors
    /// Here, for a path that is not there, a folder without text files and no path at all. The
    /// iterator gives an error for a file that cannot be read (with the byte offset, line or row),
    /// and, at its end, for a corpus without any document; it ends after an error.
    pub fn documents(&self) -> Result<Documents> {
        let (inner, origin): (Box<dyn Iterator<Item = Result<Document>> + Send>, _) = match self {
            Self::Dictionary => (Box::new(dictionary()?.map(Ok)), PathBuf::from("dictionary")),
            Self::Files { paths, split, field } => {
                let (split, field) = (*split, field.clone());
                let files = self.listed_files()?.into_iter();
                let documents = files.flat_map(move |path| read_file(&path, split, &field));
                (Box::new(documents), paths[0].clone())
            }
            Self::Pairs(source) => {
                let is_pair =
                    |pair: &Result<Pair>| pair.as_ref().map_or(true, |pair| !pair.completion.is_empty());
                let joined = |Pair { prompt, completion }| Document::whole(prompt + &completion);
                let documents = source.pairs()?.filter(is_pair).map(move |pair| pair.map(joined));
                (Box::new(documents), source.paths[0].clone())
            }
        };
        Ok(Documents { inner, origin, seen: false, finished: false })
    }

    /// A number that changes when the corpus does: it covers the paths, sizes and modification times
    /// of the files, the split and the field, but not the contents.
    ///
    /// # Errors
    /// As [`Source::documents`] before the first document.
    pub fn stamp(&self) -> Result<u64> {
        let settings = serde_json::to_string(self)
            .map_err(|error| Error::invalid("source", format!("{self:?}"), error.to_string()))?;
        let mut stamp = Fingerprint::new().part(settings.as_bytes());
        for path in self.listed_files()? {
            let metadata = std::fs::metadata(&path).map_err(Error::io(&path))?;
            let modified = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
            let modified = modified.map_or(0, |age| age.as_nanos());
            stamp = stamp
                .part(path.as_os_str().as_encoded_bytes())
                .part(&metadata.len().to_le_bytes())
                .part(&modified.to_le_bytes());
        }
        Ok(stamp.value())
    }

    fn listed_files(&self) -> Result<Vec<PathBuf>> {
        match self {
            Self::Dictionary => Ok(Vec::new()),
            Self::Files { paths, .. } if paths.is_empty() => {
                Err(Error::invalid("paths", "[]", "at least one file or folder"))
            }
            Self::Files { paths, .. } => folder::files(paths),
            Self::Pairs(source) => source.listed_files(),
        }
    }
}

type FileDocuments = Box<dyn Iterator<Item = Result<Document>> + Send>;

fn read_file(path: &Path, split: Split, field: &str) -> FileDocuments {
    let opened: Result<FileDocuments> = match Format::of(path) {
        Format::Text => TextFile::open(path, split).map(|documents| Box::new(documents) as _),
        Format::JsonLines => JsonLines::open(path, field).map(|documents| Box::new(documents) as _),
        Format::Parquet => open_parquet(path, field),
    };
    opened.unwrap_or_else(|error| Box::new(std::iter::once(Err(error))))
}

#[cfg(feature = "parquet")]
fn open_parquet(path: &Path, column: &str) -> Result<FileDocuments> {
    Ok(Box::new(super::parquet_file::ParquetFile::open(path, column)?))
}

#[cfg(not(feature = "parquet"))]
fn open_parquet(path: &Path, _column: &str) -> Result<FileDocuments> {
    Err(Error::format(path, "this build cannot read parquet files; build with the feature `parquet`"))
}

/// The documents of a [`Source`], one after the other; ends after the first error.
pub struct Documents {
    inner: FileDocuments,
    origin: PathBuf,
    seen: bool,
    finished: bool,
}

impl Documents {
    fn empty_corpus(&self) -> Error {
        Error::format(&self.origin, "an empty corpus: no document has any text")
    }
}

impl Iterator for Documents {
    type Item = Result<Document>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.finished {
            return None;
        }
        let item = match self.inner.next() {
            None if !self.seen => Some(Err(self.empty_corpus())),
            item => item,
        };
        self.finished = !matches!(item, Some(Ok(_)));
        self.seen = true;
        item
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn texts(source: &Source) -> Result<Vec<String>> {
        source.documents()?.map(|document| document.map(|document| document.text)).collect()
    }

    #[test]
    fn files_of_different_formats_follow_each_other() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a.txt"), "one\ntwo").unwrap();
        fs::write(folder.path().join("b.jsonl"), "{\"text\": \"three\"}\n").unwrap();
        fs::write(folder.path().join("c.csv"), "named by itself").unwrap();
        let named = folder.path().join("c.csv");
        let source = Source::files([folder.path(), &named]);
        assert_eq!(texts(&source).unwrap(), ["one\ntwo", "three", "named by itself"]);
    }

    #[test]
    fn an_empty_corpus_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a.txt"), "").unwrap();
        let error = texts(&Source::files([folder.path()])).unwrap_err().to_string();
        assert!(error.contains("empty corpus"), "{error}");
        let error = texts(&Source::files::<PathBuf>([])).unwrap_err().to_string();
        assert!(error.contains("at least one"), "{error}");
    }

    #[test]
    fn documents_end_after_an_error() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a.jsonl"), "{\"text\": \"a\"}\nbad\n{\"text\": \"b\"}\n").unwrap();
        let documents: Vec<_> = Source::files([folder.path()]).documents().unwrap().collect();
        assert_eq!(documents.len(), 2);
        assert!(documents[1].as_ref().is_err_and(|error| error.to_string().contains("a.jsonl")));
    }

    #[test]
    fn the_stamp_changes_with_the_files_and_the_options() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a.txt"), "one").unwrap();
        let source = Source::files([folder.path()]);
        let before = source.stamp().unwrap();
        assert_eq!(before, source.stamp().unwrap());
        fs::write(folder.path().join("a.txt"), "three").unwrap();
        assert_ne!(before, source.stamp().unwrap());
    }

    #[cfg(not(feature = "parquet"))]
    #[test]
    fn without_its_feature_parquet_is_refused_by_the_features_name() {
        let file = tempfile::Builder::new().suffix(".parquet").tempfile().unwrap();
        let error = texts(&Source::files([file.path()])).unwrap_err().to_string();
        assert!(error.contains("feature `parquet`"), "{error}");
    }

    #[cfg(not(feature = "dictionary"))]
    #[test]
    fn without_its_feature_the_dictionary_is_refused_by_the_features_name() {
        let error = texts(&Source::Dictionary).unwrap_err().to_string();
        assert!(error.contains("feature `dictionary`"), "{error}");
    }

    #[test]
    fn a_source_stands_in_a_settings_file() {
        let source: Source = toml::from_str("corpus = \"files\"\npaths = [\"a\"]\nsplit = \"line\"").unwrap();
        let Source::Files { split, field, .. } = &source else { panic!("{source:?}") };
        assert_eq!((*split, field.as_str()), (Split::Line, "text"));
        assert!(toml::from_str::<Source>("corpus = \"files\"\npaths = []\nspilt = \"line\"").is_err());
        assert_eq!(toml::from_str::<Source>("corpus = \"dictionary\"").unwrap(), Source::Dictionary);
    }
}
