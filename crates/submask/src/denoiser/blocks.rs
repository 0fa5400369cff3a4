//! Networks with blocks: what they make of known tokens is kept, so that later blocks need not make it again.

use std::sync::{Arc, OnceLock};

use burn::tensor::Tensor;

use super::{LogitRows, States};
use crate::Result;
use crate::ops::{PlacedPast, integers};

/// What a network keeps of known tokens: in each of its layers a vector per token. For transformers these are keys and
/// values, which are placed when they are read: the first token kept stands at position 0.
#[derive(Clone, Debug)]
pub struct Kept {
    /// One [B, P, w] per layer, of at least one layer and one token.
    layers: Vec<Tensor<3>>,
    /// The same, ready to be read by attention, once that has been asked for.
    placed: Arc<OnceLock<Vec<PlacedPast>>>,
}

impl Kept {
    /// Of vectors [B, P, w], one tensor per layer.
    ///
    /// # Panics
    /// Where there is no layer.
    pub fn new(layers: Vec<Tensor<3>>) -> Self {
        assert!(!layers.is_empty(), "a network has layers");
        Self { layers, placed: Arc::default() }
    }

    /// The vectors of a layer, [B, P, w].
    pub fn layer(&self, layer: usize) -> Tensor<3> {
        self.layers[layer].clone()
    }

    /// Keys and values of every layer, ready to be read; `place` makes them so, once for all who share what is kept.
    pub(crate) fn placed(&self, place: impl Fn(Tensor<3>) -> PlacedPast) -> &[PlacedPast] {
        self.placed.get_or_init(|| self.layers.iter().cloned().map(place).collect())
    }

    /// Number of sequences B.
    pub fn sequences(&self) -> usize {
        self.layers[0].dims()[0]
    }

    /// Tokens of each sequence P.
    pub fn tokens(&self) -> usize {
        self.layers[0].dims()[1]
    }

    /// The same without the first `tokens` of every sequence, fewer than there are: those after them move to their places, and
    /// keep what they read of them.
    ///
    /// # Panics
    /// For as many tokens as there are, or more.
    #[must_use]
    pub fn without_first(&self, tokens: usize) -> Self {
        self.map(|x| {
            let left = x.dims()[1] - tokens;
            x.narrow(1, tokens, left)
        })
    }

    /// The same of some `sequences`, in their order, at least one; one may come several times.
    #[must_use]
    pub fn of(&self, sequences: &[usize]) -> Self {
        if sequences.iter().copied().eq(0..self.sequences()) {
            return self.clone();
        }
        let indices = |x: &Tensor<3>| {
            let indices = sequences.iter().map(|sequence| *sequence as u32);
            integers(indices, [sequences.len()], &x.device())
        };
        self.map(|x| {
            let indices = indices(&x);
            x.select(0, indices)
        })
    }

    /// The sequences of several, one after the other; `None` of none. All have equally many tokens.
    pub fn joined(parts: &[Self]) -> Option<Self> {
        let first = parts.first()?;
        if parts.len() == 1 {
            return Some(first.clone());
        }
        let layer = |index| Tensor::cat(parts.iter().map(|part| part.layer(index)).collect(), 0);
        Some(Self::new((0..first.layers.len()).map(layer).collect()))
    }

    fn map(&self, each: impl Fn(Tensor<3>) -> Tensor<3>) -> Self {
        Self::new(self.layers.iter().cloned().map(each).collect())
    }
}

/// Blocks of some sequences that stand at one place.
#[derive(Clone, Copy, Debug)]
pub struct BlocksAt<'a> {
    /// What is kept of their known tokens: of as many sequences; `None` for the first block.
    pub kept: Option<&'a Kept>,
    /// The place of their first token among the known ones.
    pub first: usize,
    /// How many sequences these are.
    pub sequences: usize,
    /// Tokens of each.
    pub tokens: usize,
}

/// A network with blocks of [`block_len`](super::Spec::block_len) tokens each, the last of a sequence being shorter where
/// that does not divide its length.
///
/// What is kept of a block depends on the tokens of that block and of those before it, and on nothing else. As with
/// [`Denoiser`](super::Denoiser), numbers must not depend on the batch; nor may they depend on whether a block is evaluated by
/// itself, after what is kept of those before it, or among others.
pub trait BlockDenoiser: Send + Sync {
    /// What is kept of `sequences` sequences of known tokens, whose digits are `clean` [B, n·ℓ]: after what is `kept` of those
    /// before them, whole blocks in number, and including it.
    ///
    /// # Errors
    /// [`Error::Invalid`](crate::Error::Invalid) for more tokens than the network's length in all, and what the implementation
    /// cannot evaluate.
    fn keep(&self, clean: &[u32], sequences: usize, kept: Option<&Kept>) -> Result<Kept>;

    /// As [`Denoiser::evaluate`](super::Denoiser::evaluate), where every block reads of the sequence's known tokens those that
    /// stand before it, and nothing of the other blocks of `states`: so all blocks of a sequence, each partly masked, take one
    /// evaluation.
    ///
    /// `first` is the place of the first token of `states` among the known ones, a multiple of the block length; with `first`
    /// = P blocks are evaluated that follow what is kept. `kept` is of B' sequences, B' a divisor of the B of `states`: sequence
    /// s reads those of s·B'/B. `None` is for the first block.
    ///
    /// # Errors
    /// As [`Denoiser::evaluate`](super::Denoiser::evaluate), and [`Error::Invalid`](crate::Error::Invalid) where fewer tokens are
    /// kept than stand before the last block, for another number of sequences, and for positions beyond the network's length.
    fn evaluate_after(
        &self,
        kept: Option<&Kept>,
        first: usize,
        states: &States,
        positions: &[usize],
        rows: LogitRows,
    ) -> Result<()>;

    /// The same of blocks that stand at several places, `groups` of them one after the other in `states`; `positions`, in ascending
    /// order, are those of all blocks together. A network that takes only one place at a time is evaluated once per group.
    ///
    /// # Errors
    /// As [`Self::evaluate_after`].
    fn evaluate_after_each(
        &self,
        groups: &[BlocksAt],
        states: &States,
        positions: &[usize],
        rows: LogitRows,
    ) -> Result<()> {
        let tokens: usize = groups.iter().map(|group| group.sequences * group.tokens).sum();
        let len = states.y_t.len() / tokens.max(1);
        let (mut sequence, mut token, mut asked) = (0, 0, 0);
        for group in groups {
            let tokens = token..token + group.sequences * group.tokens;
            let sequences = sequence..sequence + group.sequences;
            let end = positions.partition_point(|position| *position < tokens.end);
            let own: Vec<usize> =
                positions[asked..end].iter().map(|position| position - tokens.start).collect();
            let states = States {
                y_t: &states.y_t[tokens.start * len..tokens.end * len],
                t: &states.t[sequences.clone()],
                labels: states.labels.map(|labels| &labels[sequences.clone()]),
            };
            self.evaluate_after(group.kept, group.first, &states, &own, &mut |range, logits| {
                rows(range.start + asked..range.end + asked, logits)
            })?;
            (sequence, token, asked) = (sequences.end, tokens.end, end);
        }
        Ok(())
    }
}
