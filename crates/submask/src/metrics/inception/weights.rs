//! The weights in a file, checked, and batch norm folded into the convolutions.

use std::collections::BTreeMap;
use std::path::Path;

use super::InceptionWeights;
use super::layers::{Layer, NORM, parameters};
use crate::import::Foreign;
use crate::{Error, Result};

/// Shapes and numbers by name.
pub(super) type RawWeights = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

/// ε of every batch norm.
pub(super) const EPSILON: f64 = 1e-3;

/// How many problems an error names one by one.
const NAMED: usize = 5;

/// Reads all weights but those that are not needed.
pub(super) fn read(path: &Path) -> Result<RawWeights> {
    let file = Foreign::open(path)?;
    let needed = |name: &str| !name.starts_with("AuxLogits.") && !name.ends_with(".num_batches_tracked");
    let tensors = file.raw().iter().filter(|tensor| needed(&tensor.name));
    tensors.map(|tensor| Ok((tensor.name.clone(), (tensor.shape.clone(), file.read(tensor)?)))).collect()
}

/// Which of the known weights these are, by the number of classes.
pub(super) fn classes_of(raw: &RawWeights, source: &Path) -> Result<InceptionWeights> {
    let known = "1008 are the FID weights (pt_inception-2015-12-05), 1000 torchvision's (IMAGENET1K_V1)";
    let Some((shape, _)) = raw.get("fc.bias") else {
        let problem = format!(
            "no weight fc.bias, which tells which Inception-v3 it is; there are {} weights{}",
            raw.len(),
            raw.keys().next().map(|name| format!(", such as {name}")).unwrap_or_default()
        );
        return Err(Error::format(source, problem));
    };
    [InceptionWeights::Fid, InceptionWeights::Torchvision]
        .into_iter()
        .find(|weights| *shape == [weights.classes()])
        .ok_or_else(|| Error::format(source, format!("fc.bias has shape {shape:?}; of its numbers, {known}")))
}

/// Checks that `raw` is whole and holds nothing else.
pub(super) fn check(raw: &RawWeights, weights: InceptionWeights, source: &Path) -> Result<()> {
    let expected: BTreeMap<_, _> = parameters(weights.classes()).into_iter().collect();
    let mut problems = Vec::new();
    for (name, shape) in &expected {
        match raw.get(name) {
            None => problems.push(format!("{name} {shape:?} is missing")),
            Some((given, _)) if given != shape => {
                problems.push(format!("{name} has shape {given:?}, not {shape:?}"));
            }
            Some((_, values)) if !values.iter().all(|value| value.is_finite()) => {
                problems.push(format!("{name} holds numbers that are not finite"));
            }
            Some(_) => {}
        }
    }
    let unused = raw.keys().filter(|name| !expected.contains_key(*name));
    problems.extend(unused.map(|name| format!("{name} belongs to no layer of Inception-v3")));
    if problems.is_empty() {
        return Ok(());
    }
    let count = problems.len();
    let more = if count > NAMED { format!("; and {} more", count - NAMED) } else { String::new() };
    problems.truncate(NAMED);
    Err(Error::format(
        source,
        format!("{count} weights are not as they should be: {}{more}", problems.join("; ")),
    ))
}

/// A convolution's kernel [outer, inner, h, w] and bias \[outer\] with the norm after it:
/// kernel·γ/√(σ² + ε), β − μ·γ/√(σ² + ε). The weights have been checked.
pub(super) fn folded(raw: &mut RawWeights, layer: &Layer) -> (Vec<f32>, Vec<f32>) {
    let mut take = |name: String| raw.remove(&name).map(|(_, values)| values).unwrap_or_default();
    let mut kernel = take(format!("{}.conv.weight", layer.name));
    let [gamma, beta, mean, variance] = NORM.map(|part| take(format!("{}.bn.{part}", layer.name)));
    let scale: Vec<f64> = gamma
        .iter()
        .zip(&variance)
        .map(|(gamma, variance)| f64::from(*gamma) / (f64::from(*variance) + EPSILON).sqrt())
        .collect();
    let fan_in = layer.inner * layer.kernel[0] * layer.kernel[1];
    for (channel, scale) in kernel.chunks_exact_mut(fan_in).zip(&scale) {
        channel.iter_mut().for_each(|weight| *weight = (f64::from(*weight) * scale) as f32);
    }
    let shift =
        |((beta, mean), scale): ((&f32, &f32), &f64)| (f64::from(*beta) - f64::from(*mean) * scale) as f32;
    let bias = beta.iter().zip(&mean).zip(&scale).map(shift).collect();
    (kernel, bias)
}
