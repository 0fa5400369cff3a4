//! Named weights of a network, declared once: name, shape and initialisation in definition order.

use std::collections::HashMap;
use std::path::Path;

use burn::tensor::{Device, Tensor, TensorData};

use crate::ops::{is_cpu, transposed};
use crate::random::{Draws, Purpose};
use crate::{Error, Result};

/// How a weight starts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Init {
    /// U(−r, r).
    Uniform(f64),
    /// N(0, s²), given s.
    Normal(f64),
    /// N(0, s²) in all rows but the last, which is zero, given s.
    NormalButLastRow(f64),
    /// All zero.
    Zeros,
    /// All one.
    Ones,
}

/// Declaration of one weight.
#[derive(Clone, Debug, PartialEq)]
pub struct Parameter {
    /// Name, as the reference implementation's `state_dict` has it.
    pub name: String,
    /// Shape.
    pub shape: Vec<usize>,
    /// Initialisation.
    pub init: Init,
    /// Whether it is the weight of a linear layer that multiplies many rows: inference on the CPU then keeps it by columns,
    /// as single-precision products read it.
    pub multiplies_many: bool,
}

impl Parameter {
    /// A weight of any shape.
    pub fn new(name: impl Into<String>, shape: &[usize], init: Init) -> Self {
        Self { name: name.into(), shape: shape.to_vec(), init, multiplies_many: false }
    }

    /// A linear layer's `weight` [out, in] and, if asked for, `bias` \[out\]: U(−1/√in, 1/√in).
    pub fn linear(prefix: &str, outer: usize, inner: usize, bias: bool) -> Vec<Self> {
        Self::linear_with(prefix, outer, inner, bias, Init::Uniform(1.0 / (inner as f64).sqrt()))
    }

    /// A linear layer of the hidden states of all positions.
    pub fn linear_of_many(prefix: &str, outer: usize, inner: usize, bias: bool) -> Vec<Self> {
        let mut parameters = Self::linear(prefix, outer, inner, bias);
        let weight = parameters.remove(0).of_many();
        parameters.insert(0, weight);
        parameters
    }

    /// The same weight, of a linear layer of the hidden states of all positions.
    pub fn of_many(self) -> Self {
        Self { multiplies_many: true, ..self }
    }

    /// A linear layer with another initialisation.
    pub fn linear_with(prefix: &str, outer: usize, inner: usize, bias: bool, init: Init) -> Vec<Self> {
        let mut parameters = vec![Self::new(format!("{prefix}.weight"), &[outer, inner], init)];
        if bias {
            parameters.push(Self::new(format!("{prefix}.bias"), &[outer], init));
        }
        parameters
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether it has no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Initial values under `seed`, drawn by the parameter's place in the definition.
    pub fn initial(&self, seed: u64, index: usize) -> Vec<f32> {
        let draws = Draws::new(seed, Purpose::Init);
        let drawn = |value: &dyn Fn(u32) -> f64| (0..self.len()).map(|i| value(i as u32) as f32).collect();
        match self.init {
            Init::Zeros => vec![0.0; self.len()],
            Init::Ones => vec![1.0; self.len()],
            Init::Uniform(radius) => drawn(&|i| radius * (2.0 * draws.uniform(index as u64, i, 0) - 1.0)),
            Init::Normal(deviation) => drawn(&|i| deviation * draws.normal(index as u64, i, 0)),
            Init::NormalButLastRow(deviation) => {
                let last = self.len() - self.len() / self.shape[0];
                drawn(&|i| {
                    if (i as usize) < last { deviation * draws.normal(index as u64, i, 0) } else { 0.0 }
                })
            }
        }
    }
}

/// Raw values by name: shape and elements.
pub type RawWeights = HashMap<String, (Vec<usize>, Vec<f32>)>;

/// Puts `raw` into the order of `parameters`.
///
/// # Errors
/// [`Error::Format`] at `source` naming every weight that is missing, not used, or of another shape.
pub fn arrange(parameters: &[Parameter], mut raw: RawWeights, source: &Path) -> Result<Vec<Vec<f32>>> {
    let mut problems = Vec::new();
    let mut values = Vec::with_capacity(parameters.len());
    for parameter in parameters {
        match raw.remove(&parameter.name) {
            None => problems.push(format!("{} {:?} is missing", parameter.name, parameter.shape)),
            Some((shape, _)) if shape != parameter.shape => {
                problems.push(format!("{} has shape {shape:?}, not {:?}", parameter.name, parameter.shape));
            }
            Some((_, elements)) => values.push(elements),
        }
    }
    let mut unused: Vec<_> = raw.into_keys().collect();
    unused.sort();
    problems.extend(unused.into_iter().map(|name| format!("{name} belongs to no layer")));
    if problems.is_empty() { Ok(values) } else { Err(Error::format(source, problems.join("; "))) }
}

/// Weights of a network on a device, in definition order.
#[derive(Clone, Debug)]
pub struct Weights {
    shapes: Vec<Vec<usize>>,
    tensors: Vec<Tensor<1>>,
    /// Whether the elements stand column after column.
    by_columns: Vec<bool>,
    index: HashMap<String, usize>,
}

impl Weights {
    /// Puts values (in the order and of the sizes of `parameters`) on a device. On an autodiff device they
    /// are leaves whose gradients are kept.
    pub fn new(parameters: &[Parameter], values: &[Vec<f32>], device: &Device) -> Self {
        let by_columns: Vec<bool> = parameters
            .iter()
            .map(|parameter| parameter.multiplies_many && !device.is_autodiff() && is_cpu(device))
            .collect();
        let tensors = parameters
            .iter()
            .zip(values)
            .zip(&by_columns)
            .map(|((parameter, values), by_columns)| {
                let values = match by_columns {
                    true => transposed(values, parameter.shape[0], parameter.shape[1]),
                    false => values.clone(),
                };
                let tensor = Tensor::from_data(TensorData::new(values, [parameter.len()]), device);
                if device.is_autodiff() { tensor.require_grad() } else { tensor }
            })
            .collect();
        Self {
            by_columns,
            shapes: parameters.iter().map(|parameter| parameter.shape.clone()).collect(),
            tensors,
            index: parameters.iter().enumerate().map(|(i, parameter)| (parameter.name.clone(), i)).collect(),
        }
    }

    /// The weight `name`, which the network has declared with D dimensions.
    pub fn get<const D: usize>(&self, name: &str) -> Tensor<D> {
        let index = self.index[name];
        let shape: [usize; D] =
            self.shapes[index].as_slice().try_into().expect("a network knows its own shapes");
        let tensor = self.tensors[index].clone();
        if self.by_columns[index] {
            let mut transposed = shape;
            transposed.swap(0, 1);
            return tensor.reshape(transposed).swap_dims(0, 1);
        }
        tensor.reshape(shape)
    }

    /// The flat tensors in definition order, as they are stored: on an autodiff device row after row.
    pub fn tensors(&self) -> &[Tensor<1>] {
        &self.tensors
    }

    /// The device the weights are on.
    pub fn device(&self) -> Device {
        self.tensors[0].device()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_weight_that_is_kept_by_columns_is_the_same_weight() {
        let parameters = Parameter::linear_of_many("layer", 37, 19, true);
        let values: Vec<Vec<f32>> = (0..2).map(|index| parameters[index].initial(1, index)).collect();
        let given = TensorData::new(values[0].clone(), [37, 19]);
        for device in [Device::flex(), Device::flex().autodiff()] {
            let weights = Weights::new(&parameters, &values, &device);
            assert_eq!(weights.by_columns, [!device.is_autodiff(), false]);
            weights.get::<2>("layer.weight").into_data().assert_eq(&given, true);
        }
    }
}
