//! RMSNorm.

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

use super::{contiguous, dims, filled, register, room, tensor, values};
use crate::ops::lanes;
use crate::ops::plain::NORM_EPSILON;

/// Rows whose weight gradients are summed by one task.
const ROWS: usize = 64;

#[backend_extension(Flex, Autodiff)]
pub trait RmsNormOp: burn::backend::Backend {
    fn submask_rms_norm(x: FloatTensor<Self>, weight: FloatTensor<Self>) -> FloatTensor<Self>;
}

/// See [`crate::ops::Kernels::rms_norm`].
pub fn rms_norm(x: Tensor<2>, weight: Tensor<1>) -> Tensor<2> {
    Tensor::from_dispatch(Dispatch::submask_rms_norm(x.into_dispatch(), weight.into_dispatch()))
}

/// 1/√(mean(x²) + ε) of a row.
#[inline(always)]
fn inverse(row: &[f32]) -> f32 {
    1.0 / (lanes::dot(row, row) / row.len() as f32 + NORM_EPSILON).sqrt()
}

impl RmsNormOp for Flex {
    fn submask_rms_norm(x: FlexTensor, weight: FlexTensor) -> FlexTensor {
        let (x, weight) = (contiguous(x), contiguous(weight));
        let width = values(&weight).len();
        let mut out = room(values(&x).len());
        out.par_chunks_mut(width).zip(values(&x).par_chunks(width)).for_each(|(out, x)| {
            let weight = values(&weight);
            lanes::vectorized(
                #[inline(always)]
                || {
                    let inverse = inverse(x);
                    for ((out, &x), &weight) in out.iter_mut().zip(x).zip(weight) {
                        out.write(x * inverse * weight);
                    }
                },
            );
        });
        // SAFETY: every row is as wide as the weight, and written whole.
        tensor(unsafe { filled(out) }, x.shape())
    }
}

impl<C: CheckpointStrategy> RmsNormOp for Autodiff<Flex, C> {
    fn submask_rms_norm(x: FloatTensor<Self>, weight: FloatTensor<Self>) -> FloatTensor<Self> {
        let nodes = [x.node(), weight.node()];
        let (x, weight) = (contiguous(x.into_primitive()), contiguous(weight.into_primitive()));
        match RmsNormBackward.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => {
                let out = Flex::submask_rms_norm(x.clone(), weight.clone());
                prepared.finish((x, weight), out)
            }
            OpsKind::UnTracked(prepared) => prepared.finish(Flex::submask_rms_norm(x, weight)),
        }
    }
}

/// With r the reciprocal root and x̂ = x·r: dweight = Σ g·x̂, and dx = r·(u − x̂·mean(u·x̂)) for u = g·weight.
#[derive(Debug)]
struct RmsNormBackward;

impl Backward<Flex, 2> for RmsNormBackward {
    type State = (FlexTensor, FlexTensor);

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let g = contiguous(grads.consume::<Flex>(&ops.node));
        let (x, weight) = ops.state;
        let [rows, width] = dims(&x);
        let mut dx = room(rows * width);
        let block = ROWS * width;
        let sums: Vec<Vec<f32>> = dx
            .par_chunks_mut(block)
            .zip(values(&x).par_chunks(block).zip(values(&g).par_chunks(block)))
            .map(|(dx, (x, g))| {
                lanes::vectorized(
                    #[inline(always)]
                    || block_backward(dx, x, g, values(&weight)),
                )
            })
            .collect();
        let [for_x, for_weight] = ops.parents;
        // SAFETY: every row of every block is written whole.
        register!(grads, for_x, tensor(unsafe { filled(dx) }, [rows, width]));
        register!(grads, for_weight, {
            let mut sum = vec![0.0; width];
            for part in &sums {
                lanes::add_scaled(&mut sum, part, 1.0);
            }
            tensor(sum, [width])
        });
    }
}

/// Fills dx of some rows and returns their part of dweight.
#[inline(always)]
fn block_backward(dx: &mut [MaybeUninit<f32>], x: &[f32], g: &[f32], weight: &[f32]) -> Vec<f32> {
    let width = weight.len();
    let mut d_weight = vec![0.0; width];
    let (mut normed, mut upstream) = (vec![0.0; width], vec![0.0; width]);
    for ((dx, x), g) in dx.chunks_mut(width).zip(x.chunks(width)).zip(g.chunks(width)) {
        let inverse = inverse(x);
        for i in 0..width {
            normed[i] = x[i] * inverse;
            upstream[i] = g[i] * weight[i];
            d_weight[i] += g[i] * normed[i];
        }
        let mean_product = lanes::dot(&upstream, &normed) / width as f32;
        for i in 0..width {
            dx[i].write(inverse * (upstream[i] - normed[i] * mean_product));
        }
    }
    d_weight
}
