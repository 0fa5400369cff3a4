//! One text, or one piece of a long one.

/// How many bytes of a long document come in one piece (1 MiB): nothing longer is held in memory
/// when it can be read piece by piece.
pub const PIECE_BYTES: usize = 1 << 20;

/// A text of the corpus, or a piece of one.
///
/// Documents longer than [`PIECE_BYTES`] in text files come in pieces: all but the last have
/// `continues == true`, and the pieces put together are the document. A last piece may be empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// The text.
    pub text: String,
    /// Whether the next item is the next piece of the same document.
    pub continues: bool,
}

impl Document {
    /// A whole document.
    pub fn whole(text: impl Into<String>) -> Self {
        Self { text: text.into(), continues: false }
    }
}

impl From<String> for Document {
    fn from(text: String) -> Self {
        Self::whole(text)
    }
}
