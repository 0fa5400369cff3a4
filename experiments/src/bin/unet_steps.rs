//! Our side of the comparison of U-Nets in `bench/peers/`: single convolutions, a training step, an evaluation at the
//! positions that a step of the sampler asks for, and sampling.
//!
//! `unet_steps prepare CASE FOLDER` writes weights and a batch that both sides use; `unet_steps conv B IN OUT SIZE COUNT`,
//! `unet_steps train CASE COUNT` and `unet_steps evaluate CASE COUNT` print one line of JSON with the median time in
//! milliseconds of COUNT repetitions after a first one that is not counted; `unet_steps sample CASE` the time of a step, and
//! how often every colour was drawn. `PRECISION`, `BATCH`, `DEVICE` and `ROUNDS` in the environment are those of `dit_steps`;
//! `conv` runs on the CPU.

#[path = "../../../crates/submask-cli/src/allocator.rs"]
mod allocator;

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use burn::tensor::{Device, Distribution, Tensor};
use submask::Compute;
use submask::backbone::unet::{Unet, UnetConfig};
use submask::backbone::weights::{Parameter, Weights};
use submask::backbone::{self, Backbone, LoadedBackbone};
use submask::denoiser::{Denoiser, States};
use submask::objective::{LossRows, Objective};
use submask::ops::Kernels;
use submask::predictive::Predictive;
use submask::random::{Draws, Purpose};
use submask::sampler::{Prompt, SampleSettings, Sampler, Steps};
use submask::schedule::Schedule;
use submask::subtoken::SubTokenizer;
use submask::train::optimizer::{AdamW, AdamWConfig};
use submask::train::{Slot, SlotLoss};
use submask_experiments::peers::{
    Outcome, compute, descend, drawn_values, has_rounds, integers, median, open_stepper, train_as_in_a_run,
    write_case,
};

/// Colours of a channel, digits of a colour.
const VOCAB_SIZE: usize = 256;
const SUBTOKENS: usize = 2;

const LEARNING_RATE: f64 = 1e-4;

/// One token in so many is asked for: what a sampler of 32 steps reveals in one, about.
const ASKED: usize = 32;

/// Images that are sampled together, and T.
const SAMPLES: usize = 4;
const STEPS: usize = 32;

/// Sizes and the images of a batch by the case's name. Nothing is dropped, so that both sides compute the same.
fn sizes(name: &str) -> Outcome<(UnetConfig, usize)> {
    let small = UnetConfig {
        channel_mult: vec![1, 1, 1],
        res_blocks: 1,
        attention_resolutions: vec![4],
        head_channels: 32,
        dropout: 0.0,
        ..UnetConfig::cifar10()
    };
    Ok(match name {
        "small" => (small, 16),
        // The published size.
        "cifar10" => (UnetConfig { dropout: 0.0, ..UnetConfig::cifar10() }, 64),
        // One to try programs with.
        "tiny" => (
            UnetConfig {
                height: 8,
                width: 8,
                model_channels: 96,
                channel_mult: vec![1],
                attention_resolutions: vec![1],
                ..small
            },
            2,
        ),
        _ => return Err(format!("no case {name}").into()),
    })
}

/// The network, its weights and a batch; everything is drawn, and drawn the same way every time.
struct Case {
    config: UnetConfig,
    batch: usize,
    compute: Compute,
    network: Arc<Unet>,
    parameters: Vec<Parameter>,
    values: Vec<Vec<f32>>,
    codes: SubTokenizer,
    x_0: Vec<u32>,
    y_t: Vec<u32>,
}

impl Case {
    fn new(name: &str) -> Outcome<Self> {
        let ((config, batch), compute) = (sizes(name)?, compute()?);
        let batch = std::env::var("BATCH").map_or(Ok(batch), |batch| batch.parse())?;
        let codes = SubTokenizer::new(VOCAB_SIZE, SUBTOKENS)?;
        let network = Arc::new(Unet::new(config.clone(), &codes, compute.kernels())?);
        let parameters = network.parameters().to_vec();
        let values = drawn_values(&parameters, 0.02);
        let draws = Draws::new(2, Purpose::Mask);
        let tokens = (batch * config.tokens()) as u32;
        let x_0: Vec<u32> = (0..tokens).map(|i| draws.below(VOCAB_SIZE as u64, 0, i, 0) as u32).collect();
        let mut y_t = codes.encode(&x_0)?;
        for (i, digit) in y_t.iter_mut().enumerate() {
            if draws.uniform(1, i as u32, 0) < 0.5 {
                *digit = codes.mask_id();
            }
        }
        Ok(Self { config, batch, compute, network, parameters, values, codes, x_0, y_t })
    }

    /// Flat positions that an evaluation asks for.
    fn positions(&self) -> Vec<usize> {
        (0..self.x_0.len()).step_by(ASKED).collect()
    }

    /// Writes `case.safetensors` and `case.json`.
    fn write(&self, folder: &Path) -> Outcome<()> {
        let (batch, tokens) = (self.batch, self.config.tokens());
        let others = [
            integers("x_0", &[batch, tokens], &self.x_0),
            integers("y_t", &[batch, tokens, SUBTOKENS], &self.y_t),
        ];
        let settings = serde_json::json!({
            "config": self.config, "vocab_size": VOCAB_SIZE, "subtokens": SUBTOKENS, "base": self.codes.base(),
            "batch": batch, "asked": ASKED, "samples": SAMPLES, "steps": STEPS,
        });
        write_case(folder, &self.parameters, &self.values, others, &settings)
    }

    /// The mean cross-entropy at all positions.
    fn loss(&self, weights: &Weights) -> submask::Result<Option<Tensor<1>>> {
        let count = self.x_0.len();
        let rows = LossRows::new(
            Arc::new(Predictive::new(self.codes.clone(), false)),
            Objective::CrossEntropy,
            self.x_0.clone(),
            self.y_t.clone(),
            vec![1.0 / count as f32; count],
        );
        let positions: Vec<usize> = (0..count).collect();
        let t = vec![0.5; self.batch];
        let inputs = States { y_t: &self.y_t, t: &t, labels: None }.into();
        backbone::loss(&*self.network, weights, &inputs, &positions, rows, None)
    }

    /// Losses of COUNT + 1 training steps, and the median time of the last COUNT.
    fn train(mut self, count: usize) -> Outcome<serde_json::Value> {
        if has_rounds() || *self.compute.device() != Device::flex() {
            let values = std::mem::take(&mut self.values);
            let stepper = open_stepper(LEARNING_RATE, &self.parameters, values, &self.compute)?;
            return train_as_in_a_run(stepper, &self, &self.compute, count, serde_json::json!({}));
        }
        let mut optimizer = AdamW::new(AdamWConfig::default(), &self.parameters);
        let mut losses = Vec::new();
        let ms = median(count, || {
            let weights = Weights::new(&self.parameters, &self.values, &Device::flex().autodiff());
            let loss = self.loss(&weights)?.ok_or("no rows")?;
            losses.push(descend(loss, &weights, &mut self.values, &mut optimizer, LEARNING_RATE)?);
            Ok(())
        })?;
        Ok(serde_json::json!({ "ms": ms, "losses": losses }))
    }

    fn loaded(&self) -> LoadedBackbone {
        let weights = Weights::new(&self.parameters, &self.values, self.compute.device());
        LoadedBackbone { network: self.network.clone(), weights }
    }

    /// Median time of an evaluation, and the sum of the logits' squares.
    fn evaluate(self, count: usize) -> Outcome<serde_json::Value> {
        let positions = self.positions();
        let loaded = self.loaded();
        let mut squares = 0.0;
        let ms = median(count, || {
            squares = 0.0;
            let states = States { y_t: &self.y_t, t: &vec![0.5; self.batch], labels: None };
            loaded.evaluate(&states, &positions, &mut |_, logits| {
                squares += logits.iter().map(|x| f64::from(*x) * f64::from(*x)).sum::<f64>();
                Ok(())
            })?;
            Ok(())
        })?;
        Ok(serde_json::json!({ "ms": ms, "squares": squares }))
    }
}

impl SlotLoss for Case {
    fn loss(&self, weights: &Weights, _: Slot) -> submask::Result<Option<Tensor<1>>> {
        self.loss(weights)
    }
}

/// Time of a step of the whole grid, and how often every colour is drawn. The schedule is that of image models.
fn sample(case: Case) -> Outcome<serde_json::Value> {
    let network = case.loaded();
    let predictive = Predictive::new(case.codes, false);
    let prompts = vec![Prompt::empty(&predictive, case.config.tokens())?; SAMPLES];
    let generate = |steps| {
        let settings = SampleSettings {
            steps: Steps::Grid(steps),
            schedule: Schedule::Polynomial { exponent: 3.0 },
            batch: SAMPLES,
            ..SampleSettings::default()
        };
        Sampler::new(&network, &predictive, settings)?.sample(&prompts)
    };
    generate(2)?;
    let start = Instant::now();
    let samples = generate(STEPS)?;
    let ms = start.elapsed().as_secs_f64() * 1e3 / STEPS as f64;
    let mut counts = vec![0; VOCAB_SIZE];
    for &token in &samples.tokens {
        counts[token as usize] += 1;
    }
    Ok(serde_json::json!({ "ms": ms, "counts": counts }))
}

/// A 3×3 convolution, forward and backward for input, weight and bias.
fn convolution([batch, inner, outer, size]: [usize; 4], count: usize) -> Outcome<f64> {
    let device = Device::flex().autodiff();
    let normal = |shape: [usize; 4]| {
        Tensor::<4>::random(shape, Distribution::Normal(0.0, 1.0), &device).require_grad()
    };
    let (x, weight) = (normal([batch, inner, size, size]), normal([outer, inner, 3, 3]));
    let bias = Tensor::<1>::zeros([outer], &device).require_grad();
    median(count, || {
        let out = Kernels::FUSED.conv(x.clone(), weight.clone(), bias.clone());
        let gradients = out.sum().backward();
        for gradient in [x.grad(&gradients), weight.grad(&gradients)] {
            std::hint::black_box(gradient.ok_or("no gradient")?);
        }
        Ok(())
    })
}

fn main() -> Outcome<()> {
    allocator::keep_memory();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let line = match arguments[..] {
        ["prepare", case, folder] => return Case::new(case)?.write(Path::new(folder)),
        ["conv", batch, inner, outer, size, count] => {
            let sizes = [batch.parse()?, inner.parse()?, outer.parse()?, size.parse()?];
            serde_json::json!({ "ms": convolution(sizes, count.parse()?)? })
        }
        ["train", case, count] => Case::new(case)?.train(count.parse()?)?,
        ["evaluate", case, count] => Case::new(case)?.evaluate(count.parse()?)?,
        ["sample", case] => sample(Case::new(case)?)?,
        _ => {
            return Err("unet_steps prepare CASE FOLDER | conv B IN OUT SIZE COUNT | train CASE COUNT | \
                        evaluate CASE COUNT | sample CASE"
                .into());
        }
    };
    println!("{line}");
    Ok(())
}
