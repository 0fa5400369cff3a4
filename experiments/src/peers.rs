//! What our sides of the comparisons in `bench/peers/` share: the device, drawn weights, the files that PyTorch reads, steps
//! of the optimiser, and times.

use std::error::Error;
use std::path::Path;
use std::time::Instant;

use burn::tensor::Tensor;
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use submask::backbone::weights::{Init, Parameter, Weights};
use submask::train::optimizer::{AdamW, AdamWConfig, GradientRange, StepSize};
use submask::train::settings::{Decay, RunSettings, TrainSettings};
use submask::train::stepper::{self, Stepper};
use submask::train::{SlotLoss, TrainState};
use submask::{Compute, DeviceChoice, Precision};

pub type Outcome<T> = Result<T, Box<dyn Error>>;

/// Steps that are waited for, one by one, before those that are timed together: the first compiles a GPU's kernels.
pub const WAITED: usize = 3;

/// The device that `DEVICE` names in the environment, by default `cpu`, in the precision of `PRECISION`, by default `fp32`.
pub fn compute() -> Outcome<Compute> {
    let named =
        |variable: &str, default: &str| std::env::var(variable).unwrap_or_else(|_| default.to_owned());
    let device: DeviceChoice = named("DEVICE", "cpu").parse()?;
    let precision: Precision = named("PRECISION", "fp32").parse()?;
    Ok(Compute::open(device, precision)?)
}

/// What the device's allocator has reserved, in MB. It gives nothing back, so that this is its peak.
pub fn device_megabytes(compute: &Compute) -> Option<f64> {
    Some(compute.device().memory_pool_usage()?.bytes_reserved as f64 / 1e6)
}

/// Whether measurements are asked for one by one, by lines of standard input.
pub fn has_rounds() -> bool {
    std::env::var("ROUNDS").is_ok_and(|value| value == "1")
}

/// One measurement, with what was known before. With `ROUNDS=1` in the environment what was known is printed, then one
/// measurement for each line of standard input, so that two programs can take turns without starting again.
pub fn in_rounds(
    ready: serde_json::Value,
    mut measure: impl FnMut() -> Outcome<serde_json::Value>,
) -> Outcome<serde_json::Value> {
    let with = |ready: &serde_json::Value, measured: serde_json::Value| {
        let mut all = ready.clone();
        if let (Some(all), serde_json::Value::Object(measured)) = (all.as_object_mut(), measured) {
            all.extend(measured);
        }
        all
    };
    if has_rounds() {
        println!("{ready}");
        for line in std::io::stdin().lines() {
            line?;
            println!("{}", with(&ready, measure()?));
        }
        std::process::exit(0);
    }
    Ok(with(&ready, measure()?))
}

/// Settings of training as in a run, with clipping and averaging; nothing is so long that it is clipped.
pub fn run_settings(learning_rate: f64) -> Outcome<TrainSettings> {
    let preset = include_str!("../../crates/submask-cli/presets/dictionary.toml");
    Ok(TrainSettings {
        learning_rate,
        warmup_steps: 0,
        decay: Decay::Constant,
        clip: f64::from(f32::MAX),
        adamw: AdamWConfig::default(),
        ..toml::from_str::<RunSettings>(preset)?.train
    })
}

/// A stepper of a run that begins with `values`.
pub fn open_stepper(
    learning_rate: f64,
    parameters: &[Parameter],
    values: Vec<Vec<f32>>,
    compute: &Compute,
) -> Outcome<Box<dyn Stepper>> {
    let settings = run_settings(learning_rate)?;
    let state = TrainState::new(values, settings.adamw, parameters);
    Ok(stepper::open(&settings, parameters, state, compute))
}

/// The losses of the first steps, and in rounds the time of one of COUNT steps, none of which waits for the one before it: in
/// milliseconds, and how long handing over took. `known` is said, too.
pub fn train_as_in_a_run(
    mut stepper: Box<dyn Stepper>,
    slots: &dyn SlotLoss,
    compute: &Compute,
    count: usize,
    known: serde_json::Value,
) -> Outcome<serde_json::Value> {
    let (mut losses, mut waited, mut step) = (Vec::new(), Vec::new(), 0);
    for _ in 0..WAITED {
        let start = Instant::now();
        step += 1;
        stepper.step(step, slots)?;
        losses.push(stepper.report()?.loss);
        waited.push(start.elapsed().as_secs_f64() * 1e3);
    }
    let mut ready = serde_json::json!({
        "losses": losses, "ms_first": waited.first(), "ms_waited": waited.last(), "device": compute.device_name(),
    });
    if let (Some(ready), serde_json::Value::Object(known)) = (ready.as_object_mut(), known) {
        ready.extend(known);
    }
    in_rounds(ready, || {
        let start = Instant::now();
        for _ in 0..count {
            step += 1;
            stepper.step(step, slots)?;
        }
        let ms_host = start.elapsed().as_secs_f64() * 1e3 / count as f64;
        stepper.sync()?;
        let ms = start.elapsed().as_secs_f64() * 1e3 / count as f64;
        Ok(serde_json::json!({ "ms": ms, "ms_host": ms_host, "device_mb": device_megabytes(compute) }))
    })
}

/// Initial values, the same every time. Layers that start at zero are drawn too, from U(−radius, radius), so that no
/// gradient is zero.
pub fn drawn_values(parameters: &[Parameter], radius: f64) -> Vec<Vec<f32>> {
    let drawn = |parameter: &Parameter| match parameter.init {
        Init::Zeros => Parameter { init: Init::Uniform(radius), ..parameter.clone() },
        _ => parameter.clone(),
    };
    parameters.iter().enumerate().map(|(i, parameter)| drawn(parameter).initial(1, i)).collect()
}

/// A tensor of a file: name, shape, type and bytes.
pub type Stored = (String, Vec<usize>, Dtype, Vec<u8>);

pub fn floats(name: &str, shape: &[usize], values: &[f32]) -> Stored {
    let bytes = values.iter().flat_map(|x| x.to_le_bytes()).collect();
    (name.to_owned(), shape.to_vec(), Dtype::F32, bytes)
}

pub fn integers(name: &str, shape: &[usize], values: &[u32]) -> Stored {
    let bytes = values.iter().flat_map(|x| x.to_le_bytes()).collect();
    (name.to_owned(), shape.to_vec(), Dtype::I32, bytes)
}

/// Writes weights and `others` into `case.safetensors`, and `settings` into `case.json`.
pub fn write_case(
    folder: &Path,
    parameters: &[Parameter],
    values: &[Vec<f32>],
    others: impl IntoIterator<Item = Stored>,
    settings: &serde_json::Value,
) -> Outcome<()> {
    std::fs::create_dir_all(folder)?;
    let weights = parameters.iter().zip(values);
    let weights = weights.map(|(parameter, values)| floats(&parameter.name, &parameter.shape, values));
    let tensors: Vec<Stored> = weights.chain(others).collect();
    let views = tensors
        .iter()
        .map(|(name, shape, dtype, bytes)| Ok((name, TensorView::new(*dtype, shape.clone(), bytes)?)))
        .collect::<Outcome<Vec<_>>>()?;
    safetensors::serialize_to_file(views, None, &folder.join("case.safetensors"))?;
    std::fs::write(folder.join("case.json"), settings.to_string())?;
    Ok(())
}

/// Backward pass of `loss` and a step of the optimiser; gives the loss.
pub fn descend(
    loss: Tensor<1>,
    weights: &Weights,
    values: &mut [Vec<f32>],
    optimizer: &mut AdamW,
    learning_rate: f64,
) -> Outcome<f32> {
    let value = loss.clone().into_scalar::<f32>();
    let mut gradients = loss.backward();
    let gradients = weights
        .tensors()
        .map(|tensor| {
            let gradient = tensor.grad_remove(&mut gradients).ok_or("a weight without gradient")?;
            gradient.try_into_vec_as::<f32>().map_err(|error| format!("{error:?}").into())
        })
        .collect::<Outcome<Vec<_>>>()?;
    let size = StepSize { learning_rate, gradient_factor: 1.0 };
    optimizer.step(values, &GradientRange::of_all(gradients), size, None)?;
    Ok(value)
}

/// Median time in milliseconds of `count` calls after the first.
pub fn median(count: usize, mut call: impl FnMut() -> Outcome<()>) -> Outcome<f64> {
    let mut times = Vec::new();
    for _ in 0..=count {
        let start = Instant::now();
        call()?;
        times.push(start.elapsed().as_secs_f64() * 1e3);
    }
    let mut times = times.split_off(1);
    times.sort_by(f64::total_cmp);
    Ok(times[times.len() / 2])
}
