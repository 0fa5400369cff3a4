//! Which interval of times a run trains on, where that is searched for (`train.clip_interval = "search"`).

use std::ops::Range;

use super::clip::block_digits;
use super::masking::{Masked, Masking, Noise, strata_order};
use crate::Result;
use crate::data::Batch;
use crate::denoiser::{Denoiser, Kept, States};
use crate::forward::{ClipInterval, stratified_times};
use crate::model::HeldOut;
use crate::ops::RowLoss;
use crate::random::{Draws, Purpose};

/// Sequences whose blocks share one even spread of times and one variance.
const GROUP: usize = 16;

/// Intervals that are evaluated at once, on one sequence.
const INTERVALS: usize = 12;

/// The interval of least variance.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Found {
    pub interval: ClipInterval,
    /// Of the losses of blocks, in (nats per token)², the mean over groups of sequences.
    pub variance: f64,
}

/// A comparison of intervals after `step` steps.
///
/// The loss of a block, weighted as in training and per token, is evaluated on held-out sequences for every interval of
/// [`ClipInterval::candidates`], each with its own times and shares and all by the same uniform numbers. The score of an
/// interval is the variance of these losses over the blocks of [`GROUP`] sequences, the mean over all groups. It has the
/// variance of the data in it, which is the same for all, but not independent of them.
pub(super) struct IntervalSearch<'a> {
    pub masking: &'a Masking,
    pub step: u64,
    /// Tokens per sequence that is trained on: an interval must allow shares of its blocks, too.
    pub seq_len: usize,
}

impl IntervalSearch<'_> {
    /// The first interval of least variance; [`ClipInterval::WHOLE`] where there are too few blocks for a variance.
    ///
    /// # Errors
    /// What the network cannot evaluate, and tokens outside the vocabulary.
    pub fn run(&self, network: &dyn Denoiser, held_out: &HeldOut) -> Result<Found> {
        let sequences = sequences(held_out);
        let sequences_in_all = sequences.len();
        let candidates = self.candidates(&sequences);
        let mut scores = vec![0.0; candidates.len()];
        for (group, sequences) in sequences.chunks(GROUP).enumerate() {
            let losses = self.losses(network, &candidates, sequences, group)?;
            let groups = sequences_in_all.div_ceil(GROUP) as f64;
            scores.iter_mut().zip(&losses).for_each(|(score, losses)| *score += variance(losses) / groups);
        }
        let mut found = Found { interval: ClipInterval::WHOLE, variance: scores[0] };
        for (&interval, &variance) in candidates.iter().zip(&scores) {
            if variance < found.variance {
                found = Found { interval, variance };
            }
        }
        Ok(found)
    }

    /// The intervals that are compared: those that every block can have a share in.
    fn candidates(&self, sequences: &[Sequence]) -> Vec<ClipInterval> {
        let len = self.masking.predictive.codes().subtoken_len();
        let digits = |seq_len| block_digits(seq_len, self.masking.block_len, len);
        let lengths = sequences.iter().map(|sequence| sequence.x_0.len());
        ClipInterval::candidates(&lengths.chain([self.seq_len]).flat_map(digits).collect::<Vec<_>>())
    }

    /// The losses of all blocks of a group, for every interval.
    fn losses(
        &self,
        network: &dyn Denoiser,
        candidates: &[ClipInterval],
        sequences: &[Sequence],
        group: usize,
    ) -> Result<Vec<Vec<f64>>> {
        let draws = Draws::new(self.masking.settings.seed, Purpose::Clip);
        let blocks = |sequence: &Sequence| self.masking.blocks(sequence.x_0.len());
        let count = sequences.iter().map(blocks).sum();
        // No key is that of a mask, whose sequences are fewer than 2³¹.
        let key = (self.step << 32) | (1 << 31) | group as u64;
        let order = strata_order(&draws, key, count);
        let mut losses = vec![Vec::with_capacity(count); candidates.len()];
        let mut first = 0;
        for (n, sequence) in sequences.iter().enumerate() {
            let own = first..first + blocks(sequence);
            first = own.end;
            let number = (self.step << 32) | (group * GROUP + n) as u64;
            let noise = |interval: &ClipInterval| {
                let uniforms = (0..).map(|i| draws.uniform(key, i, 0));
                let strata: Vec<f64> = stratified_times(count, interval.ends(), uniforms).collect();
                let times = own.clone().map(|block| strata[order.at(block as u64) as usize]).collect();
                Noise { times, interval: Some(*interval), number }
            };
            let noise: Vec<Noise> = candidates.iter().map(noise).collect();
            let found = self.sequence_losses(network, sequence, &noise, &draws)?;
            losses.iter_mut().zip(found).for_each(|(all, found)| all.extend(found));
        }
        Ok(losses)
    }

    /// The losses of the blocks of one sequence, for every noise.
    fn sequence_losses(
        &self,
        network: &dyn Denoiser,
        sequence: &Sequence,
        noise: &[Noise],
        draws: &Draws,
    ) -> Result<Vec<Vec<f64>>> {
        let blocks = self.masking.blocks(sequence.x_0.len());
        let y_0 = self.masking.predictive.codes().encode(sequence.x_0)?;
        // All intervals read the same tokens before a block.
        let by_blocks = network.by_blocks().filter(|_| blocks > 1);
        let kept = by_blocks.map(|network| network.keep(&y_0, 1, None)).transpose()?;
        let mut losses = Vec::with_capacity(noise.len());
        for noise in noise.chunks(INTERVALS) {
            let masked = self.masking.draw(&sequence.times(noise.len()), noise, 1.0, draws)?;
            losses.extend(self.masked_losses(network, sequence, &masked, kept.as_ref())?);
        }
        Ok(losses)
    }

    /// The losses of the blocks of one sequence that is masked in several ways, after what is `kept` of it where the network
    /// has several blocks.
    fn masked_losses(
        &self,
        network: &dyn Denoiser,
        sequence: &Sequence,
        masked: &Masked,
        kept: Option<&Kept>,
    ) -> Result<Vec<Vec<f64>>> {
        let seq_len = sequence.x_0.len();
        let tokens = self.masking.tokens_per_block(seq_len);
        let mut losses = vec![vec![0.0; self.masking.blocks(seq_len)]; masked.t.len()];
        let labels = network.spec().labels(masked.t.iter().map(|_| sequence.label));
        let states = States { y_t: &masked.y_t, t: &masked.t, labels: labels.as_deref() };
        let classes = network.spec().vocab_size;
        let mut charge = |range: Range<usize>, logits: &[f32]| {
            for (row, logits) in range.zip(logits.chunks_exact(classes)) {
                let (state, place) = (masked.positions[row] / seq_len, masked.positions[row] % seq_len);
                let block = place / tokens;
                let size = tokens.min(seq_len - block * tokens) as f64;
                losses[state][block] += masked.rows.loss_and_gradient(row, &mut logits.to_vec()) / size;
            }
            Ok(())
        };
        match (network.by_blocks(), kept) {
            (Some(network), Some(kept)) => {
                network.evaluate_after(Some(kept), 0, &states, &masked.positions, &mut charge)?;
            }
            _ => network.evaluate(&states, &masked.positions, &mut charge)?,
        }
        Ok(losses)
    }
}

/// A held-out sequence.
struct Sequence<'a> {
    x_0: &'a [u32],
    given: Option<usize>,
    label: Option<usize>,
}

impl Sequence<'_> {
    /// The sequence `count` times.
    fn times(&self, count: usize) -> Batch {
        Batch {
            x_0: self.x_0.repeat(count),
            given: self.given.map_or_else(Vec::new, |given| vec![given; count]),
            ..Batch::default()
        }
    }
}

fn sequences(held_out: &HeldOut) -> Vec<Sequence<'_>> {
    let mut rest = held_out.x_0.as_slice();
    let next = |n: usize| {
        let len = held_out.lengths.get(n).copied().unwrap_or(held_out.seq_len).min(rest.len());
        let (x_0, others) = rest.split_at(len);
        rest = others;
        Sequence { x_0, given: held_out.given.get(n).copied(), label: held_out.labels.get(n).copied() }
    };
    let all: Vec<Sequence<'_>> = (0..held_out.len()).map(next).collect();
    all.into_iter().filter(|sequence| !sequence.x_0.is_empty()).collect()
}

/// The variance of a sample; zero of fewer than two values.
fn variance(values: &[f64]) -> f64 {
    if values.len() < 2 {
        return 0.0;
    }
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (values.len() - 1) as f64
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::backbone::dit::{Dit, DitConfig};
    use crate::backbone::weights::Weights;
    use crate::backbone::{Backbone, Embedding, LoadedBackbone};
    use crate::denoiser::{LogitRows, Spec};
    use crate::ops::Kernels;
    use crate::predictive::Predictive;
    use crate::schedule::Schedule;
    use crate::subtoken::SubTokenizer;
    use crate::train::clip::ClipChoice;
    use crate::train::settings::{RunSettings, TrainSettings};

    fn masking(block_len: usize, subtoken_len: usize) -> Masking {
        let preset = include_str!("../../../submask-cli/presets/dictionary.toml");
        let settings = toml::from_str::<RunSettings>(preset).unwrap().train;
        let settings = TrainSettings { clip_interval: ClipChoice::Search, ..settings };
        let predictive = Arc::new(Predictive::new(SubTokenizer::new(16, subtoken_len).unwrap(), true));
        Masking::new(predictive, Schedule::Linear, settings, block_len)
    }

    fn held_out(count: usize) -> HeldOut {
        let x_0 = (0..count as u32 * 12).map(|i| i * i % 13).collect();
        HeldOut { x_0, seq_len: 12, ..HeldOut::default() }
    }

    /// Knows nothing: every masked digit costs the same, so that only the number of masked digits varies.
    struct Uniform(Spec);

    impl Denoiser for Uniform {
        fn spec(&self) -> &Spec {
            &self.0
        }

        fn evaluate(&self, _: &States, positions: &[usize], rows: LogitRows) -> Result<()> {
            rows(0..positions.len(), &vec![0.0; positions.len() * 16])
        }
    }

    #[test]
    fn of_a_network_that_knows_nothing_the_variance_is_that_of_the_masks() {
        let masking = masking(0, 2);
        let search = IntervalSearch { masking: &masking, step: 3, seq_len: 12 };
        let network = Uniform(Spec::new(masking.predictive.codes(), 12));
        let held_out_64 = held_out(64);
        let candidates = ClipInterval::candidates(&[24]);
        let mut variances = vec![0.0; candidates.len()];
        for (group, sequences) in sequences(&held_out_64).chunks(GROUP).enumerate() {
            let losses = search.losses(&network, &candidates, sequences, group).unwrap();
            assert!(losses.iter().all(|losses| losses.len() == sequences.len()));
            for (c, losses) in losses.iter().enumerate() {
                // −log p of a token with a masked digit, log 4 per digit, times 1/t.
                let mean = losses.iter().sum::<f64>() / losses.len() as f64;
                assert!(mean > 0.5 * 4f64.ln() && mean < 2.0 * 2.0 * 4f64.ln(), "{mean}");
                variances[c] += variance(losses) / 4.0;
            }
        }
        let found = search.run(&network, &held_out_64).unwrap();
        let least = variances.iter().copied().fold(f64::INFINITY, f64::min);
        assert_eq!(found.variance, least);
        assert_eq!(candidates[variances.iter().position(|v| *v == least).unwrap()], found.interval);
        // Little is masked at early times, at weights that are large.
        assert!(found.interval.ends()[0] > 0.1 && variances[0] > 2.0 * least, "{found:?}");
        assert_eq!(
            search.run(&network, &held_out(1)).unwrap(),
            Found { interval: ClipInterval::WHOLE, variance: 0.0 }
        );
    }

    #[test]
    fn a_network_with_blocks_is_asked_about_all_of_them_after_known_tokens() {
        let masking = masking(4, 2);
        let config = DitConfig {
            hidden: 16,
            heads: 2,
            blocks: 2,
            cond_dim: 8,
            seq_len: 12,
            dropout: 0.0,
            embedding: Embedding::Concatenated,
            time_conditioning: false,
            block_len: 4,
        };
        let network = Dit::new(config, masking.predictive.codes(), Kernels::FUSED).unwrap();
        let parameters = network.parameters();
        let draws = Draws::new(5, Purpose::Init);
        let value = |p: usize, i: usize| 0.3 * draws.normal(p as u64, i as u32, 0) as f32;
        let values: Vec<Vec<f32>> = parameters
            .iter()
            .enumerate()
            .map(|(p, parameter)| (0..parameter.len()).map(|i| value(p, i)).collect())
            .collect();
        let weights = Weights::new(parameters, &values, &crate::Device::flex());
        let network = LoadedBackbone { network: Arc::new(network), weights };
        let search = IntervalSearch { masking: &masking, step: 1, seq_len: 12 };
        let held_out = held_out(3);
        let candidates = ClipInterval::candidates(&[8]);
        let losses = search.losses(&network, &candidates, &sequences(&held_out), 0).unwrap();
        assert!(losses.iter().all(|losses| losses.len() == 9));
        assert!(losses.iter().flatten().all(|loss| loss.is_finite() && *loss >= 0.0));
        assert!(losses[1] != losses[2]);
        let found = search.run(&network, &held_out).unwrap();
        assert_eq!(found, search.run(&network, &held_out).unwrap());
        assert_eq!(
            found.variance,
            losses.iter().map(|losses| variance(losses)).fold(f64::INFINITY, f64::min)
        );
        // Other draws after another step.
        let later = IntervalSearch { step: 2, ..search }.run(&network, &held_out).unwrap();
        assert_ne!(found.variance, later.variance);
    }

    #[test]
    fn an_interval_allows_shares_of_shorter_blocks_that_are_trained_on() {
        let (masking, held_out) = (masking(4, 1), held_out(2));
        let candidates = |seq_len| {
            IntervalSearch { masking: &masking, step: 1, seq_len }.candidates(&sequences(&held_out))
        };
        assert_eq!(candidates(12).len(), 36);
        // The last of 9 tokens is a block, and either masked or not.
        assert!(candidates(9).iter().all(|interval| interval.check(1).is_ok()));
        assert_eq!(candidates(9).len(), 6);
    }
}
