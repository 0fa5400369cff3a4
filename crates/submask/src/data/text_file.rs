//! UTF-8 text files, read in pieces: a file, its lines or its paragraphs are the documents.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::document::{Document, PIECE_BYTES};
use super::source::Split;
use crate::error::{Error, Result};

/// The three bytes with which UTF-8 text may begin, to say so; they are no text.
pub(super) const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Which kind of UTF-16 text begins with these bytes, if it says so.
pub(super) fn utf_16(bytes: &[u8]) -> Option<&'static str> {
    match bytes {
        [0xff, 0xfe, ..] => Some("UTF-16 (little-endian)"),
        [0xfe, 0xff, ..] => Some("UTF-16 (big-endian)"),
        _ => None,
    }
}

/// The documents of one text file.
///
/// At most about two pieces are in memory. A piece ends before white space where there is some, so
/// that tokenizers which split at white space give the same tokens as for the whole text.
pub(super) struct TextFile {
    path: PathBuf,
    file: File,
    split: Split,
    piece_bytes: usize,
    buffer: Vec<u8>,
    /// Start of the unread bytes in `buffer`.
    start: usize,
    /// Position in the file of `buffer[start]`.
    offset: u64,
    ended: bool,
    /// The next item goes on with a document that has already given a piece.
    continuing: bool,
    /// The next line is the rest of a line that has already given a piece.
    mid_line: bool,
}

/// A line, or a piece of one.
struct Line {
    text: String,
    complete: bool,
}

impl TextFile {
    /// Opens the file.
    pub(super) fn open(path: &Path, split: Split) -> Result<Self> {
        let file = File::open(path).map_err(Error::io(path))?;
        Ok(Self {
            path: path.to_path_buf(),
            file,
            split,
            piece_bytes: PIECE_BYTES,
            buffer: Vec::new(),
            start: 0,
            offset: 0,
            ended: false,
            continuing: false,
            mid_line: false,
        })
    }

    fn next_document(&mut self) -> Result<Option<Document>> {
        self.begin()?;
        match self.split {
            Split::File => self.next_of_file(),
            Split::Line => self.next_of_lines(),
            Split::Paragraph => self.next_of_paragraphs(),
        }
    }

    /// Skips a byte-order mark at the beginning of the file, and refuses UTF-16.
    fn begin(&mut self) -> Result<()> {
        if self.offset > 0 || self.start > 0 {
            return Ok(());
        }
        self.fill(BYTE_ORDER_MARK.len().max(4))?;
        if let Some(name) = utf_16(self.unread()) {
            return Err(Error::format(&self.path, format!("{name} text: convert it to UTF-8")));
        }
        if self.unread().starts_with(BYTE_ORDER_MARK) {
            self.start += BYTE_ORDER_MARK.len();
            self.offset += BYTE_ORDER_MARK.len() as u64;
        }
        Ok(())
    }

    fn next_of_file(&mut self) -> Result<Option<Document>> {
        self.fill(self.piece_bytes + 1)?;
        if self.unread().is_empty() {
            return Ok(None);
        }
        let continues = self.unread().len() > self.piece_bytes;
        let length = if continues { self.cut() } else { self.unread().len() };
        Ok(Some(Document { text: self.take(length)?, continues }))
    }

    fn next_of_lines(&mut self) -> Result<Option<Document>> {
        while let Some(line) = self.next_line()? {
            let was_continuing = std::mem::replace(&mut self.continuing, !line.complete);
            if was_continuing || !line.complete || !line.text.trim().is_empty() {
                return Ok(Some(Document { text: line.text, continues: !line.complete }));
            }
        }
        Ok(None)
    }

    fn next_of_paragraphs(&mut self) -> Result<Option<Document>> {
        let mut text = String::new();
        while let Some(line) = self.next_line()? {
            let starts_line = !std::mem::replace(&mut self.mid_line, !line.complete);
            let inside = self.continuing || !text.is_empty();
            if starts_line && line.complete && line.text.trim().is_empty() {
                if inside {
                    break;
                }
                continue;
            }
            if starts_line && inside {
                text.push('\n');
            }
            text.push_str(&line.text);
            if text.len() > self.piece_bytes {
                self.continuing = true;
                return Ok(Some(Document { text, continues: true }));
            }
        }
        let was_continuing = std::mem::replace(&mut self.continuing, false);
        Ok((was_continuing || !text.is_empty()).then(|| Document::whole(text)))
    }

    /// The next line without its end, in pieces if it is long.
    fn next_line(&mut self) -> Result<Option<Line>> {
        let mut searched = 0;
        loop {
            if let Some(found) = self.unread()[searched..].iter().position(|&byte| byte == b'\n') {
                let mut text = self.take(searched + found)?;
                if text.ends_with('\r') {
                    text.pop();
                }
                self.skip_one();
                return Ok(Some(Line { text, complete: true }));
            }
            searched = self.unread().len();
            if searched > self.piece_bytes {
                let length = self.cut();
                return Ok(Some(Line { text: self.take(length)?, complete: false }));
            }
            if self.ended {
                let text = self.take(searched)?;
                return Ok((!text.is_empty()).then_some(Line { text, complete: true }));
            }
            self.fill(searched + 1)?;
        }
    }

    fn unread(&self) -> &[u8] {
        &self.buffer[self.start..]
    }

    /// Reads until `wanted` bytes are unread, or the file ends.
    fn fill(&mut self, wanted: usize) -> Result<()> {
        if self.unread().len() >= wanted || self.ended {
            return Ok(());
        }
        self.buffer.drain(..self.start);
        self.start = 0;
        while self.buffer.len() < wanted && !self.ended {
            let chunk = (wanted - self.buffer.len()).max(self.piece_bytes) as u64;
            let read = self.file.by_ref().take(chunk).read_to_end(&mut self.buffer);
            self.ended = read.map_err(Error::io(&self.path))? == 0;
        }
        Ok(())
    }

    /// Where a piece of the unread bytes ends: before the last white space of the first
    /// `piece_bytes` bytes, or else at the last character boundary.
    fn cut(&self) -> usize {
        let window = self.unread();
        let limit = self.piece_bytes.min(window.len() - 1);
        let before_space = |&i: &usize| window[i].is_ascii_whitespace() && window[i - 1].is_ascii_graphic();
        if let Some(cut) = (1..=limit).rev().find(before_space) {
            return cut;
        }
        let boundary = |&i: &usize| window[i] & 0xc0 != 0x80 && window[i - 1] != b'\r';
        (1..=limit).rev().find(boundary).unwrap_or(limit)
    }

    fn take(&mut self, length: usize) -> Result<String> {
        let bytes = &self.buffer[self.start..self.start + length];
        let text = std::str::from_utf8(bytes).map_err(|error| {
            let at = self.offset + error.valid_up_to() as u64;
            Error::format(&self.path, format!("not UTF-8 text: invalid byte at offset {at} (counted from 0)"))
        })?;
        let text = text.to_owned();
        self.start += length;
        self.offset += length as u64;
        Ok(text)
    }

    fn skip_one(&mut self) {
        self.start += 1;
        self.offset += 1;
    }
}

impl Iterator for TextFile {
    type Item = Result<Document>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_document().transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn write(text: &[u8]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        file
    }

    fn read(text: &str, split: Split, piece_bytes: usize) -> Vec<Document> {
        let file = write(text.as_bytes());
        let mut documents = TextFile::open(file.path(), split).unwrap();
        documents.piece_bytes = piece_bytes;
        documents.collect::<Result<_>>().unwrap()
    }

    /// Documents put together from their pieces.
    fn joined(pieces: Vec<Document>) -> Vec<String> {
        let mut documents = Vec::new();
        let mut open = String::new();
        for piece in pieces {
            open.push_str(&piece.text);
            if !piece.continues {
                documents.push(std::mem::take(&mut open));
            }
        }
        assert!(open.is_empty(), "the last piece says that it continues");
        documents
    }

    #[test]
    fn a_file_is_one_document_and_its_text_is_kept_exactly() {
        assert_eq!(read("a\r\n\n b ", Split::File, 100), [Document::whole("a\r\n\n b ")]);
        assert!(read("", Split::File, 100).is_empty());
    }

    #[test]
    fn a_long_file_comes_in_pieces_cut_before_white_space() {
        let pieces = read("one two three four", Split::File, 8);
        assert_eq!(
            pieces.iter().map(|p| p.text.as_str()).collect::<Vec<_>>(),
            ["one two", " three", " four"]
        );
        assert_eq!(pieces.iter().map(|p| p.continues).collect::<Vec<_>>(), [true, true, false]);
    }

    #[test]
    fn lines_lose_their_ends_and_blank_lines_are_no_documents() {
        assert_eq!(joined(read("a b\r\n\n  \nc\nd", Split::Line, 100)), ["a b", "c", "d"]);
        assert_eq!(joined(read("a\n", Split::Line, 100)), ["a"]);
    }

    #[test]
    fn paragraphs_end_at_blank_lines() {
        assert_eq!(joined(read("\n\na\nb\n \n\nc\r\nd\n", Split::Paragraph, 100)), ["a\nb", "c\nd"]);
    }

    #[test]
    fn a_byte_order_mark_is_no_text_and_utf_16_is_named() {
        for split in [Split::File, Split::Line, Split::Paragraph] {
            assert_eq!(joined(read("\u{feff}a b", split, 100)), ["a b"]);
            assert_eq!(joined(read("\u{feff}abcdefgh ijklmnop", split, 8)), ["abcdefgh ijklmnop"]);
            assert!(read("\u{feff}", split, 100).is_empty());
            for (bytes, name) in [(&b"\xff\xfea\0"[..], "little"), (b"\xfe\xff\0a", "big")] {
                let error =
                    TextFile::open(write(bytes).path(), split).unwrap().find_map(Result::err).unwrap();
                assert!(error.to_string().contains(&format!("UTF-16 ({name}-endian)")), "{error}");
            }
        }
    }

    #[test]
    fn a_byte_that_is_not_utf8_is_named_with_its_offset() {
        for split in [Split::File, Split::Line, Split::Paragraph] {
            let file = write(b"fine\nfine\xff");
            let error = TextFile::open(file.path(), split).unwrap().find_map(Result::err).unwrap();
            assert!(error.to_string().contains("offset 9"), "{error}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn pieces_of_a_file_put_together_are_the_file(text in "[a-z\u{e9}\u{4e2d}\u{1f600} \n]{0,60}", piece in 4usize..20) {
            let documents = joined(read(&text, Split::File, piece));
            prop_assert_eq!(documents.concat(), text);
        }

        #[test]
        fn documents_do_not_depend_on_the_piece_size(text in "([ab\u{e9} ]|\r\n|\n){0,60}", piece in 4usize..20) {
            for split in [Split::Line, Split::Paragraph] {
                prop_assert_eq!(joined(read(&text, split, piece)), joined(read(&text, split, 1000)));
            }
        }
    }
}
