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
    /// Draws times and masks; the objective is charged at the positions that can cost something. What is given is visible and
    /// costs nothing; the mean runs over all positions all the same, so that a slot does not depend on others.
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
            let (sequence, start) = (self.sequence(slot, b), y_t.len());
            y_t.extend(draw_mask(y_0, self.schedule.alpha(*t), mask, &draws, sequence));
            let given = batch.given_tokens(b, seq_len) * len;
            y_t[start..start + given].copy_from_slice(&y_0[..given]);
        }
        let charged = |position: &usize| {
            let (b, i) = (position / seq_len, position % seq_len);
            let is_open =
                || !self.predictive.carry_over() || y_t[position * len..(position + 1) * len].contains(&mask);
            i >= batch.given_tokens(b, seq_len) && is_open()
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::subtoken::SubTokenizer;
    use crate::train::settings::RunSettings;

    #[test]
    fn what_is_given_is_visible_and_costs_nothing() {
        let preset = include_str!("../../../submask-cli/presets/dictionary.toml");
        let settings = toml::from_str::<RunSettings>(preset).unwrap().train;
        let settings = TrainSettings { batch_size: 3, accumulate: 1, ..settings };
        let codes = SubTokenizer::new(16, 2).unwrap();
        let batch =
            Batch { x_0: (0..24).map(|i| i % 16).collect(), given: vec![0, 5, 8], ..Batch::default() };
        let open = Batch { given: Vec::new(), ..batch.clone() };
        let y_0 = codes.encode(&batch.x_0).unwrap();
        let is_given = |position: usize| position % 8 < batch.given[position / 8];
        for carry_over in [true, false] {
            let predictive = Arc::new(Predictive::new(codes.clone(), carry_over));
            let masking = Masking { predictive, schedule: Schedule::Linear, settings: settings.clone() };
            let mask = |batch| masking.mask(batch, Slot { step: 1, index: 0 }).unwrap();
            let (masked, all) = (mask(&batch), mask(&open));
            for position in 0..24 {
                let digits = position * 2..position * 2 + 2;
                let expected = if is_given(position) { &y_0 } else { &all.y_t };
                assert_eq!(masked.y_t[digits.clone()], expected[digits]);
            }
            let charged: Vec<usize> = all.positions.iter().copied().filter(|p| !is_given(*p)).collect();
            assert_eq!((masked.positions.len(), masked.rows.len()), (charged.len(), charged.len()));
            assert_eq!(masked.positions, charged);
            assert!(!charged.is_empty() && charged.len() < all.positions.len());
            assert_eq!(masked.t, all.t);
        }
    }
}
