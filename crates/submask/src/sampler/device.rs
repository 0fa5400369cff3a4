//! Digits that stay on the network's device while they are sampled: when a digit is revealed does not depend on any value,
//! so one step after the other is handed to the device without waiting for what it draws.

use burn::tensor::{Bool, Int, Tensor, TensorData};

use super::draw::improper;
use super::row::Row;
use crate::denoiser::{DeviceDenoiser, DeviceStates, Spec};
use crate::ops::integers;
use crate::predictive::Predictive;
use crate::predictive::device::DeviceCodes;
use crate::{Error, Result};

/// Rows of one length whose digits are on a device.
pub(super) struct OnDevice<'a> {
    predictive: &'a Predictive,
    seq_len: usize,
    batch: DeviceBatch<'a>,
    /// Rows on their way, in the order of their digits.
    pub rows: Vec<Row<'a>>,
    /// Rows that are done, in the order in which they were taken out; their digits are still on the device.
    done: Vec<Row<'a>>,
}

impl<'a> OnDevice<'a> {
    /// A group with its first row.
    pub fn new(network: &'a dyn DeviceDenoiser, row: Row<'a>) -> Self {
        let predictive = row.recipe.predictive();
        let batch = DeviceBatch::new(network, predictive);
        let mut group =
            Self { predictive, seq_len: row.seq_len(), batch, rows: Vec::new(), done: Vec::new() };
        group.add(row);
        group
    }

    /// Whether a row can join.
    pub fn takes(&self, row: &Row) -> bool {
        self.seq_len == row.seq_len() && std::ptr::eq(self.predictive, row.recipe.predictive())
    }

    /// Takes a row in, after the others.
    pub fn add(&mut self, row: Row<'a>) {
        self.batch.add(&row.y);
        self.rows.push(row);
    }

    /// All rows, those that are done too.
    pub fn all_rows(&self) -> impl Iterator<Item = &Row<'a>> {
        self.rows.iter().chain(&self.done)
    }

    /// The next visit of every row, without waiting for it.
    ///
    /// # Errors
    /// What the network reports.
    pub fn visit(&mut self, spec: &Spec) -> Result<()> {
        if self.rows.is_empty() {
            return Ok(());
        }
        let len = self.predictive.codes().subtoken_len();
        let (mut tokens, mut times) = (Vec::new(), Vec::new());
        for (b, row) in self.rows.iter_mut().enumerate() {
            let visit = row.policy.ask(&row.y);
            let digits: &[usize] = row.policy.planned().map_or(&[], |event| event.digits.as_slice());
            for reveals in digits.chunk_by(|a, b| a / len == b / len) {
                let i = reveals[0] / len;
                tokens.push(RevealedToken {
                    position: b * self.seq_len + i,
                    reveals: reveals.iter().map(|digit| digit % len).collect(),
                    temperature: row.recipe.draws.temperature(visit.time),
                    uniform: row.recipe.draws.uniform(row.number, i, visit.event),
                });
            }
            times.push(visit.time);
            row.revealed += digits.len();
            row.leave(&visit);
        }
        let labels = spec.labels(self.rows.iter().map(|row| row.label));
        self.batch.reveal(&tokens, &times, labels.as_deref())
    }

    /// Takes out a row for which nobody waits any more, where it is there.
    pub fn abandon(&mut self, sequence: usize) -> Option<&Row<'a>> {
        let of = |row: &Row| row.sequence == sequence && !row.is_abandoned;
        if let Some(place) = self.rows.iter().position(of) {
            self.batch.retire((0..self.rows.len()).map(|row| row == place));
            self.done.push(self.rows.remove(place));
        }
        let row = self.done.iter_mut().find(|row| of(row))?;
        row.is_abandoned = true;
        Some(row)
    }

    /// Takes out the rows that are done.
    pub fn retire(&mut self) {
        self.batch.retire(self.rows.iter().map(|row| row.policy.is_done()));
        self.done.extend(self.rows.extract_if(.., |row| row.policy.is_done()));
    }

    /// Waits for the device, and returns the rows that are done, with their digits.
    ///
    /// # Errors
    /// [`Error::Invalid`] for logits since the last wait that are no distribution.
    pub fn sync(&mut self) -> Result<Vec<Row<'a>>> {
        let digits = self.batch.sync()?;
        let mut done = std::mem::take(&mut self.done);
        done.iter_mut().zip(digits).for_each(|(row, y)| row.y = y);
        Ok(done)
    }
}

/// Digits of sequences that are on their way, and of those that are done.
struct DeviceBatch<'a> {
    network: &'a dyn DeviceDenoiser,
    codes: DeviceCodes,
    subtoken_len: usize,
    /// Digits of all sequences on their way, [B·L, ℓ], and B.
    active: Option<Tensor<2, Int>>,
    count: usize,
    /// Those of sequences that are done, [n·L, ℓ].
    done: Vec<Tensor<2, Int>>,
    /// Whether all logits since the last sync were distributions.
    proper: Option<Tensor<1, Bool>>,
}

/// A token that reveals digits now.
struct RevealedToken {
    /// b·L + i.
    position: usize,
    /// Which of its digits.
    reveals: Vec<usize>,
    /// Temperature τ.
    temperature: f64,
    /// Where in its cumulative distribution its draw is.
    uniform: f64,
}

impl<'a> DeviceBatch<'a> {
    fn new(network: &'a dyn DeviceDenoiser, predictive: &Predictive) -> Self {
        Self {
            network,
            codes: DeviceCodes::new(predictive, &network.device()),
            subtoken_len: predictive.codes().subtoken_len(),
            active: None,
            count: 0,
            done: Vec::new(),
            proper: None,
        }
    }

    /// Takes a sequence of digits in, after the others.
    fn add(&mut self, y: &[u32]) {
        let len = self.subtoken_len;
        let y = integers(y.iter().copied(), [y.len() / len, len], &self.network.device());
        self.active = Some(match self.active.take() {
            Some(active) => Tensor::cat(vec![active, y], 0),
            None => y,
        });
        self.count += 1;
    }

    /// Takes out the sequences that are done.
    fn retire(&mut self, is_done: impl Iterator<Item = bool>) {
        let is_done: Vec<bool> = is_done.collect();
        let Some(active) = self.active.take_if(|_| is_done.contains(&true)) else { return };
        let parts = active.chunk(self.count, 0).into_iter().zip(is_done);
        let (done, active): (Vec<_>, Vec<_>) = parts.partition(|(_, is_done)| *is_done);
        self.done.extend(done.into_iter().map(|(y, _)| y));
        self.count = active.len();
        if self.count > 0 {
            self.active = Some(Tensor::cat(active.into_iter().map(|(y, _)| y).collect(), 0));
        }
    }

    /// Evaluates the network at the times and with the labels of the sequences, and writes what the tokens draw.
    fn reveal(&mut self, tokens: &[RevealedToken], times: &[f64], labels: Option<&[usize]>) -> Result<()> {
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
        let Some(y) = self.active.take() else { return Ok(()) };
        let places = integers(positions.iter().map(|position| *position as u32), [n], &device);
        let before = y.clone().select(0, places);
        let mut after = Vec::new();
        let states = DeviceStates { y_t: &y, t: times, labels };
        self.network.evaluate_on_device(&states, &positions, &mut |range, logits| {
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
        })?;
        // Every row again, or what has become of it, which stands behind all of them.
        let [rows, _] = y.dims();
        let mut newest: Vec<u32> = (0..rows as u32).collect();
        for (index, position) in positions.iter().enumerate() {
            newest[*position] = (rows + index) as u32;
        }
        let all = Tensor::cat(std::iter::once(y).chain(after).collect(), 0);
        self.active = Some(all.select(0, integers(newest, [rows], &device)));
        Ok(())
    }

    /// Waits for the device, and reads the digits of the sequences that are done, in the order in which they were taken
    /// out.
    ///
    /// # Errors
    /// [`Error::Invalid`] for logits since the last time that are no distribution.
    fn sync(&mut self) -> Result<Vec<Vec<u32>>> {
        if !self.proper.take().is_none_or(|proper| proper.into_scalar::<bool>()) {
            return Err(improper());
        }
        let done = std::mem::take(&mut self.done);
        let count = done.len();
        if count == 0 {
            return Ok(Vec::new());
        }
        let digits = Tensor::cat(done, 0).try_into_vec_as::<i32>();
        let digits = digits.map_err(Error::internal("digits are integers"))?;
        let sequence = |digits: &[i32]| digits.iter().map(|digit| *digit as u32).collect();
        Ok(digits.chunks_exact(digits.len() / count).map(sequence).collect())
    }
}
