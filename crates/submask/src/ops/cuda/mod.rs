//! Operations of CUDA devices: products by cuBLASLt, and kernels of our own in CUDA C++ where Burn's would take several
//! passes over memory or launches. Each gives what its composition in [`super::plain`] gives, and the same bits for a
//! row whatever other rows stand beside it: no sum is split by the number of rows, and none is added atomically.

mod attention;
mod codes;
mod columns;
mod conv;
mod device;
mod draw;
mod dropout;
mod embedding;
mod epilogue;
mod group_norm;
mod head_loss;
mod linear;
mod mixture;
mod mlp;
mod nccl;
mod norm;
mod optimizer;
mod past_attention;
mod product;
mod residual;
mod residual_norm;
mod rows;
mod several;
mod split;
mod swiglu;

pub use attention::{Attention, MAX_HEAD_WIDTH, attention};
pub use conv::conv;
pub use device::{LEAST_CAPABILITY, capability, is_cuda};
pub use draw::DeviceVisit;
pub use dropout::dropout;
pub use embedding::{embedding, embedding_of};
pub use group_norm::group_norm;
pub use head_loss::head_loss;
#[cfg(test)]
pub use head_loss::head_loss_in_chunks;
pub use linear::{linear, linear_gelu};
pub use mixture::add_prediction;
pub use mlp::mlp;
pub use nccl::{Communicator, UniqueId, unique_id, unique_name};
pub use norm::{modulated_norm, rms_norm};
pub use optimizer::{adamw, add_gradients};
pub use past_attention::{attention_with_past, attention_with_placed, place};
pub use residual::gated_residual;
pub use residual_norm::{residual_norm, residual_rms_norm};
pub use split::split_columns;
pub use swiglu::{silu, swiglu};
