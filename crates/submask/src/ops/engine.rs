//! Who computes operations, and in which precision.

use std::fmt;
use std::str::FromStr;

use crate::{Error, Result};

/// Who computes the operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// Compositions of Burn operations, on any device: the reference of the others, in single precision.
    Plain,
    /// Fused kernels of the CPU device.
    Fused,
    /// The compositions for GPUs: attention keeps no probabilities for the backward pass, and the training loss has
    /// logits of some rows at a time.
    Gpu,
    /// Operations of CUDA devices: cuBLASLt, and kernels in CUDA C++. In bf16 the results of norms, GELU, SwiGLU and attention
    /// are of bfloat16 already, as linear layers take them: cast them where anything else follows.
    #[cfg(feature = "cuda")]
    Cuda,
}

/// In which precision linear layers and attention multiply, and on CUDA devices convolutions, in the forward and in the
/// backward pass. Everything else, softmax among it, is in single precision, and so are sums, weights and the optimiser.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// Single precision.
    #[default]
    Fp32,
    /// Factors are rounded to the 11 significant bits of TF32, on tensor cores of NVIDIA's devices since 2020; products are
    /// added up in single precision.
    Tf32,
    /// Factors are rounded to bfloat16, which has 8 significant bits; products are added up in single precision. On the
    /// CPU the training loss stays in single precision where visible digits leave few tokens; on GPUs inference keeps the
    /// weights so, and through wgpu results are rounded, too.
    Bf16,
}

impl FromStr for Precision {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        match name {
            "fp32" => Ok(Self::Fp32),
            "tf32" => Ok(Self::Tf32),
            "bf16" => Ok(Self::Bf16),
            _ => Err(Error::invalid("precision", name, "fp32, tf32 or bf16")),
        }
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Self::Plain => "compositions",
            Self::Fused => "fused operations of the CPU",
            Self::Gpu => "operations of GPUs",
            #[cfg(feature = "cuda")]
            Self::Cuda => "operations of CUDA devices",
        })
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Self::Fp32 => "fp32",
            Self::Tf32 => "tf32",
            Self::Bf16 => "bf16",
        })
    }
}
