//! Operations of CUDA devices: products by cuBLASLt, and kernels of our own in CUDA C++ where Burn's would take several
//! passes over memory or launches. Each gives what its composition in [`super::plain`] gives, and the same bits for a
//! row whatever other rows stand beside it: no sum is split by the number of rows, and none is added atomically.

mod columns;
mod device;
mod linear;
mod product;

pub use device::is_cuda;
pub use linear::{linear, linear_gelu};
