//! The records of JSON: lines, or the elements of one array, as bytes and with their places.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use super::reader::Given;
use crate::error::{Error, Result};

/// One record after the other; a value is looked into by whoever reads it.
pub(super) struct JsonRecords {
    path: PathBuf,
    reader: BufReader<Box<dyn Read + Send>>,
    form: Form,
    /// The line that is read next, counted from 1.
    line: u64,
    /// The line in which the present record begins.
    begins: u64,
    /// Number of the present element of an array, counted from 1.
    element: u64,
    /// Most bytes of a record.
    limit: u64,
    bytes: Vec<u8>,
}

/// What the records are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// Nothing is read yet.
    Unknown,
    Lines,
    Array,
    /// The array is closed.
    Closed,
}

impl JsonRecords {
    /// Records of text in UTF-8, none longer than `limit` bytes; errors name `path`.
    pub(super) fn new(bytes: Box<dyn Read + Send>, path: &Path, limit: u64) -> Self {
        Self {
            path: path.to_path_buf(),
            reader: BufReader::with_capacity(1 << 16, bytes),
            form: Form::Unknown,
            line: 1,
            begins: 1,
            element: 0,
            limit,
            bytes: Vec::new(),
        }
    }

    /// Goes on to the next record that is not blank; false at the end.
    ///
    /// # Errors
    /// A fault of the file for an array that is not well formed, a record over the limit, and what reading reports.
    pub(super) fn advance(&mut self) -> Given<bool> {
        if self.form == Form::Unknown {
            self.begin()?;
        }
        match self.form {
            Form::Array => Ok(self.next_element()?),
            Form::Closed => Ok(false),
            Form::Lines | Form::Unknown => Ok(self.next_line()?),
        }
    }

    /// The present record.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Where the present record stands.
    pub(super) fn place(&self) -> String {
        match self.form {
            Form::Array | Form::Closed => format!("element {} (line {})", self.element, self.begins),
            Form::Lines | Form::Unknown => format!("line {}", self.begins),
        }
    }

    /// The line on which the present record begins, counted from 1.
    pub(super) fn first_line(&self) -> u64 {
        self.begins
    }

    /// Whether records are lines.
    pub(super) fn are_lines(&self) -> bool {
        self.form == Form::Lines
    }

    /// Skips blank lines, and finds out whether an array begins.
    fn begin(&mut self) -> Result<()> {
        self.form = match self.next_byte()? {
            Some(b'[') => {
                self.reader.consume(1);
                Form::Array
            }
            _ => Form::Lines,
        };
        Ok(())
    }

    /// The next byte that is no white space, which is not yet read.
    fn next_byte(&mut self) -> Result<Option<u8>> {
        loop {
            let buffer = self.reader.fill_buf().map_err(Error::io(&self.path))?;
            if buffer.is_empty() {
                return Ok(None);
            }
            let blank = buffer.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
            self.line += count_lines(&buffer[..blank]);
            let next = buffer.get(blank).copied();
            self.reader.consume(blank);
            if next.is_some() {
                return Ok(next);
            }
        }
    }

    fn next_line(&mut self) -> Result<bool> {
        loop {
            self.bytes.clear();
            let mut line = self.reader.by_ref().take(self.limit + 1);
            let read = line.read_until(b'\n', &mut self.bytes).map_err(Error::io(&self.path))?;
            if read == 0 {
                return Ok(false);
            }
            self.begins = self.line;
            self.check_limit()?;
            self.line += 1;
            if !self.bytes.trim_ascii().is_empty() {
                return Ok(true);
            }
        }
    }

    /// The next element of the array: everything up to a comma or the end of the array that stands in no other value.
    fn next_element(&mut self) -> Result<bool> {
        self.bytes.clear();
        let first = self.next_byte()?;
        self.begins = self.line;
        let mut scan = Scan::default();
        loop {
            let buffer = self.reader.fill_buf().map_err(Error::io(&self.path))?;
            if buffer.is_empty() {
                return Err(self.structure("the array is not closed"));
            }
            let end = buffer.iter().position(|byte| scan.ends_at(*byte));
            let taken = end.unwrap_or(buffer.len());
            self.bytes.extend_from_slice(&buffer[..taken]);
            self.line += count_lines(&buffer[..taken]);
            let closes = end.map(|end| buffer[end] == b']');
            self.reader.consume(taken + usize::from(end.is_some()));
            self.check_limit()?;
            if let Some(closes) = closes {
                return self.end_element(closes, first);
            }
        }
    }

    /// An element that a comma ends, or the end of the array.
    fn end_element(&mut self, closes: bool, first: Option<u8>) -> Result<bool> {
        let is_empty = self.bytes.trim_ascii().is_empty();
        if closes {
            self.form = Form::Closed;
            let element = self.begins;
            if self.next_byte()?.is_some() {
                return Err(self.structure("there is more behind the end of the array"));
            }
            self.begins = element;
            if is_empty && self.element == 0 && first == Some(b']') {
                return Ok(false);
            }
        }
        if is_empty {
            return Err(self.structure("a comma without an element beside it"));
        }
        self.element += 1;
        Ok(true)
    }

    fn structure(&self, problem: &str) -> Error {
        Error::format(&self.path, format!("line {}: not a JSON array: {problem}", self.line))
    }

    fn check_limit(&self) -> Result<()> {
        if self.bytes.len() as u64 <= self.limit {
            return Ok(());
        }
        let problem = format!("line {}: a record of more than {} MiB", self.begins, self.limit >> 20);
        Err(Error::format(&self.path, problem))
    }
}

fn count_lines(bytes: &[u8]) -> u64 {
    bytes.iter().filter(|byte| **byte == b'\n').count() as u64
}

/// Where in an element the next byte is.
#[derive(Default)]
struct Scan {
    depth: usize,
    inside_string: bool,
    escaped: bool,
}

impl Scan {
    /// Whether the element ends before this byte, which is a comma or closes the array; otherwise goes on behind it.
    fn ends_at(&mut self, byte: u8) -> bool {
        match byte {
            _ if self.escaped => self.escaped = false,
            b'\\' if self.inside_string => self.escaped = true,
            b'"' => self.inside_string ^= true,
            _ if self.inside_string => {}
            b'[' | b'{' => self.depth += 1,
            b',' | b']' if self.depth == 0 => return true,
            b']' | b'}' => self.depth = self.depth.saturating_sub(1),
            _ => {}
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::super::reader::Fault;
    use super::*;

    fn records(text: &str) -> Result<Vec<(String, String)>> {
        let bytes = Box::new(std::io::Cursor::new(text.as_bytes().to_vec()));
        let mut records = JsonRecords::new(bytes, Path::new("a.json"), 40);
        let mut all = Vec::new();
        while records.advance().map_err(Fault::error)? {
            all.push((records.place(), String::from_utf8(records.bytes().trim_ascii().to_vec()).unwrap()));
        }
        Ok(all)
    }

    #[test]
    fn lines_and_elements_are_records_with_places() {
        let owned = |all: &[(&str, &str)]| -> Vec<_> {
            all.iter().map(|(place, text)| ((*place).to_owned(), (*text).to_owned())).collect()
        };
        assert_eq!(records("\n{}\n\n1").unwrap(), owned(&[("line 2", "{}"), ("line 4", "1")]));
        let array = "\n[ {\"a\": \"],\\\"\"},\n {\"b\": [1, 2]},\n3 ]\n\n";
        let elements = [
            ("element 1 (line 2)", "{\"a\": \"],\\\"\"}"),
            ("element 2 (line 3)", "{\"b\": [1, 2]}"),
            ("element 3 (line 4)", "3"),
        ];
        assert_eq!(records(array).unwrap(), owned(&elements));
        assert!(records("[ ]").unwrap().is_empty() && records("").unwrap().is_empty());
    }

    #[test]
    fn arrays_that_are_not_well_formed_are_refused() {
        for (text, problem) in [
            ("[{},\n{}", "line 2: not a JSON array: the array is not closed"),
            ("[{},]", "a comma without an element"),
            ("[,{}]", "a comma without an element"),
            ("[{}]\n{}", "line 2: not a JSON array: there is more behind the end"),
            ("[\"a]", "the array is not closed"),
        ] {
            let error = records(text).unwrap_err().to_string();
            assert!(error.contains("a.json") && error.contains(problem), "{error}");
        }
    }

    #[test]
    fn a_record_over_the_limit_is_refused() {
        let long = "x".repeat(50);
        for text in [format!("{{}}\n\"{long}\"\n"), format!("[{{}},\n\"{long}\"]")] {
            let error = records(&text).unwrap_err().to_string();
            assert!(error.contains("line 2: a record of more than"), "{error}");
        }
    }
}
