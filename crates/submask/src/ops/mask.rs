//! Which keys a query of attention reads, as a value: never a matrix of queries and keys.

/// A query reads the keys of its own block of positions and of all earlier blocks: all keys where a block is as long as
/// the sequence, itself and those before it where a block is one position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttentionMask {
    block_len: usize,
}

impl AttentionMask {
    /// Every query reads every key.
    pub const FULL: Self = Self { block_len: usize::MAX };
    /// A query reads no later key.
    pub const CAUSAL: Self = Self { block_len: 1 };

    /// Causal by blocks of `block_len` positions; 0 counts as 1.
    pub fn blocks(block_len: usize) -> Self {
        Self { block_len: block_len.max(1) }
    }

    /// Positions per block.
    pub fn block_len(self) -> usize {
        self.block_len
    }

    /// The first position of the block of `position`: what stands before it is the position's past.
    pub fn block_start(self, position: usize) -> usize {
        position / self.block_len * self.block_len
    }

    /// The position after the block of `position`.
    pub fn block_end(self, position: usize) -> usize {
        self.block_start(position).saturating_add(self.block_len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_begin_and_end_where_they_should() {
        let ends = |mask: AttentionMask, position| (mask.block_start(position), mask.block_end(position));
        assert_eq!(ends(AttentionMask::FULL, 1000), (0, usize::MAX));
        assert_eq!(ends(AttentionMask::CAUSAL, 7), (7, 8));
        assert_eq!(ends(AttentionMask::blocks(4), 7), (4, 8));
        assert_eq!(ends(AttentionMask::blocks(4), 8), (8, 12));
        assert_eq!(AttentionMask::blocks(0), AttentionMask::CAUSAL);
    }
}
