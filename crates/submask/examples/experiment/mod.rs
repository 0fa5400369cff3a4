//! What the experiments on images and points share.

use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use submask::Device;
use submask::ops::Kernels;
use submask::train::settings::RunSettings;
use submask::train::visual_settings::VisualRunSettings;
use submask::train::{RunRequest, run};

pub type Fallible<T = ()> = Result<T, Box<dyn std::error::Error>>;

/// Trains into the folder `out` unless that is done; returns the seconds that it took.
pub fn train_once(out: &Path, settings: VisualRunSettings) -> Fallible<f64> {
    let clock = out.join("seconds.txt");
    if let Ok(seconds) = std::fs::read_to_string(&clock) {
        return Ok(seconds.trim().parse()?);
    }
    let settings = RunSettings::Visual(Box::new(settings));
    let request = RunRequest {
        settings,
        out: out.to_path_buf(),
        resume: false,
        init: None,
        device: Device::flex(),
        kernels: Kernels::Fused,
    };
    let started = Instant::now();
    run(&request, &mut |_: &_| {}, &AtomicBool::new(false))?;
    let seconds = started.elapsed().as_secs_f64();
    std::fs::write(&clock, format!("{seconds}\n"))?;
    Ok(seconds)
}
