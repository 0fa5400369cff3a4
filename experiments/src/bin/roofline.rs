//! What an evaluation in sampling with the vocabulary of GPT-2 is limited by: floating-point operations in registers
//! alone, the matrix products of the layers alone, and the whole evaluation, in the precisions that this processor has.
//!
//! `cargo run --release -p submask-experiments --bin roofline` prints a table. The network is that of
//! `dit_steps sample gpt2-small`: d 768, 12 blocks, L 256, C 50,257, ℓ 4, one sequence. Operations are counted, two for
//! a multiplication and an addition; times are medians.

#[path = "../../../crates/submask-cli/src/allocator.rs"]
mod allocator;

use std::error::Error;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use burn::tensor::{Device, Tensor};
use pulp::{Arch, Simd, WithSimd};
use submask::backbone::dit::{Dit, DitConfig};
use submask::backbone::weights::Weights;
use submask::backbone::{Backbone, Embedding, Handle, LoadedBackbone};
use submask::denoiser::{Denoiser, States};
use submask::ops::{Kernels, Precision};
use submask::subtoken::SubTokenizer;

const HIDDEN: usize = 768;
const BLOCKS: usize = 12;
const LENGTH: usize = 256;

/// Linear layers of a block: name, width out, width in.
const LAYERS: [(&str, usize, usize); 4] = [
    ("attn_qkv", 3 * HIDDEN, HIDDEN),
    ("attn_out", HIDDEN, HIDDEN),
    ("mlp.0", 4 * HIDDEN, HIDDEN),
    ("mlp.2", HIDDEN, 4 * HIDDEN),
];

fn main() -> Result<(), Box<dyn Error>> {
    allocator::keep_memory();
    let threads = rayon::current_num_threads();
    let registers = registers();
    println!("registers alone, fp32, {threads} threads: {registers:.0} GFLOP/s\n");
    println!(
        "| precision | what | GFLOP | ms | GFLOP/s | of the registers' fp32 |\n|---|---|---|---|---|---|"
    );
    for precision in [Precision::Fp32, Precision::Bf16] {
        match Kernels::new(&Device::flex(), precision) {
            Ok(kernels) => measure(precision, kernels, registers)?,
            Err(error) => println!("{error}"),
        }
    }
    Ok(())
}

fn measure(precision: Precision, kernels: Kernels, registers: f64) -> Result<(), Box<dyn Error>> {
    let codes = SubTokenizer::new(50_257, 4)?;
    let config = DitConfig {
        block_len: 0,
        hidden: HIDDEN,
        heads: 12,
        blocks: BLOCKS,
        cond_dim: 128,
        seq_len: LENGTH,
        dropout: 0.0,
        embedding: Embedding::Concatenated,
        time_conditioning: false,
    };
    let network = Arc::new(Dit::new(config, &codes, kernels)?);
    let parameters = network.parameters();
    let values: Vec<Vec<f32>> = parameters.iter().map(|parameter| vec![0.01; parameter.len()]).collect();
    let weights = Weights::new(parameters, &values, &Device::flex());
    drop(values);
    let row = |what: &str, gflop: f64, ms: f64| {
        let rate = gflop / ms * 1e3;
        let share = 100.0 * rate / registers;
        println!("| {precision} | {what} | {gflop:.1} | {ms:.1} | {rate:.0} | {share:.0} % |");
    };

    let inputs = |width: usize| Tensor::<2>::full([LENGTH, width], 0.5, &Device::flex());
    let (narrow, wide) = (inputs(HIDDEN), inputs(4 * HIDDEN));
    let handle = |block: usize, name: &str| {
        Handle::find(parameters, &format!("blocks.{block}.{name}.weight")).ok_or("no such weight")
    };
    let mut layers = Vec::new();
    for block in 0..BLOCKS {
        for (name, _, inner) in LAYERS {
            layers.push((handle(block, name)?, if inner == HIDDEN { &narrow } else { &wide }));
        }
    }
    let products = median(|| {
        for (weight, x) in &layers {
            black_box(kernels.linear((*x).clone(), weights.factor(*weight), None));
        }
    });
    let gflop = |layers: &[(&str, usize, usize)]| {
        let multiplications: usize = layers.iter().map(|(_, outer, inner)| LENGTH * outer * inner).sum();
        2.0 * multiplications as f64 / 1e9
    };
    let linear = BLOCKS as f64 * gflop(&LAYERS);
    row("linear layers alone", linear, products);

    let y_t = vec![codes.mask_id(); 4 * LENGTH];
    let loaded = LoadedBackbone { network, weights };
    let evaluation = median(|| {
        loaded
            .evaluate(&States { y_t: &y_t, t: &[0.5], labels: None }, &[7, 77], &mut |_, _| Ok(()))
            .expect("it is evaluated")
    });
    let attention = (4 * BLOCKS * LENGTH * LENGTH * HIDDEN) as f64 / 1e9;
    // After the last attention only the two positions are computed.
    let computed = linear + attention - gflop(&LAYERS[1..]);
    row("an evaluation, logits at two positions", computed, evaluation);
    Ok(())
}

/// The median time of some calls in milliseconds, after one that is not counted.
fn median(mut work: impl FnMut()) -> f64 {
    work();
    let mut times: Vec<f64> = (0..15)
        .map(|_| {
            let start = Instant::now();
            work();
            start.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// GFLOP/s of multiplications and additions of numbers that stay in registers, on all threads.
fn registers() -> f64 {
    const REPEATS: usize = 20_000_000;
    let lanes = Arch::new().dispatch(Fused { repeats: 1 });
    let ms = median(|| {
        rayon::broadcast(|_| Arch::new().dispatch(Fused { repeats: black_box(REPEATS) }));
    });
    (2 * SUMS * lanes * REPEATS * rayon::current_num_threads()) as f64 / ms / 1e6
}

/// Independent sums: enough that none is waited for, few enough for 16 registers.
const SUMS: usize = 12;

struct Fused {
    repeats: usize,
}

impl WithSimd for Fused {
    /// Numbers in a vector.
    type Output = usize;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> usize {
        let (a, b) = (simd.splat_f32s(black_box(0.5)), simd.splat_f32s(black_box(0.25)));
        let mut sums = [simd.splat_f32s(black_box(1.0)); SUMS];
        for _ in 0..self.repeats {
            for sum in &mut sums {
                *sum = simd.mul_add_f32s(*sum, a, b);
            }
        }
        black_box(sums.map(|sum| simd.reduce_sum_f32s(sum)));
        S::F32_LANES
    }
}
