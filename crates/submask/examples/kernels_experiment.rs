//! The quick start's training with fused and with plain operations: the bounds agree within their errors.
//!
//! `cargo run --release --example kernels_experiment -- FOLDER [STEPS]` trains both into FOLDER, which takes about half
//! an hour at the preset's steps, and prints the figures of `docs/experiments.md`.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use burn::tensor::Device;
use submask::ops::Kernels;
use submask::train::settings::{RunSettings, Settings};
use submask::train::{Outcome, RunRequest, run};

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let folder = PathBuf::from(args.next().ok_or("give a folder for the runs")?);
    let steps = args.next().map(|steps| steps.parse()).transpose()?;
    println!("| operations | figure | value | training and evaluation, s |\n|---|---|---|---|");
    for (name, kernels) in [("fused", Kernels::Fused), ("plain", Kernels::Plain)] {
        train(name, kernels, &folder, steps)?;
    }
    Ok(())
}

/// Trains the preset `dictionary` and prints its figures.
fn train(name: &str, kernels: Kernels, folder: &Path, steps: Option<u64>) -> Result<(), Box<dyn Error>> {
    let mut settings: Settings = toml::from_str(include_str!("../../submask-cli/presets/dictionary.toml"))?;
    settings.data.cache = folder.join("data");
    settings.train.steps = steps.unwrap_or(settings.train.steps);
    let request = RunRequest {
        settings: RunSettings::Text(Box::new(settings)),
        out: folder.join(name),
        resume: false,
        init: None,
        device: Device::flex(),
        kernels,
    };
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
