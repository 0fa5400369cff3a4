//! A network and data of one's own: trained, evaluated exactly and sampled, without touching the library.
//!
//! ```sh
//! cargo run --release --example own_network
//! ```
//!
//! The data are sums: a, b and a + b for digits a and b. The network sees all three tokens at once through one hidden
//! layer, which is all that it takes to learn that.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use submask::backbone::weights::{Init, Parameter, Weights};
use submask::backbone::{
    Backbone, Declaration, DigitEmbedding, Embedding, Head, Inputs, Linear, LinearConfig, TrainingDropout,
};
use submask::data::{Batch, Dataset};
use submask::denoiser::Spec;
use submask::likelihood::{Likelihood, LikelihoodSettings, Sequences, exact_in_order};
use submask::model::HeldOut;
use submask::ops::Kernels;
use submask::order::Order;
use submask::predictive::Predictive;
use submask::sampler::{Prompt, SampleSettings, Sampler};
use submask::schedule::{RevealUnit, Schedule};
use submask::subtoken::SubTokenizer;
use submask::train::event::Event;
use submask::train::settings::TrainSettings;
use submask::train::{OwnModel, OwnRun, run_own};
use submask::{Compute, Result};

const WIDTH: usize = 64;
const TOKENS: usize = 3;

#[derive(Debug)]
struct Sums {
    spec: Spec,
    kernels: Kernels,
    parameters: Vec<Parameter>,
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
        let output = |i| LinearConfig::new(codes.vocab_size(), 4 * WIDTH).declare(&mut all, &format!("output.{i}"));
        let output = (0..TOKENS).map(output).collect();
        Self { spec, kernels, parameters, embedding, hidden, output }
    }
}

impl Backbone for Sums {
    fn spec(&self) -> &Spec {
        &self.spec
    }

    fn kernels(&self) -> Kernels {
        self.kernels
    }

    fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    fn heads(
        &self,
        weights: &Weights,
        inputs: &Inputs,
        positions: &[usize],
        _dropout: Option<TrainingDropout>,
    ) -> Result<Vec<Head>> {
        let [batch, _] = inputs.check(&self.spec, positions)?;
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
