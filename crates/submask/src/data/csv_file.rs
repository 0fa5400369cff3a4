//! Tables in text: a first row with the names of the columns, and a document in one column of every other row.

use std::io::{self, BufRead, BufReader, Cursor, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use csv::{ByteRecord, ReaderBuilder};

use super::document::Document;
use super::input::Input;
use super::reader::{Fault, Found, Given, Rules};
use crate::error::{Error, Result};

/// What may stand between columns besides what the name of the file says.
const OTHER_SEPARATORS: [u8; 4] = [b',', b'\t', b';', b'|'];

/// A row behind the last: where it is not read as a row of its own, a quoted text before it was not closed.
const LAST_ROW: &[u8] = b"\n\0end of the table\0\n";

/// Most bytes of the first row.
const HEADER_BYTES: usize = 1 << 20;

/// The rows of one table, of which some columns are wanted.
pub(super) struct Table {
    path: PathBuf,
    reader: csv::Reader<Box<dyn Read + Send>>,
    /// The wanted columns: their names and numbers.
    wanted: Vec<(String, usize)>,
    columns: usize,
    row: ByteRecord,
    /// Where the present row stands.
    place: String,
    /// Bytes that the present row may still take.
    left: Arc<AtomicU64>,
    limit: u64,
    ended: bool,
}

impl Table {
    /// The rows of a table whose columns stand between `separator`s, or between other ones where the first row shows it.
    ///
    /// # Errors
    /// As [`Input::text`]; [`Error::Format`] for a table without a column that is wanted.
    pub(super) fn new(input: Input, separator: u8, wanted: &[&str]) -> Result<Self> {
        let (path, limit) = (input.path().to_path_buf(), input.record_limit());
        let left = Arc::new(AtomicU64::new(limit));
        let (bytes, _) = input.text()?;
        let bytes = Limited { inner: Box::new(bytes.chain(Cursor::new(LAST_ROW))), left: left.clone() };
        let header = Header::read(bytes, &path)?;
        let (separator, numbers) = header.find(separator, wanted, &path)?;
        let columns = Header::names(&header.row, separator, &path)?.len();
        let bytes: Box<dyn Read + Send> = Box::new(Cursor::new(header.row).chain(header.rest));
        let reader = ReaderBuilder::new()
            .has_headers(true)
            .flexible(true)
            .delimiter(separator)
            .buffer_capacity(1 << 16)
            .from_reader(bytes);
        let wanted = wanted.iter().map(|name| (*name).to_owned()).zip(numbers).collect();
        let (row, place) = (ByteRecord::new(), String::new());
        Ok(Self { path, reader, wanted, columns, row, place, left, limit, ended: false })
    }

    /// Goes on to the next row; false at the end.
    ///
    /// # Errors
    /// A fault of the record for a row of another number of columns than the first, and one of the file for what can be
    /// read no further.
    pub(super) fn advance(&mut self) -> Given<bool> {
        if self.ended {
            return Ok(false);
        }
        self.left.store(self.limit, Ordering::Relaxed);
        let begins = self.reader.position().line();
        let read = self.reader.read_byte_record(&mut self.row).map_err(|error| self.unreadable(&error))?;
        self.place = format!("line {}", self.row.position().map_or(begins, csv::Position::line));
        if !read || self.row.iter().next().is_some_and(is_last_row) {
            self.ended = true;
            return Ok(false);
        }
        let last = self.row.iter().next_back();
        if last.is_some_and(|field| field.trim_ascii_end().ends_with(LAST_ROW.trim_ascii())) {
            return Err(Fault::File(self.problem("a quoted text begins here and is not closed")));
        }
        if self.row.len() != self.columns {
            let problem = format!("{} columns, {} are named in the first row", self.row.len(), self.columns);
            return Err(Fault::Record(self.problem(&problem)));
        }
        Ok(true)
    }

    /// What the present row has in a wanted column, by its number among them.
    ///
    /// # Errors
    /// A fault of the record for what is not UTF-8.
    pub(super) fn text(&self, wanted: usize) -> Given<&str> {
        let (name, column) = &self.wanted[wanted];
        let field = self.row.get(*column).unwrap_or_default();
        std::str::from_utf8(field).map_err(|error| {
            let at = error.valid_up_to() + 1;
            Fault::Record(self.problem(&format!("column {name:?} is not UTF-8 at byte {at}")))
        })
    }

    /// What is wrong with the present row.
    pub(super) fn problem(&self, problem: &str) -> Error {
        Error::format(&self.path, format!("{}: {problem}", self.place))
    }

    fn unreadable(&self, error: &csv::Error) -> Error {
        let line = self.reader.position().line();
        Error::format(&self.path, format!("line {line}: {error}"))
    }
}

/// The documents of one table. Empty texts are no documents.
pub(super) struct CsvFile {
    table: Table,
    rules: Rules,
}

impl CsvFile {
    /// The documents of a table, as [`Table::new`] reads it.
    ///
    /// # Errors
    /// As [`Table::new`].
    pub(super) fn new(input: Input, separator: u8, rules: &Rules) -> Result<Self> {
        Ok(Self { table: Table::new(input, separator, &[&rules.field])?, rules: rules.clone() })
    }

    /// What is missing, if there are names of columns and the wanted one is not among them.
    pub(super) fn lacks_column(input: Input, separator: u8, wanted: &str) -> Option<Error> {
        let path = input.path().to_path_buf();
        let left = Arc::new(AtomicU64::new(input.record_limit()));
        let (inner, _) = input.text().ok()?;
        let header = Header::read(Limited { inner, left }, &path).ok()?;
        if header.row.is_empty() {
            return Some(Error::format(path, "an empty file"));
        }
        header.find(separator, &[wanted], &path).err()
    }

    fn next_document(&mut self) -> Given<Option<Document>> {
        while self.table.advance()? {
            let found = Found { texts: vec![self.table.text(0)?.to_owned()], numbers: Vec::new() };
            let document = self.rules.document(found, &self.table.path, &self.table.place)?;
            if document.is_some() {
                return Ok(document);
            }
        }
        Ok(None)
    }
}

impl Iterator for CsvFile {
    type Item = Given<Document>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_document().transpose()
    }
}

fn is_last_row(field: &[u8]) -> bool {
    field == LAST_ROW.trim_ascii()
}

/// The first row as it stands, and what follows.
struct Header {
    row: Vec<u8>,
    rest: BufReader<Limited>,
}

impl Header {
    /// Reads up to a line end outside of quotes.
    fn read(bytes: Limited, path: &Path) -> Result<Self> {
        let (mut row, mut rest) = (Vec::new(), BufReader::with_capacity(1 << 16, bytes));
        let (mut is_blank, mut is_quoted) = (true, false);
        while (is_blank || is_quoted) && row.len() < HEADER_BYTES {
            let before = row.len();
            if rest.read_until(b'\n', &mut row).map_err(Error::io(path))? == 0 {
                break;
            }
            is_blank &= row[before..].trim_ascii().is_empty();
            is_quoted ^= row[before..].iter().filter(|byte| **byte == b'"').count() % 2 == 1;
        }
        Ok(Self { row, rest })
    }

    /// The separator under which there are columns of these names, and the numbers of the columns.
    fn find(&self, separator: u8, wanted: &[&str], path: &Path) -> Result<(u8, Vec<usize>)> {
        let place = |names: &[String], wanted: &str| names.iter().position(|name| name == wanted);
        for separator in std::iter::once(separator).chain(OTHER_SEPARATORS) {
            let names = Self::names(&self.row, separator, path)?;
            let columns: Option<Vec<usize>> = wanted.iter().map(|wanted| place(&names, wanted)).collect();
            if let Some(columns) = columns {
                return Ok((separator, columns));
            }
        }
        let names = Self::names(&self.row, separator, path)?;
        let missing = wanted.iter().find(|wanted| place(&names, wanted).is_none()).unwrap_or(&"");
        let problem = format!("line 1: no column {missing:?}; present: {}", quoted(&names));
        Err(Error::format(path, problem))
    }

    fn names(row: &[u8], separator: u8, path: &Path) -> Result<Vec<String>> {
        let mut reader = ReaderBuilder::new().has_headers(false).delimiter(separator).from_reader(row);
        let mut names = csv::StringRecord::new();
        reader
            .read_record(&mut names)
            .map_err(|error| Error::format(path, format!("line 1: no names of columns: {error}")))?;
        Ok(names.iter().filter(|name| !is_last_row(name.as_bytes())).map(str::to_owned).collect())
    }
}

/// Names in quotes, so that a space in one is seen.
fn quoted(names: &[String]) -> String {
    names.iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ")
}

/// Bytes of which no more are read than are left for a row.
struct Limited {
    inner: Box<dyn Read + Send>,
    left: Arc<AtomicU64>,
}

impl Read for Limited {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        let left = self.left.load(Ordering::Relaxed).checked_sub(read as u64);
        self.left.store(left.unwrap_or(0), Ordering::Relaxed);
        match left {
            Some(_) => Ok(read),
            None => Err(io::Error::other("a row too long to be held in memory")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(text: &[u8], separator: u8, field: &str) -> Result<CsvFile> {
        let bytes = Box::new(Cursor::new(text.to_vec()));
        CsvFile::new(Input::of_stream(bytes, "a.csv".as_ref())?, separator, &Rules::of_field(field))
    }

    fn read(text: &str, field: &str) -> Result<Vec<String>> {
        let documents = open(text.as_bytes(), b',', field)?;
        documents.map(|document| Ok(document.map_err(Fault::error)?.text)).collect()
    }

    #[test]
    fn every_text_of_the_column_is_a_document() {
        let table = "id,text\r\n1,\"a, \"\"b\"\"\nc\"\r\n2,\r\n\r\n3,d";
        assert_eq!(read(table, "text").unwrap(), ["a, \"b\"\nc", "d"]);
        assert_eq!(read(table, "id").unwrap(), ["1", "2", "3"]);
        assert_eq!(read("\u{feff}text\na\n", "text").unwrap(), ["a"]);
        assert_eq!(read("\"long\nname\",text\nx,a", "long\nname").unwrap(), ["x"]);
        assert!(read("text\n", "text").unwrap().is_empty());
    }

    #[test]
    fn what_stands_between_columns_is_seen_in_the_first_row() {
        for separator in ["\t", ";", "|"] {
            let table = format!("id{separator}text\n1{separator}a, b\n");
            assert_eq!(read(&table, "text").unwrap(), ["a, b"]);
        }
        let documents = open(b"id\ttext\n1\ta, b\n", b'\t', "text").unwrap();
        assert_eq!(documents.map(|document| document.unwrap().text).collect::<Vec<_>>(), ["a, b"]);
    }

    #[test]
    fn bad_tables_are_refused_with_their_lines() {
        for (table, problem) in [
            ("id,body\n1,a\n", "line 1: no column \"text\"; present: \"id\", \"body\""),
            ("", "line 1: no column \"text\""),
            ("id,text\n1,a\n2,b,c\n", "line 3: 3 columns, 2 are named"),
            ("id,text\n1,\"a\nb\"\n2,\"c\n3,d\n", "line 4: a quoted text begins here and is not closed"),
        ] {
            let error = read(table, "text").unwrap_err().to_string();
            assert!(error.contains("a.csv") && error.contains(problem), "{error}");
        }
        let error = open(b"text\na\nb\xff\n", b',', "text")
            .unwrap()
            .find_map(std::result::Result::err)
            .unwrap()
            .error();
        assert!(error.to_string().contains("line 3: column \"text\" is not UTF-8 at byte 2"), "{error}");
    }

    #[test]
    fn reading_goes_on_behind_a_bad_row() {
        let documents: Vec<_> = open(b"text,n\na,1\nb\nc\xff,2\nd,3\n", b',', "text").unwrap().collect();
        let good: Vec<_> =
            documents.iter().map(|document| document.as_ref().ok().map(|d| d.text.as_str())).collect();
        assert_eq!(good, [Some("a"), None, None, Some("d")]);
        assert!(
            documents
                .iter()
                .flat_map(|document| document.as_ref().err())
                .all(|fault| matches!(fault, Fault::Record(_)))
        );
    }

    #[test]
    fn a_row_that_never_ends_is_not_held_in_memory() {
        let endless = std::io::repeat(b'x').take(80 << 20);
        let bytes = Box::new(Cursor::new(b"text\n\"").chain(endless));
        let input = Input::of_stream(bytes, "a.csv".as_ref()).unwrap();
        let error =
            CsvFile::new(input, b',', &Rules::of_field("text")).unwrap().find_map(std::result::Result::err);
        let Some(Fault::File(error)) = error else { panic!("{error:?}") };
        assert!(error.to_string().contains("too long"), "{error}");
    }
}
