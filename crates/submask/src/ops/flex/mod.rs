//! Fused kernels of the CPU device, as Burn backend extensions with hand-written backward passes.

mod attention;
mod conv;
mod elementwise;
mod gemm;
mod group_norm;
mod head_loss;
mod linear;
mod norm;
mod rms_norm;
mod swiglu;

use burn::backend::TensorMetadata;
use burn::tensor::{Bytes, DType, Shape};
use burn_flex::{FlexTensor, Layout};

pub use attention::attention;
pub use conv::conv;
pub use elementwise::{gated_residual, gelu};
pub use group_norm::group_norm;
pub use head_loss::head_loss;
pub use linear::linear;
pub use norm::modulated_norm;
pub use rms_norm::rms_norm;
pub use swiglu::swiglu;

/// A contiguous tensor of `values`.
fn tensor(values: Vec<f32>, shape: impl Into<Shape>) -> FlexTensor {
    FlexTensor::new(Bytes::from_elems(values), Layout::contiguous(shape.into()), DType::F32)
}

/// The same tensor with its elements in order from the start of its storage.
fn contiguous(x: FlexTensor) -> FlexTensor {
    if x.is_contiguous() && x.layout().start_offset() == 0 { x } else { x.to_contiguous() }
}

/// The elements of a contiguous tensor.
fn values(x: &FlexTensor) -> &[f32] {
    &x.storage::<f32>()[..x.layout().num_elements()]
}

fn dims<const D: usize>(x: &FlexTensor) -> [usize; D] {
    x.shape().dims()
}

/// A buffer whose every element the caller writes before anything reads it.
fn buffer(len: usize) -> Vec<f32> {
    // Zeroed pages come from the operating system; a fresh allocation costs no pass over memory.
    vec![0.0; len]
}

/// Hands a gradient to a parent that wants one; nothing is computed for one that does not.
macro_rules! register {
    ($grads:expr, $parent:expr, $gradient:expr) => {
        if let Some(parent) = $parent {
            $grads.register::<burn::backend::Flex>(parent.id, $gradient);
        }
    };
}
use register;
