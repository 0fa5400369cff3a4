//! A text while it resolves: masked, partly known and clean tokens, state by state.

use super::architecture::Architecture;
use crate::data::Tokenizer;
use crate::sampler::Trajectory;
use crate::subtoken::SubTokenizer;
use crate::{Error, Result};

/// One token of a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cell {
    /// No digit is known.
    Masked,
    /// Some digits are known.
    Partial {
        /// How many of its digits are known.
        known: usize,
        /// How many digits it has, ℓ.
        of: usize,
    },
    /// All digits are known.
    Clean {
        /// The token's text.
        text: String,
        /// Whether its last digit was revealed in this step.
        fresh: bool,
    },
}

/// The sequence after a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Network evaluations so far.
    pub step: usize,
    /// How many there will be.
    pub steps: usize,
    /// The tokens.
    pub cells: Vec<Cell>,
}

impl Architecture {
    /// The frames of a text: its start, then one after every event of its `trajectory`.
    ///
    /// # Errors
    /// [`Error::Invalid`](crate::Error::Invalid) for a model of anything but text.
    pub fn frames(&self, trajectory: &Trajectory) -> Result<Vec<Frame>> {
        let tokenizer =
            self.tokenizer().ok_or_else(|| Error::invalid("frames", "of no text", "those of a text"))?;
        frames(self.predictive().codes(), tokenizer, trajectory)
    }
}

fn frames(codes: &SubTokenizer, tokenizer: &Tokenizer, trajectory: &Trajectory) -> Result<Vec<Frame>> {
    let (len, mask) = (codes.subtoken_len(), codes.mask_id());
    let steps = trajectory.changes.len();
    let mut frames = Vec::with_capacity(steps + 1);
    for (step, (_, y)) in trajectory.states().enumerate() {
        let mut fresh = vec![false; y.len() / len];
        if let Some(change) = step.checked_sub(1).and_then(|event| trajectory.changes.get(event)) {
            change.digits.iter().for_each(|&(digit, _)| fresh[digit / len] = true);
        }
        let cells = y.chunks_exact(len).zip(fresh).map(|(digits, fresh)| {
            let known = digits.iter().filter(|&&digit| digit != mask).count();
            match known {
                0 => Ok(Cell::Masked),
                known if known < len => Ok(Cell::Partial { known, of: len }),
                _ => {
                    let text = tokenizer.token_text(codes.decode_token(digits)?)?;
                    Ok(Cell::Clean { text, fresh })
                }
            }
        });
        frames.push(Frame { step, steps, cells: cells.collect::<Result<_>>()? });
    }
    Ok(frames)
}
