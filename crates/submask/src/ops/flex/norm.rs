//! LayerNorm with modulation.

use std::mem::MaybeUninit;

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Dispatch, Flex, TensorMetadata, backend_extension};
use burn::tensor::Tensor;
use burn_flex::FlexTensor;
use rayon::prelude::*;

use super::elementwise::{Shape3, total};
use super::{contiguous, filled, register, room, tensor, values};
use crate::ops::lanes;
use crate::ops::plain::NORM_EPSILON;

#[backend_extension(Flex, Autodiff)]
pub trait NormOp: burn::backend::Backend {
    fn submask_modulated_norm(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        scale: FloatTensor<Self>,
    ) -> FloatTensor<Self>;
}

/// See [`crate::ops::Kernels::modulated_norm`].
pub fn modulated_norm(x: Tensor<3>, weight: Tensor<1>, shift: Tensor<2>, scale: Tensor<2>) -> Tensor<3> {
    Tensor::from_dispatch(Dispatch::submask_modulated_norm(
        x.into_dispatch(),
        weight.into_dispatch(),
        shift.into_dispatch(),
        scale.into_dispatch(),
    ))
}

/// Mean and reciprocal standard deviation of a row.
#[inline(always)]
fn statistics(row: &[f32]) -> (f32, f32) {
    let width = row.len() as f32;
    let mean = lanes::sum(row, |x| x) / width;
    let variance = lanes::sum(row, |x| (x - mean) * (x - mean)) / width;
    (mean, 1.0 / (variance + NORM_EPSILON).sqrt())
}

#[inline(always)]
fn row_forward(out: &mut [MaybeUninit<f32>], x: &[f32], weight: &[f32], shift: &[f32], scale: &[f32]) {
    let (mean, inverse) = statistics(x);
    let modulation = weight.iter().zip(shift.iter().zip(scale));
    for ((out, &x), (&weight, (&shift, &scale))) in out.iter_mut().zip(x).zip(modulation) {
        out.write((x - mean) * inverse * weight * (1.0 + scale) + shift);
    }
}

impl NormOp for Flex {
    fn submask_modulated_norm(
        x: FlexTensor,
        weight: FlexTensor,
        shift: FlexTensor,
        scale: FlexTensor,
    ) -> FlexTensor {
        let [x, weight, shift, scale] = [x, weight, shift, scale].map(contiguous);
        let shape = Shape3::of(&x, &shift);
        let width = shape.width;
        assert_eq!(values(&weight).len(), width);
        let mut out = room(values(&x).len());
        out.par_chunks_mut(width).zip(values(&x).par_chunks(width)).enumerate().for_each(
            |(row, (out, x))| {
                let (shift, scale) = (shape.gate(values(&shift), row), shape.gate(values(&scale), row));
                let weight = values(&weight);
                lanes::vectorized(
                    #[inline(always)]
                    || row_forward(out, x, weight, shift, scale),
                );
            },
        );
        // SAFETY: weight and modulation are as wide as the rows, so that every row is written whole.
        tensor(unsafe { filled(out) }, x.shape())
    }
}

impl<C: CheckpointStrategy> NormOp for Autodiff<Flex, C> {
    fn submask_modulated_norm(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        scale: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let nodes = [x.node(), weight.node(), shift.node(), scale.node()];
        let [x, weight, shift, scale] =
            [x, weight, shift, scale].map(|tensor| contiguous(tensor.into_primitive()));
        match NormBackward.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => {
                let state = [x.clone(), weight.clone(), scale.clone()];
                prepared.finish(state, Flex::submask_modulated_norm(x, weight, shift, scale))
            }
            OpsKind::UnTracked(prepared) => {
                prepared.finish(Flex::submask_modulated_norm(x, weight, shift, scale))
            }
        }
    }
}

/// With x̂ the normalised row and n = x̂·weight: dshift = Σ g, dscale = Σ g·n, dweight = Σ g·(1 + scale)·x̂,
/// and dx = (u − mean(u) − x̂·mean(u·x̂))/σ for u = g·(1 + scale)·weight.
#[derive(Debug)]
struct NormBackward;

/// Sums over some rows: gradients of shift and scale, and of the weight.
struct PartSums {
    shift: Vec<f32>,
    scale: Vec<f32>,
    weight: Vec<f32>,
}

impl Backward<Flex, 4> for NormBackward {
    type State = [FlexTensor; 3];

    fn backward(self, ops: Ops<Self::State, 4>, grads: &mut Gradients, _: &mut Checkpointer) {
        let g = contiguous(grads.consume::<Flex>(&ops.node));
        let [x, weight, scale] = ops.state;
        let shape = Shape3::of(&x, &scale);
        let (width, part) = (shape.width, shape.part());
        let mut dx = room(values(&x).len());
        let sums: Vec<PartSums> = dx
            .par_chunks_mut(part * width)
            .zip(values(&x).par_chunks(part * width).zip(values(&g).par_chunks(part * width)))
            .enumerate()
            .map(|(index, (dx, (x, g)))| {
                let scale = shape.gate(values(&scale), index * part);
                lanes::vectorized(
                    #[inline(always)]
                    || part_backward(dx, x, g, values(&weight), scale),
                )
            })
            .collect();
        let [for_x, for_weight, for_shift, for_scale] = ops.parents;
        let gather =
            |pick: fn(&PartSums) -> &Vec<f32>| sums.iter().map(|s| pick(s).clone()).collect::<Vec<_>>();
        // SAFETY: every row of every part is written whole.
        register!(grads, for_x, tensor(unsafe { filled(dx) }, x.shape()));
        register!(grads, for_weight, tensor(total(&gather(|s| &s.weight), width), [width]));
        register!(grads, for_shift, tensor(shape.reduce(&gather(|s| &s.shift)), [shape.modulations, width]));
        register!(grads, for_scale, tensor(shape.reduce(&gather(|s| &s.scale)), [shape.modulations, width]));
    }
}

#[inline(always)]
fn part_backward(
    dx: &mut [MaybeUninit<f32>],
    x: &[f32],
    g: &[f32],
    weight: &[f32],
    scale: &[f32],
) -> PartSums {
    let width = weight.len();
    let zeros = || vec![0.0; width];
    let (mut normed, mut upstream) = (zeros(), zeros());
    let mut sums = PartSums { shift: zeros(), scale: zeros(), weight: zeros() };
    for ((dx, x), g) in dx.chunks_mut(width).zip(x.chunks(width)).zip(g.chunks(width)) {
        let (mean, inverse) = statistics(x);
        for i in 0..width {
            let (hat, modulated) = ((x[i] - mean) * inverse, g[i] * (1.0 + scale[i]));
            sums.shift[i] += g[i];
            sums.scale[i] += g[i] * hat * weight[i];
            sums.weight[i] += modulated * hat;
            normed[i] = hat;
            upstream[i] = modulated * weight[i];
        }
        let mean_upstream = lanes::sum(&upstream, |u| u) / width as f32;
        let mean_product = lanes::dot(&upstream, &normed) / width as f32;
        for i in 0..width {
            dx[i].write(inverse * (upstream[i] - mean_upstream - normed[i] * mean_product));
        }
    }
    sums
}
