//! Draws of the digits that follow those of autoregressive sequences, on the network's device: logits stay there.

use std::sync::Arc;

use burn::tensor::{Bool, Device, Tensor, TensorData};

use super::device::{DrawnStates, drawn_tokens};
use super::draw::improper;
use crate::Result;
use crate::ops::{DRAW_NOTES, DeviceVisit, DrawnTokens, SequenceDraws, TokenDraw, VisitDraws, integers};
use crate::predictive::{Nucleus, Predictive, Sharpening};
use crate::random::Draws;

/// A digit that is drawn.
pub(super) struct NextDigit {
    /// Which of the sequences that were evaluated.
    pub row: usize,
    /// Its place in its sequence.
    pub place: usize,
    /// The draws of the sequence, and its number under the seed.
    pub draws: Draws,
    pub number: u64,
    pub sharpening: Sharpening,
    /// Values that it may take, \[b\].
    pub allowed: Vec<bool>,
}

/// Single digits as the tokens that kernels draw.
pub(super) struct DeviceDigits {
    tokens: Arc<DrawnTokens>,
    base: usize,
}

impl DeviceDigits {
    /// The b values that `digits` are distributions over.
    pub fn new(digits: &Predictive) -> Self {
        Self { tokens: drawn_tokens(digits), base: digits.codes().vocab_size() }
    }

    /// The digits drawn by their rows of `logits` [B, b]. Waits for the device, if there is a digit to draw.
    ///
    /// # Errors
    /// [`Error::NonFinite`](crate::Error::NonFinite) for logits that are no distribution.
    pub fn draw(&self, logits: Tensor<2>, digits: &[NextDigit]) -> Result<Vec<u32>> {
        let (n, device) = (digits.len(), logits.device());
        let Some(visit) = (n > 0).then(|| DeviceVisit::new(&visit(digits), &device)).flatten() else {
            return Ok(Vec::new());
        };
        let rows = || digits.iter().map(|digit| digit.row as u32);
        let logits = match rows().eq(0..logits.dims()[0] as u32) {
            true => logits,
            false => logits.select(0, integers(rows(), [n], &device)),
        };
        let logits = match self.excluded(digits, &device) {
            Some(excluded) => logits.mask_fill(excluded, f32::NEG_INFINITY),
            None => logits,
        };
        let masks = integers(std::iter::repeat_n(self.base as u32, n), [n, 1], &device);
        let notes = integers(std::iter::repeat_n(0, n * DRAW_NOTES), [n, DRAW_NOTES], &device);
        let drawn = visit.draw(&self.tokens, 0, logits, masks, &notes);
        let drawn = DrawnStates::read(drawn, notes)?;
        match drawn.is_improper {
            true => Err(improper()),
            false => Ok(drawn.digits.into_iter().map(|digit| digit as u32).collect()),
        }
    }

    /// Values that lead to no token, [n, b], if there are any.
    fn excluded(&self, digits: &[NextDigit], device: &Device) -> Option<Tensor<2, Bool>> {
        let excluded: Vec<bool> =
            digits.iter().flat_map(|digit| digit.allowed.iter().map(|allowed| !allowed)).collect();
        let data = excluded.contains(&true).then(|| TensorData::new(excluded, [digits.len(), self.base]))?;
        Some(Tensor::from_data(data, device))
    }
}

/// The visit that draws digits as tokens of one digit, in the event 0.
fn visit(digits: &[NextDigit]) -> VisitDraws {
    let sequence = |digit: &NextDigit| SequenceDraws {
        draws: digit.draws,
        number: digit.number,
        event: 0,
        temperature: digit.sharpening.temperature,
        top_k: digit.sharpening.top_k,
        top_p: digit.sharpening.top_p,
        exclusive: digit.sharpening.nucleus == Nucleus::Exclusive,
        each_digit: false,
        may_contradict: false,
        step: None,
    };
    let token = |(index, digit): (usize, &NextDigit)| TokenDraw {
        position: index,
        i: digit.place,
        sequence: index,
        digits: 1,
    };
    VisitDraws {
        sequences: digits.iter().map(sequence).collect(),
        tokens: digits.iter().enumerate().map(token).collect(),
    }
}
