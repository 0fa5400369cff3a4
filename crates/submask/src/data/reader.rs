//! What every reader of a format takes and gives.

use std::path::Path;

use super::document::{Content, Document, written};
use super::source::{Reading, Split};
use crate::error::{Error, Result};

/// Why a reader gave no document.
#[derive(Debug)]
pub(super) enum Fault {
    /// One record is bad; the reader goes on behind it when it is asked again.
    Record(Error),
    /// Nothing more can be read.
    File(Error),
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::File(error)
    }
}

impl Fault {
    /// The error, whichever it is.
    pub(super) fn error(self) -> Error {
        match self {
            Self::Record(error) | Self::File(error) => error,
        }
    }
}

/// A result of a reader.
pub(super) type Given<T> = std::result::Result<T, Fault>;

/// The documents of one file.
pub(super) type FileDocuments = Box<dyn Iterator<Item = Given<Document>> + Send>;

/// What readers have to know.
#[derive(Clone, Debug)]
pub(super) struct Rules {
    /// What in a text file is a document.
    pub(super) split: Split,
    /// Where in a record the text is.
    pub(super) field: String,
    /// How files are read.
    pub(super) reading: Reading,
    /// Token numbers must be below this, where it is known.
    pub(super) vocab_size: Option<u64>,
    /// Whether it is known that texts are numbers with white space between them.
    pub(super) of_numbers: bool,
}

/// What the field of a record holds.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// Texts.
    pub(super) texts: Vec<String>,
    /// Token numbers.
    pub(super) numbers: Vec<i64>,
}

impl Rules {
    /// The defaults, with the text in `field`.
    #[cfg(test)]
    pub(super) fn of_field(field: &str) -> Self {
        let (split, reading) = (Split::default(), Reading::default());
        Self { split, field: field.to_owned(), reading, vocab_size: None, of_numbers: false }
    }

    /// The document that a record gives, if it gives one.
    ///
    /// # Errors
    /// [`Error::Format`] at `place` of the file for a record of texts and numbers.
    pub(super) fn document(&self, found: Found, path: &Path, place: &str) -> Given<Option<Document>> {
        if found.numbers.is_empty() {
            let text = match <[String; 1]>::try_from(found.texts) {
                Ok([text]) => text,
                Err(texts) => texts.join(&self.reading.join),
            };
            return Ok((!text.is_empty()).then(|| Document::whole(text)));
        }
        if !found.texts.is_empty() {
            let problem = format!("{place}: field {:?} holds texts and numbers", self.field);
            return Err(Fault::Record(Error::format(path, problem)));
        }
        let numbers = found.numbers.into_iter().map(|number| self.number(number, path, place));
        Ok(Some(Document::numbers(&numbers.collect::<Result<Vec<_>>>()?)))
    }

    /// A token's number, as far as the vocabulary is known.
    ///
    /// # Errors
    /// [`Error::Format`] at `place` of the file.
    pub(super) fn number(&self, number: i64, path: &Path, place: &str) -> Result<u32> {
        let most = self.vocab_size.unwrap_or(1 << 32);
        match u32::try_from(number) {
            Ok(token) if u64::from(token) < most => Ok(token),
            // What divides documents is no token of any.
            Ok(token) if self.separating_token().is_ok_and(|separator| separator == Some(token)) => Ok(token),
            _ => {
                let allowed = match self.vocab_size {
                    Some(size) => format!("the vocabulary has the ids 0 to {}", size.saturating_sub(1)),
                    None => "ids are whole numbers from 0 on".to_owned(),
                };
                Err(Error::format(path, format!("{place}: token {number} is not a valid code: {allowed}")))
            }
        }
    }

    /// The token that divides documents of token numbers.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a separator that is no number.
    pub(super) fn separating_token(&self) -> Result<Option<u32>> {
        match self.reading.separator.trim() {
            "" => Ok(None),
            text => text.parse().map(Some).map_err(|_| {
                let allowed = "the number of a token: the corpus holds token numbers";
                Error::invalid("data.separator", format!("{text:?}"), allowed)
            }),
        }
    }
}

/// A piece of a document of token numbers. What follows another piece begins with a space.
pub(super) fn piece_of_numbers(numbers: &[u32], follows: bool, continues: bool) -> Document {
    let space = if follows && !numbers.is_empty() { " " } else { "" };
    Document { text: space.to_owned() + &written(numbers), content: Content::TokenNumbers, continues }
}
