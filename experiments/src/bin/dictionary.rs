//! The dictionary at equal compute: the autoregressive baseline, the ordinary masked diffusion model (ℓ = 1),
//! and partial masking with ℓ = 2, 4, 8, trained with the joint and with the marginal objective.
//!
//! `cargo run --release -p submask-experiments --bin dictionary -- FOLDER [STEPS]` trains all of them into FOLDER (runs
//! that are there already are reused) and prints the table of `docs/experiments.md`.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use submask::backbone::autoregressive::AutoregressiveConfig;
use submask::model::{Estimator, EvaluateRequest, NetworkConfig};
use submask::objective::Objective;
use submask::train::event::Event;
use submask::train::settings::{RunData, RunSettings};
use submask::train::{RunRequest, run};
use submask::{Compute, Figure, Model, Request, Unobserved};
use submask_experiments::{Fallible, held_out_text};

/// Held-out sequences that are evaluated, and draws of each.
const SEQUENCES: u64 = 256;
const DRAWS: usize = 8;

/// Sampled sequences, and steps of the sampler.
const SAMPLES: usize = 16;
const STEPS: usize = 128;

/// Width, attention heads and blocks of the networks.
const HIDDEN: usize = 128;
const HEADS: usize = 4;
const BLOCKS: usize = 2;

struct Variant {
    name: &'static str,
    autoregressive: bool,
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

fn main() -> Fallible {
    let mut args = std::env::args().skip(1);
    let folder = PathBuf::from(args.next().ok_or("give a folder for the runs")?);
    let steps = args.next().map_or(Ok(1000), |steps| steps.parse())?;
    let base = settings(&folder, steps)?;
    let rows = variants().iter().map(|variant| row(variant, &base, &folder)).collect::<Fallible<Vec<_>>>()?;
    print_table(&base, &rows);
    Ok(())
}

fn variants() -> Vec<Variant> {
    let diffusion =
        |name, subtokens, objective| Variant { name, autoregressive: false, subtokens, objective };
    let baseline = Variant { autoregressive: true, ..diffusion("autoregressive", 1, Objective::Joint) };
    vec![
        baseline,
        diffusion("MDM (ℓ = 1)", 1, Objective::Joint),
        diffusion("Prime ℓ = 2, joint", 2, Objective::Joint),
        diffusion("Prime ℓ = 2, marginal", 2, Objective::Marginal),
        diffusion("Prime ℓ = 4, joint", 4, Objective::Joint),
        diffusion("Prime ℓ = 4, marginal", 4, Objective::Marginal),
        diffusion("Prime ℓ = 8, joint", 8, Objective::Joint),
        diffusion("Prime ℓ = 8, marginal", 8, Objective::Marginal),
    ]
}

/// The dictionary preset with a smaller network, so that eight runs fit a coffee break.
fn settings(folder: &Path, steps: u64) -> Fallible<RunSettings> {
    let preset = include_str!("../../../crates/submask-cli/presets/dictionary.toml");
    let mut settings: RunSettings = toml::from_str(preset)?;
    if let RunData::Text(data) = &mut settings.data {
        data.cache = folder.join("data");
    }
    if let NetworkConfig::Diffusion(sizes) = &mut settings.network {
        (sizes.hidden, sizes.heads, sizes.blocks) = (HIDDEN, HEADS, BLOCKS);
    }
    settings.train.steps = steps;
    settings.train.validate_every = steps;
    settings.train.checkpoint_every = steps;
    settings.train.final_sequences = 1;
    settings.train.final_draws = 1;
    settings.train.final_samples = 0;
    Ok(settings)
}

/// The settings of a variant.
fn varied(base: &RunSettings, variant: &Variant) -> RunSettings {
    let mut settings = base.clone();
    if variant.autoregressive {
        settings.network = NetworkConfig::Autoregressive(AutoregressiveConfig {
            hidden: HIDDEN,
            heads: HEADS,
            blocks: BLOCKS,
            seq_len: base.network.seq_len().unwrap_or(0),
            dropout: base.network.dropout(),
        });
    }
    settings.codes.subtokens = variant.subtokens;
    settings.train.objective = variant.objective;
    settings
}

fn row(variant: &Variant, base: &RunSettings, folder: &Path) -> Fallible<Row> {
    let settings = varied(base, variant);
    let slug: String = variant.name.chars().filter(char::is_ascii_alphanumeric).collect();
    let out = folder.join(format!("{slug}-{}", settings.train.steps));
    let seconds = train(variant.name, &settings, &out)?;
    let model = Model::open(&out)?;
    let held_out = held_out_text(&out, &settings, &model, SEQUENCES)?;
    let session = model.session(&Compute::cpu())?;
    let evaluate = |estimator| -> Fallible<Figure> {
        let request = EvaluateRequest { draws: DRAWS, ..EvaluateRequest::new(estimator) };
        let figures = session.evaluate(&request, &held_out)?;
        figures.into_iter().next().ok_or_else(|| "an evaluation without a figure".into())
    };
    let bound = evaluate(session.usual_estimator())?;
    let joint = (!variant.autoregressive).then(|| evaluate(Estimator::JointObjective)).transpose()?;
    let started = Instant::now();
    let mut request = Request { num: SAMPLES, ..session.request() };
    request.sampling.steps = STEPS;
    let generated = session.generate(&request, &mut Unobserved)?;
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
fn train(name: &str, settings: &RunSettings, out: &Path) -> Fallible<f64> {
    let clock = out.join("seconds");
    if let Ok(seconds) = std::fs::read_to_string(&clock) {
        return Ok(seconds.trim().parse()?);
    }
    let request = RunRequest {
        settings: settings.clone(),
        out: out.to_path_buf(),
        resume: false,
        init: None,
        compute: Compute::cpu(),
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

fn print_table(settings: &RunSettings, rows: &[Row]) {
    let train = &settings.train;
    let seq_len = settings.network.seq_len().unwrap_or(0);
    let vocab_size = settings.tokenizer.as_ref().map_or(0, |tokenizer| tokenizer.vocab_size);
    println!(
        "{} steps of {} × {seq_len} tokens; d = {HIDDEN}, {BLOCKS} blocks, {HEADS} heads; BPE of {vocab_size} tokens; \
         {DRAWS} draws per sequence; samples of {seq_len} tokens in T = {STEPS} steps.\n",
        train.steps,
        train.batch_size * train.accumulate,
    );
    println!(
        "| model | bits per character | what it is | joint objective, nats per token (no likelihood) | training, s | \
         evaluations per sample | s per sample |\n|---|---|---|---|---|---|---|"
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
