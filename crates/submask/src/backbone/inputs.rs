//! What a network is asked: partially masked digits, in memory or on its device, with times and labels.

use burn::tensor::{Device, Int, Tensor};

use crate::denoiser::{DeviceStates, Kept, Spec, States};
use crate::ops::integers;
use crate::{Error, Result};

/// Where digits are.
#[derive(Clone, Copy, Debug)]
pub enum Digits<'a> {
    /// In memory, [B, L·ℓ] row by row.
    Host(&'a [u32]),
    /// On the network's device, [B·L, ℓ].
    Device(&'a Tensor<2, Int>),
}

impl Digits<'_> {
    /// Number of digits, B·L·ℓ.
    pub fn len(&self) -> usize {
        match self {
            Self::Host(y_t) => y_t.len(),
            Self::Device(y_t) => y_t.shape().num_elements(),
        }
    }

    /// The digits on `device`, the network's, one after the other: [B·L·ℓ].
    pub fn to_device(&self, device: &Device) -> Tensor<1, Int> {
        match self {
            Self::Host(y_t) => integers(y_t.iter().copied(), [y_t.len()], device),
            Self::Device(y_t) => (*y_t).clone().reshape([self.len()]),
        }
    }

    /// Whether there is no digit.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A batch of partially masked sequences, as a network takes it.
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a> {
    /// Digits 0..=b, b being the mask.
    pub y_t: Digits<'a>,
    /// As [`States::t`].
    pub t: &'a [f64],
    /// As [`States::labels`].
    pub labels: Option<&'a [usize]>,
    /// The tokens before each block, for networks with blocks.
    pub context: Context<'a>,
}

/// What a network with blocks reads of the tokens before a block. Networks without blocks do not read it.
#[derive(Clone, Copy, Debug)]
pub enum Context<'a> {
    /// The digits themselves, in which no block that is asked about stands after a masked digit.
    Own,
    /// The sequences without masks, digits [B, L·ℓ]: a block reads those of its own sequence that stand before it.
    Clean(Digits<'a>),
    /// What is kept of known tokens; see [`BlockDenoiser::evaluate_after`](crate::denoiser::BlockDenoiser::evaluate_after).
    Kept {
        /// Of B' sequences, B' a divisor of B; `None` where all positions are of the first block.
        kept: Option<&'a Kept>,
        /// Which of the known tokens stands at the first position.
        first: usize,
    },
}

impl<'a> From<States<'a>> for Inputs<'a> {
    fn from(States { y_t, t, labels }: States<'a>) -> Self {
        Self { y_t: Digits::Host(y_t), t, labels, context: Context::Own }
    }
}

impl<'a> From<DeviceStates<'a>> for Inputs<'a> {
    fn from(DeviceStates { y_t, t, labels }: DeviceStates<'a>) -> Self {
        Self { y_t: Digits::Device(y_t), t, labels, context: Context::Own }
    }
}

impl Inputs<'_> {
    /// The number of sequences B and their length L in tokens, if these are sequences for a network of `spec` and all
    /// `positions` are inside them.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming the digits, the length, the labels or the position that the network does not take.
    pub fn check(&self, spec: &Spec, positions: &[usize]) -> Result<[usize; 2]> {
        let (digits, batch) = (self.y_t.len(), self.t.len());
        let rows = batch * spec.subtoken_len;
        if batch == 0 || !digits.is_multiple_of(rows) {
            let each = match spec.seq_lens.start() == spec.seq_lens.end() {
                true => format!("{}", spec.max_seq_len() * spec.subtoken_len),
                false => format!("a multiple of {}", spec.subtoken_len),
            };
            return Err(Error::invalid("digits", digits, format!("{each} for each of {batch} times")));
        }
        let seq_len = digits / rows;
        spec.check_seq_len(seq_len)?;
        self.check_context(spec, seq_len)?;
        spec.check_labels(self.labels, batch)?;
        match positions.iter().find(|position| **position >= batch * seq_len) {
            Some(position) => Err(Error::invalid("position", position, format!("below {}", batch * seq_len))),
            None => Ok([batch, seq_len]),
        }
    }
    /// Checks that every block finds the tokens that stand before it.
    fn check_context(&self, spec: &Spec, seq_len: usize) -> Result<()> {
        if spec.block_len == 0 {
            return match self.context {
                Context::Own => Ok(()),
                _ => Err(Error::invalid("context", "given", "none: the network has no blocks")),
            };
        }
        match self.context {
            Context::Own => Ok(()),
            Context::Clean(clean) if clean.len() == self.y_t.len() => Ok(()),
            Context::Clean(clean) => {
                Err(Error::invalid("clean digits", clean.len(), format!("{}, one per digit", self.y_t.len())))
            }
            Context::Kept { kept, first } => {
                spec.check_seq_len(first.saturating_add(seq_len))?;
                if !first.is_multiple_of(spec.block_len) {
                    let allowed = format!("a multiple of {}, the tokens of a block", spec.block_len);
                    return Err(Error::invalid("first token of a block", first, allowed));
                }
                let needed = first + (seq_len - 1) / spec.block_len * spec.block_len;
                let (tokens, sequences) = kept.map_or((0, 1), |kept| (kept.tokens(), kept.sequences()));
                if tokens < needed {
                    let allowed = format!("at least {needed}, those before the last block");
                    return Err(Error::invalid("tokens kept", tokens, allowed));
                }
                match self.t.len().is_multiple_of(sequences) {
                    true => Ok(()),
                    false => {
                        let allowed = format!("a divisor of the {} that read them", self.t.len());
                        Err(Error::invalid("sequences kept", sequences, allowed))
                    }
                }
            }
        }
    }
}
