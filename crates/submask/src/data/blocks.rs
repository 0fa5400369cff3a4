//! A stream of tokens cut into sequences of equal length.

use std::ops::Range;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::dataset::{Batch, Dataset};
use super::hash::Fingerprint;
use super::store::TokenStore;
use super::tokenizer::Tokenizer;
use crate::error::{Error, Result};

/// How sequences of L tokens are cut out of a stream of N tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BlockLayout {
    /// Tokens per sequence L.
    pub seq_len: usize,
    /// Whether every sequence is end of text, L − 2 tokens of the stream, end of text, as in the
    /// published packing of OpenWebText; otherwise it is L tokens of the stream.
    #[serde(default)]
    pub block_ends: bool,
}

/// The sequences of a token store: number k holds the stream's tokens k·s to (k+1)·s − 1, where the
/// stride s is L, or L − 2 with block ends. Tokens after the last whole sequence are left out.
#[derive(Clone, Debug)]
pub struct Blocks {
    store: Arc<TokenStore>,
    seq_len: usize,
    /// The token at both ends of a block, if blocks have ends.
    end: Option<u32>,
}

impl Blocks {
    /// Cuts the tokens of `tokenizer` in `store`.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a length of 0 (below 3 with block ends), block ends without an
    /// end-of-text token, and a sequence longer than the corpus; [`Error::Format`] for a store of
    /// another tokenizer.
    pub fn new(store: Arc<TokenStore>, tokenizer: &Tokenizer, layout: BlockLayout) -> Result<Self> {
        Self::with_tail_only(store, tokenizer, layout)?.or_too_short("the corpus", "")
    }

    /// The same, unless there is no whole sequence in what is called `text`, which `remedy` says more of.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a sequence longer than the text.
    pub(super) fn or_too_short(self, text: &str, remedy: &str) -> Result<Self> {
        if !self.is_empty() {
            return Ok(self);
        }
        let tokens = self.store.tokens();
        let most = tokens + (self.seq_len as u64 - self.stride());
        let allowed = format!("sequences of at most {most} tokens: {text} has only {tokens}{remedy}");
        Err(Error::invalid("model.seq_len", self.seq_len, allowed))
    }

    /// The same where the corpus may be shorter than one sequence: then there is none but the tail.
    ///
    /// # Errors
    /// As [`Blocks::new`], but for a sequence longer than the corpus.
    pub(super) fn with_tail_only(
        store: Arc<TokenStore>,
        tokenizer: &Tokenizer,
        layout: BlockLayout,
    ) -> Result<Self> {
        store.check_tokenizer(tokenizer)?;
        let least = if layout.block_ends { 3 } else { 1 };
        if layout.seq_len < least {
            return Err(Error::invalid("model.seq_len", layout.seq_len, format!("at least {least}")));
        }
        let end = tokenizer.end_of_text().filter(|_| layout.block_ends);
        if layout.block_ends && end.is_none() {
            let allowed = "only with a tokenizer that has an end-of-text token";
            return Err(Error::invalid("data.block_ends", true, allowed));
        }
        Ok(Self { store, seq_len: layout.seq_len, end })
    }

    /// How many sequences there are.
    pub fn len(&self) -> u64 {
        self.store.tokens() / self.stride()
    }

    /// Whether there is none; never for blocks that [`Blocks::new`] gave.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Tokens per sequence L.
    pub fn seq_len(&self) -> usize {
        self.seq_len
    }

    /// The tokens that they are cut from.
    pub fn store(&self) -> &TokenStore {
        &self.store
    }

    /// Copies sequence `index` into `out`, which holds L tokens.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an index of [`Blocks::len`] or more, or an `out` of another length.
    pub fn read(&self, index: u64, out: &mut [u32]) -> Result<()> {
        if index >= self.len() {
            return Err(Error::invalid("block", index, format!("below {}", self.len())));
        }
        if out.len() != self.seq_len {
            return Err(Error::invalid("buffer", out.len(), format!("{} tokens", self.seq_len)));
        }
        let range = self.range(index);
        match self.end {
            None => self.store.read(range, out),
            Some(end) => {
                let last = self.seq_len - 1;
                (out[0], out[last]) = (end, end);
                self.store.read(range, &mut out[1..last])
            }
        }
    }

    /// The tokens after the last whole sequence, as a shorter one; none where nothing is left.
    ///
    /// # Errors
    /// [`Error::InvalidCode`] for altered tokens.
    pub(super) fn tail(&self) -> Result<Vec<u32>> {
        let tokens = self.store.tokens_of(self.range(self.len()))?;
        Ok(match self.end {
            Some(end) if !tokens.is_empty() => [&[end], &tokens[..], &[end]].concat(),
            _ => tokens,
        })
    }

    /// At most `count` tokens of the stream that stand before sequence `index`, which may be the tail.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub(super) fn before(&self, index: u64, count: usize) -> Result<Vec<u32>> {
        let start = self.range(index).start;
        self.store.tokens_of(start - start.min(count as u64)..start)
    }

    /// Where the tokens of sequence `index` stand in the stream; number [`Blocks::len`] is what is left after the last.
    pub fn range(&self, index: u64) -> Range<u64> {
        let start = index.saturating_mul(self.stride()).min(self.store.tokens());
        start..start.saturating_add(self.stride()).min(self.store.tokens())
    }

    /// The tokens of a sequence that are of the stream.
    pub(super) fn inner<'a>(&self, tokens: &'a [u32]) -> &'a [u32] {
        let ends = usize::from(self.end.is_some());
        &tokens[ends..tokens.len() - ends]
    }

    /// Tokens of the stream in a sequence.
    fn stride(&self) -> u64 {
        (self.seq_len - 2 * usize::from(self.end.is_some())) as u64
    }
}

impl Dataset for Blocks {
    fn seq_len(&self) -> usize {
        self.seq_len
    }

    fn epoch_len(&self) -> Option<u64> {
        Some(self.len())
    }

    fn get(&self, _epoch: u64, index: u64, batch: &mut Batch) -> Result<()> {
        let start = batch.x_0.len();
        batch.x_0.resize(start + self.seq_len, 0);
        self.read(index, &mut batch.x_0[start..])
    }

    /// Of the layout and of the shards' headers, which hold checksums of the tokens.
    fn fingerprint(&self) -> u64 {
        let layout = [self.seq_len as u64, u64::from(self.end.is_some())].map(u64::to_le_bytes);
        let headers = self.store.shards().iter().map(|shard| shard.header().to_bytes());
        headers.fold(Fingerprint::new().part(&layout.concat()), |hash, header| hash.part(&header)).value()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::data::StoreWriter;

    /// The tokens 0, 1, …, n − 1 (modulo 256) under the bytes tokenizer, in shards of 10.
    pub(in crate::data) fn counting(n: u32) -> (tempfile::TempDir, Arc<TokenStore>) {
        let folder = tempfile::tempdir().unwrap();
        let tokenizer = Tokenizer::bytes();
        let mut writer = StoreWriter::create(folder.path(), "t", &tokenizer, 10).unwrap();
        writer.push(&(0..n).map(|token| token % 256).collect::<Vec<_>>()).unwrap();
        let (files, _) = writer.finish().unwrap();
        let store = TokenStore::open(files.iter().map(|file| folder.path().join(file))).unwrap();
        (folder, Arc::new(store))
    }

    /// With the folder of their shards, which are mapped when they are first read.
    fn blocks(n: u32, seq_len: usize, block_ends: bool) -> Result<(tempfile::TempDir, Blocks)> {
        let (folder, store) = counting(n);
        Ok((folder, Blocks::new(store, &Tokenizer::bytes(), BlockLayout { seq_len, block_ends })?))
    }

    #[test]
    fn blocks_do_not_overlap_and_the_tail_is_dropped() {
        let (_folder, blocks) = blocks(23, 4, false).unwrap();
        assert_eq!(blocks.len(), 5);
        let mut tokens = [0; 4];
        blocks.read(2, &mut tokens).unwrap();
        assert_eq!(tokens, [8, 9, 10, 11]);
        assert!(blocks.read(5, &mut tokens).is_err());
        assert!(blocks.read(0, &mut [0; 3]).is_err());
    }

    #[test]
    fn block_ends_are_end_of_text() {
        let (_folder, blocks) = blocks(23, 6, true).unwrap();
        assert_eq!(blocks.len(), 5);
        let mut tokens = [0; 6];
        blocks.read(4, &mut tokens).unwrap();
        assert_eq!(tokens, [256, 16, 17, 18, 19, 256]);
    }

    #[test]
    fn a_sequence_longer_than_the_corpus_is_refused_with_both_numbers() {
        let error = blocks(23, 24, false).unwrap_err().to_string();
        assert!(error.contains("24") && error.contains("at most 23") && error.contains("only 23"), "{error}");
        let error = blocks(23, 26, true).unwrap_err().to_string();
        assert!(error.contains("at most 25") && error.contains("only 23"), "{error}");
        assert!(blocks(23, 25, true).is_ok() && blocks(23, 23, false).is_ok());
    }

    #[test]
    fn what_is_left_after_the_last_sequence_is_the_tail() {
        assert_eq!(blocks(23, 4, false).unwrap().1.tail().unwrap(), [20, 21, 22]);
        assert_eq!(blocks(23, 6, true).unwrap().1.tail().unwrap(), [256, 20, 21, 22, 256]);
        assert_eq!(blocks(20, 4, false).unwrap().1.tail().unwrap(), Vec::<u32>::new());
        assert_eq!(blocks(20, 6, true).unwrap().1.tail().unwrap(), Vec::<u32>::new());
    }

    #[test]
    fn lengths_too_short_are_refused() {
        assert!(blocks(23, 0, false).is_err());
        assert!(blocks(23, 2, true).unwrap_err().to_string().contains("at least 3"));
        assert!(blocks(0, 1, false).is_err());
    }

    #[test]
    fn the_fingerprint_is_of_the_tokens_and_how_they_are_cut() {
        let of = |n, seq_len, block_ends| Dataset::fingerprint(&blocks(n, seq_len, block_ends).unwrap().1);
        assert_eq!(of(23, 4, false), of(23, 4, false));
        for other in [of(24, 4, false), of(23, 5, false), of(23, 4, true)] {
            assert_ne!(other, of(23, 4, false));
        }
    }

    #[test]
    fn a_store_of_another_tokenizer_is_refused() {
        let (_folder, store) = counting(23);
        let layout = BlockLayout { seq_len: 4, block_ends: false };
        let error = Blocks::new(store, &Tokenizer::text8(), layout).unwrap_err().to_string();
        assert!(error.contains("another tokenizer"), "{error}");
    }
}
