//! The dictionary at equal compute: the autoregressive baseline, the ordinary masked diffusion model (ℓ = 1),
//! and partial masking with ℓ = 2, 4, 8, trained with the joint and with the marginal objective.
//!
//! `cargo run --release --example dictionary_experiment -- FOLDER [STEPS]` trains all of them into FOLDER (runs
//! that are there already are resumed or reused) and prints the table of `docs/experiments.md`.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use burn::tensor::Device;
use submask::data::{Blocks, PreparedData, ValidationBlock, ValidationBlocks};
use submask::likelihood::{Figure, LikelihoodSettings};
use submask::model::{Estimator, GenerateRequest, Model, Network, NetworkChoice};
use submask::objective::Objective;
use submask::ops::Kernels;
use submask::sampler::Steps;
use submask::train::event::Event;
use submask::train::settings::{RunSettings, Settings};
use submask::train::{RunRequest, run};

/// Held-out sequences that are evaluated, and draws of each.
const SEQUENCES: u64 = 256;
const DRAWS: usize = 8;

/// Sampled sequences, and steps of the sampler.
const SAMPLES: usize = 16;
const STEPS: usize = 128;

struct Variant {
    name: &'static str,
    network: NetworkChoice,
    subtokens: usize,
    objective: Objective,
}

/// One row of the table.
struct Row {
    name: &'static str,
    train_seconds: f64,
    bound: Figure,
    joint: Option<Figure>,
    sample_seconds: f64,
    evaluations: f64,
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let folder = PathBuf::from(args.next().ok_or("give a folder for the runs")?);
    let steps = args.next().map_or(Ok(1000), |steps| steps.parse())?;
    let base = settings(&folder, steps)?;
    let rows = variants()
        .iter()
        .map(|variant| row(variant, &base, &folder))
        .collect::<Result<Vec<_>, Box<dyn Error>>>()?;
    print_table(&base, &rows);
    Ok(())
}

fn variants() -> Vec<Variant> {
    let variant = |name, network, subtokens, objective| Variant { name, network, subtokens, objective };
    let diffusion = NetworkChoice::Diffusion;
    vec![
        variant("autoregressive", NetworkChoice::Autoregressive, 1, Objective::Joint),
        variant("MDM (ℓ = 1)", diffusion, 1, Objective::Joint),
        variant("Prime ℓ = 2, joint", diffusion, 2, Objective::Joint),
        variant("Prime ℓ = 2, marginal", diffusion, 2, Objective::Marginal),
        variant("Prime ℓ = 4, joint", diffusion, 4, Objective::Joint),
        variant("Prime ℓ = 4, marginal", diffusion, 4, Objective::Marginal),
        variant("Prime ℓ = 8, joint", diffusion, 8, Objective::Joint),
        variant("Prime ℓ = 8, marginal", diffusion, 8, Objective::Marginal),
    ]
}

/// The dictionary preset with a smaller network, so that eight runs fit a coffee break.
fn settings(folder: &Path, steps: u64) -> Result<Settings, Box<dyn Error>> {
    let mut settings: Settings = toml::from_str(include_str!("../../submask-cli/presets/dictionary.toml"))?;
    settings.data.cache = folder.join("data");
    settings.model.hidden = 128;
    settings.model.heads = 4;
    settings.model.blocks = 2;
    settings.train.steps = steps;
    settings.train.validate_every = steps;
    settings.train.checkpoint_every = steps;
    settings.train.final_sequences = 1;
    settings.train.final_draws = 1;
    settings.train.final_samples = 0;
    Ok(settings)
}

fn row(variant: &Variant, base: &Settings, folder: &Path) -> Result<Row, Box<dyn Error>> {
    let mut settings = base.clone();
    settings.model.network = variant.network;
    settings.model.subtokens = variant.subtokens;
    settings.train.objective = variant.objective;
    let slug: String = variant.name.chars().filter(char::is_ascii_alphanumeric).collect();
    let out = folder.join(format!("{slug}-{}", settings.train.steps));
    let seconds = train(variant.name, &settings, &out)?;
    let device = Device::flex();
    let model = Model::load(&out, Kernels::Fused)?;
    let blocks = held_out(&settings, &model)?;
    let evaluation = LikelihoodSettings { draws: DRAWS, schedule: model.schedule(), ..Default::default() };
    let evaluate = |estimator| -> Result<Figure, Box<dyn Error>> {
        let figures = model.evaluate(&device, estimator, &blocks, &evaluation)?;
        figures.into_iter().next().ok_or_else(|| "an evaluation without a figure".into())
    };
    let (bound, joint) = match model.network {
        Network::Autoregressive(_) => (evaluate(Estimator::LEFT_TO_RIGHT)?, None),
        Network::Diffusion(_) => {
            (evaluate(Estimator::NelboSubtoken)?, Some(evaluate(Estimator::JointObjective)?))
        }
    };
    let started = Instant::now();
    let request = GenerateRequest { num: SAMPLES, steps: Steps::Grid(STEPS), ..GenerateRequest::new(&model) };
    let generated = model.generate(&request, &device)?;
    Ok(Row {
        name: variant.name,
        train_seconds: seconds,
        bound,
        joint,
        sample_seconds: started.elapsed().as_secs_f64() / SAMPLES as f64,
        evaluations: generated.report.evaluations as f64 / SAMPLES as f64,
    })
}

/// Trains, unless the run is complete already; the seconds stand beside the run.
fn train(name: &str, settings: &Settings, out: &Path) -> Result<f64, Box<dyn Error>> {
    let clock = out.join("seconds");
    if let Ok(seconds) = std::fs::read_to_string(&clock) {
        return Ok(seconds.trim().parse()?);
    }
    let request = RunRequest {
        settings: RunSettings::Text(Box::new(settings.clone())),
        out: out.to_path_buf(),
        resume: false,
        init: None,
        device: Device::flex(),
        kernels: Kernels::Fused,
    };
    let mut started = Instant::now();
    let mut watch = |event: &Event| match event {
        Event::Started { .. } => started = Instant::now(),
        Event::Step(record) if record.step % 100 == 0 => {
            eprintln!("{name}: step {}, {:.3} nats per token", record.step, record.loss_nats_per_token);
        }
        _ => {}
    };
    run(&request, &mut watch, &AtomicBool::new(false))?;
    let seconds = started.elapsed().as_secs_f64();
    std::fs::write(clock, seconds.to_string())?;
    Ok(seconds)
}

/// Sequences spread evenly over the held-out text.
fn held_out(settings: &Settings, model: &Model) -> Result<Vec<ValidationBlock>, Box<dyn Error>> {
    let data = PreparedData::open(&settings.data.cache)?;
    let store = data.valid.ok_or("nothing is held out")?;
    let blocks = Blocks::new(store, &model.tokenizer, settings.data.layout(settings.model.seq_len))?;
    let blocks = ValidationBlocks::new(blocks, model.tokenizer.clone())?;
    let all = blocks.blocks().len();
    let count = SEQUENCES.min(all);
    Ok((0..count).map(|i| blocks.block(i * all / count)).collect::<submask::Result<_>>()?)
}

fn print_table(settings: &Settings, rows: &[Row]) {
    let (model, train) = (&settings.model, &settings.train);
    println!(
        "{} steps of {} × {} tokens; d = {}, {} blocks, {} heads; BPE of {} tokens; {DRAWS} draws a sequence; \
         samples of {} tokens in T = {STEPS} steps.\n",
        train.steps,
        train.batch_size * train.accumulate,
        model.seq_len,
        model.hidden,
        model.blocks,
        model.heads,
        settings.tokenizer.vocab_size,
        model.seq_len,
    );
    println!(
        "| model | bits per character | what it is | joint objective, nats per token (no likelihood) | training, s | \
         evaluations a sample | s a sample |\n|---|---|---|---|---|---|---|"
    );
    for row in rows {
        let kind = match row.bound.kind {
            submask::likelihood::Kind::Exact => "exact",
            submask::likelihood::Kind::UpperBound => "upper bound",
            submask::likelihood::Kind::Surrogate => "surrogate",
        };
        let joint = row.joint.as_ref().map_or("–".to_owned(), measured);
        println!(
            "| {} | {} | {kind} | {joint} | {:.0} | {:.0} | {:.2} |",
            row.name,
            measured(&row.bound),
            row.train_seconds,
            row.evaluations,
            row.sample_seconds
        );
    }
}

fn measured(figure: &Figure) -> String {
    match figure.standard_error {
        Some(error) => format!("{:.3} ± {error:.3}", figure.value),
        None => format!("{:.3}", figure.value),
    }
}
