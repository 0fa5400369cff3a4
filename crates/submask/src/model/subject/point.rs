//! Points: cells of a square.

use serde::{Deserialize, Serialize};

use super::{Meaning, Unit};
use crate::{Error, Result};

/// Tokens of a point: its row and its column.
pub const POINT_TOKENS: usize = 2;

/// A cell of a square of `cells` rows and columns: two tokens, its row and its column.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PointSubject {
    /// Rows, and columns.
    pub cells: usize,
}

impl PointSubject {
    /// A picture [cells·cells] of how often samples hit every cell: white is never, black most often.
    pub fn picture(&self, tokens: &[Vec<u32>]) -> Vec<u8> {
        let mut counts = vec![0_u64; self.cells * self.cells];
        for point in tokens {
            if let [row, column] = point[..] {
                counts[row as usize * self.cells + column as usize] += 1;
            }
        }
        let most = counts.iter().copied().max().unwrap_or(0).max(1);
        counts.iter().map(|count| 255 - (255 * count / most) as u8).collect()
    }
}

impl Meaning for PointSubject {
    fn name(&self) -> &'static str {
        "points"
    }

    fn networks(&self) -> &'static [&'static str] {
        &["toy"]
    }

    fn vocab_size(&self) -> usize {
        self.cells
    }

    fn seq_len(&self) -> Option<usize> {
        Some(POINT_TOKENS)
    }

    fn validate(&self) -> Result<()> {
        match self.cells {
            1..=super::image::MAX_SIDE => Ok(()),
            cells => Err(Error::invalid("data.cells", cells, format!("1 to {}", super::image::MAX_SIDE))),
        }
    }

    fn units(&self, _: bool) -> Vec<Unit> {
        vec![Unit::BitsPerDimension(POINT_TOKENS), Unit::NatsPerSequence]
    }
}
