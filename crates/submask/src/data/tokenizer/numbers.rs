//! Token ids as decimal numbers.

use super::table::TokenTable;
use crate::error::{Error, Result};

/// Most tokens: the table of their texts stays small.
const MAX_VOCAB: usize = 1 << 24;

/// The texts of the tokens: the number, and a space after it.
///
/// # Errors
/// [`Error::Invalid`] for a vocabulary size out of range.
pub(super) fn table(vocab_size: usize) -> Result<TokenTable> {
    if !(2..=MAX_VOCAB).contains(&vocab_size) {
        return Err(Error::invalid("vocab_size", vocab_size, format!("2 to {MAX_VOCAB} numbers")));
    }
    Ok(TokenTable::new((0..vocab_size).map(|id| format!("{id} ").into_bytes())))
}

/// The numbers of a text.
///
/// # Errors
/// [`Error::Invalid`] naming what is no number below `vocab_size`.
pub(super) fn encode(text: &str, vocab_size: usize) -> Result<Vec<u32>> {
    let number = |word: &str| {
        word.parse().ok().filter(|id| (*id as usize) < vocab_size).ok_or_else(|| {
            let allowed = format!("numbers from 0 to {} with white space between them", vocab_size - 1);
            Error::invalid("token", format!("{word:?}"), allowed)
        })
    };
    text.split_whitespace().map(number).collect()
}

#[cfg(test)]
mod tests {
    use super::super::Tokenizer;

    #[test]
    fn numbers_are_tokens() {
        let tokenizer = Tokenizer::numbers(300).unwrap();
        let tokens = tokenizer.encode(" 7\n299  0").unwrap();
        assert_eq!(tokens, [7, 299, 0]);
        assert_eq!(tokenizer.decode(&tokens, "|").unwrap(), "7 299 0 ");
        assert!(tokenizer.separator().is_empty());
        for wrong in ["300", "-1", "1.5", "a"] {
            let error = tokenizer.encode(wrong).unwrap_err().to_string();
            assert!(error.contains(wrong) && error.contains("0 to 299"), "{error}");
        }
        assert!(Tokenizer::numbers(1).is_err());
    }
}
