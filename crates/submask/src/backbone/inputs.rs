//! What a network is asked: partially masked digits, in memory or on its device, with times and labels.

use burn::tensor::{Int, Tensor};

use crate::denoiser::{BlocksAt, DeviceStates, Kept, Spec, States};
use crate::ops::take_rows;
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

    /// The rows of a table [b + 1, w] that the digits take: [B·L·ℓ, w].
    pub(super) fn rows_of(&self, table: Tensor<2>) -> Tensor<2> {
        match self {
            Self::Host(y_t) => take_rows(table, y_t),
            Self::Device(y_t) => table.select(0, (*y_t).clone().reshape([self.len()])),
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
    /// How long the sequences are, or for networks with blocks what stands before each block.
    pub context: Context<'a>,
}

/// What the positions of a sequence read.
#[derive(Clone, Copy, Debug)]
pub enum Context<'a> {
    /// The digits themselves. All sequences are equally long, and with blocks none that is asked about stands after a masked digit.
    Own,
    /// The digits themselves, of sequences of these lengths in tokens, one after the other, for networks that take them
    /// ([`Backbone::takes_lengths`](super::Backbone::takes_lengths)). Positions are those of all sequences together.
    Lengths(&'a [usize]),
    /// The sequences without masks, digits [B, L·ℓ]: a block reads those of its own sequence that stand before it.
    Clean(Digits<'a>),
    /// What is kept of known tokens; see [`BlockDenoiser::evaluate_after`](crate::denoiser::BlockDenoiser::evaluate_after).
    Kept {
        /// Of B' sequences, B' a divisor of B; `None` where all positions are of the first block.
        kept: Option<&'a Kept>,
        /// Which of the known tokens stands at the first position.
        first: usize,
    },
    /// The same of blocks at several places, one group after the other. Positions are those of all blocks together.
    KeptOfEach(&'a [BlocksAt<'a>]),
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
    /// The number of sequences B and their length L in tokens, or one and all tokens of sequences of several lengths, if these are sequences for a network of `spec` and all
    /// `positions` are inside them.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming the digits, the length, the labels or the position that the network does not take.
    pub fn check(&self, spec: &Spec, positions: &[usize]) -> Result<[usize; 2]> {
        let (digits, batch) = (self.y_t.len(), self.t.len());
        if let Context::Lengths(lengths) = self.context {
            return self.check_lengths(spec, lengths, positions);
        }
        if let Context::KeptOfEach(groups) = self.context {
            return self.check_groups(spec, groups, positions);
        }
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

    /// The same of sequences of several lengths.
    fn check_lengths(&self, spec: &Spec, lengths: &[usize], positions: &[usize]) -> Result<[usize; 2]> {
        let (tokens, batch) = (lengths.iter().sum::<usize>(), self.t.len());
        if lengths.len() != batch || batch == 0 {
            return Err(Error::invalid("lengths", lengths.len(), format!("one for each of {batch} times")));
        }
        lengths.iter().try_for_each(|length| spec.check_seq_len(*length))?;
        if self.y_t.len() != tokens * spec.subtoken_len {
            let allowed = format!("{} for {tokens} tokens", tokens * spec.subtoken_len);
            return Err(Error::invalid("digits", self.y_t.len(), allowed));
        }
        if spec.reads_time || spec.block_len > 0 || self.labels.is_some() {
            let allowed = "one: the network reads the time or labels, or has blocks";
            return Err(Error::invalid("lengths of sequences", "several", allowed));
        }
        match positions.iter().find(|position| **position >= tokens) {
            Some(position) => Err(Error::invalid("position", position, format!("below {tokens}"))),
            None => Ok([1, tokens]),
        }
    }

    /// The same of blocks at several places.
    fn check_groups(&self, spec: &Spec, groups: &[BlocksAt], positions: &[usize]) -> Result<[usize; 2]> {
        let sequences: usize = groups.iter().map(|group| group.sequences).sum();
        let tokens: usize = groups.iter().map(|group| group.sequences * group.tokens).sum();
        if sequences != self.t.len() || sequences == 0 || self.y_t.len() != tokens * spec.subtoken_len {
            let given = format!("{sequences} with {tokens} tokens");
            let digits = self.y_t.len();
            let allowed = format!("one for each of {} times, of {digits} digits in all", self.t.len());
            return Err(Error::invalid("sequences", given, allowed));
        }
        if spec.block_len == 0 || spec.reads_time || self.labels.is_some() {
            return Err(Error::invalid(
                "context",
                "of blocks",
                "that of a network with blocks, without times",
            ));
        }
        for group in groups {
            if group.tokens == 0 || group.tokens > spec.block_len {
                return Err(Error::invalid(
                    "tokens of a block",
                    group.tokens,
                    format!("1 to {}", spec.block_len),
                ));
            }
            check_kept(spec, group.kept, group.first, group.tokens, group.sequences)?;
        }
        match positions.iter().find(|position| **position >= tokens) {
            Some(position) => Err(Error::invalid("position", position, format!("below {tokens}"))),
            None => Ok([1, tokens]),
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
            Context::Own | Context::Lengths(_) => Ok(()),
            Context::Clean(clean) if clean.len() == self.y_t.len() => Ok(()),
            Context::Clean(clean) => {
                Err(Error::invalid("clean digits", clean.len(), format!("{}, one per digit", self.y_t.len())))
            }
            Context::Kept { kept, first } => check_kept(spec, kept, first, seq_len, self.t.len()),
            Context::KeptOfEach(_) => Ok(()),
        }
    }
}

/// Checks that blocks of `seq_len` tokens from `first` on find what they read, each of so many sequences.
fn check_kept(spec: &Spec, kept: Option<&Kept>, first: usize, seq_len: usize, readers: usize) -> Result<()> {
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
    if !readers.is_multiple_of(sequences) {
        let allowed = format!("a divisor of the {readers} that read them");
        return Err(Error::invalid("sequences kept", sequences, allowed));
    }
    Ok(())
}
