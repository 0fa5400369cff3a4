//! Runs that are made once.

use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use submask::Compute;
use submask::train::settings::RunSettings;
use submask::train::{RunRequest, run};

/// What an experiment returns.
pub type Fallible<T = ()> = Result<T, Box<dyn std::error::Error>>;

/// Trains into the folder `out` unless that is done; returns the seconds that it took.
///
/// # Errors
/// Those of the run, and of the file that keeps the seconds.
pub fn train_once(out: &Path, settings: RunSettings) -> Fallible<f64> {
    let clock = out.join("seconds.txt");
    if let Ok(seconds) = std::fs::read_to_string(&clock) {
        return Ok(seconds.trim().parse()?);
    }
    let request =
        RunRequest { settings, out: out.to_path_buf(), resume: false, init: None, compute: Compute::cpu() };
    let started = Instant::now();
    run(&request, &mut |_: &_| {}, &AtomicBool::new(false))?;
    let seconds = started.elapsed().as_secs_f64();
    std::fs::write(&clock, format!("{seconds}\n"))?;
    Ok(seconds)
}
