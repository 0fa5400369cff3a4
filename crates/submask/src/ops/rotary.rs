//! Rotary positions.

use burn::tensor::Tensor;

use super::{flex, plain};

/// Rotary position table: cos and sin of position·base^(−2k/w) for pairs k = 0..w/2 of a head of width w.
#[derive(Clone, Debug, PartialEq)]
pub struct Rotary {
    /// Pairs of a head, half of its width w.
    pub(super) half: usize,
    /// Cosines of the angles, [positions, w/2].
    pub(super) cos: Vec<f32>,
    /// Sines of the angles, [positions, w/2].
    pub(super) sin: Vec<f32>,
}

impl Rotary {
    /// Table for `positions` positions, heads of even width `head_width`, base 10⁴.
    pub fn new(positions: usize, head_width: usize) -> Self {
        let half = head_width / 2;
        let angles: Vec<f32> = (0..positions)
            .flat_map(|p| (0..half).map(move |k| p as f32 * frequency(k, head_width)))
            .collect();
        Self {
            half,
            cos: angles.iter().map(|angle| angle.cos()).collect(),
            sin: angles.iter().map(|angle| angle.sin()).collect(),
        }
    }

    /// A table that rotates nothing, for attention that does not see where positions are.
    pub fn identity(positions: usize, head_width: usize) -> Self {
        let half = head_width / 2;
        Self { half, cos: vec![1.0; positions * half], sin: vec![0.0; positions * half] }
    }

    /// The same table with every entry rounded to bfloat16 (to nearest, ties to even).
    pub fn rounded_to_bf16(mut self) -> Self {
        for x in self.cos.iter_mut().chain(&mut self.sin) {
            *x = flex::rounded_to_bf16(*x);
        }
        self
    }

    /// Rotates [B, h, 1, w] by the angles of one position.
    pub fn rotate_at(&self, x: Tensor<4>, position: usize) -> Tensor<4> {
        let range = position * self.half..(position + 1) * self.half;
        plain::rotate(x, &self.cos[range.clone()], &self.sin[range])
    }
}

/// base^(−2k/w), rounded to single precision as the published buffers are.
pub fn frequency(k: usize, head_width: usize) -> f32 {
    1.0 / 10_000f32.powf((2 * k) as f32 / head_width as f32)
}
