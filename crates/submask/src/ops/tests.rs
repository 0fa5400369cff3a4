//! Fused kernels equal their plain compositions, values and gradients, on awkward sizes.

use burn::tensor::{Device, FloatDType, TensorData, Tolerance};

use super::*;
use crate::objective::{LossRows, Objective};
use crate::predictive::Predictive;
use crate::random::{Draws, Purpose};
use crate::subtoken::SubTokenizer;

fn random<const D: usize>(shape: [usize; D], id: u64, device: &Device) -> Tensor<D> {
    let draws = Draws::new(id, Purpose::Init);
    let values: Vec<f32> =
        (0..shape.iter().product::<usize>()).map(|i| draws.normal(0, i as u32, 0) as f32).collect();
    Tensor::from_data(TensorData::new(values, shape), device)
}

/// The CUDA device, if there is one, and its operations in a precision.
#[cfg(feature = "cuda")]
fn on_cuda(precision: Precision) -> Option<(Device, Kernels)> {
    let gpu = crate::device::gpus().into_iter().find(|gpu| gpu.interface == "CUDA")?;
    Some((gpu.device, Kernels::CUDA.with_precision(precision).unwrap()))
}

#[cfg(not(feature = "cuda"))]
fn on_cuda(_: Precision) -> Option<(Device, Kernels)> {
    None
}

/// Runs `op` with fused kernels, with those for GPUs and those of CUDA, and with the composition, on the same leaves, and
/// compares the results and every gradient.
fn compare<const N: usize, const D: usize>(
    shapes: [&[usize]; N],
    op: impl Fn(Kernels, [Tensor<1>; N]) -> Tensor<D>,
) {
    let on_cpu = [Kernels::FUSED, Kernels::GPU].map(|kernels| (Device::flex(), kernels));
    for (device, kernels) in on_cpu.into_iter().chain(on_cuda(Precision::Fp32)) {
        compare_on(&device, shapes, |leaves| op(kernels, leaves), |leaves| op(Kernels::PLAIN, leaves));
    }
}

/// Runs both operations on the same leaves and compares the results and every gradient.
fn compare_both<const N: usize, const D: usize>(
    shapes: [&[usize]; N],
    ours: impl Fn([Tensor<1>; N]) -> Tensor<D>,
    plain: impl Fn([Tensor<1>; N]) -> Tensor<D>,
) {
    compare_on(&Device::flex(), shapes, ours, plain);
}

/// The same, of operations on a device and the composition on the CPU.
fn compare_on<const N: usize, const D: usize>(
    device: &Device,
    shapes: [&[usize]; N],
    ours: impl Fn([Tensor<1>; N]) -> Tensor<D>,
    plain: impl Fn([Tensor<1>; N]) -> Tensor<D>,
) {
    let run = |device: &Device, op: &dyn Fn([Tensor<1>; N]) -> Tensor<D>| {
        let device = device.clone().autodiff();
        let mut index = 0;
        let leaves = shapes.map(|shape| {
            index += 1;
            random([shape.iter().product()], index, &device).require_grad()
        });
        let out = op(leaves.clone());
        let upstream = random([out.shape().num_elements()], 99, &device);
        let loss = (out.clone().reshape([upstream.dims()[0]]) * upstream).sum();
        let gradients = loss.backward();
        let mut all = vec![out.into_data()];
        all.extend(leaves.iter().map(|leaf| leaf.grad(&gradients).expect("every leaf is used").into_data()));
        all
    };
    for (ours, plain) in run(device, &ours).iter().zip(run(&Device::flex(), &plain)) {
        ours.assert_approx_eq::<f32>(&plain, Tolerance::rel_abs(2e-4, 2e-5));
    }
}

#[test]
fn embedding_equals_its_composition() {
    // Rows that are taken often, never, and by several digits of a token; zeros behind; more than a task's tokens.
    for (tokens, per_token, width, hidden, summed) in
        [(1, 1, 1, 1, false), (5, 3, 7, 23, false), (300, 2, 35, 70, false), (300, 4, 33, 33, true)]
    {
        let draws = Draws::new(8, Purpose::Mask);
        let indices = (0..tokens * per_token).map(|i| draws.below(6, 0, i as u32, 0) as u32).collect();
        let rows = TableRows { indices, per_token, hidden, summed };
        compare([&[7, width]], |kernels, [table]| kernels.embedding(table.reshape([7, width]), rows.clone()));
    }
}

#[test]
fn rows_are_taken_with_their_gradients() {
    // Once, several times, never; more of one than are added up together.
    let few: Vec<u32> = vec![4, 0, 2, 2, 2];
    let many: Vec<u32> = (0..300).map(|i| if i % 3 == 0 { i % 5 } else { 1 }).collect();
    for (indices, width) in [(few, 3), (many, 8)] {
        compare([&[5, width]], |_, [x]| take_rows(x.reshape([5, width]), &indices));
    }
}

#[test]
fn parts_of_columns_have_their_gradients() {
    for (rows, width) in [(1, 4), (3, 5), (4, 128)] {
        compare([&[rows, 3 * width]], |kernels, [x]| {
            let [first, _, third] = kernels.split_columns(x.reshape([rows, 3 * width]));
            first.clone() * third + first
        });
    }
}

#[test]
fn linear_equals_its_composition() {
    for (n, inner, outer) in [(1, 1, 1), (1, 7, 3), (3, 5, 33), (70, 33, 17), (9, 600, 64)] {
        compare([&[n, inner], &[outer, inner], &[outer]], |kernels, [x, w, b]| {
            kernels.linear(x.reshape([n, inner]), w.reshape([outer, inner]), Some(b))
        });
        compare([&[n, inner], &[outer, inner]], |kernels, [x, w]| {
            // A transposed, hence not contiguous, input.
            let x = x.reshape([inner, n]).transpose();
            kernels.linear(x, w.reshape([outer, inner]), None)
        });
    }
}

/// Checks what `run` gives with kernels that multiply bfloat16 numbers, and with those of CUDA that multiply TF32 numbers:
/// near the composition's, and the first not the same.
fn is_rounded(run: impl Fn(Kernels, &Device) -> Vec<TensorData>) {
    let on_cpu = [Kernels::FUSED, Kernels::GPU]
        .map(|kernels| (Device::flex(), kernels.with_precision(Precision::Bf16).unwrap()));
    let on_cuda = [Precision::Bf16, Precision::Tf32].into_iter().filter_map(on_cuda);
    for (device, kernels) in on_cpu.into_iter().chain(on_cuda) {
        is_rounded_by(kernels, |kernels| {
            // Compositions are the CPU's.
            let device = if kernels == Kernels::PLAIN { Device::flex() } else { device.clone() };
            run(kernels, &device)
        });
    }
}

fn is_rounded_by(kernels: Kernels, run: impl Fn(Kernels) -> Vec<TensorData>) {
    let values =
        |kernels| run(kernels).into_iter().map(|data| data.convert::<f32>().try_into_vec::<f32>().unwrap());
    let largest = |x: &mut dyn Iterator<Item = f32>| x.fold(0f32, |a, x| a.max(x.abs()));
    let differences: Vec<f32> = values(kernels)
        .zip(values(Kernels::PLAIN))
        .map(|(ours, plain)| {
            largest(&mut ours.iter().zip(&plain).map(|(a, b)| a - b)) / largest(&mut plain.iter().copied())
        })
        .collect();
    // Rounded, but not by more than bfloat16's 2⁻⁹ of either factor, which adds up to little.
    assert!(differences[0] > 1e-5, "{kernels}: nothing was rounded: {differences:?}");
    assert!(differences.iter().all(|difference| *difference < 0.02), "{kernels}: {differences:?}");
}

#[test]
fn bfloat16_layers_are_within_their_rounding_of_the_composition() {
    for (n, inner, outer) in [(1, 7, 3), (3, 5, 33), (70, 33, 17), (300, 70, 140)] {
        is_rounded(|kernels, device| {
            let device = device.clone().autodiff();
            let [x, w] = [[n, inner], [outer, inner]]
                .map(|shape| random(shape, shape[0] as u64, &device).require_grad());
            let b = random([outer], 3, &device).require_grad();
            // What GELU gives may be of the next product's type.
            let out = kernels.linear_gelu(x.clone(), w.clone(), b.clone()).cast(FloatDType::F32)
                + kernels.linear(x.clone(), w.clone(), Some(b.clone())) * 0.5
                + kernels.linear(x.clone(), w.clone(), None);
            let upstream = random([n, outer], 99, &device);
            let gradients = (out.clone() * upstream).sum().backward();
            let [x, w] = [x, w].map(|tensor| tensor.grad(&gradients).unwrap().into_data());
            vec![out.into_data(), x, w, b.grad(&gradients).unwrap().into_data()]
        });
    }
}

#[test]
fn bfloat16_attention_is_within_its_rounding_of_the_composition() {
    let masks =
        [(7, 3, AttentionMask::CAUSAL), (40, 2, AttentionMask::FULL), (300, 1, AttentionMask::blocks(50))];
    for (length, heads, mask) in masks {
        let width = heads * 6;
        let rotary = Arc::new(Rotary::new(length, 6));
        is_rounded(|kernels, device| {
            let device = device.clone().autodiff();
            let qkv = random([2, length, 3 * width], 1, &device).require_grad();
            let out = kernels.attention(qkv.clone(), heads, rotary.clone(), mask).cast(FloatDType::F32);
            let gradients = (out.clone() * random([2, length, width], 99, &device)).sum().backward();
            vec![out.into_data(), qkv.grad(&gradients).unwrap().into_data()]
        });
    }
}

#[test]
fn attention_takes_heads_of_every_width() {
    // Padded halves, and tiles of every size.
    for head_width in [10, 64, 72, 128, 200, 258] {
        let (length, mask) = (70, AttentionMask::blocks(20));
        let rotary = Arc::new(Rotary::new(length, head_width));
        let shape = [1, length, 3 * head_width];
        let attend = |kernels: Kernels, qkv: Tensor<3>| {
            kernels.attention(qkv, 1, rotary.clone(), mask).cast(FloatDType::F32)
        };
        compare([&shape], |kernels, [qkv]| attend(kernels, qkv.reshape(shape)));
        is_rounded(|kernels, device| {
            let qkv = random(shape, 1, &device.clone().autodiff()).require_grad();
            let out = attend(kernels, qkv.clone());
            let upstream = random([1, length, head_width], 99, &qkv.device());
            let gradients = (out.clone() * upstream).sum().backward();
            vec![out.into_data(), qkv.grad(&gradients).unwrap().into_data()]
        });
    }
}

#[test]
fn linear_and_gelu_equal_their_composition() {
    for (n, inner, outer) in [(1, 1, 1), (1, 7, 3), (3, 5, 33), (70, 33, 17), (129, 9, 64)] {
        compare([&[n, inner], &[outer, inner], &[outer]], |kernels, [x, w, b]| {
            // A transposed, hence not contiguous, input.
            let x = x.reshape([inner, n]).transpose();
            kernels.linear_gelu(x, w.reshape([outer, inner]), b)
        });
    }
}

#[test]
fn two_layers_with_gelu_between_them_equal_their_composition() {
    for (n, inner, middle, outer) in [(1, 1, 1, 1), (3, 5, 33, 2), (70, 33, 16, 17), (129, 8, 64, 24)] {
        let shapes: [&[usize]; 5] = [&[n, inner], &[middle, inner], &[middle], &[outer, middle], &[outer]];
        let run = |kernels: Kernels, [x, first, first_bias, second, second_bias]: [Tensor<1>; 5]| {
            let first = first.reshape([middle, inner]).into();
            let layers = [(first, first_bias), (second.reshape([outer, middle]).into(), second_bias)];
            kernels.mlp(x.reshape([n, inner]), layers)
        };
        compare(shapes, run);
        is_rounded(|kernels, device| {
            let device = device.clone().autodiff();
            let leaves: [Tensor<1>; 5] = std::array::from_fn(|index| {
                let len = shapes[index].iter().product();
                random([len], index as u64, &device).require_grad()
            });
            let out = run(kernels, leaves.clone());
            let upstream = random([n, outer], 99, &device);
            let gradients = (out.clone() * upstream).sum().backward();
            let gradients = leaves.map(|leaf| leaf.grad(&gradients).unwrap().into_data());
            std::iter::once(out.into_data()).chain(gradients).collect()
        });
    }
}

#[test]
fn modulated_norm_equals_its_composition() {
    let narrow = [(1, 1, 1), (3, 5, 1), (3, 5, 3), (7, 21, 1)].map(|sizes| (sizes, 19));
    let wide = [((2, 40, 2), 16), ((1, 3, 1), 1030), ((2, 3, 1), 2100)];
    for ((batch, length, modulations), width) in narrow.into_iter().chain(wide) {
        let shapes: [&[usize]; 4] =
            [&[batch, length, width], &[width], &[modulations, width], &[modulations, width]];
        compare(shapes, |kernels, [x, weight, shift, scale]| {
            let modulation = [modulations, width];
            let x = x.reshape([batch, length, width]);
            kernels.modulated_norm(x, weight, shift.reshape(modulation), scale.reshape(modulation))
        });
    }
}

#[test]
fn rms_norm_equals_its_composition() {
    for (rows, width) in [(1, 1), (3, 19), (150, 6), (70, 8), (5, 1100)] {
        compare([&[rows, width], &[width]], |kernels, [x, weight]| {
            kernels.rms_norm(x.reshape([rows, width]), weight)
        });
    }
}

#[test]
fn silu_equals_its_composition() {
    for width in [1, 19, 1030] {
        compare([&[3, width]], |kernels, [x]| kernels.silu(x.reshape([3, width])));
    }
}

#[test]
fn swiglu_equals_its_composition() {
    for rows in [1, 37] {
        compare([&[rows, 3], &[rows, 3]], |kernels, [gate, x]| {
            kernels.swiglu(gate.reshape([rows, 3]), x.reshape([rows, 3]))
        });
    }
}

/// (batch, channels in, channels out, height, width, kernel): odd sizes, one pixel, tails of tiles and of vectors.
const CONVOLUTIONS: [[usize; 6]; 11] = [
    [1, 1, 1, 1, 1, 1],
    [1, 1, 1, 1, 1, 3],
    [2, 3, 5, 1, 1, 3],
    [1, 7, 9, 5, 3, 3],
    [3, 9, 35, 4, 6, 3],
    [2, 4, 33, 8, 8, 3],
    [1, 5, 8, 17, 33, 3],
    [2, 37, 6, 7, 16, 1],
    [1, 2, 3, 6, 5, 5],
    [2, 8, 64, 16, 16, 3],
    [1, 2, 2, 1, 300, 3],
];

#[test]
fn convolution_equals_its_composition() {
    for [batch, inner, outer, height, width, kernel] in CONVOLUTIONS {
        let (image, weight) = ([batch, inner, height, width], [outer, inner, kernel, kernel]);
        compare([&image, &weight, &[outer]], |kernels, [x, w, b]| {
            kernels.conv(x.reshape(image), w.reshape(weight), b)
        });
        compare([&image, &weight, &[outer]], |kernels, [x, w, b]| {
            // Transposed, hence not contiguous.
            let x = x.reshape([batch, inner, width, height]).swap_dims(2, 3);
            kernels.conv(x, w.reshape([inner, outer, kernel, kernel]).swap_dims(0, 1), b)
        });
    }
}

/// A convolution of some of five images: its result, and the gradients of images, weight and bias.
fn convolved(
    device: &Device,
    [inner, outer, height, width, kernel]: [usize; 5],
    images: std::ops::Range<usize>,
    conv: impl Fn(Tensor<4>, Tensor<4>, Tensor<1>) -> Tensor<4>,
) -> [TensorData; 4] {
    let device = device.clone().autodiff();
    let some = |x: Tensor<4>| x.narrow(0, images.start, images.len());
    let x = some(random([5, inner, height, width], 1, &device)).require_grad();
    let weight = random([outer, inner, kernel, kernel], 2, &device).require_grad();
    let bias = random([outer], 3, &device).require_grad();
    let out = conv(x.clone(), weight.clone(), bias.clone());
    let upstream = some(random([5, outer, height, width], 4, &device));
    let gradients = (out.clone() * upstream).sum().backward();
    let [dx, dweight] = [x, weight].map(|x| x.grad(&gradients).unwrap().into_data());
    [out.into_data(), dx, dweight, bias.grad(&gradients).unwrap().into_data()]
}

/// The values of some of five images.
fn of_images(all: &TensorData, images: &std::ops::Range<usize>) -> Vec<f32> {
    let values = all.clone().try_into_vec::<f32>().unwrap();
    let len = values.len() / 5;
    values[images.start * len..images.end * len].to_vec()
}

/// Larger than tiles in channels, in pixels, and in positions of a gradient's piece; the last so wide that rows of the kernel
/// have patches of their own.
const LARGE_CONVOLUTIONS: [[usize; 5]; 4] =
    [[70, 100, 9, 16, 3], [33, 7, 20, 31, 3], [40, 130, 8, 8, 1], [3, 4, 2, 700, 3]];

/// Winograd's filtering, which rounds otherwise.
#[test]
fn convolutions_of_many_channels_equal_their_composition() {
    let sizes = [64, 70, 16, 17, 3];
    let run = |kernels: Kernels| convolved(&Device::flex(), sizes, 0..5, |x, w, b| kernels.conv(x, w, b));
    for (ours, plain) in run(Kernels::FUSED).iter().zip(run(Kernels::PLAIN)) {
        ours.assert_approx_eq::<f32>(&plain, Tolerance::rel_abs(2e-4, 1e-3));
    }
}

#[test]
fn large_convolutions_equal_their_composition_in_every_precision() {
    let kinds = [Precision::Fp32, Precision::Tf32, Precision::Bf16];
    for (precision, (device, kernels)) in kinds.into_iter().filter_map(|kind| Some((kind, on_cuda(kind)?))) {
        for sizes in LARGE_CONVOLUTIONS {
            let run = |kernels: Kernels| {
                let device = if kernels == Kernels::PLAIN { &Device::flex() } else { &device };
                Vec::from(convolved(device, sizes, 0..5, |x, w, b| kernels.conv(x, w, b)))
            };
            if precision == Precision::Fp32 {
                for (ours, plain) in run(kernels).iter().zip(run(Kernels::PLAIN)) {
                    ours.assert_approx_eq::<f32>(&plain, Tolerance::rel_abs(2e-4, 1e-3));
                }
            } else {
                is_rounded_by(kernels, run);
            }
        }
    }
}

#[test]
fn an_image_has_the_same_bits_in_any_batch_on_a_cuda_device() {
    let kinds = [Precision::Fp32, Precision::Tf32, Precision::Bf16];
    for (device, kernels) in kinds.into_iter().filter_map(on_cuda) {
        for sizes in LARGE_CONVOLUTIONS {
            let run = |images| convolved(&device, sizes, images, |x, w, b| kernels.conv(x, w, b));
            let all = run(0..5);
            for images in [0..1, 2..3, 3..5] {
                for (part, all) in run(images.clone()).into_iter().zip(&all[..2]) {
                    let same = part.try_into_vec::<f32>().unwrap() == of_images(all, &images);
                    assert!(same, "{kernels}, {sizes:?}, {images:?}");
                }
            }
        }
    }
}

#[test]
fn a_convolution_does_not_depend_on_the_batch_or_on_the_threads() {
    for [_, inner, outer, height, width, kernel] in CONVOLUTIONS {
        let run = |images: std::ops::Range<usize>, threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let sizes = [inner, outer, height, width, kernel];
            pool.install(|| convolved(&Device::flex(), sizes, images, flex::conv))
        };
        let all = run(0..5, 1);
        for (again, all) in run(0..5, 3).iter().zip(&all) {
            again.assert_eq(all, true);
        }
        for images in [0..1, 2..3, 3..5] {
            for (part, all) in run(images.clone(), 2).into_iter().zip(&all[..2]) {
                assert_eq!(part.try_into_vec::<f32>().unwrap(), of_images(all, &images));
            }
        }
    }
}

#[test]
fn group_norm_equals_its_composition() {
    for (batch, modulations) in [(1, 1), (3, 1), (3, 3)] {
        // One pixel, groups of one channel, one group of all.
        for (channels, groups, height, width) in [(8, 2, 1, 1), (6, 6, 3, 5), (6, 3, 4, 5), (3, 1, 17, 2)] {
            for silu in [true, false] {
                let (image, modulation) = ([batch, channels, height, width], [modulations, channels]);
                compare([&image, &modulation, &modulation], |kernels, [x, scale, shift]| {
                    // Transposed, hence not contiguous.
                    let x = x.reshape([batch, channels, width, height]).swap_dims(2, 3);
                    let (scale, shift) = (scale.reshape(modulation), shift.reshape(modulation));
                    kernels.group_norm(x, scale, shift, GroupNorm { groups, silu })
                });
            }
        }
    }
}

#[test]
fn bfloat16_tables_are_rounded_to_the_nearest() {
    let exact = Rotary::new(50, 8);
    let rounded = exact.clone().rounded_to_bf16();
    for (x, y) in exact.cos.iter().chain(&exact.sin).zip(rounded.cos.iter().chain(&rounded.sin)) {
        assert_eq!(y.to_bits() & 0xffff, 0, "{y} is no bfloat16");
        let below = f32::from_bits(x.to_bits() & 0xffff_0000);
        let above = f32::from_bits((x.to_bits() & 0xffff_0000) + 0x1_0000);
        assert_eq!((x - y).abs(), (x - below).abs().min((x - above).abs()), "{x} became {y}");
    }
    let ties = [0x3f80_8000, 0x3f81_8000].map(|bits| flex::rounded_to_bf16(f32::from_bits(bits)).to_bits());
    assert_eq!(ties, [0x3f80_0000, 0x3f82_0000]);
}

#[test]
fn attention_equals_its_composition() {
    let (full, causal) = (AttentionMask::FULL, AttentionMask::CAUSAL);
    for (batch, length, heads, mask) in [
        (1, 1, 1, full),
        (2, 7, 3, full),
        (2, 7, 3, causal),
        (1, 20, 2, causal),
        (2, 7, 3, AttentionMask::blocks(3)),
    ] {
        let width = heads * 6;
        let rotary = Arc::new(Rotary::new(32, 6));
        compare([&[batch, length, 3 * width]], |kernels, [qkv]| {
            kernels.attention(qkv.reshape([batch, length, 3 * width]), heads, rotary.clone(), mask)
        });
    }
}

#[test]
fn attention_in_blocks_of_queries_equals_its_composition() {
    let (batch, length, heads, width) = (2, 7, 3, 18);
    let rotary = Rotary::new(length, 6);
    // One query a block, some and fewer in the last, and all.
    for block_scores in [1, 3 * batch * heads * length, 1 << 20] {
        for mask in [AttentionMask::FULL, AttentionMask::CAUSAL, AttentionMask::blocks(2)] {
            let (first, past) = (0, 0);
            let settings =
                gpu::BlockAttention { mask, first, past, precision: Precision::Fp32, block_scores };
            let qkv = |x: Tensor<1>| x.reshape([batch, length, 3 * width]);
            compare_both(
                [&[batch, length, 3 * width]],
                |[x]| gpu::attention_in_blocks(qkv(x), heads, &rotary, settings),
                |[x]| plain::attention(qkv(x), heads, &rotary, mask),
            );
        }
    }
}

/// The sizes of attention with a past: sequences, positions, the first of them, the past's length, heads, block length.
const PASTS: [[usize; 6]; 7] = [
    [1, 1, 0, 1, 1, 1],
    [2, 12, 0, 12, 3, 4],
    [1, 20, 0, 20, 2, 1],
    [2, 40, 0, 40, 1, 20],
    [2, 4, 8, 8, 3, 4],
    [1, 3, 64, 70, 1, 4],
    [1, 150, 0, 149, 1, 3],
];

#[test]
fn attention_with_a_past_equals_its_composition() {
    for [batch, rows, first, past, heads, block_len] in PASTS {
        let (width, mask) = (heads * 6, AttentionMask::blocks(block_len));
        let rotary = Arc::new(Rotary::new(first + rows + past, 6));
        let shapes: [&[usize]; 2] = [&[batch, rows, 3 * width], &[batch, past, 2 * width]];
        compare(shapes, |kernels, [qkv, keys_values]| {
            let keys_values = keys_values.reshape([batch, past, 2 * width]);
            let past = Past { keys_values, first };
            kernels.attention_with_past(
                qkv.reshape([batch, rows, 3 * width]),
                past,
                heads,
                rotary.clone(),
                mask,
            )
        });
    }
}

/// The fused kernels of the CPU, and those of CUDA in every precision.
fn with_fused_attention() -> impl Iterator<Item = (Device, Kernels)> {
    let on_cuda = [Precision::Fp32, Precision::Tf32, Precision::Bf16].into_iter().filter_map(on_cuda);
    std::iter::once((Device::flex(), Kernels::FUSED)).chain(on_cuda)
}

#[test]
fn a_block_has_the_same_bits_alone_and_among_others_and_draws_share_a_past() {
    for (device, kernels) in with_fused_attention() {
        a_block_has_the_same_bits(&device, kernels);
    }
}

fn a_block_has_the_same_bits(device: &Device, kernels: Kernels) {
    let (length, heads, width) = (150, 2, 12);
    let rotary = Arc::new(Rotary::new(length, 6));
    let qkv = random([2, length, 3 * width], 1, device);
    let keys_values = random([2, length, 2 * width], 2, device);
    let attend = |qkv: Tensor<3>, keys_values: Tensor<3>, first, block_len| {
        let (past, mask) = (Past { keys_values, first }, AttentionMask::blocks(block_len));
        kernels.attention_with_past(qkv, past, heads, rotary.clone(), mask)
    };
    let values = |x: Tensor<3>| x.into_data().convert::<f32>().try_into_vec::<f32>().unwrap();
    for block_len in [1, 4, 16, 30, 75, 150] {
        let whole = attend(qkv.clone(), keys_values.clone(), 0, block_len);
        for first in (0..length).step_by(block_len) {
            let rows = block_len.min(length - first);
            let alone = qkv.clone().narrow(1, first, rows);
            let alone = attend(alone, keys_values.clone().narrow(1, 0, first.max(1)), first, block_len);
            let among = whole.clone().narrow(1, first, rows);
            assert_eq!(values(alone), values(among), "{block_len} {first}");
        }
        // Two draws of each sequence.
        let twice = |x: Tensor<3>| {
            let [batch, length, width] = x.dims();
            x.reshape([batch, 1, length, width]).expand([batch, 2, length, width]).reshape([
                2 * batch,
                length,
                width,
            ])
        };
        let shared = attend(twice(qkv.clone()), keys_values.clone(), 0, block_len);
        assert_eq!(values(shared), values(twice(whole)));
    }
}

#[test]
fn a_placed_past_and_the_positions_themselves_give_the_bits_of_a_past() {
    for (device, kernels) in with_fused_attention() {
        a_placed_past_gives_the_bits_of_a_past(&device, kernels);
    }
}

fn a_placed_past_gives_the_bits_of_a_past(device: &Device, kernels: Kernels) {
    let (length, heads, width) = (150, 2, 12);
    let rotary = Arc::new(Rotary::new(length, 6));
    let values = |x: Tensor<3>| x.into_data().convert::<f32>().try_into_vec::<f32>().unwrap();
    for block_len in [1, 4, 16, 30, 75, 150] {
        let mask = AttentionMask::blocks(block_len);
        let qkv = random([2, length, 3 * width], 1, device);
        let keys_values = qkv.clone().narrow(2, width, 2 * width);
        let after = |keys_values| {
            let past = Past { keys_values, first: 0 };
            values(kernels.attention_with_past(qkv.clone(), past, heads, rotary.clone(), mask))
        };
        let expected = after(keys_values.clone());
        assert_eq!(after(qkv.clone()), expected, "{block_len}: a past behind queries");
        let placed = kernels.place(keys_values, heads, rotary.clone());
        let of_placed = kernels.attention_with_placed(qkv.clone(), &placed, 0, heads, rotary.clone(), mask);
        assert_eq!(values(of_placed), expected, "{block_len}: a placed past");
        let of_blocks = kernels.attention_of_blocks(qkv.clone(), heads, rotary.clone(), mask);
        assert_eq!(values(of_blocks), expected, "{block_len}: the positions themselves");
    }
}

#[test]
fn attention_of_blocks_equals_its_composition() {
    for (batch, length, heads, block_len) in
        [(1, 1, 1, 1), (2, 12, 3, 4), (1, 70, 1, 1), (2, 37, 2, 20), (1, 150, 1, 16)]
    {
        let (width, mask) = (heads * 6, AttentionMask::blocks(block_len));
        let rotary = Arc::new(Rotary::new(length, 6));
        compare([&[batch, length, 3 * width]], |kernels, [qkv]| {
            kernels.attention_of_blocks(qkv.reshape([batch, length, 3 * width]), heads, rotary.clone(), mask)
        });
    }
}

#[test]
fn a_past_behind_queries_and_a_placed_one_equal_their_compositions() {
    let (heads, width, mask) = (3, 18, AttentionMask::blocks(4));
    let rotary = Arc::new(Rotary::new(12, 6));
    let shapes: [&[usize]; 2] = [&[2, 8, 3 * width], &[2, 9, 3 * width]];
    compare(shapes, |kernels, [qkv, past]| {
        let past = Past { keys_values: past.reshape([2, 9, 3 * width]), first: 4 };
        kernels.attention_with_past(qkv.reshape([2, 8, 3 * width]), past, heads, rotary.clone(), mask)
    });
    let run = |device: &Device, kernels: Kernels| {
        let qkv = random([4, 8, 3 * width], 1, device);
        let placed = kernels.place(random([2, 9, 2 * width], 2, device), heads, rotary.clone());
        kernels.attention_with_placed(qkv, &placed, 4, heads, rotary.clone(), mask).into_data()
    };
    let plain = run(&Device::flex(), Kernels::PLAIN);
    let on_cpu = [Kernels::FUSED, Kernels::GPU].map(|kernels| (Device::flex(), kernels));
    for (device, kernels) in on_cpu.into_iter().chain(on_cuda(Precision::Fp32)) {
        run(&device, kernels).assert_approx_eq::<f32>(&plain, Tolerance::rel_abs(2e-5, 2e-6));
    }
}

#[test]
fn the_first_block_reads_no_past() {
    let (length, heads, width) = (37, 2, 12);
    let rotary = Arc::new(Rotary::new(length, 6));
    let cpu = Device::flex();
    let qkv = |device: &Device| random([2, length, 3 * width], 1, device);
    let full = Kernels::PLAIN.attention(qkv(&cpu), heads, rotary.clone(), AttentionMask::FULL).into_data();
    let on_cpu = [Kernels::PLAIN, Kernels::FUSED, Kernels::GPU].map(|kernels| (cpu.clone(), kernels));
    for (device, kernels) in on_cpu.into_iter().chain(on_cuda(Precision::Fp32)) {
        let past = Past { keys_values: Tensor::zeros([2, 1, 2 * width], &device), first: 0 };
        let mask = AttentionMask::FULL;
        let ours = kernels.attention_with_past(qkv(&device), past, heads, rotary.clone(), mask);
        ours.into_data().assert_approx_eq::<f32>(&full, Tolerance::rel_abs(2e-5, 2e-6));
    }
}

#[test]
fn gated_residual_equals_its_composition() {
    let dropout = Dropout { rate: 0.3, draws: Draws::new(1, Purpose::Dropout), step: 4, layer: 2 };
    for (length, modulations, width) in [(3, 1, 5), (3, 2, 5), (70, 1, 8), (70, 2, 5), (5, 2, 1100)] {
        for dropout in [None, Some(dropout)] {
            let shape = [2, length, width];
            compare([&shape, &shape, &[modulations, width]], |kernels, [x, h, gate]| {
                let gate = gate.reshape([modulations, width]);
                kernels.gated_residual(x.reshape(shape), h.reshape(shape), gate, dropout)
            });
        }
    }
}

#[test]
fn attention_of_one_query_equals_its_composition() {
    for (batch, heads, keys, width) in [(1, 1, 1, 2), (3, 2, 7, 6), (2, 3, 70, 64)] {
        let (one, all) = ([batch, heads, 1, width], [batch, heads, keys, width]);
        compare([&one, &all, &all], |kernels, [q, k, v]| {
            kernels.attention_of_one(q.reshape(one), k.reshape(all), v.reshape(all))
        });
        // The CPU's own has no gradients.
        let device = Device::flex();
        let [q, k, v] = [(one, 1), (all, 2), (all, 3)].map(|(shape, id)| random(shape, id, &device));
        let [ours, plain] = [Kernels::FUSED, Kernels::PLAIN]
            .map(|kernels| kernels.attention_of_one(q.clone(), k.clone(), v.clone()).into_data());
        ours.assert_approx_eq::<f32>(&plain, Tolerance::rel_abs(2e-4, 2e-5));
    }
}

#[test]
fn dropout_alone_equals_its_composition() {
    let dropout = Dropout { rate: 0.3, draws: Draws::new(1, Purpose::Dropout), step: 4, layer: 2 };
    for len in [1, 7, 4096, 4099] {
        compare([&[len]], |kernels, [x]| kernels.dropout(x, dropout));
    }
}

/// The sum alone, its norm alone, and both.
fn picked([sum, normed]: [Tensor<3>; 2], which: usize) -> Tensor<3> {
    match which {
        0 => sum,
        1 => normed,
        _ => Tensor::cat(vec![sum, normed], 0),
    }
}

#[test]
fn a_residual_and_its_norm_equal_their_composition() {
    let dropout = Dropout { rate: 0.3, draws: Draws::new(1, Purpose::Dropout), step: 4, layer: 2 };
    for (length, modulations, width, which) in
        [(3, 1, 5, 2), (3, 2, 8, 1), (70, 1, 8, 2), (70, 2, 5, 2), (5, 2, 1100, 1), (2, 1, 3000, 2)]
    {
        for dropout in [None, Some(dropout)] {
            let (shape, modulation) = ([2, length, width], [modulations, width]);
            let added = |h: Tensor<1>, gate: Tensor<1>| Addition {
                h: h.reshape(shape),
                gate: gate.reshape(modulation),
                dropout,
            };
            let shapes: [&[usize]; 6] = [&shape, &shape, &modulation, &[width], &modulation, &modulation];
            compare(shapes, |kernels, [x, h, gate, weight, shift, scale]| {
                let (shift, scale) = (shift.reshape(modulation), scale.reshape(modulation));
                let both = kernels.residual_norm(x.reshape(shape), added(h, gate), weight, shift, scale);
                picked(both, which)
            });
            compare([&shape, &shape, &modulation, &[width]], |kernels, [x, h, gate, weight]| {
                picked(kernels.residual_rms_norm(x.reshape(shape), added(h, gate), weight), which)
            });
        }
    }
}

#[test]
fn of_a_residual_without_its_norm_there_are_gradients_too() {
    let shape = [2, 5, 6];
    compare([&shape, &shape, &[1, 6]], |kernels, [x, h, gate]| {
        let added = Addition { h: h.reshape(shape), gate: gate.reshape([1, 6]), dropout: None };
        let weight = Tensor::ones([6], &x.device());
        picked(kernels.residual_rms_norm(x.reshape(shape), added, weight), 0)
    });
}

#[test]
fn head_loss_equals_its_composition() {
    for (vocab_size, subtoken_len) in [(37, 1), (37, 2), (200, 3), (256, 8), (1300, 2)] {
        for carry_over in [true, false] {
            for objective in [Objective::Joint, Objective::Marginal] {
                let codes = SubTokenizer::new(vocab_size, subtoken_len).unwrap();
                let mask = codes.mask_id();
                let (n, width) = (21, 9);
                let draws = Draws::new(3, Purpose::Mask);
                let x_0: Vec<u32> = (0..n).map(|i| draws.below(vocab_size as u64, 0, i, 0) as u32).collect();
                let mut y_t = codes.encode(&x_0).unwrap();
                for (i, y) in y_t.iter_mut().enumerate() {
                    if draws.uniform(1, i as u32, 0) < 0.5 {
                        *y = mask;
                    }
                }
                let weights = (0..n).map(|i| draws.uniform(2, i, 0) as f32).collect();
                let predictive = Arc::new(Predictive::new(codes, carry_over));
                let rows = Arc::new(LossRows::new(predictive, objective, x_0, y_t, weights));
                let n = n as usize;
                compare(
                    [&[n, width], &[vocab_size, width], &[vocab_size]],
                    |kernels, [hidden, weight, bias]| {
                        let hidden = hidden.reshape([n, width]);
                        kernels.head_loss(hidden, weight.reshape([vocab_size, width]), bias, rows.clone())
                    },
                );
                let matrices = |hidden: Tensor<1>, weight: Tensor<1>| {
                    (hidden.reshape([n, width]), weight.reshape([vocab_size, width]))
                };
                let (of_hidden, of_weight, of_bias) = ([n, width], [vocab_size, width], [vocab_size]);
                let shapes = [of_hidden.as_slice(), &of_weight, &of_bias];
                let composition = |[hidden, weight, bias]: [Tensor<1>; 3]| {
                    let (hidden, weight) = matrices(hidden, weight);
                    rows.loss(plain::linear(hidden, weight, Some(bias)))
                };
                let (precision, chunk) = (Precision::Fp32, 5 * vocab_size.next_multiple_of(8));
                compare_both(
                    shapes,
                    |[hidden, weight, bias]| {
                        let (hidden, weight) = matrices(hidden, weight);
                        gpu::head_loss_in_chunks(hidden, weight, bias, &*rows, precision, chunk)
                    },
                    composition,
                );
                #[cfg(feature = "cuda")]
                if let Some((device, _)) = on_cuda(precision) {
                    compare_on(
                        &device,
                        shapes,
                        |[hidden, weight, bias]| {
                            let (hidden, weight) = matrices(hidden, weight);
                            cuda::head_loss_in_chunks(hidden, weight, bias, rows.clone(), precision, chunk)
                        },
                        composition,
                    );
                }
            }
        }
    }
}

#[test]
fn a_bfloat16_loss_is_within_its_rounding_of_the_composition() {
    let (n, width, vocab_size) = (40, 24, 300);
    let draws = Draws::new(3, Purpose::Mask);
    for objective in [Objective::Joint, Objective::Marginal] {
        let codes = SubTokenizer::new(vocab_size, 2).unwrap();
        let x_0: Vec<u32> = (0..n).map(|i| draws.below(vocab_size as u64, 0, i as u32, 0) as u32).collect();
        let y_t = vec![codes.mask_id(); 2 * n];
        let predictive = Arc::new(Predictive::new(codes, true));
        let rows = Arc::new(LossRows::new(predictive, objective, x_0, y_t, vec![0.1; n]));
        is_rounded(|kernels, device| {
            let device = device.clone().autodiff();
            let hidden = random([n, width], 1, &device).require_grad();
            let weight = (random([vocab_size, width], 2, &device) * 0.3).detach().require_grad();
            let bias = random([vocab_size], 3, &device).require_grad();
            let loss = kernels.head_loss(hidden.clone(), weight.clone(), bias.clone(), rows.clone());
            // The gradient of the loss by itself need not be 1.
            let gradients = (loss.clone() * 3.0).backward();
            let [hidden, weight] =
                [hidden, weight].map(|tensor| tensor.grad(&gradients).unwrap().into_data());
            vec![hidden, weight, bias.grad(&gradients).unwrap().into_data(), loss.into_data()]
        });
    }
}

#[test]
fn a_row_of_a_product_does_not_depend_on_the_other_rows_or_on_the_threads() {
    let device = Device::flex();
    let sizes = [(16, 16), (3, 5), (48, 37), (256, 768), (1024, 256), (700, 65), (768, 27), (2100, 300)];
    let singles = sizes.map(|size| (Kernels::FUSED, size));
    for (kernels, (inner, outer)) in
        singles.into_iter().chain([(Kernels::FUSED.with_precision(Precision::Bf16).unwrap(), (300, 270))])
    {
        let (x, w) = (random([1100, inner], 1, &device), random([outer, inner], 2, &device));
        let by_columns = w.clone().transpose().mul_scalar(1.0).transpose();
        let mut weights: Vec<Factor> = vec![w.clone().into(), by_columns.into()];
        if kernels.engine() == Engine::Fused {
            weights.push(packed(&w, kernels.precision()));
        }
        let b = random([outer], 3, &device);
        let all = kernels.linear(x.clone(), w.clone(), Some(b.clone()));
        for threads in [1, 2, 3, 7] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            for (start, count) in
                [(0, 301), (0, 1), (3, 2), (7, 5), (40, 8), (2, 16), (100, 63), (30, 64), (31, 65), (9, 1030)]
            {
                let expected = all.clone().narrow(0, start, count).into_data();
                for w in &weights {
                    let part = x.clone().narrow(0, start, count);
                    let part = pool.install(|| kernels.linear(part, w.clone(), Some(b.clone())));
                    part.into_data().assert_eq(&expected, true);
                }
            }
        }
    }
}

/// A weight as inference keeps it.
fn packed(weight: &Tensor<2>, precision: Precision) -> Factor {
    let ([outer, inner], device) = (weight.dims(), weight.device());
    let values = weight.to_data().try_into_vec::<f32>().unwrap();
    Factor::Packed(Packed::new(&values, outer, inner, precision, &device))
}

#[test]
fn layers_of_packed_weights_are_those_of_the_weights() {
    let device = Device::flex();
    let sizes = [(0, 4, 5), (1, 1, 1), (1, 7, 3), (13, 300, 33), (40, 513, 70)];
    let precisions = [Precision::Fp32, Precision::Bf16];
    for (precision, (n, inner, outer)) in
        precisions.into_iter().flat_map(|precision| sizes.map(|size| (precision, size)))
    {
        let kernels = Kernels::FUSED.with_precision(precision).unwrap();
        let [x, w] = [[n, inner], [outer, inner]].map(|shape| random(shape, shape[1] as u64, &device));
        let b = random([outer], 3, &device);
        let packed = packed(&w, precision);
        let pairs = [
            (kernels.linear(x.clone(), packed.clone(), None), kernels.linear(x.clone(), w.clone(), None)),
            (
                kernels.linear(x.clone(), packed.clone(), Some(b.clone())),
                kernels.linear(x.clone(), w.clone(), Some(b.clone())),
            ),
            (kernels.linear_gelu(x.clone(), packed, b.clone()), kernels.linear_gelu(x, w, b)),
        ];
        for (ours, expected) in pairs {
            assert_eq!(ours.dims(), [n, outer]);
            ours.into_data().assert_eq(&expected.into_data(), true);
        }
    }
}

/// No row: results are empty, and weights get gradients of zero.
#[test]
fn fused_kernels_take_empty_batches() {
    let device = Device::flex().autodiff();
    let (width, outer) = (6, 10);
    let leaf = |len: usize| random([len], 1, &device).require_grad();
    let check = |name: &str, out: Tensor<1>, weights: &[Tensor<1>]| {
        // A loss needs an element; the sum of none is zero.
        let loss = out.sum();
        assert_eq!(loss.clone().into_scalar::<f32>(), 0.0, "{name}");
        let gradients = loss.backward();
        for weight in weights {
            let gradient = weight.grad(&gradients).expect(name).into_data();
            assert!(gradient.iter::<f32>().all(|x| x == 0.0), "{name}");
        }
    };
    let none = |width: usize| Tensor::<2>::zeros([0, width], &device);
    for kernels in [Kernels::FUSED, Kernels::FUSED.with_precision(Precision::Bf16).unwrap(), Kernels::GPU] {
        let (w, b) = (leaf(outer * width), leaf(outer));
        let weight = || w.clone().reshape([outer, width]);
        let linear = kernels.linear(none(width), weight(), Some(b.clone()));
        check("linear", linear.reshape([0]), &[w.clone(), b.clone()]);
        let gelu = kernels.linear_gelu(none(width), weight(), b.clone());
        check("linear_gelu", gelu.reshape([0]), &[w.clone(), b.clone()]);
        let predictive = Arc::new(Predictive::new(SubTokenizer::new(outer, 2).unwrap(), true));
        let rows = Arc::new(LossRows::new(predictive, Objective::Joint, vec![], vec![], vec![]));
        check(
            "head_loss",
            kernels.head_loss(none(width), weight(), b.clone(), rows),
            &[w.clone(), b.clone()],
        );
    }
    let kernels = Kernels::FUSED;
    let (table, rows) =
        (leaf(outer * width), TableRows { indices: vec![], per_token: 2, hidden: 12, summed: false });
    let vectors = kernels.embedding(table.clone().reshape([outer, width]), rows);
    check("embedding", vectors.reshape([0]), &[table]);
    let (weight, shift, scale) = (leaf(width), leaf(width), leaf(width));
    let x = none(width).reshape([0, 3, width]);
    let row = |x: &Tensor<1>| x.clone().reshape([1, width]);
    let normed = kernels.modulated_norm(x.clone(), weight.clone(), row(&shift), row(&scale));
    check("modulated_norm", normed.reshape([0]), &[weight.clone(), shift, scale]);
    let gated = kernels.gated_residual(x.clone(), x, row(&weight), None);
    check("gated_residual", gated.reshape([0]), std::slice::from_ref(&weight));
    let normed = kernels.rms_norm(none(width), weight.clone());
    check("rms_norm", normed.reshape([0]), &[weight]);
    let qkv = none(3 * width).reshape([0, 4, 3 * width]).require_grad();
    let mixed = kernels.attention(qkv, 1, Arc::new(Rotary::new(4, width)), AttentionMask::FULL);
    assert_eq!(mixed.dims(), [0, 4, width]);
}

#[test]
fn dropout_keeps_the_mean_and_repeats_itself() {
    let dropout = Dropout { rate: 0.25, draws: Draws::new(1, Purpose::Dropout), step: 4, layer: 2 };
    let factors = dropout.factors(40_001);
    assert_eq!(factors, dropout.factors(40_001));
    assert_ne!(factors, Dropout { step: 5, ..dropout }.factors(40_001));
    assert!((factors.iter().sum::<f32>() / 40_001.0 - 1.0).abs() < 0.02);
}
