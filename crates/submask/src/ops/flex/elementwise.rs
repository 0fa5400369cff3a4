//! The gated residual connection with dropout.

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Dispatch, Flex, TensorMetadata, backend_extension};
use burn::tensor::Tensor;
use burn_flex::FlexTensor;
use rayon::prelude::*;

use super::{contiguous, dims, filled, register, room, tensor, values};
use crate::ops::{Dropout, lanes};

/// Rows whose gradients one task adds up where all rows share a modulation.
const PART: usize = 64;

#[backend_extension(Flex, Autodiff)]
pub trait ElementwiseOp: burn::backend::Backend {
    fn submask_gated_residual(
        x: FloatTensor<Self>,
        h: FloatTensor<Self>,
        gate: FloatTensor<Self>,
        dropout: Option<Dropout>,
    ) -> FloatTensor<Self>;
}

/// See [`crate::ops::Kernels::gated_residual`].
pub fn gated_residual(x: Tensor<3>, h: Tensor<3>, gate: Tensor<2>, dropout: Option<Dropout>) -> Tensor<3> {
    let (x, h, gate) = (x.into_dispatch(), h.into_dispatch(), gate.into_dispatch());
    Tensor::from_dispatch(Dispatch::submask_gated_residual(x, h, gate, dropout))
}

impl ElementwiseOp for Flex {
    fn submask_gated_residual(
        x: FlexTensor,
        h: FlexTensor,
        gate: FlexTensor,
        dropout: Option<Dropout>,
    ) -> FlexTensor {
        let (x, h, gate) = (contiguous(x), contiguous(h), contiguous(gate));
        let shape = Shape3::of(&x, &gate);
        let factors = dropout.map(|dropout| dropout.factors(values(&h).len()));
        let mut out = room(values(&x).len());
        out.par_chunks_mut(shape.width).enumerate().for_each(|(row, out)| {
            let gate = shape.gate(values(&gate), row);
            let at = row * shape.width..(row + 1) * shape.width;
            let (x, h) = (&values(&x)[at.clone()], &values(&h)[at.clone()]);
            let inputs = x.iter().zip(h.iter().zip(gate));
            match &factors {
                Some(factors) => {
                    for ((out, (x, (h, gate))), factor) in out.iter_mut().zip(inputs).zip(&factors[at]) {
                        out.write(x + h * factor * gate);
                    }
                }
                None => {
                    for (out, (x, (h, gate))) in out.iter_mut().zip(inputs) {
                        out.write(x + h * gate);
                    }
                }
            }
        });
        // SAFETY: every row is as wide as the gate, and written whole.
        tensor(unsafe { filled(out) }, x.shape())
    }
}

/// Rows [B, L, d], beside a [B, d] or [1, d] modulation.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape3 {
    pub length: usize,
    pub width: usize,
    pub modulations: usize,
}

impl Shape3 {
    pub fn of(x: &FlexTensor, modulation: &FlexTensor) -> Self {
        let [_, length, width] = dims(x);
        let [modulations, _] = dims(modulation);
        Self { length, width, modulations }
    }

    /// The modulation of a row b·L + i.
    pub fn gate<'a>(&self, modulation: &'a [f32], row: usize) -> &'a [f32] {
        let index = if self.modulations == 1 { 0 } else { row / self.length };
        &modulation[index * self.width..][..self.width]
    }

    /// Rows, which follow each other and share a modulation, whose gradients are added up by one task.
    pub fn part(&self) -> usize {
        if self.modulations == 1 { PART } else { self.length.max(1) }
    }

    /// Gradients of the modulation from those of its parts, added in the order of the rows.
    pub fn reduce(&self, parts: &[Vec<f32>]) -> Vec<f32> {
        if self.modulations == 1 { total(parts, self.width) } else { parts.concat() }
    }
}

/// The sum of rows, in their order.
pub(super) fn total(rows: &[Vec<f32>], width: usize) -> Vec<f32> {
    let mut sum = vec![0.0; width];
    for row in rows {
        lanes::add_scaled(&mut sum, row, 1.0);
    }
    sum
}

impl<C: CheckpointStrategy> ElementwiseOp for Autodiff<Flex, C> {
    fn submask_gated_residual(
        x: FloatTensor<Self>,
        h: FloatTensor<Self>,
        gate: FloatTensor<Self>,
        dropout: Option<Dropout>,
    ) -> FloatTensor<Self> {
        let nodes = [x.node(), h.node(), gate.node()];
        let (x, h, gate) = (x.into_primitive(), h.into_primitive(), gate.into_primitive());
        match GateBackward.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => {
                let (h, gate) = (contiguous(h), contiguous(gate));
                let out = Flex::submask_gated_residual(x, h.clone(), gate.clone(), dropout);
                prepared.finish((h, gate, dropout), out)
            }
            OpsKind::UnTracked(prepared) => {
                prepared.finish(Flex::submask_gated_residual(x, h, gate, dropout))
            }
        }
    }
}

/// dx = g, dh = g·gate·mask, dgate = Σ g·h·mask.
#[derive(Debug)]
struct GateBackward;

impl Backward<Flex, 3> for GateBackward {
    type State = (FlexTensor, FlexTensor, Option<Dropout>);

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let g = contiguous(grads.consume::<Flex>(&ops.node));
        let (h, gate, dropout) = ops.state;
        let [for_x, for_h, for_gate] = ops.parents;
        let shape = Shape3::of(&g, &gate);
        let factors = dropout.map(|dropout| dropout.factors(values(&h).len()));
        let factor = |index: usize| factors.as_ref().map_or(1.0, |factors| factors[index]);
        let width = shape.width;
        register!(grads, for_h, {
            let mut out = room(values(&g).len());
            out.par_chunks_mut(width).enumerate().for_each(|(row, out)| {
                let gate = shape.gate(values(&gate), row);
                let g = &values(&g)[row * width..][..width];
                for i in 0..width {
                    out[i].write(g[i] * gate[i] * factor(row * width + i));
                }
            });
            // SAFETY: every row is written whole.
            tensor(unsafe { filled(out) }, g.shape())
        });
        register!(grads, for_gate, {
            let part = shape.part() * width;
            let parts: Vec<Vec<f32>> = values(&g)
                .par_chunks(part)
                .zip(values(&h).par_chunks(part))
                .enumerate()
                .map(|(index, (g, h))| {
                    let mut sum = vec![0.0; width];
                    for (row, (g, h)) in g.chunks_exact(width).zip(h.chunks_exact(width)).enumerate() {
                        for i in 0..width {
                            sum[i] += g[i] * h[i] * factor(index * part + row * width + i);
                        }
                    }
                    sum
                })
                .collect();
            tensor(shape.reduce(&parts), [shape.modulations, width])
        });
        register!(grads, for_x, g);
    }
}
