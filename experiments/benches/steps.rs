//! Training step, evaluation and sampling at three sizes, in tokens per second; and what the data flow saves:
//! logits at all positions against logits where they are asked for.

use std::fmt::{self, Display, Formatter};
use std::hint::black_box;
use std::sync::Arc;

use burn::tensor::Device;
use divan::Bencher;
use divan::counter::ItemsCount;
use submask::Compute;
use submask::backbone::dit::{Dit, DitConfig};
use submask::backbone::weights::{Init, Parameter, Weights};
use submask::backbone::{Backbone, Embedding, LoadedBackbone};
use submask::data::{Batch, Tokenizer, TokenizerKind};
use submask::denoiser::{Denoiser, States};
use submask::likelihood::{LikelihoodSettings, Sequences, nelbo_subtoken};
use submask::model::{
    Architecture, CodeSettings, FORMAT_VERSION, ModelConfig, NetworkConfig, Sampling, Subject, TextSubject,
};
use submask::ops::Kernels;
use submask::predictive::Predictive;
use submask::random::{Draws, Purpose};
use submask::sampler::{Prompt, SampleSettings, Sampler, Steps};
use submask::schedule::Schedule;
use submask::subtoken::SubTokenizer;
use submask::train::settings::RunSettings;
use submask::train::{LossFunction, Slot};

/// A network, a vocabulary and a batch.
struct Size {
    name: &'static str,
    vocab_size: usize,
    subtokens: usize,
    hidden: usize,
    heads: usize,
    blocks: usize,
    seq_len: usize,
    batch: usize,
}

const SIZES: [Size; 3] = [
    Size {
        name: "small",
        vocab_size: 257,
        subtokens: 2,
        hidden: 64,
        heads: 2,
        blocks: 2,
        seq_len: 64,
        batch: 16,
    },
    Size {
        name: "dictionary",
        vocab_size: 4096,
        subtokens: 2,
        hidden: 192,
        heads: 6,
        blocks: 4,
        seq_len: 128,
        batch: 16,
    },
    Size {
        name: "gpt2-vocabulary",
        vocab_size: 50_257,
        subtokens: 4,
        hidden: 256,
        heads: 4,
        blocks: 4,
        seq_len: 128,
        batch: 4,
    },
];

impl Display for Size {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl Size {
    fn codes(&self) -> SubTokenizer {
        SubTokenizer::new(self.vocab_size, self.subtokens).expect("the size is valid")
    }

    fn config(&self) -> DitConfig {
        DitConfig {
            block_len: 0,
            hidden: self.hidden,
            heads: self.heads,
            blocks: self.blocks,
            cond_dim: 32,
            seq_len: self.seq_len,
            dropout: 0.0,
            embedding: Embedding::Concatenated,
            time_conditioning: false,
        }
    }

    fn network(&self) -> Dit {
        Dit::new(self.config(), &self.codes(), Kernels::FUSED).expect("the size is valid")
    }

    fn architecture(&self) -> Architecture {
        let vocab_size = self.vocab_size;
        let config = ModelConfig {
            format_version: FORMAT_VERSION,
            subject: Subject::Text(TextSubject {
                vocab_size,
                tokenizer: TokenizerKind::Numbers { vocab_size },
                fidelity: None,
                pairs: false,
            }),
            network: NetworkConfig::Diffusion(self.config()),
            codes: CodeSettings::plain(self.subtokens, true),
            schedule: Schedule::Linear,
            sample: Sampling::default(),
        };
        let tokenizer = Tokenizer::numbers(vocab_size).expect("the size is valid");
        Architecture::new(config, Some(tokenizer)).expect("the size is valid")
    }

    /// Initial weights; layers that start at zero are drawn too, so that nothing is skipped.
    fn values(&self, parameters: &[Parameter]) -> Vec<Vec<f32>> {
        let drawn = |parameter: &Parameter| match parameter.init {
            Init::Zeros => Parameter { init: Init::Uniform(0.05), ..parameter.clone() },
            _ => parameter.clone(),
        };
        parameters.iter().enumerate().map(|(i, parameter)| drawn(parameter).initial(1, i)).collect()
    }

    fn tokens(&self, sequences: usize) -> Vec<u32> {
        let draws = Draws::new(2, Purpose::Mask);
        (0..sequences * self.seq_len)
            .map(|i| draws.below(self.vocab_size as u64, 0, i as u32, 0) as u32)
            .collect()
    }

    fn loaded(&self) -> LoadedBackbone {
        let network = self.network();
        let parameters = network.parameters();
        let weights = Weights::new(parameters, &self.values(parameters), &Device::flex());
        LoadedBackbone { network: Arc::new(network), weights }
    }
}

/// A training step, tokens per second.
#[divan::bench(args = SIZES, max_time = 6)]
fn training(bencher: Bencher, size: &Size) {
    let preset = include_str!("../../crates/submask-cli/presets/dictionary.toml");
    let mut settings: RunSettings = toml::from_str(preset).expect("the preset is whole");
    settings.train.batch_size = size.batch;
    let architecture = size.architecture();
    let parameters = architecture.parameters();
    let values = size.values(parameters);
    let loss = LossFunction::of(&architecture, &settings.train, &Compute::cpu()).expect("the size is valid");
    let batch = Batch { x_0: size.tokens(size.batch), ..Batch::default() };
    let mut step = 0;
    bencher.counter(ItemsCount::new(batch.x_0.len())).bench_local(|| {
        step += 1;
        let slot = Slot { step, index: 0 };
        drop(black_box(loss.loss_and_gradients(parameters, &values, &Device::flex(), &batch, slot)));
    });
}

/// `nelbo_subtoken`, tokens per second.
#[divan::bench(args = SIZES, max_time = 6)]
fn evaluation(bencher: Bencher, size: &Size) {
    let (network, predictive) = (size.loaded(), Predictive::new(size.codes(), true));
    let x_0 = size.tokens(4);
    let settings = LikelihoodSettings { draws: 1, ..LikelihoodSettings::default() };
    let sequences = Sequences::new(&x_0, size.seq_len).expect("whole sequences");
    bencher
        .counter(ItemsCount::new(x_0.len()))
        .bench_local(|| drop(black_box(nelbo_subtoken(&network, &predictive, &sequences, &settings))));
}

/// Sampling in 64 steps, tokens per second.
#[divan::bench(args = SIZES, max_time = 6)]
fn sampling(bencher: Bencher, size: &Size) {
    let (network, predictive) = (size.loaded(), Predictive::new(size.codes(), true));
    let settings = SampleSettings { steps: Steps::Grid(64), ..SampleSettings::default() };
    let sampler = Sampler::new(&network, &predictive, settings).expect("the settings are valid");
    let prompts = [Prompt::empty(&predictive, size.seq_len).expect("a length above 0")];
    let report = sampler.sample(&prompts).expect("the network can be sampled").report();
    println!("{size}: {} evaluations, {} idle steps", report.evaluations, report.steps_skipped);
    bencher.counter(ItemsCount::new(size.seq_len)).bench_local(|| drop(black_box(sampler.sample(&prompts))));
}

/// One network evaluation with logits at all positions.
#[divan::bench(args = SIZES, max_time = 6)]
fn logits_at_all_positions(bencher: Bencher, size: &Size) {
    logits(bencher, size, size.seq_len);
}

/// One network evaluation with logits at the two positions that a step of T = 64 reveals.
#[divan::bench(args = SIZES, max_time = 6)]
fn logits_at_two_positions(bencher: Bencher, size: &Size) {
    logits(bencher, size, 2);
}

fn logits(bencher: Bencher, size: &Size, count: usize) {
    let network = size.loaded();
    let y_t = vec![size.codes().mask_id(); size.seq_len * size.subtokens];
    let positions: Vec<usize> = (0..count).collect();
    bencher.bench_local(|| {
        let states = States { y_t: &y_t, t: &[0.5], labels: None };
        network.evaluate(&states, &positions, &mut |_, rows| {
            black_box(rows);
            Ok(())
        })
    });
}

fn main() {
    divan::main();
}
