//! Training batches: all blocks in a random order, epoch after epoch.

use serde::{Deserialize, Serialize};

use super::blocks::Blocks;
use super::permutation::Permutation;
use crate::error::{Error, Result};

/// How far the reading has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cursor {
    /// Passes over the corpus that are complete.
    pub epoch: u64,
    /// Sequences of the present pass that have been given.
    pub position: u64,
}

/// Gives batches of sequences; the batch at a cursor depends on (seed, cursor, batch size) only.
///
/// Every epoch gives every block once, in an order of its own. A batch at the end of an epoch goes on
/// with the next one.
#[derive(Clone, Debug)]
pub struct Batcher {
    blocks: Blocks,
    seed: u64,
    cursor: Cursor,
}

impl Batcher {
    /// A batcher at the start of epoch 0.
    pub fn new(blocks: Blocks, seed: u64) -> Self {
        Self { blocks, seed, cursor: Cursor::default() }
    }

    /// The blocks that are given.
    pub fn blocks(&self) -> &Blocks {
        &self.blocks
    }

    /// Where the next batch begins.
    pub fn cursor(&self) -> Cursor {
        self.cursor
    }

    /// Goes on from a saved cursor.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a position beyond the blocks: the cursor is of another corpus.
    pub fn seek(&mut self, cursor: Cursor) -> Result<()> {
        if cursor.position >= self.blocks.len() {
            let allowed = format!("below the {} sequences of this corpus", self.blocks.len());
            return Err(Error::invalid("cursor position", cursor.position, allowed));
        }
        self.cursor = cursor;
        Ok(())
    }

    /// The next `batch` sequences, `[B, L]` row by row.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a batch of 0.
    pub fn next_batch(&mut self, batch: usize) -> Result<Vec<u32>> {
        if batch == 0 {
            return Err(Error::invalid("batch", batch, "at least 1"));
        }
        let mut tokens = vec![0; batch * self.blocks.seq_len()];
        let mut order = self.order();
        for row in tokens.chunks_exact_mut(self.blocks.seq_len()) {
            self.blocks.read(order.at(self.cursor.position), row)?;
            self.cursor.position += 1;
            if self.cursor.position == self.blocks.len() {
                self.cursor = Cursor { epoch: self.cursor.epoch + 1, position: 0 };
                order = self.order();
            }
        }
        Ok(tokens)
    }

    fn order(&self) -> Permutation {
        Permutation::new(self.blocks.len(), self.seed, self.cursor.epoch)
    }
}

#[cfg(test)]
mod tests {
    use super::super::blocks::tests::counting;
    use super::*;
    use crate::data::{BlockLayout, Tokenizer};
    use std::collections::BTreeSet;

    /// A batcher of 10 blocks of 2 tokens.
    fn batcher(seed: u64) -> (tempfile::TempDir, Batcher) {
        let (folder, store) = counting(21);
        let layout = BlockLayout { seq_len: 2, block_ends: false };
        let blocks = Blocks::new(store, &Tokenizer::bytes(), layout).unwrap();
        (folder, Batcher::new(blocks, seed))
    }

    fn firsts(tokens: &[u32]) -> Vec<u32> {
        tokens.chunks(2).map(|row| row[0]).collect()
    }

    #[test]
    fn every_epoch_gives_every_block_once_in_its_own_order() {
        let (_folder, mut batcher) = batcher(1);
        let epochs: Vec<_> = (0..3).map(|_| firsts(&batcher.next_batch(10).unwrap())).collect();
        for epoch in &epochs {
            let all: BTreeSet<u32> = epoch.iter().copied().collect();
            assert_eq!(all, (0..10).map(|i| 2 * i).collect());
        }
        assert!(epochs[0] != epochs[1] && epochs[1] != epochs[2]);
        assert_eq!(batcher.cursor(), Cursor { epoch: 3, position: 0 });
    }

    #[test]
    fn the_batch_size_does_not_change_the_order() {
        let ((_a, mut one), (_b, mut three)) = (batcher(5), batcher(5));
        let ones: Vec<u32> = (0..24).flat_map(|_| one.next_batch(1).unwrap()).collect();
        let threes: Vec<u32> = (0..8).flat_map(|_| three.next_batch(3).unwrap()).collect();
        assert_eq!(ones, threes);
        assert_eq!(one.cursor(), Cursor { epoch: 2, position: 4 });
        assert_eq!(one.next_batch(25).unwrap(), three.next_batch(25).unwrap());
    }

    #[test]
    fn a_saved_cursor_goes_on_exactly() {
        let (_a, mut whole) = batcher(5);
        whole.next_batch(13).unwrap();
        let saved = serde_json::to_string(&whole.cursor()).unwrap();
        let (_b, mut resumed) = batcher(5);
        resumed.seek(serde_json::from_str(&saved).unwrap()).unwrap();
        assert_eq!(resumed.next_batch(30).unwrap(), whole.next_batch(30).unwrap());
    }

    #[test]
    fn seeds_give_different_orders() {
        let ((_a, mut one), (_b, mut two)) = (batcher(1), batcher(2));
        assert_ne!(one.next_batch(10).unwrap(), two.next_batch(10).unwrap());
    }

    #[test]
    fn a_cursor_of_another_corpus_and_an_empty_batch_are_refused() {
        let (_folder, mut batcher) = batcher(1);
        let error = batcher.seek(Cursor { epoch: 0, position: 10 }).unwrap_err().to_string();
        assert!(error.contains("below the 10 sequences"), "{error}");
        assert!(batcher.next_batch(0).is_err());
    }
}
