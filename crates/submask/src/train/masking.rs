//! From a batch of tokens to what a diffusion network sees of it, and to what that costs.

use std::sync::Arc;

use super::clip::block_digits;
use super::settings::TrainSettings;
use super::slot::Slot;
use crate::Result;
use crate::data::{Batch, Permutation};
use crate::forward::{ClipInterval, mask_block, stratified_times};
use crate::objective::LossRows;
use crate::predictive::Predictive;
use crate::random::{Draws, Purpose};
use crate::schedule::Schedule;

/// The forward process of a run, and its objective.
pub(super) struct Masking {
    pub predictive: Arc<Predictive>,
    pub schedule: Schedule,
    pub settings: TrainSettings,
    /// Tokens per block, each of which has a time of its own; 0: a sequence is one block.
    pub block_len: usize,
    /// Where times are drawn from; none: from `train.time_epsilon` to 1.
    pub interval: Option<ClipInterval>,
}

/// A masked micro-batch.
pub(super) struct Masked {
    /// Digits of the tokens [B, L·ℓ].
    pub y_0: Vec<u32>,
    /// The same, partly masked.
    pub y_t: Vec<u32>,
    /// Times \[B\] of sequences that are one block; zeros where there are several, of which no network reads the times.
    pub t: Vec<f64>,
    /// Flat positions b·L + i that can cost something, in increasing order.
    pub positions: Vec<usize>,
    /// What they cost.
    pub rows: LossRows,
}

/// How a sequence is masked.
pub(super) struct Noise {
    /// The times of its blocks.
    pub times: Vec<f64>,
    /// Shares of masked digits that its blocks may have; none: all.
    pub interval: Option<ClipInterval>,
    /// The key of its draws.
    pub number: u64,
}

impl Masking {
    /// The masking of a run as it begins.
    pub fn new(
        predictive: Arc<Predictive>,
        schedule: Schedule,
        settings: TrainSettings,
        block_len: usize,
    ) -> Self {
        let interval = settings.clip_interval.first();
        Self { predictive, schedule, settings, block_len, interval }
    }

    /// Draws times and masks of a micro-batch.
    ///
    /// # Errors
    /// [`crate::Error::InvalidCode`] for tokens outside the vocabulary, [`crate::Error::Invalid`] where no share of a block's
    /// digits is in the interval.
    pub fn mask(&self, batch: &Batch, slot: Slot) -> Result<Masked> {
        let seq_len = batch.x_0.len() / self.settings.batch_size;
        let digits = block_digits(seq_len, self.block_len, self.predictive.codes().subtoken_len());
        self.settings.clip_interval.check(&self.schedule, &digits)?;
        let blocks = self.blocks(seq_len);
        let noise = |(b, times): (usize, &[f64])| Noise {
            times: times.to_vec(),
            interval: self.interval,
            number: slot.step << 32 | (slot.index * self.settings.batch_size + b) as u64,
        };
        let noise: Vec<Noise> =
            self.times(slot, blocks).chunks_exact(blocks).enumerate().map(noise).collect();
        let share = 1.0 / batch.x_0.len() as f64;
        self.draw(batch, &noise, share, &Draws::new(self.settings.seed, Purpose::Mask))
    }

    /// Blocks of a sequence.
    pub fn blocks(&self, seq_len: usize) -> usize {
        if self.block_len == 0 { 1 } else { seq_len.div_ceil(self.block_len).max(1) }
    }

    /// Masks as many sequences as there are of `noise`; the objective is charged at the positions that can cost something,
    /// times `share`. What is given is visible and costs nothing; the mean runs over all positions all the same, so that a
    /// slot does not depend on others.
    ///
    /// # Errors
    /// [`crate::Error::InvalidCode`] for tokens outside the vocabulary.
    pub fn draw(&self, batch: &Batch, noise: &[Noise], share: f64, draws: &Draws) -> Result<Masked> {
        let codes = self.predictive.codes();
        let (len, mask) = (codes.subtoken_len(), codes.mask_id());
        let seq_len = batch.x_0.len() / noise.len();
        let y_0 = codes.encode(&batch.x_0)?;
        let mut y_t = Vec::with_capacity(y_0.len());
        for (b, (y_0, noise)) in y_0.chunks_exact(seq_len * len).zip(noise).enumerate() {
            let start = y_t.len();
            self.mask_sequence(y_0, noise, draws, &mut y_t);
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
        let rows = self.rows(batch, &y_t, &positions, noise, share);
        let t = noise.iter().map(|noise| if noise.times.len() == 1 { noise.times[0] } else { 0.0 }).collect();
        Ok(Masked { y_0, y_t, t, positions, rows })
    }

    /// Appends the digits of a sequence, masked block by block.
    fn mask_sequence(&self, y_0: &[u32], noise: &Noise, draws: &Draws, y_t: &mut Vec<u32>) {
        let codes = self.predictive.codes();
        let block = self.tokens_per_block(y_0.len() / codes.subtoken_len()) * codes.subtoken_len();
        for (k, (y_0, t)) in y_0.chunks(block).zip(&noise.times).enumerate() {
            let first = (k * block) as u32;
            let uniforms = |round| (first..).map(move |digit| draws.uniform(noise.number, digit, round));
            y_t.extend(mask_block(y_0, self.schedule.alpha(*t), codes.mask_id(), noise.interval, uniforms));
        }
    }

    /// What `positions` cost, each by the time of its block.
    fn rows(&self, batch: &Batch, y_t: &[u32], positions: &[usize], noise: &[Noise], share: f64) -> LossRows {
        let (len, objective) = (self.predictive.codes().subtoken_len(), self.settings.objective);
        let seq_len = batch.x_0.len() / noise.len();
        let block = self.tokens_per_block(seq_len);
        let weight = |t: &f64| share * objective.weight(&self.schedule, *t);
        let weights: Vec<Vec<f64>> =
            noise.iter().map(|noise| noise.times.iter().map(weight).collect()).collect();
        LossRows::new(
            self.predictive.clone(),
            objective,
            positions.iter().map(|&p| batch.x_0[p]).collect(),
            positions.iter().flat_map(|&p| y_t[p * len..(p + 1) * len].iter().copied()).collect(),
            positions.iter().map(|&p| weights[p / seq_len][p % seq_len / block] as f32).collect(),
        )
    }

    /// Tokens of every block but a shorter last one.
    pub fn tokens_per_block(&self, seq_len: usize) -> usize {
        if self.block_len == 0 { seq_len } else { self.block_len }
    }

    /// Times [B, K] of the blocks of a slot's sequences, stratified over all blocks of the step, so that its slots share one
    /// even spread.
    ///
    /// Which block gets which stratum is a random permutation: in a fixed order a block would only ever see the times of its
    /// own place. Where sequences are one block, the data are in random order already, and a slot takes each
    /// `accumulate`-th stratum.
    fn times(&self, slot: Slot, blocks: usize) -> Vec<f64> {
        let TrainSettings { batch_size, accumulate, time_epsilon, seed, .. } = self.settings;
        let draws = Draws::new(seed, Purpose::Time);
        let range = self.interval.map_or([time_epsilon, 1.0], ClipInterval::ends);
        let count = batch_size * accumulate * blocks;
        let uniforms = (0..).map(|i| draws.uniform(slot.step, i, 0));
        let strata: Vec<f64> = stratified_times(count, range, uniforms).collect();
        let own = |b: usize| (0..blocks).map(move |k| (b * accumulate + slot.index) * blocks + k);
        let places = (0..batch_size).flat_map(own);
        if blocks == 1 {
            return places.map(|place| strata[place]).collect();
        }
        let order = strata_order(&draws, slot.step, count);
        places.map(|place| strata[order.at(place as u64) as usize]).collect()
    }
}

/// The order in which `count` blocks get their strata, given the draws that made those of `step`.
pub(super) fn strata_order(draws: &Draws, step: u64, count: usize) -> Permutation {
    let [low, high, ..] = draws.bits(step, 0, 1);
    Permutation::new(count as u64, u64::from(low) | u64::from(high) << 32, step)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::subtoken::SubTokenizer;
    use crate::train::settings::RunSettings;

    fn settings(batch_size: usize, accumulate: usize) -> TrainSettings {
        let preset = include_str!("../../../submask-cli/presets/dictionary.toml");
        TrainSettings { batch_size, accumulate, ..toml::from_str::<RunSettings>(preset).unwrap().train }
    }

    fn masking(settings: TrainSettings, block_len: usize, carry_over: bool) -> Masking {
        let predictive = Arc::new(Predictive::new(SubTokenizer::new(16, 2).unwrap(), carry_over));
        Masking::new(predictive, Schedule::Linear, settings, block_len)
    }

    #[test]
    fn what_is_given_is_visible_and_costs_nothing() {
        let codes = SubTokenizer::new(16, 2).unwrap();
        let batch =
            Batch { x_0: (0..24).map(|i| i % 16).collect(), given: vec![0, 5, 8], ..Batch::default() };
        let open = Batch { given: Vec::new(), ..batch.clone() };
        let y_0 = codes.encode(&batch.x_0).unwrap();
        let is_given = |position: usize| position % 8 < batch.given[position / 8];
        for (carry_over, block_len) in [(true, 0), (false, 0), (true, 4), (false, 3)] {
            let masking = masking(settings(3, 1), block_len, carry_over);
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
            assert_eq!((&masked.t, &masked.y_0), (&all.t, &y_0));
        }
    }

    #[test]
    fn strata_are_one_per_block_of_the_step_in_random_order() {
        let (slots, sequences, blocks) = (3, 2, 5);
        let masking = masking(settings(sequences, slots), 4, true);
        let (count, epsilon) = (slots * sequences * blocks, masking.settings.time_epsilon);
        let stratum = |t: &f64| ((t - epsilon) / (1.0 - epsilon) * count as f64) as usize;
        let mut strata_of_first = Vec::new();
        for step in 1..=400 {
            let slot = |index| masking.times(Slot { step, index }, blocks);
            let times: Vec<f64> = (0..slots).flat_map(slot).collect();
            let mut strata: Vec<usize> = times.iter().map(stratum).collect();
            strata_of_first.push(strata[0] as f64);
            strata.sort_unstable();
            assert_eq!(strata, (0..count).collect::<Vec<_>>());
            let mean = times.iter().sum::<f64>() / count as f64;
            // Strata of width 1/30, each with a uniform number of its own.
            assert!(
                (mean - 0.5 * (1.0 + epsilon)).abs() < 5.0 / 12f64.sqrt() / (count as f64).powf(1.5),
                "{mean}"
            );
        }
        // The first block gets all of them: the mean of 400 draws of 0 to 29, within four standard errors.
        let mean = strata_of_first.iter().sum::<f64>() / 400.0;
        assert!((mean - 14.5).abs() < 4.0 * 30.0 / 12f64.sqrt() / 20.0, "{mean}");
        assert!(strata_of_first.contains(&0.0) && strata_of_first.contains(&29.0));
    }

    #[test]
    fn one_block_per_sequence_takes_strata_in_their_order() {
        let plain = masking(settings(2, 2), 0, true);
        let draws = Draws::new(plain.settings.seed, Purpose::Time);
        for index in 0..2 {
            let times = plain.times(Slot { step: 7, index }, 1);
            let (epsilon, places) = (plain.settings.time_epsilon, [index, index + 2]);
            let expected =
                places.map(|i| epsilon + (1.0 - epsilon) * (i as f64 + draws.uniform(7, i as u32, 0)) / 4.0);
            assert_eq!(times, expected);
        }
        // A block as long as the sequence, or longer, is the sequence.
        let batch = Batch { x_0: (0..16).collect(), ..Batch::default() };
        let whole = plain.mask(&batch, Slot { step: 7, index: 1 }).unwrap();
        for block_len in [8, 16] {
            let other =
                masking(settings(2, 2), block_len, true).mask(&batch, Slot { step: 7, index: 1 }).unwrap();
            assert_eq!((&other.y_t, &other.t, &other.positions), (&whole.y_t, &whole.t, &whole.positions));
            assert_eq!(format!("{:?}", other.rows), format!("{:?}", whole.rows));
        }
    }

    #[test]
    fn every_block_is_masked_and_weighted_by_its_own_time() {
        let settings = settings(2, 1);
        let masking = masking(settings.clone(), 4, true);
        let (mut masked_digits, mut expected, mut variance) = (0.0, 0.0, 0.0);
        for step in 1..=200 {
            let slot = Slot { step, index: 0 };
            let batch = Batch { x_0: vec![5; 16], ..Batch::default() };
            let masked = masking.mask(&batch, slot).unwrap();
            let times = masking.times(slot, 2);
            assert_eq!(masked.t, [0.0, 0.0]);
            for (block, t) in masked.y_t.chunks_exact(8).zip(&times) {
                masked_digits += block.iter().filter(|digit| **digit == 4).count() as f64;
                expected += 8.0 * t;
                variance += 8.0 * t * (1.0 - t);
            }
            let weights: Vec<f32> =
                masked.positions.iter().map(|p| (1.0 / 16.0 * (1.0 / times[p / 4])) as f32).collect();
            let text = format!("{:?}", masked.rows);
            assert!(text.contains(&format!("weights: {weights:?}")), "{text}");
        }
        assert!((masked_digits - expected).abs() < 4.0 * variance.sqrt(), "{masked_digits} {expected}");
    }

    #[test]
    fn blocks_of_an_interval_have_its_times_and_its_shares() {
        let interval: ClipInterval = "0.45..0.95".parse().unwrap();
        let clipped = super::super::clip::ClipChoice::Interval(interval);
        for (block_len, digits) in [(2, 4), (0, 16)] {
            let settings = TrainSettings { clip_interval: clipped, ..settings(4, 1) };
            let masking = masking(settings, block_len, true);
            for step in 1..=50 {
                let slot = Slot { step, index: 0 };
                let times = masking.times(slot, masking.blocks(8));
                assert!(times.iter().all(|t| (0.45..=0.95).contains(t)), "{times:?}");
                let batch = Batch { x_0: vec![5; 32], ..Batch::default() };
                let masked = masking.mask(&batch, slot).unwrap();
                for block in masked.y_t.chunks_exact(digits) {
                    let count = block.iter().filter(|digit| **digit == 4).count();
                    assert!(interval.allows(count, digits), "{count} of {digits}");
                }
            }
        }
        let narrow = super::super::clip::ClipChoice::Interval("0.6..0.7".parse().unwrap());
        let masking = masking(TrainSettings { clip_interval: narrow, ..settings(4, 1) }, 2, true);
        let batch = Batch { x_0: vec![5; 32], ..Batch::default() };
        let error = masking.mask(&batch, Slot { step: 1, index: 0 }).err().unwrap().to_string();
        assert!(error.starts_with("train.clip_interval = 0.6..0.7"), "{error}");
    }
}
