//! GroupNorm with a scale and a shift a channel, followed by SiLU or by nothing.

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Dispatch, Flex, TensorMetadata, backend_extension};
use burn::tensor::Tensor;
use burn_flex::FlexTensor;
use rayon::prelude::*;

use super::{contiguous, dims, register, tensor, values};
use crate::ops::plain::NORM_EPSILON;
use crate::ops::{GroupNorm, lanes};

#[backend_extension(Flex, Autodiff)]
pub trait GroupNormOp: burn::backend::Backend {
    fn submask_group_norm(
        x: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        norm: GroupNorm,
    ) -> FloatTensor<Self>;
}

/// See [`crate::ops::Kernels::group_norm`].
pub fn group_norm(x: Tensor<4>, scale: Tensor<2>, shift: Tensor<2>, norm: GroupNorm) -> Tensor<4> {
    let (x, scale, shift) = (x.into_dispatch(), scale.into_dispatch(), shift.into_dispatch());
    Tensor::from_dispatch(Dispatch::submask_group_norm(x, scale, shift, norm))
}

/// Sizes of the planes, and which row of a modulation an image has.
#[derive(Clone, Copy)]
struct Sizes {
    batch: usize,
    channels: usize,
    pixels: usize,
    /// Rows of scale and shift: 1 or the batch.
    modulations: usize,
    norm: GroupNorm,
}

impl Sizes {
    fn of(x: &FlexTensor, scale: &FlexTensor, norm: GroupNorm) -> Self {
        let ([batch, channels, height, width], [modulations, _]) = (dims(x), dims(scale));
        Self { batch, channels, pixels: height * width, modulations, norm }
    }

    /// Channels of a group.
    fn share(&self) -> usize {
        self.channels / self.norm.groups
    }

    /// Elements of a group of one image.
    fn group(&self) -> usize {
        self.share() * self.pixels
    }

    /// The values of the channels of group `index`, counted over all images.
    fn of_group<'a>(&self, modulation: &'a [f32], index: usize) -> &'a [f32] {
        let image = if self.modulations == 1 { 0 } else { index / self.norm.groups };
        &modulation[image * self.channels + index % self.norm.groups * self.share()..][..self.share()]
    }

    /// [B, channels] as the gradient of a modulation, summed over images in order where they share it.
    fn reduce(&self, gradients: Vec<f32>) -> FlexTensor {
        let rows = if self.modulations == self.batch { gradients } else { self.summed(&gradients) };
        tensor(rows, [self.modulations, self.channels])
    }

    fn summed(&self, gradients: &[f32]) -> Vec<f32> {
        super::linear::column_sums(gradients, self.channels)
    }
}

/// Mean and reciprocal standard deviation of a group.
#[inline(always)]
fn statistics(x: &[f32]) -> (f32, f32) {
    let count = x.len() as f32;
    let mean = lanes::sum(x, |x| x) / count;
    let variance = lanes::sum(x, |x| (x - mean) * (x - mean)) / count;
    (mean, 1.0 / (variance + NORM_EPSILON).sqrt())
}

/// The results of one group.
#[inline(always)]
fn group_forward(out: &mut [f32], x: &[f32], scale: &[f32], shift: &[f32], silu: bool) {
    let pixels = x.len() / scale.len();
    let (mean, inverse) = statistics(x);
    let planes = out.chunks_exact_mut(pixels).zip(x.chunks_exact(pixels));
    for ((out, x), (&scale, &shift)) in planes.zip(scale.iter().zip(shift)) {
        for (out, &x) in out.iter_mut().zip(x) {
            *out = (x - mean) * inverse * scale + shift;
        }
        if silu {
            for out in out.iter_mut() {
                *out *= lanes::sigmoid(*out);
            }
        }
    }
}

impl GroupNormOp for Flex {
    fn submask_group_norm(
        x: FlexTensor,
        scale: FlexTensor,
        shift: FlexTensor,
        norm: GroupNorm,
    ) -> FlexTensor {
        let [x, scale, shift] = [x, scale, shift].map(contiguous);
        let sizes = Sizes::of(&x, &scale, norm);
        let mut out = vec![0.0; values(&x).len()];
        let groups = out.par_chunks_mut(sizes.group()).zip(values(&x).par_chunks(sizes.group()));
        groups.enumerate().for_each(|(index, (out, x))| {
            let (scale, shift) =
                (sizes.of_group(values(&scale), index), sizes.of_group(values(&shift), index));
            lanes::vectorized(
                #[inline(always)]
                || group_forward(out, x, scale, shift, norm.silu),
            );
        });
        tensor(out, x.shape())
    }
}

impl<C: CheckpointStrategy> GroupNormOp for Autodiff<Flex, C> {
    fn submask_group_norm(
        x: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        norm: GroupNorm,
    ) -> FloatTensor<Self> {
        let nodes = [x.node(), scale.node(), shift.node()];
        let [x, scale, shift] = [x, scale, shift].map(|tensor| contiguous(tensor.into_primitive()));
        match GroupNormBackward.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => {
                let state = ([x.clone(), scale.clone(), shift.clone()], norm);
                prepared.finish(state, Flex::submask_group_norm(x, scale, shift, norm))
            }
            OpsKind::UnTracked(prepared) => prepared.finish(Flex::submask_group_norm(x, scale, shift, norm)),
        }
    }
}

/// With x̂ the normalised element, n = x̂·scale + shift and u the gradient of n (g·σ(n)·(1 + n·(1 − σ(n))) after SiLU,
/// else g): dshift = Σ u, dscale = Σ u·x̂, and dx = (u·scale − mean(u·scale) − x̂·mean(u·scale·x̂))/σ_group.
#[derive(Debug)]
struct GroupNormBackward;

impl Backward<Flex, 3> for GroupNormBackward {
    type State = ([FlexTensor; 3], GroupNorm);

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let g = contiguous(grads.consume::<Flex>(&ops.node));
        let ([x, scale, shift], norm) = ops.state;
        let sizes = Sizes::of(&x, &scale, norm);
        let (group, share) = (sizes.group(), sizes.share());
        let mut dx = vec![0.0; values(&x).len()];
        let mut d_scale = vec![0.0; sizes.batch * sizes.channels];
        let mut d_shift = d_scale.clone();
        let sums = d_scale.par_chunks_mut(share).zip(d_shift.par_chunks_mut(share));
        dx.par_chunks_mut(group)
            .zip(values(&x).par_chunks(group).zip(values(&g).par_chunks(group)))
            .zip(sums)
            .enumerate()
            .for_each_init(Vec::new, |normed, (index, ((dx, (x, g)), (d_scale, d_shift)))| {
                let task = GroupBackward {
                    x,
                    g,
                    scale: sizes.of_group(values(&scale), index),
                    shift: sizes.of_group(values(&shift), index),
                    silu: norm.silu,
                };
                normed.resize(group, 0.0);
                lanes::vectorized(
                    #[inline(always)]
                    || task.run(dx, normed, d_scale, d_shift),
                );
            });
        let [for_x, for_scale, for_shift] = ops.parents;
        register!(grads, for_x, tensor(dx, x.shape()));
        register!(grads, for_scale, sizes.reduce(d_scale));
        register!(grads, for_shift, sizes.reduce(d_shift));
    }
}

/// What the gradients of one group follow from.
struct GroupBackward<'a> {
    x: &'a [f32],
    g: &'a [f32],
    scale: &'a [f32],
    shift: &'a [f32],
    silu: bool,
}

impl GroupBackward<'_> {
    /// Fills the gradients; `normed` is room for x̂.
    #[inline(always)]
    fn run(&self, dx: &mut [f32], normed: &mut [f32], d_scale: &mut [f32], d_shift: &mut [f32]) {
        let (count, pixels) = (self.x.len() as f32, self.x.len() / self.scale.len());
        let (mean, inverse) = statistics(self.x);
        for (normed, &x) in normed.iter_mut().zip(self.x) {
            *normed = (x - mean) * inverse;
        }
        let (mut sum, mut product) = (0.0, 0.0);
        for (channel, &scale) in self.scale.iter().enumerate() {
            let plane = channel * pixels..(channel + 1) * pixels;
            let (dx, normed, g) = (&mut dx[plane.clone()], &normed[plane.clone()], &self.g[plane]);
            self.upstream(dx, normed, g, channel);
            d_shift[channel] = lanes::sum(dx, |u| u);
            d_scale[channel] = lanes::dot(dx, normed);
            sum += scale * d_shift[channel];
            product += scale * d_scale[channel];
        }
        let (sum, product) = (sum / count, product / count);
        let planes = dx.chunks_exact_mut(pixels).zip(normed.chunks_exact(pixels));
        for ((dx, normed), &scale) in planes.zip(self.scale) {
            for (dx, &normed) in dx.iter_mut().zip(normed) {
                *dx = inverse * (*dx * scale - sum - normed * product);
            }
        }
    }

    /// u of one channel.
    #[inline(always)]
    fn upstream(&self, out: &mut [f32], normed: &[f32], g: &[f32], channel: usize) {
        if !self.silu {
            out.copy_from_slice(g);
            return;
        }
        let (scale, shift) = (self.scale[channel], self.shift[channel]);
        for ((out, &normed), &g) in out.iter_mut().zip(normed).zip(g) {
            let n = normed * scale + shift;
            let s = lanes::sigmoid(n);
            *out = g * s * (1.0 + n * (1.0 - s));
        }
    }
}
