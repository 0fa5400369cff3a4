//! Token numbers in binary files, as nanoGPT writes them: nothing but numbers of two or four bytes.

use std::io::Read;
use std::path::PathBuf;

use super::document::{Document, PIECE_BYTES};
use super::input::Input;
use super::reader::{Given, Rules, piece_of_numbers};
use crate::error::{Error, Result};

/// Numbers that are read at once; each takes at most eleven bytes as text.
const NUMBERS: usize = PIECE_BYTES / 11;

/// The header of llm.c: 256 numbers of four bytes, of which the first three are this, a version, and how many tokens follow.
const HEADERS: [(u32, u32, usize); 2] = [(20_240_520, 1, 2), (20_240_801, 7, 4)];
const HEADER_BYTES: usize = 1024;

/// The documents of one file: the file, or what stands between separating tokens.
pub(super) struct TokenFile {
    path: PathBuf,
    bytes: Box<dyn Read + Send>,
    rules: Rules,
    /// Bytes of a number.
    width: usize,
    separator: Option<u32>,
    buffer: Vec<u8>,
    /// Where in the buffer the next number stands.
    at: usize,
    /// Its place in the file, counted from 0.
    token: u64,
    /// Tokens that the header promises.
    promised: Option<u64>,
    /// The present document has given a piece.
    continuing: bool,
    ended: bool,
}

impl TokenFile {
    /// The documents of numbers of `width` bytes, little-endian.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a separator that is no number, [`Error::Format`] for a header that asks for another width,
    /// [`Error::Io`].
    pub(super) fn new(input: Input, width: usize, rules: &Rules) -> Result<Self> {
        let path = input.path().to_path_buf();
        let separator = rules.separating_token()?;
        let number = |at: usize| input.head().get(at..at + 4)?.try_into().ok().map(u32::from_le_bytes);
        let header = HEADERS.iter().find(|(magic, version, _)| {
            number(0) == Some(*magic) && number(4) == Some(*version) && input.head().len() >= HEADER_BYTES
        });
        if let Some((.., other)) = header.filter(|(.., needed)| *needed != width) {
            let problem = format!(
                "its header says that tokens have {other} bytes: data.format = \"uint{}\"",
                8 * other
            );
            return Err(Error::format(path, problem));
        }
        let promised = header.and_then(|_| number(8)).map(u64::from);
        let mut bytes = input.bytes();
        if header.is_some() {
            bytes.read_exact(&mut [0; HEADER_BYTES]).map_err(Error::io(&path))?;
        }
        let rules = rules.clone();
        let (buffer, at, token) = (Vec::new(), 0, 0);
        let (continuing, ended) = (false, false);
        Ok(Self { path, bytes, rules, width, separator, buffer, at, token, promised, continuing, ended })
    }

    fn next_document(&mut self) -> Given<Option<Document>> {
        let mut numbers = Vec::new();
        while let Some(number) = self.next_number()? {
            if Some(number) == self.separator {
                let follows = std::mem::take(&mut self.continuing);
                if follows || !numbers.is_empty() {
                    return Ok(Some(piece_of_numbers(&numbers, follows, false)));
                }
                continue;
            }
            numbers.push(self.rules.number(
                i64::from(number),
                &self.path,
                &format!("token {}", self.token - 1),
            )?);
            if numbers.len() == NUMBERS {
                let follows = std::mem::replace(&mut self.continuing, true);
                return Ok(Some(piece_of_numbers(&numbers, follows, true)));
            }
        }
        let follows = std::mem::take(&mut self.continuing);
        Ok((follows || !numbers.is_empty()).then(|| piece_of_numbers(&numbers, follows, false)))
    }

    fn next_number(&mut self) -> Result<Option<u32>> {
        if self.at == self.buffer.len() && !self.fill()? {
            return Ok(None);
        }
        let bytes = &self.buffer[self.at..self.at + self.width];
        let number = bytes.iter().rev().fold(0, |number, byte| number << 8 | u32::from(*byte));
        self.at += self.width;
        self.token += 1;
        Ok(Some(number))
    }

    /// Reads more; false at the end.
    fn fill(&mut self) -> Result<bool> {
        self.buffer.clear();
        self.at = 0;
        if self.ended {
            return Ok(false);
        }
        let wanted = NUMBERS * self.width;
        let read = self.bytes.by_ref().take(wanted as u64).read_to_end(&mut self.buffer);
        self.ended = read.map_err(Error::io(&self.path))? < wanted;
        let tokens = self.token + (self.buffer.len() / self.width) as u64;
        let problem = match self.promised {
            _ if !self.buffer.len().is_multiple_of(self.width) => {
                format!("ends inside of token {tokens}: tokens have {} bytes", self.width)
            }
            Some(promised) if self.ended && promised != tokens => {
                format!("{tokens} tokens, and its header promises {promised}")
            }
            _ => return Ok(!self.buffer.is_empty()),
        };
        Err(Error::format(&self.path, problem))
    }
}

impl Iterator for TokenFile {
    type Item = Given<Document>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_document().transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::super::reader::Fault;
    use super::*;
    use std::io::Cursor;

    fn rules(separator: &str, vocab_size: Option<u64>) -> Rules {
        let mut rules = Rules { vocab_size, ..Rules::of_field("text") };
        rules.reading.separator = separator.to_owned();
        rules
    }

    fn read(bytes: Vec<u8>, width: usize, rules: &Rules) -> Result<Vec<Document>> {
        let input = Input::of_stream(Box::new(Cursor::new(bytes)), "a.bin".as_ref())?;
        TokenFile::new(input, width, rules)?.map(|document| document.map_err(Fault::error)).collect()
    }

    fn two_bytes(numbers: &[u16]) -> Vec<u8> {
        numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
    }

    #[test]
    fn numbers_of_two_and_four_bytes_are_tokens() {
        let bytes = two_bytes(&[5, 50_256, 7]);
        assert_eq!(read(bytes.clone(), 2, &rules("", None)).unwrap(), [Document::numbers(&[5, 50_256, 7])]);
        let divided = [Document::numbers(&[5]), Document::numbers(&[7])];
        assert_eq!(read(bytes, 2, &rules("50256", None)).unwrap(), divided);
        let bytes: Vec<u8> = [5u32, 100_000].iter().flat_map(|number| number.to_le_bytes()).collect();
        assert_eq!(read(bytes, 4, &rules("", None)).unwrap(), [Document::numbers(&[5, 100_000])]);
        assert!(read(Vec::new(), 2, &rules("", None)).unwrap().is_empty());
    }

    #[test]
    fn pieces_of_a_long_file_are_its_numbers() {
        let numbers: Vec<u16> = (0..3 * NUMBERS).map(|i| (i % 1000) as u16).collect();
        let pieces = read(two_bytes(&numbers), 2, &rules("", None)).unwrap();
        assert!(pieces.len() == 4 && pieces[..3].iter().all(|piece| piece.continues) && !pieces[3].continues);
        let text: String = pieces.iter().map(|piece| piece.text.as_str()).collect();
        let again: Vec<u16> = text.split(' ').map(|number| number.parse().unwrap()).collect();
        assert_eq!(again, numbers);
        assert!(pieces.iter().all(|piece| piece.text.len() <= PIECE_BYTES));
    }

    #[test]
    fn a_header_is_no_tokens() {
        let header = |tokens: u32| {
            let mut header = vec![0; HEADER_BYTES];
            for (at, number) in [20_240_520u32, 1, tokens].iter().enumerate() {
                header[4 * at..4 * at + 4].copy_from_slice(&number.to_le_bytes());
            }
            [header, two_bytes(&[3, 4])].concat()
        };
        assert_eq!(read(header(2), 2, &rules("", None)).unwrap(), [Document::numbers(&[3, 4])]);
        let error = read(header(9), 2, &rules("", None)).unwrap_err().to_string();
        assert!(error.contains("2 tokens, and its header promises 9"), "{error}");
        let error = read(header(2), 4, &rules("", None)).unwrap_err().to_string();
        assert!(error.contains("data.format = \"uint16\""), "{error}");
    }

    #[test]
    fn what_is_no_token_is_refused_with_its_place() {
        let error = read(two_bytes(&[5, 300]), 2, &rules("", Some(257))).unwrap_err().to_string();
        assert!(error.contains("a.bin: token 1: token 300 is not a valid code"), "{error}");
        let error = read(vec![1, 0, 2], 2, &rules("", None)).unwrap_err().to_string();
        assert!(error.contains("ends inside of token 1: tokens have 2 bytes"), "{error}");
        let error = read(two_bytes(&[1]), 2, &rules("<end>", None)).unwrap_err().to_string();
        assert!(error.contains("data.separator = \"<end>\" is not allowed"), "{error}");
    }
}
