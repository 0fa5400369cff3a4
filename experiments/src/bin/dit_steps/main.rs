//! Our side of the comparison of text networks in `bench/peers/`: training steps, sampling, likelihood bounds, and the
//! distribution of the samples of a small network.
//!
//! `dit_steps prepare CASE FOLDER` writes weights and a masked batch that both sides use. The other verbs print one
//! line of JSON: `train CASE COUNT` the losses of COUNT + 1 steps and the median time of the last COUNT;
//! `evaluate CASE` the sum of the squares of some logits; `sample CASE` the time of a step when the whole grid is gone
//! through; `sample CASE EVALUATIONS` the time of an evaluation when only so many are made; `draw CASE COUNT` how often
//! every sequence was drawn; `bound CASE COUNT` COUNT estimates of the sub-token bound and the time of one;
//! `operations CASE COUNT` the times of single operations of a training step, forward, and forward and backward. Times are in
//! milliseconds.
//!
//! For a CASE with blocks a training step and `evaluate` read all tokens before a block, and an estimate of `bound` has
//! BLOCK_DRAWS draws per sequence. `evaluate-kept CASE` gives the sum of the squares of the logits of all blocks of a text of
//! 2L tokens, one block after the other, each after what is kept of those before it; `sample-long CASE` the time per token of
//! every quarter of L, of a text of 4L tokens.
//!
//! In the environment, `PRECISION` is `fp32`, `tf32` or `bf16`, `BATCH` another number of sequences per training step, and
//! of those that are sampled together, and `DEVICE` names a device as `--device` does, by default `cpu`. On a GPU weights,
//! moments and gradients stay there, as in a run: steps are clipped and averaged, no step waits for the one before it, and
//! the time is that of COUNT steps and a wait for the device over COUNT; the losses are those of the steps before them, and
//! the line has the FLOPs, tokens and weights of a step. `ROUNDS=1` has `train`, `sample`, `bound` and
//! `operations` measure once for each line of standard input, and has the CPU train as a GPU does. With the cargo feature
//! `cuda`, `profile-train CASE` and `profile-sample CASE EVALUATIONS` print what kernels a GPU ran.

#[path = "../../../../crates/submask-cli/src/allocator.rs"]
mod allocator;

mod blocks;
mod case;
mod flops;
mod operations;

use std::path::Path;
use std::time::Instant;

use burn::tensor::{Device, Tensor};
use submask::backbone::LoadedBackbone;
use submask::backbone::weights::{Parameter, Weights};
use submask::denoiser::{Denoiser, States};
use submask::likelihood::{LikelihoodSettings, Sequences, nelbo_subtoken};
use submask::sampler::{Event, Prompt, SampleSettings, Sampler, Steps};
use submask::train::optimizer::{AdamW, AdamWConfig};
use submask::train::stepper::Stepper;
use submask::train::{Slot, SlotLoss};
use submask_experiments::peers::{
    Outcome, descend, device_megabytes, has_rounds, in_rounds, median, open_stepper, train_as_in_a_run,
};

use case::{Case, Size};

/// `evaluate` asks for one position in so many.
const ASKED: usize = 32;

/// Evaluations before the ones that are timed, and steps before one that is profiled.
const WARM_UP: usize = 2;

const LEARNING_RATE: f64 = 3e-4;

/// Sequences whose bound is estimated.
const HELD_OUT: usize = 32;

/// Draws per sequence of an estimate of the bound by blocks, which share what is kept of the sequence.
const BLOCK_DRAWS: usize = 8;

impl Case {
    /// Whether state and digits stay on a device.
    fn on_gpu(&self) -> bool {
        *self.compute.device() != Device::flex()
    }

    /// What a training step is about: FLOPs, tokens, weights, and elements of all blocks' inputs.
    fn amounts(&self) -> serde_json::Value {
        let Size { blocks, hidden, .. } = *self.size;
        let tokens = self.x_0.len();
        let weights: usize = self.parameters.iter().map(Parameter::len).sum();
        serde_json::json!({
            "flops": self.training_flops(), "tokens": tokens, "weights": weights,
            "block_inputs": tokens * blocks * hidden,
        })
    }

    /// A run's stepper, which takes the weights.
    fn open_stepper(&mut self) -> Outcome<Box<dyn Stepper>> {
        open_stepper(LEARNING_RATE, &self.parameters, std::mem::take(&mut self.values), &self.compute)
    }

    /// Losses of COUNT + 1 training steps, and the median time of the last COUNT.
    fn train(mut self, count: usize) -> Outcome<serde_json::Value> {
        if self.on_gpu() || has_rounds() {
            let known = self.amounts();
            return train_as_in_a_run(self.open_stepper()?, &self, &self.compute, count, known);
        }
        let mut optimizer = AdamW::new(AdamWConfig::default(), &self.parameters);
        let mut losses = Vec::new();
        let ms = median(count, || {
            let weights = Weights::new(&self.parameters, &self.values, &Device::flex().autodiff());
            let loss = self.loss(&weights)?.ok_or("nothing is masked")?;
            losses.push(descend(loss, &weights, &mut self.values, &mut optimizer, LEARNING_RATE)?);
            Ok(())
        })?;
        Ok(serde_json::json!({ "ms": ms, "losses": losses }))
    }

    /// Kernels of a training step: names, launches, and milliseconds.
    #[cfg(feature = "cuda")]
    fn profile_training(mut self) -> Outcome<serde_json::Value> {
        let mut stepper = self.open_stepper()?;
        for step in 1..=WARM_UP as u64 {
            stepper.step(step, &self)?;
            stepper.sync()?;
        }
        let launches = submask_experiments::launches::Launches::watch();
        stepper.step(1 + WARM_UP as u64, &self)?;
        stepper.sync()?;
        launches.finish()
    }

    /// Kernels of the first evaluations of the sampler.
    #[cfg(feature = "cuda")]
    fn profile_sampling(mut self, limit: usize) -> Outcome<serde_json::Value> {
        let network = self.loaded();
        self.values.clear();
        self.generate(&network, self.samples, 1, Some(limit))?;
        let launches = submask_experiments::launches::Launches::watch();
        self.generate(&network, self.samples, 1, Some(limit))?;
        launches.finish()
    }

    /// The sum of the squares of the logits at every 32nd position.
    fn evaluate(&self) -> Outcome<serde_json::Value> {
        let positions: Vec<usize> = (0..self.x_0.len()).step_by(ASKED).collect();
        let mut squares = 0.0;
        let states = States { y_t: &self.y_t, t: &self.sequence_times(), labels: None };
        let network = self.loaded();
        let mut add = |_, logits: &[f32]| {
            squares += sum_of_squares(logits);
            Ok(())
        };
        match network.by_blocks() {
            None => network.evaluate(&states, &positions, &mut add)?,
            Some(blocks) => {
                let kept = blocks.keep(&self.y_0, self.batch, None)?;
                blocks.evaluate_after(Some(&kept), 0, &states, &positions, &mut add)?;
            }
        }
        Ok(serde_json::json!({ "squares": squares }))
    }

    /// Samples `count` sequences, or stops after `limit` evaluations; gives the tokens, if it was not stopped.
    fn generate(
        &self,
        network: &LoadedBackbone,
        count: usize,
        seed: u64,
        limit: Option<usize>,
    ) -> Outcome<Option<Vec<u32>>> {
        let settings = SampleSettings {
            steps: Steps::Grid(self.size.steps),
            seed,
            batch: self.samples,
            ..SampleSettings::default()
        };
        let prompts = vec![Prompt::empty(&self.predictive, self.size.seq_len)?; count];
        let mut evaluations = 0;
        let samples = Sampler::new(network, &self.predictive, settings)?.sample_observed(
            &prompts,
            &mut |event: &Event| {
                evaluations += usize::from(matches!(event, Event::Progress(_)));
                if Some(evaluations) != limit {
                    return Ok(());
                }
                // The clock stops when the device is done.
                let waited = self.compute.device().sync().is_ok();
                assert!(waited, "the device failed");
                Err(submask::Error::Interrupted)
            },
        );
        match samples {
            Ok(samples) => Ok(Some(samples.tokens)),
            Err(submask::Error::Interrupted) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Time of a step of the whole grid, or of one of the first `limit` evaluations.
    fn sample(mut self, limit: Option<usize>) -> Outcome<serde_json::Value> {
        let network = self.loaded();
        self.values.clear();
        // A GPU's kernels depend on how many positions are asked for: the same ones as later are compiled.
        let (seed, warm_up) = if self.on_gpu() { (1, limit) } else { (0, Some(WARM_UP)) };
        self.generate(&network, self.samples, seed, warm_up)?;
        let ready = serde_json::json!({ "device": self.compute.device_name() });
        in_rounds(ready, || {
            let start = Instant::now();
            self.generate(&network, self.samples, 1, limit)?;
            let ms = start.elapsed().as_secs_f64() * 1e3 / limit.unwrap_or(self.size.steps) as f64;
            Ok(serde_json::json!({ "ms": ms, "device_mb": device_megabytes(&self.compute) }))
        })
    }

    /// Estimates of the sub-token bound in nats per token, with one draw per sequence, or some by blocks: the time of one
    /// after the first, and all of COUNT.
    fn bound(mut self, count: usize) -> Outcome<serde_json::Value> {
        let (network, x_0) = (self.loaded(), self.held_out());
        self.values.clear();
        let sequences = Sequences::new(&x_0, self.size.seq_len)?;
        let draws = if self.size.block_len == 0 { 1 } else { BLOCK_DRAWS };
        let mut seed = 0;
        let mut estimate = || -> Outcome<f64> {
            let settings = LikelihoodSettings { draws, seed, batch: self.batch, ..Default::default() };
            seed += 1;
            Ok(nelbo_subtoken(&network, &self.predictive, &sequences, &settings)?.nats_per_token().value)
        };
        estimate()?;
        let ready = serde_json::json!({ "device": self.compute.device_name() });
        in_rounds(ready, || {
            let start = Instant::now();
            let estimates = (0..count).map(|_| estimate()).collect::<Outcome<Vec<_>>>()?;
            let ms = start.elapsed().as_secs_f64() * 1e3 / count as f64;
            Ok(serde_json::json!({
                "ms": ms, "estimates": estimates, "device_mb": device_megabytes(&self.compute),
            }))
        })
    }

    /// How often every one of the C^L sequences is drawn.
    fn draw(&self, count: usize) -> Outcome<serde_json::Value> {
        let Size { vocab_size, seq_len, .. } = *self.size;
        let outcomes = vocab_size.checked_pow(seq_len as u32).filter(|&outcomes| outcomes < 1 << 20);
        let mut counts = vec![0; outcomes.ok_or("too many sequences to count")?];
        let tokens = self.generate(&self.loaded(), count, 1, None)?.unwrap_or_default();
        for x_0 in tokens.chunks_exact(seq_len) {
            counts[x_0.iter().fold(0, |index, &token| index * vocab_size + token as usize)] += 1;
        }
        Ok(serde_json::json!({ "counts": counts }))
    }
}

fn sum_of_squares(x: &[f32]) -> f64 {
    x.iter().map(|x| f64::from(*x) * f64::from(*x)).sum()
}

impl SlotLoss for Case {
    fn loss(&self, weights: &Weights, _: Slot) -> submask::Result<Option<Tensor<1>>> {
        self.loss(weights)
    }
}

fn main() -> Outcome<()> {
    allocator::keep_memory();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let line = match arguments[..] {
        ["prepare", case, folder] => return Case::new(case)?.write(Path::new(folder)),
        ["train", case, count] => Case::new(case)?.train(count.parse()?)?,
        ["evaluate", case] => Case::new(case)?.evaluate()?,
        ["sample", case] => Case::new(case)?.sample(None)?,
        ["sample", case, evaluations] => Case::new(case)?.sample(Some(evaluations.parse()?))?,
        #[cfg(feature = "cuda")]
        ["profile-train", case] => Case::new(case)?.profile_training()?,
        #[cfg(feature = "cuda")]
        ["profile-sample", case, evaluations] => Case::new(case)?.profile_sampling(evaluations.parse()?)?,
        ["evaluate-kept", case] => Case::new(case)?.evaluate_kept()?,
        ["sample-long", case] => Case::new(case)?.sample_long()?,
        ["draw", case, count] => Case::new(case)?.draw(count.parse()?)?,
        ["operations", case, count] => Case::new(case)?.operations(count.parse()?)?,
        ["bound", case, count] => Case::new(case)?.bound(count.parse()?)?,
        _ => {
            return Err("dit_steps prepare CASE FOLDER | train CASE COUNT | evaluate CASE | \
                        sample CASE [EVALUATIONS] | draw CASE COUNT | bound CASE COUNT | evaluate-kept CASE | \
                        sample-long CASE | operations CASE COUNT"
                .into());
        }
    };
    println!("{line}");
    Ok(())
}
