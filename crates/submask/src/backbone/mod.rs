//! Networks, as the rest of the library sees them.
//!
//! A network maps partially masked digits y_t (and the time, if it reads it) to logits over the C
//! tokens, at the positions that are asked for and nowhere else.

pub mod autoregressive;
pub mod block;
pub mod dit;
pub mod toy;
pub mod unet;
pub mod weights;

use std::ops::Range;

use burn::tensor::Tensor;

use crate::{Error, Result};

/// A network that samplers and likelihoods evaluate: (y_t, t) → logits at asked positions.
///
/// Implementations must give the same numbers for a sequence whatever batch it stands in.
pub trait Denoiser: Sync {
    /// C, the number of token classes, hence of logits at a position.
    fn vocab_size(&self) -> usize;

    /// ℓ, sub-tokens a token.
    fn subtoken_len(&self) -> usize;

    /// The longest sequence, in tokens.
    fn max_seq_len(&self) -> usize;

    /// Whether the network reads the time.
    fn reads_time(&self) -> bool;

    /// Logits of the positions `positions` (flat indices b·L + i into [B, L], in any order).
    ///
    /// # Shapes
    /// - `y_t`: [B, L·ℓ] digits 0..=b, row by row, b being the mask; B = `t.len()`.
    /// - `t`: \[B\] times in [0, 1]; ignored unless [`Self::reads_time`].
    /// - `rows` is called with consecutive ranges of `positions` and their logits, [range length, C].
    ///
    /// # Errors
    /// What the implementation cannot evaluate, and the first error of `rows`.
    #[allow(clippy::type_complexity, reason = "a name for the callback would hide what it is given")]
    fn evaluate(
        &self,
        y_t: &[u32],
        t: &[f64],
        positions: &[usize],
        rows: &mut dyn FnMut(Range<usize>, &[f32]) -> Result<()>,
    ) -> Result<()>;
}

/// Checks that `seq_len` tokens fit a network.
///
/// # Errors
/// [`Error::Invalid`] naming both lengths.
pub fn check_seq_len(network: &(impl Denoiser + ?Sized), seq_len: usize) -> Result<()> {
    let longest = network.max_seq_len();
    if (1..=longest).contains(&seq_len) {
        return Ok(());
    }
    Err(Error::invalid("sequence length", seq_len, format!("1 to {longest} tokens, the model's length")))
}

/// Checks that `seq_len` is the one length of a network.
fn check_only_len(network: &(impl Denoiser + ?Sized), seq_len: usize) -> Result<()> {
    let only = network.max_seq_len();
    if seq_len == only {
        return Ok(());
    }
    Err(Error::invalid("sequence length", seq_len, format!("{only} tokens, the model's only length")))
}

/// The elements of logits.
fn floats(logits: Tensor<2>) -> Result<Vec<f32>> {
    logits
        .try_into_vec_as::<f32>()
        .map_err(|error| Error::invalid("logits", format!("{error:?}"), "32-bit floats"))
}

/// Logits that exist at once while a network is evaluated.
const CHUNK_LOGITS: usize = 1 << 24;

/// Cuts 0..count into ranges whose logits fit [`CHUNK_LOGITS`].
fn for_each_chunk(
    count: usize,
    classes: usize,
    mut work: impl FnMut(Range<usize>) -> Result<()>,
) -> Result<()> {
    let size = (CHUNK_LOGITS / classes).max(1);
    for start in (0..count).step_by(size) {
        work(start..(start + size).min(count))?;
    }
    Ok(())
}
