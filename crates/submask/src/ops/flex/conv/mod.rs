//! Convolutions that keep the resolution, without a matrix of patches: matrix products whose panels are read where they
//! stand in k copies of the image, moved by a column of the kernel each, or, of many channels by 3×3, Winograd's filtering.

mod kernel;
mod slab;
mod winograd;

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
use crate::ops::lanes;

#[backend_extension(Flex, Autodiff)]
pub trait ConvOp: burn::backend::Backend {
    fn submask_conv(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
    ) -> FloatTensor<Self>;
}

/// See [`crate::ops::Kernels::conv`].
pub fn conv(x: Tensor<4>, weight: Tensor<4>, bias: Tensor<1>) -> Tensor<4> {
    let (x, weight, bias) = (x.into_dispatch(), weight.into_dispatch(), bias.into_dispatch());
    Tensor::from_dispatch(Dispatch::submask_conv(x, weight, bias))
}

/// Sizes of a convolution.
#[derive(Clone, Copy, Debug)]
struct Sizes {
    batch: usize,
    /// Channels in.
    inner: usize,
    /// Channels out.
    outer: usize,
    height: usize,
    width: usize,
    /// Height and width of the kernel, odd.
    kernel: usize,
}

impl Sizes {
    fn of(x: &FlexTensor, weight: &FlexTensor) -> Self {
        let ([batch, inner, height, width], [outer, _, _, kernel]) = (dims(x), dims(weight));
        Self { batch, inner, outer, height, width, kernel }
    }

    /// Of the gradient of the input, which is a convolution of the output's.
    fn reversed(self) -> Self {
        Self { inner: self.outer, outer: self.inner, ..self }
    }

    /// Pixels of an image.
    fn pixels(&self) -> usize {
        self.height * self.width
    }

    /// Elements of the kernel.
    fn taps(&self) -> usize {
        self.kernel * self.kernel
    }
}

impl ConvOp for Flex {
    fn submask_conv(x: FlexTensor, weight: FlexTensor, bias: FlexTensor) -> FlexTensor {
        let [x, weight, bias] = [x, weight, bias].map(contiguous);
        let sizes = Sizes::of(&x, &weight);
        let out = convolve(sizes, values(&x), values(&weight), Some(values(&bias)));
        tensor(out, [sizes.batch, sizes.outer, sizes.height, sizes.width])
    }
}

impl<C: CheckpointStrategy> ConvOp for Autodiff<Flex, C> {
    fn submask_conv(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let nodes = [x.node(), weight.node(), bias.node()];
        let [x, weight, bias] = [x, weight, bias].map(|tensor| contiguous(tensor.into_primitive()));
        match ConvBackward.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => {
                let out = Flex::submask_conv(x.clone(), weight.clone(), bias);
                prepared.finish((x, weight), out)
            }
            OpsKind::UnTracked(prepared) => prepared.finish(Flex::submask_conv(x, weight, bias)),
        }
    }
}

/// dx = the convolution of g with the kernel turned by 180° and in and out exchanged; dweight = the products of g and
/// the shifted x, summed over pixels and images in order; dbias = Σ g.
#[derive(Debug)]
struct ConvBackward;

impl Backward<Flex, 3> for ConvBackward {
    type State = (FlexTensor, FlexTensor);

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let g = contiguous(grads.consume::<Flex>(&ops.node));
        let (x, weight) = ops.state;
        let sizes = Sizes::of(&x, &weight);
        let [for_x, for_weight, for_bias] = ops.parents;
        register!(grads, for_x, {
            let turned = turned(sizes, values(&weight));
            tensor(convolve(sizes.reversed(), values(&g), &turned, None), x.shape())
        });
        register!(grads, for_weight, {
            tensor(weight_gradient(sizes, values(&x), values(&g)), weight.shape())
        });
        register!(grads, for_bias, tensor(bias_gradient(sizes, values(&g)), [sizes.outer]));
    }
}

/// The convolution of all images with `weight`, plus bias: by Winograd's filtering where that is faster, which depends on the
/// sizes of an image alone, else by a sum over the kernel.
fn convolve(sizes: Sizes, x: &[f32], weight: &[f32], bias: Option<&[f32]>) -> Vec<f32> {
    match winograd::fits(sizes) {
        true => winograd::convolve(sizes, x, weight, bias),
        false => kernel::convolve(sizes, x, weight, bias),
    }
}

/// The gradient of the weight, likewise; here the batch counts, too.
fn weight_gradient(sizes: Sizes, x: &[f32], g: &[f32]) -> Vec<f32> {
    match winograd::fits_gradient(sizes) {
        true => winograd::weight_gradient(sizes, x, g),
        false => kernel::weight_gradient(sizes, x, g),
    }
}

/// The kernel turned by 180°, with in and out exchanged: [in, out, k, k].
fn turned(sizes: Sizes, weight: &[f32]) -> Vec<f32> {
    let (taps, row) = (sizes.taps(), sizes.inner * sizes.taps());
    let elements = |inner: usize| {
        weight.chunks_exact(row).flat_map(move |weight| weight[inner * taps..][..taps].iter().rev())
    };
    (0..sizes.inner).flat_map(elements).copied().collect()
}

/// Σ of every channel's pixels, then over images in order.
fn bias_gradient(sizes: Sizes, g: &[f32]) -> Vec<f32> {
    let planes: Vec<f32> = g.par_chunks(sizes.pixels()).map(|plane| lanes::sum(plane, |x| x)).collect();
    super::linear::column_sums(&planes, sizes.outer)
}

/// The first elements of a buffer, which grows if there are fewer.
fn of_length(buffer: &mut Vec<f32>, len: usize) -> &mut [f32] {
    buffer.resize(buffer.len().max(len), 0.0);
    &mut buffer[..len]
}
