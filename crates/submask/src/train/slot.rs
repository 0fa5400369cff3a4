//! The micro-batches of a step.

use burn::tensor::Tensor;

use super::loss::LossFunction;
use crate::Result;
use crate::backbone::weights::Weights;
use crate::data::{Batcher, Cursor};

/// A micro-batch's place in a run. Everything random about it is a function of this and the seed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// Training step, counted from 1.
    pub step: u64,
    /// Which of the step's micro-batches, counted from 0.
    pub index: usize,
}

/// What the micro-batches of the present step cost: all that a [`Stepper`](super::Stepper) knows of data and networks.
pub trait SlotLoss {
    /// The loss of a slot in nats per token, \[1\], by `weights`; `None` where nothing can cost anything. Slots may be
    /// asked for in any order, and not all of them.
    ///
    /// # Errors
    /// Of data that cannot be read, or are not what the network takes.
    fn loss(&self, weights: &Weights, slot: Slot) -> Result<Option<Tensor<1>>>;
}

/// The micro-batches of a run: the sequences of a dataset, and what they cost.
pub struct Slots {
    /// Stands where the present step begins.
    batcher: Batcher,
    loss: LossFunction,
}

impl Slots {
    /// At the cursor of `batcher`.
    pub fn new(batcher: Batcher, loss: LossFunction) -> Self {
        Self { batcher, loss }
    }

    /// Where the present step begins.
    pub fn cursor(&self) -> Cursor {
        self.batcher.cursor()
    }

    /// Continues at a saved cursor.
    ///
    /// # Errors
    /// As [`Batcher::seek`].
    pub fn seek(&mut self, cursor: Cursor) -> Result<()> {
        self.batcher.seek(cursor)
    }

    /// Moves on to the next step.
    pub fn advance(&mut self) {
        self.batcher.advance(self.sequences_per_step());
    }

    /// Sequences per step, of all slots.
    pub fn sequences_per_step(&self) -> u64 {
        let settings = self.loss.settings();
        settings.batch_size as u64 * settings.accumulate as u64
    }

    /// Of the data.
    pub(super) fn fingerprint(&self) -> u64 {
        self.batcher.data().fingerprint()
    }

    /// Tokens per sequence.
    pub(super) fn seq_len(&self) -> usize {
        self.batcher.data().seq_len()
    }

    /// Tokens per step, of all slots.
    pub fn tokens_per_step(&self) -> u64 {
        self.sequences_per_step() * self.seq_len() as u64
    }

    /// What micro-batches cost.
    pub(super) fn loss_mut(&mut self) -> &mut LossFunction {
        &mut self.loss
    }

    /// Name of the loss in records.
    pub fn loss_name(&self) -> &'static str {
        self.loss.name()
    }
}

impl SlotLoss for Slots {
    fn loss(&self, weights: &Weights, slot: Slot) -> Result<Option<Tensor<1>>> {
        let batch = self.batcher.slot(slot.index, self.loss.settings().batch_size)?;
        self.loss.loss(weights, &batch, slot)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use burn::tensor::Device;

    use super::*;
    use crate::backbone::dit::{Dit, DitConfig};
    use crate::backbone::{Backbone, Embedding};
    use crate::data::{Batch, Dataset};
    use crate::model::Network;
    use crate::ops::Kernels;
    use crate::predictive::Predictive;
    use crate::schedule::Schedule;
    use crate::subtoken::SubTokenizer;
    use crate::train::settings::{RunSettings, TrainSettings};

    /// Sequence n is n, n + 1, … modulo 16.
    struct Counting;

    impl Dataset for Counting {
        fn seq_len(&self) -> usize {
            8
        }

        fn epoch_len(&self) -> Option<u64> {
            Some(16)
        }

        fn get(&self, _epoch: u64, index: u64, batch: &mut Batch) -> Result<()> {
            batch.push((0..8).map(|i| (index as u32 + i) % 16), None);
            Ok(())
        }

        fn fingerprint(&self) -> u64 {
            0
        }
    }

    #[test]
    fn slots_cost_the_same_in_any_order_and_after_a_resume() {
        let preset = include_str!("../../../submask-cli/presets/dictionary.toml");
        let settings = toml::from_str::<RunSettings>(preset).unwrap().train;
        let settings = TrainSettings { batch_size: 3, accumulate: 4, ..settings };
        let codes = SubTokenizer::new(16, 2).unwrap();
        let config = DitConfig {
            block_len: 0,
            hidden: 16,
            heads: 2,
            blocks: 1,
            cond_dim: 8,
            seq_len: 8,
            dropout: 0.2,
            embedding: Embedding::Concatenated,
            time_conditioning: false,
        };
        let network = Dit::new(config, &codes, Kernels::PLAIN).unwrap();
        let parameters = network.parameters();
        let values: Vec<_> = parameters.iter().map(|parameter| parameter.initial(1, 0)).collect();
        let weights = Weights::new(parameters, &values, &Device::flex().autodiff());
        let network = Network::Diffusion(Arc::new(network));
        let slots = || {
            let predictive = Arc::new(Predictive::new(codes.clone(), true));
            let loss =
                LossFunction::new(network.clone(), predictive, Schedule::Linear, settings.clone(), 0.2);
            Slots::new(Batcher::new(Counting, settings.seed).unwrap(), loss.unwrap())
        };
        let cost = |slots: &Slots, step, index| {
            let loss = slots.loss(&weights, Slot { step, index }).unwrap();
            loss.map(|loss| loss.into_scalar::<f32>())
        };
        let mut straight = slots();
        assert_eq!((straight.sequences_per_step(), straight.tokens_per_step()), (12, 96));
        let first: Vec<_> = (0..4).map(|index| cost(&straight, 1, index)).collect();
        straight.advance();
        let second: Vec<_> = (0..4).map(|index| cost(&straight, 2, index)).collect();
        assert!(first.iter().chain(&second).all(Option::is_some) && first != second);

        let mut other = slots();
        other.seek(straight.cursor()).unwrap();
        for index in [2, 0, 3, 1] {
            assert_eq!(cost(&other, 2, index), second[index]);
        }
    }
}
