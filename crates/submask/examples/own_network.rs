//! A network and data of one's own: trained, evaluated exactly and sampled, without touching the library.
//!
//! ```sh
//! cargo run --release --example own_network -- runs/sums
//! ```
//!
//! The data are sums: a, b and a + b for digits a and b. The network sees all three tokens at once through one hidden
//! layer, which is all that it takes to learn that.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use submask::backbone::weights::{Init, Weights};
use submask::backbone::{
    Backbone, Declaration, Definition, DigitEmbedding, Embedding, Head, Inputs, Linear, LinearConfig,
    TrainingDropout,
};
use submask::data::{Batch, Dataset};
use submask::denoiser::Spec;
use submask::likelihood::{LikelihoodSettings, Sequences, exact_in_order};
use submask::model::HeldOut;
use submask::objective::Objective;
use submask::ops::Kernels;
use submask::order::Order;
use submask::predictive::Predictive;
use submask::sampler::{Prompt, SampleSettings, Sampler};
use submask::schedule::{RevealUnit, Schedule};
use submask::subtoken::SubTokenizer;
use submask::train::event::Event;
use submask::train::optimizer::AdamWConfig;
use submask::train::settings::{Decay, TrainSettings};
use submask::train::{ClipChoice, OwnModel, OwnRun, run_own};
use submask::{Compute, Result};

const WIDTH: usize = 64;
const TOKENS: usize = 3;

#[derive(Debug)]
struct Sums {
    definition: Definition,
    embedding: DigitEmbedding,
    hidden: Linear,
    output: Vec<Linear>,
}

impl Sums {
    fn new(codes: &SubTokenizer, kernels: Kernels) -> Self {
        let spec = Spec { seq_lens: TOKENS..=TOKENS, ..Spec::new(codes, TOKENS) };
        let mut parameters = Vec::new();
        let mut all = Declaration::new(&mut parameters, kernels);
        let kind = Embedding::PerDigitSummed;
        let embedding = DigitEmbedding::declare(&mut all, "digits", kind, codes, WIDTH, Init::Normal(1.0));
        let hidden = LinearConfig::new(4 * WIDTH, TOKENS * WIDTH).declare(&mut all, "hidden");
        let output =
            |i| LinearConfig::new(codes.vocab_size(), 4 * WIDTH).declare(&mut all, &format!("output.{i}"));
        let output = (0..TOKENS).map(output).collect();
        let definition = Definition { spec, kernels, parameters };
        Self { definition, embedding, hidden, output }
    }
}

impl Backbone for Sums {
    fn definition(&self) -> &Definition {
        &self.definition
    }

    fn heads(
        &self,
        weights: &Weights,
        inputs: &Inputs,
        positions: &[usize],
        _dropout: Option<TrainingDropout>,
    ) -> Result<Vec<Head>> {
        let [batch, _] = inputs.check(self.spec(), positions)?;
        let tokens = self.embedding.forward(weights, inputs.y_t).reshape([batch, TOKENS * WIDTH]);
        let hidden = self.hidden.forward_gelu(weights, tokens);
        // Every place in the sequence has an output layer of its own.
        Ok(Head::by_place(positions, TOKENS, hidden, |place| {
            (self.output[place].weight(weights), self.output[place].bias(weights))
        }))
    }
}

struct AllSums;

impl Dataset for AllSums {
    fn seq_len(&self) -> usize {
        TOKENS
    }

    fn epoch_len(&self) -> Option<u64> {
        Some(100)
    }

    fn get(&self, _epoch: u64, index: u64, batch: &mut Batch) -> Result<()> {
        let (a, b) = (index as u32 / 10, index as u32 % 10);
        batch.push([a, b, a + b], None);
        Ok(())
    }

    fn fingerprint(&self) -> u64 {
        0x5375_6d73
    }
}

fn main() -> Result<()> {
    let out = std::env::args().nth(1).map_or_else(|| PathBuf::from("runs/sums"), PathBuf::from);
    let compute = Compute::cpu();

    // A number below 19 is five binary digits.
    let codes = SubTokenizer::new(19, 5)?;
    let predictive = Arc::new(Predictive::new(codes.clone(), true));
    let network = Arc::new(Sums::new(&codes, compute.kernels()));
    let model = OwnModel { network, predictive: predictive.clone(), schedule: Schedule::Linear };

    let mut all = Batch::default();
    (0..100).try_for_each(|index| AllSums.get(0, index, &mut all))?;
    let held_out = HeldOut { x_0: all.x_0, seq_len: TOKENS, ..HeldOut::default() };
    let run = OwnRun {
        model: model.clone(),
        dataset: Arc::new(AllSums),
        held_out: held_out.clone(),
        settings: settings(),
        dropout: 0.0,
        out: out.clone(),
        resume: false,
        compute: compute.clone(),
    };
    let mut observer = |event: &Event| match event {
        Event::Step(step) => println!("step {}: {:.3} nats per token", step.step, step.loss_nats_per_token),
        Event::Validation(validation) => {
            for figure in &validation.figures {
                println!("{} {:.3} {} ({:?})", figure.name, figure.value, figure.unit, figure.kind);
            }
        }
        _ => {}
    };
    run_own(&run, &mut observer, &AtomicBool::new(false))?;

    // A model that knows its sums needs ln 100 = 4.605 nats for two digits and nothing for the third token.
    let network = model.load(&out, &compute)?;
    let sequences = Sequences::new(&held_out.x_0, TOKENS)?;
    let settings = LikelihoodSettings { draws: 1, seed: 0, batch: 32, schedule: model.schedule };
    let order = Order::LeftToRight;
    let exact = exact_in_order(&network, &predictive, &sequences, order, RevealUnit::Tokens, 1, &settings)?;
    println!("\nexact from left to right: {:.3} nats per sequence", exact.nats_per_sequence().value);

    let sampler = Sampler::new(&network, &predictive, SampleSettings::default())?;
    for sum in sampler.sample(&vec![Prompt::empty(&predictive, TOKENS)?; 8])?.sequences() {
        println!("{} + {} = {}", sum[0], sum[1], sum[2]);
    }
    Ok(())
}

fn settings() -> TrainSettings {
    TrainSettings {
        seed: 0,
        steps: 2_000,
        batch_size: 64,
        accumulate: 1,
        shard_optimizer: false,
        objective: Objective::Marginal,
        time_epsilon: 1e-3,
        clip_interval: ClipChoice::Off,
        learning_rate: 3e-3,
        warmup_steps: 50,
        decay: Decay::Cosine,
        clip: 1.0,
        ema_decay: 0.98,
        adamw: AdamWConfig::default(),
        log_every: 500,
        validate_every: 1_000,
        validate_sequences: 0,
        validate_draws: 8,
        final_sequences: 0,
        final_draws: 64,
        validate_samples: 0,
        final_samples: 0,
        checkpoint_every: 1_000,
        keep_checkpoints: 1,
        keep_best: false,
        patience: 0,
    }
}
