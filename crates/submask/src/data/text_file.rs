//! UTF-8 text files, read in pieces: a file, its lines or its paragraphs are the documents.

use std::io::Read;
use std::path::PathBuf;

use super::document::{Document, PIECE_BYTES};
use super::input::Input;
use super::reader::{Fault, Given};
use super::source::Split;
use crate::error::{Error, Result};

/// The documents of one text file.
///
/// At most about two pieces are in memory. A piece ends before white space where there is some, so
/// that tokenizers which split at white space give the same tokens as for the whole text.
pub(super) struct TextFile {
    path: PathBuf,
    bytes: Box<dyn Read + Send>,
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
    /// The next line is the rest of a line whose beginning is no text.
    dropping: bool,
}

/// A line, or a piece of one, if it is text.
struct Line {
    text: Result<String>,
    complete: bool,
}

impl Line {
    fn is_blank(&self) -> bool {
        self.text.as_ref().is_ok_and(|text| text.trim().is_empty())
    }
}

impl TextFile {
    /// The documents of a text.
    ///
    /// # Errors
    /// As [`Input::text`].
    pub(super) fn new(input: Input, split: Split) -> Result<Self> {
        let path = input.path().to_path_buf();
        let (bytes, offset) = input.text()?;
        Ok(Self {
            path,
            bytes,
            split,
            piece_bytes: PIECE_BYTES,
            buffer: Vec::new(),
            start: 0,
            offset,
            ended: false,
            continuing: false,
            mid_line: false,
            dropping: false,
        })
    }

    fn next_document(&mut self) -> Given<Option<Document>> {
        match self.split {
            Split::File => Ok(self.next_of_file()?),
            Split::Line => self.next_of_lines(),
            Split::Paragraph => self.next_of_paragraphs(),
        }
    }

    fn next_of_file(&mut self) -> Result<Option<Document>> {
        self.fill(self.piece_bytes + 1)?;
        if self.unread().is_empty() {
            return Ok(None);
        }
        let continues = self.unread().len() > self.piece_bytes;
        let length = if continues { self.cut() } else { self.unread().len() };
        Ok(Some(Document::piece(self.take(length)?, continues)))
    }

    fn next_of_lines(&mut self) -> Given<Option<Document>> {
        while let Some(line) = self.next_line()? {
            if self.dropping {
                self.dropping = !line.complete;
                continue;
            }
            let blank = line.complete && line.is_blank();
            let was_continuing = std::mem::replace(&mut self.continuing, !line.complete);
            let text = match line.text {
                Ok(text) => text,
                Err(error) if was_continuing => return Err(Fault::File(error)),
                Err(error) => {
                    self.dropping = std::mem::take(&mut self.continuing);
                    return Err(Fault::Record(error));
                }
            };
            if was_continuing || !blank {
                return Ok(Some(Document::piece(text, !line.complete)));
            }
        }
        Ok(None)
    }

    fn next_of_paragraphs(&mut self) -> Given<Option<Document>> {
        let (mut text, mut bad) = (String::new(), None);
        while let Some(line) = self.next_line()? {
            let starts_line = !std::mem::replace(&mut self.mid_line, !line.complete);
            let inside = self.continuing || !text.is_empty() || bad.is_some();
            if starts_line && line.complete && line.is_blank() {
                if inside {
                    break;
                }
                continue;
            }
            match line.text {
                Ok(_) if bad.is_some() => continue,
                Ok(line) => {
                    if starts_line && inside {
                        text.push('\n');
                    }
                    text.push_str(&line);
                }
                Err(error) if self.continuing => return Err(Fault::File(error)),
                Err(error) => bad = bad.or(Some(error)),
            }
            if text.len() > self.piece_bytes && bad.is_none() {
                self.continuing = true;
                return Ok(Some(Document::piece(text, true)));
            }
        }
        if let Some(error) = bad {
            return Err(Fault::Record(error));
        }
        let was_continuing = std::mem::replace(&mut self.continuing, false);
        Ok((was_continuing || !text.is_empty()).then(|| Document::whole(text)))
    }

    /// The next line without its end, in pieces if it is long.
    fn next_line(&mut self) -> Result<Option<Line>> {
        let mut searched = 0;
        loop {
            if let Some(found) = self.unread()[searched..].iter().position(|&byte| byte == b'\n') {
                let mut text = self.take(searched + found);
                if let Ok(text) = &mut text
                    && text.ends_with('\r')
                {
                    text.pop();
                }
                self.skip_one();
                return Ok(Some(Line { text, complete: true }));
            }
            searched = self.unread().len();
            if searched > self.piece_bytes {
                let length = self.cut();
                return Ok(Some(Line { text: self.take(length), complete: false }));
            }
            if self.ended {
                let text = self.take(searched);
                let is_some = !text.as_ref().is_ok_and(String::is_empty);
                return Ok(is_some.then_some(Line { text, complete: true }));
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
            let read = self.bytes.by_ref().take(chunk).read_to_end(&mut self.buffer);
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

    /// The next bytes as text; they are read even if they are none.
    fn take(&mut self, length: usize) -> Result<String> {
        let bytes = &self.buffer[self.start..self.start + length];
        let text = std::str::from_utf8(bytes).map(str::to_owned).map_err(|error| {
            let at = self.offset + error.valid_up_to() as u64;
            Error::format(&self.path, format!("not UTF-8 text: invalid byte at offset {at} (counted from 0)"))
        });
        self.start += length;
        self.offset += length as u64;
        text
    }

    fn skip_one(&mut self) {
        self.start += 1;
        self.offset += 1;
    }
}

impl Iterator for TextFile {
    type Item = Given<Document>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_document().transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn open(bytes: &[u8], split: Split, piece_bytes: usize) -> Result<TextFile> {
        let bytes = Box::new(std::io::Cursor::new(bytes.to_vec()));
        let file = TextFile::new(Input::of_stream(bytes, "a.txt".as_ref())?, split)?;
        Ok(TextFile { piece_bytes, ..file })
    }

    fn read(text: &str, split: Split, piece_bytes: usize) -> Vec<Document> {
        let documents = open(text.as_bytes(), split, piece_bytes).unwrap();
        documents.map(|document| document.map_err(Fault::error)).collect::<Result<_>>().unwrap()
    }

    /// Documents, and the bad ones in their places.
    fn good_and_bad(bytes: &[u8], split: Split, piece_bytes: usize) -> Vec<Option<Document>> {
        let documents = open(bytes, split, piece_bytes).unwrap();
        documents
            .map(|document| match document {
                Ok(document) => Some(document),
                Err(Fault::Record(_)) => None,
                Err(Fault::File(error)) => panic!("{error}"),
            })
            .collect()
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
    fn a_byte_order_mark_is_no_text() {
        for split in [Split::File, Split::Line, Split::Paragraph] {
            assert_eq!(joined(read("\u{feff}a b", split, 100)), ["a b"]);
            assert_eq!(joined(read("\u{feff}abcdefgh ijklmnop", split, 8)), ["abcdefgh ijklmnop"]);
            assert!(read("\u{feff}", split, 100).is_empty());
        }
    }

    #[test]
    fn a_byte_that_is_not_utf8_is_named_with_its_offset() {
        for split in [Split::File, Split::Line, Split::Paragraph] {
            for (text, at) in [(&b"fine\nfine\xff"[..], "offset 9"), (b"\xef\xbb\xbffine\xff", "offset 7")] {
                let error =
                    open(text, split, 100).unwrap().find_map(std::result::Result::err).unwrap().error();
                assert!(error.to_string().contains(at), "{error}");
            }
        }
    }

    #[test]
    fn reading_goes_on_behind_a_line_or_a_paragraph_that_is_no_text() {
        let some = |text: &str| Some(Document::whole(text));
        let bytes = b"a\nb\xff\nc\n\xff";
        assert_eq!(good_and_bad(bytes, Split::Line, 100), [some("a"), None, some("c"), None]);
        let bytes = b"a\nb\xff\nc\n\nd\ne\n\n\xff\n\nf";
        assert_eq!(good_and_bad(bytes, Split::Paragraph, 100), [None, some("d\ne"), None, some("f")]);
        // The rest of a long line goes with its beginning.
        let bytes = b"\xffbcdefghijklmnopqrst uvw\nx y\n";
        assert_eq!(good_and_bad(bytes, Split::Line, 8), [None, some("x y")]);
    }

    #[test]
    fn what_is_no_text_behind_a_piece_that_was_given_ends_the_file() {
        for split in [Split::Line, Split::Paragraph] {
            let mut documents = open(b"abcdefghij klmnopq rstuvwxyz\xff\nz\n", split, 8).unwrap();
            assert!(documents.next().unwrap().unwrap().continues);
            assert!(matches!(documents.find_map(std::result::Result::err), Some(Fault::File(_))));
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
