//! The quick start's training with fused and with plain operations: the bounds agree within their errors.
//!
//! `cargo run --release -p submask-experiments --bin kernels -- FOLDER [STEPS]` trains both into FOLDER, which takes about
//! half an hour at the preset's steps, and prints the figures of `docs/experiments.md`.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use submask::Compute;
use submask::train::settings::{RunData, RunSettings};
use submask::train::{Outcome, RunRequest, run};

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let folder = PathBuf::from(args.next().ok_or("give a folder for the runs")?);
    let steps = args.next().map(|steps| steps.parse()).transpose()?;
    println!("| operations | figure | value | training and evaluation, s |\n|---|---|---|---|");
    for (name, compute) in [("fused", Compute::cpu()), ("plain", Compute::reference())] {
        train(name, compute, &folder, steps)?;
    }
    Ok(())
}

/// Trains the preset `dictionary` and prints its figures.
fn train(name: &str, compute: Compute, folder: &Path, steps: Option<u64>) -> Result<(), Box<dyn Error>> {
    let preset = include_str!("../../../crates/submask-cli/presets/dictionary.toml");
    let mut settings: RunSettings = toml::from_str(preset)?;
    let RunData::Text(data) = &mut settings.data else { return Err("the preset is of text".into()) };
    data.cache = folder.join("data");
    settings.train.steps = steps.unwrap_or(settings.train.steps);
    let request = RunRequest { settings, out: folder.join(name), resume: false, init: None, compute };
    let started = Instant::now();
    let Outcome::Finished(summary) = run(&request, &mut |_: &_| {}, &AtomicBool::new(false))? else {
        return Err("nobody stops this".into());
    };
    let seconds = started.elapsed().as_secs_f64();
    for figure in &summary.validation.figures {
        let error = figure.standard_error.unwrap_or(f64::NAN);
        println!(
            "| {name} | {} | {:.4} ± {error:.4} {} | {seconds:.0} |",
            figure.name, figure.value, figure.unit
        );
    }
    Ok(())
}
