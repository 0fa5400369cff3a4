//! Weights of linear layers, as tensors or packed.

use burn::tensor::{Device, Tensor, TensorData};

use super::{PackedWeight, Precision};

/// A weight [out, in] of a linear layer.
#[allow(clippy::large_enum_variant, reason = "tensors of GPUs are large, and a layer has one")]
#[derive(Clone, Debug)]
pub enum Factor {
    /// A tensor.
    Tensor(Tensor<2>),
    /// A weight of inference, packed for the CPU's products.
    Packed(Packed),
}

/// See [`Factor::Packed`].
#[derive(Clone, Debug)]
pub struct Packed {
    pub(super) weight: PackedWeight,
    device: Device,
}

impl Packed {
    /// Packs the elements of a weight, which stand row after row, rounded if the precision is that of bfloat16.
    pub(crate) fn new(
        values: &[f32],
        outer: usize,
        inner: usize,
        precision: Precision,
        device: &Device,
    ) -> Self {
        Self { weight: PackedWeight::new(values, outer, inner, precision), device: device.clone() }
    }
}

impl Factor {
    /// The first `count` rows, of at least as many.
    pub fn first(self, count: usize) -> Self {
        match self {
            Self::Tensor(weight) => Self::Tensor(weight.narrow(0, 0, count)),
            Self::Packed(Packed { weight, device }) => {
                Self::Packed(Packed { weight: weight.first(count), device })
            }
        }
    }

    /// The weight as a tensor: a copy of one that is packed.
    pub fn into_tensor(self) -> Tensor<2> {
        match self {
            Self::Tensor(weight) => weight,
            Self::Packed(Packed { weight, device }) => {
                Tensor::from_data(TensorData::new(weight.unpacked(), weight.shape()), &device)
            }
        }
    }
}

impl From<Tensor<2>> for Factor {
    fn from(weight: Tensor<2>) -> Self {
        Self::Tensor(weight)
    }
}
