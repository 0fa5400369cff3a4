//! What a network learns from: numbered sequences of equal length.

use std::sync::Arc;

use crate::error::Result;

/// Sequences of L tokens, one after another, with their labels where there are any.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// Tokens, `[B, L]` row by row.
    pub x_0: Vec<u32>,
    /// Classes, `[B]`; empty where there are no labels.
    pub labels: Vec<usize>,
    /// How many tokens at the beginning of every sequence are given, \[B\]: they are not masked, and cost nothing. Empty
    /// where nothing is given.
    pub given: Vec<usize>,
}

impl Batch {
    /// Appends a sequence.
    pub fn push(&mut self, x_0: impl IntoIterator<Item = u32>, label: Option<usize>) {
        self.x_0.extend(x_0);
        self.labels.extend(label);
    }

    /// How many of the `seq_len` tokens of sequence `b` are given.
    pub(crate) fn given_tokens(&self, b: usize, seq_len: usize) -> usize {
        self.given.get(b).map_or(0, |given| (*given).min(seq_len))
    }
}

/// Sequences to train on. A [`Batcher`](super::Batcher) decides in which order they are read.
///
/// What a dataset gives depends on its arguments alone, so that any process can read any part of a step, and a resumed
/// run reads what it would have read.
///
/// ```
/// use submask::data::{Batch, Batcher, Dataset};
///
/// /// The numbers 0 to 9, written with four binary digits.
/// struct Numbers;
///
/// impl Dataset for Numbers {
///     fn seq_len(&self) -> usize {
///         4
///     }
///
///     fn epoch_len(&self) -> Option<u64> {
///         Some(10)
///     }
///
///     fn get(&self, _epoch: u64, index: u64, batch: &mut Batch) -> submask::Result<()> {
///         batch.push((0..4).rev().map(|digit| (index >> digit) as u32 & 1), None);
///         Ok(())
///     }
///
///     fn fingerprint(&self) -> u64 {
///         1
///     }
/// }
///
/// let mut batcher = Batcher::new(Numbers, 0)?;
/// assert_eq!(batcher.next_batch(10)?.x_0.iter().sum::<u32>(), 15);
/// # Ok::<(), submask::Error>(())
/// ```
pub trait Dataset: Send + Sync {
    /// Tokens per sequence L, at least 1.
    fn seq_len(&self) -> usize;

    /// Sequences per epoch, at least 1; `None` for data without an end, whose sequences are never given twice.
    fn epoch_len(&self) -> Option<u64>;

    /// Appends sequence `index`, as it is in pass `epoch` over the data: L tokens, one label or none, and one number of given
    /// tokens or none, the same for all sequences. `index` is below [`Self::epoch_len`]; data without an end are all in epoch 0.
    ///
    /// # Errors
    /// Of data that cannot be read.
    fn get(&self, epoch: u64, index: u64, batch: &mut Batch) -> Result<()>;

    /// A hash of all sequences and labels: a run can be resumed on data with the same.
    fn fingerprint(&self) -> u64;
}

impl<D: Dataset + ?Sized> Dataset for Arc<D> {
    fn seq_len(&self) -> usize {
        (**self).seq_len()
    }

    fn epoch_len(&self) -> Option<u64> {
        (**self).epoch_len()
    }

    fn get(&self, epoch: u64, index: u64, batch: &mut Batch) -> Result<()> {
        (**self).get(epoch, index, batch)
    }

    fn fingerprint(&self) -> u64 {
        (**self).fingerprint()
    }
}
