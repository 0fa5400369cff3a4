//! The image network on the CPU: single convolutions forward and backward, with fused and with plain operations, and
//! one forward and backward pass of a small U-Net.

use std::fmt::{self, Display, Formatter};
use std::hint::black_box;
use std::sync::Arc;

use burn::tensor::{Device, Distribution, Tensor};
use divan::Bencher;
use divan::counter::ItemsCount;
use submask::backbone::unet::{Unet, UnetConfig};
use submask::backbone::weights::{Init, Parameter, Weights};
use submask::backbone::{self, Backbone};
use submask::denoiser::States;
use submask::objective::{LossRows, Objective};
use submask::ops::Kernels;
use submask::predictive::Predictive;
use submask::random::{Draws, Purpose};
use submask::subtoken::SubTokenizer;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// (batch, channels, height and width).
const CONVOLUTIONS: [[usize; 3]; 6] =
    [[16, 32, 32], [16, 96, 32], [16, 64, 16], [16, 128, 16], [32, 64, 8], [32, 128, 8]];

const BATCH: usize = 16;

/// 2·(multiplications) of forward, gradient of the input and gradient of the weight.
fn operations([batch, channels, size]: [usize; 3]) -> u64 {
    3 * 2 * (batch * size * size * channels * channels * 9) as u64
}

/// A size, with fused or with plain operations.
struct Convolution {
    kernels: Kernels,
    sizes: [usize; 3],
}

impl Display for Convolution {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let [batch, channels, size] = self.sizes;
        write!(f, "{}, B {batch}, {channels} channels, {size}x{size}", self.kernels)
    }
}

const BOTH: [Kernels; 2] = [Kernels::FUSED, Kernels::PLAIN];

fn convolutions() -> impl Iterator<Item = Convolution> {
    CONVOLUTIONS.into_iter().flat_map(|sizes| BOTH.map(|kernels| Convolution { kernels, sizes }))
}

/// Multiplications and additions of a convolution by 3×3, forward and backward, per second.
#[divan::bench(args = convolutions(), max_time = 6)]
fn convolution(bencher: Bencher, &Convolution { kernels, sizes }: &Convolution) {
    let [batch, channels, size] = sizes;
    let device = Device::flex().autodiff();
    let normal = |shape: [usize; 4]| {
        Tensor::<4>::random(shape, Distribution::Normal(0.0, 1.0), &device).require_grad()
    };
    let (x, weight) = (normal([batch, channels, size, size]), normal([channels, channels, 3, 3]));
    let bias = Tensor::<1>::zeros([channels], &device).require_grad();
    bencher.counter(ItemsCount::new(operations(sizes))).bench_local(|| {
        black_box(kernels.conv(x.clone(), weight.clone(), bias.clone()).sum().backward());
    });
}

/// Loss and gradients of a small U-Net, images per second.
#[divan::bench(args = BOTH, max_time = 6)]
fn network(bencher: Bencher, kernels: &Kernels) {
    let config = UnetConfig {
        channels: 3,
        height: 32,
        width: 32,
        model_channels: 96,
        channel_mult: vec![1, 1, 1],
        res_blocks: 1,
        attention_resolutions: vec![4],
        head_channels: 32,
        dropout: 0.0,
        classes: None,
    };
    let codes = SubTokenizer::new(256, 2).expect("the sizes are valid");
    let draws = Draws::new(2, Purpose::Mask);
    let tokens = BATCH * config.tokens();
    let x_0: Vec<u32> = (0..tokens as u32).map(|i| draws.below(256, 0, i, 0) as u32).collect();
    let y_t = vec![codes.mask_id(); tokens * 2];
    let positions: Vec<usize> = (0..tokens).collect();
    let predictive = Arc::new(Predictive::new(codes.clone(), false));
    let weights = vec![1.0 / tokens as f32; tokens];
    let rows = LossRows::new(predictive, Objective::CrossEntropy, x_0, y_t.clone(), weights);
    let rows = Arc::new(rows);
    let network = Unet::new(config, &codes, *kernels).expect("the sizes are valid");
    let parameters = network.parameters();
    let drawn = |parameter: &Parameter| match parameter.init {
        Init::Zeros => Parameter { init: Init::Uniform(0.02), ..parameter.clone() },
        _ => parameter.clone(),
    };
    let values: Vec<Vec<f32>> =
        parameters.iter().enumerate().map(|(i, parameter)| drawn(parameter).initial(1, i)).collect();
    let weights = Weights::new(parameters, &values, &Device::flex().autodiff());
    bencher.counter(ItemsCount::new(BATCH)).bench_local(|| {
        let inputs = States { y_t: &y_t, t: &[0.5; BATCH], labels: None }.into();
        let loss = backbone::loss(&network, &weights, &inputs, &positions, rows.clone(), None);
        black_box(loss.expect("whole images").expect("there are rows").backward());
    });
}

fn main() {
    divan::main();
}
