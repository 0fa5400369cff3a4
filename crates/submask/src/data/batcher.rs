//! Training batches: all sequences in a random order, epoch after epoch.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::dataset::{Batch, Dataset};
use super::permutation::Permutation;
use crate::error::{Error, Result};

/// A place in the data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cursor {
    /// Complete passes over the data; 0 where there is no end of them.
    pub epoch: u64,
    /// Sequences of the present pass that have been given.
    pub position: u64,
}

/// Gives batches of sequences; the batch at a cursor depends on (seed, cursor, batch size) only.
///
/// Every epoch gives every sequence once, in an order of its own, and a batch at the end of an epoch continues in the
/// next one. Data without an end are given in the order of their numbers.
#[derive(Clone)]
pub struct Batcher {
    data: Arc<dyn Dataset>,
    seed: u64,
    /// Sequences per epoch.
    epoch_len: Option<u64>,
    cursor: Cursor,
}

impl Batcher {
    /// A batcher at the start of epoch 0.
    ///
    /// # Errors
    /// [`Error::Invalid`] for data without sequences, or with sequences of no tokens.
    pub fn new(data: impl Dataset + 'static, seed: u64) -> Result<Self> {
        let epoch_len = data.epoch_len();
        if epoch_len == Some(0) {
            return Err(Error::invalid("data", "0 sequences", "at least 1"));
        }
        if data.seq_len() == 0 {
            return Err(Error::invalid("data", "sequences of 0 tokens", "at least 1 token per sequence"));
        }
        Ok(Self { data: Arc::new(data), seed, epoch_len, cursor: Cursor::default() })
    }

    /// The sequences that are given.
    pub fn data(&self) -> &dyn Dataset {
        &*self.data
    }

    /// Where the next batch begins.
    pub fn cursor(&self) -> Cursor {
        self.cursor
    }

    /// Continues at a saved cursor.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a cursor beyond the data: it was saved with other data.
    pub fn seek(&mut self, cursor: Cursor) -> Result<()> {
        match self.epoch_len {
            Some(len) if cursor.position >= len => {
                let allowed = format!("below the {len} sequences of these data");
                Err(Error::invalid("cursor position", cursor.position, allowed))
            }
            None if cursor.epoch != 0 => {
                Err(Error::invalid("cursor epoch", cursor.epoch, "0: these data have no end"))
            }
            _ => {
                self.cursor = cursor;
                Ok(())
            }
        }
    }

    /// The next `count` sequences.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a batch of 0, and the errors of [`Dataset::get`].
    pub fn next_batch(&mut self, count: usize) -> Result<Batch> {
        let batch = self.slot(0, count)?;
        self.advance(count as u64);
        Ok(batch)
    }

    /// Batch `index` of the batches of `count` sequences each that begin at the cursor. The cursor stays, and no other
    /// batch is read.
    ///
    /// # Errors
    /// As [`Self::next_batch`]; [`Error::Invalid`] for a dataset that does not give one sequence at a time.
    pub fn slot(&self, index: usize, count: usize) -> Result<Batch> {
        if count == 0 {
            return Err(Error::invalid("batch", count, "at least 1"));
        }
        let seq_len = self.data.seq_len();
        let mut batch = Batch { x_0: Vec::with_capacity(count * seq_len), ..Batch::default() };
        let mut cursor = self.after(self.cursor, (index as u64).saturating_mul(count as u64));
        for given in 1..=count {
            self.data.get(cursor.epoch, self.at(cursor), &mut batch)?;
            check(&batch, given, seq_len)?;
            cursor = self.after(cursor, 1);
        }
        Ok(batch)
    }

    /// Moves the cursor over `count` sequences.
    pub fn advance(&mut self, count: u64) {
        self.cursor = self.after(self.cursor, count);
    }

    /// The cursor `count` sequences after another.
    fn after(&self, Cursor { epoch, position }: Cursor, count: u64) -> Cursor {
        let Some(len) = self.epoch_len else {
            return Cursor { epoch, position: position.saturating_add(count) };
        };
        let (len, position) = (u128::from(len), u128::from(position) + u128::from(count));
        Cursor { epoch: epoch.saturating_add((position / len) as u64), position: (position % len) as u64 }
    }

    /// Number of the sequence at a cursor.
    fn at(&self, cursor: Cursor) -> u64 {
        match self.epoch_len {
            Some(len) => Permutation::new(len, self.seed, cursor.epoch).at(cursor.position),
            None => cursor.position,
        }
    }
}

/// Checks that `batch` holds `count` sequences, and a label and a number of given tokens for all of them or for none.
fn check(batch: &Batch, count: usize, seq_len: usize) -> Result<()> {
    let (tokens, labels, given) = (batch.x_0.len(), batch.labels.len(), batch.given.len());
    if tokens != count * seq_len {
        let problem = format!("{tokens} tokens for {count} sequences");
        return Err(Error::invalid("data", problem, format!("{seq_len} tokens per sequence")));
    }
    if labels != 0 && labels != count {
        let problem = format!("{labels} labels for {count} sequences");
        return Err(Error::invalid("data", problem, "one label per sequence, or none at all"));
    }
    if given != 0 && given != count {
        let problem = format!("{given} numbers of given tokens for {count} sequences");
        return Err(Error::invalid("data", problem, "one per sequence, or none at all"));
    }
    match batch.given.iter().find(|given| **given > seq_len) {
        Some(given) => {
            Err(Error::invalid("data", format!("{given} given tokens"), format!("at most {seq_len}")))
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::blocks::tests::counting;
    use super::*;
    use crate::data::{BlockLayout, Blocks, Tokenizer};
    use std::collections::BTreeSet;

    /// A batcher of 10 blocks of 2 tokens.
    fn batcher(seed: u64) -> (tempfile::TempDir, Batcher) {
        let (folder, store) = counting(21);
        let layout = BlockLayout { seq_len: 2, block_ends: false };
        let blocks = Blocks::new(store, &Tokenizer::bytes(), layout).unwrap();
        (folder, Batcher::new(blocks, seed).unwrap())
    }

    fn firsts(batch: &Batch) -> Vec<u32> {
        batch.x_0.chunks(2).map(|row| row[0]).collect()
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
        let ones: Vec<u32> = (0..24).flat_map(|_| one.next_batch(1).unwrap().x_0).collect();
        let threes: Vec<u32> = (0..8).flat_map(|_| three.next_batch(3).unwrap().x_0).collect();
        assert_eq!(ones, threes);
        assert_eq!(one.cursor(), Cursor { epoch: 2, position: 4 });
        assert_eq!(one.next_batch(25).unwrap(), three.next_batch(25).unwrap());
    }

    #[test]
    fn a_saved_cursor_continues_exactly() {
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

    #[test]
    fn a_slot_is_the_batch_that_reading_one_after_another_comes_to() {
        for start in [0, 7, 19] {
            let (_folder, mut batcher) = batcher(3);
            batcher.next_batch(start + 1).unwrap();
            let cursor = batcher.cursor();
            let slots: Vec<Batch> = [4, 0, 2, 1, 3].map(|index| batcher.slot(index, 4).unwrap()).into();
            assert_eq!(batcher.cursor(), cursor, "reading a slot moves nothing");
            let mut after = batcher.clone();
            after.advance(12);
            let batches: Vec<Batch> = (0..5).map(|_| batcher.next_batch(4).unwrap()).collect();
            for (slot, index) in slots.iter().zip([4, 0, 2, 1, 3]) {
                assert_eq!(*slot, batches[index], "slot {index} after {start}");
            }
            assert_eq!(after.next_batch(4).unwrap(), batches[3]);
        }
    }

    /// `len` sequences that are their numbers twice; an odd one has another length, and a label.
    struct Odd {
        len: Option<u64>,
        first: u64,
    }

    impl Dataset for Odd {
        fn seq_len(&self) -> usize {
            2
        }

        fn epoch_len(&self) -> Option<u64> {
            self.len
        }

        fn get(&self, _epoch: u64, index: u64, batch: &mut Batch) -> Result<()> {
            let index = index - self.first.min(index);
            let label = (index % 2 == 1).then_some(0);
            batch.push([index as u32; 2].into_iter().skip(usize::from(index % 4 == 3)), label);
            Ok(())
        }

        fn fingerprint(&self) -> u64 {
            0
        }
    }

    #[test]
    fn data_without_an_end_are_given_by_number_in_epoch_0() {
        let mut batcher = Batcher::new(Odd { len: None, first: u64::MAX }, 1).unwrap();
        batcher.next_batch(3).unwrap();
        assert_eq!(batcher.cursor(), Cursor { epoch: 0, position: 3 });
        assert!(batcher.seek(Cursor { epoch: 1, position: 0 }).is_err());
        let last = Cursor { epoch: 0, position: u64::MAX };
        batcher.seek(last).unwrap();
        batcher.next_batch(2).unwrap();
        assert_eq!(batcher.cursor(), last);
    }

    #[test]
    fn a_dataset_that_breaks_its_promises_is_refused() {
        assert!(Batcher::new(Odd { len: Some(0), first: 0 }, 1).is_err());
        let batcher = |first| Batcher::new(Odd { len: None, first }, 1).unwrap();
        let error = batcher(0).slot(0, 2).unwrap_err().to_string();
        assert!(error.contains("1 labels for 2 sequences"), "{error}");
        let mut three = batcher(0);
        three.advance(3);
        let error = three.slot(0, 1).unwrap_err().to_string();
        assert!(error.contains("1 tokens for 1 sequences"), "{error}");
    }
}
