//! Digits that stay on the network's device while they are sampled: when a digit is revealed does not depend on any value,
//! so one step after the other is handed to the device without waiting for what it draws.

use burn::tensor::{Bool, IndexingUpdateOp, Int, Tensor, TensorData};

use super::draw::improper;
use crate::backbone::DeviceDenoiser;
use crate::predictive::Predictive;
use crate::predictive::device::{DeviceCodes, integers};
use crate::{Error, Result};

/// Rounds after which logits that were no distribution are noticed, and the program waits for the device.
const ROUNDS_A_LOOK: usize = 16;

/// The sequences that are on their way, and those that are done.
pub(super) struct DeviceBatch<'a> {
    network: &'a dyn DeviceDenoiser,
    codes: DeviceCodes,
    subtoken_len: usize,
    /// Digits of every sequence on its way, [1, L·ℓ].
    active: Vec<Tensor<2, Int>>,
    /// Those of sequences that are done.
    done: Vec<Tensor<2, Int>>,
    /// Whether all logits since the last look were distributions.
    proper: Option<Tensor<1, Bool>>,
    rounds: usize,
}

/// A token that reveals digits now.
pub(super) struct RevealedToken {
    /// b·L + i.
    pub position: usize,
    /// Which of its digits.
    pub reveals: Vec<usize>,
    /// τ.
    pub temperature: f64,
    /// Where in its cumulative distribution its draw is.
    pub uniform: f64,
}

impl<'a> DeviceBatch<'a> {
    pub fn new(network: &'a dyn DeviceDenoiser, predictive: &Predictive) -> Self {
        Self {
            network,
            codes: DeviceCodes::new(predictive, &network.device()),
            subtoken_len: predictive.codes().subtoken_len(),
            active: Vec::new(),
            done: Vec::new(),
            proper: None,
            rounds: 0,
        }
    }

    /// Takes a sequence of digits in.
    pub fn add(&mut self, y: &[u32]) {
        self.active.push(integers(y.iter().copied(), [1, y.len()], &self.network.device()));
    }

    /// Takes out the sequences that are done.
    pub fn retire(&mut self, is_done: impl Iterator<Item = bool>) {
        let (done, active): (Vec<_>, Vec<_>) =
            self.active.drain(..).zip(is_done).partition(|(_, done)| *done);
        self.done.extend(done.into_iter().map(|(y, _)| y));
        self.active = active.into_iter().map(|(y, _)| y).collect();
    }

    /// Evaluates the network at the times of the sequences, and writes what the tokens draw.
    ///
    /// # Errors
    /// [`Error::Invalid`] for logits of this round or one before that are no distribution.
    pub fn reveal(&mut self, tokens: &[RevealedToken], times: &[f64]) -> Result<()> {
        let (device, len, n) = (self.network.device(), self.subtoken_len, tokens.len());
        let column = |value: &dyn Fn(&RevealedToken) -> f64| {
            let values: Vec<f32> = tokens.iter().map(|token| value(token) as f32).collect();
            Tensor::<2>::from_data(TensorData::new(values, [n, 1]), &device)
        };
        let (temperatures, uniforms) = (column(&|token| token.temperature), column(&|token| token.uniform));
        let mask: Vec<bool> =
            tokens.iter().flat_map(|token| (0..len).map(|j| token.reveals.contains(&j))).collect();
        let mask = Tensor::<2, Bool>::from_data(TensorData::new(mask, [n, len]), &device);
        let positions: Vec<usize> = tokens.iter().map(|token| token.position).collect();
        let places = integers(positions.iter().map(|position| *position as u32), [n], &device);

        let (batch, digits) = (self.active.len(), self.active[0].dims()[1]);
        let y = Tensor::cat(std::mem::take(&mut self.active), 0).reshape([batch * digits / len, len]);
        let before = y.clone().select(0, places.clone());
        let mut after = Vec::new();
        self.network.evaluate_on_device(&y, times, &positions, &mut |range, logits| {
            let (start, count) = (range.start, range.len());
            let before = before.clone().narrow(0, start, count);
            let part = |x: &Tensor<2>| x.clone().narrow(0, start, count);
            let drawn = self.codes.draw(logits, &before, part(&temperatures), part(&uniforms));
            after.push(before.mask_where(mask.clone().narrow(0, start, count), drawn.digits));
            let proper = drawn.proper.all();
            self.proper = Some(match self.proper.take() {
                Some(before) => before.bool_and(proper),
                None => proper,
            });
        });
        let y = y.select_assign(0, places, Tensor::cat(after, 0) - before, IndexingUpdateOp::Add);
        self.active = y.reshape([batch, digits]).split(1, 0);
        self.rounds += 1;
        if self.rounds.is_multiple_of(ROUNDS_A_LOOK) { self.look() } else { Ok(()) }
    }

    /// Waits for the device.
    fn look(&mut self) -> Result<()> {
        let proper = self.proper.take().is_none_or(|proper| proper.into_scalar::<bool>());
        if proper { Ok(()) } else { Err(improper()) }
    }

    /// The digits of the sequences that are done, in the order in which they were taken out.
    ///
    /// # Errors
    /// As [`Self::reveal`].
    pub fn finish(mut self) -> Result<Vec<Vec<u32>>> {
        self.look()?;
        let read = |y: Tensor<2, Int>| {
            let digits = y.try_into_vec_as::<i32>();
            let digits =
                digits.map_err(|error| Error::invalid("digits", format!("{error:?}"), "integers"))?;
            Ok(digits.into_iter().map(|digit| digit as u32).collect())
        };
        self.done.into_iter().map(read).collect()
    }
}
