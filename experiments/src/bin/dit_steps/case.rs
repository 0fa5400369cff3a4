//! The networks of the comparison, with weights and a masked batch that both sides use.

use std::path::Path;
use std::sync::Arc;

use burn::tensor::Tensor;
use submask::Compute;
use submask::backbone::dit::{Dit, DitConfig};
use submask::backbone::encoder::{Encoder, EncoderConfig};
use submask::backbone::weights::{Parameter, Weights};
use submask::backbone::{self, Backbone, Context, Digits, Embedding, Inputs, LoadedBackbone};
use submask::denoiser::States;
use submask::forward::{mask_digits, stratified_times};
use submask::objective::{LossRows, Objective};
use submask::predictive::Predictive;
use submask::random::{Draws, Purpose};
use submask::schedule::Schedule;
use submask::subtoken::SubTokenizer;
use submask_experiments::peers::{Outcome, compute, drawn_values, floats, integers, write_case};

use crate::{ASKED, BLOCK_DRAWS, HELD_OUT, WARM_UP};

/// Which network.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The diffusion transformer.
    Dit,
    /// The encoder in LLaMA's style; no two heads share keys.
    Encoder,
}

/// A network, a vocabulary, a batch and a grid.
pub struct Size {
    pub name: &'static str,
    pub kind: Kind,
    pub vocab_size: usize,
    pub subtokens: usize,
    pub hidden: usize,
    pub heads: usize,
    pub blocks: usize,
    pub seq_len: usize,
    /// Tokens per block of block diffusion; 0: none.
    pub block_len: usize,
    /// Sequences of a training step.
    pub batch: usize,
    /// Sequences that are sampled together.
    pub samples: usize,
    /// T.
    pub steps: usize,
    /// Radius of the weights that would start at zero.
    pub radius: f64,
}

const BYTES: Size = Size {
    name: "bytes",
    kind: Kind::Dit,
    vocab_size: 256,
    subtokens: 2,
    hidden: 256,
    heads: 4,
    blocks: 6,
    seq_len: 256,
    block_len: 0,
    batch: 16,
    samples: 4,
    steps: 256,
    radius: 0.05,
};

/// That of the published models.
const PUBLISHED: Size = Size {
    name: "published",
    kind: Kind::Dit,
    vocab_size: 50_257,
    subtokens: 4,
    hidden: 768,
    heads: 12,
    blocks: 12,
    seq_len: 1024,
    block_len: 0,
    batch: 16,
    samples: 16,
    steps: 512,
    radius: 0.05,
};

/// 25 sequences of very unequal probability, and codes that no token has.
const TINY: Size = Size {
    name: "tiny",
    kind: Kind::Dit,
    vocab_size: 5,
    subtokens: 2,
    hidden: 32,
    heads: 2,
    blocks: 2,
    seq_len: 2,
    block_len: 0,
    batch: 4,
    samples: 10_000,
    steps: 4,
    radius: 0.5,
};

/// One to try programs with.
const SMALL: Size =
    Size { name: "small", vocab_size: 300, seq_len: 24, samples: 4, steps: 16, radius: 0.05, ..TINY };

static SIZES: [Size; 14] = [
    PUBLISHED,
    Size { name: "published-mdm", subtokens: 1, ..PUBLISHED },
    Size { name: "published-encoder", kind: Kind::Encoder, ..PUBLISHED },
    // That of the preset `dictionary`.
    Size {
        name: "dictionary",
        kind: Kind::Dit,
        vocab_size: 4096,
        subtokens: 2,
        hidden: 192,
        heads: 6,
        blocks: 4,
        seq_len: 128,
        block_len: 0,
        batch: 4,
        samples: 4,
        steps: 128,
        radius: 0.05,
    },
    BYTES,
    Size { name: "bytes-mdm", subtokens: 1, ..BYTES },
    Size { name: "bytes-blocks", block_len: 16, ..BYTES },
    Size { name: "bytes-mdm-blocks", block_len: 16, subtokens: 1, ..BYTES },
    Size {
        name: "gpt2-vocabulary",
        kind: Kind::Dit,
        vocab_size: 50_257,
        subtokens: 4,
        hidden: 384,
        heads: 6,
        blocks: 6,
        seq_len: 128,
        block_len: 0,
        batch: 8,
        samples: 1,
        steps: 256,
        radius: 0.05,
    },
    Size {
        name: "gpt2-small",
        kind: Kind::Dit,
        vocab_size: 50_257,
        subtokens: 4,
        hidden: 768,
        heads: 12,
        blocks: 12,
        seq_len: 256,
        block_len: 0,
        batch: 1,
        samples: 1,
        steps: 256,
        radius: 0.05,
    },
    TINY,
    SMALL,
    Size { name: "small-mdm", subtokens: 1, ..SMALL },
    Size { name: "small-encoder", kind: Kind::Encoder, ..SMALL },
];

impl Size {
    /// That of a case.
    pub fn of(name: &str) -> Outcome<&'static Self> {
        SIZES.iter().find(|size| size.name == name).ok_or_else(|| format!("no case {name}").into())
    }

    /// The network, and its sizes for the other side.
    fn network(
        &self,
        codes: &SubTokenizer,
        compute: &Compute,
    ) -> Outcome<(Arc<dyn Backbone>, serde_json::Value)> {
        let Self { hidden, heads, blocks, seq_len, block_len, .. } = *self;
        Ok(match self.kind {
            Kind::Dit => {
                let config = DitConfig {
                    hidden,
                    heads,
                    blocks,
                    cond_dim: 128,
                    seq_len,
                    block_len,
                    dropout: 0.0,
                    embedding: Embedding::Concatenated,
                    time_conditioning: false,
                };
                let written = serde_json::to_value(&config)?;
                (Arc::new(Dit::new(config, codes, compute.kernels())?), written)
            }
            Kind::Encoder => {
                let config = EncoderConfig {
                    hidden,
                    heads,
                    query_groups: heads,
                    blocks,
                    intermediate: self.swiglu_width(),
                    seq_len,
                    block_len,
                    dropout: 0.0,
                    embedding: Embedding::PerDigitConcatenated,
                };
                let written = serde_json::to_value(&config)?;
                (Arc::new(Encoder::new(config, codes, compute.kernels())?), written)
            }
        })
    }

    /// Width inside the encoder's SwiGLU: as many weights as in the transformer's middle layers.
    pub fn swiglu_width(&self) -> usize {
        (8 * self.hidden).div_ceil(3).next_multiple_of(64)
    }
}

/// The network, its weights and a masked batch; everything is drawn, and drawn the same way every time.
pub struct Case {
    pub size: &'static Size,
    pub compute: Compute,
    /// Sequences of a training step.
    pub batch: usize,
    /// Sequences that are sampled together.
    pub samples: usize,
    pub network: Arc<dyn Backbone>,
    /// The network's sizes.
    config: serde_json::Value,
    pub predictive: Arc<Predictive>,
    pub parameters: Vec<Parameter>,
    pub values: Vec<Vec<f32>>,
    pub x_0: Vec<u32>,
    pub y_0: Vec<u32>,
    pub y_t: Vec<u32>,
    /// Of every sequence or, with blocks, of every block.
    pub times: Vec<f64>,
}

impl Case {
    pub fn new(name: &str) -> Outcome<Self> {
        let size = Size::of(name)?;
        let codes = SubTokenizer::new(size.vocab_size, size.subtokens)?;
        let compute = compute()?;
        let asked = std::env::var("BATCH").ok().map(|batch| batch.parse()).transpose()?;
        let (batch, samples) = (asked.unwrap_or(size.batch), asked.unwrap_or(size.samples));
        let (network, config) = size.network(&codes, &compute)?;
        let parameters = network.parameters().to_vec();
        let values = drawn_values(&parameters, size.radius);
        let draws = Draws::new(2, Purpose::Mask);
        let tokens = 0..(batch * size.seq_len) as u32;
        let x_0: Vec<u32> = tokens.map(|i| draws.below(size.vocab_size as u64, 0, i, 0) as u32).collect();
        let y_0 = codes.encode(&x_0)?;
        let masked_together = if size.block_len == 0 { size.seq_len } else { size.block_len };
        let count = x_0.len() / masked_together;
        let uniforms = (0..).map(|b| draws.uniform(1 + count as u64, b, 0));
        let times: Vec<f64> = stratified_times(count, [1e-3, 1.0], uniforms).collect();
        let mut y_t = Vec::new();
        for (b, y_0) in y_0.chunks_exact(masked_together * size.subtokens).enumerate() {
            let alpha = Schedule::Linear.alpha(times[b]);
            let uniforms = (0..).map(|digit| draws.uniform(1 + b as u64, digit, 0));
            y_t.extend(mask_digits(y_0, alpha, codes.mask_id(), uniforms));
        }
        let predictive = Arc::new(Predictive::new(codes, true));
        Ok(Self {
            size,
            compute,
            batch,
            samples,
            network,
            config,
            predictive,
            parameters,
            values,
            x_0,
            y_0,
            y_t,
            times,
        })
    }

    /// Every sequence's time; with blocks that of its first, since the network reads none.
    pub fn sequence_times(&self) -> Vec<f64> {
        self.times.iter().copied().step_by(self.times.len() / self.batch).collect()
    }

    /// w(t) of all that has one time over the number of tokens, which the loss is a mean over.
    pub fn loss_weights(&self) -> Vec<f32> {
        let tokens = self.x_0.len() as f64;
        self.times.iter().map(|t| (Schedule::Linear.weight(*t) / tokens) as f32).collect()
    }

    /// Writes `case.safetensors` and `case.json`.
    pub fn write(&self, folder: &Path) -> Outcome<()> {
        let Size { kind, vocab_size, subtokens, seq_len, steps, .. } = *self.size;
        let (batch, samples) = (self.batch, self.samples);
        let others = [
            integers("x_0", &[batch, seq_len], &self.x_0),
            integers("y_t", &[batch, seq_len, subtokens], &self.y_t),
            floats("loss_weights", &[self.times.len()], &self.loss_weights()),
            integers("held_out", &[HELD_OUT, seq_len], &self.held_out()),
        ];
        let settings = serde_json::json!({
            "network": if kind == Kind::Encoder { "encoder" } else { "dit" }, "config": self.config, "vocab_size": vocab_size, "subtokens": subtokens,
            "base": self.predictive.codes().base(), "asked": ASKED, "samples": samples, "steps": steps,
            "warm_up": WARM_UP, "draws": BLOCK_DRAWS,
        });
        write_case(folder, &self.parameters, &self.values, others, &settings)
    }

    /// Tokens of the sequences whose bound is estimated.
    pub fn held_out(&self) -> Vec<u32> {
        let draws = Draws::new(3, Purpose::Mask);
        let count = (HELD_OUT * self.size.seq_len) as u32;
        (0..count).map(|i| draws.below(self.size.vocab_size as u64, 0, i, 0) as u32).collect()
    }

    /// The network with its weights, ready to be evaluated.
    pub fn loaded(&self) -> LoadedBackbone {
        let weights = Weights::new(&self.parameters, &self.values, self.compute.device());
        LoadedBackbone { network: self.network.clone(), weights }
    }

    /// Tokens with a masked digit: a fully visible one costs nothing and needs no logits.
    pub fn charged(&self) -> Vec<usize> {
        let (subtokens, mask_id) = (self.size.subtokens, self.predictive.codes().mask_id());
        let digits = |position: usize| &self.y_t[position * subtokens..(position + 1) * subtokens];
        (0..self.x_0.len()).filter(|&position| digits(position).contains(&mask_id)).collect()
    }

    /// The loss of the batch by `weights`.
    pub fn loss(&self, weights: &Weights) -> submask::Result<Option<Tensor<1>>> {
        let Size { subtokens, block_len, .. } = *self.size;
        let loss_weights = self.loss_weights();
        let masked_together = self.x_0.len() / self.times.len();
        let digits = |position: usize| &self.y_t[position * subtokens..(position + 1) * subtokens];
        let positions = self.charged();
        let rows = LossRows::new(
            self.predictive.clone(),
            Objective::Joint,
            positions.iter().map(|&position| self.x_0[position]).collect(),
            positions.iter().flat_map(|&position| digits(position).iter().copied()).collect(),
            positions.iter().map(|position| loss_weights[position / masked_together]).collect(),
        );
        let context = if block_len == 0 { Context::Own } else { Context::Clean(Digits::Host(&self.y_0)) };
        let states = States { y_t: &self.y_t, t: &self.sequence_times(), labels: None };
        let inputs = Inputs { context, ..states.into() };
        backbone::loss(&*self.network, weights, &inputs, &positions, rows, None)
    }
}
