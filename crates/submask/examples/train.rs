//! Trains a tiny model with settings made in code, then samples it.
//!
//! ```sh
//! cargo run --release --example train -- runs/tiny               # the built-in dictionary
//! cargo run --release --example train -- runs/tiny my.txt 2000   # a text file, 2000 steps
//! ```
//!
//! Half a minute on two cores teaches what letters words are made of, and little more. The folder is a run like those of
//! the program: `submask sample runs/tiny`, `submask train --resume --out runs/tiny`.

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use submask::backbone::Embedding;
use submask::backbone::dit::DitConfig;
use submask::data::{FileFormat, Split, ValidRule};
use submask::model::{CodeSettings, NetworkConfig, Sampling, Temperature};
use submask::objective::Objective;
use submask::schedule::Schedule;
use submask::train::event::Event;
use submask::train::optimizer::AdamWConfig;
use submask::train::settings::{
    Decay, RunData, RunSettings, TextData, TokenizerChoice, TokenizerSettings, TrainSettings,
};
use submask::train::{ClipChoice, RunRequest, run};
use submask::{Compute, Error, Model, Request, Result, Unobserved};

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let out = PathBuf::from(arguments.first().map_or("runs/tiny", String::as_str));
    let corpus = arguments.get(1).map(PathBuf::from);
    let steps = match arguments.get(2) {
        Some(steps) => steps.parse().map_err(|_| Error::invalid("STEPS", steps, "a number of steps"))?,
        None => 400,
    };

    let settings = settings(corpus, steps);
    let compute = Compute::cpu();
    let request =
        RunRequest { settings, out: out.clone(), resume: false, init: None, compute: compute.clone() };
    let mut observer = |event: &Event| match event {
        Event::Step(step) => println!("step {}: {:.3} nats per token", step.step, step.loss_nats_per_token),
        Event::Validation(validation) => {
            for figure in &validation.figures {
                println!("{} {:.3} {} ({:?})", figure.name, figure.value, figure.unit, figure.kind);
            }
        }
        _ => {}
    };
    run(&request, &mut observer, &AtomicBool::new(false))?;

    let session = Model::open(&out)?.session(&compute)?;
    let request = Request { num: 4, ..session.request() };
    for text in session.generate(&request, &mut Unobserved)?.texts {
        println!("\n{text}");
    }
    Ok(())
}

/// A diffusion transformer of 0.3 million weights over bytes, each of which is four sub-tokens.
fn settings(corpus: Option<PathBuf>, steps: u64) -> RunSettings {
    RunSettings {
        data: RunData::Text(TextData {
            // No path: the built-in dictionary.
            paths: corpus.into_iter().collect(),
            edition: 2,
            split: Split::Paragraph,
            field: "text".to_owned(),
            format: FileFormat::Auto,
            join: "\n".to_owned(),
            separator: String::new(),
            skip_bad: false,
            valid_fraction: 0.02,
            valid_rule: ValidRule::Documents,
            valid_paths: Vec::new(),
            // No fields: text, not pairs.
            prompt_field: String::new(),
            completion_field: String::new(),
            truncate: false,
            block_ends: false,
            cache: PathBuf::new(),
        }),
        tokenizer: Some(TokenizerSettings {
            kind: TokenizerChoice::Bytes,
            vocab_size: 0,
            path: PathBuf::new(),
            end_of_text: String::new(),
        }),
        network: NetworkConfig::Diffusion(DitConfig {
            block_len: 0,
            hidden: 96,
            heads: 4,
            blocks: 2,
            cond_dim: 16,
            seq_len: 64,
            dropout: 0.0,
            embedding: Embedding::Concatenated,
            time_conditioning: false,
        }),
        codes: CodeSettings::plain(4, true),
        schedule: Schedule::Linear,
        train: training(steps),
        sample: Sampling { steps: 64, temperature: Temperature::Constant(0.7), ..Sampling::default() },
    }
}

fn training(steps: u64) -> TrainSettings {
    TrainSettings {
        seed: 0,
        steps,
        batch_size: 16,
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
        log_every: 50,
        validate_every: 200,
        validate_sequences: 64,
        validate_draws: 1,
        final_sequences: 256,
        final_draws: 1,
        validate_samples: 0,
        final_samples: 0,
        checkpoint_every: 200,
        keep_checkpoints: 1,
        keep_best: false,
        patience: 0,
    }
}
