//! Shares of numbered items: which of N items process i of n computes.
//!
//! Evaluation, sampling, scoring and preparation divide their items (sequences, samples, texts, documents) with it, and so do
//! the ranks of a run their slots. An item's result depends on the item's own number and never on its place in a share, so
//! that the results of all shares, one after the other, are those of one process.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// Share number `index` = i of `count` = n, 0 ≤ i < n. Written `i/n`.
///
/// It holds the items ⌊i·N/n⌋ up to ⌊(i+1)·N/n⌋ of N, so that every item is in one share, shares follow each other in the
/// order of items, and their sizes differ by at most one. Where n > N some are empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Shard {
    index: u64,
    count: u64,
}

impl Shard {
    /// The only share: all items.
    pub const WHOLE: Self = Self { index: 0, count: 1 };

    /// Share `index` of `count`.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming `shard` unless `index` < `count`.
    pub fn new(index: u64, count: u64) -> Result<Self> {
        match index < count {
            true => Ok(Self { index, count }),
            false => Err(Error::invalid("shard", format!("{index}/{count}"), ALLOWED)),
        }
    }

    /// All shares of `count`, in order.
    pub fn all(count: u64) -> impl Iterator<Item = Self> {
        (0..count).map(move |index| Self { index, count })
    }

    /// Its number i, from 0.
    pub fn index(self) -> u64 {
        self.index
    }

    /// How many shares there are, n ≥ 1.
    pub fn count(self) -> u64 {
        self.count
    }

    /// Whether it is the only one.
    pub fn is_whole(self) -> bool {
        self.count == 1
    }

    /// Its items among N = `items`: ⌊i·N/n⌋ up to ⌊(i+1)·N/n⌋.
    pub fn range(self, items: usize) -> Range<usize> {
        // At most `items`, so that it fits.
        let bound = |i: u64| (u128::from(i) * items as u128 / u128::from(self.count)) as usize;
        bound(self.index)..bound(self.index + 1)
    }
}

/// Processes that compute items together, each its own share, and tell each other what came of it.
pub trait Peers {
    /// The share of this process.
    fn shard(&self) -> Shard;

    /// What all processes have to say, in the order of shares. All of them ask, in the same order.
    ///
    /// # Errors
    /// Of the connection.
    fn all(&self, own: Vec<u8>) -> Result<Vec<Vec<u8>>>;
}

/// What may stand in the place of `i/n`.
const ALLOWED: &str = "i/n with 0 <= i < n, such as 0/4 for the first of four shares";

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.count)
    }
}

impl From<Shard> for String {
    fn from(shard: Shard) -> Self {
        shard.to_string()
    }
}

impl TryFrom<String> for Shard {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl FromStr for Shard {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok());
        let parts = text.split_once('/').and_then(|(index, count)| number(index)?.zip(number(count)?));
        let (index, count) = parts.ok_or_else(|| Error::invalid("shard", text, ALLOWED))?;
        Self::new(index, count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_item_is_in_one_share_and_shares_differ_by_one() {
        for (items, count) in (0..40).flat_map(|items| (1..50).map(move |count| (items, count))) {
            let ranges: Vec<Range<usize>> = Shard::all(count).map(|shard| shard.range(items)).collect();
            assert!(ranges.windows(2).all(|pair| pair[0].end == pair[1].start), "{items} {count}");
            assert_eq!((ranges[0].start, ranges[ranges.len() - 1].end), (0, items));
            let sizes = || ranges.iter().map(Range::len);
            assert!(sizes().max().unwrap() - sizes().min().unwrap() <= 1, "{items} {count}");
        }
    }

    #[test]
    fn bounds_are_those_of_the_definition() {
        let ranges = Shard::all(3).map(|shard| shard.range(5));
        assert_eq!(ranges.collect::<Vec<_>>(), [0..1, 1..3, 3..5]);
        let last = Shard::new(u64::MAX - 1, u64::MAX).unwrap();
        assert_eq!(last.range(usize::MAX), usize::MAX - 1..usize::MAX);
        assert_eq!(Shard::WHOLE.range(7), 0..7);
    }

    #[test]
    fn it_is_read_as_it_is_written() {
        for text in ["0/1", "2/3", "18446744073709551614/18446744073709551615"] {
            assert_eq!(text.parse::<Shard>().unwrap().to_string(), text);
        }
        for text in [
            "3/3",
            "0/0",
            "1",
            "",
            "/",
            "1/",
            "/2",
            "-1/2",
            "+1/2",
            "1/2/3",
            "a/2",
            " 0/1",
            "0/99999999999999999999",
        ] {
            let error = text.parse::<Shard>().unwrap_err().to_string();
            assert!(error.contains("shard") && error.contains("0 <= i < n"), "{text}: {error}");
        }
    }
}
