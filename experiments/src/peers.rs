//! What the sides of the comparisons in `bench/peers/` share: drawn weights, the files that PyTorch reads, a step of
//! the optimiser, and the median of several times.

use std::error::Error;
use std::path::Path;
use std::time::Instant;

use burn::tensor::Tensor;
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use submask::backbone::weights::{Init, Parameter, Weights};
use submask::train::optimizer::{AdamW, GradientRange, StepSize};

pub type Outcome<T> = Result<T, Box<dyn Error>>;

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
