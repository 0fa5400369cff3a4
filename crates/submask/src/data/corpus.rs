//! The files and streams of a corpus, found and ready to be read.

use std::cell::RefCell;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};

use super::csv_file::CsvFile;
use super::dictionary::{dictionary, first_dictionary};
use super::document::Document;
use super::folder;
use super::format::Format;
use super::hash::Fingerprint;
use super::input::{Compression, Input};
use super::json_file::JsonFile;
use super::reader::{Fault, FileDocuments, Rules};
use super::separator::Separated;
use super::source::{Source, Split};
use super::text_file::TextFile;
use super::token_file::TokenFile;
use super::tokenizer::Tokenizer;
use crate::error::{Error, Result};

/// The path that stands for standard input.
pub const STANDARD_INPUT: &str = "-";

/// Files of folders that are not read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LeftOut {
    /// How many.
    pub files: u64,
    /// The first of them, and why where its name does not say it.
    pub first: String,
}

/// Records that were skipped since they could not be read, see [`Reading::skip_bad`](super::Reading::skip_bad).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Skipped {
    /// How many.
    pub records: u64,
    /// The first of them: its file, its place, and what is wrong with it.
    pub first: String,
}

/// A corpus whose files are found.
#[derive(Clone, Debug)]
pub struct Corpus {
    /// The source as text, for the stamp.
    settings: String,
    /// What it is called where none of its files is to blame.
    origin: PathBuf,
    files: Vec<CorpusFile>,
    left_out: LeftOut,
    /// How files are read; the built-in dictionary is none.
    rules: Option<Rules>,
    /// Whether that dictionary is the first edition.
    first_edition: bool,
}

/// One file or stream.
#[derive(Clone, Debug)]
struct CorpusFile {
    /// What errors call it.
    name: PathBuf,
    place: Place,
}

/// Where the bytes are.
#[derive(Clone, Debug)]
enum Place {
    File,
    /// In what can be read once.
    Stream,
    /// In a copy of a stream, with a hash of its content.
    Copy(PathBuf, u64),
}

impl Corpus {
    /// Finds the files of a source.
    ///
    /// # Errors
    /// [`Error::Invalid`] for no path at all, and for standard input named twice; [`Error::Io`] for a path that is not
    /// there; [`Error::Format`] for a folder without a file that can be read.
    pub(super) fn new(source: &Source) -> Result<Self> {
        let settings = |source: &Source| {
            serde_json::to_string(source)
                .map_err(|error| Error::invalid("source", format!("{source:?}"), error.to_string()))
        };
        let Source::Files { paths, split, field, reading } = source else {
            let (origin, files) = (PathBuf::from("dictionary"), Vec::new());
            return Ok(Self {
                settings: settings(source)?,
                origin,
                files,
                left_out: LeftOut::default(),
                rules: None,
                first_edition: *source == Source::FirstDictionary,
            });
        };
        let first =
            paths.first().ok_or_else(|| Error::invalid("paths", "[]", "at least one file or folder"))?;
        let rules = Rules { split: *split, field: field.clone(), reading: reading.clone(), vocab_size: None };
        let mut listing = Listing { rules: &rules, files: Vec::new(), left_out: RefCell::default() };
        for path in paths {
            listing.add(path)?;
        }
        let (files, left_out) = (listing.files, listing.left_out.into_inner());
        Ok(Self {
            settings: settings(&source.with_named_streams())?,
            origin: called(first),
            files,
            left_out,
            rules: Some(rules),
            first_edition: false,
        })
    }

    /// The files of its folders that are not read; `None` where there are none.
    pub fn left_out(&self) -> Option<&LeftOut> {
        Some(&self.left_out).filter(|left_out| left_out.files > 0)
    }

    /// Whether it comes from a stream, which can be read once only.
    pub fn has_streams(&self) -> bool {
        self.files.iter().any(|file| matches!(file.place, Place::Stream))
    }

    /// Copies its streams into `folder`, from where they can be read as often as files.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn copy_streams(&mut self, folder: &Path) -> Result<()> {
        for (n, file) in self.files.iter_mut().enumerate() {
            if matches!(file.place, Place::Stream) {
                let path = folder.join(format!("stream-{n}"));
                let hash = copy(stream(&file.name)?, &file.name, &path)?;
                file.place = Place::Copy(path, hash);
            }
        }
        Ok(())
    }

    /// Removes the copies of streams.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn remove_copies(&self) -> Result<()> {
        self.files.iter().try_for_each(|file| match &file.place {
            Place::Copy(path, _) => fs::remove_file(path).map_err(Error::io(path)),
            Place::File | Place::Stream => Ok(()),
        })
    }

    /// The documents, in the order of the paths and of the files; files are opened one by one and
    /// read in pieces.
    ///
    /// # Errors
    /// Here, where the built-in dictionary is missing. The iterator gives an error for a file that cannot be read (with
    /// the byte offset, line or row), and, at its end, for a corpus without any document; it ends after an error.
    pub fn documents(&self) -> Result<Documents> {
        let current: FileDocuments = match &self.rules {
            None if self.first_edition => Box::new(first_dictionary()?.map(Ok)),
            None => Box::new(dictionary()?.map(Ok)),
            Some(_) => Box::new(std::iter::empty()),
        };
        Ok(Documents {
            files: self.files.clone().into_iter(),
            rules: self.rules.clone(),
            current,
            skipped: Skipped::default(),
            origin: self.origin.clone(),
            seen: false,
            finished: false,
        })
    }

    /// The same documents for a tokenizer: token numbers must be of its vocabulary, and are named with their places if they
    /// are not.
    ///
    /// # Errors
    /// As [`Self::documents`].
    pub fn documents_for(&self, tokenizer: &Tokenizer) -> Result<Documents> {
        let mut documents = self.documents()?;
        if let Some(rules) = &mut documents.rules {
            rules.vocab_size = Some(tokenizer.vocab_size() as u64);
        }
        Ok(documents)
    }

    /// As [`Source::stamp`](super::Source::stamp); of copied streams it covers the contents.
    ///
    /// # Errors
    /// [`Error::Io`] for a file that is not there any more.
    pub fn stamp(&self) -> Result<u64> {
        let mut stamp = Fingerprint::new().part(self.settings.as_bytes());
        for CorpusFile { name, place } in &self.files {
            stamp = match place {
                Place::Copy(_, hash) => stamp.part(&hash.to_le_bytes()),
                Place::Stream => stamp,
                Place::File => {
                    let metadata = fs::metadata(name).map_err(Error::io(name))?;
                    let modified =
                        metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
                    let modified = modified.map_or(0, |age| age.as_nanos());
                    stamp
                        .part(name.as_os_str().as_encoded_bytes())
                        .part(&metadata.len().to_le_bytes())
                        .part(&modified.to_le_bytes())
                }
            };
            if let Some(revision) = Format::revision(name) {
                stamp = stamp.part(revision.as_bytes());
            }
        }
        Ok(stamp.value())
    }
}

/// Files as they are found.
struct Listing<'a> {
    rules: &'a Rules,
    files: Vec<CorpusFile>,
    left_out: RefCell<LeftOut>,
}

impl Listing<'_> {
    fn add(&mut self, path: &Path) -> Result<()> {
        if is_stream(path) {
            let name = called(path);
            if self.files.iter().any(|file| file.name == name && matches!(file.place, Place::Stream)) {
                return Err(Error::invalid(
                    "paths",
                    path.display(),
                    "a stream once: it can be read only once",
                ));
            }
            self.files.push(CorpusFile { name, place: Place::Stream });
        } else if fs::metadata(path).map_err(Error::io(path))?.is_dir() {
            self.add_folder(path)?;
        } else {
            self.files.push(CorpusFile { name: path.to_path_buf(), place: Place::File });
        }
        Ok(())
    }

    fn add_folder(&mut self, folder: &Path) -> Result<()> {
        let mut found = Vec::new();
        folder::collect(folder, &|file| self.is_read(file), &mut found)?;
        if found.is_empty() {
            let LeftOut { files, first } = &*self.left_out.borrow();
            let there = match files {
                0 => String::new(),
                1 => format!("; there is {first}"),
                files => format!("; there are {files} others, the first is {first}"),
            };
            let problem = format!("no text files in this folder; looked for {}{there}", Format::endings());
            return Err(Error::format(folder, problem));
        }
        self.files.extend(found.into_iter().map(|name| CorpusFile { name, place: Place::File }));
        Ok(())
    }

    /// Whether a file of a folder is read; if not, it is counted.
    fn is_read(&self, file: &Path) -> bool {
        if self.rules.reading.format.given().is_some() {
            return true;
        }
        let lacking = if Format::is_searched_for(file) { self.lacks_text(file) } else { None };
        if Format::is_searched_for(file) && lacking.is_none() {
            return true;
        }
        let mut left_out = self.left_out.borrow_mut();
        if left_out.files == 0 {
            left_out.first =
                lacking.map_or_else(|| file.display().to_string(), |problem| problem.to_string());
        }
        left_out.files += 1;
        false
    }

    /// What is missing in a file that has not the field which holds the text, where its format is used for other things
    /// than texts, too, such as a description of the corpus.
    fn lacks_text(&self, file: &Path) -> Option<Error> {
        let input = || Input::open(file, file).ok();
        match Format::of_name(file)? {
            Format::Json if Format::may_be_other_json(file) => {
                JsonFile::new(input()?, self.rules).ok()?.missing_field()
            }
            Format::Table(separator) => CsvFile::lacks_column(input()?, separator, self.rules),
            _ => None,
        }
    }
}

impl CorpusFile {
    fn documents(&self, rules: &Rules) -> Result<FileDocuments> {
        let asked = rules.reading.format.given();
        let named = asked.or_else(|| Format::of_name(&self.name));
        if named == Some(Format::Parquet) {
            return self.parquet(rules);
        }
        let input = match &self.place {
            Place::Stream => Input::of_stream(stream(&self.name)?, &self.name)?,
            Place::File => Input::open(&self.name, &self.name)?,
            Place::Copy(path, _) => Input::open(path, &self.name)?,
        };
        let format = named.unwrap_or_else(|| match (Format::of_beginning(input.head()), &self.place) {
            (Format::Parquet, _) => Format::Parquet,
            (_, Place::File) => Format::Text,
            (format, _) => format,
        });
        let documents: FileDocuments = match format {
            // Where a separator says what a document is, nothing else does.
            Format::Text if !rules.reading.separator.is_empty() => {
                Box::new(TextFile::new(input, Split::File)?)
            }
            Format::Text => Box::new(TextFile::new(input, rules.split)?),
            Format::Json => Box::new(JsonFile::new(input, rules)?),
            Format::Table(separator) => Box::new(CsvFile::new(input, separator, rules)?),
            Format::Tokens(width) => return Ok(Box::new(TokenFile::new(input, width, rules)?)),
            Format::Parquet => return self.parquet(rules),
        };
        Ok(divided(documents, rules))
    }

    /// Parquet is read here and there in a file.
    fn parquet(&self, rules: &Rules) -> Result<FileDocuments> {
        let path = match &self.place {
            Place::Stream => {
                let problem = "parquet in a stream, which is read in order: give a file";
                return Err(Error::format(&self.name, problem));
            }
            Place::File => &self.name,
            Place::Copy(path, _) => path,
        };
        if let Some((compression, _)) = Compression::of_name(&self.name) {
            let problem = format!(
                "parquet inside of {}: unpack it; parquet compresses its columns itself",
                compression.name()
            );
            return Err(Error::format(&self.name, problem));
        }
        Ok(divided(open_parquet(path, &self.name, rules)?, rules))
    }
}

/// Documents divided by the separator, if there is one.
fn divided(documents: FileDocuments, rules: &Rules) -> FileDocuments {
    match rules.reading.separator.as_str() {
        "" => documents,
        separator => Box::new(Separated::new(documents, separator)),
    }
}

#[cfg(feature = "parquet")]
fn open_parquet(path: &Path, name: &Path, rules: &Rules) -> Result<FileDocuments> {
    Ok(Box::new(super::parquet_file::ParquetFile::open(path, name, rules)?))
}

#[cfg(not(feature = "parquet"))]
fn open_parquet(_path: &Path, name: &Path, _rules: &Rules) -> Result<FileDocuments> {
    Err(Error::format(name, "this build cannot read parquet files; build with the feature `parquet`"))
}

/// Whether a path stands for what can be read once only: standard input, a pipe, a socket, a device.
pub(super) fn is_stream(path: &Path) -> bool {
    path == Path::new(STANDARD_INPUT)
        || fs::metadata(path).is_ok_and(|metadata| !metadata.is_file() && !metadata.is_dir())
}

/// What errors call a path.
fn called(path: &Path) -> PathBuf {
    match path == Path::new(STANDARD_INPUT) {
        true => PathBuf::from("standard input"),
        false => path.to_path_buf(),
    }
}

/// The bytes of a stream.
fn stream(name: &Path) -> Result<Box<dyn Read + Send>> {
    if name == called(Path::new(STANDARD_INPUT)) {
        return Ok(Box::new(io::stdin()));
    }
    Ok(Box::new(File::open(name).map_err(Error::io(name))?))
}

/// Copies a stream into a file, and gives a hash of its content.
fn copy(mut bytes: Box<dyn Read + Send>, name: &Path, path: &Path) -> Result<u64> {
    let mut file = File::create(path).map_err(Error::io(path))?;
    let (mut hash, mut part) = (Fingerprint::new(), Vec::new());
    loop {
        part.clear();
        let read = bytes.by_ref().take(1 << 20).read_to_end(&mut part).map_err(Error::io(name))?;
        if read == 0 {
            return Ok(hash.value());
        }
        hash = hash.part(&part);
        file.write_all(&part).map_err(Error::io(path))?;
    }
}

/// The documents of a corpus, one after the other; ends after the first error.
pub struct Documents {
    files: std::vec::IntoIter<CorpusFile>,
    rules: Option<Rules>,
    current: FileDocuments,
    skipped: Skipped,
    origin: PathBuf,
    seen: bool,
    finished: bool,
}

impl Documents {
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

    fn next_of_files(&mut self) -> Option<Result<Document>> {
        loop {
            match self.current.next() {
                Some(Ok(document)) => return Some(Ok(document)),
                Some(Err(Fault::Record(error))) if self.skips() => {
                    if self.skipped.records == 0 {
                        self.skipped.first = error.to_string();
                    }
                    self.skipped.records += 1;
                }
                Some(Err(fault)) => return Some(Err(fault.error())),
                None => match self.rules.as_ref().zip(self.files.next()) {
                    Some((rules, file)) => match file.documents(rules) {
                        Ok(documents) => self.current = documents,
                        Err(error) => return Some(Err(error)),
                    },
                    None => return None,
                },
            }
        }
    }

    fn skips(&self) -> bool {
        self.rules.as_ref().is_some_and(|rules| rules.reading.skip_bad)
    }
}

impl Iterator for Documents {
    type Item = Result<Document>;

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
