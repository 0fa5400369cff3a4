//! Attention of blocks of positions that read, besides themselves, a past of keys and values.

use std::sync::Arc;

use burn::tensor::Tensor;

#[cfg(feature = "cuda")]
use super::cuda;
use super::{AttentionMask, Engine, Kernels, Rotary, flex, gpu, plain};

/// Keys and values of positions from 0 on, which later ones read.
#[derive(Clone, Debug)]
pub struct Past {
    /// [B', P, 2d] as (k|v, head, head width), not rotated, or [B', P, 3d] with queries before them, which are not read. Sequence
    /// s of B reads that of s·B'/B, B' a divisor of B: so the draws of a sequence share one past. Only as many have gradients
    /// as there are sequences.
    pub keys_values: Tensor<3>,
    /// Which position the first is that reads it, a multiple of the mask's block length.
    pub first: usize,
}

/// The same, ready to be read several times: rotated, and by heads.
#[derive(Clone, Debug)]
pub struct PlacedPast {
    /// Keys, then values, [B', h, 2P', w] with P' ≥ P; on CUDA devices as its kernels take them, [B', P, 2, …].
    keys_values: Tensor<4>,
    /// P.
    positions: usize,
}

/// Checks that positions [B, n, …] from `first` on find the pasts [B', P] that they read.
fn check_past([batch, rows]: [usize; 2], [pasts, length]: [usize; 2], first: usize, mask: AttentionMask) {
    assert_eq!(mask.block_start(first), first, "a block is read as a whole");
    assert!(pasts == batch || pasts > 0 && batch.is_multiple_of(pasts), "{batch} sequences, {pasts} pasts");
    let needed = if rows == 0 { 0 } else { mask.block_start(first + rows - 1) };
    assert!(length >= needed, "a past of {length} positions where {needed} are read");
}

impl Kernels {
    /// [`attention`](Self::attention) of positions from `past.first` on, each of which reads its own block among these, and of `past` what
    /// stands before its block. The bits of a row do not depend on the other blocks, nor on what follows its past.
    ///
    /// # Shapes
    /// - `qkv`: [B, n, 3d] as (q|k|v, head, head width)
    /// - result: [B, n, d]
    ///
    /// # Panics
    /// Where `past.first` is inside a block, and where the past ends before the last block of the positions begins.
    pub fn attention_with_past(
        self,
        qkv: Tensor<3>,
        past: Past,
        heads: usize,
        rotary: Arc<Rotary>,
        mask: AttentionMask,
    ) -> Tensor<3> {
        let ([batch, rows, _], [pasts, length, _]) = (qkv.dims(), past.keys_values.dims());
        check_past([batch, rows], [pasts, length], past.first, mask);
        match self.engine {
            Engine::Fused => {
                let settings = self.past_attention(past.first, heads, rotary, mask);
                flex::attention_with_past(qkv, past, settings)
            }
            #[cfg(feature = "cuda")]
            Engine::Cuda if self.has_kernels_of(&rotary) => {
                let settings = self.cuda_attention(heads, rotary, mask).with_past(past.first);
                cuda::attention_with_past(qkv, past, settings)
            }
            _ => {
                let width = qkv.dims()[2] / 3;
                let placed = plain::place(past.keys_values, width, heads, &rotary);
                self.composed_with_placed(qkv, placed, [length, past.first], heads, &rotary, mask)
            }
        }
    }

    /// [`attention_with_past`](Self::attention_with_past) of whole sequences, each position of which reads of them its own block and what stands before it.
    ///
    /// # Shapes
    /// - `qkv`: [B, L, 3d] as (q|k|v, head, head width)
    /// - result: [B, L, d]
    pub fn attention_of_blocks(
        self,
        qkv: Tensor<3>,
        heads: usize,
        rotary: Arc<Rotary>,
        mask: AttentionMask,
    ) -> Tensor<3> {
        match self.engine {
            Engine::Fused => flex::attention_of_blocks(qkv, self.past_attention(0, heads, rotary, mask)),
            #[cfg(feature = "cuda")]
            Engine::Cuda if self.has_kernels_of(&rotary) => {
                cuda::attention(qkv, self.cuda_attention(heads, rotary, mask).with_past(0))
            }
            _ => self.attention(qkv, heads, rotary, mask),
        }
    }

    /// Prepares keys and values of a past, [B', P, 2d], for [`attention_with_placed`](Self::attention_with_placed).
    pub fn place(self, keys_values: Tensor<3>, heads: usize, rotary: Arc<Rotary>) -> PlacedPast {
        let [_, positions, double] = keys_values.dims();
        let keys_values = match self.engine {
            Engine::Fused => {
                flex::place(keys_values, self.past_attention(0, heads, rotary, AttentionMask::FULL))
            }
            #[cfg(feature = "cuda")]
            Engine::Cuda if self.has_kernels_of(&rotary) => {
                cuda::place(keys_values, self.cuda_attention(heads, rotary, AttentionMask::FULL))
            }
            _ => plain::place(keys_values, double / 2, heads, &rotary),
        };
        PlacedPast { keys_values, positions }
    }

    /// [`attention_with_past`](Self::attention_with_past) with the same bits, without gradients.
    ///
    /// # Panics
    /// As there.
    pub fn attention_with_placed(
        self,
        qkv: Tensor<3>,
        past: &PlacedPast,
        first: usize,
        heads: usize,
        rotary: Arc<Rotary>,
        mask: AttentionMask,
    ) -> Tensor<3> {
        let ([batch, rows, _], [pasts, ..]) = (qkv.dims(), past.keys_values.dims());
        check_past([batch, rows], [pasts, past.positions], first, mask);
        match self.engine {
            Engine::Fused => {
                let placed = past.keys_values.clone();
                flex::attention_with_placed(qkv, placed, self.past_attention(first, heads, rotary, mask))
            }
            #[cfg(feature = "cuda")]
            Engine::Cuda if self.has_kernels_of(&rotary) => {
                let settings = self.cuda_attention(heads, rotary, mask).with_past(first);
                cuda::attention_with_placed(qkv, past.keys_values.clone(), settings)
            }
            _ => {
                let placed = past.keys_values.clone();
                self.composed_with_placed(qkv, placed, [past.positions, first], heads, &rotary, mask)
            }
        }
    }

    fn past_attention(
        self,
        first: usize,
        heads: usize,
        rotary: Arc<Rotary>,
        mask: AttentionMask,
    ) -> flex::PastAttention {
        flex::PastAttention { first, heads, rotary, mask, precision: self.precision }
    }

    /// Whether CUDA's kernels have heads of this width.
    #[cfg(feature = "cuda")]
    pub(super) fn has_kernels_of(self, rotary: &Rotary) -> bool {
        2 * rotary.half <= cuda::MAX_HEAD_WIDTH
    }

    #[cfg(feature = "cuda")]
    pub(super) fn cuda_attention(
        self,
        heads: usize,
        rotary: Arc<Rotary>,
        mask: AttentionMask,
    ) -> cuda::Attention {
        cuda::Attention { heads, rotary, mask, precision: self.precision, first: 0, separate: false }
    }

    /// Attention with a past of `length` positions by tensor operations.
    fn composed_with_placed(
        self,
        qkv: Tensor<3>,
        placed: Tensor<4>,
        [length, first]: [usize; 2],
        heads: usize,
        rotary: &Rotary,
        mask: AttentionMask,
    ) -> Tensor<3> {
        let parts = plain::with_placed(qkv, placed, first, heads, rotary);
        match self.engine {
            Engine::Plain => plain::attention_with_past(parts, [length, first], mask),
            _ => gpu::attention_with_past(parts, [length, first], mask, self.precision),
        }
    }
}
