//! Networks as samplers and likelihoods see them: partially masked digits y_t (with the time and the class, where a
//! network reads them) become logits over the C tokens, at the positions that are asked for and nowhere else.

mod autoregressor;
mod blocks;
mod watched;

use std::ops::{Range, RangeInclusive};

use burn::tensor::{Device, Int, Tensor};

use crate::subtoken::SubTokenizer;
use crate::{Error, Result};

pub use autoregressor::{Autoregressor, Continuation, DrawingContinuation};
pub use blocks::{BlockDenoiser, BlocksAt, Kept};
pub use watched::{Wanted, Watched, WatchedAutoregressor};

/// What a network takes and gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spec {
    /// Number of token classes C, hence of logits per position.
    pub vocab_size: usize,
    /// Sub-tokens per token ℓ.
    pub subtoken_len: usize,
    /// Base b of the sub-tokens: 0 to b − 1, and b itself where one is masked.
    pub base: u32,
    /// Lengths of the sequences that fit, in tokens.
    pub seq_lens: RangeInclusive<usize>,
    /// Whether the network reads the time.
    pub reads_time: bool,
    /// Number of classes that a sequence may be labelled with; `None` where the network reads no labels.
    pub classes: Option<usize>,
    /// Tokens per block of block diffusion; 0: none.
    pub block_len: usize,
}

impl Spec {
    /// A network over the tokens of `codes`, for sequences of 1 to `max_seq_len` tokens, that reads neither the time
    /// nor labels.
    pub fn new(codes: &SubTokenizer, max_seq_len: usize) -> Self {
        Self {
            vocab_size: codes.vocab_size(),
            subtoken_len: codes.subtoken_len(),
            base: codes.base(),
            seq_lens: 1..=max_seq_len,
            reads_time: false,
            classes: None,
            block_len: 0,
        }
    }

    /// The longest sequence L, in tokens.
    pub fn max_seq_len(&self) -> usize {
        *self.seq_lens.end()
    }

    /// Checks that sequences of `seq_len` tokens fit.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming the length given and those allowed.
    pub fn check_seq_len(&self, seq_len: usize) -> Result<()> {
        if self.seq_lens.contains(&seq_len) {
            return Ok(());
        }
        let (shortest, longest) = (self.seq_lens.start(), self.seq_lens.end());
        let allowed = match shortest == longest {
            true => format!("{longest} tokens, the model's only length"),
            false => format!("{shortest} to {longest} tokens, the model's length"),
        };
        Err(Error::invalid("sequence length", seq_len, allowed))
    }

    /// Checks that the network is over the tokens and sub-tokens of `codes`.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming both sizes of both.
    pub fn check_codes(&self, codes: &SubTokenizer) -> Result<()> {
        let sizes = |vocab_size, subtoken_len| format!("{vocab_size} tokens of {subtoken_len} sub-tokens");
        let (ours, theirs) =
            (sizes(self.vocab_size, self.subtoken_len), sizes(codes.vocab_size(), codes.subtoken_len()));
        match ours == theirs {
            true => Ok(()),
            false => Err(Error::invalid("network", ours, format!("{theirs}, as the codes"))),
        }
    }

    /// Checks labels of `batch` sequences.
    ///
    /// # Errors
    /// [`Error::Invalid`] for labels that the network does not read, for another number of them than of sequences, and
    /// naming the first that is no class of the network.
    pub fn check_labels(&self, labels: Option<&[usize]>, batch: usize) -> Result<()> {
        let Some(labels) = labels else { return Ok(()) };
        let Some(classes) = self.classes else {
            return Err(Error::invalid("labels", "given", "none: the network takes no labels"));
        };
        if labels.len() != batch {
            return Err(Error::invalid("labels", labels.len(), format!("one for each of {batch} sequences")));
        }
        match labels.iter().find(|label| **label > classes) {
            Some(label) => {
                Err(Error::invalid("label", label, format!("0 to {classes}, {classes} being no label")))
            }
            None => Ok(()),
        }
    }

    /// The labels of sequences as [`States::labels`] takes them: a sequence without one gets the class that stands for
    /// no label. `None` where the network reads no labels and none is given.
    pub fn labels(&self, labels: impl Iterator<Item = Option<usize>> + Clone) -> Option<Vec<usize>> {
        if self.classes.is_none() && labels.clone().all(|label| label.is_none()) {
            return None;
        }
        Some(labels.map(|label| label.or(self.classes).unwrap_or(0)).collect())
    }
}

/// A batch of partially masked sequences in memory.
#[derive(Clone, Copy, Debug)]
pub struct States<'a> {
    /// Digits [B, L·ℓ], 0..=b, row by row, b being the mask.
    pub y_t: &'a [u32],
    /// Times \[B\] in [0, 1]; ignored unless [`Spec::reads_time`].
    pub t: &'a [f64],
    /// Classes \[B\], 0 to [`Spec::classes`], where that number itself stands for no label; `None`: no label for all.
    pub labels: Option<&'a [usize]>,
}

impl States<'_> {
    /// Tokens per sequence L, given ℓ.
    pub fn seq_len(&self, subtoken_len: usize) -> usize {
        self.y_t.len() / (self.t.len() * subtoken_len)
    }
}

/// Who is told the logits [range length, C] of a range of the positions that were asked for.
pub type LogitRows<'a> = &'a mut dyn FnMut(Range<usize>, &[f32]) -> Result<()>;

/// A network that samplers and likelihoods evaluate: (y_t, t, labels) → logits at asked positions.
///
/// Implementations must give the same numbers for a sequence whatever batch it stands in.
///
/// A network with blocks ([`Spec::block_len`]) predicts a block from its own digits and the tokens of earlier blocks. So it
/// can be asked about the blocks up to and with the first that has a masked digit, and about no later one.
pub trait Denoiser: Send + Sync {
    /// What the network takes and gives.
    fn spec(&self) -> &Spec;

    /// Logits of the positions `positions` (flat indices b·L + i into [B, L], in any order).
    ///
    /// `rows` is called with consecutive ranges of `positions` and their logits, [range length, C].
    ///
    /// # Errors
    /// What the implementation cannot evaluate, and the first error of `rows`.
    fn evaluate(&self, states: &States, positions: &[usize], rows: LogitRows) -> Result<()>;

    /// The same of sequences of several `lengths` \[B\] in tokens, whose digits stand one after the other in `states`; `positions`,
    /// in ascending order, are those of all sequences together. A network that takes only one length at a time is evaluated once
    /// per run of neighbours of one length.
    ///
    /// # Errors
    /// As [`Self::evaluate`].
    fn evaluate_each(
        &self,
        states: &States,
        lengths: &[usize],
        positions: &[usize],
        rows: LogitRows,
    ) -> Result<()> {
        evaluate_runs(self, states, lengths, positions, rows)
    }

    /// The same network where it has blocks, and can keep what it makes of those that are known.
    fn by_blocks(&self) -> Option<&dyn BlockDenoiser> {
        None
    }

    /// The same network where that saves waiting for its device: on GPUs.
    fn on_device(&self) -> Option<&dyn DeviceDenoiser> {
        None
    }

    /// The same network where its device can draw the digits of states in memory, so that logits need not leave it.
    fn drawing_device(&self) -> Option<&dyn DrawingDevice> {
        None
    }
}

/// [`Denoiser::evaluate_each`] by one evaluation per run of neighbours of one length.
pub(crate) fn evaluate_runs(
    network: &(impl Denoiser + ?Sized),
    states: &States,
    lengths: &[usize],
    positions: &[usize],
    rows: LogitRows,
) -> Result<()> {
    let len = network.spec().subtoken_len;
    let (mut sequence, mut token, mut asked) = (0, 0, 0);
    for run in lengths.chunk_by(|a, b| a == b) {
        let tokens = token..token + run.len() * run[0];
        let sequences = sequence..sequence + run.len();
        let end = positions.partition_point(|position| *position < tokens.end);
        let own: Vec<usize> = positions[asked..end].iter().map(|position| position - tokens.start).collect();
        let states = States {
            y_t: &states.y_t[tokens.start * len..tokens.end * len],
            t: &states.t[sequences.clone()],
            labels: states.labels.map(|labels| &labels[sequences.clone()]),
        };
        network.evaluate(&states, &own, &mut |range, logits| {
            rows(range.start + asked..range.end + asked, logits)
        })?;
        (sequence, token, asked) = (sequences.end, tokens.end, end);
    }
    Ok(())
}

/// A batch of partially masked sequences on a network's device.
#[derive(Clone, Copy, Debug)]
pub struct DeviceStates<'a> {
    /// Digits [B·L, ℓ], of sequences that fit the network.
    pub y_t: &'a Tensor<2, Int>,
    /// As [`States::t`].
    pub t: &'a [f64],
    /// As [`States::labels`].
    pub labels: Option<&'a [usize]>,
}

/// Who is told the logits [range length, C] of a range of the positions that were asked for, on a device.
pub type DeviceRows<'a> = &'a mut dyn FnMut(Range<usize>, Tensor<2>);

/// A network whose logits can stay on its device, of states in memory.
pub trait DrawingDevice: Send + Sync {
    /// The device.
    fn device(&self) -> Device;

    /// Whether sequences of several lengths can be evaluated together.
    fn takes_lengths(&self) -> bool;

    /// As [`Denoiser::evaluate_each`], of one length or where the network takes several.
    ///
    /// # Errors
    /// As [`Denoiser::evaluate`].
    fn logits_of_each(
        &self,
        states: &States,
        lengths: &[usize],
        positions: &[usize],
        rows: DeviceRows,
    ) -> Result<()>;

    /// As [`BlockDenoiser::evaluate_after_each`].
    ///
    /// # Errors
    /// As [`BlockDenoiser::evaluate_after`].
    fn logits_after_each(
        &self,
        groups: &[BlocksAt],
        states: &States,
        positions: &[usize],
        rows: DeviceRows,
    ) -> Result<()>;
}

/// A network whose samplers can leave digits and logits on its device.
pub trait DeviceDenoiser: Send + Sync {
    /// The device.
    fn device(&self) -> Device;

    /// As [`Denoiser::evaluate`], at one position at least; `rows` gets logits [range length, C].
    ///
    /// # Errors
    /// What the implementation cannot evaluate.
    fn evaluate_on_device(
        &self,
        states: &DeviceStates,
        positions: &[usize],
        rows: &mut dyn FnMut(Range<usize>, Tensor<2>),
    ) -> Result<()>;
}
