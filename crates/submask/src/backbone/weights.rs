//! The weights of a network: what is declared of each (name, shape, initialisation), and their values on a device.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use burn::tensor::{Device, FloatDType, Tensor, TensorData};

use super::declaration::Handle;
use crate::ops::{Engine, Factor, Kernels, Packed, Precision};
use crate::random::{Draws, Purpose};
use crate::{Error, Result};

/// How a weight starts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Init {
    /// Uniformly between −r and r.
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

/// How inference keeps a weight. Training keeps all by rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// Row after row.
    ByRows,
    /// As [`Factor::Packed`], for products in a precision.
    Packed(Precision),
    /// Row after row, rounded to bfloat16.
    Bf16,
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
    /// How inference keeps it.
    pub kept: Kept,
}

impl Parameter {
    /// A weight of any shape.
    pub fn new(name: impl Into<String>, shape: &[usize], init: Init) -> Self {
        Self { name: name.into(), shape: shape.to_vec(), init, kept: Kept::ByRows }
    }

    /// The same weight [out, in] of a linear layer that `kernels` compute; others stay as they are.
    pub fn of_linear(self, kernels: Kernels) -> Self {
        match (kernels.engine(), kernels.precision()) {
            (Engine::Fused, precision) if self.shape.len() == 2 => {
                Self { kept: Kept::Packed(precision), ..self }
            }
            (_, Precision::Bf16) if self.shape.len() == 2 => Self { kept: Kept::Bf16, ..self },
            _ => self,
        }
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

/// Whether values of `a` can be those of `b`.
pub fn are_alike(a: &[Parameter], b: &[Parameter]) -> bool {
    let of = |parameter: &Parameter| (parameter.name.clone(), parameter.shape.clone());
    a.iter().map(of).eq(b.iter().map(of))
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
    stored: Vec<Stored>,
    device: Device,
    /// What [`Weights::constants`] made, unless gradients are wanted.
    constants: Option<Arc<OnceLock<Vec<Tensor<2>>>>>,
}

/// The elements of a weight.
#[derive(Clone, Debug)]
enum Stored {
    ByRows(Tensor<1>),
    Bf16(Tensor<1>),
    Packed(Packed),
}

impl Weights {
    /// Puts values (in the order and of the sizes of `parameters`) on a device. On an autodiff device they
    /// are leaves whose gradients are kept.
    pub fn new(parameters: &[Parameter], values: &[Vec<f32>], device: &Device) -> Self {
        let tensor = |values: Vec<f32>| {
            let shape = [values.len()];
            Tensor::from_data(TensorData::new(values, shape), device)
        };
        let stored = parameters
            .iter()
            .zip(values)
            .map(|(parameter, values)| {
                if device.is_autodiff() {
                    return Stored::ByRows(tensor(values.clone()).require_grad());
                }
                match (parameter.kept, parameter.shape.as_slice()) {
                    (Kept::Bf16, _) => Stored::Bf16(tensor(values.clone()).cast(FloatDType::BF16)),
                    (Kept::Packed(precision), &[rows, columns]) => {
                        Stored::Packed(Packed::new(values, rows, columns, precision, device))
                    }
                    _ => Stored::ByRows(tensor(values.clone())),
                }
            })
            .collect();
        Self::stored(parameters, stored, device.clone())
    }

    /// Leaves whose gradients are kept, of flat tensors in the order of `parameters`, row after row; there is one at least.
    pub fn with_gradients(parameters: &[Parameter], tensors: &[Tensor<1>]) -> Self {
        let leaf = |tensor: &Tensor<1>| Stored::ByRows(tensor.clone().autodiff().require_grad());
        let device = tensors[0].device().autodiff();
        Self::stored(parameters, tensors.iter().map(leaf).collect(), device)
    }

    fn stored(parameters: &[Parameter], stored: Vec<Stored>, device: Device) -> Self {
        Self {
            shapes: parameters.iter().map(|parameter| parameter.shape.clone()).collect(),
            stored,
            constants: (!device.is_autodiff()).then(Arc::default),
            device,
        }
    }

    /// A weight.
    ///
    /// # Panics
    /// With a handle of another network's definition.
    pub fn get<const D: usize>(&self, handle: Handle<D>) -> Tensor<D> {
        let shape = self.shapes[handle.0].as_slice();
        let shape: [usize; D] = shape.try_into().expect("the handle is of this definition");
        match &self.stored[handle.0] {
            Stored::ByRows(tensor) => tensor.clone().reshape(shape),
            Stored::Bf16(tensor) => tensor.clone().cast(FloatDType::F32).reshape(shape),
            Stored::Packed(packed) => Factor::Packed(packed.clone()).into_tensor().reshape(shape),
        }
    }

    /// The weight [out, in] of a linear layer, as it is kept.
    ///
    /// # Panics
    /// As [`Self::get`].
    pub fn factor(&self, handle: Handle<2>) -> Factor {
        match (&self.stored[handle.0], self.shapes[handle.0].as_slice()) {
            (Stored::Packed(packed), _) => Factor::Packed(packed.clone()),
            (Stored::Bf16(tensor), &[rows, columns]) => {
                Factor::Tensor(tensor.clone().reshape([rows, columns]))
            }
            _ => Factor::Tensor(self.get(handle)),
        }
    }

    /// What a network makes of its weights alone: made once, or, on an autodiff device, at every call.
    pub fn constants(&self, make: impl FnOnce() -> Vec<Tensor<2>>) -> Vec<Tensor<2>> {
        let Some(constants) = &self.constants else { return make() };
        if let Some(made) = constants.get() {
            return made.clone();
        }
        // Nothing is locked meanwhile: who waits for threads in `make` may be given another evaluation to do.
        let made = make();
        constants.get_or_init(|| made).clone()
    }

    /// The flat tensors of a training step in definition order, row after row.
    pub fn tensors(&self) -> impl Iterator<Item = &Tensor<1>> {
        self.stored.iter().filter_map(|stored| match stored {
            Stored::ByRows(tensor) => Some(tensor),
            Stored::Bf16(_) | Stored::Packed(_) => None,
        })
    }

    /// The device the weights are on.
    pub fn device(&self) -> Device {
        self.device.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::Precision;

    #[test]
    fn a_weight_is_the_same_however_it_is_kept() {
        let device = Device::flex();
        for kernels in [
            Kernels::PLAIN,
            Kernels::FUSED,
            Kernels::FUSED.with_precision(Precision::Bf16).unwrap(),
            Kernels::GPU,
            Kernels::GPU.with_precision(Precision::Bf16).unwrap(),
        ] {
            let weight = Parameter::new("weight", &[37, 19], Init::Uniform(1.0));
            let values = weight.initial(1, 0);
            for parameter in [weight.clone(), weight.of_linear(kernels)] {
                let expected: Vec<f32> = match (parameter.kept, kernels.precision()) {
                    (Kept::ByRows, _) | (_, Precision::Fp32 | Precision::Tf32) => values.clone(),
                    (_, Precision::Bf16) => {
                        values.iter().map(|x| half::bf16::from_f32(*x).to_f32()).collect()
                    }
                };
                let expected = TensorData::new(expected, [37, 19]);
                let values = [values.clone()];
                let weights = Weights::new(std::slice::from_ref(&parameter), &values, &device);
                let weight = Handle::<2>(0);
                weights.get(weight).into_data().assert_eq(&expected, true);
                let factor = weights.factor(weight);
                factor.clone().into_tensor().cast(FloatDType::F32).into_data().assert_eq(&expected, true);
                let first = factor.first(20).into_tensor().cast(FloatDType::F32);
                first.into_data().assert_eq(&weights.get(weight).narrow(0, 0, 20).into_data(), true);

                let trained = Weights::new(&[parameter], &values, &device.clone().autodiff());
                let trained = trained.get(weight).into_data();
                trained.assert_eq(&TensorData::new(values[0].clone(), [37, 19]), true);
            }
        }
    }

    #[test]
    fn constants_are_made_once_unless_they_have_gradients() {
        for (device, expected) in [(Device::flex(), 1), (Device::flex().autodiff(), 3)] {
            let parameter = Parameter::new("weight", &[1], Init::Ones);
            let weights = Weights::new(&[parameter], &[vec![1.0]], &device);
            let mut count = 0;
            for _ in 0..3 {
                weights.constants(|| {
                    count += 1;
                    vec![weights.get(Handle::<1>(0)).unsqueeze()]
                });
            }
            assert_eq!(count, expected);
        }
    }
}
