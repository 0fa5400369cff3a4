//! Sequences for evaluation, in order, with the characters that they stand for.

use std::ops::Range;

use super::blocks::Blocks;
use super::tokenizer::{DECODED_BEFORE, Tokenizer};
use crate::error::Result;

/// Tokens that are looked through at once for ends of documents.
const TOKENS_AT_ONCE: u64 = 1 << 16;

/// One sequence for evaluation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValidationBlock {
    /// The tokens, `[L]`; of what is left after the last whole block, fewer.
    pub tokens: Vec<u32>,
    /// Characters (Unicode scalar values) of text that they stand for, end of text counting none: the
    /// denominator of bits per character. See [`Tokenizer::count_characters`]. `None` where the text did not survive its
    /// tokenizer: tokens then stand for no text in particular.
    pub characters: Option<u64>,
}

/// The blocks of a store from first to last.
#[derive(Clone, Debug)]
pub struct ValidationBlocks {
    blocks: Blocks,
    tokenizer: Tokenizer,
    lossless: bool,
    next: u64,
}

impl ValidationBlocks {
    /// Starts at block 0; `tokenizer` made the tokens, and `lossless` says whether every document decodes to itself.
    ///
    /// # Errors
    /// [`Error::Format`](crate::Error::Format) for blocks of another tokenizer.
    pub fn new(blocks: Blocks, tokenizer: Tokenizer, lossless: bool) -> Result<Self> {
        blocks.store().check_tokenizer(&tokenizer)?;
        Ok(Self { blocks, tokenizer, lossless, next: 0 })
    }

    /// The blocks.
    pub fn blocks(&self) -> &Blocks {
        &self.blocks
    }

    /// Block `index`, without moving on.
    ///
    /// # Errors
    /// [`Error::Invalid`](crate::Error::Invalid) for an index of [`Blocks::len`] or more;
    /// [`Error::InvalidCode`](crate::Error::InvalidCode) for altered tokens.
    pub fn block(&self, index: u64) -> Result<ValidationBlock> {
        let mut tokens = vec![0; self.blocks.seq_len()];
        self.blocks.read(index, &mut tokens)?;
        self.with_characters(index, tokens)
    }

    /// What is left of the stream after the last whole block; `None` where nothing is.
    ///
    /// # Errors
    /// [`Error::InvalidCode`](crate::Error::InvalidCode) for altered tokens.
    pub fn tail(&self) -> Result<Option<ValidationBlock>> {
        let tokens = self.blocks.tail()?;
        (!tokens.is_empty()).then(|| self.with_characters(self.blocks.len(), tokens)).transpose()
    }

    /// Where in the stream the documents stand that have any token; `None` for a tokenizer without end of text, whose
    /// documents are not kept apart.
    ///
    /// # Errors
    /// [`Error::InvalidCode`](crate::Error::InvalidCode) for altered tokens.
    pub fn documents(&self) -> Result<Option<Vec<Range<u64>>>> {
        let Some(end_of_text) = self.tokenizer.end_of_text() else { return Ok(None) };
        let store = self.blocks.store();
        let (mut documents, mut start) = (Vec::new(), 0);
        let mut close = |range: Range<u64>| {
            if !range.is_empty() {
                documents.push(range);
            }
        };
        let all = store.tokens();
        for first in (0..all).step_by(TOKENS_AT_ONCE as usize) {
            let tokens = store.tokens_of(first..(first + TOKENS_AT_ONCE).min(all))?;
            for (token, position) in tokens.into_iter().zip(first..) {
                if token == end_of_text {
                    close(start..position);
                    start = position + 1;
                }
            }
        }
        close(start..all);
        Ok(Some(documents))
    }

    /// Whether every document is known to decode to itself.
    pub fn is_lossless(&self) -> bool {
        self.lossless
    }

    fn with_characters(&self, index: u64, tokens: Vec<u32>) -> Result<ValidationBlock> {
        let count = || {
            let before = self.blocks.before(index, DECODED_BEFORE)?;
            self.tokenizer.count_characters_after(&before, self.blocks.inner(&tokens))
        };
        let characters = self.lossless.then(count).transpose()?;
        Ok(ValidationBlock { tokens, characters })
    }
}

impl Iterator for ValidationBlocks {
    type Item = Result<ValidationBlock>;

    fn next(&mut self) -> Option<Self::Item> {
        let index = self.next;
        (index < self.blocks.len()).then(|| {
            self.next += 1;
            self.block(index)
        })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = usize::try_from(self.blocks.len() - self.next).ok();
        (left.unwrap_or(usize::MAX), left)
    }
}

#[cfg(test)]
mod tests {
    use super::super::blocks::tests::counting;
    use super::*;
    use crate::data::{BlockLayout, StoreWriter, TokenStore};
    use std::sync::Arc;

    #[test]
    fn blocks_come_in_order_and_characters_are_counted_once() {
        let folder = tempfile::tempdir().unwrap();
        let tokenizer = Tokenizer::bytes();
        let mut writer = StoreWriter::create(folder.path(), "t", &tokenizer, 4).unwrap();
        let text = "a中é\u{1f600}bc";
        writer.push(&[256]).unwrap();
        writer.push(&tokenizer.encode(text).unwrap()).unwrap();
        writer.push(&[256]).unwrap();
        let (files, totals) = writer.finish().unwrap();
        assert_eq!((totals.tokens, totals.characters), (14, 6));
        let store = TokenStore::open(files.iter().map(|file| folder.path().join(file))).unwrap();
        let layout = BlockLayout { seq_len: 2, block_ends: false };
        let blocks = Blocks::new(Arc::new(store), &tokenizer, layout).unwrap();
        let blocks = ValidationBlocks::new(blocks, tokenizer, true).unwrap();
        assert_eq!(blocks.size_hint(), (7, Some(7)));
        let documents = blocks.documents().unwrap().unwrap();
        assert_eq!((documents.len(), &documents[0]), (1, &(1..13)), "between the ends of text");
        let blocks: Vec<_> = blocks.collect::<Result<_>>().unwrap();
        assert_eq!(blocks[0].tokens, [256, 97]);
        let counts: Vec<_> = blocks.iter().map(|block| block.characters).collect();
        assert_eq!(counts, [1, 1, 1, 1, 0, 1, 1].map(Some));
    }

    #[test]
    fn characters_of_blocks_and_tail_are_those_of_the_stream() {
        let (_folder, store) = counting(120);
        for (seq_len, tail) in [(7, 1), (8, 0), (500, 120)] {
            let layout = BlockLayout { seq_len, block_ends: false };
            let blocks = Blocks::with_tail_only(store.clone(), &Tokenizer::bytes(), layout).unwrap();
            let blocks = ValidationBlocks::new(blocks, Tokenizer::bytes(), true).unwrap();
            let rest = blocks.tail().unwrap();
            assert_eq!(rest.as_ref().map_or(0, |rest| rest.tokens.len()), tail);
            let whole = blocks.map(|block| block.unwrap().characters.unwrap()).sum::<u64>();
            assert_eq!(whole + rest.and_then(|rest| rest.characters).unwrap_or(0), 120);
        }
    }

    #[test]
    fn block_ends_stand_for_no_characters() {
        let (_folder, store) = counting(12);
        let layout = BlockLayout { seq_len: 8, block_ends: true };
        let blocks = Blocks::new(store, &Tokenizer::bytes(), layout).unwrap();
        let mut blocks = ValidationBlocks::new(blocks, Tokenizer::bytes(), true).unwrap();
        assert!(blocks.by_ref().all(|block| block.unwrap().characters == Some(6)));
        assert!(blocks.next().is_none());
        assert!(blocks.block(2).is_err());
    }
}
