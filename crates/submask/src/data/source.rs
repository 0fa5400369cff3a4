//! Where the texts come from, as a value that can stand in a settings file.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::corpus::{Corpus, STANDARD_INPUT, is_stream};
use super::documents::Documents;
use super::format::{FileFormat, Format};
use super::pairs::PairSource;
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
    /// The built-in English dictionary, see [`dictionary`](super::dictionary()).
    #[serde(rename = "dictionary_2")]
    Dictionary,
    /// The same, a hundred entries to a document, see [`dictionary_pages`](super::dictionary_pages()).
    #[serde(rename = "dictionary_3")]
    DictionaryPages,
    /// Its first edition, see [`first_dictionary`](super::first_dictionary()); it keeps the name that it had in files.
    #[serde(rename = "dictionary")]
    FirstDictionary,
    /// Files, folders and streams.
    Files {
        /// Files, folders and streams. `-` is standard input, and pipes are read as well. Of a folder every file with a known
        /// ending is read: `.txt`, `.text`, `.md` (UTF-8 text), `.jsonl`, `.ndjson` (JSON lines), `.json` (JSON lines, or
        /// one array), `.csv`, `.tsv`, `.parquet`, `.pq`, and all but parquet with `.gz`, `.zst`, `.bz2` or `.xz` behind it.
        paths: Vec<PathBuf>,
        /// What in a text file is one document.
        #[serde(default)]
        split: Split,
        /// The field of JSON, and the column of tables and parquet files, that holds the text: a name, `a.b` for a field in
        /// another, `a[]` for the elements of a list, `a[].b` for a field of each.
        #[serde(default = "default_field")]
        field: String,
        /// How files are read.
        #[serde(default, skip_serializing_if = "Reading::is_default")]
        reading: Reading,
    },
    /// Prompts and completions.
    Pairs(PairSource),
}

/// How files are read, where their names do not say it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Reading {
    /// The format of every file.
    pub format: FileFormat,
    /// What stands between the texts of a list.
    pub join: String,
    /// A text that divides documents wherever it stands, with a line end directly before or behind it; in files of token
    /// numbers, the number of a token. Text files are then divided by nothing else. Empty: nothing divides documents.
    pub separator: String,
    /// Whether records that cannot be read are skipped and counted.
    pub skip_bad: bool,
}

impl Default for Reading {
    /// As names say, with line ends between the texts of a list, without a separator, and nothing is skipped.
    fn default() -> Self {
        Self { format: FileFormat::Auto, join: "\n".to_owned(), separator: String::new(), skip_bad: false }
    }
}

impl Reading {
    pub(super) fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// Refuses what has no meaning for pairs, which stand in fields.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming the key.
    pub(crate) fn check_pairs(&self) -> Result<()> {
        if !self.separator.is_empty() {
            let allowed = "\"\" with pairs, one of which stands in each record";
            return Err(Error::invalid("data.separator", format!("{:?}", self.separator), allowed));
        }
        match self.format.given() {
            Some(Format::Text | Format::Tokens(_)) => {
                let allowed = "json, csv, tsv or parquet with pairs, which stand in fields";
                Err(Error::invalid("data.format", format!("{:?}", self.format).to_lowercase(), allowed))
            }
            _ => Ok(()),
        }
    }
}

fn default_field() -> String {
    "text".to_owned()
}

impl Source {
    /// Files and folders, one document a file, records' text in the field `text`.
    pub fn files<P: Into<PathBuf>>(paths: impl IntoIterator<Item = P>) -> Self {
        let paths = paths.into_iter().map(Into::into).collect();
        Self::Files { paths, split: Split::default(), field: default_field(), reading: Reading::default() }
    }

    /// The files of pairs, if they are pairs.
    pub fn pairs(&self) -> Option<&PairSource> {
        match self {
            Self::Pairs(source) => Some(source),
            _ => None,
        }
    }

    /// The first of its paths.
    pub(super) fn first_path(&self) -> Option<&Path> {
        match self {
            Self::Files { paths, .. } | Self::Pairs(PairSource { paths, .. }) => {
                paths.first().map(PathBuf::as_path)
            }
            _ => None,
        }
    }

    /// The same source in which every stream is called standard input: pipes have another name at every call.
    pub(super) fn with_named_streams(&self) -> Self {
        let mut source = self.clone();
        if let Self::Files { paths, .. } | Self::Pairs(PairSource { paths, .. }) = &mut source {
            paths.iter_mut().filter(|path| is_stream(path)).for_each(|path| *path = STANDARD_INPUT.into());
        }
        source
    }

    /// The files of the corpus, found.
    ///
    /// # Errors
    /// For a path that is not there, a folder without text files, and no path at all.
    pub fn corpus(&self) -> Result<Corpus> {
        Corpus::new(self)
    }

    /// As [`Corpus::documents`].
    ///
    /// # Errors
    /// As [`Self::corpus`] and [`Corpus::documents`].
    pub fn documents(&self) -> Result<Documents> {
        self.corpus()?.documents()
    }

    /// A number that changes when the corpus does: it covers the paths, sizes and modification times
    /// of the files and how they are read, but not the contents.
    ///
    /// # Errors
    /// As [`Self::corpus`].
    pub fn stamp(&self) -> Result<u64> {
        self.corpus()?.stamp()
    }
}

#[cfg(test)]
mod tests {
    use super::super::document::{Content, Document, PIECE_BYTES};
    use super::super::hash::Fingerprint;
    use super::super::input::tests::compressed;
    use super::*;
    use std::fs;
    use std::io::Write;
    use std::time::UNIX_EPOCH;

    fn texts(source: &Source) -> Result<Vec<String>> {
        source.documents()?.map(|document| document.map(|document| document.text)).collect()
    }

    #[test]
    fn files_of_different_formats_follow_each_other() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a.txt"), "one\ntwo").unwrap();
        fs::write(folder.path().join("b.jsonl"), "{\"text\": \"three\"}\n").unwrap();
        fs::write(folder.path().join("c.rst"), "named by itself").unwrap();
        let named = folder.path().join("c.rst");
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

    #[test]
    fn the_stamp_of_what_earlier_versions_read_is_theirs() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.txt");
        fs::write(&path, "one").unwrap();
        let settings = format!(
            "{{\"corpus\":\"files\",\"paths\":[{}],\"split\":\"file\",\"field\":\"text\"}}",
            serde_json::to_string(&path).unwrap()
        );
        let modified = fs::metadata(&path).unwrap().modified().unwrap().duration_since(UNIX_EPOCH).unwrap();
        let stamp = Fingerprint::new()
            .part(settings.as_bytes())
            .part(path.as_os_str().as_encoded_bytes())
            .part(&3u64.to_le_bytes())
            .part(&modified.as_nanos().to_le_bytes());
        assert_eq!(Source::files([&path]).stamp().unwrap(), stamp.value());
        let dictionary = Fingerprint::new().part(b"{\"corpus\":\"dictionary\"}");
        assert_eq!(Source::FirstDictionary.stamp().unwrap(), dictionary.value());
        assert_ne!(Source::Dictionary.stamp().unwrap(), dictionary.value());
        // What is read otherwise than before is another corpus.
        for name in ["a.csv", "a.json", "a.txt.gz"] {
            let other = folder.path().join(name);
            fs::copy(&path, &other).unwrap();
            let alone = Fingerprint::new().part(settings.replace("a.txt", name).as_bytes());
            let modified =
                fs::metadata(&other).unwrap().modified().unwrap().duration_since(UNIX_EPOCH).unwrap();
            let alone = alone
                .part(other.as_os_str().as_encoded_bytes())
                .part(&3u64.to_le_bytes())
                .part(&modified.as_nanos().to_le_bytes());
            assert_ne!(Source::files([&other]).stamp().unwrap(), alone.value());
        }
    }

    #[test]
    fn every_format_is_read_whatever_compresses_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let texts_of = [
            ("a.txt", "one\ntwo"),
            ("b.jsonl", "{\"text\": \"three\"}\n{\"text\": \"four\"}\n"),
            ("c.json", "[{\"text\": \"five\"},\n {\"text\": \"six\"}]"),
            ("d.csv", "id,text\n1,seven\n2,\"eight\nnine\"\n"),
            ("e.tsv", "id\ttext\n1,5\tten\n"),
        ];
        let expected = ["one\ntwo", "three", "four", "five", "six", "seven", "eight\nnine", "ten"];
        for (name, text) in texts_of {
            fs::write(path(name), text).unwrap();
        }
        assert_eq!(texts(&Source::files([folder.path()])).unwrap(), expected);
        let endings: Vec<&str> = compressed(b"x", 1).into_iter().map(|(ending, _)| ending).collect();
        for (n, ending) in endings.iter().enumerate() {
            for (name, text) in texts_of {
                let _ = fs::remove_file(path(name));
                endings.iter().for_each(|ending| drop(fs::remove_file(path(&format!("{name}.{ending}")))));
                fs::write(path(&format!("{name}.{ending}")), &compressed(text.as_bytes(), 2)[n].1).unwrap();
            }
            assert_eq!(texts(&Source::files([folder.path()])).unwrap(), expected, "{ending}");
        }
    }

    #[test]
    fn files_of_a_folder_that_are_not_read_are_counted() {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in [
            ("b.txt", "text"),
            ("a.json", "{\n  \"description\": \"of a corpus\"\n}\n"),
            ("c.png", ""),
            ("d.csv", "file,label\nx,1\n"),
            ("e.json", "[{\"text\": \"also text\"}]"),
        ] {
            fs::write(folder.path().join(name), text).unwrap();
        }
        let source = Source::files([folder.path()]);
        assert_eq!(texts(&source).unwrap(), ["text", "also text"]);
        let corpus = source.corpus().unwrap();
        let left_out = corpus.left_out().unwrap();
        assert!(
            left_out.files == 3 && left_out.first.contains("a.json: line 1: not a JSON object"),
            "{left_out:?}"
        );
        for name in ["b.txt", "e.json"] {
            fs::remove_file(folder.path().join(name)).unwrap();
        }
        let error = texts(&source).unwrap_err().to_string();
        assert!(
            error.contains("no text files") && error.contains("3 others") && error.contains("a.json"),
            "{error}"
        );
    }

    #[test]
    fn a_format_that_is_given_is_that_of_every_file() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a"), "text\na\n").unwrap();
        fs::write(folder.path().join("b.dat"), "text\nb\n").unwrap();
        let mut source = Source::files([folder.path()]);
        assert!(texts(&source).is_err());
        if let Source::Files { reading, .. } = &mut source {
            reading.format = FileFormat::Csv;
        }
        assert_eq!(texts(&source).unwrap(), ["a", "b"]);
    }

    #[test]
    fn bad_records_are_skipped_and_counted_if_asked() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a.jsonl"), "{\"text\": \"a\"}\nbad\n{\"text\": \"b\"}\n").unwrap();
        fs::write(folder.path().join("b.csv"), "text\nc,d\ne\n").unwrap();
        let mut source = Source::files([folder.path()]);
        assert!(texts(&source).is_err());
        if let Source::Files { reading, .. } = &mut source {
            reading.skip_bad = true;
        }
        let mut documents = source.documents().unwrap();
        let texts: Vec<_> = documents.by_ref().map(|document| document.unwrap().text).collect();
        assert_eq!(texts, ["a", "b", "e"]);
        let skipped = documents.skipped().unwrap();
        assert!(
            skipped.records == 2 && skipped.first.contains("a.jsonl: line 2: not a JSON object"),
            "{skipped:?}"
        );
        fs::write(folder.path().join("a.jsonl"), "bad\nbad").unwrap();
        fs::write(folder.path().join("b.csv"), "text\n").unwrap();
        let error = source.documents().unwrap().find_map(Result::err).unwrap().to_string();
        assert!(error.contains("empty corpus") && error.contains("2 records were skipped"), "{error}");
    }

    #[test]
    fn a_small_compressed_file_cannot_stand_for_a_record_without_end() {
        let folder = tempfile::tempdir().unwrap();
        let long = "x".repeat(70 << 20);
        for (name, before) in
            [("a.jsonl.gz", "{\"text\": \""), ("a.json.gz", "[{\"text\": \""), ("a.csv.gz", "text\n\"")]
        {
            let file = fs::File::create(folder.path().join(name)).unwrap();
            let mut encoder = flate2::write::GzEncoder::new(file, flate2::Compression::fast());
            encoder.write_all(&[before, &long].concat().into_bytes()).unwrap();
            encoder.finish().unwrap();
            let error = texts(&Source::files([folder.path().join(name)])).unwrap_err().to_string();
            assert!(
                error.contains(name) && ["64 MiB", "too long"].iter().any(|word| error.contains(word)),
                "{error}"
            );
        }
        // Text comes in pieces.
        fs::write(folder.path().join("a.txt"), &long).unwrap();
        let pieces = texts(&Source::files([folder.path().join("a.txt")])).unwrap();
        assert!(pieces.iter().all(|piece| piece.len() <= PIECE_BYTES) && pieces.concat() == long);
    }

    #[test]
    fn separators_divide_text_and_token_numbers() {
        let folder = tempfile::tempdir().unwrap();
        let divided = |name: &str, bytes: &[u8], separator: &str| {
            let path = folder.path().join(name);
            fs::write(&path, bytes).unwrap();
            let mut source = Source::files([path]);
            if let Source::Files { reading, split, .. } = &mut source {
                reading.separator = separator.to_owned();
                *split = Split::Paragraph;
            }
            source.documents().unwrap().collect::<Result<Vec<_>>>().unwrap()
        };
        let text = b"a\n\nb\n---\nc\n";
        assert_eq!(divided("a.txt", text, "---"), [Document::whole("a\n\nb"), Document::whole("c\n")]);
        let tokens = divided("a.bin", &[7, 0, 1, 1, 9, 0], "257");
        assert_eq!(tokens, [Document::numbers(&[7]), Document::numbers(&[9])]);
        assert!(tokens.iter().all(|document| document.content == Content::TokenNumbers));
    }

    #[cfg(unix)]
    #[test]
    fn a_pipe_is_read_once_and_its_copy_as_often_as_asked() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let (_, bytes) = compressed(b"{\"text\": \"a\"}\n{\"text\": \"b\"}\n", 1).remove(0);
        let write = {
            let pipe = pipe.clone();
            move || fs::write(pipe, bytes).unwrap()
        };
        let source = Source::files([&pipe]);
        let mut corpus = source.corpus().unwrap();
        assert!(corpus.has_streams());
        let writer = std::thread::spawn(write.clone());
        corpus.copy_streams(folder.path()).unwrap();
        writer.join().unwrap();
        for _ in 0..2 {
            let texts: Vec<_> = corpus.documents().unwrap().map(|document| document.unwrap().text).collect();
            assert_eq!(texts, ["a", "b"]);
        }
        let stamp = corpus.stamp().unwrap();
        corpus.remove_copies().unwrap();
        let writer = std::thread::spawn(write);
        let mut again = source.corpus().unwrap();
        again.copy_streams(folder.path()).unwrap();
        writer.join().unwrap();
        assert_eq!(again.stamp().unwrap(), stamp, "the same content is the same corpus");
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
        assert_eq!(toml::from_str::<Source>("corpus = \"dictionary\"").unwrap(), Source::FirstDictionary);
        assert_eq!(toml::from_str::<Source>("corpus = \"dictionary_2\"").unwrap(), Source::Dictionary);
        assert_eq!(toml::from_str::<Source>("corpus = \"dictionary_3\"").unwrap(), Source::DictionaryPages);
    }
}
