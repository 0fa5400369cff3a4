//! From a batch of tokens to what a diffusion network sees of it, and to what that costs.

use std::sync::Arc;

use super::settings::TrainSettings;
use super::slot::Slot;
use crate::Result;
use crate::data::Batch;
use crate::forward::{draw_mask, stratified_times};
use crate::objective::LossRows;
use crate::predictive::Predictive;
use crate::random::{Draws, Purpose};
use crate::schedule::Schedule;

/// The forward process of a run, and its objective.
pub(super) struct Masking {
    pub predictive: Arc<Predictive>,
    pub schedule: Schedule,
    pub settings: TrainSettings,
}

/// A masked micro-batch.
pub(super) struct Masked {
    /// Digits [B, L·ℓ].
    pub y_t: Vec<u32>,
    /// Times \[B\].
    pub t: Vec<f64>,
    /// Flat positions b·L + i that can cost something, in increasing order.
    pub positions: Vec<usize>,
    /// What they cost.
    pub rows: LossRows,
}

impl Masking {
    /// Draws times and masks; the objective is charged at the positions that can cost something.
    ///
    /// # Errors
    /// [`crate::Error::InvalidCode`] for tokens outside the vocabulary.
    pub fn mask(&self, batch: &Batch, slot: Slot) -> Result<Masked> {
        let codes = self.predictive.codes();
        let (len, mask, objective) = (codes.subtoken_len(), codes.mask_id(), self.settings.objective);
        let seq_len = batch.x_0.len() / self.settings.batch_size;
        let t = self.times(slot);
        let y_0 = codes.encode(&batch.x_0)?;
        let draws = Draws::new(self.settings.seed, Purpose::Mask);
        let mut y_t = Vec::with_capacity(y_0.len());
        for (b, (y_0, t)) in y_0.chunks_exact(seq_len * len).zip(&t).enumerate() {
            let sequence = self.sequence(slot, b);
            y_t.extend(draw_mask(y_0, self.schedule.alpha(*t), mask, &draws, sequence));
        }
        let charged = |position: &usize| {
            !self.predictive.carry_over() || y_t[position * len..(position + 1) * len].contains(&mask)
        };
        let positions: Vec<usize> = (0..batch.x_0.len()).filter(charged).collect();
        let share = 1.0 / batch.x_0.len() as f64;
        let weights: Vec<f64> = t.iter().map(|t| share * objective.weight(&self.schedule, *t)).collect();
        let rows = LossRows::new(
            self.predictive.clone(),
            objective,
            positions.iter().map(|&p| batch.x_0[p]).collect(),
            positions.iter().flat_map(|&p| y_t[p * len..(p + 1) * len].iter().copied()).collect(),
            positions.iter().map(|&p| weights[p / seq_len] as f32).collect(),
        );
        Ok(Masked { y_t, t, positions, rows })
    }

    /// Stratified over the whole step, so that its slots share one even spread.
    fn times(&self, slot: Slot) -> Vec<f64> {
        let TrainSettings { batch_size, accumulate, time_epsilon, seed, .. } = self.settings;
        let draws = Draws::new(seed, Purpose::Time);
        let uniforms = (0..).map(|i| draws.uniform(slot.step, i, 0));
        let all = stratified_times(batch_size * accumulate, time_epsilon, uniforms);
        // Every slot takes each `accumulate`-th stratum.
        all.into_iter().skip(slot.index).step_by(accumulate).collect()
    }

    /// Number of a sequence in the whole run, the key of its mask.
    fn sequence(&self, slot: Slot, b: usize) -> u64 {
        slot.step << 32 | (slot.index * self.settings.batch_size + b) as u64
    }
}
