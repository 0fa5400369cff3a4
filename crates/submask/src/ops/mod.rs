//! The operations that networks are made of: for each, the plain composition of tensor operations
//! (the reference), fused kernels with their own backward pass for the CPU, and what GPUs run where the composition would
//! keep too much.
//!
//! A fused kernel gives the same row of its result whatever other rows stand beside it and however
//! many threads run it: sums run in a fixed order, and an element of a matrix product is one chain of fused
//! multiply-adds. Nor does the length of the processor's vectors matter.
//! Samples and likelihoods therefore depend neither on the batch size nor on the thread count on the
//! CPU device.

#[cfg(feature = "cuda")]
mod cuda;
mod draw;
mod dropout;
mod engine;
mod factor;
mod flex;
mod gpu;
pub(crate) mod lanes;
mod mask;
mod mixture;
mod optimizer;
mod past;
pub mod plain;
mod rotary;
mod row_loss;
mod rows;
pub(crate) mod vectors;

use std::fmt;
use std::sync::Arc;

use burn::backend::DispatchDevice;
use burn::backend::flex::FlexDevice;
use burn::tensor::{DType, Device, Int, Tensor, activation};

#[cfg(feature = "cuda")]
pub(crate) use cuda::{Communicator, UniqueId, is_cuda, unique_id, unique_name};
#[cfg(feature = "cuda")]
pub(crate) use cuda::{LEAST_CAPABILITY, capability};
pub use draw::{
    DRAW_NOTES, DeviceVisit, DrawnTokens, Ranks, Score, SequenceDraws, StepDraws, TokenDraw, VisitDraws,
    draws_by_kernel, rank_words, read_ranks,
};
pub use dropout::Dropout;
pub use engine::{Engine, Precision};
pub use factor::{Factor, Packed};
pub(crate) use flex::PackedWeight;
pub use mask::AttentionMask;
pub use mixture::add_prediction;
pub use optimizer::{AdamWStep, DeviceGradients, DeviceWeights};
pub use past::{Past, PlacedPast};
pub use rotary::{Rotary, frequency};
pub use row_loss::{ComposedLoss, DigitRows, RowCost, RowLoss};
pub use rows::TableRows;
pub(crate) use rows::{integers, take_rows};
pub use vectors::vector_instructions;

use crate::{Error, Result};

/// Which operations run, chosen once for a network: an engine, and the precision in which it multiplies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kernels {
    engine: Engine,
    precision: Precision,
}

impl fmt::Display for Kernels {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{} in {}", self.engine, self.precision)
    }
}

/// Whether this is the CPU device, with gradients or without.
pub(crate) fn is_cpu(device: &Device) -> bool {
    device.as_dispatch() == &DispatchDevice::Flex(FlexDevice)
}

/// Which GroupNorm: groups of channels, and what follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupNorm {
    /// Number of groups, a divisor of the channels.
    pub groups: usize,
    /// Whether SiLU follows.
    pub silu: bool,
}

/// What a residual connection adds: gate · dropout(h).
#[derive(Clone, Debug)]
pub struct Addition {
    /// h [B, L, d].
    pub h: Tensor<3>,
    /// Gates [B, d], or [1, d] for all.
    pub gate: Tensor<2>,
    /// Dropout of h.
    pub dropout: Option<Dropout>,
}

impl Kernels {
    /// The reference of all others.
    pub const PLAIN: Self = Self { engine: Engine::Plain, precision: Precision::Fp32 };
    /// Those of the CPU.
    pub const FUSED: Self = Self { engine: Engine::Fused, precision: Precision::Fp32 };
    /// Those of GPUs.
    pub const GPU: Self = Self { engine: Engine::Gpu, precision: Precision::Fp32 };
    /// Those of CUDA devices.
    #[cfg(feature = "cuda")]
    pub const CUDA: Self = Self { engine: Engine::Cuda, precision: Precision::Fp32 };

    /// The fastest that there are for a device and a precision.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a precision that the device does not compute in.
    pub fn new(device: &Device, precision: Precision) -> Result<Self> {
        let engine = match device {
            device if is_cpu(device) => Engine::Fused,
            #[cfg(feature = "cuda")]
            device if cuda::is_cuda(device) => Engine::Cuda,
            _ => Engine::Gpu,
        };
        let allowed = match (engine, precision) {
            (Engine::Plain | Engine::Fused | Engine::Gpu, Precision::Tf32) => {
                "fp32, or bf16 where the device has it: tf32 is of NVIDIA's GPUs through CUDA"
            }
            (Engine::Fused, Precision::Bf16) if !flex::has_bf16() => {
                "fp32: this processor has no AVX-512 instructions for bf16, or SUBMASK_VECTOR_BITS excludes them"
            }
            (engine, Precision::Bf16) if engine != Engine::Fused && !device.supports_dtype(DType::BF16) => {
                "fp32: this GPU does not compute in bf16, or its driver does not say so"
            }
            _ => return Ok(Self { engine, precision }),
        };
        Err(Error::invalid("precision", precision, allowed))
    }

    /// The same engine in another precision, whether or not a device is fast in it.
    ///
    /// # Errors
    /// [`Error::Invalid`] for compositions in another precision than fp32.
    pub fn with_precision(self, precision: Precision) -> Result<Self> {
        match (self.engine, precision) {
            (Engine::Plain, Precision::Tf32 | Precision::Bf16) => {
                Err(Error::invalid("precision", precision, "fp32: compositions are the reference"))
            }
            (Engine::Fused | Engine::Gpu, Precision::Tf32) => {
                Err(Error::invalid("precision", precision, "fp32 or bf16: tf32 is of CUDA devices"))
            }
            (engine, precision) => Ok(Self { engine, precision }),
        }
    }

    /// Who computes.
    pub fn engine(self) -> Engine {
        self.engine
    }

    /// Whether these are for GPUs: what such a device computes stays there while nothing else needs it.
    pub fn are_for_gpus(self) -> bool {
        !matches!(self.engine, Engine::Plain | Engine::Fused)
    }

    /// In which precision linear layers and attention multiply.
    pub fn precision(self) -> Precision {
        self.precision
    }

    /// Vectors of tokens from rows of a table.
    ///
    /// # Shapes
    /// - `table`: [R, w], w at most the width of a vector, or as wide where rows are added up
    /// - result: [tokens, width of a vector]
    pub fn embedding(self, table: Tensor<2>, rows: TableRows) -> Tensor<2> {
        match self.engine {
            Engine::Fused => flex::embedding(table, Arc::new(rows)),
            #[cfg(feature = "cuda")]
            Engine::Cuda => cuda::embedding(table, Arc::new(rows)),
            _ => plain::embedding(table, &rows),
        }
    }

    /// The same, given the rows [tokens, rows per token] on the device.
    pub(crate) fn embedding_of(
        self,
        table: Tensor<2>,
        rows: Tensor<2, Int>,
        hidden: usize,
        summed: bool,
    ) -> Tensor<2> {
        match self.engine {
            #[cfg(feature = "cuda")]
            Engine::Cuda if !table.is_autodiff() => cuda::embedding_of(table, rows, hidden, summed),
            _ => plain::embedding_of(table, rows, hidden, summed),
        }
    }

    /// x·Wᵀ + bias.
    ///
    /// # Shapes
    /// - `x`: [n, in], `weight`: [out, in], `bias`: \[out\]
    /// - result: [n, out]
    pub fn linear(self, x: Tensor<2>, weight: impl Into<Factor>, bias: Option<Tensor<1>>) -> Tensor<2> {
        match (self.engine, weight.into()) {
            (Engine::Plain, weight) => plain::linear(x, weight.into_tensor(), bias),
            (Engine::Gpu, weight) => gpu::linear(x, weight.into_tensor(), bias, self.precision),
            #[cfg(feature = "cuda")]
            (Engine::Cuda, weight) => cuda::linear(x, weight.into_tensor(), bias, self.precision),
            (_, Factor::Packed(packed)) => flex::packed_linear(x, packed.weight, bias),
            (_, Factor::Tensor(weight)) => flex::linear(x, weight, bias, self.precision),
        }
    }

    /// GELU(x·Wᵀ + bias), element by element in its tanh form: ½a(1 + tanh(√(2/π)(a + 0.044715a³))).
    ///
    /// # Shapes
    /// As of [`Self::linear`].
    pub fn linear_gelu(self, x: Tensor<2>, weight: impl Into<Factor>, bias: Tensor<1>) -> Tensor<2> {
        match (self.engine, weight.into()) {
            (Engine::Plain, weight) => plain::linear_gelu(x, weight.into_tensor(), bias),
            (Engine::Gpu, weight) => {
                plain::gelu(gpu::linear(x, weight.into_tensor(), Some(bias), self.precision))
            }
            #[cfg(feature = "cuda")]
            (Engine::Cuda, weight) => cuda::linear_gelu(x, weight.into_tensor(), bias, self.precision),
            (_, Factor::Packed(packed)) => flex::packed_linear_gelu(x, packed.weight, bias),
            (_, Factor::Tensor(weight)) => flex::linear_gelu(x, weight, bias, self.precision),
        }
    }

    /// Two linear layers, each a weight and a bias, with GELU between them: [`Self::linear`] of [`Self::linear_gelu`].
    ///
    /// # Shapes
    /// - `x`: [n, in], weights: [m, in] and [out, m], biases: \[m\] and \[out\]
    /// - result: [n, out]
    pub fn mlp(self, x: Tensor<2>, layers: [(Factor, Tensor<1>); 2]) -> Tensor<2> {
        match self.engine {
            #[cfg(feature = "cuda")]
            Engine::Cuda => {
                let layers = layers.map(|(weight, bias)| (weight.into_tensor(), bias));
                cuda::mlp(x, layers, self.precision)
            }
            _ => {
                let [(first, first_bias), (second, second_bias)] = layers;
                self.linear(self.linear_gelu(x, first, first_bias), second, Some(second_bias))
            }
        }
    }

    /// LayerNorm (eps 10⁻⁵, weight, no bias), then ·(1 + scale) + shift.
    ///
    /// # Shapes
    /// - `x`: [B, L, d], `weight`: \[d\], `shift` and `scale`: [B, d], or [1, d] for all
    /// - result: [B, L, d]
    pub fn modulated_norm(
        self,
        x: Tensor<3>,
        weight: Tensor<1>,
        shift: Tensor<2>,
        scale: Tensor<2>,
    ) -> Tensor<3> {
        match self.engine {
            Engine::Fused => flex::modulated_norm(x, weight, shift, scale),
            #[cfg(feature = "cuda")]
            Engine::Cuda => cuda::modulated_norm(x, weight, shift, scale, self.precision),
            _ => plain::modulated_norm(x, weight, shift, scale),
        }
    }

    /// RMSNorm: x/√(mean(x²) + 10⁻⁵), times a weight.
    ///
    /// # Shapes
    /// - `x`: [n, d], `weight`: \[d\]
    /// - result: [n, d]
    pub fn rms_norm(self, x: Tensor<2>, weight: Tensor<1>) -> Tensor<2> {
        match self.engine {
            Engine::Fused => flex::rms_norm(x, weight),
            #[cfg(feature = "cuda")]
            Engine::Cuda => cuda::rms_norm(x, weight, self.precision),
            _ => plain::rms_norm(x, weight),
        }
    }

    /// Parts of as many columns each, beside each other in `x`.
    ///
    /// # Shapes
    /// - `x`: [n, N·w], N at most 6
    /// - results: [n, w]
    pub fn split_columns<const N: usize>(self, x: Tensor<2>) -> [Tensor<2>; N] {
        match self.engine {
            #[cfg(feature = "cuda")]
            Engine::Cuda => cuda::split_columns(x),
            _ => {
                let width = x.dims()[1] / N;
                std::array::from_fn(|part| x.clone().narrow(1, part * width, width))
            }
        }
    }

    /// SiLU(a) = a/(1 + e^(−a)) of the result of a linear layer, for another one, element by element.
    ///
    /// # Shapes
    /// - `x` and the result: [n, m]
    pub fn silu(self, x: Tensor<2>) -> Tensor<2> {
        match self.engine {
            #[cfg(feature = "cuda")]
            Engine::Cuda => cuda::silu(x, self.precision),
            _ => activation::silu(x),
        }
    }

    /// SiLU(gate)·x, element by element, where SiLU(a) = a/(1 + e^(−a)): the middle of SwiGLU.
    ///
    /// # Shapes
    /// - `gate`, `x` and the result: [n, m]
    pub fn swiglu(self, gate: Tensor<2>, x: Tensor<2>) -> Tensor<2> {
        match self.engine {
            Engine::Fused => flex::swiglu(gate, x),
            #[cfg(feature = "cuda")]
            Engine::Cuda => cuda::swiglu(gate, x, self.precision),
            _ => plain::swiglu(gate, x),
        }
    }

    /// GroupNorm: (x − mean)/√(variance + 10⁻⁵)·scale + shift, mean and variance over all planes of a group of
    /// channels; then SiLU, a/(1 + e^(−a)), if `norm` says so.
    ///
    /// # Shapes
    /// - `x` and the result: [B, channels, H, W]
    /// - `scale` and `shift`: [B, channels], or [1, channels] for all
    pub fn group_norm(self, x: Tensor<4>, scale: Tensor<2>, shift: Tensor<2>, norm: GroupNorm) -> Tensor<4> {
        match self.engine {
            Engine::Fused => flex::group_norm(x, scale, shift, norm),
            #[cfg(feature = "cuda")]
            Engine::Cuda => cuda::group_norm(x, scale, shift, norm),
            _ => plain::group_norm(x, scale, shift, norm),
        }
    }

    /// The convolution with a square kernel of odd width, stride 1, the image continued by zeros, plus bias: it keeps
    /// the resolution.
    ///
    /// # Shapes
    /// - `x`: [B, in, H, W], `weight`: [out, in, k, k], `bias`: \[out\]
    /// - result: [B, out, H, W]
    pub fn conv(self, x: Tensor<4>, weight: Tensor<4>, bias: Tensor<1>) -> Tensor<4> {
        match self.engine {
            Engine::Fused => flex::conv(x, weight, bias),
            #[cfg(feature = "cuda")]
            Engine::Cuda => cuda::conv(x, weight, bias, self.precision),
            _ => plain::conv(x, weight, bias),
        }
    }

    /// Rotary positions on q and k, then softmax(qkᵀ/√w)v in every head of width w = d/heads, of the keys that the mask
    /// lets a query read.
    ///
    /// # Shapes
    /// - `qkv`: [B, L, 3d] as (q|k|v, head, head width)
    /// - result: [B, L, d]
    pub fn attention(
        self,
        qkv: Tensor<3>,
        heads: usize,
        rotary: Arc<Rotary>,
        mask: AttentionMask,
    ) -> Tensor<3> {
        match self.engine {
            Engine::Fused => flex::attention(qkv, heads, rotary, mask, self.precision),
            Engine::Plain => plain::attention(qkv, heads, &rotary, mask),
            #[cfg(feature = "cuda")]
            Engine::Cuda if self.has_kernels_of(&rotary) => {
                cuda::attention(qkv, self.cuda_attention(heads, rotary, mask))
            }
            _ => gpu::attention(qkv, heads, &rotary, mask, self.precision),
        }
    }

    /// [`attention`](Self::attention) of sequences of several lengths, one after the other, each by itself and with the same bits.
    ///
    /// # Shapes
    /// - `qkv`: [1, ΣL, 3d], `lengths`: their L
    /// - result: [1, ΣL, d]
    pub fn attention_of_each(
        self,
        qkv: Tensor<3>,
        lengths: &[usize],
        heads: usize,
        rotary: Arc<Rotary>,
    ) -> Tensor<3> {
        let mut first = 0;
        // Neighbours of one length go together.
        let mixed = lengths.chunk_by(|a, b| a == b).map(|equal| {
            let [batch, length, width] = [equal.len(), equal[0], qkv.dims()[2]];
            let own = qkv.clone().narrow(1, first, batch * length).reshape([batch, length, width]);
            first += batch * length;
            let mixed = self.attention(own, heads, rotary.clone(), AttentionMask::FULL);
            mixed.reshape([1, batch * length, width / 3])
        });
        Tensor::cat(mixed.collect(), 1)
    }

    /// softmax(qkᵀ/√w)v of one query of every head, which reads all keys. Without gradients.
    ///
    /// # Shapes
    /// - `q` and the result: [B, h, 1, w]
    /// - `k`, `v`: [B, h, P, w]
    pub fn attention_of_one(self, q: Tensor<4>, k: Tensor<4>, v: Tensor<4>) -> Tensor<4> {
        let root = (q.dims()[3] as f32).sqrt();
        match self.engine {
            // The tensor library's products are of TF32 numbers there, and read memory as often.
            #[cfg(feature = "cuda")]
            Engine::Cuda => {
                let scores = (q * k).sum_dim(3) / root;
                (activation::softmax(scores, 2) * v).sum_dim(2)
            }
            Engine::Fused if !q.is_autodiff() => flex::attention_of_one(q, k, v),
            _ => {
                let scores = q.matmul(k.transpose()) / root;
                activation::softmax(scores, 3).matmul(v)
            }
        }
    }

    /// x times the factors of its elements.
    pub fn dropout<const D: usize>(self, x: Tensor<D>, dropout: Dropout) -> Tensor<D> {
        match self.engine {
            #[cfg(feature = "cuda")]
            Engine::Cuda => cuda::dropout(x, dropout),
            _ => dropout.apply(x),
        }
    }

    /// x + gate · dropout(h).
    ///
    /// # Shapes
    /// - `x`, `h`: [B, L, d], `gate`: [B, d], or [1, d] for all
    pub fn gated_residual(
        self,
        x: Tensor<3>,
        h: Tensor<3>,
        gate: Tensor<2>,
        dropout: Option<Dropout>,
    ) -> Tensor<3> {
        match self.engine {
            Engine::Fused => flex::gated_residual(x, h, gate, dropout),
            #[cfg(feature = "cuda")]
            Engine::Cuda => cuda::gated_residual(x, h, gate, dropout, self.precision),
            _ => plain::gated_residual(x, h, gate, dropout),
        }
    }

    /// [`gated_residual`](Self::gated_residual), and the [`modulated_norm`](Self::modulated_norm) of its result: both.
    pub fn residual_norm(
        self,
        x: Tensor<3>,
        added: Addition,
        weight: Tensor<1>,
        shift: Tensor<2>,
        scale: Tensor<2>,
    ) -> [Tensor<3>; 2] {
        match self.engine {
            #[cfg(feature = "cuda")]
            Engine::Cuda if [&shift, &scale].iter().all(|part| part.dims()[0] == added.gate.dims()[0]) => {
                cuda::residual_norm(x, added, weight, [shift, scale], self.precision)
            }
            _ => {
                let x = self.gated_residual(x, added.h, added.gate, added.dropout);
                [x.clone(), self.modulated_norm(x, weight, shift, scale)]
            }
        }
    }

    /// [`gated_residual`](Self::gated_residual), and the [`rms_norm`](Self::rms_norm) of the rows of its result: both.
    pub fn residual_rms_norm(self, x: Tensor<3>, added: Addition, weight: Tensor<1>) -> [Tensor<3>; 2] {
        match self.engine {
            #[cfg(feature = "cuda")]
            Engine::Cuda => cuda::residual_rms_norm(x, added, weight, self.precision),
            _ => {
                let x = self.gated_residual(x, added.h, added.gate, added.dropout);
                let [batch, length, width] = x.dims();
                let rows = x.clone().reshape([batch * length, width]);
                [x, self.rms_norm(rows, weight).reshape([batch, length, width])]
            }
        }
    }

    /// The training loss Σ_r weight_r·loss_r of the rows of `rows`, straight from hidden states: the
    /// head's logits exist a chunk at a time only.
    ///
    /// # Shapes
    /// - `hidden`: [n, d] with n the number of rows, `weight`: [C, d], `bias`: \[C\]
    /// - result: \[1\]
    pub fn head_loss(
        self,
        hidden: Tensor<2>,
        weight: Tensor<2>,
        bias: Tensor<1>,
        rows: Arc<dyn RowLoss>,
    ) -> Tensor<1> {
        match self.engine {
            Engine::Fused => flex::head_loss(hidden, weight, bias, rows, self.precision),
            Engine::Plain => {
                let loss = rows.composed(&hidden.device());
                loss(0..rows.len(), plain::linear(hidden, weight, Some(bias)))
            }
            #[cfg(feature = "cuda")]
            Engine::Cuda if rows.by_digits().is_some() => {
                cuda::head_loss(hidden, weight, bias, rows, self.precision)
            }
            _ => gpu::head_loss(hidden, weight, bias, &*rows, self.precision),
        }
    }
}

#[cfg(test)]
mod tests;
