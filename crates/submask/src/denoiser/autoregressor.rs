//! A network that predicts digits one after the other, from left to right.

use burn::tensor::{Device, Tensor};

use super::Spec;
use crate::Result;

/// A network over digits, L·ℓ positions of b + 1 classes, each predicted from those before it: the autoregressive
/// baseline. Class b, the mask, begins every sequence and is never predicted.
pub trait Autoregressor: Send + Sync {
    /// What the network takes.
    fn spec(&self) -> &Spec;

    /// Digits b that are predicted; class b begins a sequence.
    fn base(&self) -> usize;

    /// Logits [B·P, b] of the digit that follows each of `inputs` [B, P].
    ///
    /// # Errors
    /// What the implementation cannot evaluate.
    fn logits(&self, inputs: &[u32], batch: usize) -> Result<Vec<f32>>;

    /// For sequences that are continued digit by digit: what the network made of earlier digits is kept. There are none yet.
    fn begin(&self) -> Box<dyn Continuation + '_>;

    /// Inputs that predict `digits` [B, P]: class b, then all but the last digit of every row.
    fn shifted(&self, digits: &[u32], batch: usize) -> Vec<u32> {
        let positions = digits.len() / batch;
        let mut inputs = Vec::with_capacity(digits.len());
        for row in digits.chunks_exact(positions) {
            inputs.push(self.base() as u32);
            inputs.extend_from_slice(&row[..positions - 1]);
        }
        inputs
    }
}

/// Sequences on their way, which may stand at different positions. What becomes of one does not depend on the others.
pub trait Continuation {
    /// Takes in sequences that begin, after the others.
    fn add(&mut self, sequences: usize);

    /// Logits [B, b] of the digit after `inputs` \[B\], one for every sequence, each one position further than at its last
    /// call.
    ///
    /// # Errors
    /// As [`Autoregressor::logits`].
    fn next_logits(&mut self, inputs: &[u32]) -> Result<Vec<f32>>;

    /// Goes on with some of the sequences only: the `rows` of the batch, ascending.
    fn keep(&mut self, rows: &[usize]);

    /// The same sequences where their device can draw the digits that follow, so that logits need not leave it.
    fn on_drawing_device(&mut self) -> Option<&mut dyn DrawingContinuation> {
        None
    }
}

/// Sequences on their way whose logits can stay on their device.
pub trait DrawingContinuation {
    /// The device.
    fn device(&self) -> Device;

    /// As [`Continuation::next_logits`].
    fn next_logits_there(&mut self, inputs: &[u32]) -> Tensor<2>;
}
