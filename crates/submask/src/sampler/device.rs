//! Digits that stay on the network's device while they are sampled: when a digit is revealed does not depend on any value,
//! so one step after the other is handed to the device without waiting for what it draws.

use std::ops::Range;
use std::sync::Arc;

use burn::tensor::{Bool, Device, Int, Tensor, TensorData};

use super::draw::improper;
use super::policy::{DrawNotes, DrawsAhead};
use super::row::Row;
use crate::denoiser::{DeviceDenoiser, DeviceStates, Spec};
use crate::ops::{
    DRAW_NOTES, DeviceVisit, DrawnTokens, SequenceDraws, TokenDraw, VisitDraws, draws_by_kernel, integers,
};
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
        let (mut visit, mut times) = (VisitDraws::default(), Vec::new());
        for (b, row) in self.rows.iter_mut().enumerate() {
            let asked = row.policy.ask(&row.y);
            if let Some(DrawsAhead { tokens, step, revealed }) = row.policy.draws_ahead() {
                let (first, sequence) = (b * self.seq_len, visit.sequences.len());
                let token = |(i, digits)| TokenDraw { position: first + i, i, sequence, digits };
                visit.tokens.extend(tokens.into_iter().map(token));
                visit.sequences.push(row.recipe.draws.on_device(row.number, asked.event, asked.time, step));
                row.revealed += revealed;
            }
            times.push(asked.time);
            row.leave(&asked);
        }
        let labels = spec.labels(self.rows.iter().map(|row| row.label));
        self.batch.reveal(&visit, &times, labels.as_deref())
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
        let states = self.batch.sync()?;
        let mut done = std::mem::take(&mut self.done);
        for (row, (y, notes)) in done.iter_mut().zip(states) {
            row.y = y;
            row.policy.count(&notes);
        }
        Ok(done)
    }
}

/// Digits of sequences that are on their way, and of those that are done.
struct DeviceBatch<'a> {
    network: &'a dyn DeviceDenoiser,
    drawer: Drawer,
    subtoken_len: usize,
    /// All sequences on their way, and their number B.
    active: Option<DigitStates>,
    count: usize,
    /// Each sequence that is done.
    done: Vec<DigitStates>,
}

/// What sequences of the same length are on a device.
#[derive(Clone)]
struct DigitStates {
    /// Digits, [B·L, ℓ].
    y: Tensor<2, Int>,
    /// What was told of the tokens so far, [B·L, 4]: whether logits were no distribution, redraws, jumps, dropped jumps.
    notes: Tensor<2, Int>,
}

/// Who draws digits.
enum Drawer {
    /// Tensor operations: tokens from softmax(logits/τ), and nothing else.
    Composed(Box<Composed>),
    /// A kernel.
    Kernel(Arc<DrawnTokens>),
}

/// See [`Drawer::Composed`].
struct Composed {
    codes: DeviceCodes,
    /// Whether all logits since the last sync were distributions.
    proper: Option<Tensor<1, Bool>>,
}

/// The tokens whose digits a kernel draws.
pub(super) fn drawn_tokens(predictive: &Predictive) -> Arc<DrawnTokens> {
    Arc::new(DrawnTokens { codes: predictive.codes().clone(), carry_over: predictive.carry_over() })
}

impl Drawer {
    fn new(predictive: &Predictive, device: &Device) -> Self {
        match draws_by_kernel(device) {
            true => Self::Kernel(drawn_tokens(predictive)),
            false => {
                let codes = DeviceCodes::new(predictive, device);
                Self::Composed(Box::new(Composed { codes, proper: None }))
            }
        }
    }
}

impl DigitStates {
    fn joined(parts: Vec<Self>) -> Self {
        let (y, notes) = parts.into_iter().map(|part| (part.y, part.notes)).unzip();
        Self { y: Tensor::cat(y, 0), notes: Tensor::cat(notes, 0) }
    }

    fn chunks(self, count: usize) -> impl Iterator<Item = Self> {
        let (y, notes) = (self.y.chunk(count, 0), self.notes.chunk(count, 0));
        y.into_iter().zip(notes).map(|(y, notes)| Self { y, notes })
    }
}

impl<'a> DeviceBatch<'a> {
    fn new(network: &'a dyn DeviceDenoiser, predictive: &Predictive) -> Self {
        Self {
            network,
            drawer: Drawer::new(predictive, &network.device()),
            subtoken_len: predictive.codes().subtoken_len(),
            active: None,
            count: 0,
            done: Vec::new(),
        }
    }

    /// Takes a sequence of digits in, after the others.
    fn add(&mut self, y: &[u32]) {
        let (len, device) = (self.subtoken_len, self.network.device());
        let tokens = y.len() / len;
        let y = integers(y.iter().copied(), [tokens, len], &device);
        let notes = integers(std::iter::repeat_n(0, tokens * DRAW_NOTES), [tokens, DRAW_NOTES], &device);
        let added = DigitStates { y, notes };
        self.active = Some(match self.active.take() {
            Some(active) => DigitStates::joined(vec![active, added]),
            None => added,
        });
        self.count += 1;
    }

    /// Takes out the sequences that are done.
    fn retire(&mut self, is_done: impl Iterator<Item = bool>) {
        let is_done: Vec<bool> = is_done.collect();
        let Some(active) = self.active.take_if(|_| is_done.contains(&true)) else { return };
        let parts = active.chunks(self.count).zip(is_done);
        let (done, active): (Vec<_>, Vec<_>) = parts.partition(|(_, is_done)| *is_done);
        self.done.extend(done.into_iter().map(|(states, _)| states));
        self.count = active.len();
        if self.count > 0 {
            self.active = Some(DigitStates::joined(active.into_iter().map(|(states, _)| states).collect()));
        }
    }

    /// Evaluates the network at the times and with the labels of the sequences, and writes what the tokens draw.
    fn reveal(&mut self, visit: &VisitDraws, times: &[f64], labels: Option<&[usize]>) -> Result<()> {
        let Some(before) = self.active.take() else { return Ok(()) };
        let positions: Vec<usize> = visit.tokens.iter().map(|token| token.position).collect();
        let states = DeviceStates { y_t: &before.y, t: times, labels };
        let after = match &mut self.drawer {
            Drawer::Composed(composed) => {
                let Composed { codes, proper } = &mut **composed;
                let mut composed = ComposedDraws::new(codes, visit, &before.y);
                self.network.evaluate_on_device(&states, &positions, &mut |range, logits| {
                    let all = composed.draw(range, logits);
                    *proper = Some(match proper.take() {
                        Some(before) => before.bool_and(all),
                        None => all,
                    });
                })?;
                DigitStates { y: composed.digits(before.y), ..before }
            }
            Drawer::Kernel(tokens) => {
                let Some(visit) = DeviceVisit::new(visit, &self.network.device()) else { return Ok(()) };
                let mut after = Some(before.y.clone());
                self.network.evaluate_on_device(&states, &positions, &mut |range, logits| {
                    after = after.take().map(|y| visit.draw(tokens, range.start, logits, y, &before.notes));
                })?;
                DigitStates { y: after.unwrap_or(before.y), notes: before.notes }
            }
        };
        self.active = Some(after);
        Ok(())
    }

    /// Whether all logits since the last time were distributions.
    fn are_proper(&mut self) -> bool {
        match &mut self.drawer {
            Drawer::Composed(composed) => {
                composed.proper.take().is_none_or(|proper| proper.into_scalar::<bool>())
            }
            Drawer::Kernel(_) => {
                let notes =
                    self.done.iter().chain(&self.active).map(|states| states.notes.clone().narrow(1, 0, 1));
                let notes: Vec<Tensor<2, Int>> = notes.collect();
                notes.is_empty() || Tensor::cat(notes, 0).max().into_scalar::<i32>() == 0
            }
        }
    }

    /// Waits for the device, and reads digits and notes of the sequences that are done, in the order in which they were taken
    /// out.
    ///
    /// # Errors
    /// [`Error::Invalid`] for logits since the last time that are no distribution.
    fn sync(&mut self) -> Result<Vec<(Vec<u32>, DrawNotes)>> {
        if !self.are_proper() {
            return Err(improper());
        }
        let done = std::mem::take(&mut self.done);
        let count = done.len();
        if count == 0 {
            return Ok(Vec::new());
        }
        let DigitStates { y, notes } = DigitStates::joined(done);
        let DrawnStates { digits, notes, .. } = DrawnStates::read(y, notes)?;
        let digits = digits.chunks_exact(digits.len() / count);
        let digits = digits.map(|y| y.iter().map(|digit| *digit as u32).collect());
        let notes = notes.chunks_exact(notes.len() / count).map(|notes| notes.iter().copied().sum());
        Ok(digits.zip(notes).collect())
    }
}

/// What a device drew, in memory.
pub(super) struct DrawnStates {
    /// Digits of tokens, [n, ℓ].
    pub digits: Vec<i32>,
    /// What is told of the tokens, \[n\].
    pub notes: Vec<DrawNotes>,
    /// Whether logits of one were no distribution.
    pub is_improper: bool,
}

impl DrawnStates {
    /// Waits for the device; of digits [n, ℓ] and notes [n, 4].
    ///
    /// # Errors
    /// [`Error::Internal`] for what are no integers.
    pub fn read(digits: Tensor<2, Int>, notes: Tensor<2, Int>) -> Result<Self> {
        let len = digits.dims()[1];
        // Both with one wait.
        let all = Tensor::cat(vec![digits, notes], 1).try_into_vec_as::<i32>();
        let all = all.map_err(Error::internal("states are integers"))?;
        let tokens = all.chunks_exact(len + DRAW_NOTES).map(|token| token.split_at(len));
        let note = |notes: &[i32]| {
            let [redraws, jumps, jumps_dropped] = [1, 2, 3].map(|which| notes[which] as u64);
            DrawNotes { redraws, jumps, jumps_dropped }
        };
        Ok(Self {
            digits: tokens.clone().flat_map(|(digits, _)| digits).copied().collect(),
            notes: tokens.clone().map(|(_, notes)| note(notes)).collect(),
            is_improper: tokens.clone().any(|(_, notes)| notes[0] != 0),
        })
    }
}

/// The draws of a visit composed of tensor operations.
struct ComposedDraws<'b> {
    codes: &'b DeviceCodes,
    /// Places of the tokens, and their digits before, [n, ℓ].
    positions: Vec<usize>,
    before: Tensor<2, Int>,
    /// Which digits are revealed, [n, ℓ].
    reveals: Tensor<2, Bool>,
    /// Temperatures τ, and where in the cumulative distributions the draws are, [n, 1].
    temperatures: Tensor<2>,
    uniforms: Tensor<2>,
    /// Digits of the tokens drawn so far.
    after: Vec<Tensor<2, Int>>,
}

impl<'b> ComposedDraws<'b> {
    fn new(codes: &'b DeviceCodes, visit: &VisitDraws, y: &Tensor<2, Int>) -> Self {
        let (n, len, device) = (visit.tokens.len(), y.dims()[1], &y.device());
        let column = |value: &dyn Fn(&TokenDraw, &SequenceDraws) -> f64| {
            let of = |token: &TokenDraw| value(token, &visit.sequences[token.sequence]) as f32;
            let values: Vec<f32> = visit.tokens.iter().map(of).collect();
            Tensor::<2>::from_data(TensorData::new(values, [n, 1]), device)
        };
        let reveals: Vec<bool> =
            visit.tokens.iter().flat_map(|token| (0..len).map(|j| token.digits >> j & 1 == 1)).collect();
        let positions: Vec<usize> = visit.tokens.iter().map(|token| token.position).collect();
        let places = integers(positions.iter().map(|position| *position as u32), [n], device);
        Self {
            codes,
            positions,
            before: y.clone().select(0, places),
            reveals: Tensor::from_data(TensorData::new(reveals, [n, len]), device),
            temperatures: column(&|_, sequence| sequence.temperature),
            uniforms: column(&|token, sequence| {
                sequence.draws.uniform(sequence.number, token.i as u32, 2 * sequence.event)
            }),
            after: Vec::new(),
        }
    }

    /// Draws some of the tokens, from their logits [n, C]. Returns whether all are distributions.
    fn draw(&mut self, range: Range<usize>, logits: Tensor<2>) -> Tensor<1, Bool> {
        let (start, count) = (range.start, range.len());
        let before = self.before.clone().narrow(0, start, count);
        let part = |x: &Tensor<2>| x.clone().narrow(0, start, count);
        let drawn = self.codes.draw(logits, &before, part(&self.temperatures), part(&self.uniforms));
        self.after.push(before.mask_where(self.reveals.clone().narrow(0, start, count), drawn.digits));
        drawn.proper.all()
    }

    /// The digits `y` of before, with what was drawn.
    fn digits(self, y: Tensor<2, Int>) -> Tensor<2, Int> {
        // Every row again, or what has become of it, which stands behind all of them.
        let ([rows, _], device) = (y.dims(), y.device());
        let mut newest: Vec<u32> = (0..rows as u32).collect();
        for (index, position) in self.positions.iter().enumerate() {
            newest[*position] = (rows + index) as u32;
        }
        let all = Tensor::cat(std::iter::once(y).chain(self.after).collect(), 0);
        all.select(0, integers(newest, [rows], &device))
    }
}
