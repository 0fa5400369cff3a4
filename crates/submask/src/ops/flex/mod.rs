//! Fused kernels of the CPU device, as Burn backend extensions with hand-written backward passes.

mod attention;
mod attention_of_one;
mod bf16;
mod conv;
mod elementwise;
mod embedding;
mod fp32;
mod gemm;
mod group_norm;
mod head_loss;
mod linear;
mod norm;
mod packed;
mod past_attention;
mod rms_norm;
mod swiglu;

use std::mem::{ManuallyDrop, MaybeUninit};

use burn::backend::TensorMetadata;
use burn::tensor::{Bytes, DType, Shape};
use burn_flex::{FlexTensor, Layout};

pub use attention::attention;
pub use attention_of_one::attention_of_one;
pub use bf16::{is_native as has_bf16, rounded as rounded_to_bf16};
pub use conv::conv;
pub use elementwise::gated_residual;
pub use embedding::embedding;
pub use group_norm::group_norm;
pub use head_loss::head_loss;
pub use linear::{linear, linear_gelu, packed_linear, packed_linear_gelu};
pub use norm::modulated_norm;
pub use packed::PackedWeight;
pub use past_attention::{
    PastAttention, attention_of_blocks, attention_with_past, attention_with_placed, place,
};
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

/// Room for a result. Zeros in it would cost a pass over memory by one thread.
fn room<T>(len: usize) -> Vec<MaybeUninit<T>> {
    let mut room = Vec::with_capacity(len);
    // SAFETY: the capacity is at least `len`, and these elements need not be initialised.
    unsafe { room.set_len(len) }
    room
}

/// Copies a row into its room, which is as long.
fn write(room: &mut [MaybeUninit<f32>], row: &[f32]) {
    assert_eq!(room.len(), row.len());
    for (room, &x) in room.iter_mut().zip(row) {
        room.write(x);
    }
}

/// The elements of a room that is filled.
///
/// # Safety
/// Every element has been written.
unsafe fn filled<T>(room: Vec<MaybeUninit<T>>) -> Vec<T> {
    let mut room = ManuallyDrop::new(room);
    // SAFETY: the parts are those of a vector whose elements have the same layout and, says the caller, are written.
    unsafe { Vec::from_raw_parts(room.as_mut_ptr().cast(), room.len(), room.capacity()) }
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
