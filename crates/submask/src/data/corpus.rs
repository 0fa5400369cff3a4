//! The files and streams of a corpus, found and ready to be read.

use std::cell::RefCell;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};

use super::csv_file::CsvFile;
use super::dictionary::{dictionary, dictionary_pages, first_dictionary};
use super::document::Document;
use super::documents::{Documents, FileItems};
use super::folder;
use super::format::Format;
use super::hash::Fingerprint;
use super::input::{Compression, Input};
use super::json_file::JsonFile;
use super::pairs::{self, Pair, PairSource};
use super::reader::{FileDocuments, Given, Rules};
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
    /// The fields of pairs, where it is a corpus of pairs.
    pairs: Option<PairSource>,
    /// Which dictionary that is.
    dictionary: Option<Source>,
}

/// One file or stream.
#[derive(Clone, Debug)]
pub(super) struct CorpusFile {
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
        let (paths, split, fields, reading) = match source {
            Source::Dictionary | Source::DictionaryPages | Source::FirstDictionary => {
                return Ok(Self {
                    settings: settings(source)?,
                    origin: PathBuf::from("dictionary"),
                    files: Vec::new(),
                    left_out: LeftOut::default(),
                    rules: None,
                    pairs: None,
                    dictionary: Some(source.clone()),
                });
            }
            Source::Files { paths, split, field, reading } => (paths, *split, vec![field], reading),
            Source::Pairs(PairSource { paths, prompt_field, completion_field, reading }) => {
                reading.check_pairs()?;
                (paths, Split::default(), vec![completion_field, prompt_field], reading)
            }
        };
        let first =
            paths.first().ok_or_else(|| Error::invalid("paths", "[]", "at least one file or folder"))?;
        let rules = |field: &String| Rules {
            split,
            field: field.clone(),
            reading: reading.clone(),
            vocab_size: None,
            of_numbers: false,
        };
        let rules: Vec<Rules> = fields.into_iter().map(rules).collect();
        let pairs = source.pairs().is_some();
        let mut listing = Listing { rules: &rules, pairs, files: Vec::new(), left_out: RefCell::default() };
        for path in paths {
            listing.add(path)?;
        }
        let (files, left_out) = (listing.files, listing.left_out.into_inner());
        Ok(Self {
            settings: settings(&source.with_named_streams())?,
            origin: called(first),
            files,
            left_out,
            rules: rules.into_iter().next(),
            pairs: source.pairs().cloned(),
            dictionary: None,
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
                // Another corpus may have copies there.
                let free = (n..).map(|n| folder.join(format!("stream-{n}"))).find(|path| !path.exists());
                let path = free.unwrap_or_else(|| folder.join("stream"));
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

    /// The streams among its files.
    pub(super) fn streams(&self) -> impl Iterator<Item = &Path> {
        let streams = self.files.iter().filter(|file| matches!(file.place, Place::Stream));
        streams.map(|file| file.name.as_path())
    }

    /// The documents, in the order of the paths and of the files; files are opened one by one and
    /// read in pieces. Of pairs a document is the prompt and the completion in one.
    ///
    /// # Errors
    /// Here, where the built-in dictionary is missing. The iterator gives an error for a file that cannot be read (with
    /// the byte offset, line or row), and, at its end, for a corpus without any document; it ends after an error.
    pub fn documents(&self) -> Result<Documents> {
        self.documents_below(None, false)
    }

    /// The same documents for a tokenizer: token numbers must be of its vocabulary, and are named with their places if they
    /// are not.
    ///
    /// # Errors
    /// As [`Self::documents`]. The iterator gives [`Error::Invalid`] for texts of numbers that a separator would divide.
    pub fn documents_for(&self, tokenizer: &Tokenizer) -> Result<Documents> {
        self.documents_below(Some(tokenizer.vocab_size() as u64), tokenizer.is_of_numbers())
    }

    fn documents_below(&self, vocab_size: Option<u64>, of_numbers: bool) -> Result<Documents> {
        let mut documents = self
            .opened(move |file, rules| file.documents(&Rules { vocab_size, of_numbers, ..rules.clone() }));
        if let Some(source) = self.pairs.clone() {
            documents = self.opened(move |file, _| Ok(Box::new(joined(file.pairs(&source)?))));
        }
        Ok(match self.dictionary {
            None => documents,
            Some(Source::FirstDictionary) => documents.of(first_dictionary()?.map(Ok)),
            Some(Source::DictionaryPages) => documents.of(dictionary_pages()?.map(Ok)),
            Some(_) => documents.of(dictionary()?.map(Ok)),
        })
    }

    /// The pairs, in the order of the paths and of the files, those without a completion included.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a corpus of texts. The iterator gives errors as that of [`Self::documents`].
    pub fn pairs(&self) -> Result<Documents<Pair>> {
        let source =
            self.pairs.clone().ok_or_else(|| Error::invalid("source", "texts", "a source of pairs"))?;
        Ok(self.opened(move |file, _| file.pairs(&source)))
    }

    /// What stands in the files, each of which is opened by `open`.
    fn opened<T: 'static>(
        &self,
        open: impl Fn(&CorpusFile, &Rules) -> Result<FileItems<T>> + Send + 'static,
    ) -> Documents<T> {
        let rules = self.rules.clone();
        let skips = rules.as_ref().is_some_and(|rules| rules.reading.skip_bad);
        let open = move |file: &CorpusFile| match &rules {
            Some(rules) => open(file, rules),
            None => Ok(Box::new(std::iter::empty()) as _),
        };
        Documents::new(self.files.clone(), Box::new(open), skips, self.origin.clone())
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
    /// One for each field that is needed.
    rules: &'a [Rules],
    /// Whether pairs are looked for, which text files do not hold.
    pairs: bool,
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
        let other = |path: &Path, what: &str| self.leave_out(format!("{}: {what}", path.display()));
        folder::collect(folder, &|file| self.is_read(file), &other, &mut found)?;
        if found.is_empty() {
            let LeftOut { files, first } = &*self.left_out.borrow();
            let there = match files {
                0 => String::new(),
                1 => format!("; there is {first}"),
                files => format!("; there are {files} others, the first is {first}"),
            };
            let what = if self.pairs { "files of pairs" } else { "text files" };
            let endings = Format::endings(|format| !(self.pairs && format == Format::Text));
            let problem = format!("no {what} in this folder; looked for {endings}{there}");
            return Err(Error::format(folder, problem));
        }
        self.files.extend(found.into_iter().map(|name| CorpusFile { name, place: Place::File }));
        Ok(())
    }

    /// Whether a file of a folder is read; if not, it is counted.
    fn is_read(&self, file: &Path) -> bool {
        if self.rules.iter().any(|rules| rules.reading.format.given().is_some()) {
            return true;
        }
        let searched =
            Format::is_searched_for(file) && !(self.pairs && Format::of_name(file) == Some(Format::Text));
        let lacking = if searched { self.lacks_text(file) } else { None };
        if searched && lacking.is_none() {
            return true;
        }
        self.leave_out(lacking.map_or_else(|| file.display().to_string(), |problem| problem.to_string()));
        false
    }

    /// Counts what is not read.
    fn leave_out(&self, what: String) {
        let mut left_out = self.left_out.borrow_mut();
        if left_out.files == 0 {
            left_out.first = what;
        }
        left_out.files += 1;
    }

    /// What is missing in a file that has not the fields which hold the text, where its format is used for other things
    /// than texts, too, such as a description of the corpus.
    fn lacks_text(&self, file: &Path) -> Option<Error> {
        let input = || Input::open(file, file).ok();
        let lacking = |rules: &Rules| match Format::of_name(file)? {
            Format::Json if Format::may_be_other_json(file) => {
                JsonFile::new(input()?, rules).ok()?.missing_field()
            }
            Format::Table(separator) => CsvFile::lacks_column(input()?, separator, &rules.field),
            _ => None,
        };
        self.rules.iter().find_map(lacking)
    }
}

/// A file that is opened.
enum Opened<'a> {
    Bytes(Input, Format),
    /// Parquet is read here and there in a file.
    Parquet(&'a Path),
}

impl CorpusFile {
    fn open(&self, asked: Option<Format>) -> Result<Opened<'_>> {
        let named = asked.or_else(|| Format::of_name(&self.name));
        if named == Some(Format::Parquet) {
            return self.parquet();
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
        match format {
            Format::Parquet => self.parquet(),
            format => Ok(Opened::Bytes(input, format)),
        }
    }

    fn parquet(&self) -> Result<Opened<'_>> {
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
        Ok(Opened::Parquet(path))
    }

    fn documents(&self, rules: &Rules) -> Result<FileDocuments> {
        let (input, format) = match self.open(rules.reading.format.given())? {
            Opened::Parquet(path) => return Ok(divided(open_parquet(path, &self.name, rules)?, rules)),
            Opened::Bytes(input, format) => (input, format),
        };
        let documents: FileDocuments = match format {
            // Where a separator says what a document is, nothing else does.
            Format::Text if !rules.reading.separator.is_empty() => {
                Box::new(TextFile::new(input, Split::File)?)
            }
            Format::Text => Box::new(TextFile::new(input, rules.split)?),
            Format::Table(separator) => Box::new(CsvFile::new(input, separator, rules)?),
            Format::Tokens(width) => return Ok(Box::new(TokenFile::new(input, width, rules)?)),
            Format::Json | Format::Parquet => Box::new(JsonFile::new(input, rules)?),
        };
        Ok(divided(documents, rules))
    }

    fn pairs(&self, source: &PairSource) -> Result<FileItems<Pair>> {
        match self.open(source.reading.format.given())? {
            Opened::Parquet(path) => pairs::in_parquet(path, &self.name, source),
            Opened::Bytes(input, Format::Table(separator)) => pairs::in_table(input, separator, source),
            Opened::Bytes(input, Format::Json) => pairs::in_json(input, source),
            Opened::Bytes(..) => {
                let problem = "it has no fields for prompts and completions: pairs are read from JSON, tables and \
                               parquet (data.format says which a file is, where its name does not)";
                Err(Error::format(&self.name, problem))
            }
        }
    }
}

/// Pairs as documents, those without a completion left out.
fn joined(pairs: FileItems<Pair>) -> impl Iterator<Item = Given<Document>> + Send {
    let is_pair = |pair: &Given<Pair>| pair.as_ref().map_or(true, |pair| !pair.completion.is_empty());
    pairs.filter(is_pair).map(|pair| pair.map(|pair| Document::whole(pair.prompt + &pair.completion)))
}

/// Documents divided by the separator, if there is one.
fn divided(documents: FileDocuments, rules: &Rules) -> FileDocuments {
    match rules.reading.separator.as_str() {
        "" => documents,
        _ => Box::new(Separated::new(documents, rules)),
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
