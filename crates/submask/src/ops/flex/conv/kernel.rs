//! The two products of a convolution, in registers: channels by pixels, and kernel elements by channels.

use std::cell::RefCell;

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::Sizes;
use super::slab::Slab;

/// Pixels that one task of the product with the kernel handles, about.
const PIXELS: usize = 256;

/// Rows of a tile of products held in registers, on machines with 32 of them.
const ROWS: usize = 8;

/// The same with fewer registers: two vectors of six rows leave room for the operands in 16.
const FEW_ROWS: usize = 6;

/// Vectors of a row of a tile.
const VECTORS: usize = 2;

thread_local! {
    static SLAB: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// Σ over (channel, kernel row, kernel column) of weight times the pixel there, plus bias: the convolution of all
/// images with `weight(out, inner)`, where inner runs over those triples in order.
///
/// Every element is one sum in that order, whatever the batch, the threads and the length of vectors.
pub fn convolve(
    sizes: Sizes,
    x: &[f32],
    weight: impl Fn(usize, usize) -> f32,
    bias: Option<&[f32]>,
) -> Vec<f32> {
    let mut out = vec![0.0; sizes.batch * sizes.outer * sizes.pixels()];
    if out.is_empty() {
        return out;
    }
    let height = tile_rows();
    let weight = pack(sizes, height, weight);
    let block = (PIXELS / sizes.width).clamp(1, sizes.height);
    blocks(&mut out, sizes, block).into_par_iter().for_each(|mut block| {
        let slab = Slab::new(sizes, block.planes[0].len() / sizes.width);
        let image = &x[block.image * sizes.inner * sizes.pixels()..];
        SLAB.with_borrow_mut(|scratch| {
            slab.fill(scratch, image, sizes.height, 0..sizes.inner, block.first);
            let offsets = slab.offsets(sizes.inner);
            let (offsets, weight) = (&offsets, &weight);
            Arch::new().dispatch(Convolve {
                slab,
                pixels: scratch,
                offsets,
                weight,
                bias,
                block: &mut block,
            });
        });
    });
    out
}

/// Rows of the result of one image, of every channel.
struct Block<'a> {
    image: usize,
    first: usize,
    planes: Vec<&'a mut [f32]>,
}

fn blocks(out: &mut [f32], sizes: Sizes, rows: usize) -> Vec<Block<'_>> {
    let mut all = Vec::new();
    for (image, out) in out.chunks_mut(sizes.outer * sizes.pixels()).enumerate() {
        let start = all.len();
        let firsts = (0..sizes.height).step_by(rows);
        all.extend(firsts.map(|first| Block { image, first, planes: Vec::with_capacity(sizes.outer) }));
        for plane in out.chunks_mut(sizes.pixels()) {
            for (block, rows) in all[start..].iter_mut().zip(plane.chunks_mut(rows * sizes.width)) {
                block.planes.push(rows);
            }
        }
    }
    all
}

/// Rows of tiles on this machine.
fn tile_rows() -> usize {
    struct Registers;
    impl WithSimd for Registers {
        type Output = usize;
        fn with_simd<S: Simd>(self, _: S) -> usize {
            S::REGISTER_COUNT
        }
    }
    if Arch::new().dispatch(Registers) >= 32 { ROWS } else { FEW_ROWS }
}

/// Elements of a vector on this machine.
fn vector_lanes() -> usize {
    struct Lanes;
    impl WithSimd for Lanes {
        type Output = usize;
        fn with_simd<S: Simd>(self, _: S) -> usize {
            S::F32_LANES
        }
    }
    Arch::new().dispatch(Lanes)
}

/// [out/`rows`][inner][`rows`], zero beyond the last channel.
fn pack(sizes: Sizes, rows: usize, weight: impl Fn(usize, usize) -> f32) -> Vec<f32> {
    let inner = sizes.inner * sizes.taps();
    let mut packed = Vec::with_capacity(sizes.outer.next_multiple_of(rows) * inner);
    for start in (0..sizes.outer).step_by(rows) {
        for i in 0..inner {
            let element = |out| if out < sizes.outer { weight(out, i) } else { 0.0 };
            packed.extend((start..start + rows).map(element));
        }
    }
    packed
}

/// One block of the result.
struct Convolve<'a, 'b> {
    slab: Slab,
    pixels: &'a [f32],
    /// Where the pixel under each tap and channel stands, \[inner\].
    offsets: &'a [usize],
    /// As [`pack`] makes it.
    weight: &'a [f32],
    bias: Option<&'a [f32]>,
    block: &'a mut Block<'b>,
}

impl WithSimd for Convolve<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        if S::REGISTER_COUNT >= 32 { self.run::<S, ROWS>(simd) } else { self.run::<S, FEW_ROWS>(simd) }
    }
}

impl Convolve<'_, '_> {
    #[inline(always)]
    fn run<S: Simd, const R: usize>(mut self, simd: S) {
        let pixels = self.slab.pixels();
        let tiles = self.weight.chunks_exact(R * self.offsets.len());
        for (tile, weight) in tiles.enumerate() {
            for place in (0..pixels).step_by(VECTORS * S::F32_LANES) {
                match pixels - place > S::F32_LANES {
                    true => self.tile::<S, R, VECTORS>(simd, tile, weight, place),
                    false => self.tile::<S, R, 1>(simd, tile, weight, place),
                }
            }
        }
    }

    /// R channels at N vectors of pixels from `place` on.
    #[inline(always)]
    fn tile<S: Simd, const R: usize, const N: usize>(
        &mut self,
        simd: S,
        tile: usize,
        weight: &[f32],
        place: usize,
    ) {
        let mut sums = [[simd.splat_f32s(0.0); N]; R];
        for (weight, &offset) in weight.chunks_exact(R).zip(self.offsets) {
            let pixels = &S::as_simd_f32s(&self.pixels[offset + place..][..N * S::F32_LANES]).0[..N];
            for r in 0..R {
                let weight = simd.splat_f32s(weight[r]);
                for n in 0..N {
                    sums[r][n] = simd.mul_add_f32s(weight, pixels[n], sums[r][n]);
                }
            }
        }
        let first = tile * R;
        for (r, out) in self.block.planes[first..].iter_mut().take(R).enumerate() {
            let bias = self.bias.map_or(0.0, |bias| bias[first + r]);
            let sums: &[f32] = pulp::bytemuck::cast_slice(&sums[r]);
            for (out, sum) in out[place..].iter_mut().zip(sums) {
                *out = sum + bias;
            }
        }
    }
}

/// dweight \[out, in, k, k\] = Σ over images and pixels of g times the pixel of x that the element sees. One task makes
/// the gradients of some channels of the input, from all images in order.
pub fn weight_gradient(sizes: Sizes, x: &[f32], g: &[f32]) -> Vec<f32> {
    let (taps, panel, rows) = (sizes.taps(), VECTORS * vector_lanes(), tile_rows());
    let panels = sizes.outer.div_ceil(panel);
    let g = pack_gradients(sizes, g, panel);
    // Channels of a task: their elements are whole tiles, and some tiles share what they read of g.
    let channels = if taps == 1 { 48 } else { 8 };
    let starts: Vec<usize> = (0..sizes.inner).step_by(channels).collect();
    let parts: Vec<Vec<f32>> = starts
        .par_iter()
        .map(|&start| {
            let range = start..(start + channels).min(sizes.inner);
            let slab = Slab::new(sizes, sizes.height);
            let offsets = slab.offsets(range.len());
            let mut sums = vec![0.0; panels * panel * offsets.len().next_multiple_of(rows)];
            SLAB.with_borrow_mut(|scratch| {
                for image in 0..sizes.batch {
                    let area = sizes.inner * sizes.pixels();
                    slab.fill(scratch, &x[image * area..][..area], sizes.height, range.clone(), 0);
                    let block = panels * sizes.pixels() * panel;
                    let g = &g[image * block..][..block];
                    let (offsets, sums) = (&offsets, &mut sums);
                    Arch::new().dispatch(AddProducts { slab, pixels: scratch, offsets, g, sums });
                }
            });
            sums
        })
        .collect();
    let mut out = vec![0.0; sizes.outer * sizes.inner * taps];
    out.par_chunks_mut(sizes.inner * taps).enumerate().for_each(|(channel, out)| {
        for (part, out) in parts.iter().zip(out.chunks_mut(channels * taps)) {
            let padded = part.len() / (panels * panel);
            let part = &part[channel / panel * panel * padded + channel % panel..];
            for (i, out) in out.iter_mut().enumerate() {
                *out = part[i * panel];
            }
        }
    });
    out
}

/// [B][out/`panel`][pixels][`panel`], zero beyond the last channel.
fn pack_gradients(sizes: Sizes, g: &[f32], panel: usize) -> Vec<f32> {
    let pixels = sizes.pixels();
    let panels = sizes.outer.div_ceil(panel);
    let mut packed = vec![0.0; sizes.batch * panels * pixels * panel];
    packed.par_chunks_mut(pixels * panel).enumerate().for_each(|(index, packed)| {
        let (image, first) = (index / panels, index % panels * panel);
        let count = panel.min(sizes.outer - first);
        let planes = &g[(image * sizes.outer + first) * pixels..][..count * pixels];
        for (channel, plane) in planes.chunks_exact(pixels).enumerate() {
            for (out, &value) in packed.chunks_exact_mut(panel).zip(plane) {
                out[channel] = value;
            }
        }
    });
    packed
}

/// Adds one image's products to those of some channels.
struct AddProducts<'a> {
    /// Of a whole image.
    slab: Slab,
    pixels: &'a [f32],
    /// Of the kernel's elements.
    offsets: &'a [usize],
    /// [out/panel][pixels][panel].
    g: &'a [f32],
    /// [out/panel][elements][panel].
    sums: &'a mut [f32],
}

impl WithSimd for AddProducts<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        if S::REGISTER_COUNT >= 32 { self.run::<S, ROWS>(simd) } else { self.run::<S, FEW_ROWS>(simd) }
    }
}

impl AddProducts<'_> {
    #[inline(always)]
    fn run<S: Simd, const R: usize>(self, simd: S) {
        let panel = VECTORS * S::F32_LANES;
        let pixels = self.slab.pixels();
        let padded = self.offsets.len().next_multiple_of(R);
        for (g, sums) in self.g.chunks_exact(pixels * panel).zip(self.sums.chunks_exact_mut(padded * panel)) {
            for (offsets, sums) in self.offsets.chunks(R).zip(sums.chunks_exact_mut(R * panel)) {
                // Elements beyond the last repeat the first and are not read.
                let offsets = std::array::from_fn(|r| *offsets.get(r).unwrap_or(&offsets[0]));
                let products = self.slab.products::<S, R>(simd, self.pixels, offsets, g);
                for (sums, products) in sums.chunks_exact_mut(panel).zip(&products) {
                    for (sum, product) in S::as_mut_simd_f32s(sums).0.iter_mut().zip(products) {
                        *sum = simd.add_f32s(*sum, *product);
                    }
                }
            }
        }
    }
}

impl Slab {
    /// Σ over pixels of the pixels `offsets` away, times g [pixels][panel].
    #[inline(always)]
    fn products<S: Simd, const R: usize>(
        &self,
        simd: S,
        pixels: &[f32],
        offsets: [usize; R],
        g: &[f32],
    ) -> [[S::f32s; VECTORS]; R] {
        let panel = VECTORS * S::F32_LANES;
        let mut sums = [[simd.splat_f32s(0.0); VECTORS]; R];
        let count = self.pixels();
        let x = offsets.map(|offset| &pixels[offset..][..count]);
        for pixel in 0..count {
            let g = S::as_simd_f32s(&g[pixel * panel..][..panel]).0;
            let g = [g[0], g[1]];
            for r in 0..R {
                let x = simd.splat_f32s(x[r][pixel]);
                for n in 0..VECTORS {
                    sums[r][n] = simd.mul_add_f32s(x, g[n], sums[r][n]);
                }
            }
        }
        sums
    }
}
